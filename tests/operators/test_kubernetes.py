"""Notes about etcd as a static pod of Kubernetes: the manifest, its probes, keys, backups, who may come in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from quorate.cli.certs import make, parse
from tests.operators.site import Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]

NAME = "e1192523-1d5d-43fa-b0ed-80cfffed0de0"
MANIFEST = [
    "--advertise-client-urls=https://192.168.1.33:2379",
    "--cert-file=/etc/kubernetes/pki/etcd/server.crt",
    "--client-cert-auth=true",
    "--data-dir=/var/lib/etcd",
    "--initial-advertise-peer-urls=https://192.168.1.33:2380",
    f"--initial-cluster={NAME}=https://192.168.1.33:2380",
    "--key-file=/etc/kubernetes/pki/etcd/server.key",
    "--listen-client-urls=https://127.0.0.1:2379,https://192.168.1.33:2379",
    "--listen-metrics-urls=http://127.0.0.1:2381",
    "--listen-peer-urls=https://192.168.1.33:2380",
    f"--name={NAME}",
    "--peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt",
    "--peer-client-cert-auth=true",
    "--peer-key-file=/etc/kubernetes/pki/etcd/peer.key",
    "--peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
    "--snapshot-count=10000",
    "--trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
]
TLS = "--cacert=ca.crt --cert=healthcheck-client.crt --key=healthcheck-client.key"
ALIAS = f"""
export ETCDCTL_API=3
alias etl='etcdctl {TLS} --endpoints=https://127.0.0.1:2379'
"""
STATUS_TABLE = r"""\+-+\+-+\+-+\+-+\+
\| +HASH +\| REVISION \| TOTAL KEYS \| TOTAL SIZE \|
\+-+\+-+\+-+\+-+\+
\| +[0-9a-f]{1,8} \| +\d+ \| +\d+ \| +[0-9.]+ [kM]B \|
\+-+\+-+\+-+\+-+\+
"""


@pytest.fixture(scope="module")
def pod(site: Site) -> Site:
    """The manifest's member, with some of what Kubernetes keeps."""
    site.certificates("kubeadm")
    site.member("pod", MANIFEST).start().wait_ready()
    for key in (
        "namespaces/kube-system",
        "namespaces/monitoring",
        "deployments/default/web",
        "services/specs/default/kubernetes",
    ):
        site.typed("real", f"{ALIAS}\netl put /registry/{key} 'value of {key}'")
    return site


def test_the_liveness_probe(pod: Site) -> None:
    answer = json.loads(pod.members[0].get("/health"))
    assert answer["health"] == "true"


def test_keys_are_listed_and_read(pod: Site, tool: str) -> None:
    listed = pod.typed(tool, f"{ALIAS}\netl get / --prefix --keys-only").split()
    assert "/registry/services/specs/default/kubernetes" in listed
    assert listed == sorted(listed)
    read = pod.typed(tool, f"{ALIAS}\netl get /registry/services/specs/default/kubernetes")
    name = "services/specs/default/kubernetes"
    assert read == f"/registry/{name}\nvalue of {name}\n"


def test_the_options_that_the_notes_list(pod: Site, tool: str) -> None:
    options = (
        "--command-timeout=5s --debug=false --dial-timeout=2s --hex=false --insecure-discovery=true "
        "--insecure-skip-tls-verify=false --insecure-transport=true --keepalive-time=2s --keepalive-timeout=6s "
        "--write-out=simple --discovery-srv= --discovery-srv-name= --user= --password="
    )
    assert pod.typed(tool, f"{ALIAS}\netl {options} get /registry/namespaces/kube-system --print-value-only") == (
        "value of namespaces/kube-system\n"
    )
    help_text = pod.typed(tool, "etcdctl -h")
    for option in options.split():
        assert option.partition("=")[0] in help_text


def test_the_exec_probe(pod: Site, tool: str) -> None:
    probe = (
        "ETCDCTL_API=3 etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt "
        "--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key "
        "get foo"
    )
    assert pod.typed(tool, f"/bin/sh -ec '{probe}'") == ""


