"""From `TlsInfo` to contexts: one for the connections that come, one for those that we open.

Certificate and key are looked at for each connection (a stat, when they have not changed), so that they may be replaced
while the member runs. The trusted CA is read at start alone, as etcd does.

No session tickets are sent in TLS 1.3: etcd's clients keep no sessions. In TLS 1.2 they are, for OpenSSL would remember
sessions in memory otherwise; they are good for five minutes, and not beyond a change of the files.
Source: etcd's client/pkg/transport/listener.go (baseConfig, ServerConfig, ClientConfig).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Final

from quorate.ports import Log
from quorate.runtime.tls.ciphers import restrict
from quorate.runtime.tls.files import TlsError, WatchedFile, check_pair, load_authorities, revoked_serials
from quorate.runtime.tls.info import TlsInfo

VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_CALLER: Final = "transport/listener.go"


class _Pair:
    """A certificate and its key, and the context that was made with them."""

    def __init__(self, cert_file: str, key_file: str, make: Callable[[], ssl.SSLContext]) -> None:
        self.cert = WatchedFile(cert_file)
        self.key = WatchedFile(key_file)
        self._make = make
        self._versions = (0, 0)
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context with the files as they are. Raises TlsError."""
        versions = (self.cert.refresh(), self.key.refresh())
        if self._context is None or versions != self._versions:
            check_pair(self.cert.content, self.key.content)
            context = self._make()
            _load(context, self.cert.content, self.key.content)
            self._context = context
            self._versions = versions
        return self._context


def _load(context: ssl.SSLContext, cert: bytes, key: bytes) -> None:
    # OpenSSL reads files only: an anonymous one holds just what was checked, the key's PEM behind the certificate's.
    handle = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(cert + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{handle}", password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"tls: {error}") from None
    finally:
        os.close(handle)


def _no_password() -> str:
    raise ValueError("failed to parse private key")


class ServerContext:
    """Makes the context of connections that come."""

    def __init__(self, info: TlsInfo, log: Log) -> None:
        """Check everything that can be checked beforehand. Raises StartError or TlsError."""
        info.check()
        self.info = info
        self._log = log
        self._pair = _Pair(info.cert_file, info.key_file, self._make)
        self._authorities = b""
        self._crl = WatchedFile(info.crl_file)
        self._revoked: tuple[int, frozenset[int]] = (0, frozenset())
        if info.trusted_ca_file:
            self._log.info(_CALLER, "Loading cert pool", cs=[info.trusted_ca_file], tlsinfo=info.describe())
            self._authorities = load_authorities(info.trusted_ca_file)
        self._pair.context()
        if info.client_cert_file:
            _Pair(info.client_cert_file, info.client_key_file, self._make).context()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next handshake. Raises TlsError."""
        try:
            return self._pair.context()
        except TlsError as error:
            _complain(self._log, "peer cert files", "peer certificate", self._pair, error)
            raise

    def revoked(self) -> frozenset[int]:
        """Return the serial numbers on the revocation list. Raises TlsError when it cannot be read."""
        version = self._crl.refresh()
        if self._revoked[0] != version:
            self._revoked = (version, revoked_serials(self._crl.content))
        return self._revoked[1]

    def _make(self) -> ssl.SSLContext:
        info = self.info
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _limit(context, info)
        context.num_tickets = 0
        context.set_alpn_protocols(["h2", "http/1.1"])
        if info.trusted_ca_file or info.client_cert_auth:
            context.verify_mode = ssl.CERT_REQUIRED
            if self._authorities:
                context.load_verify_locations(cadata=self._authorities)
            elif not info.trusted_ca_file:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return context


class ClientContext:
    """Makes the context of connections that we open to other members."""

    def __init__(self, info: TlsInfo, log: Log) -> None:
        """Check everything that can be checked beforehand. Raises StartError or TlsError."""
        if not info.empty:
            info.check()
        self.info = info
        self._log = log
        self._authorities = load_authorities(info.trusted_ca_file) if info.trusted_ca_file else b""
        self._bare: ssl.SSLContext | None = None
        self._pair: _Pair | None = None
        if not info.empty:
            files = (info.client_cert_file or info.cert_file, info.client_key_file or info.key_file)
            self._pair = _Pair(*files, self._make)
            self._pair.context()

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection. Raises TlsError."""
        if self._pair is None:
            if self._bare is None:
                self._bare = self._make()
            return self._bare
        try:
            return self._pair.context()
        except TlsError as error:
            _complain(self._log, "client cert files", "client certificate", self._pair, error)
            raise

    def server_name(self, host: str) -> str:
        """Return the name that the certificate of a server at this host must hold."""
        return self.info.server_name or host

    def _make(self) -> ssl.SSLContext:
        info = self.info
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        _limit(context, info)
        if info.self_signed:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self._authorities:
            context.load_verify_locations(cadata=self._authorities)
        elif not info.trusted_ca_file:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return context


def _limit(context: ssl.SSLContext, info: TlsInfo) -> None:
    context.minimum_version = VERSIONS.get(info.min_version, ssl.TLSVersion.TLSv1_2)
    if info.max_version:
        context.maximum_version = VERSIONS[info.max_version]
    restrict(context, info.cipher_suites)
    # Each certificate of the CA file is trusted by itself, also one in the middle of a chain.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _complain(log: Log, files: str, what: str, pair: _Pair, error: TlsError) -> None:
    absent = str(error).endswith("no such file or directory")
    text = f"failed to find {files}" if absent else f"failed to create {what}"
    fields = {"cert-file": pair.cert.path, "key-file": pair.key.path, "error": str(error)}
    log.warn(_CALLER, text, **fields)
