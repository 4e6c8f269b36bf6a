"""Three servers that talk through the peer room, of which one has another history than the others."""

from __future__ import annotations

import json

import pytest

from quorate import errors
from quorate.mvcc.needs import KEY_BUCKET
from quorate.mvcc.revision import main_of
from quorate.ports import Log
from quorate.proto.kv_pb2 import KeyValue
from quorate.proto.rpc_pb2 import AlarmRequest, AlarmType, CompactionRequest
from quorate.server.alarm import CORRUPT
from quorate.server.bootlog import StartError
from quorate.server.bootstrap import Bootstrap, BootstrapOptions
from quorate.server.config import ServerConfig
from quorate.server.core import Server
from quorate.server.join import Answer as HttpAnswer
from quorate.server.join import Elsewhere
from quorate.server.peerhash import COMPACTED, FUTURE_REV, OTHER_CLUSTER, read_hash
from tests.peer.test_network import World as PeerWorld
from tests.server.world import SECOND, Answer

CHECK_NS = 3 * SECOND


class KeepLog(Log):
    """Remembers messages."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def debug(self, caller: str, msg: str, **fields: object) -> None:
        self.lines.append((msg, fields))

    info = debug
    warn = debug
    error = debug

    def texts(self) -> list[str]:
        return [text for text, _ in self.lines]


class World(PeerWorld):
    """The peer room's world, with one of the checks on."""

    def __init__(self, periodic: bool) -> None:
        super().__init__()
        self.logs: dict[str, KeepLog] = {}
        for name, server in self.servers.items():
            log = KeepLog()
            self.logs[name] = log
            server._corruption.log = log
            server.config.corrupt_check_ns = CHECK_NS if periodic else 0
            server.config.compact_hash_check = not periodic
            server.config.compact_hash_check_ns = CHECK_NS
            server._corruption.start()
        self.leader()
        self.loop.advance(2 * SECOND)

    def fill(self) -> None:
        answers = [self.put(self.leader(), b"k%d" % (number % 5), b"%d" % number) for number in range(10)]
        self.wait(*answers)
        self.loop.advance(SECOND // 2)

    def compact(self, rev: int) -> None:
        answer = Answer()
        request = CompactionRequest(revision=rev, physical=True)
        self.servers[self.leader()].compact(request, request.SerializeToString(), answer)
        self.wait(answer)
        self.loop.advance(SECOND // 2)

    def followers(self) -> list[str]:
        return [name for name in self.servers if name != self.leader()]

    def alarms(self) -> list[list[tuple[int, int]]]:
        return [server.alarms.list() for server in self.servers.values()]


def tamper(server: Server, rev: int, value: bytes = b"tampered") -> None:
    """Change the value that a revision has written, behind the store's back."""
    for revision, record in server.backend.range(KEY_BUCKET, b"", b"\xff" * 18):
        if main_of(revision) == rev:
            pair = KeyValue.FromString(record)
            pair.value = value
            server.backend.put(KEY_BUCKET, revision, pair.SerializeToString())
            return
    raise AssertionError(f"no revision {rev}")


def test_the_periodic_check_is_content_with_equal_members() -> None:
    world = World(periodic=True)
    world.fill()
    world.compact(6)
    world.loop.advance(4 * CHECK_NS)
    log = world.logs[world.leader()]
    assert ("finished peer corruption check", {"number-of-peers-checked": 2}) in log.lines
    assert log.texts()[0] == "enabled corruption checking"
    assert world.alarms() == [[], [], []]
    for name in world.followers():
        assert world.logs[name].texts() == ["enabled corruption checking"]


def test_the_periodic_check_finds_the_odd_one_and_writes_stop() -> None:
    world = World(periodic=True)
    world.fill()
    odd = world.servers[world.followers()[0]]
    tamper(odd, 7)
    world.loop.advance(2 * CHECK_NS)
    assert world.alarms() == [[(CORRUPT, odd.member_id)]] * 3
    assert "same compact revision then hashes must match" in world.logs[world.leader()].texts()
    for name in world.servers:
        refused = world.put(name, b"k", b"v")
        world.loop.run_until(lambda refused=refused: refused.done)
        assert refused.error is errors.CORRUPT
        assert refused.error.text == "etcdserver: corrupt cluster"
    # Disarmed, and still different: the next pass raises it again.
    request = AlarmRequest(action=AlarmRequest.DEACTIVATE, memberID=odd.member_id, alarm=AlarmType.CORRUPT)
    disarmed = Answer()
    world.servers[world.leader()].alarm(request, request.SerializeToString(), disarmed)
    world.wait(disarmed)
    world.loop.advance(2 * CHECK_NS)
    assert world.alarms() == [[(CORRUPT, odd.member_id)]] * 3


def test_the_periodic_check_passes_over_a_member_that_is_away() -> None:
    world = World(periodic=True)
    world.fill()
    away = world.followers()[0]
    tamper(world.servers[away], 7)
    world.cut = {away}
    world.loop.advance(4 * CHECK_NS)
    log = world.logs[world.leader()]
    assert ("finished peer corruption check", {"number-of-peers-checked": 1}) in log.lines
    assert "failed hash kv request" in log.texts()
    assert not world.servers[world.leader()].alarms.list()


def test_the_compact_hash_check_is_content_and_does_not_ask_twice() -> None:
    world = World(periodic=False)
    world.fill()
    world.compact(4)
    world.compact(8)
    world.loop.advance(3 * CHECK_NS)
    log = world.logs[world.leader()]
    done = [fields for text, fields in log.lines if text == "successfully checked hash on whole cluster"]
    # A pass may have come between the two compactions.
    assert [fields["revision"] for fields in done] in ([8], [4, 8])
    assert ("finished compaction hash check", {"number-of-hashes-checked": 0}) in log.lines
    assert world.alarms() == [[], [], []]


@pytest.mark.parametrize("leads", [False, True])
def test_the_compact_hash_check_blames_the_minority(leads: bool) -> None:
    world = World(periodic=False)
    world.fill()
    odd = world.servers[world.leader() if leads else world.followers()[1]]
    tamper(odd, 8)
    world.compact(9)
    world.loop.advance(2 * CHECK_NS)
    assert world.alarms() == [[(CORRUPT, odd.member_id)]] * 3
    lines = dict(world.logs[world.leader()].lines)
    assert lines["Detected compaction hash mismatch"]["quorum-exist"] is True
    assert lines["Detected compaction hash mismatch"]["peer-ids"] == f"{odd.member_id:x}"


def test_the_compact_hash_check_without_a_majority_blames_the_cluster() -> None:
    world = World(periodic=False)
    world.fill()
    for number, name in enumerate(world.followers()):
        tamper(world.servers[name], 8, b"%d-th" % number)
    world.compact(9)
    world.loop.advance(2 * CHECK_NS)
    assert world.alarms() == [[(CORRUPT, 0)]] * 3
    refused = world.put(world.leader(), b"k", b"v")
    world.loop.run_until(lambda: refused.done)
    assert refused.error is errors.CORRUPT


class Others(Elsewhere):
    """What running members answer on their peer ports."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked: list[str] = []

    def get(self, urls: list[str], limit_ns: int) -> list[HttpAnswer | None]:
        raise AssertionError("a restart asks nobody for members")

    def ask(self, urls: list[str], limit_ns: int, headers: dict[str, str], body: bytes) -> list[HttpAnswer | None]:
        self.asked += urls
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        answers: list[HttpAnswer | None] = []
        for url in urls:
            name = url.partition("://")[2].partition(":")[0]
            if name in self.world.cut:
                answers.append(None)
                continue
            status, answer = self.world.ask(name, b"GET", "/members/hashkv", fields, body)
            answers.append(HttpAnswer(status, {}, answer))
        return answers


def restart(world: World, name: str, log: Log, tampered: int = 0, compact: int = 0) -> Others:
    """Stop a member, perhaps tamper with it, and start it with the check; what it has asked comes back."""
    server = world.servers[name]
    if tampered:
        tamper(server, tampered)
    stopped: list[bool] = []
    world.networks[name].stop()
    server.stop(lambda: stopped.append(True))
    world.loop.run_until(lambda: bool(stopped))
    del world.servers[name], world.handlers[name]
    if compact:
        world.compact(compact)
    config = ServerConfig(name=name, data_dir="d", snap_dir="d/member/snap", wal_dir="d/member/wal")
    config.initial_corrupt_check = True
    others = Others(world)
    options = BootstrapOptions(initial_cluster=world.urls, peer_urls=world.urls[name])
    parts = Bootstrap(world.loop, world.disks[name], log, config, options, others).run()
    parts.wal.close()
    parts.backend.close()
    return others


def test_the_initial_check_lets_an_equal_member_start() -> None:
    world = World(periodic=True)
    world.fill()
    name, log = world.followers()[0], KeepLog()
    others = restart(world, name, log)
    assert sorted(others.asked) == sorted(
        f"{url}/members/hashkv" for other, urls in world.urls.items() if other != name for url in urls
    )
    assert "initial corruption checking passed; no corruption" in log.texts()
    assert not any(text.startswith("found different") for text in log.texts())


def test_the_initial_check_refuses_to_start_with_another_history() -> None:
    world = World(periodic=True)
    world.fill()
    name, log = world.followers()[0], KeepLog()
    member_id = world.servers[name].member_id
    with pytest.raises(StartError, match=f"^{member_id:x} found data inconsistency with peers$"):
        restart(world, name, log, tampered=7)
    assert log.texts().count("found different hash values from remote peer") == 2
    assert "checkInitialHashKV failed" in log.texts()


def test_the_initial_check_does_not_compare_across_a_compaction() -> None:
    world = World(periodic=True)
    world.fill()
    log = KeepLog()
    restart(world, world.followers()[0], log, tampered=7, compact=9)
    assert log.texts().count("found different compact revision values from remote peer") == 2


def test_the_initial_check_passes_when_nobody_answers() -> None:
    world = World(periodic=True)
    world.fill()
    log = KeepLog()
    name = world.followers()[0]
    world.cut = set(world.servers) - {name}
    restart(world, name, log, tampered=7)
    assert "initial corruption checking passed; no corruption" in log.texts()


def test_answers_are_read_with_suspicion() -> None:
    whole = {"header": {"revision": 7}, "hash": 2886734853, "compact_revision": 3, "hash_revision": 5}
    answer = read_hash(9, 200, json.dumps(whole).encode())
    assert (answer.member_id, answer.error, answer.rev, answer.hash, answer.compact_rev) == (9, "", 7, 2886734853, 3)
    empty = read_hash(9, 200, b'{"header":{}}')
    assert (empty.error, empty.rev, empty.hash, empty.compact_rev) == ("", 0, 0, 0)
    assert read_hash(9, 400, b"mvcc: required revision has been compacted\n").error == COMPACTED
    assert read_hash(9, 400, b"mvcc: required revision is a future revision\n").error == FUTURE_REV
    assert read_hash(9, 412, b"cluster ID mismatch\n").error == OTHER_CLUSTER
    assert read_hash(9, 500, b"oh").error == "unknown error: oh"
    for body in (b"", b"[]", b"{}", b"null", b'{"header":[]}', b'{"header":{"revision":"x"}}', b"[" * 100_000):
        assert read_hash(9, 200, body).error == "malformed response"
