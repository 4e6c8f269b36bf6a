"""Our own version; the etcd version that we are compatible with is in `membership.version`."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0"
