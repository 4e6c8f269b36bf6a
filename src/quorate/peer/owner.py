"""What streams and pipelines tell whoever they belong to."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from quorate.membership.version import Version
from quorate.raft.types import Message


@mypyc_attr(allow_interpreted_subclasses=True)
class Owner:
    """The peer that streams and a pipeline belong to."""

    def url(self) -> str:
        """Return the URL to dial."""
        raise NotImplementedError

    def received(self, messages: list[Message], size: int) -> None:
        """Take messages that came, in so many bytes."""
        raise NotImplementedError

    def reader_up(self, kind: int, version: Version) -> None:
        """A reader's stream stands, to a member of this version."""
        raise NotImplementedError

    def reader_down(self, kind: int, url: str, reason: str) -> None:
        """A reader's stream is gone, or could not be had."""
        raise NotImplementedError

    def writer_down(self, kind: int, reason: str) -> None:
        """A writer has lost its stream."""
        raise NotImplementedError

    def posted(self, url: str, size: int) -> None:
        """A message has arrived by POST."""
        raise NotImplementedError

    def post_failed(self, url: str, reason: str) -> None:
        """A message has not arrived by POST."""
        raise NotImplementedError

    def removed(self) -> None:
        """The other member says that we are not in the cluster any more."""
        raise NotImplementedError
