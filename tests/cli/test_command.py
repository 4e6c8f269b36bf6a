"""The command as a process that never gets to serve: texts, streams and exit statuses, beside real etcd's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracle import ROOT, our_command, our_path, real_binary

URLS = ["--listen-peer-urls=http://127.0.0.1:1", "--listen-client-urls=http://127.0.0.1:1"]
ADVERTISED = ["--advertise-client-urls=http://127.0.0.1:1", "--initial-advertise-peer-urls=http://127.0.0.1:1"]


def run(
    command: list[str], words: list[str], folder: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "PYTHONPATH": our_path()}
    return subprocess.run(
        [*command, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**base, **(env or {})},
        timeout=20,
        check=False,
    )


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def failure(done: subprocess.CompletedProcess[str]) -> tuple[int, list[object]]:
    """What a refusal comes to: the status, and the messages and errors of the lines that say why."""
    found: list[object] = []
    for line in lines(done.stderr):
        if line["level"] in ("fatal", "panic") or line["msg"] == "failed to verify flags":
            found.append((line["level"], line["msg"], line.get("error", line.get("environment-variable"))))
    if not found:
        found = [done.stderr.splitlines()[0]]
    return done.returncode, found


# Alike in 3.5.1 and in 3.6, which we follow.
REFUSED = [
    ["--nosuch"],
    ["--election-timeout=abc"],
    ["--pre-vote=maybe"],
    ["--max-wals=-1"],
    ["--listen-peer-urls=http://127.0.0.1:1/x"],
    ["--listen-peer-urls=127.0.0.1:1"],
    ["--listen-peer-urls=http://127.0.0.1"],
    ["--listen-peer-urls=ftp://127.0.0.1:1"],
    ["--listen-peer-urls=http://[::1:2380"],
    ["--listen-peer-urls=http://127.0.0.1:b"],
    ["--initial-cluster-state=foo"],
    ["--log-level=foo"],
    ["--logger=foo"],
    ["--logger=capnslog"],
    ["--listen-client-urls=http://127.0.0.1:1"],
    ["--listen-client-urls="],
    ["--listen-peer-urls=http://foo:1"],
    ["--listen-metrics-urls=http://foo:1"],
    ["--initial-advertise-peer-urls=http://:2380"],
    ["--heartbeat-interval=0"],
    ["--election-timeout=0"],
    ["--election-timeout=100"],
    ["--election-timeout=60000"],
    ["--auto-compaction-mode=foo"],
    ["--log-outputs=default,stderr"],
    ["--enable-log-rotation"],
    ["--enable-log-rotation", "--log-outputs=a,b"],
    ["--config-file=/nonexistent/file"],
    ["--cors=http://foo"],
    ["--grpc-keepalive-timeout=5"],
]


@pytest.mark.oracle
@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_refusals_are_real_etcd_s(words: list[str], tmp_path: Path) -> None:
    ours = failure(run(our_command(), words, tmp_path))
    assert ours[0] in (1, 2)
    assert ours == failure(run([real_binary("etcd")], words, tmp_path))


ENVIRONMENTS = [
    ({"ETCD_ELECTION_TIMEOUT": "abc"}, []),
    ({"ETCD_NAME": "a"}, ["--name=b"]),
    ({"ETCD_NAME": ""}, ["--name=b"]),
    ({"ETCD_CONFIG_FILE": "/nonexistent/file", "ETCD_NAME": "x"}, ["--name=y"]),
    ({"ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:1"}, []),
    ({"ETCD_HEARTBEAT_INTERVAL": "0"}, []),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("env", "words"), ENVIRONMENTS)
def test_refused_variables_are_real_etcd_s(env: dict[str, str], words: list[str], tmp_path: Path) -> None:
    ours = failure(run(our_command(), words, tmp_path, env))
    assert ours == failure(run([real_binary("etcd")], words, tmp_path, env))


def test_what_3_6_says_otherwise(tmp_path: Path) -> None:
    cases = [
        (["word"], '"word" is not a valid flag'),
        (["--discovery-fallback=proxy", "--discovery-srv=example.org"],
         'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"'),
        (["--corrupt-check-time=1s", "--experimental-corrupt-check-time=1s"],
         "cannot set --experimental-corrupt-check-time and --corrupt-check-time at the same time, "
         "please use --corrupt-check-time only"),
        (["--experimental-initial-corrupt-check=true", "--feature-gates=InitialCorruptCheck=false"],
         "cannot specify both flags: --experimental-initial-corrupt-check=true and "
         "--feature-gates=InitialCorruptCheck=false at the same time, please just use "
         "--feature-gates=InitialCorruptCheck=false"),
        (["--feature-gates=LeaseCheckpointPersist=true"],
         "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"),
        (["--discovery-token=x"], "both --discovery-token and --discovery-endpoints must be set"),
        (["--tls-min-version=x"], 'unexpected TLS version "x" (must be one of: TLS1.2, TLS1.3)'),
        (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
         "min version (TLS1.3) is greater than max version (TLS1.2)"),
        (["--log-format=x"], "unknown log format: x, supported values json, console"),
        (["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
    ]  # fmt: skip
    for words, text in cases:
        done = run(our_command(), words, tmp_path)
        assert failure(done) == (1, [("warn", "failed to verify flags", text)]), words


@pytest.mark.parametrize(
    "words",
    [
        ["--proxy=on"],
    ],
)
def test_what_would_be_unsafe_to_ignore_is_refused(words: list[str], tmp_path: Path) -> None:
    status, found = failure(run(our_command(), words, tmp_path))
    assert status == 1
    assert len(found) == 1
    assert found[0][:2] == ("warn", "failed to verify flags")  # type: ignore[index]
    assert "not supported" in str(found[0])
    assert list(tmp_path.iterdir()) == []


def test_what_changes_nothing_is_accepted_with_a_warning(tmp_path: Path) -> None:
    # Variables of operators' files for older releases; the tick that is out of range ends the start.
    env = {
        "ETCD_ENABLE_V2": "true",
        "ETCD_DISCOVERY_FALLBACK": "proxy",  # of use with discovery alone, and refused there
        "ETCD_PROXY": "off",
        "ETCD_PROXY_FAILURE_WAIT": "1000",
        "ETCD_PROXY_READ_TIMEOUT": "0",
        "ETCD_DEBUG": "true",
        "ETCD_LOG_PACKAGE_LEVELS": "etcdserver=WARNING",
        "ETCD_STRICT_RECONFIG_CHECK": "false",
        "ETCD_METRICS": "basic",
        "ETCD_ELECTION_TIMEOUT": "1",
    }
    done = run(our_command(), [], tmp_path, env)
    texts = [line["msg"] for line in lines(done.stderr) if line["level"] == "warn"]
    assert "--enable-v2 has no effect: the v2 API is not served" in texts
    assert "--proxy-failure-wait has no effect: the v2 proxy is not supported" in texts
    assert not [text for text in texts if str(text).startswith(("--proxy-read-timeout", "--proxy has"))]
    unknown = {line.get("environment-variable") for line in lines(done.stderr)}
    assert {"ETCD_DEBUG=true", "ETCD_LOG_PACKAGE_LEVELS=etcdserver=WARNING"} <= unknown
    assert failure(done)[1][0][2].startswith("--election-timeout[1ms] should be")  # type: ignore[index]


def test_version_is_in_etcd_s_form(tmp_path: Path) -> None:
    done = run(our_command(), ["--version"], tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "etcd Version: 3.6.14"
    assert done.stdout.splitlines()[1].startswith("Quorate Version: ")


def test_help_goes_to_both_streams(tmp_path: Path) -> None:
    done = run(our_command(), ["--help"], tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("Usage:\n\n  etcd [flags]\n")
    assert "\nMember:\n  --name 'default'\n" in done.stdout


def test_an_unknown_flag_brings_the_usage(tmp_path: Path) -> None:
    done = run(our_command(), ["--nosuch"], tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("flag provided but not defined: -nosuch\nUsage:\n")


def test_every_line_is_json_even_without_a_locale(tmp_path: Path) -> None:
    done = run(
        our_command(), [*URLS, *ADVERTISED, "--name=ü", "--election-timeout=1"], tmp_path, {"LANG": "", "ETCD_X": "ü"}
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert list(found[0])[:4] == ["level", "ts", "caller", "msg"]
    assert {"unrecognized environment variable", "Running: ", "failed to verify flags"} <= {
        line["msg"] for line in found
    }


def test_used_variables_are_named(tmp_path: Path) -> None:
    done = run(our_command(), [], tmp_path, {"ETCD_NAME": "x", "ETCD_ELECTION_TIMEOUT": "1", "ETCD_VERSION": "3.5.1"})
    found = lines(done.stderr)
    assert found[0]["msg"] == "cannot set special environment variable"
    used = {line["variable-name"]: line["variable-value"] for line in found if "variable-name" in line}
    assert used == {"ETCD_NAME": "x", "ETCD_ELECTION_TIMEOUT": "1"}


def test_it_imports_nothing_heavy_for_its_version() -> None:
    code = "import sys, quorate.cli.etcd as e; e.run(['etcd', '--version']); print(sorted(sys.modules))"
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    for heavy in ("asyncio", "google", "yaml", "json", "quorate.server", "uvloop"):
        assert f"'{heavy}" not in done.stdout, heavy
