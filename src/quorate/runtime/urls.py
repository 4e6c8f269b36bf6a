"""URLs as etcd takes them: http, https, unix and unixs, with a port and without a path.

Source: etcd's client/pkg/types/urls.go and server/embed/config.go. The texts of `UrlError` are etcd's, or Go's net/url
and net packages' where etcd passes theirs on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class UrlError(ValueError):
    """A URL that etcd would refuse."""


class Url:
    """A checked URL: `text` as given, `scheme`, and `host` (the "host:port" part, or the socket's path for unix)."""

    def __init__(self, text: str, scheme: str, host: str) -> None:
        self.text = text
        self.scheme = scheme
        self.host = host

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Url({self.text!r})"

    @property
    def is_unix(self) -> bool:
        """Tell whether this names a socket in the file system."""
        return self.scheme in ("unix", "unixs")

    @property
    def is_secure(self) -> bool:
        """Tell whether the scheme asks for TLS."""
        return self.scheme in ("https", "unixs")

    def host_port(self) -> tuple[str, str]:
        """Return host and port; raises UrlError as Go's net.SplitHostPort does."""
        return split_host_port(self.host)


def split_host_port(address: str) -> tuple[str, str]:
    """Return the two parts of "host:port" or "[host]:port"; the error texts are those of Go's net package."""
    colon = address.rfind(":")
    if colon < 0:
        raise UrlError(f"address {address}: missing port in address")
    if address[:1] == "[":
        end = address.find("]")
        if end < 0:
            raise UrlError(f"address {address}: missing ']' in address")
        if end + 1 == len(address):
            raise UrlError(f"address {address}: missing port in address")
        if end + 1 != colon:
            text = "too many colons in address" if address[end + 1] == ":" else "missing port in address"
            raise UrlError(f"address {address}: {text}")
        return address[1:end], address[colon + 1 :]
    host = address[:colon]
    if ":" in host:
        raise UrlError(f"address {address}: too many colons in address")
    return host, address[colon + 1 :]


def parse_url(text: str) -> Url:
    """Return the URL; raises UrlError with etcd's text."""
    text = text.strip()
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise UrlError(f"parse {quoted}: net/url: invalid control character in URL")
    scheme = ""
    rest = text.partition("#")[0]
    match = _SCHEME.match(text)
    if match:
        scheme = match.group()[:-1].lower()
        rest = rest[match.end() :]
    elif text.startswith(":"):
        raise UrlError(f"parse {quoted}: missing protocol scheme")
    elif ":" in text.partition("/")[0]:
        raise UrlError(f"parse {quoted}: first path segment in URL cannot contain colon")
    if scheme not in ("http", "https", "unix", "unixs"):
        raise UrlError(f"URL scheme must be http, https, unix, or unixs: {text}")
    rest = rest.partition("?")[0]
    host = path = ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
        host = host.rpartition("@")[2]
        if host[:1] == "[" and "]" not in host:
            raise UrlError(f"parse {quoted}: missing ']' in host")
        port = host.rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
        if port and not port.isdigit() and scheme in ("http", "https"):
            raise UrlError(f'parse {quoted}: invalid port ":{port}" after host')
    else:
        path = rest
    if scheme in ("unix", "unixs"):
        return Url(text, scheme, host + path)
    try:
        split_host_port(host)
    except UrlError:
        raise UrlError(f'URL address does not have the form "host:port": {text}') from None
    if path:
        raise UrlError(f"URL must not contain a path: {text}")
    return Url(f"{scheme}://{host}", scheme, host)


def parse_urls(texts: Sequence[str]) -> list[Url]:
    """Return the URLs sorted by their text."""
    return sorted((parse_url(text) for text in texts), key=lambda url: url.text)


def unique_urls(texts: Sequence[str]) -> list[Url]:
    """Return the distinct URLs sorted by their text."""
    return list(dict.fromkeys(parse_urls(texts)))


def check_bind(urls: Sequence[Url]) -> None:
    """Refuse URLs to listen on that carry a name instead of an address."""
    for url in urls:
        if url.is_unix:
            continue
        host, _ = url.host_port()
        if host == "localhost":
            continue
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise UrlError(f"expected IP in URL for binding ({url.text})") from None


def check_advertised(urls: Sequence[Url]) -> None:
    """Refuse URLs to advertise without a host."""
    for url in urls:
        host, _ = url.host_port()
        if not host:
            raise UrlError(f"unexpected empty host ({url.text})")
