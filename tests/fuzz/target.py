"""What a fuzz target is: a check that takes any bytes, and the seeds from which mutations start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REGISTRY: Final[dict[str, Target]] = {}


class Target:
    """`check(data)` returns quietly when its invariant holds for this input, and raises whatever is wrong otherwise."""

    def __init__(self, name: str, check: Callable[[bytes], None], seeds: Callable[[], list[bytes]]) -> None:
        self.name = name
        self.check = check
        self.seeds = seeds


def target(seeds: Callable[[], list[bytes]]) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Register a function as a target under its own name; its docstring is the invariant."""

    def register(check: Callable[[bytes], None]) -> Callable[[bytes], None]:
        assert check.__doc__, check.__name__
        name = check.__name__
        REGISTRY[name] = Target(name, check, seeds)
        return check

    return register


class Cutter:
    """Takes numbers and pieces off an input, so that a mutated input is still a program of the same kind."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        """The next byte, 0 behind the end."""
        at = self.at
        self.at += 1
        return self.data[at] if at < len(self.data) else 0

    def number(self, width: int) -> int:
        """The next `width` bytes as a number."""
        return int.from_bytes(self.take(width), "big")

    def take(self, size: int) -> bytes:
        """The next bytes, fewer at the end."""
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def piece(self) -> bytes:
        """Bytes behind a length of two bytes."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.data))


def piece(data: bytes) -> bytes:
    """What `Cutter.piece` takes off again."""
    return len(data).to_bytes(2, "big") + data


def cut(data: bytes, step: int) -> list[bytes]:
    """The data in pieces of `step` bytes."""
    return [data[at : at + step] for at in range(0, len(data), step)]
