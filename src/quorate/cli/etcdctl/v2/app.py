"""From words to a v2 command, by the rules of the library that the old tool uses (urfave/cli 1.22).

Flags have one dash or two and stand before the command, the command's own behind it. Exit status: 0; 1 bad usage or a
server's refusal; 2 nobody answers; 3 unknown command; 4 no answer for `cluster-health`; 5 the cluster is not healthy.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from quorate.cli.etcdctl.commands import VERSION
from quorate.runtime.duration import FlagValueError, parse_duration

SERVER_ERROR, UNKNOWN_COMMAND = 4, 3
STORE = "the v2 store is not served"
Values = dict[str, str]


@dataclass(frozen=True)
class Flag:
    """A flag: its names, what help says of it, its default, and whether it takes no value or a duration."""

    names: tuple[str, ...]
    usage: str
    shown: str = "value"
    default: str = ""
    boolean: bool = False
    duration: bool = False


@dataclass(frozen=True)
class Command:
    """A command, or a group of them. `instead` is what v3 has for a command on the v2 store."""

    name: str
    usage: str
    args_usage: str = ""
    flags: tuple[Flag, ...] = ()
    run: str = ""
    instead: str = ""
    commands: tuple[Command, ...] = field(default=())


class BadUsage(Exception):  # noqa: N818
    """Words that are no flags; the text is Go's."""


FLAGS = (
    Flag(("debug",), "output cURL commands which can be used to reproduce the request", boolean=True),
    Flag(("no-sync",), "don't synchronize cluster information before sending request", boolean=True),
    Flag(("output", "o"), "output response in the given format (simple, `extended` or `json`)", "simple", "simple"),
    Flag(("discovery-srv", "D"), "domain name to query for SRV records describing cluster endpoints"),
    Flag(("insecure-discovery",), "accept insecure SRV records describing cluster endpoints", boolean=True),
    Flag(("peers", "C"), 'DEPRECATED - "--endpoints" should be used instead'),
    Flag(("endpoint",), 'DEPRECATED - "--endpoints" should be used instead'),
    Flag(
        ("endpoints",),
        'a comma-delimited list of machine addresses in the cluster (default: "http://127.0.0.1:2379,'
        'http://127.0.0.1:4001")',
    ),
    Flag(("cert-file",), "identify HTTPS client using this SSL certificate file"),
    Flag(("key-file",), "identify HTTPS client using this SSL key file"),
    Flag(("ca-file",), "verify certificates of HTTPS-enabled servers using this CA bundle"),
    Flag(("username", "u"), "provide username[:password] and prompt if password is not supplied."),
    Flag(("timeout",), "connection timeout per request", default="2s", duration=True),
    Flag(("total-timeout",), "timeout for the command execution (except watch)", default="5s", duration=True),
)
HELP = Flag(("help", "h"), "show help", boolean=True)
VERSION_FLAG = Flag(("version", "v"), "print the version", boolean=True)
COMMANDS = (
    Command("backup", "--data-dir=... --backup-dir={output}", instead="etcdutl backup"),
    Command(
        "cluster-health",
        "check the health of the etcd cluster",
        " ",
        (Flag(("forever", "f"), "forever check the health every 10 second until CTRL+C", boolean=True),),
        "cluster_health",
    ),
    Command("mk", "make a new key with a given value", instead="etcdctl put"),
    Command("mkdir", "make a new directory"),
    Command("rm", "remove a key or a directory", instead="etcdctl del"),
    Command("rmdir", "removes the key if it is an empty directory or a key-value pair", instead="etcdctl del"),
    Command("get", "retrieve the value of a key", instead="etcdctl get --print-value-only"),
    Command("ls", "retrieve a directory", instead="etcdctl get --prefix --keys-only"),
    Command("set", "set the value of a key", instead="etcdctl put"),
    Command("setdir", "create a new directory or update an existing directory TTL"),
    Command("update", "update an existing key with a given value", instead="etcdctl put"),
    Command("updatedir", "update an existing directory"),
    Command("watch", "watch a key for changes", instead="etcdctl watch"),
    Command("exec-watch", "watch a key for changes and exec an executable", instead="etcdctl watch"),
    Command(
        "member",
        "member add, remove and list subcommands",
        commands=(
            Command("list", "enumerate existing cluster members", " ", (), "member_list"),
            Command("add", "add a new member to the etcd cluster", "<name> <peerURL>", (), "member_add"),
            Command("remove", "remove an existing member from the etcd cluster", "<memberID>", (), "member_remove"),
            Command(
                "update",
                "update an existing member in the etcd cluster",
                "<memberID> <peerURLs>",
                (),
                "member_update",
            ),
        ),
    ),
    Command("user", "user add, grant and revoke subcommands", instead="etcdctl user"),
    Command("role", "role add, grant and revoke subcommands", instead="etcdctl role"),
    Command("auth", "overall auth controls", instead="etcdctl auth"),
)
HELP_COMMAND = ("help, h", "Shows a list of commands or help for one command")


