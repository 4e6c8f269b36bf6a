"""The one table of commands and flags: names, help texts, and which function runs each (module:function)."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.cli.etcdctl.pflag import BOOL, DURATION, INT, LIST, STRING, UINT, Flag

API_VERSION = "3.6"
VERSION = "3.6.14"


class Command:
    """A command or a group of commands."""

    def __init__(
        self,
        use: str,
        short: str,
        run: str = "",
        flags: Sequence[Flag] = (),
        commands: Sequence[Command] = (),
        long: str = "",
        hidden: bool = False,
    ) -> None:
        self.use = use
        self.name = use.partition(" ")[0]
        self.short = short
        self.run = run
        self.flags = list(flags)
        self.commands = list(commands)
        self.long = long
        self.hidden = hidden


def switch(name: str, usage: str, default: bool = False, short: str = "") -> Flag:
    """Return a boolean flag."""
    return Flag(name, BOOL, default, usage, short, "true" if default else "false")


def text(name: str, usage: str, default: str = "", short: str = "") -> Flag:
    """Return a string flag."""
    return Flag(name, STRING, default, usage, short)


def number(name: str, usage: str, default: int = 0, kind: str = INT) -> Flag:
    """Return an integer flag."""
    return Flag(name, kind, default, usage)


def _seconds(name: str, usage: str, default: int) -> Flag:
    return Flag(name, DURATION, default * 10**9, usage, "", f"{default}s")


GLOBAL_FLAGS = [
    text("cacert", "verify certificates of TLS-enabled secure servers using this CA bundle"),
    text("cert", "identify secure client using this TLS certificate file"),
    _seconds("command-timeout", "timeout for short running command (excluding dial timeout)", 5),
    switch("debug", "enable client-side debug logging"),
    _seconds("dial-timeout", "dial timeout for client connections", 2),
    text("discovery-srv", "domain name to query for SRV records describing cluster endpoints", "", "d"),
    text("discovery-srv-name", "service name to query when using DNS discovery"),
    Flag("endpoints", LIST, ["127.0.0.1:2379"], "gRPC endpoints", "", "[127.0.0.1:2379]"),
    switch("hex", "print byte strings as hex encoded strings"),
    switch("insecure-discovery", "accept insecure SRV records describing cluster endpoints", True),
    switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for testing purposes)",
    ),
    switch("insecure-transport", "disable transport security for client connections", True),
    _seconds("keepalive-time", "keepalive time for client connections", 2),
    _seconds("keepalive-timeout", "keepalive timeout for client connections", 6),
    text("key", "identify secure client using this TLS key file"),
    number("max-recv-bytes", 'client-side response receive limit in bytes (if 0, it defaults to "math.MaxInt32")'),
    number(
        "max-request-bytes",
        "client-side request send limit in bytes (if 0, it defaults to 2.0 MiB (2 * 1024 * 1024).)",
    ),
    text(
        "password",
        "password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    text("user", "username[:password] for authentication (prompt if password is not supplied)"),
    text("write-out", "set the output format (fields, json, protobuf, simple, table)", "simple", "w"),
]

PUT_FLAGS = [
    switch("ignore-lease", "updates the key using its current lease"),
    switch("ignore-value", "updates the key using its current value"),
    text("lease", "lease ID (in hexadecimal) to attach to the key", "0"),
    switch("prev-kv", "return the previous key-value pair before modification"),
]
GET_FLAGS = [
    text("consistency", "Linearizable(l) or Serializable(s)", "l"),
    switch("count-only", "Get only the count"),
    switch("from-key", "Get keys that are greater than or equal to the given key using byte compare"),
    switch("keys-only", "Get only the keys"),
    number("limit", "Maximum number of results"),
    number("max-create-rev", "Maximum create revision"),
    number("max-mod-rev", "Maximum modification revision"),
    number("min-create-rev", "Minimum create revision"),
    number("min-mod-rev", "Minimum modification revision"),
    text("order", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
    switch("prefix", "Get keys with matching prefix"),
    switch("print-value-only", 'Only write values when using the "simple" output format'),
    number("rev", "Specify the kv revision"),
    text("sort-by", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
]
DEL_FLAGS = [
    switch("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
    switch("prefix", "delete keys with matching prefix"),
    switch("prev-kv", "return deleted key-value pairs"),
    switch("range", "delete range of keys"),
]
WATCH_FLAGS = [
    switch("interactive", "Interactive mode", short="i"),
    switch("prefix", "Watch on a prefix if prefix is set"),
    switch("prev-kv", "get the previous key-value pair before the event happens"),
    switch("progress-notify", "get periodic watch progress notification from server"),
    number("rev", "Revision to start watching"),
]
CLUSTER_FLAG = switch("cluster", "use all endpoints from the cluster member list")
MIRROR_FLAGS = [
    text("dest-cacert", "Verify certificates of TLS enabled secure servers using this CA bundle"),
    text("dest-cert", "Identify secure client using this TLS certificate file for the destination cluster"),
    switch("dest-insecure-transport", "Disable transport security for client connections", True),
    text("dest-key", "Identify secure client using this TLS key file"),
    text(
        "dest-password",
        "Destination password for authentication (if this option is used, --user option shouldn't include password)",
    ),
    text("dest-prefix", "destination prefix to mirror a prefix to a different prefix in the destination cluster"),
    text("dest-user", "Destination username[:password] for authentication (prompt if password is not supplied)"),
    number("max-txn-ops", "Maximum number of operations permitted in a transaction during syncing updates.", 128, UINT),
    switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    text("prefix", "Key-value prefix to mirror"),
    number("rev", "Specify the kv revision to start to mirror"),
]


RESTORE_FLAGS = [
    number("bump-revision", "How much to increase the latest revision after restore", 0, UINT),
    text("data-dir", "Path to the data directory"),
    text(
        "initial-advertise-peer-urls",
        "List of this member's peer URLs to advertise to the rest of the cluster",
        "http://localhost:2380",
    ),
    text("initial-cluster", "Initial cluster configuration for restore bootstrap", "default=http://localhost:2380"),
    text(
        "initial-cluster-token",
        "Initial cluster token for the etcd cluster during restore bootstrap",
        "etcd-cluster",
    ),
    number(
        "initial-memory-map-size",
        "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to 0",
        10 << 30,
        UINT,
    ),
    switch(
        "mark-compacted",
        "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision > 0, "
        "disallowed otherwise)",
    ),
    text("name", "Human-readable name for this member", "default"),
    switch("skip-hash-check", "Ignore snapshot integrity hash value (required if copied from data directory)"),
    text("wal-dir", "Path to the WAL directory (use --data-dir if none given)"),
]
_STATUS_LONG = (
    "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n"
    "The items in the lists are hash, revision, total keys, total size.\n\n"
    "Moved to 'etcdctl snapshot status ...'"
)


def _check_flags(what: str, prefix: str, more: str = "") -> list[Flag]:
    loads = f"The {what} check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)"
    return [
        switch("auto-compact", "Compact storage with last revision after test is finished."),
        switch("auto-defrag", "Defragment storage after test is finished."),
        text("load", loads + more, "s"),
        text("prefix", f"The prefix for writing the {what} check's keys.", prefix),
    ]


_PERF_MORE = (
    ". Different workload models use different configurations in terms of number of clients and expected throughput."
)

_ALARM = Command(
    "alarm <subcommand>",
    "Alarm related commands",
    commands=[
        Command("disarm", "Disarms all alarms", "maintenance:alarm_disarm"),
        Command("list", "Lists all alarms", "maintenance:alarm_list"),
    ],
)
_AUTH = Command(
    "auth <enable or disable>",
    "Enable or disable authentication",
    commands=[
        Command("disable", "Disables authentication", "auth:disable"),
        Command("enable", "Enables authentication", "auth:enable"),
        Command("status", "Returns authentication status", "auth:status"),
    ],
)
_CHECK = Command(
    "check <subcommand>",
    "commands for checking properties of the etcd cluster",
    commands=[
        Command(
            "datascale [options]",
            "Check the memory usage of holding data for different workloads on a given server endpoint.",
            "check:datascale",
            _check_flags("datascale", "/etcdctl-check-datascale/"),
            long="If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first "
            "endpoint will be used.",
        ),
        Command(
            "perf [options]",
            "Check the performance of the etcd cluster",
            "check:perf",
            _check_flags("performance", "/etcdctl-check-perf/", _PERF_MORE),
        ),
    ],
)
_DOWNGRADE = Command(
    "downgrade <TARGET_VERSION>",
    "Downgrade related commands",
    commands=[
        Command("cancel", "Cancel the ongoing downgrade action to cluster", "maintenance:downgrade_cancel"),
        Command("enable <TARGET_VERSION>", "Start a downgrade action to cluster", "maintenance:downgrade_enable"),
        Command(
            "validate <TARGET_VERSION>",
            "Validate downgrade capability before starting downgrade",
            "maintenance:downgrade_validate",
        ),
    ],
)
_ENDPOINT = Command(
    "endpoint <subcommand>",
    "Endpoint related commands",
    flags=[CLUSTER_FLAG],
    commands=[
        Command(
            "hashkv",
            "Prints the KV history hash for each endpoint in --endpoints",
            "endpoint:hashkv",
            [number("rev", "maximum revision to hash (default: latest revision)")],
        ),
        Command("health", "Checks the healthiness of endpoints specified in `--endpoints` flag", "endpoint:health"),
        Command(
            "status",
            "Prints out the status of endpoints specified in `--endpoints` flag",
            "endpoint:status",
            long="When --write-out is set to simple, this command prints out comma-separated status lists for each "
            "endpoint.\nThe items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, "
            "raft index, raft applied index, errors.\n",
        ),
    ],
)
_LEASE = Command(
    "lease <subcommand>",
    "Lease related commands",
    commands=[
        Command("grant <ttl>", "Creates leases", "lease:grant"),
        Command(
            "keep-alive [options] <leaseID>",
            "Keeps leases alive (renew)",
            "lease:keep_alive",
            [switch("once", "Resets the keep-alive time to its original value and cobrautl.Exits immediately")],
        ),
        Command("list", "List all active leases", "lease:list_all"),
        Command("revoke <leaseID>", "Revokes leases", "lease:revoke"),
        Command(
            "timetolive <leaseID> [options]",
            "Get lease information",
            "lease:time_to_live",
            [switch("keys", "Get keys attached to this lease")],
        ),
    ],
)
_MEMBER = Command(
    "member <subcommand>",
    "Membership related commands",
    commands=[
        Command(
            "add <memberName> [options]",
            "Adds a member into the cluster",
            "member:add",
            [
                switch("learner", "indicates if the new member is raft learner"),
                text("peer-urls", "comma separated peer URLs for the new member."),
            ],
        ),
        Command(
            "list",
            "Lists all members in the cluster",
            "member:list_all",
            [text("consistency", "Linearizable(l) or Serializable(s)", "l")],
            long="When --write-out is set to simple, this command prints out comma-separated member lists for each "
            "endpoint.\nThe items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.\n",
        ),
        Command(
            "promote <memberID>",
            "Promotes a non-voting member in the cluster",
            "member:promote",
            long="Promotes a non-voting learner member to a voting one in the cluster.\n",
        ),
        Command("remove <memberID>", "Removes a member from the cluster", "member:remove"),
        Command(
            "update <memberID> [options]",
            "Updates a member in the cluster",
            "member:update",
            [text("peer-urls", "comma separated peer URLs for the updated member.")],
        ),
    ],
)
_ROLE_GRANT = [
    switch(
        "from-key",
        "grant a permission of keys that are greater than or equal to the given key using byte compare",
    ),
    switch("prefix", "grant a prefix permission"),
]
_ROLE_REVOKE = [
    switch(
        "from-key",
        "revoke a permission of keys that are greater than or equal to the given key using byte compare",
    ),
    switch("prefix", "revoke a prefix permission"),
]
_ROLE = Command(
    "role <subcommand>",
    "Role related commands",
    commands=[
        Command("add <role name>", "Adds a new role", "auth:role_add"),
        Command("delete <role name>", "Deletes a role", "auth:role_delete"),
        Command("get <role name>", "Gets detailed information of a role", "auth:role_get"),
        Command(
            "grant-permission [options] <role name> <permission type> <key> [endkey]",
            "Grants a key to a role",
            "auth:role_grant",
            _ROLE_GRANT,
        ),
        Command("list", "Lists all roles", "auth:role_list"),
        Command(
            "revoke-permission <role name> <key> [endkey]",
            "Revokes a key from a role",
            "auth:role_revoke",
            _ROLE_REVOKE,
        ),
    ],
)
_SNAPSHOT = Command(
    "snapshot <subcommand>",
    "Manages etcd node snapshots",
    commands=[
        Command(
            "restore <filename> [options]",
            "Restores an etcd member snapshot to an etcd directory",
            "offline:restore",
            RESTORE_FLAGS,
            long="Moved to `etcdctl snapshot restore ...`",
        ),
        Command("save <filename>", "Stores an etcd node backend snapshot to a given file", "snapshot:save"),
        Command(
            "status <filename>",
            "[deprecated] Gets backend snapshot status of a given file",
            "offline:status",
            long=_STATUS_LONG,
        ),
    ],
)
_USER = Command(
    "user <subcommand>",
    "User related commands",
    commands=[
        Command(
            "add <user name or user:password> [options]",
            "Adds a new user",
            "auth:user_add",
            [
                switch("interactive", "Read password from stdin instead of interactive terminal", True),
                text("new-user-password", "Supply password from the command line flag"),
                switch("no-password", "Create a user without password (CN based auth only)"),
            ],
        ),
        Command("delete <user name>", "Deletes a user", "auth:user_delete"),
        Command(
            "get <user name> [options]",
            "Gets detailed information of a user",
            "auth:user_get",
            [switch("detail", "Show permissions of roles granted to the user")],
        ),
        Command("grant-role <user name> <role name>", "Grants a role to a user", "auth:user_grant"),
        Command("list", "Lists all users", "auth:user_list"),
        Command(
            "passwd <user name> [options]",
            "Changes password of user",
            "auth:user_passwd",
            [switch("interactive", "If true, read password from stdin instead of interactive terminal", True)],
        ),
        Command("revoke-role <user name> <role name>", "Revokes a role from a user", "auth:user_revoke"),
    ],
)
_TXN_LONG = """Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.
A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod("key1") > "0"

