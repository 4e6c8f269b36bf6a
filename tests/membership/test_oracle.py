"""Snapshots between real etcd 3.5.1 and us: we read what it wrote, and it starts from what we write."""

from pathlib import Path

import google_crc32c
import pytest

from quorate.membership.cluster import Cluster
from quorate.membership.v2store import decode_v2store, encode_v2store
from quorate.membership.version import V3_5
from quorate.ports import NullLog
from quorate.proto import snap_pb2
from quorate.proto.raft_pb2 import Snapshot
from tests.oracle import Member

pytestmark = [pytest.mark.oracle, pytest.mark.process]

FLAGS = ["--snapshot-count=10"]


def snap_file(data_dir: str) -> Path:
    return sorted((Path(data_dir) / "member" / "snap").glob("*.snap"))[-1]


def test_real_etcd_starts_from_our_snapshot():
    member = Member("real", flags=FLAGS)
    try:
        member.start()
        added = member.etcdctl("member", "add", "later", "--learner", "--peer-urls=http://127.0.0.1:1")
        assert added.returncode == 0, added.stderr
        learner = added.stdout.split()[1]
        removed = member.etcdctl("member", "remove", learner)
        assert removed.returncode == 0, removed.stderr
        for number in range(15):
            assert member.etcdctl("put", f"k{number}", "v").returncode == 0
        member.stop()

        path = snap_file(member.data_dir)
        outer = snap_pb2.snapshot.FromString(path.read_bytes())
        inner = Snapshot.FromString(outer.data)
        found = decode_v2store(inner.data)
        (known,) = found.members.values()
        assert (known.name, known.client_urls) == ("m1", [member.url])
        assert (found.removed, found.version, found.has_user_data) == ({int(learner, 16)}, V3_5, False)

        # With one more removed id, so that it is seen to be ours.
        cluster = Cluster.from_membership(NullLog(), found)
        cluster.removed.add(0x1234)
        inner.data = encode_v2store(cluster.membership())
        outer.data = inner.SerializeToString()
        outer.crc = google_crc32c.value(outer.data)
        path.write_bytes(outer.SerializeToString())

        member.start()
        listed = member.etcdctl("member", "list")
        assert f"{known.id:x}, started, m1" in listed.stdout
        assert member.etcdctl("get", "k3", "--print-value-only").stdout == "v\n"
        for number in range(15):
            assert member.etcdctl("put", f"k{number}", "w").returncode == 0
        member.stop()
        again = decode_v2store(
            Snapshot.FromString(snap_pb2.snapshot.FromString(snap_file(member.data_dir).read_bytes()).data).data
        )
        assert again.removed == {int(learner, 16), 0x1234}
        assert again.members == found.members
        assert again.version == V3_5
    finally:
        member.close()
