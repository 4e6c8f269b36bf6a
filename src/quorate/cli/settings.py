"""From the values of flags, environment or file to a member's settings: the checks of etcd, in etcd's order.

Source of texts and order: etcd's server/embed/config.go (Validate) and server/etcdmain/config.go. A setting whose
effect we do not have and whose absence would be unsafe is refused here, last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

from quorate.cli.flags import (
    BETA_GATES,
    CLUSTER_STATES,
    DEFAULT_NAME,
    FLAGS,
    GATES,
    NONE,
    OLD_NAMES,
    REFUSED,
    deprecation,
)
from quorate.ports import Log
from quorate.runtime.duration import format_duration, quote
from quorate.runtime.log import LEVELS, ZapLog
from quorate.runtime.logout import JOURNAL, JOURNAL_SOCKET, Rotation, open_outputs
from quorate.runtime.settings import MemberSettings
from quorate.runtime.tls.info import TlsInfo
from quorate.runtime.tracing import TracingSettings
from quorate.runtime.urls import Url, UrlError, check_advertised, check_bind, split_host_port

DEFAULT_UNARY_WARNING_NS: Final = 300 * 10**6
_JSON_VALUE: Final = "looking for beginning of value"
_JSON_PLACES: Final = {
    "Expecting property name": "looking for beginning of object key string",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair",
    "Extra data": "after top-level value",
}

MAX_ELECTION_MS: Final = 50_000
MIN_RAFT_TIMEOUT_NS: Final = 5 * 10**9
TLS_VERSIONS: Final = ("", "TLS1.2", "TLS1.3")
NO_ADVERTISED: Final = "--advertise-client-urls is required when --listen-client-urls is set explicitly"
_CALLER: Final = "embed/config.go"


class SettingError(Exception):
    """A setting, or several together, that cannot be; the text is etcd's."""


class LevelPanicError(Exception):
    """A log level that does not exist: etcd panics, with exit status 2."""


class Values:
    """The value of every setting, whatever its source, and which of them were given explicitly."""

    def __init__(self, given: Mapping[str, object], explicit: set[str], from_file: bool) -> None:
        self.given = dict(given)
        self.explicit = explicit
        self.from_file = from_file
        for old, name in OLD_NAMES.items():
            if old in self.given and name not in self.given:
                self.given[name] = self.given[old]

    def get(self, name: str) -> object:
        """Return a setting's value, its default when it was not given."""
        return self.given[name] if name in self.given else FLAGS[name].value

    def text(self, name: str) -> str:
        """Return a text."""
        return cast(str, self.get(name))

    def number(self, name: str) -> int:
        """Return a number, for durations that of nanoseconds."""
        return cast(int, self.get(name))

    def on(self, name: str) -> bool:
        """Return a boolean."""
        return cast(bool, self.get(name))

    def urls(self, name: str) -> list[Url]:
        """Return a list of URLs."""
        return cast("list[Url]", self.get(name))

    def words(self, name: str) -> list[str]:
        """Return a list of texts."""
        return cast("list[str]", self.get(name))


def warn_deprecated(values: Values, log: Log) -> None:
    """Log what etcd 3.6 says about settings that go away, and what we say about those that do nothing here."""
    for name in sorted(values.explicit):
        text = deprecation(name)
        if text:
            log.warn("etcdmain/config.go", text)
        flag = FLAGS.get(OLD_NAMES.get(name, name))
        if flag is not None and flag.state == NONE and values.get(flag.name) != flag.value:
            log.warn("etcdmain/config.go", f"--{name} has no effect: {flag.note}")


