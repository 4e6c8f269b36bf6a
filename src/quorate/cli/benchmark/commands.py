"""The sub-commands and their flags, by the names and defaults of etcd's tools/benchmark/cmd."""

from __future__ import annotations

from quorate.cli.etcdctl.commands import number, switch, text
from quorate.cli.etcdctl.pflag import DURATION, LIST, UINT, Flag
from quorate.cli.etcdutl.commands import Command


def _duration(name: str, usage: str) -> Flag:
    return Flag(name, DURATION, 0, usage, shown="0s")


GLOBAL_FLAGS = [
    Flag("endpoints", LIST, ["127.0.0.1:2379"], "gRPC endpoints", shown="[127.0.0.1:2379]"),
    number("conns", "Total number of gRPC connections", 1, UINT),
    number("clients", "Total number of gRPC clients", 1, UINT),
    switch("precise", "use full floating point precision"),
    switch("sample", "'true' to sample requests for every second"),
    text("cert", "identify HTTPS client using this SSL certificate file"),
    text("key", "identify HTTPS client using this SSL key file"),
    text("cacert", "verify certificates of HTTPS-enabled servers using this CA bundle"),
    switch("insecure-skip-tls-verify", "skip server certificate verification"),
    text("user", "provide username[:password] and prompt if password is not supplied."),
    _duration("dial-timeout", "dial timeout for client connections (0: 5s)"),
    _duration("auto-sync-interval", "the interval to update endpoints with its latest members"),
    switch("target-leader", "connect only to the leader node"),
    switch("report-perfdash", "Generate benchmark report in perfdash format"),
]

_CONSISTENCY = text("consistency", "Linearizable(l) or Serializable(s)", "l")
_KEY_SPACE = number("key-space-size", "Maximum possible keys", 1)


def _sizes(what: str) -> list[Flag]:
    return [number("key-size", f"Key size of {what}", 8), number("val-size", f"Value size of {what}", 8)]


def _amounts(what: str, per_second: str) -> list[Flag]:
    return [
        number("rate", f"Maximum {per_second} per second (0 is no limit)"),
        number("total", f"Total number of {what}", 10_000),
    ]


ROOT = Command(
    "benchmark",
    "A low-level benchmark tool for etcd3",
    flags=GLOBAL_FLAGS,
    commands=[
        Command(
            "put",
            "Benchmark put",
            "unary:put",
            [
                *_sizes("put request"),
                *_amounts("put requests", "puts"),
                _KEY_SPACE,
                switch("sequential-keys", "Use sequential keys"),
                text("prefix", "Prefix for keys"),
                _duration(
                    "compact-interval",
                    "Interval to compact database (do not duplicate this with etcd's 'auto-compaction-retention' flag) "
                    "(e.g. --compact-interval=5m compacts every 5-minute)",
                ),
                number(
                    "compact-index-delta",
                    "Delta between current revision and compact revision (e.g. current revision 10000, compact at "
                    "9000)",
                    1000,
                ),
                switch("check-hashkv", "'true' to check hashkv"),
            ],
        ),
        Command(
            "range key [end-range]",
            "Benchmark range",
            "unary:range_",
            [
                *_amounts("range requests", "range requests"),
                _CONSISTENCY,
                number("limit", "Maximum number of results to return from range request (0 is no limit)"),
                switch("count-only", "Only returns the count of keys"),
                switch("keys-only", "Only returns the keys"),
                switch("paginate", "Use paginated unary range with 10k-key pages"),
                switch("prefix", "Range over all keys with the given key as prefix"),
            ],
        ),
        Command(
            "txn-put",
            "Benchmark txn-put",
            "unary:txn_put",
            [
                *_sizes("txn put"),
                number("txn-ops", "Number of puts per txn", 1),
                *_amounts("txn requests", "txns"),
                _KEY_SPACE,
            ],
        ),
        Command(
            "txn-mixed key [end-range]",
            "Benchmark a mixed load of txn-put & txn-range.",
            "unary:txn_mixed",
            [
                *_sizes("mixed txn"),
                *_amounts("txn requests", "txns"),
                text(
                    "end-key",
                    "Read operation range end key. By default, we do full range query with the default limit of 1000.",
                ),
                number("limit", "Read operation range result limit", 1000),
                _KEY_SPACE,
                _CONSISTENCY,
                Flag("rw-ratio", "string", "1", "Read/write ops ratio", shown="1"),
            ],
        ),
        Command(
            "stm",
            "Benchmark STM",
            "stm:stm",
            [
                text(
                    "isolation",
                    "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)",
                    "r",
                ),
                number("keys", "Total unique keys accessible by the benchmark", 1),
                number("total", "Total number of completed STM transactions", 10_000),
                number("keys-per-txn", "Number of keys to access per transaction", 1),
                number("txn-wr-percent", "Percentage of keys to overwrite per transaction", 50),
                text(
                    "stm-locker",
                    "Wrap STM transaction with a custom locking mechanism (stm, lock-client, lock-rpc)",
                    "stm",
                ),
                number("val-size", "Value size of each STM put request", 8),
                number("rate", "Maximum STM transactions per second (0 is no limit)"),
            ],
        ),
        Command(
            "watch",
            "Benchmark watch",
            "watch:watch",
            [
                number("streams", "Total watch streams", 10),
                number("watch-per-stream", "Total watchers per stream", 100),
                number("watched-key-total", "Total number of keys to be watched", 1),
                number("put-rate", "Number of keys to put per second"),
                number("put-total", "Number of put requests", 1000),
                number("key-size", "Key size of watch request", 32),
                _KEY_SPACE,
                switch("sequential-keys", "Use sequential keys"),
            ],
        ),
        Command(
            "watch-get",
            "Benchmark watch with get",
            "watch:watch_get",
            [
                number("watchers", "Total number of watchers", 10_000),
                number("streams", "Total number of watcher streams", 1),
                number("events", "Number of events per watcher", 8),
            ],
        ),
        Command(
            "watch-latency",
            "Benchmark watch latency",
            "watch:watch_latency",
            [
                number("streams", "Total watch streams", 10),
                number("watchers-per-stream", "Total watchers per stream", 10),
                switch("prevkv", "PrevKV enabled on watch requests"),
                number("put-total", "Total number of put requests", 1000),
                number("put-rate", "Number of keys to put per second", 100),
                number("key-size", "Key size of watch response", 32),
                number("val-size", "Value size of watch response", 32),
            ],
        ),
        Command(
            "lease-keepalive",
            "Benchmark lease keepalive",
            "unary:lease_keepalive",
            [number("total", "Total number of lease keepalive requests", 10_000)],
        ),
        Command("help", "Help about any command", hidden=True),
    ],
)
