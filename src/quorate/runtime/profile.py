"""/debug/pprof: what Go's net/http/pprof answers for, said of a Python process, as text.

    /debug/pprof/                       what there is
    /debug/pprof/profile?seconds=30     samples of all threads' stacks, folded: "MainThread;a.py:f;b.py:g 17" a line,
                                        the input of flame graph tools; the head says the CPU time of each thread
    /debug/pprof/goroutine[?debug=2]    how many asyncio tasks and threads; with debug=2 the stack of each
    /debug/pprof/threadcreate           the threads
    /debug/pprof/heap                   allocated blocks, and objects by type
    /debug/pprof/allocs?seconds=10      where memory was allocated meanwhile (tracemalloc: the member is slower then)
    /debug/pprof/cmdline                the command, NUL between its words

Compiled functions have no Python frames: they count for whoever called them. For their own share, look at the process
with `perf`, or profile an interpreted one. Samples are taken by a thread of its own; the loop goes on.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final

from quorate.http.mux import Mux, Reply, Request, Response, text_error

SAMPLE_S: Final = 0.01
MAX_SECONDS: Final = 300
TOP: Final = 50

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_INDEX: Final = """<html><head><title>/debug/pprof/</title></head><body>
<p>Profiles of this member, as text:</p>
<ul>
<li><a href="profile?seconds=10">profile?seconds=10</a>: sampled stacks, folded for flame graphs</li>
<li><a href="goroutine?debug=2">goroutine?debug=2</a>: asyncio tasks and threads with their stacks</li>
<li><a href="threadcreate">threadcreate</a>: the threads</li>
<li><a href="heap">heap</a>: allocated blocks and objects by type</li>
<li><a href="allocs?seconds=5">allocs?seconds=5</a>: where memory was allocated meanwhile</li>
<li><a href="cmdline">cmdline</a>: the command</li>
</ul>
<p>Compiled functions have no frames of their own in a profile: they count for their callers.</p>
</body></html>
"""


class Profiles:
    """The pages. `on_loop(call)` calls on the loop, from any thread."""

    def __init__(self, command: Sequence[str], on_loop: Callable[[Callable[[], None]], None]) -> None:
        self.command = list(command)
        self._on_loop = on_loop
        self._busy = False

    def register(self, mux: Mux) -> None:
        """Add the paths."""
        mux.add("/debug/pprof", _to_index)
        mux.add("/debug/pprof/", lambda _, reply: reply(_html(_INDEX)))
        mux.add("/debug/pprof/cmdline", lambda _, reply: reply(_text("\0".join(self.command))))
        mux.add("/debug/pprof/goroutine", lambda request, reply: reply(_text(_stacks(request))))
        mux.add("/debug/pprof/threadcreate", lambda _, reply: reply(_text(_threads())))
        mux.add("/debug/pprof/heap", lambda _, reply: reply(_text(_heap())))
        mux.add("/debug/pprof/profile", lambda request, reply: self._run(request, reply, 30, sample))
        mux.add("/debug/pprof/allocs", lambda request, reply: self._run(request, reply, 10, allocations))

    def _run(self, request: Request, reply: Reply, default: int, measure: Callable[[float], str]) -> None:
        """Measure in a thread of its own, one at a time, for as long as `seconds` says."""
        try:
            seconds = float((request.values("seconds") or [str(default)])[0])
        except ValueError:
            seconds = 0
        if not 0 < seconds <= MAX_SECONDS:
            reply(text_error(400, f"seconds must be above 0 and at most {MAX_SECONDS}"))
            return
        if self._busy:
            reply(text_error(500, "Could not enable CPU profiling: cpu profiling already in use"))
            return
        self._busy = True

        def answer(response: Response) -> None:
            self._busy = False
            reply(response)

        def work() -> None:
            try:
                response = _text(measure(seconds))
            except Exception as error:  # a page must not end the member
                response = text_error(500, f"{type(error).__name__}: {error}")
            try:
                self._on_loop(lambda: answer(response))
            except RuntimeError:
                return  # the loop has ended meanwhile

        threading.Thread(target=work, name="profile", daemon=True).start()


def sample(seconds: float) -> str:
    """Return the folded stacks of all other threads, sampled for that long."""
    own = threading.get_ident()
    counts: Counter[str] = Counter()
    cpu_before = _thread_times()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != own:
                counts[";".join([names.get(ident, f"thread-{ident}"), *_folded(frame)])] += 1
        time.sleep(SAMPLE_S)
    cpu = {thread: used - cpu_before.get(thread, 0.0) for thread, used in _thread_times().items()}
    head = [f"# {seconds:g} s, a sample every {SAMPLE_S * 1000:g} ms; CPU seconds by thread:"]
    head += [f"# {name}: {used:.2f}" for name, used in sorted(cpu.items(), key=lambda item: -item[1])]
    return "\n".join(head + [f"{stack} {count}" for stack, count in counts.most_common()]) + "\n"


def allocations(seconds: float) -> str:
    """Return where memory was allocated within that time and is still held."""
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        time.sleep(seconds)
        grown = tracemalloc.take_snapshot().compare_to(before, "lineno")
    finally:
        if started:
            tracemalloc.stop()
    lines = [f"{one.size_diff} bytes in {one.count_diff} blocks: {one.traceback}" for one in grown[:TOP]]
    return "\n".join([f"# allocated within {seconds:g} s and not freed, by line", *lines]) + "\n"


def _folded(frame: FrameType | None) -> list[str]:
    """Return the functions of a stack, outermost first, as "file.py:function"."""
    found = []
    while frame is not None:
        code = frame.f_code
        found.append(f"{os.path.basename(code.co_filename)}:{code.co_qualname}")
        frame = frame.f_back
    return found[::-1]


def _thread_times() -> dict[str, float]:
    """Return the CPU seconds of each thread, by its name and kernel id."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    folder = "/proc/self/task"
    for entry in os.listdir(folder) if os.path.isdir(folder) else []:
        try:
            with open(f"{folder}/{entry}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended
        used = (int(fields[11]) + int(fields[12])) / _TICKS
        found[f"{names.get(int(entry), 'native')} ({entry})"] = used
    return found


def _tasks() -> list[asyncio.Task[object]]:
    try:
        return list(asyncio.all_tasks())
    except RuntimeError:
        return []


def _stacks(request: Request) -> str:
    tasks, frames = _tasks(), sys._current_frames()
    if request.values("debug")[:1] != ["2"]:
        return f"asyncio tasks: {len(tasks)}\nthreads: {len(frames)}\n"
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in frames.items():
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, ident)}:\n{stack}")
    for task in tasks:
        lines = [f"  {one.f_code.co_filename}:{one.f_lineno} {one.f_code.co_qualname}" for one in task.get_stack()]
        parts.append("\n".join([f"task {task.get_name()} {task.get_coro()!r}:", *lines]) + "\n")
    return "\n".join(parts)


def _threads() -> str:
    lines = [f"{thread.name} {thread.native_id}" for thread in threading.enumerate()]
    return "\n".join([f"threads: {len(lines)}", *lines]) + "\n"


def _heap() -> str:
    """Return objects by type: those that the cyclic collector knows and that came after the start."""
    counts = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    lines = [f"{count} {name}" for name, count in counts.most_common(TOP)]
    head = [
        f"allocated blocks: {sys.getallocatedblocks()}",
        f"objects frozen at the start: {gc.get_freeze_count()}",
        f"collections by generation: {[one['collections'] for one in gc.get_stats()]}",
        "containers by type, since the start:",
    ]
    return "\n".join(head + lines) + "\n"


def _text(text: str) -> Response:
    headers = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Response(200, text.encode("utf-8", "replace"), headers)


def _html(text: str) -> Response:
    return Response(200, text.encode(), (("Content-Type", "text/html; charset=utf-8"),))


def _to_index(_: Request, reply: Reply) -> None:
    reply(Response(301, b"", (("Location", "/debug/pprof/"), ("Content-Type", "text/html; charset=utf-8"))))
