"""The table of settings against real etcd's --help, and what is made from it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from quorate.cli.flags import FLAGS, IGNORED, NONE, OLD_NAMES, REFUSED, SECTIONS, USED, definitions, deprecation
from quorate.cli.help import flag_list
from tests.oracle import ROOT, real_binary

# Defaults that 3.6 has changed, or whose --help text in 3.5.1 is not the value that counts.
CHANGED = {
    "snapshot-count": "10000",
    "backend-bbolt-freelist-type": "",
    "backend-batch-interval": "0s",
    "discovery-fallback": "exit",
    "v2-deprecation": "write-only",
    "grpc-keepalive-interval": "2h0m0s",
    "data-dir": "",
    "experimental-compaction-batch-limit": "0",
    "experimental-watch-progress-notify-interval": "0s",
    "experimental-bootstrap-defrag-threshold-megabytes": "0",
}


@pytest.mark.oracle
def test_every_flag_of_real_etcd_is_known_with_its_default() -> None:
    text = subprocess.run([real_binary("etcd"), "--help"], capture_output=True, text=True, check=True).stdout
    entries = re.findall(r"^  --([a-z0-9-]+)(?: +'?([^'\n]*)'?)?$", text, re.M)
    assert len(entries) > 80
    for name, default in entries:
        flag = FLAGS[OLD_NAMES.get(name, name)]
        assert flag.default == CHANGED.get(name, default), name


def test_every_flag_of_3_6_is_known() -> None:
    names = (ROOT / "tests" / "cli" / "flags_3_6.txt").read_text().split()
    assert len(names) > 130
    assert set(names) <= set(FLAGS) | set(OLD_NAMES) | set(IGNORED)


def test_the_table_is_sound() -> None:
    known = definitions()
    names = [each.name for each in known]
    assert len(names) == len(set(names))
    for flag in FLAGS.values():
        assert flag.state in (USED, NONE, REFUSED)
        assert flag.help.endswith((".", "connection")) or flag.name.startswith("raft-")
        if flag.state in (NONE, REFUSED):
            assert flag.note, flag.name
        assert flag.section
    assert not set(FLAGS) & set(IGNORED)
    assert sum(len(flags) for _, flags in SECTIONS) == len(FLAGS)


def test_variables() -> None:
    assert FLAGS["initial-advertise-peer-urls"].variable == "ETCD_INITIAL_ADVERTISE_PEER_URLS"


def test_help_lists_every_flag() -> None:
    text = flag_list()
    for flag in FLAGS.values():
        assert f"\n  --{flag.name} '" in text
    assert "Not supported yet: the v2 proxy is not supported." in text


def test_deprecations_are_etcd_s() -> None:
    assert deprecation("name") == ""
    assert deprecation("max-snapshots").startswith("--max-snapshots is deprecated in 3.6 and will be")
    assert deprecation("experimental-corrupt-check-time") == (
        "--experimental-corrupt-check-time is deprecated in v3.6 and will be decommissioned in v3.7. "
        "Use '--corrupt-check-time' instead."
    )
    assert deprecation("experimental-compact-hash-check-enabled") == (
        "--experimental-compact-hash-check-enabled is deprecated in 3.6 and will be decommissioned in 3.7. "
        "Use '--feature-gates=CompactHashCheck=true' instead."
    )
    assert deprecation("experimental-enable-distributed-tracing") == (
        "--experimental-enable-distributed-tracing is deprecated in 3.6 and will be decommissioned in 3.7. "
        "Use --enable-distributed-tracing instead."
    )


def test_the_page_about_settings_is_up_to_date() -> None:
    command = [sys.executable, "tools/gen_config_doc.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
