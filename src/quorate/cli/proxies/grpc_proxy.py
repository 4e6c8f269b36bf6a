"""`etcd grpc-proxy start`: the gRPC proxy as a command. Source: etcd's server/etcdmain/grpc_proxy.go (3.6)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from quorate.cli.etcdctl.pflag import BOOL, DURATION, INT, LIST, STRING, UINT, Flag, FlagSet
from quorate.cli.proxies import words as proxy_words
from quorate.cli.proxies.discover import discover
from quorate.cli.proxies.gateway import announce
from quorate.client.target import TlsOptions
from quorate.names import LookupFailedError
from quorate.proxy.server import GrpcProxy
from quorate.proxy.settings import ProxySettings
from quorate.runtime.disk import OsDisk
from quorate.runtime.log import ZapLog
from quorate.runtime.loop import UvLoop
from quorate.runtime.tls.files import TlsError
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.urls import UrlError, parse_url
from quorate.server.bootlog import StartError

_SECOND: Final = 10**9
_CALLER: Final = "etcdmain/grpc_proxy.go"

FLAGS: Final = (
    Flag("listen-addr", STRING, "127.0.0.1:23790", "listen address"),
    Flag("discovery-srv", STRING, "", "domain name to query for SRV records describing cluster endpoints"),
    Flag("discovery-srv-name", STRING, "", "service name to query when using DNS discovery"),
    Flag("metrics-addr", STRING, "", "listen for endpoint /metrics requests on an additional interface"),
    Flag("insecure-discovery", BOOL, False, "accept insecure SRV records"),
    Flag("endpoints", LIST, ["127.0.0.1:2379"], "comma separated etcd cluster endpoints"),
    Flag("endpoints-auto-sync-interval", DURATION, 0, "etcd endpoints auto sync interval (disabled by default)"),
    Flag("dial-keepalive-time", DURATION, 0,
         "keepalive time for client(grpc-proxy) connections (default 0, disable)."),
    Flag("dial-keepalive-timeout", DURATION, 20 * _SECOND,
         "keepalive timeout for client(grpc-proxy) connections (default 20s)."),
    Flag("permit-without-stream", BOOL, False,
         "Enable client(grpc-proxy) to send keepalive pings even with no active RPCs."),
    Flag("advertise-client-url", STRING, "127.0.0.1:23790",
         "advertise address to register (must be reachable by client)"),
    Flag("resolver-prefix", STRING, "",
         "prefix to use for registering proxy (must be shared with other grpc-proxy members)"),
    Flag("resolver-ttl", INT, 0, "specify TTL, in seconds, when registering proxy endpoints"),
    Flag("namespace", STRING, "", "string to prefix to all keys for namespacing requests"),
    Flag("enable-pprof", BOOL, False,
         'Enable runtime profiling data via HTTP server. Address is at client URL + "/debug/pprof/"'),
    Flag("data-dir", STRING, "default.proxy", "Data directory for persistent data"),
    Flag("max-send-bytes", INT, 1_572_864, "message send limits in bytes (default value is 1.5 MiB)"),
    Flag("max-recv-bytes", INT, 2**31 - 1, "message receive limits in bytes (default value is math.MaxInt32)"),
    Flag("grpc-keepalive-min-time", DURATION, 5 * _SECOND,
         "Minimum interval duration that a client should wait before pinging proxy."),
    Flag("grpc-keepalive-interval", DURATION, 7200 * _SECOND,
         "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable)."),
    Flag("grpc-keepalive-timeout", DURATION, 20 * _SECOND,
         "Additional duration of wait before closing a non-responsive connection (0 to disable)."),
    Flag("cert", STRING, "", "identify secure connections with etcd servers using this TLS certificate file"),
    Flag("key", STRING, "", "identify secure connections with etcd servers using this TLS key file"),
    Flag("cacert", STRING, "", "verify certificates of TLS-enabled secure etcd servers using this CA bundle"),
    Flag("insecure-skip-tls-verify", BOOL, False, "skip authentication of etcd server TLS certificates "
         "(CAUTION: this option should be enabled only for testing purposes)"),
    Flag("cert-file", STRING, "", "identify secure connections to the proxy using this TLS certificate file"),
    Flag("key-file", STRING, "", "identify secure connections to the proxy using this TLS key file"),
    Flag("trusted-ca-file", STRING, "", "verify certificates of TLS-enabled secure proxy using this CA bundle"),
    Flag("listen-cipher-suites", LIST, [], "Comma-separated list of supported TLS cipher suites between client/proxy "
         "(empty will be auto-populated by Go)."),
    Flag("auto-tls", BOOL, False, "proxy TLS using generated certificates"),
    Flag("client-crl-file", STRING, "", "proxy client certificate revocation list file."),
    Flag("self-signed-cert-validity", UINT, 1, "The validity period of the proxy certificates, unit is year"),
    Flag("tls-min-version", STRING, "TLS1.2",
         "Minimum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3."),
    Flag("tls-max-version", STRING, "",
         "Maximum TLS version supported by grpc proxy. Possible values: TLS1.2, TLS1.3 (empty defers to Go)."),
    Flag("experimental-serializable-ordering", BOOL, False,
         "Ensure serializable reads have monotonically increasing store revisions across endpoints."),
    Flag("experimental-leasing-prefix", STRING, "", "leasing metadata prefix for disconnected linearized reads."),
    Flag("experimental-enable-grpc-logging", BOOL, False, "logging all grpc requests and responses"),
    Flag("debug", BOOL, False, "Enable debug-level logging for grpc-proxy."),
    Flag("max-concurrent-streams", UINT, 2**32 - 1,
         "Maximum concurrent streams that each client can open at a time."),
)  # fmt: skip

NOT_DONE: Final = ("experimental-leasing-prefix", "experimental-enable-grpc-logging")


class _RefusedError(Exception):
    """Why the proxy does not start; the text goes to stderr, as etcd prints it."""


def run(words: Sequence[str]) -> int:
    """Do what the words behind `etcd grpc-proxy` say."""
    return proxy_words.run("grpc-proxy", words, FLAGS, _start)


def _start(flags: FlagSet) -> int:
    log = ZapLog(level="debug" if flags.value("debug") else "info")
    loop = UvLoop(log)
    try:
        _check(flags)
        settings = _settings(flags, log)
        if settings.cluster_tls is not None:
            settings.cluster_tls.context()
        proxy = GrpcProxy(settings, log, loop)
        sockets = proxy.bind()
    except (_RefusedError, OSError, ValueError, LookupFailedError, StartError, TlsError) as error:
        print(error, file=sys.stderr)
        return 1
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a signal simply ends it, as it does etcd's

    async def serve() -> None:
        await proxy.start(sockets)
        announce(log)
        await asyncio.get_running_loop().create_future()

    asyncio.set_event_loop(loop.aio)
    try:
        loop.aio.run_until_complete(serve())
    except (OSError, StartError, TlsError) as error:
        print(error, file=sys.stderr)
    return 1


def _check(flags: FlagSet) -> None:
    prefix, ttl_s = str(flags.value("resolver-prefix")), _int(flags, "resolver-ttl")
    if prefix and ttl_s < 1:
        raise _RefusedError(f"invalid resolver-ttl {ttl_s}")
    if not prefix and ttl_s > 0:
        raise _RefusedError('invalid resolver-prefix ""')
    if prefix and not flags.value("advertise-client-url"):
        raise _RefusedError('invalid advertise-client-url ""')
    if flags.value("auto-tls") and not flags.value("self-signed-cert-validity"):
        raise _RefusedError("selfSignedCertValidity is invalid,it should be greater than 0")
    for name in NOT_DONE:
        if flags.value(name):
            raise _RefusedError(f"--{name} is not supported")


def _int(flags: FlagSet, name: str) -> int:
    value = flags.value(name)
    assert isinstance(value, int)
    return value


def _words(flags: FlagSet, name: str) -> list[str]:
    value: Any = flags.value(name)
    return list(value)


def _settings(flags: FlagSet, log: ZapLog) -> ProxySettings:
    domain, ca_file = str(flags.value("discovery-srv")), str(flags.value("cacert"))
    insecure, name = bool(flags.value("insecure-discovery")), str(flags.value("discovery-srv-name"))
    found = discover(log, domain, ca_file, insecure, name)
    endpoints = [each.url.replace(each.service.target, each.service.target.rstrip(".")) for each in found]
    return ProxySettings(
        endpoints=endpoints or _words(flags, "endpoints"),
        listen_addr=str(flags.value("listen-addr")),
        advertise_client_url=str(flags.value("advertise-client-url")),
        metrics_addr=str(flags.value("metrics-addr")),
        namespace=str(flags.value("namespace")).encode("utf-8", "surrogateescape"),
        resolver_prefix=str(flags.value("resolver-prefix")),
        resolver_ttl_s=_int(flags, "resolver-ttl"),
        max_send_bytes=_int(flags, "max-send-bytes"),
        max_recv_bytes=_int(flags, "max-recv-bytes") or 2**31 - 1,
        max_concurrent_streams=_int(flags, "max-concurrent-streams"),
        keepalive_min_ns=_int(flags, "grpc-keepalive-min-time"),
        keepalive_interval_ns=_int(flags, "grpc-keepalive-interval"),
        keepalive_timeout_ns=_int(flags, "grpc-keepalive-timeout"),
        dial_keepalive_ns=_int(flags, "dial-keepalive-time"),
        dial_keepalive_timeout_ns=_int(flags, "dial-keepalive-timeout"),
        sync_interval_ns=_int(flags, "endpoints-auto-sync-interval"),
        ordering=bool(flags.value("experimental-serializable-ordering")),
        pprof=bool(flags.value("enable-pprof")),
        cluster_tls=_cluster_tls(flags, log),
        listen_tls=_listen_tls(flags, log),
    )


def _cluster_tls(flags: FlagSet, log: ZapLog) -> TlsOptions | None:
    files = [str(flags.value(name)) for name in ("cacert", "cert", "key")]
    skip = bool(flags.value("insecure-skip-tls-verify"))
    if not any(files) and not skip:
        return None
    if bool(files[1]) != bool(files[2]):
        raise _RefusedError(f"KeyFile and CertFile must both be present[key: {files[2]}, cert: {files[1]}]")
    if files[1]:
        _refuse_common_name(files[1])
    if skip:
        text = "--insecure-skip-tls-verify was given, this grpc proxy process skips authentication of etcd server TLS "
        log.warn(_CALLER, f"{text}certificates. This option should be enabled only for testing purposes.")
    info = TlsInfo(cert_file=files[1], key_file=files[2], trusted_ca_file=files[0])
    log.info(_CALLER, "gRPC proxy client TLS", **{"tls-info": info.describe()})
    return TlsOptions(files[0], files[1], files[2], skip_verify=skip)


def _refuse_common_name(path: str) -> None:
    """Refuse a certificate that names a user: the cluster would take every client of the proxy for that one."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    with open(path, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if names and names[0].value:
        raise _RefusedError(f"cert has non empty Common Name ({names[0].value!s}): {path}")


def _listen_tls(flags: FlagSet, log: ZapLog) -> TlsInfo:
    cert, key, ca_file = (str(flags.value(name)) for name in ("cert-file", "key-file", "trusted-ca-file"))
    info = TlsInfo(cert_file=cert, key_file=key, trusted_ca_file=ca_file)
    if not cert and not key and not ca_file and flags.value("auto-tls"):
        from quorate.runtime.tls.selfcert import self_signed

        try:
            url = parse_url(f"https://{flags.value('listen-addr')}")
        except UrlError as error:
            raise _RefusedError(str(error)) from None
        directory = f"{flags.value('data-dir')}/fixtures/proxy"
        info = self_signed(OsDisk(), log, directory, [url], _int(flags, "self-signed-cert-validity"))
    elif cert or key or ca_file:
        info.check()
    info.crl_file = str(flags.value("client-crl-file"))
    info.cipher_suites = _words(flags, "listen-cipher-suites")
    info.min_version = str(flags.value("tls-min-version"))
    info.max_version = str(flags.value("tls-max-version"))
    return info
