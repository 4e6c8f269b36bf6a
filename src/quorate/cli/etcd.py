"""The `etcd` command: settings from flags, environment or a file, then one member until a signal ends it.

Exit status: 0 after --help and --version, and when the member was removed from its cluster; 1 when a setting is refused
or the member cannot start or run on; 2 for words that are no flags; 143 and 130 after SIGTERM and SIGINT, as the signal
is raised again once the member has stopped (0 when we are process 1, which no signal ends).

Imports are late: --version and a refused setting need little more than the table of flags.
Source: etcd's server/etcdmain/{main,etcd,config}.go.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from quorate.cli.flags import definitions
from quorate.cli.goflag import FlagSet, HelpRequestedError, UsageError
from quorate.version import VERSION

if TYPE_CHECKING:
    from quorate.cli.settings import Values
    from quorate.runtime.log import ZapLog

ETCD_VERSION: Final = "3.6.14"
_MAIN: Final = "etcdmain/etcd.go"
_CONFIG: Final = "etcdmain/config.go"

LOADED: Final = (
    "loaded server configuration, other configuration command line flags and environment variables will be ignored if "
    "provided"
)


def main() -> NoReturn:
    """Run the command and leave the process with its status."""
    status = run(sys.argv)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    # The interpreter's own shutdown has nothing left to do here, and takes longer the larger the key space was.
    os._exit(status)


def run(words: Sequence[str]) -> int:
    """Do what the words (the command's name first) ask for and return the exit status."""
    _use_utf8()
    if len(words) > 1 and words[1] == "gateway":
        from quorate.cli.proxies import gateway

        return gateway.run(words[2:])
    if len(words) > 1 and words[1] == "grpc-proxy":
        from quorate.cli.proxies import grpc_proxy

        return grpc_proxy.run(words[2:])
    flags = FlagSet(definitions())
    try:
        flags.parse(words[1:])
    except HelpRequestedError:
        from quorate.cli.help import USAGE, flag_list

        print(USAGE, file=sys.stderr)
        print(flag_list())
        return 0
    except UsageError as error:
        from quorate.cli.help import USAGE

        print(f"{error}\n{USAGE}", file=sys.stderr)
        return 2
    if not flags.rest and flags.values.get("version"):
        print_version()
        return 0
    return _serve(words, flags)


def _use_utf8() -> None:
    # Started without a locale (as test frames and init systems do), text streams would be ASCII.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def print_version() -> None:
    """Print etcd's version that we are compatible with, then our own."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    print(f"etcd Version: {ETCD_VERSION}")
    print(f"Quorate Version: {VERSION}")
    print(f"Python Version: {python}")
    print(f"OS/Arch: {sys.platform}/{os.uname().machine}")


def _serve(words: Sequence[str], flags: FlagSet) -> int:
    from quorate.cli.configfile import BadUrlError, ConfigFileError
    from quorate.cli.environment import ShadowedVariableError
    from quorate.cli.settings import (
        NO_ADVERTISED,
        LevelPanicError,
        SettingError,
        build_log,
        check_spellings,
        effective_gates,
        resolve,
        warn_deprecated,
    )
    from quorate.runtime.duration import FlagValueError
    from quorate.runtime.log import ZapLog, install

    early = ZapLog()
    install(early)
    log: ZapLog | None = None
    problem: Exception | None = None
    settings = None
    try:
        if flags.rest:
            from quorate.runtime.duration import quote

            raise SettingError(f"{quote(flags.rest[0])} is not a valid flag")
        values = _values(flags, early)
        gates = effective_gates(values)
        check_spellings(values)
        log = build_log(values)
        install(log)
        try:
            settings = resolve(values, gates, log)
        finally:
            warn_deprecated(values, log)
    except (SettingError, ConfigFileError, FlagValueError) as error:
        problem = error
    except BadUrlError as error:
        print(error, file=sys.stderr)
        return 1
    except LevelPanicError as error:
        print(f"panic: {error}", file=sys.stderr)
        return 2
    except ShadowedVariableError as error:
        early.fatal("flags/flag.go", str(error), **{"environment-variable": error.variable})
        return 1
    log = log or early
    log.info(_MAIN, "Running: ", args=list(words))
    if settings is None:
        log.warn(_MAIN, "failed to verify flags", error=str(problem))
        if str(problem) == NO_ADVERTISED:
            log.warn(_MAIN, "advertise client URLs are not set", error=str(problem))
        return 1
    from quorate.runtime.process import serve

    return serve(settings, log)


def _values(flags: FlagSet, log: ZapLog) -> Values:
    """Return the settings of the file, or else of flags and environment."""
    from quorate.cli.configfile import read_config_file
    from quorate.cli.environment import apply_environment
    from quorate.cli.settings import Values

    path = flags.values.get("config-file") or os.environ.get("ETCD_CONFIG_FILE", "")
    if path:
        assert isinstance(path, str), path
        given, keys = read_config_file(path)
        values = Values(given, keys | set(given), from_file=True)
        log.info(_CONFIG, LOADED, path=path)
        return values
    version = os.environ.pop("ETCD_VERSION", "")
    if version:
        log.warn(_CONFIG, "cannot set special environment variable", key="ETCD_VERSION", value=version)
    problem = apply_environment(flags, os.environ, log)
    if problem is not None:
        raise problem
    return Values(flags.values, set(flags.values), from_file=False)


if __name__ == "__main__":
    main()
