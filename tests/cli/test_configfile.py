"""The YAML file: values, types, texts; the refusals beside real etcd's."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.cli.configfile import BadUrlError, ConfigFileError, read_config_file
from quorate.cli.settings import Values, effective_gates, initial_cluster, resolve
from quorate.ports import NullLog
from tests.cli.test_command import failure, run
from tests.oracle import our_command, real_binary


def write(folder: Path, text: str) -> str:
    path = folder / "etcd.yaml"
    path.write_text(text)
    return str(path)


def test_values(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
Name: m1
data-dir: /d
listen-client-urls: http://127.0.0.1:2,http://127.0.0.1:1
snapshot-count: 5
grpc-keepalive-min-time: 7000000000
pre-vote: false
max-wals: null
log-outputs: [stdout, stderr]
cors: '*'
host-whitelist: a,b
auto-compaction-retention: 1
nonsense: 1
socket-options: {reuse-port: true}
experimental-snapshot-catch-up-entries: 9
client-transport-security: {cert-file: c, client-cert-auth: true, allowed-hostname: [h], allowed-cn: [z]}
peer-transport-security: {cert-file: p, allowed-cn: [x, y], auto-tls: false}
feature-gates: LeaseCheckpoint=true
""",
    )
    given, keys = read_config_file(path)
    values = Values(given, keys, from_file=True)
    assert values.text("name") == "m1"
    assert [url.text for url in values.urls("listen-client-urls")] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    assert [url.text for url in values.urls("advertise-client-urls")] == ["http://localhost:2379"]
    assert values.number("snapshot-count") == 5
    assert values.number("grpc-keepalive-min-time") == 7 * 10**9
    assert values.on("pre-vote") is False
    assert values.number("max-wals") == 5
    assert values.words("log-outputs") == ["stderr", "stdout"]
    assert values.words("host-whitelist") == ["a", "b"]
    assert values.text("auto-compaction-retention") == "1"
    assert values.on("socket-reuse-port") is True
    assert values.number("snapshot-catchup-entries") == 9
    assert values.text("cert-file") == "c"
    assert values.on("client-cert-auth") is True
    assert values.words("client-cert-allowed-hostname") == ["h"]
    assert values.given["client-cert-allowed-cn"] == ["z"]
    assert values.text("peer-cert-file") == "p"
    assert values.words("peer-cert-allowed-cn") == ["x", "y"]
    assert effective_gates(values)["LeaseCheckpoint"] is True
    assert initial_cluster(values) == "m1=http://localhost:2380"


def test_listening_without_advertising_is_no_error_in_a_file(tmp_path: Path) -> None:
    given, keys = read_config_file(write(tmp_path, "name: x\nlisten-client-urls: http://127.0.0.1:1\n"))
    values = Values(given, keys, from_file=True)
    settings = resolve(values, effective_gates(values), NullLog())
    assert [url.text for url in settings.advertise_client_urls] == ["http://localhost:2379"]
    assert settings.data_dir == "x.etcd"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read_config_file(write(tmp_path, "")) == ({}, set())


def test_bad_url(tmp_path: Path) -> None:
    with pytest.raises(BadUrlError) as caught:
        read_config_file(write(tmp_path, "advertise-client-urls: foo\n"))
    assert str(caught.value) == (
        "unexpected error setting up advertise-peer-urls: URL scheme must be http, https, unix, or unixs: foo"
    )


def test_what_is_no_mapping(tmp_path: Path) -> None:
    for text in ("[1]", "x", "name: [1]", "peer-transport-security: 1", "{"):
        with pytest.raises(ConfigFileError):
            read_config_file(write(tmp_path, text))


@pytest.mark.oracle
@pytest.mark.parametrize(
    "text",
    [
        "log-outputs: stderr",
        "grpc-keepalive-min-time: 5s",
        "listen-client-urls: foo",
        "listen-peer-urls: http://127.0.0.1:1/x",
        "snapshot-count: x",
        "pre-vote: 3",
        "max-wals: -1",
        "initial-cluster-state: foo",
        "auto-compaction-mode: foo",
        "heartbeat-interval: 0",
        "listen-peer-urls: http://foo:1",
        "initial-advertise-peer-urls: http://:1",
    ],
)
def test_refusals_are_real_etcd_s(text: str, tmp_path: Path) -> None:
    words = [f"--config-file={write(tmp_path, text)}"]
    ours = failure(run(our_command(), words, tmp_path))
    assert ours[0] == 1
    assert ours == failure(run([real_binary("etcd")], words, tmp_path))
