"""The requests that both servers must answer alike: every method, good and bad, in an order that makes sense.

Each is (name, path, body, options): the body is JSON text, or a function of what earlier answers said; options may hold
`method`, `headers`, `keep`, the name to remember the answer by, and `later`: etcd answers otherwise since the release
named there, which ours follows, so that its answer is what stands in `ours`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

Memory = dict[str, Any]
Body = str | bytes | Callable[[Memory], str]
Request = tuple[str, str, Body, dict[str, Any]]


def b64(text: str | bytes) -> str:
    """Return base64."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def of(**fields: Any) -> str:
    """Return a JSON object."""
    return json.dumps(fields)


def put(key: str, value: str, **more: Any) -> str:
    """Return a PutRequest."""
    return of(key=b64(key), value=b64(value), **more)


def token(name: str) -> Callable[[Memory], dict[str, str]]:
    """Return the header that says who asks."""
    return lambda memory: {"Authorization": memory[name]["token"]}


KV: list[Request] = [
    ("put", "/v3/kv/put", put("foo", "bar"), {}),
    ("put again", "/v3/kv/put", put("foo", "bar2", prev_kv=True), {}),
    ("put camel", "/v3/kv/put", put("foo", "bar3", prevKv=True), {}),
    ("put both names", "/v3/kv/put", put("foo", "bar4", prev_kv=True, prevKv=False), {}),
    ("put html", "/v3/kv/put", put("html", "<&>\u2028"), {}),
    ("put empty value", "/v3/kv/put", of(key=b64("empty")), {}),
    ("put as bytes list", "/v3/kv/put", '{"key":[102,111,111,50],"value":[1,null,255]}', {}),
    ("put large byte", "/v3/kv/put", '{"key":[300]}', {}),
    ("put text in bytes list", "/v3/kv/put", '{"key":["a"]}', {}),
    ("put no lease", "/v3/kv/put", put("l", "v", lease="99"), {}),
    ("put ignore value", "/v3/kv/put", of(key=b64("foo"), ignore_value=True), {}),
    ("put ignore absent", "/v3/kv/put", of(key=b64("absent"), ignore_value=True), {}),
    ("put with given value", "/v3/kv/put", put("foo", "x", ignore_value=True), {}),
    ("put no key", "/v3/kv/put", of(value=b64("x")), {}),
    ("range", "/v3/kv/range", of(key=b64("foo")), {}),
    ("range v3beta", "/v3beta/kv/range", of(key=b64("foo")), {}),
    ("range all", "/v3/kv/range", of(key=b64("\0"), range_end=b64("\0")), {}),
    ("range limited", "/v3/kv/range", of(key=b64("\0"), rangeEnd=b64("\0"), limit="1", keysOnly=True), {}),
    ("range count", "/v3/kv/range", of(key=b64("\0"), range_end=b64("\0"), count_only=True), {}),
    (
        "range sorted by name",
        "/v3/kv/range",
        of(key=b64("\0"), range_end=b64("\0"), sort_order="DESCEND", sort_target="MOD"),
        {},
    ),
    ("range sorted by number", "/v3/kv/range", of(key=b64("\0"), range_end=b64("\0"), sort_order=1, sort_target=4), {}),
    ("range sort unknown name", "/v3/kv/range", of(key=b64("a"), sort_order="UP"), {}),
    ("range sort lower case", "/v3/kv/range", of(key=b64("a"), sort_order="ascend"), {}),
    ("range sort list", "/v3/kv/range", of(key=b64("a"), sort_order=["ASCEND"]), {}),
    ("range sort large", "/v3/kv/range", of(key=b64("a"), sort_order=3000000000), {}),
    ("range sort true", "/v3/kv/range", of(key=b64("a"), sort_order=True), {}),
    ("range sort null", "/v3/kv/range", of(key=b64("foo"), sort_order=None), {}),
    ("range absent", "/v3/kv/range", of(key=b64("nowhere")), {}),
    ("range future", "/v3/kv/range", of(key=b64("foo"), revision=1000), {}),
    ("range serializable", "/v3/kv/range", of(key=b64("foo"), serializable=True), {}),
    ("range no key", "/v3/kv/range", "{}", {}),
    ("range no body", "/v3/kv/range", "", {}),
    ("range blank body", "/v3/kv/range", " \n\t ", {}),
    ("range null", "/v3/kv/range", "null", {}),
    ("range old revision", "/v3/kv/range", of(key=b64("foo"), revision="2"), {}),
    (
        "txn success",
        "/v3/kv/txn",
        of(
            compare=[{"key": b64("foo"), "target": "VALUE", "result": "EQUAL", "value": b64("bar4")}],
            success=[{"request_put": {"key": b64("t"), "value": b64("1")}}, {"requestRange": {"key": b64("t")}}],
            failure=[{"request_range": {"key": b64("foo")}}],
        ),
        {},
    ),
    (
        "txn failure",
        "/v3/kv/txn",
        of(
            compare=[{"key": b64("foo"), "target": "VERSION", "result": "GREATER", "version": "100"}],
            success=[{"request_put": {"key": b64("t"), "value": b64("1")}}],
            failure=[
                {"request_range": {"key": b64("foo")}},
                {"request_delete_range": {"key": b64("t"), "prev_kv": True}},
            ],
        ),
        {},
    ),
    (
        "txn nested",
        "/v3/kv/txn",
        of(
            success=[
                {
                    "request_txn": {
                        "compare": [{"key": b64("foo"), "target": "CREATE", "create_revision": 2}],
                        "success": [{"request_put": {"key": b64("n"), "value": b64("1"), "prev_kv": True}}],
                    }
                }
            ],
        ),
        {},
    ),
    ("txn empty", "/v3/kv/txn", "{}", {}),
    ("txn empty op", "/v3/kv/txn", of(success=[{}]), {}),
    ("txn null op", "/v3/kv/txn", of(success=[None]), {}),
    (
        "txn twice",
        "/v3/kv/txn",
        of(success=[{"request_put": {"key": b64("d")}}, {"request_put": {"key": b64("d")}}]),
        {},
    ),
    (
        "txn two in one",
        "/v3/kv/txn",
        of(success=[{"request_range": {"key": b64("foo")}, "request_put": {"key": b64("u"), "value": b64("u")}}]),
        {},
    ),
    ("txn success no list", "/v3/kv/txn", of(success={}), {}),
    ("txn bad compare", "/v3/kv/txn", of(compare=[{"key": b64("foo"), "result": "MAYBE"}]), {}),
    ("delete", "/v3/kv/deleterange", of(key=b64("foo2"), prev_kv=True), {}),
    ("delete nothing", "/v3/kv/deleterange", of(key=b64("foo2")), {}),
    ("delete no key", "/v3/kv/deleterange", "{}", {}),
    ("compact", "/v3/kv/compaction", of(revision="4"), {}),
    ("compact again", "/v3/kv/compaction", of(revision=4, physical=True), {}),
    ("compact future", "/v3/kv/compaction", of(revision=4000), {}),
    ("range compacted", "/v3/kv/range", of(key=b64("foo"), revision=2), {}),
]

