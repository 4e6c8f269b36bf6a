"""From the words of a command line to a run, and the exit status: 0; 1 for what cannot be run, words included."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module

from quorate.cli.benchmark.commands import ROOT
from quorate.cli.benchmark.context import DIAL_TIMEOUT_S, Context, RefusedError, ShowUsageError
from quorate.cli.benchmark.pool import DialError, Pool, text_of
from quorate.cli.etcdctl.gotext import quote
from quorate.cli.etcdctl.main import choose, flags_of, word_index
from quorate.cli.etcdctl.pflag import FlagError, FlagSet
from quorate.cli.etcdutl.commands import Command
from quorate.cli.etcdutl.usage import usage
from quorate.client.target import TlsOptions
from quorate.errors import RpcError


def main() -> int:
    """Run what the command line says."""
    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    rest = list(words)
    at = word_index(rest, [ROOT])
    if at is None:
        return _help([ROOT], rest)
    name = rest.pop(at)
    command = choose(ROOT, name)
    if not isinstance(command, Command):
        text = f"Error: unknown command {quote(name)} for {quote(ROOT.name)}\nRun 'benchmark --help' for usage.\n"
        sys.stderr.write(text)
        return 1
    if command.name == "help":
        found = choose(ROOT, rest[0]) if rest else ROOT
        return _help([ROOT, found] if isinstance(found, Command) and found is not ROOT else [ROOT], [])
    path = [ROOT, command]
    flags = FlagSet(flags_of(path))
    try:
        flags.parse(rest)
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n{_usage(path)}\n")
        return 1
    if flags.value("help"):
        return _help(path, [])
    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_connected(command, flags))
    except ShowUsageError:
        sys.stderr.write(_usage(path))
        return 1
    except RefusedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except RpcError as error:
        sys.stderr.write(f"Error: {text_of(error)}\n")
        return 1
    except (DialError, ValueError, OSError) as error:
        sys.stderr.write(f"dial error: {error}\n")
        return 1
    return 0


def _help(path: Sequence[Command], words: Sequence[str]) -> int:
    try:
        FlagSet(flags_of(path)).parse(words)
    except FlagError as error:
        sys.stderr.write(f"Error: {error}\n{_usage(path)}\n")
        return 1
    sys.stdout.write(f"{path[-1].short}\n\n{_usage(path)}")
    return 0


def _usage(path: Sequence[Command]) -> str:
    return usage(path, flags_of(path))


def tls_options(flags: FlagSet) -> TlsOptions | None:
    """Return the TLS options that were given, if any. Raises RefusedError."""
    ca, cert, key = (str(flags.value(name)) for name in ("cacert", "cert", "key"))
    skip = flags.value("insecure-skip-tls-verify") is True
    if bool(cert) != bool(key):
        raise RefusedError(f"bad tls config: KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    return TlsOptions(ca, cert, key, skip) if ca or cert or skip else None


async def _connected(command: Command, flags: FlagSet) -> None:
    endpoints = flags.value("endpoints")
    timeout = flags.value("dial-timeout")
    conns = flags.value("conns")
    assert isinstance(endpoints, list)
    assert isinstance(timeout, int)
    assert isinstance(conns, int)
    if not endpoints or not conns or not flags.value("clients"):
        raise RefusedError("--endpoints, --conns and --clients must not be empty or 0")
    pool = Pool(endpoints, tls_options(flags), timeout / 1e9 or DIAL_TIMEOUT_S)
    context = Context(command.name, flags, pool)
    try:
        if flags.value("target-leader"):
            await pool.find_leader()
        await pool.open(conns)
        if user := str(flags.value("user")):
            from quorate.cli.etcdctl.settings import credentials

            await pool.log_in(*credentials(user, "", "Password: "))
        following = _follow_members(pool, flags)
        await _handler(command)(context)
        if following is not None:
            following.cancel()
    finally:
        await pool.close()


def _handler(command: Command) -> Callable[[Context], Awaitable[None]]:
    module, _, function = command.run.partition(":")
    found: Callable[[Context], Awaitable[None]] = getattr(import_module(f"quorate.cli.benchmark.{module}"), function)
    return found


def _follow_members(pool: Pool, flags: FlagSet) -> asyncio.Task[None] | None:
    interval = flags.value("auto-sync-interval")
    assert isinstance(interval, int)
    if not interval:
        return None
    return asyncio.get_running_loop().create_task(pool.follow_members(interval / 1e9))


if __name__ == "__main__":
    sys.exit(main())
