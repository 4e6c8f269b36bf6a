"""verify: what is wrong with a directory or a snapshot file. Ours; etcd has nothing like it.

Exit status: 0 nothing is wrong; 1 it could not look; 2 something is wrong.
"""

from __future__ import annotations

import sys

from quorate.backup.findings import Finding, Report
from quorate.backup.offline import Paths, require_file
from quorate.cli.etcdctl.context import BAD_FEATURE, ExitError, bad_args
from quorate.cli.etcdctl.gojson import string
from quorate.cli.etcdutl.context import Context
from quorate.cli.etcdutl.printer import check_format

DAMAGED = 2
_COLOURS = {"bad": "\x1b[31m", "note": "\x1b[33m", "fine": "\x1b[32m"}


def verify(context: Context) -> None:
    """Check, and say what was found, where, and what can be done."""
    from quorate.backup.verify import verify_directory, verify_file

    data_dir, form = context.text("data-dir"), context.text("write-out")
    if len(context.args) > 1 or bool(context.args) == bool(data_dir):
        raise bad_args("verify requires one argument, a snapshot file, or --data-dir")
    check_format(form)
    if form not in ("simple", "json"):
        raise ExitError(BAD_FEATURE, f"{form} not supported as output format")
    if data_dir:
        report = verify_directory(context.disk, Paths(data_dir, context.text("wal-dir")))
    else:
        require_file(context.disk, context.args[0])
        report = verify_file(context.disk, context.args[0])
    context.print(_json(report) if form == "json" else _text(report, sys.stdout.isatty()))
    if report.damaged:
        raise ExitError(DAMAGED)


def _place(finding: Finding) -> str:
    return f"{finding.path}, offset {finding.offset}" if finding.offset >= 0 else finding.path


def _text(report: Report, colours: bool) -> str:
    def paint(word: str) -> str:
        return f"{_COLOURS[word]}{word}\x1b[0m" if colours else word

    out = [f"{name}: {text}\n" for name, text in report.facts]
    for finding in report.findings:
        out.append(f"{paint(finding.level)}: {_place(finding)}: {finding.text}\n")
        out.append(f"  what can be done: {finding.advice}\n")
    bad = sum(finding.level == "bad" for finding in report.findings)
    out.append(f"{paint('bad')}: {bad} things are wrong\n" if bad else f"{paint('fine')}: nothing is wrong\n")
    return "".join(out)


def _json(report: Report) -> str:
    findings = [
        f'{{"level":{string(each.level)},"path":{string(each.path)},"offset":{each.offset},'
        f'"text":{string(each.text)},"advice":{string(each.advice)}}}'
        for each in report.findings
    ]
    facts = [f"{string(name)}:{string(text)}" for name, text in dict(report.facts).items()]
    damaged = str(report.damaged).lower()
    return f'{{"damaged":{damaged},"facts":{{{",".join(facts)}}},"findings":[{",".join(findings)}]}}\n'
