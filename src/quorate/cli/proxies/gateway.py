"""`etcd gateway start`: the TCP proxy as a command. Source: etcd's server/etcdmain/gateway.go."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from quorate.cli.etcdctl.pflag import BOOL, DURATION, LIST, STRING, Flag, FlagSet
from quorate.cli.proxies import words as proxy_words
from quorate.cli.proxies.discover import discover
from quorate.names import LookupFailedError
from quorate.proxy.tcp import Remote, TcpProxy, listen_tcp, lookup_host, split_host_port
from quorate.runtime.log import ZapLog
from quorate.runtime.process import notify_ready

FLAGS: Final = (
    Flag("listen-addr", STRING, "127.0.0.1:23790", "listen address"),
    Flag("discovery-srv", STRING, "", "DNS domain used to bootstrap initial cluster"),
    Flag("discovery-srv-name", STRING, "", "service name to query when using DNS discovery"),
    Flag("insecure-discovery", BOOL, False, "accept insecure SRV records"),
    Flag("trusted-ca-file", STRING, "", "path to the client server TLS CA file for verifying the discovered endpoints "
         "when discovery-srv is provided."),
    Flag("endpoints", LIST, ["127.0.0.1:2379"], "comma separated etcd cluster endpoints"),
    Flag("retry-delay", DURATION, 60 * 10**9, "duration of delay before retrying failed endpoints"),
)  # fmt: skip


class _RefusedError(Exception):
    """Why the gateway does not start; the text goes to stdout, as etcd prints it."""


def run(words: Sequence[str]) -> int:
    """Do what the words behind `etcd gateway` say."""
    return proxy_words.run("gateway", words, FLAGS, _start)


def _start(flags: FlagSet) -> int:
    log = ZapLog()
    log.info("etcdmain/gateway.go", "Running: ", args=list(sys.argv))
    try:
        remotes = _remotes(flags, log)
        host, port = _listen_address(flags, remotes)
        if not remotes:
            raise _RefusedError("no endpoints found\n")
        sock = listen_tcp(host, port)
    except _RefusedError as refused:
        sys.stdout.write(str(refused))
        return 1
    except (OSError, LookupFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    retry_ns = flags.value("retry-delay")
    assert isinstance(retry_ns, int)
    # A signal simply ends it, as it does etcd's.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    proxy = TcpProxy(remotes, retry_ns / 1e9, log)
    asyncio.run(proxy.run(sock, lambda: announce(log)))
    return 0


def announce(log: ZapLog) -> None:
    """Tell systemd that we are ready."""
    log.info("etcdmain/main.go", "notifying init daemon")
    try:
        notify_ready(os.environ.get("NOTIFY_SOCKET", ""))
    except OSError as error:
        log.warn("etcdmain/main.go", "failed to notify systemd for readiness", error=str(error))
        return
    log.info("etcdmain/main.go", "successfully notified init daemon")


def _remotes(flags: FlagSet, log: ZapLog) -> list[Remote]:
    domain, name, ca_file = (
        str(flags.value(each)) for each in ("discovery-srv", "discovery-srv-name", "trusted-ca-file")
    )
    found = discover(log, domain, ca_file, bool(flags.value("insecure-discovery")), name)
    if found:
        services = [each.service for each in found]
        return [Remote(each.target, each.port, each.priority, each.weight) for each in services]
    endpoints = flags.value("endpoints")
    assert isinstance(endpoints, list)
    remotes = []
    for endpoint in endpoints:
        try:
            host, port = split_host_port(_without_scheme(endpoint))
        except ValueError:
            raise _RefusedError(f'error parsing endpoint "{_without_scheme(endpoint)}"') from None
        digits = port[: len(port) - len(port.lstrip("0123456789"))]
        remotes.append(Remote(host, int(digits or 0) & 0xFFFF))
    return remotes


def _without_scheme(endpoint: str) -> str:
    try:
        return urlsplit(endpoint).netloc or endpoint
    except ValueError:
        return endpoint


def _listen_address(flags: FlagSet, remotes: list[Remote]) -> tuple[str, str]:
    """Return where to listen, which must not be where we would connect to."""
    address = str(flags.value("listen-addr"))
    try:
        host, port = split_host_port(address)
    except ValueError:
        raise _RefusedError(f"failed to validate listen address: {address}\n") from None
    try:
        own = lookup_host(host)
    except OSError:
        raise _RefusedError(f"failed to resolve listen host: {host}\n") from None
    for remote in remotes:
        try:
            theirs = lookup_host(remote.host)
        except OSError:
            raise _RefusedError(f"failed to resolve endpoint host: {remote.host}\n") from None
        if str(remote.port) == port:
            for each in theirs:
                if each in own:
                    where = f"({remote.host}:{port}->{each}:{port})"
                    text = f"SRV or endpoint {where} should not resolve to the gateway listen addr ({address})\n"
                    raise _RefusedError(text)
    return host, port
