"""Users and roles: what is stored, what is refused, what a change does to permissions and tokens."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

from quorate import errors
from quorate.auth.password import hash_password, matches
from quorate.auth.store import NO_PASSWORD_USER, NOBODY, AuthInfo, AuthStore
from quorate.auth.tokens import SimpleTokens
from quorate.errors import CorruptError, RpcError
from quorate.ports import NullLog
from quorate.proto import rpc_pb2 as pb
from quorate.proto.auth_pb2 import Permission, User
from quorate.storage.backend import Backend
from quorate.storage.schema import BUCKETS
from tests.server.world import FakeLoop, new_disk

HASH = b"$2a$04$......................w74bL5gU7LSJClZClCa.Pkz14aTv/XO"


class Bench:
    """A store over a backend on a simulated disk."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.loop = FakeLoop()
        self.backend = backend or Backend(self.loop, new_disk(), "d/member/snap/db", NullLog())
        for bucket in BUCKETS:
            self.backend.create_bucket(bucket)
        self.tokens = SimpleTokens(self.loop, 10_000)
        self.store = AuthStore(self.loop, NullLog(), self.backend, self.tokens, 4)
        self.store.recover()

    def user(self, name: str, *roles: str) -> None:
        self.store.user_add(pb.AuthUserAddRequest(name=name, hashedPassword=base64.b64encode(HASH).decode()))
        for role in roles:
            self.store.user_grant_role(name, role)

    def grant(self, role: str, kind: int, key: bytes, end: bytes = b"") -> None:
        perm = Permission(permType=kind, key=key, range_end=end)  # type: ignore[arg-type]
        self.store.role_grant(pb.AuthRoleGrantPermissionRequest(name=role, perm=perm))

    def enable(self) -> None:
        self.user("root", "root")
        self.store.enable()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def error_of(call: Callable[[], object]) -> RpcError:
    with pytest.raises(RpcError) as caught:
        call()
    return caught.value


def test_what_is_stored(bench: Bench) -> None:
    """As the format's description has it."""
    store = bench.store
    assert bench.backend.get(b"auth", b"authRevision") == (1).to_bytes(8, "big")
    bench.user("alice")
    store.role_add("dev")
    store.user_grant_role("alice", "dev")
    bench.grant("dev", Permission.READWRITE, b"a", b"b")
    stored = bench.backend.get(b"authUsers", b"alice")
    assert stored == b"\x0a\x05alice\x12" + bytes([len(HASH)]) + HASH + b"\x1a\x03dev\x22\x00"
    assert bench.backend.get(b"authRoles", b"dev") == b"\x0a\x03dev\x12\x08\x08\x02\x12\x01a\x1a\x01b"
    assert bench.backend.get(b"auth", b"authRevision") == (5).to_bytes(8, "big")
    assert bench.backend.get(b"auth", b"authEnabled") is None
    bench.enable()
    assert bench.backend.get(b"auth", b"authEnabled") == b"\1"
    assert store.revision == 7  # enabling counts for nothing
    store.disable()
    store.disable()
    assert bench.backend.get(b"auth", b"authEnabled") == b"\0"
    assert store.revision == 8


def test_a_restart_knows_everything(bench: Bench) -> None:
    bench.enable()
    bench.store.role_add("dev")
    bench.grant("dev", Permission.READ, b"a", b"b")
    bench.user("alice", "dev")
    again = Bench(bench.backend).store
    assert (again.enabled, again.revision) == (True, bench.store.revision)
    assert again.users() == ["alice", "root"]
    assert again.roles() == ["dev"]
    assert again.read_error(again.info("alice"), b"a", b"") is None
    assert again.write_error(again.info("alice"), b"a", b"") is errors.PERMISSION_DENIED_ERROR


def test_unreadable_records_stop_the_member(bench: Bench) -> None:
    for bucket, key, value in (
        (b"authUsers", b"x", b"\xff"),
        (b"authRoles", b"x", b"\xff"),
        (b"auth", b"authRevision", b"1"),
    ):
        other = Bench()
        other.backend.put(bucket, key, value)
        with pytest.raises(CorruptError, match="auth"):
            other.store.recover()


