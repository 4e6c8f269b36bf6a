"""Notes about three members under systemd with cfssl's certificates and an EnvironmentFile."""

from __future__ import annotations

import re
import signal
import socket

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.operators.site import READY_S, Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]

CLUSTER = ",".join(f"master0{number}=https://192.168.100.20{number - 1}:2380" for number in (1, 2, 3))

# What stands in the file without a comment sign.
SET = {
    "ETCD_DATA_DIR": "/var/lib/etcd/default.etcd",
    "ETCD_INITIAL_CLUSTER": CLUSTER,
    "ETCD_INITIAL_CLUSTER_STATE": "new",
    "ETCD_INITIAL_CLUSTER_TOKEN": "etcd-cluster",
    "ETCD_CERT_FILE": "/etc/etcd/ssl/server.pem",
    "ETCD_KEY_FILE": "/etc/etcd/ssl/server-key.pem",
    "ETCD_CLIENT_CERT_AUTH": "true",
    "ETCD_TRUSTED_CA_FILE": "/etc/etcd/ssl/ca.pem",
    "ETCD_AUTO_TLS": "true",
    "ETCD_PEER_CERT_FILE": "/etc/etcd/ssl/peer.pem",
    "ETCD_PEER_KEY_FILE": "/etc/etcd/ssl/peer-key.pem",
    "ETCD_PEER_TRUSTED_CA_FILE": "/etc/etcd/ssl/ca.pem",
    "ETCD_PEER_AUTO_TLS": "true",
}

# What stands there behind one, with the values that it has there.
COMMENTED = {
    "ETCD_WAL_DIR": "",
    "ETCD_SNAPSHOT_COUNT": "10000",
    "ETCD_HEARTBEAT_INTERVAL": "100",
    "ETCD_ELECTION_TIMEOUT": "1000",
    "ETCD_MAX_SNAPSHOTS": "5",
    "ETCD_MAX_WALS": "5",
    "ETCD_CORS": "",
    "ETCD_DISCOVERY": "",
    "ETCD_DISCOVERY_SRV": "",
    "ETCD_DISCOVERY_FALLBACK": "proxy",
    "ETCD_DISCOVERY_PROXY": "",
    "ETCD_STRICT_RECONFIG_CHECK": "false",
    "ETCD_AUTO_COMPACTION_RETENTION": "0",
    "ETCD_PROXY": "off",
    "ETCD_PROXY_FAILURE_WAIT": "5000",
    "ETCD_PROXY_REFRESH_INTERVAL": "30000",
    "ETCD_PROXY_DIAL_TIMEOUT": "1000",
    "ETCD_PROXY_WRITE_TIMEOUT": "5000",
    "ETCD_PROXY_READ_TIMEOUT": "0",
    "ETCD_PEER_CLIENT_CERT_AUTH": "false",
    "ETCD_DEBUG": "false",
    "ETCD_LOG_PACKAGE_LEVELS": "",
    "ETCD_ENABLE_PPROF": "false",
    "ETCD_METRICS": "basic",
}

EXEC_START = '/bin/bash -c "GOMAXPROCS=$(nproc) etcd"'
V3 = "--cacert /etc/etcd/ssl/ca.pem --cert /etc/etcd/ssl/client.pem --key /etc/etcd/ssl/client-key.pem"
V2 = "--ca-file /etc/etcd/ssl/ca.pem --cert-file /etc/etcd/ssl/client.pem --key-file /etc/etcd/ssl/client-key.pem"
ENDPOINTS = ",".join(f"https://192.168.100.20{number}:2379" for number in range(3))


def settings(number: int) -> dict[str, str]:
    """Return the file of one of the machines. It listens on its own address, for all share one here."""
    address = f"192.168.100.20{number - 1}"
    return SET | {
        "ETCD_NAME": f"master0{number}",
        "ETCD_LISTEN_PEER_URLS": f"https://{address}:2380",
        "ETCD_LISTEN_CLIENT_URLS": f"https://{address}:2379",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"https://{address}:2380",
        "ETCD_ADVERTISE_CLIENT_URLS": f"https://{address}:2379",
    }


def start(site: Site, folder: str, number: int, more: dict[str, str]) -> None:
    """Start a member as its unit does: a shell, the settings in the environment, a socket to tell that it is ready."""
    member = site.member(f"{folder}{number}", [], settings(number) | more)
    flag = member.command.pop()
    member.env["ETCD_LISTEN_METRICS_URLS"] = flag.partition("=")[2]
    member.command = ["bash", "-c", f"PATH={site.folder}/bin-ours:$PATH; exec {EXEC_START}"]
    member.start()


