"""JSON to messages and back, without a server."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.gateway import base64, decode, gojson
from quorate.gateway.encode import text, to_json
from quorate.gateway.gojson import JsonError, Leaf, NeedMoreError, Value, read_all, read_value, unquote
from quorate.gateway.routes import PATHS, ROUTES
from quorate.proto import rpc_pb2
from quorate.proto.rpc_pb2 import RangeRequest, TxnRequest, WatchRequest


def plain(value: Value) -> Any:
    """Return what Python's own reader would."""
    if isinstance(value, Leaf):
        return unquote(value.raw) if value.kind == gojson.STRING else json.loads(value.raw)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(TREES, st.booleans(), st.sampled_from([None, 1]))
def test_reads_what_json_is(tree: Any, ascii_only: bool, indent: int | None) -> None:
    tree = json.loads(json.dumps(tree))
    data = json.dumps(tree, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert plain(read_all(data)) == tree
    assert plain(read_value(data + b" x", 0, False)[0]) == tree


@given(TREES.filter(lambda tree: isinstance(tree, (dict, list, str))), st.randoms(use_true_random=False))
def test_any_piece_of_a_value_asks_for_more(tree: Any, draw: random.Random) -> None:
    data = json.dumps(tree).encode()
    with pytest.raises(NeedMoreError):
        read_value(data[: draw.randrange(len(data))], 0, False)


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    try:
        value = read_all(data)
    except JsonError:
        return
    assert plain(value) == json.loads(data.decode("utf-8", "replace"))


@given(st.text())
def test_text_is_json_without_html(value: str) -> None:
    written = text(value)
    assert json.loads(written) == value
    assert not set(written) & set("<>&\u2028\u2029")


@given(st.binary(max_size=30))
def test_base64_of_either_alphabet_and_without_padding(data: bytes) -> None:
    import base64 as reference

    for encoded in (reference.b64encode(data), reference.urlsafe_b64encode(data)):
        assert base64.decode(encoded.decode()) == data
        assert base64.decode(encoded.decode().rstrip("=")) == data


def test_unions_are_plain_members_and_the_last_counts() -> None:
    request = WatchRequest()
    decode.fill(request, read_all(b'{"createRequest":{"key":"YQ=="},"cancel_request":{"watch_id":5}}'))
    assert request.WhichOneof("request_union") == "cancel_request"
    assert to_json(request) == '{"cancel_request":{"watch_id":"5"}}'
    empty = WatchRequest()
    decode.fill(empty, read_all(b'{"progress_request":{}}'))
    assert to_json(empty) == '{"progress_request":{}}'


def test_messages_nest_no_deeper_than_they_can_be_parsed() -> None:
    inner = b"{}"
    for _ in range(200):
        inner = b'{"success":[{"request_txn":' + inner + b"}]}"
    with pytest.raises(JsonError, match="depth"):
        decode.fill(TxnRequest(), read_all(inner))


def test_messages_go_there_and_back() -> None:
    request = RangeRequest(key=b"\xff\x00", limit=-(2**63), sort_order=RangeRequest.DESCEND, serializable=True)
    written = to_json(request)
    assert written == '{"key":"/wA=","limit":"-9223372036854775808","sort_order":"DESCEND","serializable":true}'
    again = RangeRequest()
    decode.fill(again, read_all(written.encode()))
    assert again == request


def test_every_method_has_a_path_and_every_path_a_method() -> None:
    methods = {
        method.full_name for service in rpc_pb2.DESCRIPTOR.services_by_name.values() for method in service.methods
    }
    assert methods == {name for name in PATHS if name.startswith("etcdserverpb.")}
    assert set(ROUTES) == {path for paths in PATHS.values() for path in paths}
    assert {path for path, route in ROUTES.items() if route.writes_stream} == {
        "/v3/watch",
        "/v3/lease/keepalive",
        "/v3/maintenance/snapshot",
        "/v3/election/observe",
    }