def test_users(bench: Bench) -> None:
    store = bench.store
    add = pb.AuthUserAddRequest
    assert error_of(lambda: store.user_add(add())) is errors.USER_EMPTY
    bench.user("u")
    assert error_of(lambda: store.user_add(add(name="u"))) is errors.USER_ALREADY_EXIST
    assert error_of(lambda: store.user_add(add(name="v", hashedPassword="!"))) is NO_PASSWORD_USER
    assert store.users() == ["u"]
    assert error_of(lambda: store.user_grant_role("v", "r")) is errors.USER_NOT_FOUND
    assert error_of(lambda: store.user_grant_role("u", "r")) is errors.ROLE_NOT_FOUND
    store.user_grant_role("u", "root")  # needs no object
    store.role_add("a")
    store.user_grant_role("u", "a")
    before = store.revision
    store.user_grant_role("u", "a")
    assert store.revision == before
    assert store.user_roles("u") == ["a", "root"]
    assert error_of(lambda: store.user_revoke_role("u", "x")) is errors.ROLE_NOT_GRANTED
    assert error_of(lambda: store.user_revoke_role("v", "x")) is errors.USER_NOT_FOUND
    store.user_revoke_role("u", "root")
    assert store.user_roles("u") == ["a"]
    assert error_of(lambda: store.user_delete("v")) is errors.USER_NOT_FOUND
    store.user_delete("u")
    assert error_of(lambda: store.user_roles("u")) is errors.USER_NOT_FOUND
    assert bench.backend.get(b"authUsers", b"u") is None


def test_passwords(bench: Bench) -> None:
    store = bench.store
    change = pb.AuthUserChangePasswordRequest
    bench.enable()
    assert error_of(lambda: store.user_change_password(change(name="u"))) is errors.USER_NOT_FOUND
    # An entry of etcd before 3.5 holds the password itself.
    store.user_add(pb.AuthUserAddRequest(name="old", password="secret"))
    assert matches(b"secret", store.password_of("old"))
    assert not matches(b"Secret", store.password_of("old"))
    bench.user("u")
    assert store.password_of("u") == HASH
    store.user_change_password(change(name="u", hashedPassword=base64.b64encode(b"other").decode()))
    assert store.password_of("u") == b"other"
    assert error_of(lambda: store.user_change_password(change(name="u", hashedPassword="!"))) is NO_PASSWORD_USER
    store.user_change_password(change(name="u"))
    assert store.password_of("u") == b""
    assert not matches(b"", b"")
    none = pb.AuthUserAddRequest(name="cn", password="ignored")
    none.options.no_password = True
    store.user_add(none)
    assert User.FromString(bench.backend.get(b"authUsers", b"cn") or b"").password == b""
    assert error_of(lambda: store.password_of("cn")) is NO_PASSWORD_USER
    assert error_of(lambda: store.password_of("ghost")) is errors.AUTH_FAILED
    assert error_of(lambda: store.authenticate("cn", "p", 1)) is errors.AUTH_FAILED
    assert error_of(lambda: store.authenticate("ghost", "p", 1)) is errors.AUTH_FAILED
    store.disable()
    assert error_of(lambda: store.password_of("u")) is errors.AUTH_NOT_ENABLED
    assert error_of(lambda: store.authenticate("u", "p", 1)) is errors.AUTH_NOT_ENABLED


def test_hashes_are_go_s() -> None:
    hashed = hash_password(b"secret", 4, bytes(range(16)))
    assert hashed.startswith(b"$2a$04$..CA.uOD/eaGAOmJB.yMBu")
    assert matches(b"secret", hashed)
    assert matches(b"x" * 100, hash_password(b"x" * 72, 4, bytes(16)))


def test_roles(bench: Bench) -> None:
    store = bench.store
    assert error_of(lambda: store.role_add("")) is errors.ROLE_EMPTY
    store.role_add("r")
    assert error_of(lambda: store.role_add("r")) is errors.ROLE_ALREADY_EXIST
    assert (
        error_of(lambda: store.role_grant(pb.AuthRoleGrantPermissionRequest(name="r"))) is errors.PERMISSION_NOT_GIVEN
    )
    assert error_of(lambda: bench.grant("x", 0, b"k")) is errors.ROLE_NOT_FOUND
    bench.grant("r", Permission.READ, b"b")
    bench.grant("r", Permission.READ, b"a", b"c")
    bench.grant("r", Permission.WRITE, b"b")
    assert [(p.permType, p.key, p.range_end) for p in store.role_permissions("r")] == [(0, b"a", b"c"), (1, b"b", b"")]
    revoke = pb.AuthRoleRevokePermissionRequest
    assert error_of(lambda: store.role_revoke(revoke(role="x", key=b"a"))) is errors.ROLE_NOT_FOUND
    assert error_of(lambda: store.role_revoke(revoke(role="r", key=b"a"))) is errors.PERMISSION_NOT_GRANTED
    store.role_revoke(revoke(role="r", key=b"a", range_end=b"c"))
    assert len(store.role_permissions("r")) == 1
    bench.user("u", "r", "root")
    store.role_delete("r")
    assert store.user_roles("u") == ["root"]
    assert error_of(lambda: store.role_delete("r")) is errors.ROLE_NOT_FOUND
    assert error_of(lambda: store.role_permissions("r")) is errors.ROLE_NOT_FOUND