JSON: list[Request] = (
    [
        (f"bad json {number}", "/v3/kv/range", body, {})
        for number, body in enumerate(
            [
                "{",
                "}",
                "{]",
                '{"key"',
                '{"key":',
                '{"key" 1}',
                '{"key":1,}',
                '{"key":1 2}',
                "[",
                "[1,",
                "[1 2]",
                "x",
                "nul",
                "nulL",
                "tru!",
                "1",
                "-",
                "-x",
                "1.",
                "1.x",
                "1e",
                "1e+",
                "1e+x",
                "01",
                "1x",
                '"a"',
                '"a',
                '"\\',
                '"\\x"',
                '"\\u12"',
                '"\\u12G4"',
                '"\t"',
                "{'key':1}",
                '{"key":"\x01"}',
                '{"key":"YQ=="}}',
                '{"key":"YQ=="} {"key":1}',
                '{"key":"YQ=="}x',
                "true",
                "false x",
                "[]",
                "{}{}",
                "{,}",
                "{1:2}",
                "\ufeff{}",
                '{"a":é}',
                "\\",
                '"',
                "'",
                "\x7f",
                "\x00",
                "/**/{}",
                '{"a":[1,]}',
                '{"a":{"b":}}',
                '{"a":+1}',
                '{"a":.5}',
                '{"a":NaN}',
                '{"a":-Infinity}',
                "\v{}",
                '{"a":"\n"}',
                '{"a":tRue}',
            ]
        )
    ]
    + [
        (f"bad value {number}", "/v3/kv/range", f'{{"{field}":{value}}}', {})
        for number, (field, value) in enumerate(
            [
                ("key", "1"),
                ("key", "true"),
                ("key", "{}"),
                ("key", "[[]]"),
                ("key", "[1.5]"),
                ("key", "null"),
                ("key", '"!!!!"'),
                ("key", '"Y!=="'),
                ("key", '"YQ="'),
                ("key", '"YQ==="'),
                ("key", '"YQ==YQ=="'),
                ("key", '"Y==="'),
                ("key", '"="'),
                ("key", '"YWJj\\nZGVm"'),
                ("key", '"YQ=\\n="'),
                ("key", '"YQ=x"'),
                ("key", '"YWI=x"'),
                ("key", '"é"'),
                ("key", '"YWJjéZGVm"'),
                ("key", '"YW Jj"'),
                ("key", '"\\u0059\\u0051=="'),
                ("limit", '"x"'),
                ("limit", '""'),
                ("limit", '" 5 "'),
                ("limit", '"5x"'),
                ("limit", '"1.5"'),
                ("limit", "1.5"),
                ("limit", "1e3"),
                ("limit", '"1e3"'),
                ("limit", "-0"),
                ("limit", "9223372036854775808"),
                ("limit", '"-9223372036854775809"'),
                ("limit", "true"),
                ("limit", '"true"'),
                ("limit", '"null"'),
                ("limit", "[]"),
                ("limit", "{}"),
                ("limit", '"[]"'),
                ("limit", '"{}"'),
                ("limit", '"\\"5\\""'),
                ("limit", '"{"'),
                ("limit", '"0x10"'),
                ("limit", '"\\u0035"'),
                ("limit", "99999999999999999999999999"),
                ("limit", "null"),
                ("serializable", "1"),
                ("serializable", '"true"'),
                ("serializable", "[]"),
                ("serializable", "{}"),
                ("sort_order", '""'),
                ("sort_order", '"\\u0041"'),
                ("sort_order", "1.5"),
                ("sort_order", "{}"),
                ("sort_order", '"é"'),
                ("sort_target", '"KEYS"'),
                ("nothing", "1"),
                ("nothing", '{"a":[1,2,{"b":null}]}'),
                ("Key", '"YQ=="'),
            ]
        )
    ]
    + [
        ("invalid utf-8 in a string", "/v3/auth/user/get", b'{"name":"a\xff\xc3(\xed\xa0\x80b"}', {}),
        ("surrogates", "/v3/auth/user/get", '{"name":"\\ud83d\\ude00 \\ud800 \\udc00 \\ud800\\u0041\\ud800"}', {}),
        ("string escapes", "/v3/auth/user/get", '{"name":"\\"\\\\\\/\\b\\f\\n\\r\\t<>&"}', {}),
        ("string null", "/v3/auth/user/get", '{"name":null}', {}),
        ("string number", "/v3/auth/user/get", '{"name":1}', {}),
        ("string list", "/v3/auth/user/get", '{"name":[]}', {}),
        ("strings null element", "/v3/cluster/member/add", '{"peerURLs":[null]}', {}),
        ("strings no list", "/v3/cluster/member/add", '{"peerURLs":"http://1.2.3.4:5"}', {}),
        ("strings of numbers", "/v3/cluster/member/add", '{"peerURLs":[1]}', {}),
        ("uint negative", "/v3/cluster/member/remove", '{"ID":-1}', {}),
        ("uint minus zero", "/v3/cluster/member/remove", '{"ID":"-0"}', {}),
        ("uint large", "/v3/cluster/member/remove", '{"ID":"18446744073709551616"}', {}),
        ("message as text", "/v3/auth/role/grant", '{"name":"r","perm":"x"}', {}),
        ("message as list", "/v3/auth/role/grant", '{"name":"r","perm":[]}', {}),
        ("message null", "/v3/auth/role/grant", '{"name":"r","perm":null}', {}),
        ("two errors", "/v3/kv/range", '{"limit":"x","key":1}', {}),
        ("same key twice", "/v3/kv/range", '{"key":1,"key":"Zm9v"}', {}),
        ("deep unknown", "/v3/kv/range", '{"key":"Zm9v","x":' + "[" * 500 + "]" * 500 + "}", {}),
        ("too deep", "/v3/kv/range", '{"key":"Zm9v","x":' + "[" * 10001 + "]" * 10001 + "}", {}),
    ]
)

