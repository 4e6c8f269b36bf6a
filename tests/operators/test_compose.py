"""Notes about three members under compose, and about passwords: who is root, and who needs to be asked."""

from __future__ import annotations

import pytest

from tests.operators.site import Site

pytestmark = [pytest.mark.process, pytest.mark.oracle]

HOSTS = {f"node{number}": f"10.0.1.{number}" for number in (1, 2, 3)}
CLUSTER = ",".join(f"{name}=https://{host}:2380" for name, host in HOSTS.items())
ENDPOINTS = ",".join(f"https://{host}:2379" for host in HOSTS.values())
CTL = f"etcdctl --cacert ca.crt --cert peer.crt --key peer.key --endpoints {ENDPOINTS}"


@pytest.fixture(scope="module")
def nodes(site: Site) -> Site:
    """Three members over TLS that want to see a certificate."""
    site.certificates("kubeadm")
    for name, host in HOSTS.items():
        site.member(
            name,
            [
                f"--name={name}",
                "--data-dir=/var/lib/etcd",
                f"--listen-client-urls=https://{host}:2379",
                f"--advertise-client-urls=https://{host}:2379",
                f"--listen-peer-urls=https://{host}:2380",
                f"--initial-advertise-peer-urls=https://{host}:2380",
                f"--initial-cluster={CLUSTER}",
                "--initial-cluster-state=new",
                "--client-cert-auth",
                "--peer-client-cert-auth",
                *(
                    f"--{side}{what}=/etc/kubernetes/pki/etcd/{file}"
                    for side, pair in (("", "server"), ("peer-", "peer"))
                    for what, file in (
                        ("cert-file", f"{pair}.crt"), ("key-file", f"{pair}.key"), ("trusted-ca-file", "ca.crt")
                    )
                ),
            ],
        ).start()  # fmt: skip
    for member in site.members:
        member.wait_ready()
    return site


def test_the_leader_is_found_by_asking_everyone(nodes: Site, tool: str) -> None:
    table = nodes.typed(tool, f"export ETCDCTL_API=3\n{CTL} endpoint status --write-out=table")
    rows = [line.split("|") for line in table.splitlines() if "127.0.0.1" in line]
    assert len(rows) == 3
    heads = next(line.split("|") for line in table.splitlines() if "ENDPOINT" in line)
    leading = [name.strip() for name in heads].index("IS LEADER")
    assert sorted(row[leading].strip() for row in rows) == ["false", "false", "true"]


def test_users_are_asked_for_their_passwords(nodes: Site, tool: str) -> None:
    added = nodes.prompted(tool, f"{CTL} user add root", ["secret", "secret"])
    assert added.code == 0
    asked = "Password of root: \nType password of root again for confirmation: \nUser root created\n"
    assert added.stdout == asked, added.stdout
    assert nodes.typed(tool, f"{CTL} user grant-role root root") == "Role root is granted to user root\n"
    try:
        assert nodes.typed(tool, f"{CTL} auth enable") == "Authentication Enabled\n"
        listed = nodes.prompted(tool, f"{CTL} --user root user list", ["secret"])
        assert (listed.code, listed.stdout) == (0, "Password: \nroot\n")
        refused = nodes.prompted(tool, f"{CTL} --user root user list", ["wrong"])
        assert refused.code == 2
        text = "etcdserver: authentication failed, invalid user ID or password"
        assert text in refused.stdout, refused.stdout
        root = f"{CTL} --user root:secret"
        nodes.typed(tool, f"{root} role add app")
        nodes.typed(tool, f"{root} role grant-permission app --prefix=true readwrite app/")
        nodes.typed(tool, f"{root} user add someone:pw")
        nodes.typed(tool, f"{root} user grant-role someone app")
        assert nodes.typed(tool, f"{CTL} --user someone:pw put app/1 x") == "OK\n"
        missing = nodes.shell(tool, f"{CTL} --user someone:pw put other x")
        assert missing.code == 1
        assert "etcdserver: permission denied" in missing.stderr
        nobody = nodes.shell(tool, f"{CTL} get app/1")
        assert nobody.code == 1
        assert "etcdserver: permission denied" in nobody.stderr  # to the user that the certificate names
    finally:
        nodes.shell(tool, f"{CTL} --user root:secret auth disable")
        nodes.shell(
            tool, f"{CTL} user delete root; {CTL} user delete someone; {CTL} role delete app; {CTL} role delete root"
        )
