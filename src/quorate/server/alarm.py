"""Alarms: conditions of members that all members know, kept in bucket `alarm` (key: AlarmMember, value: empty).

Contract: changed only by entries of the log. NOSPACE stops writes that need room, CORRUPT stops all writes. Each
entry asks for `no_space` and `corrupt`, so both are plain attributes. Source: etcd server/etcdserver/api/v3alarm.
"""

from __future__ import annotations

from typing import Final

from quorate.errors import CorruptError
from quorate.storage import schema
from quorate.storage.backend import Backend

NONE: Final = 0
NOSPACE: Final = 1
CORRUPT: Final = 2


class Alarms:
    """The raised alarms of the cluster, as (alarm type, member id)."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._raised: set[tuple[int, int]] = set()
        self.no_space = False
        self.corrupt = False

    def recover(self) -> None:
        """Load the alarms from the backend."""
        self._raised = set()
        for key, _ in self._backend.range(schema.ALARM, b"", b"\xff" * 16):
            try:
                member_id, alarm = schema.decode_alarm(key)
            except ValueError as error:
                raise CorruptError("db", -1, f"bucket alarm, key {key.hex()}: {error}") from error
            self._raised.add((alarm, member_id))
        self._note()

    def list(self, alarm: int = NONE) -> list[tuple[int, int]]:
        """Return the raised alarms of a type (NONE: of all), by type and member."""
        return [pair for pair in sorted(self._raised) if alarm in (NONE, pair[0])]

    def has(self, alarm: int, member_id: int) -> bool:
        """Tell whether a member has raised an alarm."""
        return (alarm, member_id) in self._raised

    def activate(self, alarm: int, member_id: int) -> None:
        """Raise an alarm; nothing happens when it is raised already."""
        if (alarm, member_id) not in self._raised:
            self._raised.add((alarm, member_id))
            self._backend.put(schema.ALARM, schema.encode_alarm(member_id, alarm), b"")
            self._note()

    def deactivate(self, alarm: int, member_id: int) -> bool:
        """Disarm an alarm; False when it was not raised."""
        if (alarm, member_id) not in self._raised:
            return False
        self._raised.discard((alarm, member_id))
        self._backend.delete(schema.ALARM, schema.encode_alarm(member_id, alarm))
        self._note()
        return True

    def _note(self) -> None:
        self.no_space = any(alarm == NOSPACE for alarm, _ in self._raised)
        self.corrupt = any(alarm == CORRUPT for alarm, _ in self._raised)
