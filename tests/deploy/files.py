"""What stands in deploy/, as commands and environments that can be started on loopback addresses."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.oracle import ROOT, free_port

DEPLOY = ROOT / "deploy"


def unit(path: Path) -> configparser.ConfigParser:
    """Read a systemd unit."""
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def environment_file(path: Path) -> dict[str, str]:
    """Read an EnvironmentFile as systemd does: NAME=value, quoted or not, # begins a comment."""
    found = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            name, _, value = line.partition("=")
            (found[name.strip()],) = shlex.split(value) or [""]
    return found


def services() -> dict[str, dict[str, Any]]:
    """Return the services of the compose file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    return found


def pod() -> dict[str, Any]:
    """Return the static pod."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "etcd.yaml").read_text())
    return found


def certs(folder: Path, *words: str) -> None:
    """Run quorate-certs."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "quorate.cli.certs", f"--dir={folder}", *words]
    subprocess.run(command, check=True, env=env, timeout=60)


class Addresses:
    """Loopback addresses in the place of those in the files: a port each for every address and port."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, str], int] = {}

    def port(self, host: str, port: str) -> int:
        """Return the port that stands for host:port."""
        return self._ports.setdefault((host, port), free_port())

    def put_in(self, text: str, own: str) -> str:
        """Replace all URLs of a text. `own` is the host that 0.0.0.0 and 127.0.0.1 stand for in this member's text."""

        def replace(found: re.Match[str]) -> str:
            host = own if found[2] in ("0.0.0.0", "127.0.0.1") else found[2]
            return f"{found[1]}127.0.0.1:{self.port(host, found[3])}"

        return re.sub(r"(https?://)([a-z0-9.]+):([0-9]+)", replace, text)


def unique_urls(text: str) -> str:
    """Drop the second of two URLs of a list that have become the same."""
    return ",".join(dict.fromkeys(text.split(",")))


def rewritten(words: list[str], change: Callable[[str], str]) -> list[str]:
    """Change the value of every flag."""
    found = []
    for word in words:
        flag, equals, value = word.partition("=")
        found.append(flag + equals + (unique_urls(change(value)) if flag.startswith("--listen-") else change(value)))
    return found
