"""Embedded members that form one cluster, in one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from quorate.client import BlockingClient, Client
from quorate.testing.member import EmbeddedMember, clear


class EmbeddedCluster:
    """`size` members named m1, m2, ... with temporary directories; `settings` as for EmbeddedMember.

    All members share this process and so one core: it is for correctness, not for speed. Stop a member
    (`cluster.members[0].stop()`) to see what a program does then; a majority must be left for writes.
    """

    def __init__(self, size: int = 3, **settings: Any) -> None:
        self.members = [EmbeddedMember(name=f"m{number + 1}", **settings) for number in range(size)]
        for member in self.members:
            text = ",".join(f"{each.name}={each.peer_url}" for each in self.members)
            member._settings.setdefault("initial_cluster", text)

    @property
    def endpoints(self) -> list[str]:
        """host:port of all members."""
        return [member.endpoint for member in self.members]

    def client(self, **options: Any) -> BlockingClient:
        """Return a blocking client of all members; `options` are those of BlockingClient."""
        return BlockingClient(self.endpoints, **options)

    def async_client(self, **options: Any) -> Client:
        """Return an asyncio client of all members; `options` are those of Client."""
        return Client(self.endpoints, **options)

    def start(self) -> EmbeddedCluster:
        """Start all members at once. Raises what hinders one of them."""
        with ThreadPoolExecutor(len(self.members)) as pool:
            list(pool.map(lambda member: member.start(), self.members))
        return self

    def leader(self) -> EmbeddedMember | None:
        """Return the running member that leads; None when there is none just now."""
        for member in self.members:
            if member.running:
                with member.client() as client:
                    status = client.status()
                    if status.leader == status.header.member_id:
                        return member
        return None

    def clear(self) -> None:
        """Start what was stopped, then remove all keys, leases, users, roles and alarms. Raises EtcdError."""
        self.start()
        with self.client(timeout_s=10) as client:
            clear(client)

    def close(self) -> None:
        """Stop all members and remove their directories."""
        with ThreadPoolExecutor(len(self.members)) as pool:
            list(pool.map(lambda member: member.close(), self.members))

    def __enter__(self) -> EmbeddedCluster:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