def run(words: Sequence[str]) -> int:
    """Do what the words ask for; return the exit status."""
    try:
        values, rest = parse((*FLAGS, HELP, VERSION_FLAG), words)
    except BadUsage as error:
        sys.stdout.write(f"Incorrect Usage. {error}\n\n{app_help()}")
        return failed(str(error))
    if "version" in values:
        sys.stdout.write(f"etcdctl version: {VERSION}\nAPI version: 2\n")
        return 0
    if "help" in values or not rest or rest[0] in ("help", "h"):
        return _help(rest[1:])
    command = _choose(COMMANDS, rest[0])
    if command is None:
        return _unknown(rest[0])
    if command.commands:
        return _group(command, values, rest[1:])
    return _leaf(command, f"etcdctl {command.name}", values, rest[1:])


def parse(flags: Sequence[Flag], words: Sequence[str]) -> tuple[Values, list[str]]:
    """Return the values of flags by their first name, and what follows them. Raises BadUsage."""
    known = {name: flag for flag in flags for name in flag.names}
    values: Values = {}
    rest = list(words)
    while rest and len(rest[0]) > 1 and rest[0][0] == "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, text = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] in "-=":
            raise BadUsage(f"bad flag syntax: {word}")
        flag = known.get(name)
        if flag is None:
            raise BadUsage(f"flag provided but not defined: -{name}")
        if flag.boolean:
            if text in ("false", "f", "F", "0", "FALSE", "False"):
                values.pop(flag.names[0], None)
                continue
            text = "true"
        elif not equals:
            if not rest:
                raise BadUsage(f"flag needs an argument: -{name}")
            text = rest.pop(0)
        if flag.duration:
            try:
                parse_duration(text)
            except FlagValueError:
                raise BadUsage(f'invalid value "{text}" for flag -{name}: parse error') from None
        values[flag.names[0]] = text
    return values, rest


