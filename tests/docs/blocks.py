"""Code blocks of Markdown pages, and what their prints are said to print."""

from __future__ import annotations

import re
from pathlib import Path

from tests.oracle import ROOT

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINT = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


class Block:
    """One block: where it stands, its text, and the lines it must print."""

    def __init__(self, page: str, name: str, text: str) -> None:
        self.page = page
        self.name = name
        self.text = text
        self.prints = [line for comment in _PRINT.findall(text) for line in comment.split(" / ")]


def blocks(page: str) -> list[Block]:
    """Return a page's blocks, named after their headings."""
    text = Path(ROOT / "docs" / page).read_text()
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        heading = _HEADING.findall(text[: match.start()])[-1].lower().replace(" ", "-")
        same = sum(each.name.startswith(heading) for each in found)
        found.append(Block(page, f"{heading}-{same + 1}", match[1]))
    return found
