"""`etcd grpc-proxy`: words, flags and refusals like real etcd's."""

from __future__ import annotations

import re

import pytest

from tests.proxy.commands import once

pytestmark = [pytest.mark.oracle, pytest.mark.process]

WORDS = [
    "grpc-proxy",
    "grpc-proxy --help",
    "grpc-proxy nope",
    "grpc-proxy start --resolver-prefix x",
    "grpc-proxy start --resolver-ttl 5",
    "grpc-proxy start --resolver-prefix x --resolver-ttl 5 --advertise-client-url=",
    "grpc-proxy start --auto-tls --self-signed-cert-validity 0",
    "grpc-proxy start --listen-addr 127.0.0.1:99999",
    "grpc-proxy start --listen-addr 192.0.2.1:1",
]


def without_log(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("{"))


@pytest.mark.parametrize("words", WORDS)
def test_words_and_exit_codes(words: str) -> None:
    real, ours = (once(kind, *words.split()) for kind in ("real", "ours"))
    assert (ours.returncode, ours.stdout) == (real.returncode, real.stdout)
    assert without_log(ours.stderr) == without_log(real.stderr)


@pytest.mark.parametrize("flag", ["--nope", "-x", "--resolver-ttl=x", "--max-send-bytes", "--debug=maybe"])
def test_flags_that_do_not_fit(flag: str) -> None:
    real, ours = (once(kind, "grpc-proxy", "start", flag) for kind in ("real", "ours"))
    assert (ours.returncode, ours.stdout) == (real.returncode, real.stdout) == (1, "")
    assert ours.stderr.splitlines()[0] == real.stderr.splitlines()[0]
    assert ours.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]


def flags_of(text: str) -> dict[str, str]:
    """Return each flag's line, with single spaces, by its name."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"\s+(?:-h, )?--([a-z-]+)", line)
        if match:
            found[match[1]] = " ".join(line.split())
    return found


def test_every_flag_of_real_etcd_is_there_with_its_words() -> None:
    real, ours = (flags_of(once(kind, "grpc-proxy", "start", "--help").stdout) for kind in ("real", "ours"))
    assert len(real) > 30
    assert {name: ours.get(name) for name in real} == real
    assert set(ours) - set(real) == {
        "dial-keepalive-time",
        "dial-keepalive-timeout",
        "endpoints-auto-sync-interval",
        "experimental-enable-grpc-logging",
        "listen-cipher-suites",
        "max-concurrent-streams",
        "permit-without-stream",
        "tls-max-version",
        "tls-min-version",
    }, "what later releases have"


@pytest.mark.parametrize("flag", ["--experimental-leasing-prefix=x", "--experimental-enable-grpc-logging"])
def test_what_is_not_there_is_refused(flag: str) -> None:
    answer = once("ours", "grpc-proxy", "start", flag)
    assert answer.returncode == 1
    assert "is not supported" in answer.stderr
