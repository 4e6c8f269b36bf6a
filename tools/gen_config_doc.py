"""Write docs/configuration.md from the table of flags; with --check, only tell whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from quorate.cli.flags import FLAGS, GATES, IGNORED, NONE, OLD_NAMES, REFUSED, SECTIONS, Flag  # noqa: E402

PAGE = ROOT / "docs" / "configuration.md"

INTRO = """# Settings

<!-- Made by tools/gen_config_doc.py from src/quorate/cli/flags.py; do not edit. -->

Every setting of etcd 3.5 and 3.6 is accepted, as a flag (`--name=value`, `-name value`), as an environment variable
(`ETCD_NAME`), or in a YAML file (`--config-file`, or `ETCD_CONFIG_FILE`).

- The file stands alone: flags and variables are ignored beside it.
- Without a file, the same setting as a flag and as a variable is an error; there is no precedence.
- An empty variable counts as absent. Unknown `ETCD_*` variables bring a warning.
- Booleans take no separate word: `--pre-vote=false`. Durations look like `1h30m`; in the file they are nanoseconds.

What the last column says: nothing where a setting has etcd's effect; **none** where it is accepted with a warning and
changes nothing, which is safe; **refused** where the member does not start with it, because running without its effect
would be unsafe or not what was asked for.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def state(flag: Flag) -> str:
    if flag.state == REFUSED:
        return f"**refused**: {flag.note}"
    if flag.state == NONE:
        return f"**none**: {flag.note}"
    return flag.note


def key(flag: Flag) -> str:
    """Where the file has the setting."""
    name = flag.name
    if flag.yaml:
        return f"`{name}`"
    if name.startswith("socket-reuse-"):
        return f"`socket-options: {{{name.removeprefix('socket-')}}}`"
    if flag.section == "Security":
        side = "peer" if name.startswith("peer-") else "client"
        inner = name.removeprefix("peer-").replace("client-cert-allowed", "allowed").replace("cert-allowed", "allowed")
        return "" if "crl" in inner else f"`{side}-transport-security: {{{inner}}}`"
    return "`discovery-config`" if name.startswith("discovery-") else ""


def row(flag: Flag) -> str:
    default = f"`{cell(flag.default)}`" if flag.default else ""
    names = f"`--{flag.name}`" + (f", `--{flag.old}`" if flag.old else "")
    text = cell(flag.help) + (f" Gate: `{flag.gate}`." if flag.gate else "")
    return f"| {names} | {default} | {key(flag)} | {text} | {cell(state(flag))} |\n"


def page() -> str:
    parts = [INTRO]
    for section, flags in SECTIONS:
        parts.append(f"\n## {section}\n\n| flag | default | key in the file | what it is | effect here |\n")
        parts.append("|---|---|---|---|---|\n")
        parts.extend(row(flag) for flag in flags)
    gates = ", ".join(f"`{name}` ({str(value).lower()})" for name, value in GATES.items())
    parts.append(f"\nFeature gates and their defaults: {gates}.\n")
    ignored = ", ".join(f"`--{name}`" for name in IGNORED)
    parts.append(f"\nIgnored without a word, as by etcd: {ignored}.\n")
    counts = {kind: sum(flag.state == kind for flag in FLAGS.values()) for kind in (NONE, REFUSED)}
    total = len(FLAGS)
    parts.append(
        f"\nOf {total} settings ({len(OLD_NAMES)} more are older spellings), {total - counts[NONE] - counts[REFUSED]} "
        f"have their effect, {counts[NONE]} have none, and {counts[REFUSED]} are refused.\n"
    )
    return "".join(parts)


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text() != text:
            print(f"{PAGE.name} is out of date: run python tools/gen_config_doc.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
