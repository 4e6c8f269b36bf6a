"""The blocking client: the same names and signatures, made anew from the asyncio one, and working."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from quorate.client import BlockingClient, EtcdError, ops
from tests.oracle import ROOT, Member


def test_the_generated_module_is_up_to_date() -> None:
    assert subprocess.run([sys.executable, "tools/gen_blocking.py", "--check"], cwd=ROOT, check=False).returncode == 0


@pytest.mark.oracle
@pytest.mark.process
def test_blocking(member: Member) -> None:
    with BlockingClient(member.endpoint) as client:
        client.delete("", prefix=True)
        client.put("k", "v")
        found = client.get("k")
        assert found is not None
        assert found.value == b"v"
        with pytest.raises(EtcdError):
            client.get("k", revision=10**9)
        assert client.txn([ops.value("k", "=", "v")], [ops.put("k", "w")]).succeeded
        with client.watch("w", prefix=True) as watcher:
            client.put("w1", "x")
            for batch in watcher:
                assert batch.events[0].kv.key == b"w1"
                break
        with client.lease(10) as lease:
            client.put("mortal", "x", lease=lease.id)
        assert client.get("mortal") is None
        for attempt in client.transactions():
            attempt.put("n", str(int(attempt.get("n") or 0) + 1))
        order: list[int] = []

        def work(number: int) -> None:
            with client.lock("job"):
                order.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(order) == [0, 1, 2]
    with pytest.raises(RuntimeError):
        client.get("k")
