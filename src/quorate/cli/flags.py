"""The one table of settings: every flag of etcd 3.5 and 3.6, with type, default, help and what it does here.

Flag parsing, ETCD_* variables, the YAML keys, --help and docs/configuration.md are all made from this table. Defaults
are those of 3.6 (etcd: server/embed/config.go, server/etcdmain/help.go).

`state` says what a setting does in this version:

    USED      it has etcd's effect
    NONE      accepted, with a warning where it is set; it changes nothing, and the note says why
    REFUSED   setting it stops the member at start, because running without its effect would be unsafe or not what was
              asked for

A 3.5 spelling that 3.6 renamed is the `old` name of its successor, and a 3.5 boolean that became a feature gate has the
gate in `gate`; both are flags of their own for the parser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.cli.goflag import Definition, parse_bool, parse_integer
from quorate.runtime.duration import FlagValueError, parse_duration, quote
from quorate.runtime.urls import UrlError, unique_urls

USED: Final = "used"
NONE: Final = "no effect"
REFUSED: Final = "refused"

DEFAULT_NAME: Final = "default"
DEFAULT_PEER_URL: Final = "http://localhost:2380"
DEFAULT_CLIENT_URL: Final = "http://localhost:2379"
DEFAULT_ROTATION: Final = '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'

CLUSTER_STATES: Final = ("new", "existing")
FALLBACKS: Final = ("exit", "proxy")
V2_STAGES: Final = ("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone")
PROXY_MODES: Final = ("off", "readonly", "on")

GATES: Final = {
    "AllAlpha": False,
    "AllBeta": False,
    "CompactHashCheck": False,
    "InitialCorruptCheck": False,
    "LeaseCheckpoint": False,
    "LeaseCheckpointPersist": False,
    "SetMemberLocalAddr": False,
    "StopGRPCServiceOnDefrag": False,
    "TxnModeWriteWithSharedBuffer": True,
}
BETA_GATES: Final = ("TxnModeWriteWithSharedBuffer",)


class Flag:
    """One setting. `default` is the text --help shows; `value` its Python value."""

    def __init__(
        self,
        name: str,
        kind: str,
        default: str,
        help: str,
        state: str = USED,
        note: str = "",
        old: str = "",
        gate: str = "",
        yaml: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.state = state
        self.note = note
        self.old = old
        self.gate = gate
        self.yaml = yaml
        self.section = ""
        self.value: object = PARSERS[kind](default) if default or kind in EMPTY_PARSES else EMPTY_VALUES[kind]

    @property
    def boolean(self) -> bool:
        """Tell whether the flag takes no separate word."""
        return self.kind in ("bool", "ignored")

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return variable_of(self.name)


def variable_of(name: str) -> str:
    """Return the environment variable of a flag."""
    return "ETCD_" + name.upper().replace("-", "_")


def _urls(text: str) -> object:
    if not text:
        return []
    try:
        return unique_urls(text.split(","))
    except UrlError as problem:
        raise FlagValueError(str(problem)) from None


def _origins(text: str) -> object:
    return [text] if text == "*" else [url.text for url in _urls(text)]  # type: ignore[attr-defined]


def _duration(text: str) -> object:
    try:
        return parse_duration(text)
    except FlagValueError:
        raise FlagValueError("parse error") from None


def _uint32(text: str) -> object:
    try:
        return parse_integer(text, 0, (1 << 32) - 1)
    except FlagValueError as problem:
        why = "invalid syntax" if str(problem) == "parse error" else str(problem)
        raise FlagValueError(f"strconv.ParseUint: parsing {quote(text)}: {why}") from None


def _choice(valid: tuple[str, ...]) -> Callable[[str], object]:
    def parse(text: str) -> object:
        if text not in valid:
            raise FlagValueError("invalid value")
        return text

    return parse


def _stages(text: str) -> object:
    for each in text.split(","):
        if each not in V2_STAGES:
            raise FlagValueError(f"invalid value {quote(each)}")
    return text


def parse_gates(text: str) -> dict[str, bool]:
    """Return the feature gates of a text such as "A=true,B=false"; raises FlagValueError."""
    gates: dict[str, bool] = {}
    for part in text.split(","):
        part = part.strip()
        if not part:
            continue
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise FlagValueError(f"missing bool value for {name}")
        try:
            gates[name] = parse_bool(value)
        except FlagValueError:
            why = f"strconv.ParseBool: parsing {quote(value)}: invalid syntax"
            raise FlagValueError(f"invalid value of {name}={value}, err: {why}") from None
    for name in gates:
        if name not in GATES:
            raise FlagValueError(f"unrecognized feature gate: {name}")
    return gates


def _words(text: str) -> object:
    return text.split(",")


def _unique_words(text: str) -> object:
    return sorted(set(text.split(",")))


def _int(text: str) -> object:
    return parse_integer(text, -(1 << 63), (1 << 63) - 1)


def _uint(text: str) -> object:
    return parse_integer(text, 0, (1 << 64) - 1)


PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "string": str,
    "bool": parse_bool,
    "int": _int,
    "int64": _int,
    "uint": _uint,
    "uint64": _uint,
    "uint32": _uint32,
    "duration": _duration,
    "urls": _urls,
    "origins": _origins,
    "words": _words,
    "unique words": _unique_words,
    "cluster state": _choice(CLUSTER_STATES),
    "fallback": _choice(FALLBACKS),
    "proxy mode": _choice(PROXY_MODES),
    "v2 stages": _stages,
    "gates": parse_gates,
    "ignored": str,
}
EMPTY_PARSES: Final = ("string", "urls", "gates", "ignored")
EMPTY_VALUES: Final[dict[str, object]] = {"words": [], "unique words": [], "v2 stages": "", "duration": 0}

NO_V2 = "the v2 API is not served"
NO_V2_PROXY = "the v2 proxy is not supported"

SECTIONS: Final[tuple[tuple[str, tuple[Flag, ...]], ...]] = (
    ("Member", (
        Flag("name", "string", DEFAULT_NAME, "Human-readable name for this member."),
        Flag("data-dir", "string", "", "Path to the data directory (default: the name, with '.etcd' behind it)."),
        Flag("wal-dir", "string", "", "Path to the dedicated wal directory."),
        Flag("snapshot-count", "uint64", "10000", "Number of committed transactions to trigger a snapshot."),
        Flag("heartbeat-interval", "uint", "100", "Time (in milliseconds) of a heartbeat interval."),
        Flag("election-timeout", "uint", "1000", "Time (in milliseconds) for an election to timeout."),
        Flag("initial-election-tick-advance", "bool", "true",
             "Whether to fast-forward initial election ticks on boot for faster election."),
        Flag("listen-peer-urls", "urls", DEFAULT_PEER_URL, "List of URLs to listen on for peer traffic."),
        Flag("listen-client-urls", "urls", DEFAULT_CLIENT_URL,
             "List of URLs to listen on for client grpc traffic, and http as long as --listen-client-http-urls is "
             "not specified."),
        Flag("listen-client-http-urls", "urls", "",
             "List of URLs to listen on for http only client traffic. Enabling this flag removes http services from "
             "--listen-client-urls."),
        Flag("max-snapshots", "uint", "5", "Maximum number of snapshot files to retain (0 is unlimited)."),
        Flag("max-wals", "uint", "5", "Maximum number of wal files to retain (0 is unlimited)."),
        Flag("memory-mlock", "bool", "false", "Enable to enforce etcd pages (in particular bbolt) to stay in RAM.",
             note="locks all memory of the process", old="experimental-memory-mlock"),
        Flag("quota-backend-bytes", "int64", "0",
             "Maximum size (in bytes) of the backend database. Exceeding it raises an alarm and puts the member in "
             "read-only mode. 0 means the default of 2 GiB."),
        Flag("backend-bbolt-freelist-type", "string", "", "Type of freelist of the backend: array or map.", NONE,
             "there is one kind of freelist; the file is the same"),
        Flag("backend-batch-interval", "duration", "0s", "Maximum time before commit of the backend transaction."),
        Flag("backend-batch-limit", "int", "0", "Maximum operations before commit of the backend transaction."),
        Flag("max-txn-ops", "uint", "128", "Maximum number of operations permitted in a transaction."),
        Flag("max-request-bytes", "uint", "1572864", "Maximum client request size in bytes the server will accept."),
        Flag("max-concurrent-streams", "uint32", "4294967295",
             "Maximum concurrent streams that each client can open at a time."),
        Flag("grpc-keepalive-min-time", "duration", "5s",
             "Minimum duration interval that a client should wait before pinging server."),
        Flag("grpc-keepalive-interval", "duration", "2h0m0s",
             "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable)."),
        Flag("grpc-keepalive-timeout", "duration", "20s",
             "Additional duration of wait before closing a non-responsive connection (0 to disable)."),
        Flag("socket-reuse-port", "bool", "false", "Set socket option SO_REUSEPORT on listeners.", yaml=False),
        Flag("socket-reuse-address", "bool", "false", "Set socket option SO_REUSEADDR on listeners.", yaml=False),
        Flag("enable-grpc-gateway", "bool", "true", "Enable the JSON gateway."),
        Flag("raft-read-timeout", "duration", "5s", "Read timeout set on each rafthttp connection", yaml=False),
        Flag("raft-write-timeout", "duration", "5s", "Write timeout set on each rafthttp connection", yaml=False),
        Flag("feature-gates", "gates", "",
             "A set of key=value pairs that describe server level feature gates for alpha/experimental features.",
             note="InitialCorruptCheck and CompactHashCheck work as said; for the others see the flags they replace"),
    )),
    ("Clustering", (
        Flag("initial-advertise-peer-urls", "urls", DEFAULT_PEER_URL,
             "List of this member's peer URLs to advertise to the rest of the cluster."),
        Flag("initial-cluster", "string", "default=http://localhost:2380",
             "Initial cluster configuration for bootstrapping."),
        Flag("initial-cluster-state", "cluster state", "new",
             "Initial cluster state ('new' when bootstrapping a new cluster or 'existing' when adding new members to "
             "an existing cluster). Ignored once the member has been initialized."),
        Flag("initial-cluster-token", "string", "etcd-cluster",
             "Initial cluster token for the etcd cluster during bootstrap. Specifying this can protect you from "
             "unintended cross-cluster interaction when running multiple clusters."),
        Flag("advertise-client-urls", "urls", DEFAULT_CLIENT_URL,
             "List of this member's client URLs to advertise to the public."),
        Flag("discovery", "string", "", "Discovery URL used to bootstrap the cluster for v2 discovery."),
        Flag("discovery-token", "string", "", "V3 discovery: discovery token of the cluster to be bootstrapped.",
             yaml=False),
        Flag("discovery-endpoints", "unique words", "", "V3 discovery: gRPC endpoints of the discovery service.",
             yaml=False),
        Flag("discovery-dial-timeout", "duration", "2s", "V3 discovery: dial timeout for client connections.",
             yaml=False),
        Flag("discovery-request-timeout", "duration", "5s",
             "V3 discovery: timeout for discovery requests (excluding dial timeout).", yaml=False),
        Flag("discovery-keepalive-time", "duration", "2s", "V3 discovery: keepalive time for client connections.",
             yaml=False),
        Flag("discovery-keepalive-timeout", "duration", "6s",
             "V3 discovery: keepalive timeout for client connections.", yaml=False),
        Flag("discovery-insecure-transport", "bool", "true",
             "V3 discovery: disable transport security for client connections.", yaml=False),
        Flag("discovery-insecure-skip-tls-verify", "bool", "false",
             "V3 discovery: skip server certificate verification.", yaml=False),
        Flag("discovery-cert", "string", "", "V3 discovery: TLS certificate file of the client.",
             yaml=False),
        Flag("discovery-key", "string", "", "V3 discovery: TLS key file of the client.",
             yaml=False),
        Flag("discovery-cacert", "string", "", "V3 discovery: CA bundle that verifies the servers.", yaml=False),
        Flag("discovery-user", "string", "", "V3 discovery: username[:password] for authentication.", yaml=False),
        Flag("discovery-password", "string", "", "V3 discovery: password for authentication.",
             yaml=False),
        Flag("discovery-fallback", "fallback", "exit",
             "Expected behavior ('exit') when discovery services fails. v2 proxy is removed."),
        Flag("discovery-proxy", "string", "", "HTTP proxy to use for traffic to discovery service."),
        Flag("discovery-srv", "string", "", "DNS srv domain used to bootstrap the cluster."),
        Flag("discovery-srv-name", "string", "", "Suffix to the dns srv name queried when bootstrapping."),
        Flag("strict-reconfig-check", "bool", "true",
             "Reject reconfiguration requests that would cause quorum loss."),
        Flag("pre-vote", "bool", "true",
             "Enable the raft Pre-Vote algorithm to prevent disruption when a node that has been partitioned away "
             "rejoins the cluster."),
        Flag("auto-compaction-retention", "string", "0",
             "Auto compaction retention length. 0 means disable auto compaction."),
        Flag("auto-compaction-mode", "string", "periodic",
             "Interpret 'auto-compaction-retention' one of: periodic|revision. 'periodic' for duration based "
             "retention, defaulting to hours if no time unit is provided (e.g. '5m'). 'revision' for revision number "
             "based retention."),
        Flag("v2-deprecation", "v2 stages", "write-only",
             "Phase of v2store deprecation. The default value is enforced, ignoring user input.", USED,
             "only 'write-only-skip-check' differs from the default, as in 3.6"),
    )),
    ("Security", (
        Flag("cert-file", "string", "", "Path to the client server TLS cert file.", yaml=False),
        Flag("key-file", "string", "", "Path to the client server TLS key file.", yaml=False),
        Flag("client-cert-auth", "bool", "false", "Enable client cert authentication.", yaml=False),
        Flag("client-cert-file", "string", "", "Path to an explicit peer client TLS cert file.",
             yaml=False),
        Flag("client-key-file", "string", "", "Path to an explicit peer client TLS key file.",
             yaml=False),
        Flag("client-crl-file", "string", "", "Path to the client certificate revocation list file.",
             yaml=False),
        Flag("client-cert-allowed-hostname", "words", "",
             "Comma-separated list of SAN hostnames for client cert authentication.", yaml=False),
        Flag("trusted-ca-file", "string", "", "Path to the client server TLS trusted CA cert file.",
             yaml=False),
        Flag("auto-tls", "bool", "false", "Client TLS using generated certificates.", yaml=False),
        Flag("peer-cert-file", "string", "", "Path to the peer server TLS cert file.", yaml=False),
        Flag("peer-key-file", "string", "", "Path to the peer server TLS key file.", yaml=False),
        Flag("peer-client-cert-auth", "bool", "false", "Enable peer client cert authentication.",
             yaml=False),
        Flag("peer-client-cert-file", "string", "", "Path to an explicit peer client TLS cert file.",
             yaml=False),
        Flag("peer-client-key-file", "string", "", "Path to an explicit peer client TLS key file.",
             yaml=False),
        Flag("peer-trusted-ca-file", "string", "", "Path to the peer server TLS trusted CA file.",
             yaml=False),
        Flag("peer-cert-allowed-cn", "words", "",
             "Comma-separated list of allowed CNs for inter-peer TLS authentication.", yaml=False),
        Flag("peer-cert-allowed-hostname", "words", "",
             "Comma-separated list of allowed SAN hostnames for inter-peer TLS authentication.",
             yaml=False),
        Flag("peer-auto-tls", "bool", "false",
             "Peer TLS using self-generated certificates if --peer-key-file and --peer-cert-file are not provided.",
             yaml=False),
        Flag("self-signed-cert-validity", "uint", "1",
             "The validity period of the certificates that are generated for auto TLS, in years."),
        Flag("peer-crl-file", "string", "", "Path to the peer certificate revocation list file.",
             yaml=False),
        Flag("peer-skip-client-san-verification", "bool", "false",
             "Skip verification of SAN field in client certificate for peer connections.",
             old="experimental-peer-skip-client-san-verification", yaml=False),
        Flag("cipher-suites", "words", "", "Comma-separated list of supported TLS cipher suites."),
        Flag("tls-min-version", "string", "TLS1.2", "Minimum TLS version: TLS1.2, TLS1.3."),
        Flag("tls-max-version", "string", "", "Maximum TLS version: TLS1.2, TLS1.3 (empty: the newest)."),
        Flag("cors", "origins", "*",
             "Comma-separated whitelist of origins for CORS, or cross-origin resource sharing, (empty or * means "
             "allow all)."),
        Flag("host-whitelist", "unique words", "*",
             "Acceptable hostnames from HTTP client requests, if server is not secure (empty or * means allow all)."),
    )),
    ("Auth", (
        Flag("auth-token", "string", "simple",
             "Specify a v3 authentication token type and its options ('simple' or 'jwt')."),
        Flag("bcrypt-cost", "uint", "10",
             "Cost / strength of the bcrypt algorithm for hashing auth passwords, between 4 and 31."),
        Flag("auth-token-ttl", "uint", "300", "Time (in seconds) of the auth-token-ttl."),
    )),
    ("Profiling and Monitoring", (
        Flag("enable-pprof", "bool", "false", "Enable runtime profiling data via HTTP server."),
        Flag("metrics", "string", "basic",
             "Level of detail for exported metrics, 'extensive' includes server side grpc histogram metrics."),
        Flag("listen-metrics-urls", "urls", "", "List of URLs to listen on for the /metrics and /health endpoints."),
    )),
    ("Logging", (
        Flag("logger", "string", "zap", "Currently only supports 'zap' for structured logging."),
        Flag("log-outputs", "unique words", "default",
             "Specify 'stdout' or 'stderr' to skip journald logging even when running under systemd, or list of comma "
             "separated output targets."),
        Flag("log-level", "string", "info", "Only supports debug, info, warn, error, panic, or fatal."),
        Flag("log-format", "string", "json", "Only supports json, console."),
        Flag("enable-log-rotation", "bool", "false", "Enable log rotation of a single log-outputs file target."),
        Flag("log-rotation-config-json", "string", DEFAULT_ROTATION,
             "Configures log rotation if enabled with a JSON logger config. MaxSize(MB), MaxAge(days,0=no limit), "
             "MaxBackups(0=no limit), LocalTime(use computers local time), Compress(gzip)."),
        Flag("warning-unary-request-duration", "duration", "0s",
             "Time duration after which a warning is logged if a unary request takes more time (0 means 300ms).",
             old="experimental-warning-unary-request-duration"),
    )),
    ("Distributed tracing", (
        Flag("enable-distributed-tracing", "bool", "false", "Enable distributed tracing.",
             old="experimental-enable-distributed-tracing"),
        Flag("distributed-tracing-address", "string", "localhost:4317", "Distributed tracing collector address.",
             old="experimental-distributed-tracing-address"),
        Flag("distributed-tracing-service-name", "string", "etcd", "Distributed tracing service name.",
             old="experimental-distributed-tracing-service-name"),
        Flag("distributed-tracing-instance-id", "string", "", "Distributed tracing instance ID.",
             old="experimental-distributed-tracing-instance-id"),
        Flag("distributed-tracing-sampling-rate", "int", "0",
             "Number of samples to collect per million spans for distributed tracing.",
             old="experimental-distributed-tracing-sampling-rate"),
    )),
    ("Features", (
        Flag("experimental-initial-corrupt-check", "bool", "false",
             "Enable to check data corruption before serving any client/peer traffic.", gate="InitialCorruptCheck"),
        Flag("corrupt-check-time", "duration", "0s", "Duration of time between cluster corruption check passes.",
             old="experimental-corrupt-check-time"),
        Flag("experimental-compact-hash-check-enabled", "bool", "false",
             "Enable leader to periodically check followers compaction hashes.", gate="CompactHashCheck"),
        Flag("compact-hash-check-time", "duration", "1m0s",
             "Duration of time between leader checks followers compaction hashes.",
             old="experimental-compact-hash-check-time"),
        Flag("experimental-enable-lease-checkpoint", "bool", "false",
             "Enable leader to send regular checkpoints to other members to prevent reset of remaining TTL on leader "
             "change.", gate="LeaseCheckpoint"),
        Flag("experimental-enable-lease-checkpoint-persist", "bool", "false",
             "Enable persisting remainingTTL to prevent indefinite auto-renewal of long lived leases.",
             gate="LeaseCheckpointPersist"),
        Flag("compaction-batch-limit", "int", "0",
             "Maximum revisions deleted in each compaction batch (0 means 1000).",
             old="experimental-compaction-batch-limit"),
        Flag("compaction-sleep-interval", "duration", "0s",
             "Sleep interval between each compaction batch (0 means 10ms).",
             old="experimental-compaction-sleep-interval"),
        Flag("watch-progress-notify-interval", "duration", "0s",
             "Duration of periodical watch progress notification (0 means 10m).",
             old="experimental-watch-progress-notify-interval"),
        Flag("warning-apply-duration", "duration", "100ms",
             "Warning is generated if requests take more than this duration.",
             old="experimental-warning-apply-duration"),
        Flag("experimental-txn-mode-write-with-shared-buffer", "bool", "true",
             "Enable the write transaction to use a shared buffer in its readonly check operations.", NONE,
             "nothing to choose here", gate="TxnModeWriteWithSharedBuffer"),
        Flag("bootstrap-defrag-threshold-megabytes", "uint", "0",
             "Enable the defrag during bootstrap on condition that it will free at least the provided threshold of "
             "disk space. Needs to be set to non-zero value to take effect.",
             note="it begins with the start, and goes on while clients are served",
             old="experimental-bootstrap-defrag-threshold-megabytes"),
        Flag("max-learners", "int", "1", "Maximum number of learner members in the cluster membership."),
        Flag("downgrade-check-time", "duration", "5s", "Duration of time between two downgrade status checks.",
             old="experimental-downgrade-check-time"),
        Flag("snapshot-catchup-entries", "uint64", "5000",
             "Number of entries for a slow follower to catch up after compacting the raft storage entries.",
             old="experimental-snapshot-catchup-entries"),
        Flag("experimental-stop-grpc-service-on-defrag", "bool", "false",
             "Enable etcd gRPC service to stop serving client requests on defragmentation.", NONE,
             "defragmentation does not block clients here", gate="StopGRPCServiceOnDefrag"),
    )),
    ("Unsafe", (
        Flag("force-new-cluster", "bool", "false", "Force to create a new one-member cluster."),
        Flag("unsafe-no-fsync", "bool", "false", "Disables fsync, unsafe, will cause data loss."),
    )),
    ("Of 3.5 alone", (
        Flag("enable-v2", "bool", "false", "Accept etcd V2 client requests.", NONE, NO_V2),
        Flag("experimental-enable-v2v3", "string", "", "Serve v2 requests through the v3 backend.", NONE,
             NO_V2),
        Flag("proxy", "proxy mode", "off", "Proxy mode setting ('off', 'readonly' or 'on').", REFUSED,
             NO_V2_PROXY),
        Flag("proxy-failure-wait", "uint", "5000", "Milliseconds an endpoint is held in a failed state.", NONE,
             NO_V2_PROXY),
        Flag("proxy-refresh-interval", "uint", "30000", "Milliseconds of the endpoints refresh interval.", NONE,
             NO_V2_PROXY),
        Flag("proxy-dial-timeout", "uint", "1000", "Milliseconds for a dial to timeout.", NONE, NO_V2_PROXY),
        Flag("proxy-write-timeout", "uint", "5000", "Milliseconds for a write to timeout.", NONE, NO_V2_PROXY),
        Flag("proxy-read-timeout", "uint", "0", "Milliseconds for a read to timeout.", NONE, NO_V2_PROXY),
    )),
)  # fmt: skip

IGNORED: Final = (
    "cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force", "max-result-buffer",
    "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
    "test.coverprofile", "test.outputdir",
)  # fmt: skip

DEPRECATED: Final = {
    "max-snapshots": "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
    "v2-deprecation": "--v2-deprecation is deprecated and scheduled for removal in v3.8. "
    "The default value is enforced, ignoring user input.",
}


def _index() -> dict[str, Flag]:
    table: dict[str, Flag] = {}
    for section, flags in SECTIONS:
        for flag in flags:
            flag.section = section
            table[flag.name] = flag
    return table


FLAGS: Final = _index()
"""Every setting by its current name."""

OLD_NAMES: Final = {flag.old: flag.name for flag in FLAGS.values() if flag.old}
"""The 3.5 spellings of renamed settings, and their current names."""


def deprecation(name: str) -> str:
    """Return the warning that etcd 3.6 logs when this flag is set; empty for most."""
    if name in DEPRECATED:
        return DEPRECATED[name]
    flag = FLAGS.get(name)
    short = name in ("experimental-compact-hash-check-enabled", "experimental-compact-hash-check-time") or (
        "distributed-tracing" in name
    )
    since, until = ("3.6", "3.7") if short else ("v3.6", "v3.7")
    start = f"--{name} is deprecated in {since} and will be decommissioned in {until}. Use "
    if flag is not None and flag.gate in ("CompactHashCheck", "TxnModeWriteWithSharedBuffer"):
        return f"{start}'--feature-gates={flag.gate}=true' instead."
    current = OLD_NAMES.get(name)
    if current is None or name == "experimental-peer-skip-client-san-verification":
        return ""
    if name == "experimental-warning-unary-request-duration":
        return f"--{name} is deprecated, and will be decommissioned in v3.7. Use --{current} instead."
    if "distributed-tracing" in name:
        return f"{start}--{current} instead."
    if name == "experimental-compaction-sleep-interval":
        return f"{start}'{current}' instead."
    return f"{start}'--{current}' instead."


def definitions() -> list[Definition]:
    """Return what the parser needs to know: every setting, the old spellings and the words that are ignored."""
    known = [Definition(flag.name, flag.boolean, PARSERS[flag.kind]) for flag in FLAGS.values()]
    for old, name in OLD_NAMES.items():
        known.append(Definition(old, FLAGS[name].boolean, PARSERS[FLAGS[name].kind]))
    known.extend(Definition(name, True, str) for name in IGNORED)
    known.append(Definition("config-file", False, str))
    known.append(Definition("version", True, parse_bool))
    return known
