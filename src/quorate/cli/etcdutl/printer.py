"""What `-w` chooses: the forms of a status and of a hash (etcd: etcdutl/etcdutl/printer*.go)."""

from __future__ import annotations

from quorate.backup.status import Status
from quorate.cli.etcdctl.context import BAD_FEATURE, ExitError
from quorate.mvcc.hash import RevisionHash

FORMATS = ("simple", "fields", "json", "protobuf", "table")
Row = list[tuple[str, str, str, str]]  # column, its cell, the name in fields, the JSON member


def check_format(name: str) -> None:
    """Refuse a format that there is not."""
    if name not in FORMATS:
        raise ExitError(BAD_FEATURE, "unsupported output format")


def status_row(status: Status) -> Row:
    """Return the columns of `snapshot status`: for a file of 3.6 those of 3.6, for an older one those of 3.5.

    3.6 counts the keys that exist, 3.5 all pairs of all buckets.
    """
    from quorate.units import human_bytes

    keys = status.live_keys if status.version else status.total_key
    row = [
        ("hash", f"{status.hash:x}", f'"Hash" : {status.hash}', f'"hash":{status.hash}'),
        ("revision", str(status.revision), f'"Revision" : {status.revision}', f'"revision":{status.revision}'),
        ("total keys", str(keys), f'"Keys" : {keys}', f'"totalKey":{keys}'),
        (
            "total size",
            human_bytes(status.total_size),
            f'"Size" : {status.total_size}',
            f'"totalSize":{status.total_size}',
        ),
    ]
    if status.version:
        version = status.version
        row.append(("version", version, f'"Version" : {version}', f'"version":"{version}"'))
    return row


def hash_row(found: RevisionHash) -> Row:
    """Return the columns of `hashkv`."""
    names = (
        ("hash", "Hash", "hash"),
        ("hash revision", "Hash revision", "hashRevision"),
        ("compact revision", "Compact revision", "compactRevision"),
    )
    values = (found.hash, found.rev, found.compact_rev)
    return [
        (column, str(value), f'"{field}" : {value}', f'"{member}":{value}')
        for (column, field, member), value in zip(names, values, strict=True)
    ]


def render(row: Row, form: str) -> str:
    """Return a row in a format."""
    if form == "simple":
        return ", ".join([cell for _, cell, _, _ in row]) + "\n"
    if form == "fields":
        return "".join([field + "\n" for _, _, field, _ in row])
    if form == "json":
        return "{" + ",".join([member for _, _, _, member in row]) + "}\n"
    if form == "table":
        from quorate.cli.etcdctl.table import render as table

        return table([column for column, _, _, _ in row], [[cell for _, cell, _, _ in row]])
    raise ExitError(BAD_FEATURE, f"{form} not supported as output format")
