"""The loop on uvloop: order of a turn, timers, the storage thread, and the end of a member that cannot go on."""

import threading

import pytest

from quorate.runtime.loop import UvLoop


@pytest.fixture
def loop():
    codes = []
    loop = UvLoop(exit_hook=codes.append)
    loop.codes = codes
    yield loop
    loop.close()


def test_a_turn_makes_soon_calls_in_order_and_writes_last(loop):
    seen = []

    def first():
        seen.append("first")
        loop.soon(lambda: seen.append("next turn"))

    def main():
        loop.at_turn_end(lambda: seen.append("end"))
        loop.soon(first)
        loop.soon(lambda: seen.append("second"))
        loop.later(20_000_000, loop.stop)

    loop.run(main)
    # What a turn asks for comes in the next one, its end call included.
    assert seen == ["end", "first", "second", "next turn"]


def test_timers_fire_in_time_and_can_be_cancelled(loop):
    seen = []
    loop.later(20_000_000, lambda: seen.append("late"))
    loop.later(1_000_000, lambda: seen.append("early"))
    cancelled = loop.later(5_000_000, lambda: seen.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    loop.later(30_000_000, loop.stop)
    before = loop.monotonic_ns()
    loop.run()
    assert seen == ["early", "late"]
    assert loop.monotonic_ns() - before >= 25_000_000


def test_jobs_run_in_order_in_one_thread_and_complete_on_the_loop(loop):
    done = []
    threads = set()

    def job(number):
        threads.add(threading.get_ident())
        if number == 7:
            raise OSError("no space")
        return number * number

    def finish(result, error):
        done.append((result, str(error) if error else None))
        assert threading.get_ident() == main_thread
        if len(done) == 50:
            loop.stop()

    main_thread = threading.get_ident()
    for number in range(50):
        loop.work(lambda number=number: job(number), finish)
    loop.run()
    assert done == [(None, "no space") if number == 7 else (number * number, None) for number in range(50)]
    assert len(threads) == 1
    assert main_thread not in threads


@pytest.mark.parametrize("where", ["soon", "later", "work"])
def test_an_exception_that_escapes_stops_the_member(loop, where):
    def bad(*_):
        loop.aio.call_later(0.01, loop.stop)
        raise ZeroDivisionError("a bug")

    def main():
        if where == "soon":
            loop.soon(bad)
        elif where == "later":
            loop.later(1, bad)
        else:
            loop.work(lambda: None, bad)

    loop.run(main)
    assert loop.codes == [1]


def test_random_bits(loop):
    values = {loop.random_bits(64) for _ in range(10)}
    assert len(values) == 10
    assert all(0 <= value < 2**64 for value in values)
    assert loop.time_ns() > 10**18
