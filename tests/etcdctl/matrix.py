"""Every command and flag of the real etcdctl, and the runs that compare ours with it.

`RUNS` gives each command its runs: words after the command, with the flags they use. `ELSEWHERE` names the test of a
flag or command that takes more than one run; `HOLES` says why there is none. test_matrix runs the first, looks that
the second are there, and fails for anything in the real tool's help that is in neither.
`python -m tests.etcdctl.matrix` prints the table.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle import real_binary

NEW_IN_3_6 = {
    "completion": "3.5.1 has none; tests/etcdctl/test_people.py completes with bash",
    "downgrade cancel": "3.5.1 has none; words of 3.6's source, tests/etcdctl/test_words.py",
    "downgrade enable": "3.5.1 has none; words of 3.6's source, tests/etcdctl/test_words.py",
    "downgrade validate": "3.5.1 has none; words of 3.6's source, tests/etcdctl/test_words.py",
}


@dataclass(frozen=True)
class Run:
    """One comparison: words after the command, stdin, environment; `own` brings our server's output to 3.5.1's."""

    words: str
    stdin: str = ""
    env: tuple[tuple[str, str], ...] = ()
    sort: bool = False
    only_code: bool = False


def runs(*words: str | Run) -> list[Run]:
    return [each if isinstance(each, Run) else Run(each) for each in words]


RUNS: dict[str, list[Run]] = {
    "alarm disarm": runs(""),
    "alarm list": runs("", "-w json"),
    "auth disable": runs(""),
    "auth enable": runs(""),
    "auth status": runs("", "-w json"),
    "check datascale": runs("--load=q", "--load=q --prefix=/p/", "--load=q --auto-compact --auto-defrag"),
    "check perf": runs("--load=q", "--load=q --prefix=/p/", "--load=q --auto-compact --auto-defrag"),
    "compaction": runs("1", "2 --physical"),
    "defrag": runs(Run("", only_code=True), Run("--cluster", only_code=True)),
    "del": runs("k/1 k/2", "k/2 --prev-kv", "k/ --prefix", "z --from-key"),
    "elect": runs("", "e p --listen", "e p -l"),
    "endpoint hashkv": runs("--rev=99999", "--cluster --rev=99999"),
    "endpoint health": runs("", "--cluster"),
    "endpoint status": runs("--endpoints=127.0.0.1:1 --command-timeout=100ms", "--cluster --command-timeout=1ns"),
    "get": runs(
        "k/1", "k/ --prefix --consistency=s", "k/ --prefix --count-only -w fields", "k/2 --from-key --limit=1",
        "k/ --prefix --keys-only", "k/ --prefix --order=DESCEND --sort-by=KEY", "k/1 --print-value-only", "k/1 --rev=3",
    ),
    "help": runs("get", ""),
    "lease grant": runs("1000"),
    "lease keep-alive": runs("1234 --once"),
    "lease list": runs(""),
    "lease revoke": runs("1234"),
    "lease timetolive": runs("1234", "1234 --keys"),
    "lock": runs("l --ttl=5 true", "l none-such"),
    "make-mirror": runs(
        "", "a b", "x --dest-prefix=a --no-dest-prefix", "x --dest-cert=c", "x --dest-key=k --dest-cacert=none",
        "x --dest-insecure-transport=maybe",
    ),
    "member add": runs(
        "m9", "m9 http://a:1", Run("m9 --peer-urls=PEERURL", sort=True), "m9 --peer-urls=PEERURL --learner",
    ),
    "member list": runs(Run("", sort=True), Run("-w table", sort=True)),
    "member promote": runs("1234"),
    "member remove": runs("1234"),
    "member update": runs("1234 --peer-urls=http://127.0.0.1:1"),
    "move-leader": runs("1234"),
    "put": runs(
        "k/1 v", "k/1 w --prev-kv", "k/1 --ignore-value", "k/1 x --ignore-lease", "k/1 x --lease=1234",
        Run("k/2", stdin="from stdin"),
    ),
    "role add": runs("r", "r"),
    "role delete": runs("none"),
    "role get": runs("r", "none"),
    "role grant-permission": runs("r read a", "r write b --prefix", "r readwrite c --from-key", "r bogus k"),
    "role list": runs(""),
    "role revoke-permission": runs("r a", "r b --prefix", "r c --from-key", "r none"),
    "snapshot restore": runs(),
    "snapshot save": runs("s.db"),
    "snapshot status": runs("none.db"),
    "txn": [Run(words, stdin="\nget k/1\n\n\n") for words in ("", "--interactive", "-i")],
    "user add": runs(
        "u:p", "v --no-password", "w --new-user-password=x", Run("y --interactive=false", stdin="p\n")
    ),
    "user delete": runs("none"),
    "user get": runs("u", "u --detail"),
    "user grant-role": runs("u r"),
    "user list": runs(""),
    "user passwd": runs(Run("u --interactive=false", stdin="q\n")),
    "user revoke-role": runs("u r"),
    "version": runs(Run("", only_code=True)),
    "watch": runs(
        "", "k end --prefix", "k --rev=1 --prev-kv", "k --rev=1 --progress-notify",
        Run("--interactive", stdin="nope\n"),
        Run("-i", stdin="\n"),
    ),
}  # fmt: skip


def variable(name: str, value: str) -> Run:
    return Run("get k/1", env=((f"ETCDCTL_{name}", value),))


GLOBALS: dict[str, list[Run]] = {
    "cacert": runs("get k/1 --cacert=none.pem", "get k/1 --cacert="),
    "cert": runs("get k/1 --cert=c.pem"),
    "command-timeout": runs(*[f"get k/1 --command-timeout={each}" for each in ("1ns", "x", "9s")]),
    "debug": runs("get k/1 --debug", variable("DEBUG", "true")),
    "dial-timeout": runs("get k/1 --dial-timeout=3s", variable("DIAL_TIMEOUT", "3s")),
    "discovery-srv": runs("get k/1 --discovery-srv="),
    "discovery-srv-name": runs("get k/1 --discovery-srv-name=x"),
    "endpoints": runs("get k/1 --endpoints=127.0.0.1:1 --command-timeout=100ms", "get k/1 --endpoints=ENDPOINT"),
    "help": runs("--help", "get -h"),
    "hex": runs("get k/1 --hex", "get k/1 --hex -w json", variable("HEX", "true")),
    "insecure-discovery": runs("get k/1 --insecure-discovery=false"),
    "insecure-skip-tls-verify": runs("get k/1 --endpoints=http://ENDPOINT --insecure-skip-tls-verify"),
    "insecure-transport": runs(
        "get k/1 --insecure-transport=false --command-timeout=100ms", "get k/1 --insecure-transport"
    ),
    "keepalive-time": runs("get k/1 --keepalive-time=20s"),
    "keepalive-timeout": runs("get k/1 --keepalive-timeout=1s"),
    "key": runs("get k/1 --key=k.pem"),
    "password": runs("get k/1 --user=u --password=x", "get k/1 --password=x"),
    "user": runs("get k/1 --user=u:x", Run("get k/1 --user=u", stdin="pw\n"), variable("USER", "u:x")),
    "write-out": runs("get k/1 --write-out=json", "get k/1 -w fields", variable("WRITE_OUT", "json")),
}  # fmt: skip

ELSEWHERE: dict[str, str] = {
    "auth enable": "test_cluster.py::test_authentication",
    "check datascale": "test_check.py::test_check",
    "check datascale --auto-compact": "test_check.py::test_check",
    "check datascale --auto-defrag": "test_check.py::test_check",
    "check datascale --prefix": "test_check.py::test_a_prefix_with_keys",
    "check perf": "test_check.py::test_check",
    "check perf --auto-compact": "test_check.py::test_check",
    "check perf --auto-defrag": "test_check.py::test_check",
    "check perf --prefix": "test_check.py::test_a_prefix_with_keys",
    "defrag --data-dir": "test_offline.py::test_defrag_of_a_directory",
    "elect": "test_running.py::test_elect",
    "lease keep-alive": "test_running.py::test_keep_alive",
    "lock": "test_running.py::test_lock",
    "make-mirror": "test_running.py::test_make_mirror",
    "make-mirror --prefix": "test_running.py::test_make_mirror",
    "make-mirror --dest-user": "test_running.py::test_make_mirror_with_a_user",
    "make-mirror --dest-password": "test_running.py::test_make_mirror_with_a_user",
    "move-leader": "test_cluster.py::test_move_leader",
    "snapshot restore": "test_offline.py::test_restore",
    **{
        f"snapshot restore --{name}": "test_offline.py::test_restore"
        for name in (
            "data-dir", "initial-advertise-peer-urls", "initial-cluster", "initial-cluster-token", "name",
            "skip-hash-check", "wal-dir",
        )
    },
    "watch": "test_running.py::test_watch",
    "watch --interactive": "test_running.py::test_interactive_watch",
    "cacert": "test_flags.py::test_tls",
    "cert": "test_flags.py::test_tls",
    "key": "test_flags.py::test_tls",
    "insecure-transport": "test_flags.py::test_tls",
    "insecure-skip-tls-verify": "test_flags.py::test_tls",
    "discovery-srv": "test_flags.py::test_discovery",
    "discovery-srv-name": "test_flags.py::test_discovery",
    "insecure-discovery": "test_flags.py::test_discovery",
    "keepalive-time": "test_flags.py::test_a_silent_server_is_left",
    "keepalive-timeout": "test_flags.py::test_a_silent_server_is_left",
    "user": "test_cluster.py::test_authentication",
    "password": "test_cluster.py::test_authentication",
}  # fmt: skip

HOLES: dict[str, str] = {}


def real_help(*path: str) -> str:
    done = subprocess.run([real_binary("etcdctl"), *path, "--help"], capture_output=True, text=True, check=True, env={})
    return done.stdout


def section(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\n(.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def real_commands() -> list[str]:
    """Return every command of the real tool."""
    return [line.strip().split("\t")[0] for line in section(real_help(), "COMMANDS").splitlines()]


def flags_in(text: str) -> list[str]:
    return re.findall(r"^ +(?:-\w, )?--([\w-]+)", text, re.MULTILINE)


def real_flags(command: str) -> list[str]:
    """Return a command's own flags in the real tool, and those of its group; no command: the global ones."""
    path = command.split()
    own = flags_in(section(real_help(*path), "OPTIONS"))
    inherited = flags_in(section(real_help(*path), "GLOBAL OPTIONS"))
    known = set(flags_in(section(real_help(), "OPTIONS"))) if path else set()
    return [name for name in [*own, *inherited] if name not in known and name != "help"] if path else own


