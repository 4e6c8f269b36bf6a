"""Run etcd-io/raft's data-driven scripts against our raft and compare the output text for text.

    python tools/raft_scripts.py DIR [NAME ...]

DIR holds interaction/, quorum/ and confchange/ (or is one of them, or holds scripts directly); NAMEs restrict the run
to scripts whose path contains one of them. Prints a diff for each mismatch and a summary; exits 1 on any mismatch.

A script is a list of blocks: comments, a command line, input lines, `----`, the expected output up to a blank line. The
commands are described by etcd-io/raft's rafttest package; here each is one method, found by its name.
"""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT / "src") not in sys.path:
    sys.path.append(str(ROOT / "src"))

from quorate.raft import codec, confchange, quorum  # noqa: E402
from quorate.raft.core import READ_ONLY_LEASE_BASED, READ_ONLY_SAFE, ROLE_NAMES, Config, ProposalDropped  # noqa: E402
from quorate.raft.describe import (  # noqa: E402
    describe_entry,
    describe_hard_state,
    describe_message,
    describe_snapshot,
    quote,
)
from quorate.raft.logger import Logger  # noqa: E402
from quorate.raft.node import RawNode, Ready, StepError  # noqa: E402
from quorate.raft.storage import MemoryStorage, StorageError  # noqa: E402
from quorate.raft.tracker import Progress, Tracker  # noqa: E402
from quorate.raft.types import (  # noqa: E402
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    MESSAGE_NAMES,
    MSG_SNAP,
    MSG_STORAGE_APPEND,
    NO_LIMIT,
    REMOVE_NODE,
    TRANSITION_AUTO,
    TRANSITION_JOINT_EXPLICIT,
    TRANSITION_JOINT_IMPLICIT,
    UPDATE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)

LEVELS = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"]
TRANSITIONS = {
    "auto": TRANSITION_AUTO,
    "implicit": TRANSITION_JOINT_IMPLICIT,
    "explicit": TRANSITION_JOINT_EXPLICIT,
}
CHANGES = {"v": ADD_NODE, "l": ADD_LEARNER_NODE, "r": REMOVE_NODE, "u": UPDATE_NODE}


class ScriptError(Exception):
    """A command failed; its text is part of the output."""


# ---------------------------------------------------------------------------------------------------- the script format


class Block:
    """One command of a script with its expected output."""

    def __init__(self, line: int, command: str, data: str, expected: str) -> None:
        self.line = line
        self.text = command
        self.data = data
        self.expected = expected
        words = split_command(command)
        self.command = words[0]
        self.words: list[str] = []
        self.options: dict[str, list[str]] = {}
        for word in words[1:]:
            key, found, value = word.partition("=")
            if not found:
                self.words.append(key)
            else:
                self.options.setdefault(key, []).extend(split_values(value))

    def option(self, key: str) -> str | None:
        values = self.options.get(key)
        return values[-1] if values else None


def split_command(command: str) -> list[str]:
    """Split at blanks outside of parentheses."""
    return re.findall(r"(?:[^\s(]|\([^)]*\))+", command)


def split_values(value: str) -> list[str]:
    if value.startswith("("):
        inner = value[1:-1].strip()
        return [item.strip() for item in inner.split(",")] if inner else []
    return [value]


