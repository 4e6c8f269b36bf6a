"""Sizes as people read them, in etcd's form."""

from __future__ import annotations


def human_bytes(size: int) -> str:
    """Return a size as etcd logs and prints it: "999 B", "1.0 kB", "83 MB" (dustin/go-humanize: Bytes)."""
    if size < 10:
        return f"{size} B"
    scaled = float(size)
    power = 0
    while scaled >= 1000 and power < 6:
        scaled /= 1000
        power += 1
    rounded = int(scaled * 10 + 0.5) / 10
    unit = ("B", "kB", "MB", "GB", "TB", "PB", "EB")[power]
    return f"{rounded:.1f} {unit}" if rounded < 10 else f"{rounded:.0f} {unit}"
