"""A member of a mixed cluster whose database was changed on disk: it may not start, or gets the alarm when it does."""

from __future__ import annotations

import pytest

from quorate.mvcc.needs import KEY_BUCKET
from quorate.ports import NullLog
from quorate.proto.kv_pb2 import KeyValue
from quorate.runtime.disk import OsDisk
from quorate.storage.backend import Backend, BackendOptions
from tests.cluster.harness import CommandError, cluster, until
from tests.oracle import Member
from tests.server.world import FakeLoop

pytestmark = [pytest.mark.process, pytest.mark.oracle]

INITIAL = "--experimental-initial-corrupt-check=true"


def tamper(member: Member, key: bytes) -> None:
    """Change the value of a key in a stopped member's database."""
    loop = FakeLoop()
    backend = Backend(loop, OsDisk(), f"{member.data_dir}/member/snap/db", NullLog(), BackendOptions())
    changed = 0
    for revision, record in backend.range(KEY_BUCKET, b"", b"\xff" * 18):
        pair = KeyValue.FromString(record)
        if pair.key == key:
            pair.value = b"tampered"
            backend.put(KEY_BUCKET, revision, pair.SerializeToString())
            changed += 1
    assert changed == 1
    done: list[bool] = []
    backend.commit(lambda: done.append(True))
    loop.run_until(lambda: bool(done))
    backend.close()


def test_a_tampered_member_may_not_start_or_is_reported() -> None:
    with cluster(["ours", "ours", "real"], [INITIAL, "--experimental-corrupt-check-time=1s"]) as made:
        odd = made.members[1]
        made.puts(made.members[0], [f"k{number}" for number in range(20)])
        made.agree()
        odd.stop()
        odd.start()
        assert "initial corruption checking passed; no corruption" in odd.log_tail(100_000)
        odd.stop()
        tamper(odd, b"k7")
        with pytest.raises(RuntimeError, match="found data inconsistency with peers"):
            odd.start()
        odd.stop()
        assert odd.log_tail(100_000).count("found different hash values from remote peer") == 2
        odd.flags.remove(INITIAL)
        leader = made.members[0]
        if made.leader() is not leader:
            made.ctl(made.leader(), "move-leader", made.id_of(leader))
        odd.start(wait=False)  # the alarm may come before it was ever healthy
        odd_id = made.id_of(odd)
        until(lambda: "CORRUPT" in made.ctl(leader, "alarm", "list"))
        assert "same compact revision then hashes must match" in leader.log_tail(100_000)
        assert made.ctl(leader, "alarm", "list").strip() == f"memberID:{int(odd_id, 16)} alarm:CORRUPT"
        for member in made.members:
            with pytest.raises(CommandError, match="etcdserver: corrupt cluster"):
                made.ctl(member, "put", "k", "v")