def build_log(values: Values) -> ZapLog:
    """Return the log that the settings ask for; SettingError, or LevelPanicError for an unknown level."""
    logger = values.text("logger")
    if logger == "capnslog":
        raise SettingError("--logger=capnslog is removed in v3.5")
    if logger != "zap":
        raise SettingError(f"unknown logger option {quote(logger)}")
    outputs = [name for name in values.words("log-outputs") if name] or ["default"]
    if len(outputs) > 1 and "default" in outputs:
        raise SettingError('multi logoutput for "default" is not supported yet')
    rotation = _rotation(values, outputs) if values.on("enable-log-rotation") else None
    if JOURNAL in outputs and len(outputs) > 1:
        listed = " ".join(quote(name) for name in sorted(outputs))
        others = f"running with systemd/journal but other '--log-outputs' values ([{listed}])"
        raise SettingError(f"{others} are configured with 'default'; override 'default' value with something else")
    level = values.text("log-level")
    if level not in LEVELS:
        raise LevelPanicError(f"unrecognized level: {quote(level)}")
    form = values.text("log-format")
    if form not in ("json", "console"):
        raise SettingError(f"unknown log format: {form}, supported values json, console")
    try:
        return ZapLog(open_outputs(outputs, rotation), level, form == "console")
    except OSError as error:
        if JOURNAL in outputs:
            where = f"dial unixgram {JOURNAL_SOCKET}: connect: {_reason(error)}"
            raise SettingError(f"can't find journal ({where})") from None
        raise SettingError(f'open sink "{error.filename}": open {error.filename}: {_reason(error)}') from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _rotation(values: Values, outputs: list[str]) -> Rotation:
    files = [name for name in outputs if name not in ("default", "stderr", "stdout")]
    if len(files) > 1 or (len(outputs) == 1 and not files):
        raise SettingError("--log-outputs requires a single file path when --log-rotate-config-json is defined")
    try:
        wanted = json.loads(values.text("log-rotation-config-json"))
    except json.JSONDecodeError as error:
        raise SettingError(f"improperly formatted log rotation config: {_json_complaint(error)}") from None
    if not isinstance(wanted, dict):
        raise SettingError(
            "invalid log rotation config: json: cannot unmarshal into Go value of type lumberjack.Logger"
        )
    wanted = {str(key).lower(): value for key, value in wanted.items()}
    for key in ("maxsize", "maxage", "maxbackups"):
        number = wanted.get(key, 0)
        if isinstance(number, bool) or not isinstance(number, int):
            raise SettingError(
                f"invalid log rotation config: json: cannot unmarshal into Go struct field .{key} of type int"
            )
    return Rotation(
        wanted.get("maxsize", 0),
        wanted.get("maxage", 0),
        wanted.get("maxbackups", 0),
        wanted.get("localtime") is True,
        wanted.get("compress") is True,
    )


def _json_complaint(error: json.JSONDecodeError) -> str:
    """Return what Go's decoder would say of the same place."""
    if error.pos >= len(error.doc.rstrip()):
        return "unexpected end of JSON input"
    after = next((go for python, go in _JSON_PLACES.items() if error.msg.startswith(python)), _JSON_VALUE)
    return f"invalid character '{error.doc[error.pos]}' {after}"


def effective_gates(values: Values) -> dict[str, bool]:
    """Return every feature gate's value; SettingError when a gate and its old flag are both given."""
    wanted = cast("dict[str, bool]", values.get("feature-gates"))
    gates = dict(GATES)
    for special, is_beta in (("AllAlpha", False), ("AllBeta", True)):
        if special in wanted:
            for name in GATES:
                if name not in ("AllAlpha", "AllBeta") and (name in BETA_GATES) is is_beta:
                    gates[name] = wanted[special]
    gates.update(wanted)
    for name, flag in FLAGS.items():
        if not flag.gate or name not in values.explicit:
            continue
        if flag.gate in wanted:
            both, gate = str(values.on(name)).lower(), f"--feature-gates={flag.gate}={str(wanted[flag.gate]).lower()}"
            raise SettingError(
                f"cannot specify both flags: --{name}={both} and {gate} at the same time, please just use {gate}"
            )
        gates[flag.gate] = values.on(name)
    return gates


def check_spellings(values: Values) -> None:
    """Refuse a setting that is given under its old and its new name."""
    for old, name in OLD_NAMES.items():
        if old in values.explicit and name in values.explicit:
            if name == "warning-unary-request-duration":
                raise SettingError(f"both --{old} and --{name} flags are set. Use only --{name}")
            raise SettingError(f"cannot set --{old} and --{name} at the same time, please use --{name} only")


def resolve(values: Values, gates: dict[str, bool], log: Log) -> MemberSettings:
    """Check everything and return the member's settings; SettingError at the first that cannot be."""
    if not values.from_file:
        for name in ("raft-read-timeout", "raft-write-timeout"):
            if values.number(name) < MIN_RAFT_TIMEOUT_NS:
                log.info("etcdmain/config.go", f"{name} increased to minimum value: 5s")
    if values.text("discovery-fallback") == "proxy" and not values.from_file and _discovers(values):
        raise SettingError('v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"')
    advertised: list[Url] | None = values.urls("advertise-client-urls")
    if not values.from_file and "listen-client-urls" in values.explicit:
        advertised = advertised if "advertise-client-urls" in values.explicit else None
    _check_urls(values, advertised, log)
    _check_bootstrap(values)
    _check_timers(values)
    if advertised is None:
        raise SettingError(NO_ADVERTISED)
    _check_features(values, gates, log)
    _check_tls_versions(values)
    _refuse(values)
    settings = _member_settings(values, gates, advertised, log)
    if _discovers(values):
        from quorate.cli.discovery.settings import chosen_registry

        settings.registry = chosen_registry(values)
    return settings


