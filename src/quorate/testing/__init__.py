"""A real member inside a test process: no binary, no container, up in a moment.

    with EmbeddedMember() as etcd, etcd.client() as client:
        client.put("k", "v")

It is the same server as the command `etcd`, on ports of its own on the loopback, in a thread of its own, in a temporary
directory without fsync unless told otherwise. `EmbeddedCluster` is three of them (or more) that form a cluster. With
pytest, the fixtures of `quorate_pytest` need no import at all.

Any client works with them, `quorate.client` only comes at hand.
"""

from quorate.testing.cluster import EmbeddedCluster
from quorate.testing.member import EmbeddedMember

__all__ = ["EmbeddedCluster", "EmbeddedMember"]
