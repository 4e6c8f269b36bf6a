"""Maintenance.Snapshot: the db file, streamed from a pinned view of what was committed when the call came.

    {remaining_bytes, blob: 32768 bytes, version}   as often as it takes, the last one shorter
    {blob: SHA-256 of all blobs, version}           then the end

Contract: memory is bounded by a few pieces, however large the file and however slow the client: the next piece is read,
in the worker, when the client has taken the ones before. The view is given back when the call is over, in either way.
A view that is held for long keeps the file from reusing its pages, as in etcd.
Source: etcd's server/etcdserver/api/v3rpc/maintenance.go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Final

from quorate.errors import UNKNOWN, RpcError
from quorate.server.core import Server
from quorate.storage.view import ReadView
from quorate.units import human_bytes
from quorate.wire.protobuf import bytes_field, message_field, varint_field
from quorate.wire.rpc import ServerCall

BLOB_BYTES: Final = 32 * 1024
_BLOBS_A_PIECE: Final = 8
_WAITING_BYTES: Final = 2 * _BLOBS_A_PIECE * BLOB_BYTES
_CALLER: Final = "v3rpc/maintenance.go"


class SnapshotCall:
    """One Snapshot call."""

    def __init__(self, server: Server, call: ServerCall, version: str) -> None:
        self._server = server
        self._call = call
        self._version = bytes_field(4, version.encode())
        self._view: ReadView | None = None
        self._blobs: Iterator[bytes] = iter(())
        self._digest = hashlib.sha256()
        self._remaining = 0
        self._total = 0
        self._reading = False
        self._over = False
        self._started_ns = server.loop.monotonic_ns()
        call.on_end = self._stop
        call.on_drain = self._go_on
        server.backend.snapshot_view(self._begin)

    def _begin(self, view: ReadView) -> None:
        if self._over:
            view.close()
            return
        self._view = view
        self._total = self._remaining = view.size
        self._blobs = view.chunks(BLOB_BYTES)
        fields = {"total-bytes": self._total, "size": human_bytes(self._total)}
        self._server.log.info(_CALLER, "sending database snapshot to client", **fields)
        self._go_on()

    def _stop(self) -> None:
        """Give the view back, when the worker does not read from it any more."""
        self._over = True
        if not self._reading and self._view is not None:
            self._view.close()
            self._view = None

    def _go_on(self) -> None:
        """Have the next piece read if the client has room for it."""
        if self._over or self._reading or self._view is None or self._call.queued_bytes() > _WAITING_BYTES:
            return
        self._reading = True
        self._server.loop.work(self._read, self._have_read)

    def _read(self) -> list[bytes]:
        # In the worker; nothing else touches the iterator and the digest while it is there.
        piece = list(islice(self._blobs, _BLOBS_A_PIECE))
        for blob in piece:
            self._digest.update(blob)
        return piece

    def _have_read(self, piece: object, error: BaseException | None) -> None:
        self._reading = False
        if self._over:
            self._stop()
        elif error is not None:
            self._call.fail(RpcError(UNKNOWN, str(error)))
            self._stop()
        else:
            assert isinstance(piece, list)
            self._send(piece)

    def _send(self, piece: list[bytes]) -> None:
        for blob in piece:
            self._remaining -= len(blob)
            self._call.send(varint_field(2, self._remaining) + message_field(3, blob) + self._version)
        if len(piece) == _BLOBS_A_PIECE:
            self._go_on()
            return
        assert self._remaining == 0, self._remaining
        self._finish()

    def _finish(self) -> None:
        self._call.send(message_field(3, self._digest.digest()) + self._version)
        took_s = (self._server.loop.monotonic_ns() - self._started_ns) / 1e9
        fields = {"total-bytes": self._total, "size": human_bytes(self._total), "took": f"{took_s:.3f}s"}
        self._server.log.info(_CALLER, "successfully sent database snapshot to client", **fields)
        self._call.finish()
        self._stop()
