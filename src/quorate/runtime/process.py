"""One member as a whole process: from settings to the exit status.

SIGTERM and SIGINT stop the member in order, and are then raised again with their default action, so that whoever waits
for us sees 143 and 130; process 1 cannot be killed so and exits with 0. Before the member is ready, and at the second
signal, they end the process at once. When it is ready, systemd is told (READY=1 to $NOTIFY_SOCKET).
Source: etcd's server/etcdmain/etcd.go, pkg/osutil/interrupt_unix.go, coreos/go-systemd's sdnotify.go.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from typing import Final

from quorate.errors import CorruptError
from quorate.runtime.log import ZapLog, stack_of
from quorate.runtime.member import Member, MemberLoop, log_fatal
from quorate.runtime.settings import MemberSettings
from quorate.runtime.sockets import ListenError
from quorate.server.bootlog import StartError
from quorate.server.join import DiscoveryFailedError

_MAIN: Final = "etcdmain/etcd.go"
_SIGNAL_NAMES: Final = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupt"}

# After the load nothing that lives long is made of containers that could form cycles, so the collector has little to
# find; what requests leave behind is freed by its reference count.
_GC_THRESHOLDS: Final = (50_000, 20, 100)


class Process:
    """The run of one member."""

    def __init__(self, settings: MemberSettings, log: ZapLog) -> None:
        self.settings = settings
        self.log = log
        self.loop = MemberLoop(log)
        self.member = Member(settings, log, self.loop)
        self.member.on_ready = self._ready
        self.member.on_removed = self._removed
        self.status = 0
        self.signal: int | None = None

    def run(self) -> int:
        """Run until a signal, or until the member leaves its cluster; return the exit status."""
        # Before the member is ready a signal has its default action; Python's own handler would raise instead.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _raise_descriptor_limit()
        if not self._look_at_data_dir():
            return 1
        try:
            self.member.start()
        except DiscoveryFailedError as error:
            self._explain(error)
            return 1
        except StartError as error:
            self.log.fatal(_MAIN, error.headline, error=str(error))
            return 1
        except ListenError as error:
            self.log.fatal(_MAIN, StartError.headline, error=str(error))
            return 1
        except (CorruptError, OSError) as error:
            log_fatal(self.log, error)
            return 1
        self.loop.run()
        self.log.close()
        if self.signal is not None and os.getpid() != 1:
            signal.signal(self.signal, signal.SIG_DFL)
            os.kill(os.getpid(), self.signal)
        return self.status

    def _explain(self, failed: DiscoveryFailedError) -> None:
        log, cause = self.log, failed.cause
        fields: dict[str, object] = {"discovery-token": self.settings.registry.token if self.settings.registry else ""}
        anew = "do not reuse discovery token; generate a new one to bootstrap a cluster"
        if cause.duplicate == "id":
            fields = {"name": self.settings.name, **fields}
            text = "member has been registered with discovery service"
            log.warn(_MAIN, text, **fields, error=str(cause))
            where = {"data-dir": self.settings.data_dir}
            log.warn(_MAIN, "but could not find valid cluster configuration", **where)
            log.warn(_MAIN, "check data dir if previous bootstrap succeeded")
            log.warn(_MAIN, "or use a new discovery token if previous bootstrap failed")
        elif cause.duplicate == "name":
            text = "member with duplicated name has already been registered"
            log.warn(_MAIN, text, **fields, error=str(cause))
            log.warn(_MAIN, "cURL the discovery token URL for details")
            log.warn(_MAIN, anew)
        else:
            text = "failed to bootstrap; discovery token was already used"
            log.warn(_MAIN, text, **fields, error=str(failed))
            log.warn(_MAIN, anew)

    def _look_at_data_dir(self) -> bool:
        """Say what kind of directory it is; False when it is none that we can start on."""
        path = self.settings.data_dir
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            names = []
        except OSError as error:
            self.log.fatal(_MAIN, "failed to list data directory", dir=path, error=error.strerror or str(error))
            return False
        for name in sorted(names):
            if name not in ("member", "proxy"):
                fields = {"filename": name, "data-dir": path}
                self.log.warn(_MAIN, "found invalid file under data directory", **fields)
        if "proxy" in names:
            both = "member" in names
            text = "invalid datadir; both member and proxy directories exist"
            self.log.fatal(_MAIN, text if both else "v2 http proxy has already been deprecated in 3.6", dir=path)
            return False
        known = "member" in names
        fields = {"data-dir": path, "dir-type": "member" if known else "empty"}
        text = "server has already been initialized" if known else "Initialize and start etcd server"
        self.log.info(_MAIN, text, **fields)
        return True

    def _ready(self) -> None:
        for number in _SIGNAL_NAMES:
            self.loop.aio.add_signal_handler(number, self._on_signal, number)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self.log.info("etcdmain/main.go", "notifying init daemon")
        try:
            notify_ready(os.environ.get("NOTIFY_SOCKET", ""))
        except OSError as error:
            self.log.warn("etcdmain/main.go", "failed to notify systemd for readiness", error=str(error))
            return
        self.log.info("etcdmain/main.go", "successfully notified init daemon")

    def _removed(self) -> None:
        # etcd waits a second as well, so that the answer to whoever removed us gets out.
        self.loop.later(1_000_000_000, lambda: self.member.stop(self.loop.stop))

    def _on_signal(self, number: int) -> None:
        self.signal = number
        name = _SIGNAL_NAMES[signal.Signals(number)]
        self.log.info("osutil/interrupt_unix.go", "received signal; shutting down", signal=name)
        for each in _SIGNAL_NAMES:
            self.loop.aio.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        self.member.stop(self.loop.stop)


def notify_ready(path: str) -> None:
    """Tell systemd that we are ready; an empty path means that nobody waits. Raises OSError."""
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect("\0" + path[1:] if path[0] == "@" else path)
        sock.send(b"READY=1")


def _raise_descriptor_limit() -> None:
    # As Go's runtime does: each client is a descriptor.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return


def serve(settings: MemberSettings, log: ZapLog) -> int:
    """Run a member as this process and return the exit status."""
    try:
        return Process(settings, log).run()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        log.fatal(_MAIN, "unexpected error; the member stops", error=what, stacktrace=stack_of(error))
        return 1
