"""Whether --initial-cluster fits the member that is given it (etcd: server/config/config.go, VerifyBootstrap)."""

from __future__ import annotations

from quorate.membership.member import format_initial_cluster
from quorate.server.bootlog import StartError


def check_initial(name: str, urls: dict[str, list[str]], advertised: list[str] | None) -> None:
    """Refuse peer URLs by member name that do not fit the member `name`, which advertises these URLs (None: whatever).

    Raises StartError.
    """
    if name not in urls:
        raise StartError(f'couldn\'t find local name "{name}" in the initial cluster configuration')
    if advertised is not None:
        check_advertised(name, urls[name], advertised)
    every = [url for values in urls.values() for url in values]
    if len(set(every)) != len(every):
        raise StartError(f"initial cluster {format_initial_cluster(urls)} has duplicate url")


def check_advertised(name: str, urls: list[str], advertised: list[str]) -> None:
    """Refuse an initial cluster that gives this member other peer URLs than it advertises. Raises StartError."""
    initial, own = sorted(urls), sorted(advertised)
    if initial == own:
        return
    pairs = [(a, b) for a, b in zip(own, initial, strict=False) if a != b] or [(",".join(own), ",".join(initial))]
    first = pairs[0]
    reason = f'"{first[0]}"(resolved from "{first[0]}") != "{first[1]}"(resolved from "{first[1]}")'
    if len(own) != len(initial):
        reason = f"len({_go_list(own)}) != len({_go_list(initial)})"
    missing = ",".join(f"{name}={url}" for url in initial if url not in own)
    if missing:
        raise StartError(
            f"--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={','.join(own)} ({reason})"
        )
    missing = ",".join(url for url in own if url not in initial)
    given = ",".join(f"{name}={url}" for url in own)
    raise StartError(f"--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={given}")


def _go_list(texts: list[str]) -> str:
    quoted = " ".join(f'"{text}"' for text in texts)
    return f"[{quoted}]"