def _check_urls(values: Values, advertised: list[Url] | None, log: Log) -> None:
    try:
        check_bind(values.urls("listen-peer-urls"))
        check_bind(values.urls("listen-client-urls"))
        check_bind(values.urls("listen-client-http-urls"))
        if not values.urls("listen-client-http-urls"):
            text = "Running http and grpc server on single port. This is not recommended for production."
            log.warn(_CALLER, text)
        check_bind(values.urls("listen-metrics-urls"))
    except UrlError as error:
        raise SettingError(str(error)) from None
    both = (
        ("initial-advertise-peer-urls", values.urls("initial-advertise-peer-urls")),
        ("advertise-client-urls", advertised),
    )
    for name, urls in both:
        try:
            check_advertised(urls or [])
        except UrlError as error:
            given = ",".join(url.text for url in urls or [])
            raise SettingError(f'--{name} {quote(given)} must be "host:port" ({error})') from None


def _discovers(values: Values) -> bool:
    return bool(values.text("discovery") or values.text("discovery-srv") or values.words("discovery-endpoints"))


def initial_cluster(values: Values) -> str:
    """Return the initial cluster as given, or its default: this member alone; empty when discovery is to find it."""
    given = values.text("initial-cluster")
    if "initial-cluster" in values.explicit and not (values.from_file and given == FLAGS["initial-cluster"].value):
        return given
    if _discovers(values) or (not values.from_file and values.text("discovery-srv-name")):
        return ""
    name = values.text("name")
    if name == DEFAULT_NAME:
        return given
    return ",".join(f"{name or DEFAULT_NAME}={url.text}" for url in values.urls("initial-advertise-peer-urls"))


def _check_bootstrap(values: Values) -> None:
    state = values.text("initial-cluster-state") or "new"
    if state not in CLUSTER_STATES:
        raise SettingError(f"unexpected clusterState {quote(state)}")
    endpoints, token = values.words("discovery-endpoints"), values.text("discovery-token")
    sources = (values.text("discovery"), initial_cluster(values), values.text("discovery-srv"), endpoints)
    if sum(bool(source) for source in sources) > 1:
        raise SettingError(
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery", "discovery-endpoints" or "discovery-srv"'
        )
    v3 = ("token", "cert", "key", "cacert", "user", "password")
    if values.text("discovery-proxy") and (endpoints or any(values.text(f"discovery-{name}") for name in v3)):
        raise SettingError(
            "both v2 discovery settings (discovery, discovery-proxy) and v3 discovery settings (discovery-token, "
            "discovery-endpoints, discovery-cert, discovery-key, discovery-cacert, discovery-user, "
            "discovery-password) are set"
        )
    if bool(token) != bool(endpoints):
        raise SettingError("both --discovery-token and --discovery-endpoints must be set")
    if any(not endpoint.strip() for endpoint in endpoints):
        raise SettingError("--discovery-endpoints must not contain empty endpoints")


