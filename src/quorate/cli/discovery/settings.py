"""Which discovery service the settings ask for, if any."""

from __future__ import annotations

from quorate.cli.settings import SettingError, Values
from quorate.client.target import TlsOptions, parse_targets
from quorate.server.join import Registry


def chosen_registry(values: Values) -> Registry | None:
    """Return the registry of --discovery or --discovery-endpoints; SettingError for what cannot be."""
    if values.text("discovery"):
        from quorate.cli.discovery.v2 import V2Registry

        return V2Registry(values.text("discovery"), values.text("discovery-proxy"))
    endpoints = [endpoint.strip() for endpoint in values.words("discovery-endpoints")]
    if not endpoints:
        return None
    from quorate.cli.discovery.v3 import Service, V3Registry

    tls = _tls(values)
    try:
        parse_targets(endpoints, tls is not None)
    except ValueError as error:
        raise SettingError(f"--discovery-endpoints: {error}") from None
    user, password = values.text("discovery-user"), values.text("discovery-password")
    if not password:
        user, _, password = user.partition(":")
    return V3Registry(
        Service(
            endpoints,
            values.text("discovery-token"),
            dial_timeout_s=values.number("discovery-dial-timeout") / 1e9,
            request_timeout_s=values.number("discovery-request-timeout") / 1e9,
            keepalive_s=values.number("discovery-keepalive-time") / 1e9,
            keepalive_timeout_s=values.number("discovery-keepalive-timeout") / 1e9,
            tls=tls,
            user=user,
            password=password,
        )
    )


def _tls(values: Values) -> TlsOptions | None:
    """Return TLS options when files, or --discovery-insecure-transport=false, ask for TLS."""
    cert, key, ca = (values.text(f"discovery-{name}") for name in ("cert", "key", "cacert"))
    skip = values.on("discovery-insecure-skip-tls-verify")
    if bool(cert) != bool(key):
        raise SettingError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    if not (cert or ca or skip) and values.on("discovery-insecure-transport"):
        return None
    return TlsOptions(ca, cert, key, skip)
