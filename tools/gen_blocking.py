"""Write src/quorate/client/blocking.py from the asyncio client's classes; --check tells whether it is up to date.

Every public method gets a twin of the same name, signature and docstring that runs it on the private loop.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "src/quorate/client"
TARGET = CLIENT / "blocking.py"
SOURCES = {
    "watch": ["Watcher"],
    "lease": ["Lease"],
    "recipes": ["Turn", "Lock", "Election", "Barrier", "Transaction", "Transactions"],
    "aio": ["Client"],
}
WRAPPED = [name for names in SOURCES.values() for name in names]
DUNDERS = {"__aiter__": "__iter__", "__anext__": "__next__", "__aenter__": "__enter__", "__aexit__": "__exit__"}

HEAD = '''"""The blocking client: the asyncio client's methods, run on a private event loop in a thread of its own.

Made by tools/gen_blocking.py from `aio`, `watch`, `lease` and `recipes`; do not edit. A client may be used from several
threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from types import TracebackType

from quorate.client import aio, lease, recipes, watch
from quorate.client.ops import Access, Data, Order, Target
from quorate.client.runner import Runner
from quorate.client.target import TlsOptions
from quorate.client.watch import WatchBatch
from quorate.proto import auth_pb2, kv_pb2
from quorate.proto import rpc_pb2 as pb
from quorate.proto.kv_pb2 import KeyValue

'''

EXIT = """
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._inner.__aexit__(kind, error, trace))
"""
CLIENT_EXTRA = '''
    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the private loop."""
        self._runner.run(self._inner.close())
        self._runner.stop()
'''


def blocking(name: str) -> str:
    """Return the name of a class's twin."""
    return f"Blocking{name}"


def method(node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> str:
    """Return the source of one method's twin."""
    if node.name == "__aexit__":
        return EXIT
    args = node.args
    params = ", ".join([arg.arg for arg in args.args[1:]] + [f"{arg.arg}={arg.arg}" for arg in args.kwonlyargs])
    returns = ast.unparse(node.returns) if node.returns is not None else "None"
    is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    call = f"self._inner.{node.name}" + ("" if is_property else f"({params})")
    if isinstance(node, ast.AsyncFunctionDef):
        call = f"self._runner.run({call})"
    doc = ast.get_docstring(node)
    name = DUNDERS.get(node.name, node.name)
    shown = blocking(returns) if returns in WRAPPED else returns
    lines = ["    @property"] if is_property else []
    lines.append(f"    def {name}({ast.unparse(args)}) -> {shown}:")
    if doc:
        lines.append(f'        """{doc}"""')
    if name == "__next__":
        lines += ["        try:", f"            found = {call}", "        except StopAsyncIteration:"]
        lines += ["            raise StopIteration from None"]
        call = "found"
    elif name == "__enter__":
        return "\n".join([*lines, f"        {call}", "        return self", ""])
    if returns == owner:
        lines += ["        return self"]
    elif returns in WRAPPED:
        lines += [f"        return {blocking(returns)}(self._runner, {call})"]
    elif returns == "None":
        lines += [f"        {call}"]
    else:
        lines += [f"        return {call}"]
    return "\n".join(lines) + "\n"


def twin(module: str, node: ast.ClassDef) -> str:
    """Return the source of one class's twin."""
    name = node.name
    bases = [blocking(base.id) for base in node.bases if isinstance(base, ast.Name)]
    out = [f"class {blocking(name)}{'(' + bases[0] + ')' if bases else ''}:"]
    doc = ast.get_docstring(node) or ""
    out.append(f'    """{doc.replace("async with", "with").replace("async for", "for").replace("await ", "")}"""\n')
    methods = {each.name: each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
    if name == "Client":
        init = methods["__init__"].args
        given = ", ".join([arg.arg for arg in init.args[1:]] + [f"{arg.arg}={arg.arg}" for arg in init.kwonlyargs])
        out.append(f"    def __init__({ast.unparse(init)}) -> None:")
        out.append("        self._runner = Runner()")
        out.append(f"        self._inner = aio.Client({given})")
        out.append(CLIENT_EXTRA)
    else:
        out.append(f"    _inner: {module}.{name}\n" if bases else "")
        out.append(f"    def __init__(self, runner: Runner, inner: {module}.{name}) -> None:")
        out.append("        super().__init__(runner, inner)" if bases else "        self._runner = runner")
        out.append("" if bases else "        self._inner = inner")
    skipped = {"__init__", "__aenter__", "__aexit__", "close"} if name == "Client" else {"__init__"}
    for each in methods.values():
        if each.name not in skipped and (not each.name.startswith("_") or each.name in DUNDERS):
            out.append(method(each, name))
    return "\n".join(out) + "\n"


def generate() -> str:
    """Return the whole module."""
    out = [HEAD]
    for module, names in SOURCES.items():
        tree = ast.parse((CLIENT / f"{module}.py").read_text())
        found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        out += [twin(module, found[name]) for name in names]
    text = "\n".join(out)
    for arguments in (["format"], ["check", "--select=I,F401", "--fix-only"]):
        text = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(TARGET), "-"],
            input=text, capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout  # fmt: skip
    return text


def main() -> int:
    """Write the file, or compare."""
    text = generate()
    if "--check" in sys.argv:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
