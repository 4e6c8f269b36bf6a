"""The network: links between processes, each direction with a mind of its own.

A link has a delay, and may lose, repeat and reorder what is sent over it; it may be cut, in one direction only. What
travels are bytes, so that no two members share an object. Snapshots travel as the message and the database's bytes.

Left as TCP has it: a forwarded proposal is never repeated (it would be a second write), and what arrives is whole.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from quorate.sim.clock import MS, Clock

_REORDER_NS: Final = 50 * MS


class LinkFaults:
    """What links do to messages."""

    def __init__(self) -> None:
        self.delay_ns = MS
        self.jitter_ns = MS
        self.loss = 0.0
        self.repeat = 0.0
        self.reorder = 0.0
        self.slow = 0.0  # the share of messages that take up to ten times as long


class Network:
    """All links. Endpoints are names: members' and clients'."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.faults = LinkFaults()
        self.cut: dict[tuple[str, str], None] = {}
        self.delivered = 0
        self.lost = 0
        self._last: dict[tuple[str, str], int] = {}  # when the newest message of a link arrives: they keep their order

    def is_cut(self, source: str, target: str) -> bool:
        """Tell whether nothing passes in this direction."""
        return (source, target) in self.cut

    def linked(self, one: str, other: str) -> bool:
        """Tell whether both directions are open."""
        return (one, other) not in self.cut and (other, one) not in self.cut

    def heal(self) -> None:
        """Open all links."""
        self.cut.clear()

    def isolate(self, name: str, others: list[str], inward: bool = True, outward: bool = True) -> None:
        """Cut the links between one and the others, in one direction or both."""
        for other in others:
            if other == name:
                continue
            if inward:
                self.cut[other, name] = None
            if outward:
                self.cut[name, other] = None

    def send(
        self,
        source: str,
        target: str,
        deliver: Callable[[], None],
        when_ns: int,
        repeatable: bool = False,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Send at a time; `deliver` is called when it arrives.

        With `lost` it is part of a connection: it is not lost singly nor out of order, and `lost` is called when the
        link is cut before it arrives.
        """
        rng = self.rng
        faults = self.faults
        if (source, target) in self.cut:
            self.lost += 1
            if lost is not None:
                lost()
            return
        if lost is None and faults.loss and rng.random() < faults.loss:
            self.lost += 1
            return
        delay_ns = faults.delay_ns + int(rng.random() * faults.jitter_ns)
        if faults.slow and rng.random() < faults.slow:
            delay_ns *= 1 + rng.randrange(10)
        arrival_ns = when_ns + delay_ns
        link = (source, target)
        if faults.reorder and lost is None and rng.random() < faults.reorder:
            arrival_ns += rng.randrange(_REORDER_NS)
        else:
            arrival_ns = max(arrival_ns, self._last.get(link, 0) + 1)
            self._last[link] = arrival_ns
        self.clock.at(arrival_ns, _Packet(self, source, target, deliver, lost).arrive)
        if repeatable and faults.repeat and rng.random() < faults.repeat:
            again_ns = arrival_ns + rng.randrange(_REORDER_NS)
            self.clock.at(again_ns, _Packet(self, source, target, deliver, None).arrive)


class _Packet:
    """Something on its way."""

    def __init__(
        self, network: Network, source: str, target: str, deliver: Callable[[], None], lost: Callable[[], None] | None
    ) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._deliver = deliver
        self._lost = lost

    def arrive(self) -> None:
        network = self._network
        if (self._source, self._target) in network.cut:
            network.lost += 1
            if self._lost is not None:
                self._lost()
            return
        network.delivered += 1
        self._deliver()
