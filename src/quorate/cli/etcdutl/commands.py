"""The one table of commands and flags: names, help texts, and which function runs each (module:function)."""

from __future__ import annotations

from collections.abc import Sequence

from quorate.cli.etcdctl import commands as ctl
from quorate.cli.etcdctl.commands import number, switch, text
from quorate.cli.etcdctl.completion import SHELLS
from quorate.cli.etcdctl.pflag import UINT, Flag

API_VERSION = ctl.API_VERSION
VERSION = ctl.VERSION
MAP_BYTES = 10 << 30


class Command(ctl.Command):
    """A command.

    `required` flags must be given; `exact` is how many arguments it takes (-1: it says so itself), `choices` which ones
    it knows (none: all); `deprecated` is what stderr says first; `plain` leaves " [flags]" out of its use line.
    """

    def __init__(
        self,
        use: str,
        short: str,
        run: str = "",
        flags: Sequence[Flag] = (),
        commands: Sequence[Command] = (),
        long: str = "",
        hidden: bool = False,
        required: Sequence[str] = (),
        exact: int = -1,
        choices: Sequence[str] = (),
        deprecated: str = "",
        plain: bool = False,
    ) -> None:
        super().__init__(use, short, run, flags, commands, long, hidden)
        self.required = sorted(required)
        self.exact = exact
        self.choices = choices
        self.deprecated = deprecated
        self.plain = plain


_STATUS = Command("status <filename>", "Gets backend snapshot status of a given file", "snapshot:status")
_RESTORE = Command(
    "restore <filename> --data-dir {output dir} [options]",
    "Restores an etcd member snapshot to an etcd directory",
    "snapshot:restore",
    [
        number("bump-revision", "How much to increase the latest revision after restore", 0, UINT),
        text("data-dir", "Path to the output data directory"),
        text(
            "initial-advertise-peer-urls",
            "List of this member's peer URLs to advertise to the rest of the cluster",
            "http://localhost:2380",
        ),
        text(
            "initial-cluster",
            "Initial cluster configuration for restore bootstrap",
            "default=http://localhost:2380",
        ),
        text(
            "initial-cluster-token",
            "Initial cluster token for the etcd cluster during restore bootstrap",
            "etcd-cluster",
        ),
        number(
            "initial-memory-map-size",
            "Initial memory map size of the database in bytes. It uses the default value if not defined or defined to "
            "0",
            MAP_BYTES,
            UINT,
        ),
        switch(
            "mark-compacted",
            "Mark the latest revision after restore as the point of scheduled compaction (required if --bump-revision "
            "> 0, disallowed otherwise)",
        ),
        text("name", "Human-readable name for this member", "default"),
        switch(
            "skip-hash-check",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ),
        text("wal-dir", "Path to the WAL directory (use --data-dir if none given)"),
    ],
)
_SAVE = Command(
    "save <filename>",
    "Stores an etcd node backend snapshot to a given file",
    "snapshot:save",
    hidden=True,
    deprecated="Use `etcdctl snapshot save` to download snapshot",
    plain=True,
)
_HASHKV = Command(
    "hashkv <filename>",
    "Prints the KV history hash of a given file",
    "snapshot:hashkv",
    [number("rev", "maximum revision to hash (default: latest revision)")],
    exact=1,
)
_BACKUP = Command(
    "backup",
    "[legacy] offline backup of etcd directory",
    "directory:backup",
    [
        text("backup-dir", "Path to the backup dir"),
        text("backup-wal-dir", "Path to the backup wal dir"),
        text("data-dir", "Path to the etcd data dir"),
        text("wal-dir", "Path to the etcd wal dir"),
        switch("with-v3", "Backup v3 backend data", True),
    ],
    required=("data-dir", "backup-dir"),
)
_CHECK = Command(
    "check <subcommand>",
    "commands for checking properties",
    commands=[
        Command(
            "v2store",
            "Check custom content in v2store",
            "directory:check_v2store",
            [
                text("data-dir", "Required. A data directory not in use by etcd."),
                text("wal-dir", "Optional. A dedicated WAL directory."),
            ],
            required=("data-dir",),
        )
    ],
)
_DEFRAG = Command(
    "defrag",
    "Defragments the storage of the etcd",
    "directory:defrag",
    [text("data-dir", "Required. Defragments a data directory not in use by etcd.")],
    required=("data-dir",),
)
_MIGRATE = Command(
    "migrate",
    "Migrates schema of etcd data dir files to make them compatible with different etcd version",
    "directory:migrate",
    [
        text("data-dir", "Path to the etcd data dir"),
        switch("force", "Ignore migration failure and forcefully override storage version. Not recommended."),
        text(
            "target-version",
            'Target etcd version to migrate contents of data dir. Minimal value 3.5. Format "X.Y" for example 3.6.',
        ),
    ],
    required=("data-dir", "target-version"),
)
_VERIFY = Command(
    "verify [filename]",
    "Checks a stopped member's directory, or a snapshot file, and says what is wrong and what can be done",
    "verify:verify",
    [
        text("data-dir", "Path to the data directory of a member that does not run"),
        text("wal-dir", "Path to the WAL directory (use --data-dir if none given)"),
    ],
)
_COMPLETION = Command(
    "completion [bash|zsh|fish|powershell]",
    "Generate completion script",
    "completion:run",
    exact=1,
    choices=SHELLS,
    plain=True,
)

ROOT = Command(
    "etcdutl",
    "An administrative command line tool for etcd3.",
    flags=[text("write-out", "set the output format (fields, json, protobuf, simple, table)", "simple", "w")],
    commands=[
        _BACKUP,
        _CHECK,
        _COMPLETION,
        _DEFRAG,
        _HASHKV,
        Command("help [command]", "Help about any command"),
        _MIGRATE,
        Command("snapshot", "Manages etcd node snapshots", commands=[_RESTORE, _SAVE, _STATUS]),
        _VERIFY,
        Command("version", "Prints the version of etcdutl", "main:version"),
    ],
)
