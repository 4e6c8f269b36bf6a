"""Receiving a snapshot: the database goes to the disk, whole and synced, before raft hears of the message.

    body -> tmp<n> (written and synced in the storage thread) -> <index>.snap.db -> MsgSnap is stepped -> 204

At most QUEUED_BYTES wait for the disk; then the sender is not read. Anything that goes wrong removes the tmp file and
is answered with an error: the sender reports the failure to its raft and tries again. What a crash leaves behind is
removed at the next start.
Source: etcd server/etcdserver/api/rafthttp/http.go (snapshotHandler), api/snap/db.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.ports import Disk, File, Loop
from quorate.raft.codec import decode_message
from quorate.raft.types import MSG_SNAP, Message
from quorate.storage.snapfile import snap_db_name
from quorate.wire.web import HttpReply, HttpRequest

MAX_HEAD_BYTES: Final = 64 << 20
QUEUED_BYTES: Final = 8 << 20
WRITE_BYTES: Final = 1 << 20

Respond = Callable[[HttpReply, int, str], None]
Process = Callable[[Message], tuple[int, str]]


class SnapshotReceive:
    """One snapshot that comes in.

    `refusal(message)` says why it is not wanted; `process(message)` returns (204, "") or the status and text to answer.
    """

    def __init__(
        self,
        loop: Loop,
        disk: Disk,
        directory: str,
        name: str,
        request: HttpRequest,
        reply: HttpReply,
        refusal: Callable[[Message], str],
        process: Process,
        respond: Respond,
        ended: Callable[[SnapshotReceive, bool], None],
    ) -> None:
        self.bytes = 0
        self.began_ns = loop.monotonic_ns()
        self.sync_ns = 0
        self.message: Message | None = None
        self._loop = loop
        self._disk = disk
        self._directory = directory
        self._path = f"{directory}/{name}"
        self._request = request
        self._reply = reply
        self._refusal = refusal
        self._process = process
        self._respond = respond
        self._ended = ended
        self._head: list[bytes] = []
        self._head_bytes = 0
        self._file: File | None = None
        self._offset = 0
        self._queue: list[bytes] = []
        self._queued = 0
        self._writing = False
        self._complete = False
        self._over = False

    def start(self) -> None:
        """Take the body from now on."""
        self._request.on_body = self._on_body
        self._request.on_body_end = self._on_body_end
        self._reply.on_end = self._broken

    def _broken(self) -> None:
        self._fail(0, "")

    def _on_body(self, data: bytes) -> None:
        if self._over:
            return
        self.bytes += len(data)
        if self.message is None:
            self._head.append(data)
            self._head_bytes += len(data)
            self._parse_head()
        else:
            self._add(data)

    def _parse_head(self) -> None:
        if self._head_bytes < 8:
            return
        first = b"".join(self._head) if len(self._head[0]) < 8 else self._head[0]
        length = int.from_bytes(first[:8], "big")
        if length > MAX_HEAD_BYTES:
            self._fail(400, "failed to read the snapshot's message: it is too long")
            return
        if self._head_bytes < 8 + length:
            return
        data = b"".join(self._head)
        self._head = []
        try:
            message = decode_message(data[8 : 8 + length])
        except ValueError as error:
            self._fail(400, str(error))
            return
        if message.type != MSG_SNAP or message.snapshot is None or message.snapshot.index == 0:
            self._fail(400, "wrong raft message type")
            return
        refusal = self._refusal(message)
        if refusal:
            self._fail(403, refusal)  # before its database fills the disk
            return
        self.message = message
        self._add(data[8 + length :])

    def _add(self, data: bytes) -> None:
        if data:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued >= WRITE_BYTES:
                self._write()
            if self._queued > QUEUED_BYTES:
                self._request.pause_body()

    def _on_body_end(self) -> None:
        if self._over:
            return
        if self.message is None:
            self._fail(400, "unexpected EOF")
            return
        self._complete = True
        self._write()

    def _write(self) -> None:
        """Let the storage thread write what is there."""
        if self._writing or self._over:
            return
        if not self._queue and not self._complete:
            return
        self._writing = True
        job = _Write(self._disk, self._path, self._file, b"".join(self._queue), self._offset, self._complete)
        self._offset += self._queued
        self._queue = []
        self._queued = 0
        if self._complete and self.message is not None and self.message.snapshot is not None:
            job.final = f"{self._directory}/{snap_db_name(self.message.snapshot.index)}"
            job.directory = self._directory
        self._request.resume_body()
        self._loop.work(job.run, self._written)

    def _written(self, result: object, error: BaseException | None) -> None:
        self._writing = False
        if isinstance(result, _Write):
            self._file = result.file
            self.sync_ns = result.sync_ns
            if self._over:
                self._discard()
            elif result.final:
                self._finish()
            elif self._complete or self._queued >= WRITE_BYTES:
                self._write()
            return
        self._fail(500, f"failed to save KV snapshot ({error})")

    def _finish(self) -> None:
        assert self.message is not None
        self._over = True
        status, text = self._process(self.message)
        self._ended(self, status == 204)
        self._respond(self._reply, status, text)

    def _fail(self, status: int, text: str) -> None:
        if self._over:
            return
        self._over = True
        self._head = []
        self._queue = []
        self._ended(self, False)
        if not self._writing:
            self._discard()
        if status:
            self._respond(self._reply, status, text)

    def _discard(self) -> None:
        file = self._file
        self._file = None
        self._loop.work(_Discard(self._disk, self._path, file).run, _done)


def _done(_result: object, _error: BaseException | None) -> None:
    """A file that could not be removed is removed at the next start."""


class _Write:
    """What the storage thread does: write a piece; at the end sync, close, rename."""

    def __init__(self, disk: Disk, path: str, file: File | None, data: bytes, offset: int, last: bool) -> None:
        self.file = file
        self.final = ""
        self.directory = ""
        self.sync_ns = 0
        self._disk = disk
        self._path = path
        self._data = data
        self._offset = offset
        self._last = last

    def run(self) -> object:
        """Do it, in the storage thread."""
        if self.file is None:
            self.file = self._disk.open(self._path, create=True)
        if self._data:
            self.file.write_at(self._data, self._offset)
        if not self._last:
            return self
        file = self.file
        file.sync()
        file.close()
        self.file = None
        if self._disk.exists(self.final):
            self._disk.remove(self._path)  # sent twice; both are the state at that index
        else:
            self._disk.rename(self._path, self.final)
        self._disk.sync_dir(self.directory)
        return self


class _Discard:
    """Removes a file that is worth nothing."""

    def __init__(self, disk: Disk, path: str, file: File | None) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    def run(self) -> object:
        """Do it, in the storage thread."""
        if self._file is not None:
            self._file.close()
        if self._disk.exists(self._path):
            self._disk.remove(self._path)
        return None
