"""Paths, CORS, the Host header, and errors of handlers."""

from __future__ import annotations

from quorate.http.mux import AccessController, Mux, Reply, Request, Response
from quorate.ports import NullLog


def ask(handle: object, method: str, target: str, **headers: str) -> Response:
    answers: list[Response] = []
    handle(Request(method, target, headers), answers.append)  # type: ignore[operator]
    assert len(answers) == 1
    return answers[0]


def hello(request: Request, reply: Reply) -> None:
    reply(Response(200, request.path.encode()))


def broken(request: Request, reply: Reply) -> None:
    raise KeyError(request.path)


def make() -> Mux:
    mux = Mux(NullLog())
    mux.add("/hello", hello)
    mux.add("/broken", broken)
    return mux


def test_paths_match_exactly() -> None:
    mux = make()
    assert ask(mux.handle, "GET", "/hello?x=1").body == b"/hello"
    assert ask(mux.handle, "GET", "/h%65llo").status == 200
    for path in ("/", "/hello/", "/Hello", "/hello2", "//hello", "*", ""):
        answer = ask(mux.handle, "GET", path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
        assert ("X-Content-Type-Options", "nosniff") in answer.headers


def test_a_handler_that_fails_is_a_500_and_nothing_worse() -> None:
    assert ask(make().handle, "GET", "/broken").status == 500


def test_query() -> None:
    request = Request("GET", "/x?exclude=A&exclude=B&verbose&e=", {})
    assert request.values("exclude") == ["A", "B"]
    assert request.values("verbose") == [""]
    assert request.values("none") == []


def test_cors_for_everybody() -> None:
    front = AccessController(make(), ["*"], ["*"])
    answer = ask(front.handle, "GET", "/hello", host="x")
    assert answer.headers[:3] == [
        ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
        ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
        ("Access-Control-Allow-Origin", "*"),
    ]
    options = ask(front.handle, "OPTIONS", "/nowhere", host="x")
    assert (options.status, options.body) == (200, b"")


def test_cors_for_some() -> None:
    front = AccessController(make(), ["http://a:1"], ["*"])
    allowed = dict(ask(front.handle, "GET", "/hello", host="x", origin="http://a:1").headers)
    assert allowed["Access-Control-Allow-Origin"] == "http://a:1"
    for headers in ({"origin": "http://b:1"}, {}):
        refused = dict(ask(front.handle, "GET", "/hello", host="x", **headers).headers)
        assert "Access-Control-Allow-Origin" not in refused


def test_hosts() -> None:
    front = AccessController(make(), ["*"], ["good", "127.0.0.1", "::1"])
    for host in ("good", "good:2379", "127.0.0.1:1", "[::1]:1"):
        assert ask(front.handle, "GET", "/hello", host=host).status == 200
    answer = ask(front.handle, "GET", "/hello", host="evil.example:80")
    assert answer.status == 421
    assert answer.body.startswith(b"\netcd received your request, but the Host header was unrecognized.\n")
    assert b'etcd --host-whitelist "evil.example"' in answer.body
    assert answer.body.endswith(b"(CVE-2018-5702).\n\n")
