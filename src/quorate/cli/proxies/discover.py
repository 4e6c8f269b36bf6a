"""Endpoints from the DNS, as `etcd gateway` and `etcd grpc-proxy` look for them.

Unless insecure ones are welcome, each must be https and its certificate must be good for the domain.
Source: etcd's server/etcdmain/util.go, client/pkg/transport/tls.go.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Final

from quorate.names import CLIENTS, LookupFailedError, Names, Service, service_of
from quorate.ports import Log

_CALLER: Final = "etcdmain/util.go"
_DIAL_S: Final = 10.0


@dataclass(frozen=True)
class Found:
    """An endpoint's URL and the record that it is from."""

    url: str
    service: Service


def discover(log: Log, domain: str, ca_file: str, insecure: bool, service_name: str) -> list[Found]:
    """Return the endpoints of a domain; none for an empty one. Raises LookupFailedError."""
    if not domain:
        return []
    found = look_up(domain, service_name)
    urls = [each.url for each in found]
    log.info(_CALLER, "discovered cluster from SRV", **{"srv-server": domain}, endpoints=urls)
    if insecure:
        return found
    log.info(_CALLER, "validating discovered SRV endpoints", **{"srv-server": domain}, endpoints=urls)
    good, problems = [], []
    for each in found:
        problem = _validate(each, domain, ca_file)
        if problem:
            problems.append(problem)
        else:
            good.append(each)
    urls = [each.url for each in good]
    fields: dict[str, object] = {"srv-server": domain, "endpoints": urls}
    if problems:
        log.warn(_CALLER, "failed to validate discovered endpoints", **fields, error=",".join(problems))
    else:
        log.info(_CALLER, "using validated discovered SRV endpoints", **fields)
    return good


def look_up(domain: str, service_name: str) -> list[Found]:
    """Return the endpoints of a domain, the secure ones first. Raises LookupFailedError when there are none."""
    names = Names()
    found: list[Found] = []
    problems = []
    for scheme in ("https", "http"):
        try:
            services = names.services(service_of(CLIENTS, service_name, scheme), domain)
        except LookupFailedError as error:
            problems.append(str(error))
            continue
        found += [Found(f"{scheme}://{service.host_port}", service) for service in services]
    if len(problems) == 2:
        raise LookupFailedError(f"dns lookup errors: {problems[0]} and {problems[1]}")
    return found


def _validate(found: Found, domain: str, ca_file: str) -> str:
    """Return what is wrong with an endpoint."""
    if not found.url.startswith("https://"):
        return f'"{found.url}" is insecure'
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        address = (Names().address(found.service.target), found.service.port)
        with (
            socket.create_connection(address, _DIAL_S) as plain,
            context.wrap_socket(plain, server_hostname=domain),
        ):
            return ""
    except (OSError, LookupFailedError) as error:
        return str(error)
