"""Flags, environment, help, endpoints and start-up."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys

import pytest

from tests.etcdctl.twins import Twins, environment
from tests.oracle import free_port

pytestmark = [pytest.mark.oracle, pytest.mark.process]

NEW_IN_3_6 = re.compile(
    r"^\s+(--max-recv-bytes|--max-request-bytes|--(max|min)-(create|mod)-rev|completion|downgrade|--range=|--range\[).*\n"
    r"|^\s+--consistency=\"l\"\s+Linearizable\(l\) or Serializable\(s\)\n",
    re.MULTILINE,
)


def help_of_3_5(text: str) -> str:
    """Leave out what 3.6 has added, and the tabs, whose number depends on the longest name."""
    return NEW_IN_3_6.sub("", text)


def squeezed(text: str) -> str:
    text = re.sub(r"\t+", "\t", text)
    text = re.sub(r"^\tsnapshot (restore|status).*\n|^\t(restore|status)\t.*snapshot.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"3\.\d(\.\d+)?", "VERSION", help_of_3_5(text))


COMMANDS = (
    "", "get", "put", "del", "watch", "compaction", "lease", "lease grant", "lease keep-alive", "endpoint",
    "endpoint health", "endpoint status", "member", "member add", "member promote", "alarm",
    "auth", "user", "user add", "user passwd", "role", "role grant-permission", "lock", "elect", "move-leader",
    "version", "check", "check datascale", "snapshot",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help(twins: Twins, command: str) -> None:
    args = (*command.split(), "--help")
    real, ours = (tool.run(args, endpoint=False) for tool in (twins.real, twins.ours))
    assert squeezed(ours.stdout) == squeezed(real.stdout)
    assert (ours.code, ours.stderr) == (real.code, real.stderr)


def test_tabs_are_the_same_where_nothing_was_added(twins: Twins) -> None:
    real, ours = (tool.run(("lease", "-h"), endpoint=False) for tool in (twins.real, twins.ours))
    assert ours.stdout.replace("3.6", "3.5").split("GLOBAL")[0] == real.stdout.split("GLOBAL")[0]
    for line in real.stdout.splitlines():
        if line.startswith("      --"):
            assert line in ours.stdout.splitlines()


def test_words(twins: Twins) -> None:
    for words in (
        "foo", "gett k", "ge k", "me li", "snap foo", "lease", "lease foo", "lea gra 100", "get -endpoints=x",
        "get --nope k", "get -w", "get -wjson k", "get -w=json k", "get k --limit", "get k --limit=x",
        "get k --prefix=maybe", "get k --command-timeout=x", "-w json get k", "--write-out json get k",
        "--debug=false get k", "get --- k", "get k -- --prefix", "ver x -w json extra --nope", "l x",
    ):  # fmt: skip
        real, ours, _ = twins.all(*words.split())
        errors = [line for line in real.stderr.splitlines() if line.startswith("Error")][:1]
        assert [line for line in ours.stderr.splitlines() if line.startswith("Error")] == errors, words
        assert ours.code == real.code, words
        if not errors and "USAGE" not in real.stdout:
            assert twins.ours.side.normal(ours.stdout) == twins.real.side.normal(real.stdout)


def test_environment(twins: Twins) -> None:
    twins.run("put", "k", "v")
    endpoints = {id(tool): {"ETCDCTL_ENDPOINTS": tool.member.endpoint} for tool in twins.tools}
    for tool in twins.tools:
        env = {**endpoints[id(tool)], "ETCDCTL_WRITE_OUT": "json", "ETCDCTL_API": "3"}
        found = tool.run(("get", "k"), None, env, False)
        assert json.loads(found.stdout)["count"] == 1
        assert found.stderr == ""
        clash = tool.run(("get", "k"), None, endpoints[id(tool)])
        assert clash.code == 1
        assert json.loads(clash.stderr)["environment-variable"] == "ETCDCTL_ENDPOINTS"
        stray = tool.run(("get", "k"), None, {"ETCDCTL_FOO": "x"})
        assert stray.code == 0
        line = json.loads(stray.stderr)
        assert (line["msg"], line["environment-variable"]) == ("unrecognized environment variable", "ETCDCTL_FOO=x")
        bad = tool.run(("get", "k"), None, {"ETCDCTL_COMMAND_TIMEOUT": "x"})
        assert bad.code == 0
        assert tool.run(("version",), None, endpoints[id(tool)]).stderr == ""


def test_unreachable(twins: Twins) -> None:
    dead = f"127.0.0.1:{free_port()}"
    limit = "--command-timeout=400ms"
    for args in (["get", "k"], ["put", "k", "v"], ["member", "list"], ["alarm", "list"]):
        twins.run(*args, f"--endpoints={dead}", limit, endpoint=False, code=1)
    twins.run("get", "k", "--endpoints=", endpoint=False, code=2)
    twins.run("get", "k", "--endpoints=http://127.0.0.1", limit, endpoint=False, code=1)
    for tool in twins.tools:
        found = tool.run(("get", "k", f"--endpoints={dead},{tool.member.endpoint}"), None, None, False)
        assert found.code == 0


def test_tls_flags(twins: Twins) -> None:
    for args in (["--cert=c"], ["--key=k"], ["--cacert="], ["--cert=", "--key="], ["--cacert=none.pem"]):
        twins.run("get", "k", *args)
    twins.run("get", "k", "--insecure-transport=false", "--command-timeout=400ms")
    twins.run("get", "k", "--endpoints=http://ENDPOINT", "--insecure-transport=false", endpoint=False, code=0)


def test_versions_and_completion(twins: Twins) -> None:
    version = twins.ours.run(("version",))
    assert version.stdout == "etcdctl version: 3.6.14\nAPI version: 3.6\n"
    script = twins.ours.run(("completion", "bash"), None, None, False).stdout
    shell = f'{script}\nCOMP_LINE="etcdctl lease gr"; COMP_POINT=16; _etcdctl; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout == "grant\n"
    for shell_name in ("zsh", "fish", "powershell"):
        assert "keep-alive" in twins.ours.run(("completion", shell_name), None, None, False).stdout
    assert twins.ours.run(("completion", "csh"), None, None, False).code == 128


def test_start_up_loads_nothing_heavy(twins: Twins) -> None:
    """What `get` takes is mostly what it imports: no event loop, no TLS, no gRPC library, no dataclasses of servers."""
    heavy = (
        "import sys; import quorate.cli.etcdctl.main as m; assert m.run(sys.argv[1:]) == 0;"
        "print(sorted({n.partition('.')[0] for n in sys.modules} | {n for n in sys.modules if 'quorate' in n}))"
    )
    words = twins.ours.words(("get", "k"))
    done = subprocess.run(
        [sys.executable, "-c", heavy, *words], env=environment(None), check=True, capture_output=True, text=True
    )
    loaded = set(ast.literal_eval(done.stdout.splitlines()[-1]))
    assert "quorate.cli.etcdctl.kv" in loaded
    assert not loaded & {"asyncio", "uvloop", "ssl", "grpc", "grpclib", "dns", "cryptography", "subprocess", "email"}
    rooms = {name.split(".")[1] for name in loaded if name.startswith("quorate.")}
    assert rooms <= {"cli", "client", "errors", "proto", "wire", "measure", "ports", "runtime", "units"}, rooms


def test_downgrade(twins: Twins) -> None:
    """3.5.1 has no such command; the words are those of 3.6's source, answers our server's."""
    for words, code, out, error in (
        ("validate 3.4", 0, "Downgrade validate success, cluster version 3.5\n", ""),
        ("enable 3.4", 0, "Downgrade enable success, cluster version 3.5\n", ""),
        ("cancel", 0, "Downgrade cancel success, cluster version 3.5\n", ""),
        ("validate", 128, "", "Error: TARGET_VERSION not provided"),
        ("enable", 128, "", "Error: TARGET_VERSION not provided"),
        ("validate 3.4 x", 128, "", "Error: too many arguments"),
        ("enable 3.9", 1, "", "Error: etcdserver: invalid downgrade target version"),
        ("validate nonsense", 1, "", "Error: etcdserver: wrong downgrade target version format"),
    ):
        done = twins.own.run(["downgrade", *words.split()])
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
        assert (done.code, done.stdout, errors) == (code, out, [error] if error else []), words
    as_json = twins.own.run(["downgrade", "validate", "3.4", "-w", "json"])
    assert as_json.stdout.endswith('},"version":"3.5"}\n')
