"""The queue in front of the thread that computes, and the stores with a bound."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from explorer.bounded import Budget, ByteCache, Rates
from explorer.worker import Busy, Worker


@pytest.fixture
def blocked():
    """Makes workers whose thread waits in a first job until the event is set."""
    gate, made = threading.Event(), []

    def make(limit, share=None):
        worker, entered = Worker("tests", limit, share), threading.Event()

        def first():
            entered.set()
            gate.wait()

        made.append(worker.submit(first))
        entered.wait()
        return worker, gate

    yield make
    gate.set()
    for job in made:
        job.result()


def test_jobs_of_a_group_are_taken_together(blocked):
    shared: list[list[int]] = []
    order: list[int] = []
    worker, gate = blocked(10, shared.append)
    jobs = [
        worker.submit(lambda i=i: order.append(i), group=group, item=i)
        for i, group in enumerate(["a", "b", "a", None, "b", None])
    ]
    jobs[4].cancel()
    gate.set()
    for i in (0, 1, 2, 3, 5):
        jobs[i].result()
    assert shared == [[0, 2], [1]] and order == [0, 2, 1, 3, 5]
    with pytest.raises(CancelledError):
        jobs[4].result()


def test_a_full_queue_refuses_and_cancelled_jobs_leave_room(blocked):
    worker, gate = blocked(2)
    jobs = [worker.submit(lambda: 1) for _ in range(2)]
    with pytest.raises(Busy, match="the server is busy: 2 tests are waiting"):
        worker.submit(lambda: 1)
    jobs[0].cancel()
    assert worker.num_waiting() == 1
    last = worker.submit(lambda: 2)
    gate.set()
    assert last.result() == 2 and jobs[1].result() == 1


def test_an_error_reaches_the_one_who_waits_and_the_thread_goes_on():
    def share(items):
        if "bad" in items:
            raise ValueError("share")

    worker = Worker("tests", 9, share)
    with pytest.raises(ZeroDivisionError):
        worker.submit(lambda: 1 / 0).result()
    with pytest.raises(ValueError, match="share"):
        worker.submit(lambda: 1, group="g", item="bad").result()
    assert worker.submit(lambda: 3, group="g", item="good").result() == 3


def test_a_cache_keeps_what_was_used_last():
    cache = ByteCache(10, len)
    for key, value in (("a", b"1234"), ("b", b"1234")):
        cache.put(key, value)
    assert cache.get("a") == b"1234"
    cache.put("c", b"123")
    assert cache.get("b") is None and cache.get("a") and cache.get("c")
    cache.put("a", b"12")
    assert cache.num_bytes == 5 and len(cache) == 2
    cache.put("c", b"x" * 11)
    assert cache.get("c") is None and cache.num_bytes == 2


def test_rates_of_each_client():
    now = [0.0]
    rates = Rates(2, 3, max_clients=2, clock=lambda: now[0])
    assert [rates.allows("a") for _ in range(4)] == [True, True, True, False]
    assert rates.allows("b")
    now[0] = 0.5
    assert [rates.allows("a") for _ in range(2)] == [True, False]
    assert rates.allows("c") and rates.allows("d") and len(rates._left) == 2


def test_one_client_takes_half_of_a_budget():
    budget = Budget(10)
    assert budget.take("a", 5) and not budget.take("a", 1)
    assert budget.take("b", 4) and not budget.take("c", 2) and budget.take("c", 1)
    budget.give("a", 5)
    assert budget.num_bytes == 5 and budget.take("a", 5) and not budget.take("d", 1)
