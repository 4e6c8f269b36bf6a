"""Names in the DNS: the services of a domain (SRV records) and the addresses of hosts.

    _etcd-server-ssl._tcp.DOMAIN, _etcd-server._tcp.DOMAIN      the members of a new cluster, by https and http
    _etcd-client-ssl._tcp.DOMAIN, _etcd-client._tcp.DOMAIN      where clients connect

With a service name NAME the first label is `_etcd-server-ssl-NAME`, and so on. The machine's own resolver is asked,
unless $QUORATE_NAMESERVER names another one ("127.0.0.1:5353"). Every call blocks; the error texts are Go's.
Source: etcd's client/pkg/srv/srv.go, Go's net package (LookupSRV, ResolveTCPAddr).
"""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from dns.resolver import Answer, Resolver

NAMESERVER_VARIABLE: Final = "QUORATE_NAMESERVER"
ANSWER_S: Final = 5.0
LOOKUP_S: Final = 10.0
MEMBERS: Final = "etcd-server"
CLIENTS: Final = "etcd-client"


class LookupFailedError(Exception):
    """A name, or a record of it, was not found, or nobody answered."""


@dataclass(frozen=True)
class Service:
    """One SRV record. `target` ends with a dot, as Go gives it."""

    target: str
    port: int
    priority: int
    weight: int

    @property
    def host_port(self) -> str:
        """The target as "host:port"."""
        return join_host_port(self.target, self.port)


def join_host_port(host: str, port: int | str) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def service_of(service: str, name: str, scheme: str) -> str:
    """Return a service's name in the DNS: with "-ssl" for https, with a suffix when the cluster has a service name."""
    if scheme == "https":
        service += "-ssl"
    return f"{service}-{name}" if name else service


class Names:
    """Looks names up. `nameserver` is "host:port" of the one to ask, the system's when empty."""

    def __init__(self, nameserver: str | None = None) -> None:
        self.nameserver = os.environ.get(NAMESERVER_VARIABLE, "") if nameserver is None else nameserver

    def services(self, service: str, domain: str) -> list[Service]:
        """Return the SRV records of _SERVICE._tcp.DOMAIN in the order to use them in. Raises LookupFailedError."""
        answer = self._query(f"_{service}._tcp.{domain}", "SRV")
        return in_order([Service(str(each.target), each.port, each.priority, each.weight) for each in answer])

    def address(self, host: str) -> str:
        """Return an address of a host, IPv4 where it has one. Raises LookupFailedError."""
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            pass
        if self.nameserver and host.rstrip(".") != "localhost":
            try:
                return str(self._query(host, "A")[0])
            except LookupFailedError:
                return str(self._query(host, "AAAA")[0])
        try:
            found = socket.getaddrinfo(host.rstrip("."), None, type=socket.SOCK_STREAM)
        except OSError as error:
            nobody = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
            raise LookupFailedError(f"lookup {host}: {'no such host' if nobody else error.strerror}") from None
        found.sort(key=lambda each: each[0] != socket.AF_INET)
        return str(found[0][4][0])

    def tcp_address(self, host_port: str) -> str:
        """Return "address:port" for "host:port". Raises LookupFailedError."""
        host, _, port = host_port.rpartition(":")
        return join_host_port(self.address(host.strip("[]")), port)

    def _query(self, name: str, kind: str) -> Answer:
        import dns.exception
        import dns.resolver

        resolver, where = self._resolver()
        try:
            return resolver.resolve(name, kind, search=True)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            reason = "no such host"
        except dns.exception.Timeout:
            reason = "i/o timeout"
        except dns.exception.DNSException:
            reason = "server misbehaving"
        raise LookupFailedError(f"lookup {name}{where}: {reason}")

    def _resolver(self) -> tuple[Resolver, str]:
        """Return the resolver and, for messages, where it asks."""
        import dns.resolver

        resolver = dns.resolver.Resolver(configure=False)
        if self.nameserver:
            host, _, port = self.nameserver.rpartition(":")
            resolver.nameservers = [host.strip("[]")]
            resolver.port = int(port)
        else:
            try:
                resolver.read_resolv_conf("/etc/resolv.conf")
            except dns.resolver.NoResolverConfiguration:
                resolver.nameservers = ["127.0.0.1"]
        resolver.timeout = ANSWER_S
        resolver.lifetime = LOOKUP_S
        return resolver, f" on {join_host_port(str(resolver.nameservers[0]), resolver.port)}"


def in_order(services: Sequence[Service]) -> list[Service]:
    """Return services by priority, and those of one priority at random by their weights (RFC 2782)."""
    ordered: list[Service] = []
    for priority in sorted({service.priority for service in services}):
        left = [service for service in services if service.priority == priority]
        while left:
            at = random.randrange(sum(service.weight for service in left) + 1)
            # Those without weight come first here, so that they have a small chance too.
            left.sort(key=lambda service: service.weight != 0)
            for number, service in enumerate(left):
                at -= service.weight
                if at <= 0:
                    ordered.append(left.pop(number))
                    break
    return ordered


def client_endpoints(names: Names, domain: str, name: str) -> list[str]:
    """Return the URLs that clients of a domain connect to, https first. Raises LookupFailedError when there is none."""
    endpoints: list[str] = []
    problems: list[str] = []
    for scheme in ("https", "http"):
        try:
            found = names.services(service_of(CLIENTS, name, scheme), domain)
        except LookupFailedError as problem:
            problems.append(str(problem))
        else:
            endpoints.extend(f"{scheme}://{service.host_port}" for service in found)
    if len(problems) == 2:
        raise LookupFailedError(f"dns lookup errors: {problems[0]} and {problems[1]}")
    return endpoints


def initial_members(
    names: Names, scheme: str, service: str, own_name: str, domain: str, own_urls: Sequence[str]
) -> list[str]:
    """Return "name=url" of every member that a domain's service has. Raises LookupFailedError when there is none.

    Whoever has the address of one of our own URLs is us; the others are called "0", "1" and so on.
    """
    failed = f"error querying DNS SRV records for _{service} "
    members: list[str] = []
    problem = ""
    number = 0
    own = {names.tcp_address(urlsplit(url).netloc): url for url in own_urls}
    try:
        services = names.services(service, domain)
    except LookupFailedError as error:
        raise LookupFailedError(f"{failed}{error}") from None
    for each in services:
        try:
            ours = own.get(names.tcp_address(each.host_port), "")
        except LookupFailedError as error:
            problem = str(error)
            continue
        name = own_name if ours else ""
        if not name:
            name, number = str(number), number + 1
        url = f"{scheme}://{join_host_port(each.target.removesuffix('.'), each.port)}"
        if ours and urlsplit(ours).scheme != scheme:
            problem = f"bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {ours}"
        else:
            members.append(f"{name}={url}")
    if not members and problem:
        raise LookupFailedError(f"{failed}{problem}")
    return members
