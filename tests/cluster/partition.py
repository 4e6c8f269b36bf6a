"""A network between members that can be cut: each peer URL is a proxy's, which holds back what the cut forbids.

A cut is silent, as when a cable is pulled: connections stay open, nothing comes through, nobody is told. When it is
healed, what was held back arrives after all, as TCP would send it again.
"""

from __future__ import annotations

import asyncio
import threading

import psutil

from tests.cluster.harness import Cluster
from tests.oracle import Member, free_port


class Link:
    """One TCP connection from a member to a member."""

    def __init__(self, source_port: int, target: Member) -> None:
        self.source_port = source_port
        self.target = target
        self.open = asyncio.Event()
        self.open.set()


class Network:
    """The proxies of all members, in one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._links: set[Link] = set()
        self._cut: list[Member] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def stand_before(self, member: Member) -> None:
        """Take the member's peer port, and give it another one to listen on."""
        member.peer_listen_port = free_port()
        asyncio.run_coroutine_threadsafe(self._listen(member), self._loop).result(5)

    def cut_off(self, members: list[Member]) -> None:
        """Let nothing through, either way, between these members and any member."""
        asyncio.run_coroutine_threadsafe(self._set_cut(members), self._loop).result(5)

    def heal(self) -> None:
        """Let everything through."""
        self.cut_off([])

    def close(self) -> None:
        """Close all connections and end the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self, member: Member) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._serve(member, reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                writer.close()
                self._tasks.discard(task)

        await asyncio.start_server(accept, "127.0.0.1", member.peer_port)

    async def _serve(self, member: Member, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer.get_extra_info("peername")[1], member)
        self._links.add(link)
        try:
            if self._is_cut(link, self._cut_ports()):
                link.open.clear()
                await link.open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", member.peer_listen_port)
            try:
                # The end of either direction is the end of the connection: nobody half-closes.
                pumps = [asyncio.create_task(pump(link, *ends)) for ends in ((reader, back), (there, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in pumps:
                        task.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                back.close()
        finally:
            self._links.discard(link)

    async def _set_cut(self, members: list[Member]) -> None:
        self._cut = members
        ports = self._cut_ports()
        for link in self._links:
            if self._is_cut(link, ports):
                link.open.clear()
            else:
                link.open.set()

    def _cut_ports(self) -> set[int]:
        """Return the local ports of all connections of the members that are cut off."""
        found = set()
        for member in self._cut:
            assert member.process is not None
            connections = psutil.Process(member.process.pid).net_connections("tcp")
            found.update(connection.laddr.port for connection in connections)
        return found

    def _is_cut(self, link: Link, ports: set[int]) -> bool:
        return link.target in self._cut or link.source_port in ports

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until the end, while the link is open."""
    while True:
        data = await reader.read(1 << 16)
        await link.open.wait()
        if not data:
            return
        writer.write(data)
        await writer.drain()


class CuttableCluster(Cluster):
    """A cluster whose members can be cut off from each other; clients always reach them."""

    def __init__(self, kinds: list[str], flags: list[str] | None = None) -> None:
        self.network = Network()
        super().__init__(kinds, flags)

    def _make(self, kind: str) -> Member:
        member = super()._make(kind)
        self.network.stand_before(member)
        return member

    def close(self) -> None:
        super().close()
        self.network.close()