def test_keys_are_looked_at_and_deleted(pod: Site, tool: str) -> None:
    where = "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379"
    ctl = f"{where}\netcdctl --cacert ca.crt --cert peer.crt --key peer.key"
    assert pod.typed(tool, f"{ctl} get /registry/namespaces --prefix --keys-only").split()[0] == (
        "/registry/namespaces/kube-system"
    )
    assert pod.typed(tool, f"{ctl} get /registry/deployments --prefix --keys-only") == (
        "/registry/deployments/default/web\n\n"
    )
    found = json.loads(pod.typed(tool, f'{ctl} --write-out="json" get /registry/namespaces/kube-system'))
    assert found["count"] == 1
    assert sorted(found["kvs"][0]) == ["create_revision", "key", "mod_revision", "value", "version"]
    pod.typed(tool, f"{ctl} put /registry/namespaces/gone x")
    assert pod.typed(tool, f"{ctl} del /registry/namespaces/gone") == "1\n"


def test_a_snapshot_is_saved_and_verified(pod: Site, tool: str, place: Path) -> None:
    path = place / "snapshot-20200312.db"
    save = f"ENDPOINT=https://127.0.0.1:2379\nETCDCTL_API=3 etcdctl {TLS} --endpoints $ENDPOINT snapshot save {path}"
    pod.typed(tool, save)
    assert path.stat().st_size > 4096
    table = pod.typed(tool, f"export ETCDCTL_API=3\netcdctl --write-out=table snapshot status {path}")
    assert re.fullmatch(STATUS_TABLE, table), table
    assert table == pod.typed("real", f"etcdutl --write-out=table snapshot status {path}")


@pytest.mark.parametrize("where", ["endpoint", "data-dir"])
def test_a_snapshot_is_restored(pod: Site, tool: str, where: str, place: Path) -> None:
    pod.typed(tool, f"{ALIAS}\netl snapshot save {place}/snapshotdb")
    flags = "--endpoints 10.2.0.9:2379" if where == "endpoint" else f"--data-dir {place}/restored"
    pod.typed(tool, f"cd {place}\nETCDCTL_API=3 etcdctl {flags} snapshot restore snapshotdb")
    data = place / ("default.etcd" if where == "endpoint" else "restored")
    member = pod.member(f"restored-{tool}-{where}", [
        f"--data-dir={data}",
        "--listen-client-urls=http://10.2.0.9:2379", "--advertise-client-urls=http://10.2.0.9:2379",
        "--listen-peer-urls=http://10.2.0.9:2380",
    ]).start().wait_ready()  # fmt: skip
    try:
        read = pod.typed(tool, "etcdctl --endpoints=http://10.2.0.9:2379 get /registry/namespaces/kube-system")
        assert read == "/registry/namespaces/kube-system\nvalue of namespaces/kube-system\n"
    finally:
        member.stop()


def test_only_who_has_a_certificate_of_the_authority_comes_in(pod: Site, tool: str, place: Path) -> None:
    make(parse(["--dir", str(place), "--layout", "kubeadm"]))
    endpoint = "export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379\n"
    strange = f"--cert={place}/healthcheck-client.crt --key={place}/healthcheck-client.key"
    for flags in ("--cacert=ca.crt", f"--cacert=ca.crt {strange}", f"--cacert={place}/ca.crt {TLS.split(' ', 1)[1]}"):
        done = pod.shell(tool, f"{endpoint}etcdctl --command-timeout=2s --dial-timeout=1s {flags} get /")
        assert done.code == 1, flags
        assert done.stdout == ""
        assert "context deadline exceeded" in done.stderr
    assert "bad certificate" in pod.members[0].log() or "certificate" in pod.members[0].log()
    listed = pod.typed(
        tool,
        "ETCDCTL_API=3 etcdctl --endpoints 127.0.0.1:2379 --cert=/etc/kubernetes/pki/etcd/server.crt "
        "--key=/etc/kubernetes/pki/etcd/server.key --cacert=/etc/kubernetes/pki/etcd/ca.crt member list",
    )
    assert re.fullmatch(
        rf"[0-9a-f]+, started, {NAME}, https://127.0.0.1:\d+, https://127.0.0.1:\d+, false\n", listed
    ), listed
