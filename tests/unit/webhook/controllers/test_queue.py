"""The work queue, with a clock that stands still until it is told to go on."""

from __future__ import annotations

import threading
import time

import pytest

from webhook.controllers.queue import MOST_RETRY_SECONDS, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(settle=0.03, most=0.15, spacing=0.2, clock=clock)


def drain(queue: WorkQueue) -> list[str]:
    """What is due now, each done."""
    found = []
    while (key := queue.take(timeout=0)) is not None:
        found.append(key)
        queue.done(key)
    return found


def test_a_burst_is_done_once_when_it_has_settled(queue: WorkQueue, clock: Clock) -> None:
    for _ in range(4):
        queue.add("a")
        clock.now += 0.02
        assert queue.take(timeout=0) is None
    clock.now += 0.011
    assert drain(queue) == ["a"]
    assert queue.depth == 0


def test_a_burst_without_an_end_is_not_waited_for(queue: WorkQueue, clock: Clock) -> None:
    begun = clock.now
    while queue.take(timeout=0) is None:
        queue.add("a")
        clock.now += 0.02
    assert clock.now - begun == pytest.approx(0.16)


def test_what_is_added_while_it_is_worked_on_is_done_again(queue: WorkQueue, clock: Clock) -> None:
    queue.add("a")
    clock.now += 1
    assert queue.take(timeout=0) == "a"
    queue.add("a")
    clock.now += 1
    assert queue.take(timeout=0) is None  # never two at a time
    queue.done("a")
    assert queue.take(timeout=0) is None
    clock.now += 0.21
    assert drain(queue) == ["a"]
    clock.now += 1
    assert drain(queue) == []


def test_rounds_for_one_key_keep_their_distance_and_others_do_not_wait(queue: WorkQueue, clock: Clock) -> None:
    queue.add("a")
    clock.now += 0.04
    assert drain(queue) == ["a"]
    queue.add("a")
    queue.add("b")
    clock.now += 0.04
    assert drain(queue) == ["b"]
    clock.now += 0.17
    assert drain(queue) == ["a"]


def test_what_failed_waits_longer_each_time(queue: WorkQueue, clock: Clock) -> None:
    queue.add("a")
    waits = []
    for _ in range(14):
        begun = clock.now
        while queue.take(timeout=0) is None:
            clock.now += max(0.005, (clock.now - begun) / 50)
        waits.append(clock.now - begun)
        queue.done("a", failed=True)
    assert waits[1] < waits[3] < waits[6]
    assert all(wait < MOST_RETRY_SECONDS * 1.3 for wait in waits)
    # New work on it does not wait for that, and success forgets.
    queue.add("a")
    clock.now += 0.25
    assert queue.take(timeout=0) == "a"
    queue.done("a")
    queue.add("a")
    clock.now += 0.25
    assert queue.take(timeout=0) == "a"
    queue.done("a", failed=True)
    clock.now += 0.2
    assert drain(queue) == ["a"]


def test_later_does_not_postpone_what_is_due_before(queue: WorkQueue, clock: Clock) -> None:
    queue.add("a", after=10)
    clock.now += 5
    assert drain(queue) == []
    queue.add("a")
    queue.add("a", after=100)
    clock.now += 0.15
    assert drain(queue) == ["a"]


def test_the_oldest_is_first(queue: WorkQueue, clock: Clock) -> None:
    for key in "cab":
        queue.add(key)
        clock.now += 0.001
    clock.now += 1
    assert drain(queue) == ["c", "a", "b"]


def test_threads_are_woken_for_work_and_for_the_end() -> None:
    queue = WorkQueue(settle=0.0, most=0.0, spacing=0.0)
    done: list[str] = []

    def work() -> None:
        while (key := queue.take()) is not None:
            done.append(key)
            queue.done(key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        queue.add(str(number))
    deadline = time.monotonic() + 30
    while not queue.is_idle and time.monotonic() < deadline:
        time.sleep(0.001)
    queue.stop()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(done, key=int) == [str(number) for number in range(1000)]
