"""`etcdctl -w protobuf` prints the response as it came over the wire: the messages must be equal, field for field."""

from __future__ import annotations

import json
import subprocess

import pytest
from google.protobuf.message import Message

from quorate.proto import rpc_pb2 as pb
from tests.oracle import real_binary
from tests.parity.pair import Pair, Side

pytestmark = [pytest.mark.oracle, pytest.mark.process]

TO_EACH_ITS_OWN = ("cluster_id", "member_id", "raft_term")


def printed(side: Side, words: tuple[str, ...], stdin: str | None) -> tuple[int, bytes]:
    command = [real_binary("etcdctl"), f"--endpoints={side.member.endpoint}", *words, "-w", "protobuf"]
    done = subprocess.run(command, input=(stdin or "").encode(), capture_output=True, timeout=30, check=False)
    return done.returncode, done.stdout


def same(pair: Pair, answer: type[Message] | None, *words: str, stdin: str | None = None) -> list[Message]:
    """Run on both; compare exit codes and messages, less what must differ. None: nothing is printed."""
    outcomes = [printed(side, words, stdin) for side in pair.sides]
    assert outcomes[0][0] == outcomes[1][0], words
    if answer is None:
        assert [out for _, out in outcomes] == [b"", b""]
        return []
    assert outcomes[0][0] == 0, words
    messages = [answer.FromString(out) for _, out in outcomes]
    for message, (_, out) in zip(messages, outcomes, strict=True):
        assert len(out) > 0
        for field in TO_EACH_ITS_OWN:
            assert getattr(message.header, field) > 0  # type: ignore[attr-defined]
            message.header.ClearField(field)  # type: ignore[attr-defined]
    assert messages[1] == messages[0]
    return messages


def test_keys(pair: Pair) -> None:
    same(pair, pb.PutResponse, "put", "pb/a", "1")
    same(pair, pb.PutResponse, "put", "pb/a", "2", "--prev-kv")
    same(pair, pb.PutResponse, "put", "pb/b", "3")
    for words in (
        ["pb/a"],
        ["pb/none"],
        ["pb/", "--prefix"],
        ["pb/", "--prefix", "--limit=1"],
        ["pb/", "--prefix", "--keys-only"],
        ["pb/", "--prefix", "--order=DESCEND", "--sort-by=MODIFY"],
        ["pb/", "--from-key"],
        ["pb/a", "--rev=2"],
        ["pb/a", "--consistency=s"],
    ):
        same(pair, pb.RangeResponse, "get", *words)
    same(pair, None, "get", "pb/a", "--rev=99999")
    same(pair, None, "get", "pb/", "--prefix", "--count-only")
    same(pair, pb.TxnResponse, "txn", stdin='version("pb/a") > "1"\n\nput pb/a 4\nget pb/a\ndel pb/b\n\nget pb/b\n\n')
    same(pair, pb.TxnResponse, "txn", stdin='version("pb/a") = "1"\n\nput pb/a 4\n\nget pb/b\n\n')
    same(pair, pb.DeleteRangeResponse, "del", "pb/", "--prefix", "--prev-kv")
    same(pair, pb.DeleteRangeResponse, "del", "pb/", "--prefix")
    same(pair, None, "put", "pb/a", "1", "--lease=1234567")


def test_leases(pair: Pair) -> None:
    """Of a granted or renewed lease etcdctl prints no more than the header."""
    ids = []
    for side in pair.sides:
        granted = side.member.etcdctl("lease", "grant", "500")
        ids.append(granted.stdout.split()[1])
    for words in (
        ("grant", "400"),
        ("keep-alive", "{lease}", "--once"),
        ("timetolive", "{lease}"),
        ("revoke", "{lease}"),
    ):
        outcomes = []
        for side, lease in zip(pair.sides, ids, strict=True):
            code, out = printed(side, ("lease", *(word.replace("{lease}", lease) for word in words)), None)
            header = pb.ResponseHeader.FromString(out)
            outcomes.append((code, header.revision, header.raft_term > 0))
        assert outcomes[1] == outcomes[0], words
    same(pair, None, "lease", "revoke", "1234567")


def test_members_and_alarms(pair: Pair) -> None:
    for side in pair.sides:
        listed = pb.MemberListResponse.FromString(printed(side, ("member", "list"), None)[1])
        found = json.loads(side.member.etcdctl("member", "list", "-w", "json").stdout)
        assert [member.ID for member in listed.members] == [member["ID"] for member in found["members"]]
        assert (listed.members[0].name, list(listed.members[0].clientURLs)) == ("m1", [side.member.url])
    same(pair, pb.AlarmResponse, "alarm", "list")


@pytest.mark.parametrize("words", [("endpoint", "status"), ("endpoint", "hashkv"), ("member", "remove", "1")], ids=str)
def test_what_has_no_protobuf_form_or_fails(pair: Pair, words: tuple[str, ...]) -> None:
    same(pair, None, *words)
