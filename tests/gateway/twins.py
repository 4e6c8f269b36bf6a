"""Sends the same HTTP requests to real etcd and to ours, and tells what either answered, made comparable.

Only what must differ is replaced: ids by their order of appearance, terms, raft indexes, sizes, hashes, versions,
tokens. The order of keys and every other byte counts.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from tests.oracle import Member

FRAMING = {"date", "content-length", "transfer-encoding", "connection"}
NEW_IN_36 = re.compile(r',"(?:storageVersion|dbSizeQuota|hash_revision)":(?:"[^"]*"|\d+)|,"downgradeInfo":\{\}')
VARIES = [
    (re.compile(r'"(raft_term|raftTerm)":"\d+"'), r'"\1":"TERM"'),
    (re.compile(r'"(raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|remaining_bytes)":"\d+"'), r'"\1":"N"'),
    (re.compile(r'"token":"[A-Za-z]{16}\.\d+"'), '"token":"TOKEN"'),
    (re.compile(r'"(version)":"3\.\d+\.\d+"'), r'"\1":"VERSION"'),
    (re.compile(r'"hash":\d+'), '"hash":HASH'),
]
MEMBERS = re.compile(r'(?<="members":\[)[^\]]*\](?:[^\]]*\])*(?=\})')
# Whether the gateway or the service sees first that the time is up is chance in real etcd.
LATE = re.compile(
    r'"grpc_code":[24],"http_code":50[04],("message":"context deadline exceeded"),"http_status":"[A-Za-z ]+"'
)
LONG_NUMBER = re.compile(r"\b\d{15,20}\b")


@dataclass
class Answer:
    """What one server answered."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Side:
    """One server, what it told us, and the ids seen so far."""

    member: Member
    memory: dict[str, Any] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str], timeout: float = 20) -> Answer:
        """Send one request and read the whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.member.client_port, timeout=timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def seen(self, answer: Answer) -> tuple[int, dict[str, str], str]:
        """Return an answer made comparable."""
        headers = {name.title(): value for name, value in answer.headers.items() if name.lower() not in FRAMING}
        return answer.status, headers, self.normal(answer.body.decode("utf-8", "backslashreplace"))

    def normal(self, text: str) -> str:
        """Replace what may differ between two servers with the same history."""
        text = MEMBERS.sub(_sort_members, NEW_IN_36.sub("", text))
        for pattern, replacement in VARIES:
            text = pattern.sub(replacement, text)
        text = LATE.sub(r"\1", text)
        text = text.replace(str(self.member.peer_port), "PEER").replace(str(self.member.client_port), "CLIENT")
        return LONG_NUMBER.sub(lambda match: self.ids.setdefault(match[0], f"ID{len(self.ids)}"), text)

    def keep(self, name: str, answer: Answer) -> None:
        """Remember a JSON answer for later requests."""
        self.memory[name] = json.loads(answer.body)

    def open(self, path: str) -> Conversation:
        """Begin a request whose body is sent in pieces while the answer is read."""
        return Conversation(self, path)


def _sort_members(match: re.Match[str]) -> str:
    """Order members by their URLs instead of their ids, which are drawn."""
    members = re.findall(r"\{[^{}]*\}", match[0])
    return ",".join(sorted(members, key=lambda member: str(re.findall(r'"peerURLs":\[[^\]]*', member)))) + "]"


class Conversation:
    """A chunked POST whose answer is read line by line."""

    def __init__(self, side: Side, path: str) -> None:
        self.side = side
        self.socket = socket.create_connection(("127.0.0.1", side.member.client_port), 20)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.socket.sendall(head.encode())
        self.answer: http.client.HTTPResponse | None = None

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """End the body."""
        self.socket.sendall(b"0\r\n\r\n")

    def line(self) -> str:
        """Read the next line of the answer, made comparable."""
        if self.answer is None:
            self.answer = http.client.HTTPResponse(self.socket)
            self.answer.begin()
        return self.side.normal(self.answer.readline().decode())

    def close(self) -> None:
        """Hang up."""
        if self.answer is not None:
            self.answer.close()
        self.socket.close()
