"""Calls that wait in the server (Lock, Campaign, Observe) and whose clients give up: the member goes on."""

from __future__ import annotations

import grpc
import pytest

from quorate.proto import rpc_pb2, v3election_pb2, v3lock_pb2
from tests.oracle import running

pytestmark = [pytest.mark.process]


def test_clients_that_stop_waiting_leave_the_member_alive() -> None:
    with running("ours") as member, grpc.insecure_channel(member.endpoint) as channel:
        lock = channel.unary_unary(
            "/v3lockpb.Lock/Lock", v3lock_pb2.LockRequest.SerializeToString, v3lock_pb2.LockResponse.FromString
        )
        campaign = channel.unary_unary(
            "/v3electionpb.Election/Campaign",
            v3election_pb2.CampaignRequest.SerializeToString,
            v3election_pb2.CampaignResponse.FromString,
        )
        observe = channel.unary_stream(
            "/v3electionpb.Election/Observe",
            v3election_pb2.LeaderRequest.SerializeToString,
            v3election_pb2.LeaderResponse.FromString,
        )
        lock(v3lock_pb2.LockRequest(name=b"l"), timeout=20)
        campaign(v3election_pb2.CampaignRequest(name=b"e"), timeout=20)
        for _ in range(3):
            for wait in (
                lambda: lock(v3lock_pb2.LockRequest(name=b"l"), timeout=0.4),
                lambda: campaign(v3election_pb2.CampaignRequest(name=b"e"), timeout=0.4),
                lambda: list(observe(v3election_pb2.LeaderRequest(name=b"nobody"), timeout=0.4)),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    wait()
                assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        found = channel.unary_unary(
            "/etcdserverpb.KV/Range", rpc_pb2.RangeRequest.SerializeToString, rpc_pb2.RangeResponse.FromString
        )(rpc_pb2.RangeRequest(key=b"l/", range_end=b"l0"), timeout=20)
        assert len(found.kvs) == 1, "who gave up has taken its key away"
        assert member.process is not None
        assert member.process.poll() is None
