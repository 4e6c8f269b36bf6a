"""Whether --initial-cluster fits the member that is given it (etcd: server/config/config.go, VerifyBootstrap)."""

from __future__ import annotations

from quorate.membership.member import format_initial_cluster
from quorate.server.bootlog import StartError
from quorate.server.sameurls import Resolve, difference, no_address


def check_initial(
    name: str, urls: dict[str, list[str]], advertised: list[str] | None, resolve: Resolve = no_address
) -> None:
    """Refuse peer URLs by member name that do not fit the member `name`, which advertises these URLs (None: whatever).

    URLs whose hosts resolve to the same addresses are the same. Raises StartError.
    """
    if name not in urls:
        raise StartError(f'couldn\'t find local name "{name}" in the initial cluster configuration')
    if advertised is not None:
        check_advertised(name, urls[name], advertised, resolve)
    if has_duplicate(urls):
        raise StartError(f"initial cluster {format_initial_cluster(urls)} has duplicate url")


def has_duplicate(urls: dict[str, list[str]]) -> bool:
    """Tell whether a URL occurs twice."""
    every = [url for values in urls.values() for url in values]
    return len(set(every)) != len(every)


def check_advertised(name: str, urls: list[str], advertised: list[str], resolve: Resolve) -> None:
    """Refuse an initial cluster that gives this member other peer URLs than it advertises. Raises StartError."""
    initial, own = sorted(urls), sorted(advertised)
    reason = difference(own, initial, resolve)
    if not reason:
        return
    missing = ",".join(f"{name}={url}" for url in initial if url not in own)
    if missing:
        raise StartError(
            f"--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={','.join(own)} ({reason})"
        )
    # Only a different number of them is left: etcd's third text, of URLs that are all there and differ, cannot be.
    missing = ",".join(url for url in own if url not in initial)
    given = ",".join(f"{name}={url}" for url in own)
    raise StartError(f"--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={given}")
