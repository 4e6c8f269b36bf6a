"""Snapshots to a file: the database, then 32 bytes of SHA-256 that the server sends last.

`SnapshotFile` takes the chunks, for the asyncio client and for etcdctl alike: they go to `<path>.part`, which is synced
and renamed only when the digest is right. Source: etcd's client/v3/snapshot/v3_snapshot.go.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from quorate import errors
from quorate.client.errors import EtcdError, SnapshotError, public
from quorate.client.methods import SNAPSHOT
from quorate.errors import RpcError
from quorate.proto import rpc_pb2 as pb

if TYPE_CHECKING:
    from quorate.client.channel import Channel

DIGEST_BYTES = 32
ATTEMPTS = 4


class SnapshotFile:
    """A snapshot on its way to the disk."""

    def __init__(self, path: str) -> None:
        """Open `<path>.part`. Raises OSError."""
        self.path = path
        self.part = path + ".part"
        self.size = 0
        self._tail = b""
        self._hash = hashlib.sha256()
        descriptor = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, blob: bytes) -> None:
        """Take a chunk. Raises OSError."""
        self._file.write(blob)
        self.size += len(blob)
        data = self._tail + blob
        self._hash.update(data[:-DIGEST_BYTES])
        self._tail = data[-DIGEST_BYTES:]

    def finish(self) -> None:
        """Check the digest, make the file durable and give it its name. Raises SnapshotError, OSError."""
        if self.size % 512 != DIGEST_BYTES:
            self.abandon()
            raise SnapshotError(f"sha256 checksum not found [bytes: {self.size}]")
        if self._hash.digest() != self._tail:
            self.abandon()
            raise SnapshotError("sha256 checksum of the snapshot does not match")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.part, self.path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self.part)


async def save_snapshot(channel: Channel, path: str) -> int:
    """Fetch a snapshot from the present endpoint; return the bytes written.

    The protocol cannot go on in the middle: when the connection breaks, it starts over, at the next endpoint.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return await _attempt(channel, path)
        except EtcdError as error:
            if left == 0 or error.code not in (errors.UNAVAILABLE, errors.DATA_LOSS):
                raise
    raise AssertionError("unreachable")


async def _attempt(channel: Channel, path: str) -> int:
    link, stream = await channel.stream(SNAPSHOT)
    file = SnapshotFile(path)
    try:
        stream.send_last(pb.SnapshotRequest().SerializeToString())
        while (data := await stream.next()) is not None:
            file.write(SNAPSHOT.decode(data).blob)
    except RpcError as error:
        file.abandon()
        channel.leave(link)
        if channel.stale(error):
            channel.forget_token(stream.headers)
            raise EtcdError(errors.UNAVAILABLE, error.text) from None
        raise public(error, False) from None
    except BaseException:
        file.abandon()
        raise
    finally:
        stream.cancel()
    file.finish()
    return file.size
