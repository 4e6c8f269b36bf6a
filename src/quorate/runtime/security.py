"""What a member's settings mean for its sockets: certificates checked or made at start, a gate for each TLS listener.

Texts and order are those of etcd's server/embed/etcd.go (configurePeerListeners, configureClientListeners). Unlike
etcd, which finds a bad client certificate only when it is ready to serve, all files are looked at before anything else.
"""

from __future__ import annotations

from typing import Final

from quorate.ports import Disk, Log
from quorate.runtime.loop import UvLoop
from quorate.runtime.settings import MemberSettings
from quorate.runtime.sockets import join_host_port
from quorate.runtime.tls.ciphers import check_http2, check_names
from quorate.runtime.tls.contexts import ClientContext, ServerContext
from quorate.runtime.tls.files import TlsError
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.tls.serve import ON_CLIENTS, ON_PEERS, TlsGate
from quorate.runtime.urls import Url
from quorate.server.bootlog import StartError

_EMBED: Final = "embed/etcd.go"
_CONFIG: Final = "embed/config.go"


class ListenerFailedError(StartError):
    """A client listener cannot be."""

    headline = "listener failed"


class PeerCertError(StartError):
    """The certificate for other members cannot be made."""

    headline = "failed to get peer self-signed certs"


class ClientCertError(StartError):
    """The certificate for clients cannot be made."""

    headline = "failed to get client self-signed certs"


class Security:
    """The TLS of one member."""

    def __init__(self, settings: MemberSettings, loop: UvLoop, disk: Disk, log: Log) -> None:
        self.dialing: ClientContext | None = None
        """For connections to other members."""

        self._settings = settings
        self._loop = loop
        self._disk = disk
        self._log = log
        self._peers: ServerContext | None = None
        self._clients: ServerContext | None = None

    def prepare_peers(self) -> None:
        """Look at everything for other members, make what is to be made, and warn. Raises StartError."""
        settings, log = self._settings, self._log
        check_names(settings.peer_tls.cipher_suites)
        if settings.peer_auto_tls and not settings.peer_tls.empty:
            log.warn(_CONFIG, "ignoring peer auto TLS since certs given")
        elif settings.peer_auto_tls:
            settings.peer_tls = self._self_signed("peer", settings.peer_tls, settings.listen_peer_urls, PeerCertError)
        info = settings.peer_tls
        if not info.empty:
            fields = {"tls-info": info.describe(), "cipher-suites": info.cipher_suites}
            log.info(_EMBED, "starting with peer TLS", **fields)
        for url in settings.listen_peer_urls:
            fields = {"peer-url": url.text}
            if url.scheme == "http" and not info.empty:
                text = "scheme is HTTP while key and cert files are present; ignoring key and cert files"
                log.warn(_EMBED, text, **fields)
            if url.scheme == "http" and info.client_cert_auth:
                text = "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
                log.warn(_EMBED, text, **fields)
        try:
            for url in settings.listen_peer_urls:
                if url.is_secure and info.empty:
                    where = url.host if url.is_unix else join_host_port(*_ends(url))
                    raise StartError(f"cannot listen on TLS for {where}: KeyFile and CertFile are not presented")
                if url.is_secure and self._peers is None:
                    self._peers = ServerContext(info, log)
        except (TlsError, StartError) as error:
            problem = str(error)
            log.error(_EMBED, "creating peer listener failed", error=problem)  # noqa: TRY400
            raise StartError(problem) from None
        try:
            self.dialing = ClientContext(info, log)
        except TlsError as error:
            raise StartError(str(error)) from None

    def peers_of_domain(self, domain: str, members: dict[str, list[str]]) -> None:
        """Ask of members that a domain's records name for certificates that name the domain, as etcd does."""
        info = self._settings.peer_tls
        secure = any(url.startswith("https://") for urls in members.values() for url in urls)
        if secure and not info.trusted_ca_file:
            info.server_name = domain

    def prepare_clients(self) -> None:
        """Look at everything for clients and metrics, make what is to be made, and warn. Raises StartError."""
        settings, log = self._settings, self._log
        check_names(settings.client_tls.cipher_suites)
        urls = [*settings.listen_client_urls, *settings.listen_client_http_urls]
        if settings.auto_tls and not settings.client_tls.empty:
            log.warn(_CONFIG, "ignoring client auto TLS since certs given")
        elif settings.auto_tls:
            settings.client_tls = self._self_signed("client", settings.client_tls, urls, ClientCertError)
        info = settings.client_tls
        for url in urls:
            fields = {"client-url": url.text}
            if not url.is_secure and url.scheme in ("http", "unix"):
                if not info.empty:
                    text = "scheme is http or unix while key and cert files are present; ignoring key and cert files"
                    log.warn(_EMBED, text, **fields)
                if info.client_cert_auth:
                    text = "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for "
                    log.warn(_EMBED, f"{text}this URL", **fields)
            elif info.empty:
                text = "TLS key/cert (--cert-file, --key-file) must be provided for client url"
                raise StartError(f"{text} {url.text} with HTTPS scheme")
        if any(url.is_secure for url in settings.listen_metrics_urls) and info.empty:
            raise StartError("client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
        if any(url.is_secure for url in (*urls, *settings.listen_metrics_urls)):
            try:
                check_http2(info.cipher_suites, info.min_version)
                self._clients = ServerContext(info, log)
            except (TlsError, StartError) as error:
                kind = ListenerFailedError if any(url.is_secure for url in urls) else StartError
                raise kind(str(error)) from None

    def _self_signed(self, what: str, given: TlsInfo, urls: list[Url], problem: type[StartError]) -> TlsInfo:
        from quorate.runtime.tls.selfcert import self_signed

        settings = self._settings
        directory = f"{settings.data_dir}/fixtures/{what}"
        try:
            made = self_signed(self._disk, self._log, directory, urls, settings.self_signed_validity_years)
        except StartError as error:
            raise problem(str(error)) from None
        # As in etcd, nothing else of what was given holds for a certificate of our own making.
        made.cipher_suites = given.cipher_suites
        made.min_version, made.max_version = given.min_version, given.max_version
        if given.client_cert_auth or given.trusted_ca_file:
            self._log.warn(_CONFIG, f"{what} certificates are not verified with auto TLS")
        return made

    def log_clients(self) -> None:
        """Say what clients are served with."""
        info = self._settings.client_tls
        if not info.empty:
            fields = {"tls-info": info.describe(), "cipher-suites": info.cipher_suites}
            self._log.info(_EMBED, "starting with client TLS", **fields)

    # Gates: None where no TLS is asked for

    def gate_for_clients(self, url: Url) -> TlsGate | None:
        """Return the gate of a listener for clients."""
        return self._gate(url, self._clients, ON_CLIENTS, check_address=False)

    def gate_for_metrics(self, url: Url) -> TlsGate | None:
        """Return the gate of a listener for metrics."""
        return self._gate(url, self._clients, ON_CLIENTS, not self._settings.client_tls.skip_client_san_verify)

    def gate_for_peers(self, url: Url) -> TlsGate | None:
        """Return the gate of a listener for other members."""
        return self._gate(url, self._peers, ON_PEERS, not self._settings.peer_tls.skip_client_san_verify)

    def _gate(self, url: Url, context: ServerContext | None, rejected: str, check_address: bool) -> TlsGate | None:
        if not url.is_secure:
            return None
        assert context is not None, url
        return TlsGate(self._loop, context, self._log, rejected, check_address)


def _ends(url: Url) -> tuple[str, int]:
    host, port = url.host_port()
    return host, int(port or 0)
