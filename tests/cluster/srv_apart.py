"""Run by test_discovery in a network of its own (unshare -rmn): a mixed cluster by the SRV records of port 53.

There the system's resolver can be ours, which real etcd cannot be told otherwise.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import tempfile

from tests.cluster.test_discovery import Found, lone_error, srv_records
from tests.fakes.dns_server import DnsServer

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _UP_AND_RUNNING))
    with tempfile.NamedTemporaryFile("w") as resolver:
        resolver.write("nameserver 127.0.0.1\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        made = Found(["ours", "real", "ours"], ["--discovery-srv=quorate.test"])
        server = DnsServer({**srv_records(made), ("localhost", "A"): ["127.0.0.1"]}, ("127.0.0.1", 53))
        try:
            for member in made.members:
                member.flags = [f"--initial-advertise-peer-urls=http://localhost:{member.peer_port}"]
            made.start()
            made.puts(made.members[0], ["a"])
            made.agree()
            ids = {made.status(member)["header"]["cluster_id"] for member in made.members}
            assert len(ids) == 1, ids
            for domain in ("quorate.test", "nowhere.test"):
                ours, real = (lone_error(kind, [f"--discovery-srv={domain}"]) for kind in ("ours", "real"))
                # From 3.6 on a line each.
                assert ours.split("\n") == real.split("; "), (ours, real)
        finally:
            made.close()
            server.close()


if __name__ == "__main__":
    main()
