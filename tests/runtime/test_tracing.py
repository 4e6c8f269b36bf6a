"""Spans of RPCs at a small collector, beside real etcd's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from quorate.proto.rpc_pb2 import PutRequest, PutResponse, RangeRequest, RangeResponse
from tests.oracle import ROOT, Member, our_command, running

pytestmark = pytest.mark.process

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
ATTRIBUTES = ("rpc.service", "rpc.method", "rpc.grpc.status_code")


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Takes spans by OTLP."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, str], Any]] = []

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802
        for group in request.resource_spans:
            resource = {one.key: one.value.string_value for one in group.resource.attributes}
            self.spans += [(resource, span) for scope in group.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    taken = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(taken, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield taken, f"127.0.0.1:{port}"
    server.stop(None)


def work(member: Member) -> None:
    sampled = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    unsampled = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)
    with grpc.insecure_channel(member.endpoint) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put", PutRequest.SerializeToString, PutResponse.FromString)
        get = channel.unary_unary("/etcdserverpb.KV/Range", RangeRequest.SerializeToString, RangeResponse.FromString)
        put(PutRequest(key=b"a"), metadata=sampled, timeout=10)
        put(PutRequest(key=b"b"), metadata=unsampled, timeout=10)
        with pytest.raises(grpc.RpcError):
            get(RangeRequest(key=b"a", revision=99), metadata=sampled, timeout=10)


def spans(collector: Collector) -> list[dict[str, Any]]:
    """What is said of the spans of `work`, those of other calls left out."""
    found = []
    for resource, span in collector.spans:
        if span.trace_id.hex() != TRACE:
            continue
        attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
        found.append(
            {
                "name": span.name,
                "kind": span.kind,
                "parent": span.parent_span_id.hex(),
                "resource": {name: resource.get(name) for name in ("service.name", "service.instance.id")},
                "attributes": {
                    name: attributes.get(name) for name in ("rpc.service", "rpc.method", "rpc.grpc.status_code")
                },
            }
        )
    return sorted(found, key=lambda span: str(span["name"]))


@pytest.mark.oracle
def test_spans_are_those_of_real_etcd(collector: tuple[Collector, str]) -> None:
    taken, address = collector
    said = {}
    for kind in ("real", "ours"):
        taken.spans.clear()
        flags = [
            "--experimental-enable-distributed-tracing",
            f"--experimental-distributed-tracing-address={address}",
            "--experimental-distributed-tracing-service-name=store",
            "--experimental-distributed-tracing-instance-id=one",
        ]
        with running(kind, flags=flags) as member:
            work(member)
            if kind == "ours":
                member.stop(signal.SIGTERM)  # sends what is left
            deadline = time.monotonic() + 30
            while len(spans(taken)) < 2:
                assert time.monotonic() < deadline, (kind, member.log_tail())
                time.sleep(0.1)
        said[kind] = spans(taken)
    assert [span["name"] for span in said["ours"]] == ["etcdserverpb.KV/Put", "etcdserverpb.KV/Range"]
    assert {span["parent"] for span in said["ours"]} == {PARENT}
    assert said["ours"] == said["real"]


def test_the_sampling_rate_decides_for_calls_without_a_parent(collector: tuple[Collector, str]) -> None:
    taken, address = collector
    for rate, seen in (("0", False), ("1000000", True)):
        taken.spans.clear()
        flags = ["--enable-distributed-tracing", f"--distributed-tracing-address={address}"]
        with running("ours", flags=[*flags, f"--distributed-tracing-sampling-rate={rate}"]) as member:
            assert member.etcdctl("put", "a", "b").returncode == 0
            member.stop(signal.SIGTERM)
        names = {span.name for _, span in taken.spans}
        assert ("etcdserverpb.KV/Put" in names) is seen
        assert {resource["service.name"] for resource, _ in taken.spans} == ({"etcd"} if seen else set())


def test_without_the_packages_the_start_says_so(tmp_path: Any) -> None:
    """A directory in front of the packages that hides them."""
    hidden = tmp_path / "opentelemetry"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('hidden')\n")
    command = our_command() if our_command()[0] == sys.executable else [sys.executable, "-m", "quorate.cli.etcd"]
    done = subprocess.run(
        [
            *command,
            "--enable-distributed-tracing",
            f"--data-dir={tmp_path}/data",
            "--listen-peer-urls=http://127.0.0.1:0",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert "distributed tracing needs the packages opentelemetry-sdk" in done.stderr