@pytest.fixture(scope="module")
def masters(site: Site) -> Site:
    """The three members, told ready to systemd's socket, with the commented settings in force on one of them."""
    site.certificates("cfssl")
    path = str(site.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(path)
        told.settimeout(READY_S)
        for number in (1, 2, 3):
            start(site, "master", number, {"NOTIFY_SOCKET": path} | (COMMENTED if number == 2 else {}))
        for _ in range(3):
            assert told.recv(100) == b"READY=1"
    for member in site.members:
        member.wait_ready()
    return site


def test_the_certificates_are_those_of_cfssl_s_profiles(masters: Site) -> None:
    expected = {"ca", "server", "peer", "client"}
    assert {path.name for path in masters.pki.iterdir()} == {
        name for each in expected for name in (f"{each}.pem", f"{each}-key.pem")
    }
    authority = x509.load_pem_x509_certificate((masters.pki / "ca.pem").read_bytes())
    for name in ("server", "peer", "client"):
        cert = x509.load_pem_x509_certificate((masters.pki / f"{name}.pem").read_bytes())
        cert.verify_directly_issued_by(authority)
        usages = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert (ExtendedKeyUsageOID.SERVER_AUTH in usages) == (name != "client")
        assert (cert.not_valid_after_utc - cert.not_valid_before_utc).days == 43800 // 24


def test_what_the_members_say_of_their_settings(masters: Site) -> None:
    log = (masters.members[1].folder / "log").read_text()
    for name in ("ETCD_NAME", "ETCD_INITIAL_CLUSTER", "ETCD_PROXY_FAILURE_WAIT", "ETCD_STRICT_RECONFIG_CHECK"):
        assert f'"variable-name":"{name}"' in log
    assert "ETCD_DEBUG=false" in log
    assert "ignoring client auto TLS since certs given" in log
    assert "ignoring peer auto TLS since certs given" in log


def test_the_cluster_works(masters: Site, tool: str) -> None:
    masters.typed(tool, f"etcdctl {V3} --endpoints {ENDPOINTS} put a b")
    assert masters.typed(tool, f"etcdctl {V3} --endpoints https://192.168.100.202:2379 get a") == "a\nb\n"
    listed = masters.typed(tool, f"etcdctl {V3} --endpoints {ENDPOINTS} member list")
    form = r"([0-9a-f]+, started, master0[123], https://127.0.0.1:\d+, https://127.0.0.1:\d+, false\n){3}"
    assert re.fullmatch(form, listed), listed


def test_cluster_health(masters: Site) -> None:
    healthy = masters.typed("ours", f"etcdctl {V2} --endpoints {ENDPOINTS} cluster-health")
    lines = healthy.splitlines()
    for line in lines[:3]:
        assert re.fullmatch(r"member [0-9a-f]+ is healthy: got healthy result from https://127.0.0.1:\d+", line), line
    assert lines[3:] == ["cluster is healthy"]
    assert (
        masters.typed("ours", f"alias etcdctl='etcdctl {V2} --endpoints {ENDPOINTS}'\netcdctl cluster-health")
        == healthy
    )


def test_members_in_the_older_forms(masters: Site) -> None:
    ctl = f"etcdctl {V2} -endpoints={ENDPOINTS}"
    listed = masters.typed("ours", f"{ctl} member list")
    form = r"([0-9a-f]+): name=(\S+) peerURLs=(\S+) clientURLs=(\S+) isLeader=(true|false)"
    found = [re.fullmatch(form, line) for line in listed.splitlines()]
    assert all(found), listed
    assert sorted(each[2] for each in found if each) == ["master01", "master02", "master03"]
    assert [each[5] for each in found if each].count("true") == 1
    added = masters.typed("ours", f"{ctl} member add master04 https://192.168.100.203:2380")
    match = re.match(r"Added member named master04 with ID ([0-9a-f]+) to cluster\n", added)
    assert match, added
    assert 'ETCD_NAME="master04"' in added
    updated = masters.typed("ours", f"{ctl} member update {match[1]} https://192.168.100.204:2380")
    assert updated == f"Updated member with ID {match[1]} in cluster\n"
    removed = masters.typed("ours", f"{ctl} member remove {match[1]}")
    assert removed == f"Removed member {match[1]} from cluster\n"


def test_they_stop_in_turn_and_come_back(masters: Site) -> None:
    for member in masters.members:
        status = member.stop()
        assert status in (0, -signal.SIGTERM, 143)
        member.start().wait_ready()
        assert masters.typed("ours", f"etcdctl {V3} --endpoints {ENDPOINTS} get a --print-value-only") == "b\n"