def _check_timers(values: Values) -> None:
    tick, election = values.number("heartbeat-interval"), values.number("election-timeout")
    for name, value in (("heartbeat-interval", tick), ("election-timeout", election)):
        if value == 0:
            raise SettingError(f"--{name} must be >0 (set to {value}ms)")
    if 5 * tick > election:
        raise SettingError(
            f"--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{tick}ms]"
        )
    if election > MAX_ELECTION_MS:
        raise SettingError(
            f"--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        )


def _check_features(values: Values, gates: dict[str, bool], log: Log) -> None:
    mode = values.text("auto-compaction-mode")
    if mode == "":
        raise SettingError("undefined auto-compaction-mode")
    if mode not in ("periodic", "revision"):
        raise SettingError(f"unknown auto-compaction-mode {quote(mode)}")
    if values.on("enable-distributed-tracing"):
        rate = values.number("distributed-tracing-sampling-rate")
        if not 0 <= rate <= 1_000_000:
            raise SettingError(
                "distributed tracing configurition is not valid: "
                f"(tracing sampling rate must be between 0 and 1000000, got {rate})"
            )
    if gates["LeaseCheckpoint"] and not gates["LeaseCheckpointPersist"]:
        log.warn(
            _CALLER,
            "Detected that checkpointing is enabled without persistence. "
            "Consider enabling feature gate LeaseCheckpointPersist",
        )
    if gates["LeaseCheckpointPersist"] and not gates["LeaseCheckpoint"]:
        raise SettingError(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        )
    for name in ("experimental-compact-hash-check-time", "compact-hash-check-time"):
        value = values.given.get(name, 1)
        if isinstance(value, int) and value <= 0:
            raise SettingError(f"--{name} must be >0 (set to {format_duration(value)})")
    if values.text("name") == DEFAULT_NAME:
        log.warn(
            _CALLER,
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into "
            "issue when multiple members have the same default name",
            name=DEFAULT_NAME,
        )


def _check_tls_versions(values: Values) -> None:
    lowest, highest = values.text("tls-min-version"), values.text("tls-max-version")
    for version in (lowest, highest):
        if version not in TLS_VERSIONS:
            raise SettingError(f"unexpected TLS version {quote(version)} (must be one of: TLS1.2, TLS1.3)")
    if highest and TLS_VERSIONS.index(lowest) > TLS_VERSIONS.index(highest):
        raise SettingError(f"min version ({lowest}) is greater than max version ({highest})")
    if lowest == "TLS1.3" and any(values.words("cipher-suites")):
        raise SettingError("cipher suites cannot be configured when only TLS1.3 is enabled")


def _refuse(values: Values) -> None:
    """Stop rather than run without what was asked for."""
    for flag in FLAGS.values():
        value = values.get(flag.name)
        if flag.state == REFUSED and value != flag.value and value not in ([], [""]):
            raise SettingError(f"--{flag.name}: {flag.note}")


def _member_settings(values: Values, gates: dict[str, bool], advertised: list[Url], log: Log) -> MemberSettings:
    name = values.text("name")
    data_dir = values.text("data-dir")
    peers = values.urls("initial-advertise-peer-urls")
    peers, clients = _with_default_host(values, peers, advertised, log)
    values.given["initial-advertise-peer-urls"] = peers
    if not data_dir:
        data_dir = f"{name}.etcd"
        fields = {"data-dir": data_dir}
        log.warn("etcdmain/etcd.go", "'data-dir' was empty; using default", **fields)
    return MemberSettings(
        name=name,
        data_dir=data_dir,
        wal_dir=values.text("wal-dir"),
        listen_peer_urls=values.urls("listen-peer-urls"),
        listen_client_urls=values.urls("listen-client-urls"),
        listen_client_http_urls=values.urls("listen-client-http-urls"),
        listen_metrics_urls=values.urls("listen-metrics-urls"),
        advertise_peer_urls=peers,
        advertise_client_urls=clients,
        initial_cluster=initial_cluster(values),
        srv_domain=values.text("discovery-srv"),
        srv_name=values.text("discovery-srv-name"),
        initial_cluster_token=values.text("initial-cluster-token"),
        new_cluster=(values.text("initial-cluster-state") or "new") == "new",
        force_new_cluster=values.on("force-new-cluster"),
        unsafe_no_fsync=values.on("unsafe-no-fsync"),
        skip_v2_check=values.text("v2-deprecation") == "write-only-skip-check",
        raft_read_timeout_ns=max(values.number("raft-read-timeout"), MIN_RAFT_TIMEOUT_NS),
        raft_write_timeout_ns=max(values.number("raft-write-timeout"), MIN_RAFT_TIMEOUT_NS),
        heartbeat_ms=values.number("heartbeat-interval"),
        election_ms=values.number("election-timeout"),
        initial_election_tick_advance=values.on("initial-election-tick-advance"),
        pre_vote=values.on("pre-vote"),
        strict_reconfig_check=values.on("strict-reconfig-check"),
        max_learners=values.number("max-learners"),
        auth_token=values.text("auth-token"),
        auth_token_ttl_s=values.number("auth-token-ttl"),
        bcrypt_cost=values.number("bcrypt-cost"),
        snapshot_count=values.number("snapshot-count"),
        snapshot_catchup_entries=values.number("snapshot-catchup-entries"),
        max_snapshots=values.number("max-snapshots"),
        max_wals=values.number("max-wals"),
        quota_bytes=values.number("quota-backend-bytes"),
        batch_interval_ns=values.number("backend-batch-interval"),
        batch_limit=values.number("backend-batch-limit"),
        compaction_batch_limit=values.number("compaction-batch-limit"),
        compaction_sleep_ns=values.number("compaction-sleep-interval"),
        auto_compaction_mode=values.text("auto-compaction-mode"),
        auto_compaction_retention=values.text("auto-compaction-retention"),
        watch_progress_ns=values.number("watch-progress-notify-interval"),
        warning_apply_ns=values.number("warning-apply-duration"),
        warning_unary_ns=values.number("warning-unary-request-duration") or DEFAULT_UNARY_WARNING_NS,
        extensive_metrics=values.text("metrics") == "extensive",
        tracing=_tracing(values),
        enable_pprof=values.on("enable-pprof") or values.text("log-level") == "debug",
        initial_corrupt_check=gates["InitialCorruptCheck"],
        corrupt_check_ns=values.number("corrupt-check-time"),
        compact_hash_check=gates["CompactHashCheck"],
        compact_hash_check_ns=values.number("compact-hash-check-time"),
        lease_checkpoint=gates["LeaseCheckpoint"],
        lease_checkpoint_persist=gates["LeaseCheckpointPersist"],
        downgrade_check_ns=values.number("downgrade-check-time"),
        memory_mlock=values.on("memory-mlock"),
        bootstrap_defrag_megabytes=values.number("bootstrap-defrag-threshold-megabytes"),
        features=gates,
        max_txn_ops=values.number("max-txn-ops"),
        max_request_bytes=values.number("max-request-bytes"),
        max_concurrent_streams=values.number("max-concurrent-streams"),
        keepalive_min_ns=values.number("grpc-keepalive-min-time"),
        keepalive_interval_ns=values.number("grpc-keepalive-interval"),
        keepalive_timeout_ns=values.number("grpc-keepalive-timeout"),
        reuse_port=values.on("socket-reuse-port"),
        reuse_address=values.on("socket-reuse-address"),
        enable_grpc_gateway=values.on("enable-grpc-gateway"),
        cors=values.words("cors"),
        host_whitelist=values.words("host-whitelist"),
        client_tls=_tls_info(
            values,
            "",
            "client-crl-file",
            cast("list[str]", values.given.get("client-cert-allowed-cn", [])),
            _named(values, "client-cert-allowed-hostname"),
        ),
        peer_tls=_tls_info(
            values,
            "peer-",
            "peer-crl-file",
            _named(values, "peer-cert-allowed-cn"),
            _named(values, "peer-cert-allowed-hostname"),
        ),
        auto_tls=values.on("auto-tls"),
        peer_auto_tls=values.on("peer-auto-tls"),
        self_signed_validity_years=values.number("self-signed-cert-validity"),
    )


def _named(values: Values, name: str) -> list[str]:
    return [word for word in values.words(name) if word]


def _tls_info(values: Values, prefix: str, crl: str, allowed_cns: list[str], allowed_hostnames: list[str]) -> TlsInfo:
    """Return what the flags with this prefix say about TLS."""
    return TlsInfo(
        cert_file=values.text(f"{prefix}cert-file"),
        key_file=values.text(f"{prefix}key-file"),
        client_cert_file=values.text(f"{prefix}client-cert-file"),
        client_key_file=values.text(f"{prefix}client-key-file"),
        trusted_ca_file=values.text(f"{prefix}trusted-ca-file"),
        client_cert_auth=values.on(f"{prefix}client-cert-auth"),
        crl_file=values.text(crl),
        allowed_cns=allowed_cns,
        allowed_hostnames=allowed_hostnames,
        skip_client_san_verify=prefix != "" and values.on("peer-skip-client-san-verification"),
        cipher_suites=_named(values, "cipher-suites"),
        min_version=values.text("tls-min-version"),
        max_version=values.text("tls-max-version"),
    )


def _tracing(values: Values) -> TracingSettings | None:
    if not values.on("enable-distributed-tracing"):
        return None
    return TracingSettings(
        values.text("distributed-tracing-address"),
        values.text("distributed-tracing-service-name"),
        values.text("distributed-tracing-instance-id"),
        values.number("distributed-tracing-sampling-rate"),
    )


def _with_default_host(values: Values, peers: list[Url], clients: list[Url], log: Log) -> tuple[list[Url], list[Url]]:
    """Replace default URLs to advertise by ones with this machine's address when we listen on every address."""
    both = []
    for advertised, listening, name in (
        (peers, values.urls("listen-peer-urls"), "initial-advertise-peer-urls"),
        (clients, values.urls("listen-client-urls"), "advertise-client-urls"),
    ):
        default = cast("list[Url]", FLAGS[name].value)
        host, port = ("", "") if not listening or listening[0].is_unix else split_host_port(listening[0].host)
        if advertised == default and host == "0.0.0.0":
            from quorate.runtime.hosts import default_host

            address = default_host()
            if address:
                log.info("etcdmain/etcd.go", "detected default host for advertise", host=address)
                advertised = [Url(f"http://{address}:{port}", "http", f"{address}:{port}")]
        both.append(advertised)
    return both[0], both[1]
