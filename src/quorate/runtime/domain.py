"""The members of a new cluster as a domain's SRV records have them (--discovery-srv, --discovery-srv-name).

Source: etcd's server/embed/config.go (PeerURLsMapAndToken, GetDNSClusterNames).
"""

from __future__ import annotations

from typing import Final

from quorate.membership.member import parse_initial_cluster
from quorate.names import MEMBERS, LookupFailedError, Names, initial_members, service_of
from quorate.ports import Log
from quorate.runtime.settings import MemberSettings
from quorate.server.bootlog import StartError

_CALLER: Final = "embed/config.go"


def members_of_domain(settings: MemberSettings, log: Log) -> dict[str, list[str]]:
    """Return the peer URLs of the initial members by name. Raises StartError."""
    found: list[str] = []
    problems: list[str] = []
    for scheme, section in (("https", "etcd-server-ssl"), ("http", "etcd-server")):
        members, problem = _members(settings, scheme)
        if problem:
            problems.append(problem)
        found.extend(members)
        fields: dict[str, object] = {
            "service-scheme": scheme,
            "service-name": service_of(MEMBERS, settings.srv_name, scheme),
            "server-name": settings.name,
            "discovery-srv": settings.srv_domain,
            "advertise-peer-urls": [url.text for url in settings.advertise_peer_urls],
            "found-cluster": members,
        }
        if problem:
            fields["error"] = problem
        log.info(_CALLER, f"get cluster for {section} SRV", **fields)
    text = "\n".join(problems)
    if problems:
        log.warn(_CALLER, "failed to resolve during SRV discovery", error=text)
    if not found and problems:
        raise StartError(f"error setting up initial cluster: {text}")
    for member in found:
        log.info(_CALLER, "got bootstrap from DNS for etcd-server", node=member)
    try:
        urls = parse_initial_cluster(",".join(found))
    except ValueError as error:
        raise StartError(f"error setting up initial cluster: {error}") from None
    if found and settings.name not in urls:
        raise StartError(
            f'error setting up initial cluster: cannot find local etcd member "{settings.name}" in SRV records'
        )
    return urls


def _members(settings: MemberSettings, scheme: str) -> tuple[list[str], str]:
    service = service_of(MEMBERS, settings.srv_name, scheme)
    own = [url.text for url in settings.advertise_peer_urls]
    try:
        return initial_members(Names(), scheme, service, settings.name, settings.srv_domain, own), ""
    except LookupFailedError as error:
        return [], str(error)