def failed(text: str, status: int = 1) -> int:
    """Say why; return the status."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    return status


def _choose(commands: Sequence[Command], word: str) -> Command | None:
    return next((each for each in commands if each.name == word), None)


def _unknown(word: str) -> int:
    return failed(f"No help topic for '{word}'", UNKNOWN_COMMAND)


def _help(words: Sequence[str]) -> int:
    if not words:
        sys.stdout.write(app_help())
        return 0
    command = _choose(COMMANDS, words[0])
    if command is None:
        return _unknown(words[0])
    sys.stdout.write(group_help(command) if command.commands else leaf_help(command, f"etcdctl {command.name}"))
    return 0


def _group(group: Command, values: Values, words: Sequence[str]) -> int:
    try:
        given, rest = parse((HELP,), words)
    except BadUsage as error:
        sys.stdout.write(f"Incorrect Usage. {error}\n\n{group_help(group)}")
        return failed(str(error))
    if given or not rest:
        sys.stdout.write(group_help(group))
        return 0
    command = _choose(group.commands, rest[0])
    if command is None:
        return _unknown(rest[0])
    return _leaf(command, f"etcdctl {group.name} {command.name}", values, rest[1:])


def _leaf(command: Command, path: str, values: Values, words: Sequence[str]) -> int:
    if not command.run:
        return _not_served(command, words)
    # Flags may stand behind arguments here, until "--".
    end = words.index("--") if "--" in words else len(words)
    flags = [word for word in words[:end] if word[:1] == "-" and len(word) > 1]
    args = [word for word in words[:end] if word not in flags] + list(words[end + 1 :])
    try:
        own, _ = parse((*command.flags, HELP), flags)
    except BadUsage as error:
        sys.stdout.write(f"Incorrect Usage: {error}\n\n{leaf_help(command, path)}")
        return failed(str(error))
    if "help" in own:
        sys.stdout.write(leaf_help(command, path))
        return 0
    from quorate.cli.etcdctl.v2 import members

    handler: Callable[[Values, list[str]], int] = getattr(members, command.run)
    return handler({**values, **own}, args)


def _not_served(command: Command, words: Sequence[str]) -> int:
    args = "".join([" " + shlex.quote(word) for word in words])
    if not command.instead:
        hint = "v3 has no directories, a key may hold slashes"
    elif command.instead.startswith("etcdutl"):
        hint = command.instead + args
    else:
        hint = f"ETCDCTL_API=3 {command.instead}{args}"
    return failed(f"Error:  {STORE}; use instead: {hint}", SERVER_ERROR)


def variable(values: Values, name: str, *others: str) -> str:
    """Return the value of a flag, or of its variable, or of other flags and their variables."""
    for each in (name, *others):
        if text := values.get(each) or os.environ.get("ETCDCTL_" + each.upper().replace("-", "_"), ""):
            return text
    return ""


# Help


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(first) for first, _ in rows) + 2
    return "".join([f"   {first:<{width}}{second}\n" for first, second in rows])


def _flag_rows(flags: Sequence[Flag]) -> list[tuple[str, str]]:
    rows = []
    for flag in flags:
        shown = "" if flag.boolean else f" {flag.shown}"
        names = ", ".join([f"{'--' if len(name) > 1 else '-'}{name}{shown}" for name in flag.names])
        default = f" (default: {flag.default if flag.duration else chr(34) + flag.default + chr(34)})"
        rows.append((names, flag.usage + (default if flag.default else "")))
    return rows


def app_help() -> str:
    """Return the help of the whole."""
    commands = [(each.name, each.usage) for each in COMMANDS]
    return (
        "NAME:\n   etcdctl - A simple command line client for etcd.\n\n"
        "USAGE:\n   etcdctl [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {VERSION}\n\nCOMMANDS:\n{_columns([*commands, HELP_COMMAND])}\n"
        f"GLOBAL OPTIONS:\n{_columns(_flag_rows((*FLAGS, HELP, VERSION_FLAG)))}"
    )


def group_help(group: Command) -> str:
    """Return the help of a group."""
    return (
        f"NAME:\n   etcdctl {group.name} - {group.usage}\n\n"
        f"USAGE:\n   etcdctl {group.name} command [command options] [arguments...]\n\n"
        f"COMMANDS:\n{_columns([(each.name, each.usage) for each in group.commands])}\n"
        f"OPTIONS:\n{_columns(_flag_rows((HELP,)))}   \n"
    )


def leaf_help(command: Command, path: str) -> str:
    """Return the help of a command."""
    options = f"\nOPTIONS:\n{_columns(_flag_rows(command.flags))}   \n" if command.flags else ""
    shown = " [command options]" if command.flags else ""
    return f"NAME:\n   {path} - {command.usage}\n\nUSAGE:\n   {path}{shown} {command.args_usage}\n{options}"