# success requests (get, put, delete):
put key1 "overwrote-key1"

# failure requests (get, put, delete):
put key1 "created-key1"
put key2 "some extra key"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options."""
_PUT_LONG = """
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
"""

ROOT = Command(
    "etcdctl",
    "A simple command line client for etcd3.",
    flags=GLOBAL_FLAGS,
    commands=[
        _ALARM,
        _AUTH,
        _CHECK,
        Command(
            "compaction [options] <revision>",
            "Compacts the event history in etcd",
            "kv:compaction",
            [switch("physical", "'true' to wait for compaction to physically remove all old revisions")],
        ),
        Command("completion [bash|zsh|fish|powershell]", "Generate completion script", "completion:run"),
        Command(
            "defrag",
            "Defragments the storage of the etcd members with given endpoints",
            "maintenance:defrag",
            [
                CLUSTER_FLAG,
                text("data-dir", "Optional. If present, defragments a data directory not in use by etcd."),
            ],
        ),
        Command(
            "del [options] <key> [range_end]",
            "Removes the specified key or range of keys [key, range_end)",
            "kv:delete",
            DEL_FLAGS,
        ),
        _DOWNGRADE,
        Command(
            "elect <election-name> [proposal]",
            "Observes and participates in leader election",
            "lock:elect",
            [switch("listen", "observation mode", short="l")],
        ),
        _ENDPOINT,
        Command("get [options] <key> [range_end]", "Gets the key or a range of keys", "kv:get", GET_FLAGS),
        Command("help [command]", "Help about any command"),
        _LEASE,
        Command(
            "lock <lockname> [exec-command arg1 arg2 ...]",
            "Acquires a named lock",
            "lock:lock",
            [number("ttl", "timeout for session", 10)],
        ),
        Command(
            "make-mirror [options] <destination>",
            "Makes a mirror at the destination etcd cluster",
            "mirror:run",
            MIRROR_FLAGS,
        ),
        _MEMBER,
        Command(
            "move-leader <transferee-member-id>",
            "Transfers leadership to another etcd cluster member.",
            "member:move_leader",
        ),
        Command(
            "put [options] <key> <value> (<value> can also be given from stdin)",
            "Puts the given key into the store",
            "kv:put",
            PUT_FLAGS,
            long=_PUT_LONG,
        ),
        _ROLE,
        _SNAPSHOT,
        Command(
            "txn [options]",
            "Txn processes all the requests in one transaction",
            "txn:run",
            [switch("interactive", "Input transaction in interactive mode", short="i")],
            long=_TXN_LONG,
        ),
        _USER,
        Command("version", "Prints the version of etcdctl", "main:version"),
        Command(
            "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
            "Watches events stream on keys or prefixes",
            "watch:run",
            WATCH_FLAGS,
        ),
    ],
)