HTTP: list[Request] = [
    ("get", "/v3/kv/range", "", {"method": "GET"}),
    ("put method", "/v3/kv/range", "{}", {"method": "PUT"}),
    ("delete method", "/v3/watch", "", {"method": "DELETE"}),
    ("head", "/v3/kv/range", "", {"method": "HEAD"}),
    ("options", "/v3/kv/range", "", {"method": "OPTIONS"}),
    ("options nowhere", "/v3/nowhere", "", {"method": "OPTIONS"}),
    ("unknown path", "/v3/nowhere", "{}", {}),
    ("unknown path get", "/v3/kv/nowhere", "", {"method": "GET"}),
    ("prefix alone", "/v3/", "{}", {}),
    ("no slash", "/v3", "{}", {}),
    ("no slash get", "/v3", "", {"method": "GET"}),
    ("old alpha", "/v3alpha/kv/range", "{}", {}),
    ("trailing slash", "/v3/kv/range/", "{}", {}),
    ("double slash", "/v3//kv/range", "{}", {}),
    ("double slash get", "/v3//kv/range?a=b", "", {"method": "GET"}),
    ("dots", "/v3/kv/../kv/range", "{}", {}),
    ("verb", "/v3/kv/range:x", "{}", {}),
    ("verb alone", "/v3/kv/:x", "{}", {}),
    ("escaped", "/v3/kv/r%61nge", of(key=b64("foo")), {}),
    ("query ignored", "/v3/kv/range?key=Zm9v", "{}", {}),
    ("upper case", "/v3/KV/range", "{}", {}),
    (
        "form type",
        "/v3/kv/range",
        of(key=b64("foo")),
        {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    ),
    (
        "override",
        "/v3/kv/range",
        of(key=b64("foo")),
        {"headers": {"Content-Type": "application/x-www-form-urlencoded", "X-HTTP-Method-Override": "post"}},
    ),
    (
        "override get",
        "/v3/kv/range",
        of(key=b64("foo")),
        {"headers": {"Content-Type": "application/x-www-form-urlencoded", "X-HTTP-Method-Override": "GET"}},
    ),
    (
        "other types",
        "/v3/kv/range",
        of(key=b64("foo")),
        {"headers": {"Content-Type": "text/xml", "Accept": "image/png"}},
    ),
    ("origin", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Origin": "http://example.com"}}),
    ("bad timeout", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "soon"}}),
    ("short timeout", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "S"}}),
    ("unit of timeout", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "1d"}}),
    ("timeout over", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "-1S"}}),
    ("long timeout", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "100S"}}),
    ("no timeout", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Timeout": "0S"}}),
    ("timeout of a stream", "/v3/watch", of(create_request={"key": b64("w")}), {"headers": {"Grpc-Timeout": "1500m"}}),
    ("binary header", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Metadata-x-bin": "!!!!"}}),
    ("good binary header", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Metadata-x-bin": "YQ=="}}),
    ("needs a leader", "/v3/kv/range", of(key=b64("foo")), {"headers": {"Grpc-Metadata-Hasleader": "true"}}),
    (
        "token unknown",
        "/v3/kv/range",
        of(key=b64("foo")),
        {
            "headers": {"Authorization": "nonsense"},
            "later": "3.5.10: no users, no tokens",
            "ours": '"count":"1"',
        },
    ),
    ("value of 1 MB", "/v3/kv/put", put("large", "x" * (1 << 20)), {}),
    ("value too large", "/v3/kv/put", put("large", "x" * 1_600_000), {}),
    ("message too large", "/v3/kv/put", put("large", "x" * 2_200_000), {}),
    ("huge", "/v3/kv/put", put("large", "x" * 9_000_000), {}),
    ("read 1 MB", "/v3/kv/range", of(key=b64("large")), {}),
    ("delete 1 MB", "/v3/kv/deleterange", of(key=b64("large")), {}),
]

LEASES: list[Request] = [
    ("grant", "/v3/lease/grant", of(TTL=600), {"keep": "lease"}),
    ("grant named", "/v3/lease/grant", of(TTL="600", ID="77"), {}),
    ("grant again", "/v3/lease/grant", of(TTL=600, ID=77), {}),
    ("grant too long", "/v3/lease/grant", of(TTL="9000000001"), {}),
    ("grant lower case", "/v3/lease/grant", of(ttl=600), {}),
    ("attach", "/v3/kv/put", put("leased", "x", lease=77), {}),
    ("read lease", "/v3/kv/range", of(key=b64("leased")), {}),
    ("time to live", "/v3/lease/timetolive", of(ID="77", keys=True), {}),
    ("time to live, old path", "/v3/kv/lease/timetolive", of(ID=77), {}),
    ("time to live of none", "/v3/lease/timetolive", of(ID="78"), {}),
    ("leases", "/v3/lease/leases", "{}", {}),
    ("leases, old path", "/v3/kv/lease/leases", "", {}),
    ("keepalive", "/v3/lease/keepalive", of(ID="77"), {}),
    ("keepalive of several", "/v3/lease/keepalive", of(ID="77") + of(ID=78) + "\n" + of(ID="77"), {}),
    ("keepalive bad second", "/v3/lease/keepalive", of(ID="77") + "x", {}),
    ("keepalive empty", "/v3/lease/keepalive", "", {}),
    ("keepalive bad", "/v3/lease/keepalive", "x", {}),
    ("keepalive bad type", "/v3/lease/keepalive", of(ID=[]), {}),
    ("keepalive half", "/v3/lease/keepalive", '{"ID":', {}),
    ("revoke", "/v3/lease/revoke", of(ID=77), {}),
    ("revoke again", "/v3/lease/revoke", of(ID=77), {}),
    ("revoke, old path", "/v3/kv/lease/revoke", lambda memory: of(ID=memory["lease"]["ID"]), {}),
]

CLUSTER: list[Request] = [
    ("members", "/v3/cluster/member/list", "{}", {"keep": "members"}),
    ("members linearizable", "/v3/cluster/member/list", of(linearizable=True), {}),
    ("add nothing", "/v3/cluster/member/add", "{}", {}),
    ("add bad", "/v3/cluster/member/add", of(peerURLs=["nonsense"]), {}),
    ("add learner", "/v3/cluster/member/add", of(peerURLs=["http://127.0.0.1:1"], isLearner=True), {"keep": "learner"}),
    ("settle 0", "/v3/kv/put", put("settled", "x"), {}),  # real etcd drops a change that follows too soon
    ("add it again", "/v3/cluster/member/add", of(peerURLs=["http://127.0.0.1:1"], isLearner=True), {}),
    ("promote", "/v3/cluster/member/promote", lambda memory: of(ID=memory["learner"]["member"]["ID"]), {}),
    (
        "update",
        "/v3/cluster/member/update",
        lambda memory: of(
            ID=memory["members"]["header"]["member_id"], peerURLs=memory["members"]["members"][0]["peerURLs"]
        ),
        {},
    ),
    ("update unknown", "/v3/cluster/member/update", of(ID="5", peerURLs=["http://127.0.0.1:3"]), {}),
    ("settle 1", "/v3/kv/put", put("settled", "x"), {}),  # real etcd drops a change that follows too soon
    ("remove", "/v3/cluster/member/remove", lambda memory: of(ID=memory["learner"]["member"]["ID"]), {}),
    ("settle 2", "/v3/kv/put", put("settled", "x"), {}),  # real etcd drops a change that follows too soon
    ("remove again", "/v3/cluster/member/remove", lambda memory: of(ID=memory["learner"]["member"]["ID"]), {}),
    ("promote unknown", "/v3/cluster/member/promote", of(ID=5), {}),
    ("alarms", "/v3/maintenance/alarm", "{}", {}),
    (
        "alarm raised",
        "/v3/maintenance/alarm",
        lambda memory: of(action="ACTIVATE", memberID=memory["members"]["header"]["member_id"], alarm="CORRUPT"),
        {},
    ),
    ("alarms with one", "/v3/maintenance/alarm", of(action="GET"), {}),
    ("status with alarm", "/v3/maintenance/status", "{}", {}),
    (
        "alarm cleared",
        "/v3/maintenance/alarm",
        lambda memory: of(action=2, memberID=memory["members"]["header"]["member_id"], alarm=2),
        {},
    ),
    ("status", "/v3/maintenance/status", "{}", {}),
    ("hash of kv", "/v3/maintenance/hash", "{}", {}),
    ("defragment", "/v3/maintenance/defragment", "{}", {}),
    ("move leader", "/v3/maintenance/transfer-leadership", of(targetID="7"), {}),
    ("downgrade bad", "/v3/maintenance/downgrade", of(action="VALIDATE", version="x"), {}),
    (
        "downgrade cancel",
        "/v3/maintenance/downgrade",
        of(action="CANCEL"),
        {"later": "3.6: to cancel nothing is no error", "ours": '"version":"3.5"'},
    ),
    ("downgrade unknown action", "/v3/maintenance/downgrade", of(action="NOW"), {}),
]

LOCKS: list[Request] = [
    ("lease for locks", "/v3/lease/grant", of(TTL=600, ID=1001), {}),
    ("lock", "/v3/lock/lock", of(name=b64("lock"), lease=1001), {"keep": "lock"}),
    ("lock held", "/v3/lock/lock", of(name=b64("lock")), {"headers": {"Grpc-Timeout": "300m"}}),
    ("lock unknown lease", "/v3/lock/lock", of(name=b64("lock2"), lease="5"), {}),
    ("unlock", "/v3/lock/unlock", lambda memory: of(key=memory["lock"]["key"]), {}),
    ("unlock nothing", "/v3/lock/unlock", "{}", {}),
    ("no leader yet", "/v3/election/leader", of(name=b64("vote")), {}),
    ("campaign", "/v3/election/campaign", of(name=b64("vote"), lease=1001, value=b64("me")), {"keep": "leader"}),
    ("leader", "/v3/election/leader", of(name=b64("vote")), {}),
    (
        "proclaim",
        "/v3/election/proclaim",
        lambda memory: of(leader=memory["leader"]["leader"], value=b64("still me")),
        {},
    ),
    ("proclaim without", "/v3/election/proclaim", of(value=b64("x")), {}),
    ("proclaim stranger", "/v3/election/proclaim", of(leader={"name": b64("v"), "key": b64("k"), "rev": "1"}), {}),
    ("observe", "/v3/election/observe", of(name=b64("vote")), {"headers": {"Grpc-Timeout": "1500m"}}),
    ("observe bad", "/v3/election/observe", of(name=1), {}),
    ("resign", "/v3/election/resign", lambda memory: of(leader=memory["leader"]["leader"]), {}),
    ("resign without", "/v3/election/resign", "{}", {}),
]

USERS: list[Request] = [
    ("status off", "/v3/auth/status", "{}", {}),
    ("authenticate off", "/v3/auth/authenticate", of(name="root", password="x"), {}),
    ("enable without root", "/v3/auth/enable", "{}", {}),
    ("user add", "/v3/auth/user/add", of(name="root", password="pw"), {}),
    ("user add again", "/v3/auth/user/add", of(name="root", password="pw"), {}),
    ("user add nameless", "/v3/auth/user/add", "{}", {}),
    ("user add html", "/v3/auth/user/add", of(name="<a&b>é\u2028\x7f\b", password="pw"), {}),
    ("user without password", "/v3/auth/user/add", of(name="bare", options={"no_password": True}), {}),
    ("role add", "/v3/auth/role/add", of(name="root"), {}),
    ("role add reader", "/v3/auth/role/add", of(name="reader"), {}),
    (
        "role grant",
        "/v3/auth/role/grant",
        of(name="reader", perm={"permType": "READ", "key": b64("a"), "range_end": b64("b")}),
        {},
    ),
    ("role grant by number", "/v3/auth/role/grant", of(name="reader", perm={"permType": 2, "key": b64("rw")}), {}),
    ("role grant bad type", "/v3/auth/role/grant", of(name="reader", perm={"permType": "ALL", "key": b64("rw")}), {}),
    ("role grant unknown", "/v3/auth/role/grant", of(name="nobody", perm={"key": b64("rw")}), {}),
    ("role get", "/v3/auth/role/get", of(role="reader"), {}),
    ("role list", "/v3/auth/role/list", "{}", {}),
    ("role revoke", "/v3/auth/role/revoke", of(role="reader", key=b64("rw")), {}),
    ("role revoke again", "/v3/auth/role/revoke", of(role="reader", key=b64("rw")), {}),
    ("user grant", "/v3/auth/user/grant", of(user="root", role="root"), {}),
    ("user grant unknown", "/v3/auth/user/grant", of(user="root", role="nothing"), {}),
    ("user get", "/v3/auth/user/get", of(name="root"), {}),
    ("user list", "/v3/auth/user/list", "{}", {}),
    ("user change", "/v3/auth/user/changepw", of(name="root", password="pw2"), {}),
    ("reader add", "/v3/auth/user/add", of(name="r", password="r"), {}),
    ("reader grant", "/v3/auth/user/grant", of(user="r", role="reader"), {}),
    ("key for reader", "/v3/kv/put", put("a1", "x"), {}),
    ("enable", "/v3/auth/enable", "{}", {}),
    ("authenticate wrong", "/v3/auth/authenticate", of(name="root", password="pw"), {}),
    ("authenticate unknown", "/v3/auth/authenticate", of(name="nobody", password="pw"), {}),
    ("authenticate", "/v3/auth/authenticate", of(name="root", password="pw2"), {"keep": "root"}),
    ("authenticate reader", "/v3/auth/authenticate", of(name="r", password="r"), {"keep": "reader"}),
    ("range nobody", "/v3/kv/range", of(key=b64("a1")), {}),
    ("range bad token", "/v3/kv/range", of(key=b64("a1")), {"headers": {"Authorization": "nonsense"}}),
    ("range reader", "/v3/kv/range", of(key=b64("a1")), {"headers": token("reader")}),
    (
        "range by metadata",
        "/v3/kv/range",
        of(key=b64("a1")),
        {"headers": lambda memory: {"Grpc-Metadata-Token": memory["reader"]["token"]}},
    ),
    ("range denied", "/v3/kv/range", of(key=b64("z")), {"headers": token("reader")}),
    ("put denied", "/v3/kv/put", put("a1", "x"), {"headers": token("reader")}),
    (
        "watch nobody",
        "/v3/watch",
        of(create_request={"key": b64("a1")}),
        {
            "headers": {"Grpc-Timeout": "1500m"},
            "later": "3.5.25: its own words, and an id of -1",
            "ours": '"cancel_reason":"rpc error: code = InvalidArgument desc = etcdserver: user name is empty"}}'
            '\n{"error":{"message":',
        },
    ),
    (
        "watch denied",
        "/v3/watch",
        of(create_request={"key": b64("z")}),
        {
            "headers": lambda memory: {"Authorization": memory["reader"]["token"], "Grpc-Timeout": "1500m"},
            "later": "3.5.25: an id of -1",
            "ours": '"watch_id":"-1","created":true,"canceled":true,"cancel_reason":"rpc error: code = Permission',
        },
    ),
    ("users by reader", "/v3/auth/user/list", "{}", {"headers": token("reader")}),
    ("status by root", "/v3/auth/status", "{}", {"headers": token("root")}),
    ("delete role in use", "/v3/auth/role/delete", of(role="reader"), {"headers": token("root")}),
    ("delete root", "/v3/auth/user/delete", of(name="root"), {"headers": token("root")}),
    ("delete user", "/v3/auth/user/delete", of(name="r"), {"headers": token("root")}),
    ("revoke root", "/v3/auth/user/revoke", of(name="root", role="root"), {"headers": token("root")}),
    ("disable nobody", "/v3/auth/disable", "{}", {}),
    ("disable", "/v3/auth/disable", "{}", {"headers": token("root")}),
    ("revoke role", "/v3/auth/user/revoke", of(name="root", role="root"), {}),
    ("delete a role", "/v3/auth/role/delete", of(role="root"), {}),
    ("delete a role again", "/v3/auth/role/delete", of(role="root"), {}),
]
GROUPS = {"kv": KV, "json": JSON, "http": HTTP, "leases": LEASES, "cluster": CLUSTER, "locks": LOCKS, "users": USERS}
