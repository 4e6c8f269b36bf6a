"""Clusters of real processes, ours and real etcd mixed, on loopback ports of their own."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from quorate.proto.rpc_pb2 import PutRequest, PutResponse
from tests.oracle import Member


class CommandError(Exception):
    """etcdctl ended with an error."""


class Cluster:
    """Members m1, m2, ... of one cluster, in the order in which they were made."""

    def __init__(self, kinds: list[str], flags: list[str] | None = None) -> None:
        self.flags = flags or []
        self.members: list[Member] = []
        self._count = 0
        for kind in kinds:
            self.members.append(self._make(kind))
        for member in self.members:
            member.initial_cluster = self.initial_cluster()

    def _make(self, kind: str) -> Member:
        self._count += 1
        return Member(kind, flags=[*self.flags], name=f"m{self._count}")

    def initial_cluster(self) -> str:
        return ",".join(f"{member.name}={member.peer_url}" for member in self.members)

    def start(self) -> Cluster:
        for member in self.members:
            member.start(wait=False)
        for member in self.members:
            member.wait_healthy()
        return self

    def close(self) -> None:
        for member in self.members:
            member.close()

    # -- What operators do

    def ctl(self, member: Member, *args: str, timeout: float = 30) -> str:
        done = member.etcdctl(*args, timeout=timeout)
        if done.returncode:
            raise CommandError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def ctl_json(self, member: Member, *args: str) -> Any:
        return json.loads(self.ctl(member, "-w", "json", *args))

    def retry(self, member: Member, *args: str, timeout: float = 20) -> str:
        """Run etcdctl until it succeeds: after the loss of a leader, or while a member is not yet known as healthy."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.ctl(member, *args)
            except CommandError as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{args}: {error}\n{member.log_tail()}") from None
                time.sleep(0.2)

    def id_of(self, member: Member) -> str:
        listed = self.ctl_json(self.running()[0], "member", "list")["members"]
        for entry in listed:
            if member.peer_url in entry["peerURLs"]:
                return f"{entry['ID']:x}"
        raise AssertionError(f"{member.name} is not in {listed}")

    def running(self) -> list[Member]:
        return [member for member in self.members if member.process is not None]

    def join(self, kind: str) -> Member:
        """Add a member by the operators' guide: member add, then start with state existing."""
        member = self._make(kind)
        self.retry(self.running()[0], "member", "add", member.name, f"--peer-urls={member.peer_url}")
        self.members.append(member)
        member.initial_cluster = self.initial_cluster()
        member.initial_cluster_state = "existing"
        return member.start()

    def leave(self, member: Member) -> None:
        """Remove a member for good."""
        member_id = self.id_of(member)
        others = [other for other in self.running() if other is not member]
        self.retry(others[0], "member", "remove", member_id)
        self.members.remove(member)
        self.leader()

    def puts(self, member: Member, keys: list[str], value: str = "x") -> None:
        """Put keys one by one, each an entry of its own, faster than etcdctl starts."""
        with grpc.insecure_channel(member.endpoint) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
            for key in keys:
                put(PutRequest(key=key.encode(), value=value.encode()), timeout=10)

    # -- What is true of the cluster

    def status(self, member: Member) -> dict[str, Any]:
        status: dict[str, Any] = self.ctl_json(member, "endpoint", "status")[0]["Status"]
        return status

    def leader(self, timeout: float = 15) -> Member:
        """Return the member that leads, once all agree on it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                found = [self.status(member) for member in self.running()]
            except (CommandError, TypeError, IndexError, KeyError):
                found = []
            leaders = {status.get("leader", 0) for status in found}
            if len(leaders) == 1 and 0 not in leaders:
                for member, status in zip(self.running(), found, strict=True):
                    if status["header"]["member_id"] in leaders:
                        return member
            time.sleep(0.1)
        raise AssertionError("no leader: " + "\n".join(member.log_tail(1500) for member in self.running()))

    def followers(self) -> list[Member]:
        leader = self.leader()
        return [member for member in self.running() if member is not leader]

    def hashes(self) -> dict[str, tuple[int, int]]:
        found = {}
        for member in self.running():
            got = self.ctl_json(member, "endpoint", "hashkv")[0]["HashKV"]
            found[member.name] = (got["header"]["revision"], got["hash"])
        return found

    def agree(self, timeout: float = 15) -> int:
        """Wait until all members have the same hash at the same revision; return the revision."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.hashes()
            if len(set(found.values())) == 1:
                return next(iter(found.values()))[0]
            assert time.monotonic() < deadline, f"members differ: {found}"
            time.sleep(0.2)


def until(what: Callable[[], bool], timeout: float = 15) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)


def peer_get(member: Member, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], bytes]:
    """GET from a member's peer port."""
    request = urllib.request.Request(member.peer_url + path, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


@contextmanager
def cluster(kinds: list[str], flags: list[str] | None = None) -> Iterator[Cluster]:
    made = Cluster(kinds, flags)
    try:
        yield made.start()
    finally:
        made.close()