def test_root_is_protected_while_it_counts(bench: Bench) -> None:
    store = bench.store
    assert error_of(store.enable) is errors.ROOT_USER_NOT_EXIST
    bench.user("root")
    assert error_of(store.enable) is errors.ROOT_ROLE_NOT_EXIST
    assert not store.enabled
    store.user_grant_role("root", "root")
    store.role_add("root")
    store.enable()
    store.enable()
    for refused in (
        lambda: store.user_delete("root"),
        lambda: store.role_delete("root"),
        lambda: store.user_revoke_role("root", "root"),
    ):
        assert error_of(refused) is errors.INVALID_AUTH_MGMT
    store.disable()
    store.user_revoke_role("root", "root")
    store.role_delete("root")
    store.user_delete("root")


def test_checks_in_order(bench: Bench) -> None:
    bench.enable()
    store = bench.store
    store.role_add("r")
    bench.grant("r", Permission.READ, b"a", b"b")
    bench.user("u", "r")
    now = store.revision
    assert store.read_error(NOBODY, b"a", b"") is errors.USER_EMPTY
    assert store.read_error(AuthInfo("u", now - 1), b"a", b"") is errors.AUTH_OLD_REVISION
    assert store.read_error(AuthInfo("ghost", now), b"a", b"") is errors.PERMISSION_DENIED_ERROR
    assert store.read_error(AuthInfo("root", now), b"a", b"\0") is None
    assert store.read_error(store.info("u"), b"a", b"b") is None
    assert store.read_error(store.info("u"), b"a", b"c") is errors.PERMISSION_DENIED_ERROR
    assert store.write_error(store.info("u"), b"a", b"") is errors.PERMISSION_DENIED_ERROR
    assert store.admin_error(NOBODY) is errors.USER_EMPTY
    assert store.admin_error(AuthInfo("ghost", 1)) is errors.USER_NOT_FOUND
    assert store.admin_error(AuthInfo("u", 1)) is errors.PERMISSION_DENIED_ERROR
    assert store.admin_error(AuthInfo("root", 1)) is None


def test_a_change_is_seen_by_the_next_check(bench: Bench) -> None:
    bench.enable()
    store = bench.store
    store.role_add("r")
    bench.user("u", "r")
    assert store.write_error(store.info("u"), b"k", b"") is not None
    bench.grant("r", Permission.WRITE, b"k")
    assert store.write_error(store.info("u"), b"k", b"") is None
    assert store.read_error(store.info("u"), b"k", b"") is not None
    bench.grant("r", Permission.READWRITE, b"k")
    assert store.read_error(store.info("u"), b"k", b"") is None
    store.user_revoke_role("u", "r")
    assert store.read_error(store.info("u"), b"k", b"") is not None


def test_tokens_end_with_the_password_the_user_and_authentication(bench: Bench) -> None:
    bench.enable()
    bench.user("u")
    store, tokens = bench.store, bench.tokens

    def log_in() -> bytes:
        return store.authenticate("u", "p", 5).encode()

    assert log_in() == b"p.5"
    claim = tokens.claim(b"p.5")
    assert claim is not None
    assert claim.username == "u"
    store.role_add("r")
    store.user_grant_role("u", "r")
    assert tokens.claim(b"p.5") is not None  # roles come and go
    for end in (
        lambda: store.user_change_password(pb.AuthUserChangePasswordRequest(name="u")),
        store.disable,
        lambda: (store.enable(), log_in(), store.recover()),
        lambda: (log_in(), store.user_delete("u")),
    ):
        if store.enabled:
            log_in()
        end()
        assert tokens.claim(b"p.5") is None
    assert len(tokens) == 0


def test_the_header_of_an_entry() -> None:
    assert AuthInfo("alice", 300).header == b"\xa2\x06\x0a\x12\x05alice\x18\xac\x02"
    assert NOBODY.header == b""
