"""URLs, and this machine's address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.runtime.hosts import default_host, default_interface
from quorate.runtime.urls import UrlError, check_advertised, check_bind, parse_url, parse_urls, unique_urls


@pytest.mark.parametrize(
    ("text", "scheme", "host"),
    [
        ("http://127.0.0.1:2379", "http", "127.0.0.1:2379"),
        (" https://[::1]:2379 ", "https", "[::1]:2379"),
        ("http://:2379", "http", ":2379"),
        ("unix://localhost:m1", "unix", "localhost:m1"),
        ("unix:///run/etcd.sock", "unix", "/run/etcd.sock"),
        ("unixs://a:1", "unixs", "a:1"),
        ("HTTP://a:1", "http", "a:1"),
    ],
)
def test_good(text: str, scheme: str, host: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.host) == (scheme, host)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://a", 'URL address does not have the form "host:port": http://a'),
        ("http://a:1/", "URL must not contain a path: http://a:1/"),
        ("a", "URL scheme must be http, https, unix, or unixs: a"),
        ("", "URL scheme must be http, https, unix, or unixs: "),
        ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
        ("1.2.3.4:1", 'parse "1.2.3.4:1": first path segment in URL cannot contain colon'),
        ("http://a:b", 'parse "http://a:b": invalid port ":b" after host'),
        ("http://[::1:1", "parse \"http://[::1:1\": missing ']' in host"),
        ("http://1:2:3", 'URL address does not have the form "host:port": http://1:2:3'),
        ("http://a\x01:1", 'parse "http://a\x01:1": net/url: invalid control character in URL'),
    ],
)
def test_bad(text: str, why: str) -> None:
    with pytest.raises(UrlError) as caught:
        parse_url(text)
    assert str(caught.value) == why


@given(st.text(alphabet="htps:/[].@%#?a1 \x00é", max_size=20))
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    try:
        url = parse_url(text)
    except UrlError:
        return
    assert parse_url(url.text).host == url.host


def test_lists_are_sorted_and_may_be_made_distinct() -> None:
    texts = ["http://b:1", "http://a:1", "http://b:1"]
    assert [url.text for url in parse_urls(texts)] == ["http://a:1", "http://b:1", "http://b:1"]
    assert [url.text for url in unique_urls(texts)] == ["http://a:1", "http://b:1"]


def test_where_names_are_not_allowed() -> None:
    check_bind(parse_urls(["http://localhost:1", "http://0.0.0.0:1", "http://[fe80::1]:1", "unix://name:1"]))
    with pytest.raises(UrlError, match=r"expected IP in URL for binding \(http://foo:1\)"):
        check_bind(parse_urls(["http://foo:1"]))
    check_advertised(parse_urls(["http://foo:1"]))
    with pytest.raises(UrlError, match=r"unexpected empty host \(http://:1\)"):
        check_advertised(parse_urls(["http://:1"]))


def test_the_interface_of_the_default_route() -> None:
    routes = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        "wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    )
    assert default_interface(routes) == "eth0"
    assert default_interface("Iface\n") == ""
    assert default_host().count(".") in (0, 3)