def covers(found: list[Run], flag: str) -> bool:
    """Tell whether a run uses a flag."""
    long = re.compile(rf"(^|\s)--{flag}(=|\s|$)")
    return any(long.search(run.words) for run in found)


def proof(command: str, flag: str = "") -> str:
    """Return where a command, or a flag of it, is compared; "" for a hole without a reason."""
    name = f"{command} --{flag}" if command and flag else flag or command
    found = GLOBALS.get(flag, []) if not command else RUNS.get(command, [])
    told = ELSEWHERE.get(name, "")
    ran = bool(found) if not (command and flag) else covers(found, flag)
    parts = [part for part in ("test_matrix.py" if ran else "", told, HOLES.get(name, "")) if part]
    return ", ".join(parts)


def table(say: Callable[[str], object] = print) -> None:
    """Print the matrix."""
    say("| command | flag | compared in |\n|---|---|---|")
    for flag in real_flags(""):
        say(f"| (all) | `--{flag}` | {proof('', flag) or '**nowhere**'} |")
    for command in real_commands():
        say(f"| `{command}` | | {proof(command) or '**nowhere**'} |")
        for flag in real_flags(command):
            say(f"| | `--{flag}` | {proof(command, flag) or '**nowhere**'} |")


if __name__ == "__main__":
    table()