def parse(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        line = lines[place]
        if not line.strip() or line.startswith("#"):
            place += 1
            continue
        start = place + 1
        command = line
        while command.endswith("\\"):
            place += 1
            command = command[:-1] + " " + lines[place].strip()
        place += 1
        data: list[str] = []
        while lines[place] != "----":
            data.append(lines[place])
            place += 1
        place += 1
        expected: list[str] = []
        if lines[place : place + 1] == ["----"]:
            place += 1
            while lines[place : place + 2] != ["----", "----"]:
                expected.append(lines[place])
                place += 1
            place += 2
        else:
            while place < len(lines) and lines[place].strip():
                expected.append(lines[place])
                place += 1
        yield Block(start, command.strip(), "\n".join(data), "\n".join(expected))


# ---------------------------------------------------------------------------------------------------- interaction


class Output(Logger):
    """The text of one command: what the harness prints and what the members log."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []
        self.indent = ""

    def set_level(self, name: str) -> None:
        if name.upper() not in LEVELS:
            raise ScriptError(f"log levels must be either of [{' '.join(LEVELS)}]")
        self.level = LEVELS.index(name.upper())

    def quiet(self) -> bool:
        return self.level == LEVELS.index("NONE")

    def write(self, level: int, text: str) -> None:
        self.print(f"{LEVELS[level]} {text}")

    def print(self, text: str) -> None:
        if not self.quiet():
            self.lines += [self.indent + line for line in text.split("\n")]


class Member:
    """One member: its raft, its storage, its storage threads' queues, and the states its state machine went through."""

    def __init__(self, config: Config, storage: MemoryStorage, snapshot: Snapshot) -> None:
        self.config = config
        self.storage = storage
        self.node = RawNode(config)
        self.append_work: list[Message] = []
        self.apply_work: list[Message] = []
        self.history: list[Snapshot] = [snapshot]


class HistoryStorage(MemoryStorage):
    """Storage whose snapshot is always the state machine's present state."""

    def __init__(self) -> None:
        super().__init__()
        self.member: Member | None = None

    def snapshot(self) -> Snapshot:
        return super().snapshot() if self.member is None else self.member.history[-1]


class Interaction:
    """A group of members driven by commands (rafttest: InteractionEnv)."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.messages: list[Message] = []
        self.output = Output()

    def run(self, block: Block) -> str:
        self.output.lines = []
        handler: Callable[[Block], None] | None = getattr(self, "do_" + block.command.replace("-", "_"), None)
        try:
            if handler is None:
                raise ScriptError("unknown command")
            handler(block)
        except (ScriptError, ProposalDropped, StepError, StorageError) as error:
            if self.output.quiet():
                return str(error)
            self.output.print(str(error))
        return "\n".join(self.output.lines) or "ok"

    def member(self, word: str) -> Member:
        return self.members[int(word) - 1]

    # -- setting up

    def do__breakpoint(self, _block: Block) -> None:
        pass

    def do_log_level(self, block: Block) -> None:
        self.output.set_level(block.words[0])

    def do_add_nodes(self, block: Block) -> None:
        snapshot = Snapshot(b"", 0, 0, ConfState())
        known = {"voters", "learners", "index", "content"}
        bootstrap = bool(known & set(block.options))
        snapshot.conf_state.voters = [int(value) for value in block.options.get("voters", [])]
        snapshot.conf_state.learners = [int(value) for value in block.options.get("learners", [])]
        snapshot.index = int(block.option("index") or 0)
        snapshot.data = (block.option("content") or "").encode()
        for _ in range(int(block.words[0])):
            storage = HistoryStorage()
            if bootstrap:
                if snapshot.index <= 1:
                    raise ScriptError("index must be specified as > 1 due to bootstrap")
                snapshot.term = 1
                storage.apply_snapshot(snapshot)
            member = Member(self._config(block, storage, snapshot.index), storage, snapshot)
            storage.member = member
            self.members.append(member)

    def _config(self, block: Block, storage: MemoryStorage, applied: int) -> Config:
        def flag(name: str) -> bool:
            return block.option(name) == "true"

        read_only = block.option("read-only") or "safe"
        if read_only not in ("safe", "lease-based"):
            raise ScriptError(f'invalid read-only option "{read_only}"')
        return Config(
            id=len(self.members) + 1,
            storage=storage,
            random=lambda _bound: 0,
            election_tick=3,
            heartbeat_tick=1,
            applied=applied,
            max_size_per_msg=NO_LIMIT,
            max_committed_size_per_ready=int(block.option("max-committed-size-per-ready") or 0),
            max_inflight_msgs=int(block.option("inflight") or 2**31 - 1),
            pre_vote=flag("prevote"),
            check_quorum=flag("checkquorum"),
            read_only=READ_ONLY_SAFE if read_only == "safe" else READ_ONLY_LEASE_BASED,
            async_storage_writes=flag("async-storage-writes"),
            disable_conf_change_validation=flag("disable-conf-change-validation"),
            step_down_on_removal=flag("step-down-on-removal"),
            logger=self.output,
        )

    # -- input

    def do_campaign(self, block: Block) -> None:
        self.member(block.words[0]).node.campaign()

    def do_tick_election(self, block: Block) -> None:
        self._tick(self.member(block.words[0]), election=True)

    def do_tick_heartbeat(self, block: Block) -> None:
        self._tick(self.member(block.words[0]), election=False)

    def _tick(self, member: Member, election: bool) -> None:
        for _ in range(member.config.election_tick if election else member.config.heartbeat_tick):
            member.node.tick()

    def do_set_randomized_election_timeout(self, block: Block) -> None:
        timeout = int(block.option("timeout") or 0)
        assert timeout > 0
        self.member(block.words[0]).node.raft.randomized_election_timeout = timeout

    def do_propose(self, block: Block) -> None:
        self.member(block.words[0]).node.propose([block.words[1].encode()])

    def do_propose_conf_change(self, block: Block) -> None:
        transition = block.option("transition") or "auto"
        if transition not in TRANSITIONS:
            raise ScriptError(f"unknown transition {transition}")
        changes = parse_changes(block.data)
        node = self.member(block.words[0]).node
        if block.option("v1") in ("true", "1"):
            if len(changes) > 1 or transition != "auto":
                raise ScriptError("v1 conf change can only have one operation and no transition")
            node.propose_conf_change(ConfChange(0, changes[0].type, changes[0].node_id))
        else:
            node.propose_conf_change(ConfChangeV2(TRANSITIONS[transition], changes))

    def do_transfer_leadership(self, block: Block) -> None:
        self.member(block.option("from") or "").node.transfer_leader(int(block.option("to") or 0))

    def do_forget_leader(self, block: Block) -> None:
        self.member(block.words[0]).node.forget_leader()

    def do_report_unreachable(self, block: Block) -> None:
        self.member(block.words[0]).node.report_unreachable(int(block.words[1]))

    def do_send_snapshot(self, block: Block) -> None:
        sender, to = int(block.words[0]), int(block.words[1])
        member = self.members[sender - 1]
        term = member.node.status().term
        message = Message(MSG_SNAP, to=to, frm=sender, term=term, snapshot=member.history[-1])
        self.messages.append(message)
        self.output.print(describe_message(message))

    # -- output

    def do_raft_log(self, block: Block) -> None:
        self._print_log(self.member(block.words[0]).storage)

    def _print_log(self, storage: MemoryStorage) -> None:
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self.output.print(f"log is empty: first index={first}, last index={last}")
            return
        for entry in storage.entries(first, last + 1, NO_LIMIT):
            self.output.print(describe_entry(entry))

    def do_compact(self, block: Block) -> None:
        storage = self.member(block.words[0]).storage
        storage.compact(int(block.words[1]))
        self._print_log(storage)

    def do_raft_state(self, _block: Block) -> None:
        for member in self.members:
            status = member.node.status()
            voter = "(Voter)" if status.config.is_voter(status.id) else "(Non-Voter)"
            self.output.print(f"{status.id}: {ROLE_NAMES[status.state]} {voter} Term:{status.term} Lead:{status.lead}")

    def do_status(self, block: Block) -> None:
        for line in describe_progress(self.member(block.words[0]).node.status().progress):
            self.output.print(line)

    # -- handling

    def _each(self, block: Block, title: str, call: Callable[[Member], None]) -> None:
        for word in block.words:
            if len(block.words) > 1:
                self._indented(f"> {word} {title}", call, self.member(word))
            else:
                call(self.member(word))

    def _indented(self, title: str, call: Callable[[Member], None], member: Member) -> None:
        self.output.print(title)
        self.output.indent += "  "
        try:
            call(member)
        finally:
            self.output.indent = self.output.indent[:-2]

    def do_process_ready(self, block: Block) -> None:
        self._each(block, "handling Ready", self._process_ready)

    def _process_ready(self, member: Member) -> None:
        ready = member.node.ready()
        self.output.print(describe_ready(ready))
        if not member.config.async_storage_writes:
            self._append(member, ready.hard_state, ready.entries, ready.snapshot)
            self._apply(member, ready.committed_entries)
        for message in ready.messages:
            if message.to in (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD):
                assert member.config.async_storage_writes, "unexpected local msg target"
                work = member.append_work if message.type == MSG_STORAGE_APPEND else member.apply_work
                work.append(message)
            else:
                self.messages.append(message)
        if not member.config.async_storage_writes:
            member.node.advance(ready)

    def _append(self, member: Member, state: HardState | None, entries: list[Entry], snapshot: Snapshot | None) -> None:
        if state is not None and not state.is_empty():
            member.storage.set_hard_state(state)
        if snapshot is not None and not snapshot.is_empty():
            if entries:
                raise ScriptError("can't apply snapshot and entries at the same time")
            member.storage.apply_snapshot(snapshot)
            return
        member.storage.append(entries)

    def _apply(self, member: Member, entries: list[Entry]) -> None:
        for entry in entries:
            last = member.history[-1]
            update = entry.data or b""
            state = last.conf_state
            change: ConfChange | ConfChangeV2 | None = None
            if entry.type == ENTRY_CONF_CHANGE:
                change = codec.decode_conf_change(update)
            elif entry.type == ENTRY_CONF_CHANGE_V2:
                change = codec.decode_conf_change_v2(update)
            if change is not None:
                update = change.context or b""
                state = member.node.apply_conf_change(change)
            member.history.append(Snapshot((last.data or b"") + update, entry.index, entry.term, state))

    def do_process_append_thread(self, block: Block) -> None:
        self._each(block, "processing append thread", self._process_append_work)

    def _process_append_work(self, member: Member) -> None:
        if not member.append_work:
            self.output.print("no append work to perform")
            return
        message = member.append_work.pop(0)
        responses = message.responses
        message.responses = []
        self.output.print("Processing:\n" + describe_message(message))
        state = HardState(message.term, message.vote, message.commit)
        self._append(member, state, message.entries, message.snapshot)
        self._respond(responses)

    def _respond(self, responses: list[Message]) -> None:
        self.output.print("Responses:")
        for response in responses:
            self.output.print(describe_message(response))
        self.messages += responses

    def do_process_apply_thread(self, block: Block) -> None:
        self._each(block, "processing apply thread", self._process_apply_work)

    def _process_apply_work(self, member: Member) -> None:
        if not member.apply_work:
            self.output.print("no apply work to perform")
            return
        message = member.apply_work.pop(0)
        responses = message.responses
        message.responses = []
        self.output.print("Processing:\n" + describe_message(message))
        self._apply(member, message.entries)
        self._respond(responses)

    def do_deliver_msgs(self, block: Block) -> None:
        kind = -1
        name = block.option("type")
        if name is not None:
            kind = MESSAGE_NAMES.index(name)
        recipients = [(int(word), False) for word in block.words]
        recipients += [(int(value), True) for value in block.options.get("drop", [])]
        count = sum([self._deliver(to, kind, drop) for to, drop in recipients])
        if count == 0:
            self.output.print("no messages")

    def _deliver(self, to: int, kind: int, drop: bool) -> int:
        chosen = [m for m in self.messages if is_for(m, to, kind, drop)]
        self.messages = [m for m in self.messages if not is_for(m, to, kind, drop)]
        for message in chosen:
            self.output.print(("dropped: " if drop else "") + describe_message(message))
            if not drop:
                try:
                    self.members[to - 1].node.step(message)
                except (ProposalDropped, StepError) as error:
                    self.output.print(str(error))
        return len(chosen)

    def do_stabilize(self, block: Block) -> None:
        level = self.output.level
        name = block.option("log-level")
        if name is not None:
            self.output.set_level(name)
        try:
            members = [self.member(word) for word in block.words] or self.members
            while self._stabilize_once(members):
                pass
        finally:
            self.output.level = level

    def _stabilize_once(self, members: list[Member]) -> bool:
        worked = False
        for member in members:
            if member.node.has_ready():
                self._indented(f"> {member.config.id} handling Ready", self._process_ready, member)
                worked = True
        for member in members:
            to = member.config.id
            if any(is_for(message, to, -1, False) for message in self.messages):
                self._indented(f"> {to} receiving messages", self._deliver_all, member)
                worked = True
        for member in members:
            if member.append_work:
                self._indented(f"> {member.config.id} processing append thread", self._drain_append, member)
                worked = True
        for member in members:
            if member.apply_work:
                self._indented(f"> {member.config.id} processing apply thread", self._drain_apply, member)
                worked = True
        return worked

    def _deliver_all(self, member: Member) -> None:
        self._deliver(member.config.id, -1, False)

    def _drain_append(self, member: Member) -> None:
        while member.append_work:
            self._process_append_work(member)

    def _drain_apply(self, member: Member) -> None:
        while member.apply_work:
            self._process_apply_work(member)


def is_for(message: Message, to: int, kind: int, drop: bool) -> bool:
    threads = (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD)
    local = message.frm == message.to or message.frm in threads or message.to in threads
    return message.to == to and not (drop and local) and kind in (-1, message.type)


def parse_changes(text: str) -> list[ConfChangeSingle]:
    changes = []
    for token in text.split():
        if len(token) < 2:
            raise ScriptError(f"unknown token {token}")
        if token[0] not in CHANGES:
            raise ScriptError(f"unknown input: {token}")
        changes.append(ConfChangeSingle(CHANGES[token[0]], int(token[1:])))
    return changes


def describe_progress(progress: dict[int, Progress]) -> list[str]:
    return [f"{member}: {progress[member].describe()}" for member in sorted(progress)]


def describe_ready(ready: Ready) -> str:
    lines: list[str] = []
    if ready.soft_state is not None:
        lines.append(f"Lead:{ready.soft_state.lead} State:{ROLE_NAMES[ready.soft_state.role]}")
    if ready.hard_state is not None:
        lines.append("HardState " + describe_hard_state(ready.hard_state))
    if ready.read_states:
        reads = [f"{{{state.index} [{' '.join([str(b) for b in state.context])}]}}" for state in ready.read_states]
        lines.append(f"ReadStates [{' '.join(reads)}]")
    if ready.entries:
        lines += ["Entries:", *[describe_entry(entry, quote) for entry in ready.entries]]
    if ready.snapshot is not None:
        lines.append("Snapshot " + describe_snapshot(ready.snapshot))
    if ready.committed_entries:
        lines += ["CommittedEntries:", *[describe_entry(entry, quote) for entry in ready.committed_entries]]
    if ready.messages:
        lines += ["Messages:", *[describe_message(message, quote) for message in ready.messages]]
    if not lines:
        return "<empty Ready>"
    return "\n".join([f"Ready MustSync={'true' if ready.must_sync else 'false'}:", *lines])


# ---------------------------------------------------------------------------------------------------- confchange


class ConfChangeScript:
    """Changes of one configuration (etcd-io/raft: confchange/datadriven_test.go)."""

    def __init__(self) -> None:
        self.tracker = Tracker(10, 0)
        self.last_index = 0

    def run(self, block: Block) -> str:
        try:
            return self._run(block)
        except (ScriptError, confchange.ConfChangeError) as error:
            return str(error)
        finally:
            self.last_index += 1

    def _run(self, block: Block) -> str:
        changes = parse_changes(block.data)
        changer = confchange.Changer(self.tracker, self.last_index)
        if block.command == "simple":
            changer.simple(changes)
        elif block.command == "enter-joint":
            changer.enter_joint(block.option("autoleave") == "true", changes)
        elif block.command == "leave-joint":
            if changes:
                raise ScriptError("this command takes no input")
            changer.leave_joint()
        else:
            raise ScriptError("unknown command")
        self.tracker.switch(changer.config, changer.progress)
        return "\n".join([changer.config.describe(), *describe_progress(changer.progress)])


# ---------------------------------------------------------------------------------------------------- quorum


class QuorumScript:
    """Vote and commit arithmetic (etcd-io/raft: quorum/datadriven_test.go)."""

    def run(self, block: Block) -> str:
        joint = "cfgj" in block.options
        first = [int(value) for value in block.options.get("cfg", [])]
        second = [int(value) for value in block.options.get("cfgj", []) if value != "zero"]
        values = block.options.get("votes" if block.command == "vote" else "idx", [])
        order = list(dict.fromkeys(first + second))
        if len(order) != len(values):
            numbers = [{"y": "2", "n": "1", "_": "0"}.get(value, value) for value in values]
            voters = "[" + " ".join([str(member) for member in sorted(order)]) + "]"
            return f"error: mismatched input (explicit or _) for voters {voters}: [{' '.join(numbers)}]"
        known = {member: value for member, value in zip(order, values, strict=True) if value != "_"}
        first, second = sorted(set(first)), sorted(set(second))
        if block.command == "vote":
            return self._vote(first, second, {member: value == "y" for member, value in known.items()})
        if block.command == "committed":
            return self._committed(first, second, joint, {member: int(value) for member, value in known.items()})
        return "unknown command"

    def _vote(self, first: list[int], second: list[int], votes: dict[int, bool]) -> str:
        result = quorum.joint_vote(first, second, votes)
        lines = []
        if quorum.joint_vote(second, first, votes) != result:
            lines.append(f"{quorum.VOTE_NAMES[quorum.joint_vote(second, first, votes)]} <-- via symmetry")
        return "\n".join([*lines, quorum.VOTE_NAMES[result]])

    def _committed(self, first: list[int], second: list[int], joint: bool, acked: dict[int, int]) -> str:
        def index(member: int) -> int:
            return acked.get(member, 0)

        one, two = [index(member) for member in first], [index(member) for member in second]
        result = quorum.joint_committed(one, two)
        checks = [("via symmetry", quorum.joint_committed(two, one))]
        if not joint:
            checks = [
                ("via zero-joint quorum", quorum.joint_committed(one, [])),
                ("via self-joint quorum", quorum.joint_committed(one, one)),
            ]
        text = describe_acked(sorted(set(first + second)) if joint else first, acked)
        for name, other in checks:
            if other != result:
                text += f"{describe_index(other)} <-- {name}\n"
        return text + describe_index(result)


def describe_index(index: int) -> str:
    return "∞" if index == quorum.INFINITY else str(index)


def describe_acked(members: list[int], acked: dict[int, int]) -> str:
    """Draw each member's index; the bar is as long as the number of members with a lower one."""
    if not members:
        return "<empty majority quorum>"
    count = len(members)
    indexes = [acked.get(member, 0) for member in members]
    text = " " * count + "    idx\n"
    for member, index in zip(members, indexes, strict=True):
        lower = len([other for other in indexes if other < index])
        bar = "x" * lower + ">" + " " * (count - lower) if member in acked else "?" + " " * count
        text += f"{bar} {index:5}    (id={member:x})\n"
    return text


# ---------------------------------------------------------------------------------------------------- running

RUNNERS: dict[str, Callable[[], Interaction | ConfChangeScript | QuorumScript]] = {
    "interaction": Interaction,
    "confchange": ConfChangeScript,
    "quorum": QuorumScript,
}


def kind_of(path: Path, blocks: list[Block]) -> str:
    """Tell what drives a script: its folder, or else its first command."""
    if path.parent.name in RUNNERS:
        return path.parent.name
    command = blocks[0].command if blocks else ""
    if command in ("committed", "vote"):
        return "quorum"
    return "confchange" if command in ("simple", "enter-joint", "leave-joint") else "interaction"


def run_script(path: Path) -> str:
    """Run one script; returns the differences, empty when there are none."""
    blocks = list(parse(path.read_text()))
    runner = RUNNERS[kind_of(path, blocks)]()
    differences: list[str] = []
    for block in blocks:
        try:
            actual = runner.run(block).rstrip("\n")
        except Exception:
            return f"{path.name}:{block.line}: {block.text}\n{traceback.format_exc()}"
        if actual == block.expected:
            continue
        title = f"{path.name}:{block.line}: {block.text}"
        lines = difflib.unified_diff(
            block.expected.split("\n"), actual.split("\n"), f"expected by {title}", "actual", lineterm="", n=3
        )
        differences += lines
    return "\n".join(differences)


def find_scripts(folder: Path, names: list[str]) -> list[Path]:
    paths = sorted(folder.rglob("*.txt"))
    return [path for path in paths if not names or any(name in str(path) for name in names)]


def main(argv: list[str]) -> int:
    if not argv or not Path(argv[0]).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    paths = find_scripts(Path(argv[0]), argv[1:])
    failed = 0
    for path in paths:
        difference = run_script(path)
        if difference:
            failed += 1
            print(difference)
    print(f"{len(paths) - failed} of {len(paths)} scripts pass")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
