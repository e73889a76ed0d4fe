"""What is remembered, and for how long."""

from __future__ import annotations

from eastgate.decide.memory import MAX_ANSWERS, MAX_REFUSED, Remembered, TokenMemory, token_key
from eastgate.decide.statuses import JWT_VERIFICATION_FAILED
from eastgate.keys.ring import NoRemoteKeys
from eastgate.model.keys import RemoteKeys
from tests.unit.decide.scenes import REMOTE, Ring, key_set

NEVER, FOREVER = float("-inf"), float("inf")


def entry(
    good_from: float = NEVER, good_until: float = FOREVER, source: RemoteKeys | None = None, generation: int = 0
) -> Remembered:
    return Remembered({}, (), good_from, good_until, source, generation)


def test_it_is_bounded_and_keeps_what_is_used() -> None:
    memory = TokenMemory(100)
    used = entry()
    memory.keep(b"used", used)
    for number in range(1000):
        memory.keep(b"%d" % number, entry())
        assert memory.find(b"used", 0, NoRemoteKeys()) is used
        assert len(memory) <= 101
    assert memory.find(b"1", 0, NoRemoteKeys()) is None


def test_a_token_is_good_in_its_own_time_only() -> None:
    memory = TokenMemory()
    for now, good in [(9.9, False), (10.0, True), (19.9, True), (20.0, False)]:
        memory.keep(b"t", entry(10, 20))
        assert (memory.find(b"t", now, NoRemoteKeys()) is not None) is good
    # Once out of its time it is forgotten, and must be verified anew.
    assert memory.find(b"t", 15, NoRemoteKeys()) is None


def test_a_token_is_good_with_the_keys_that_verified_it() -> None:
    for ring, good in [
        (Ring().put(REMOTE, key_set(), 1), True),
        (Ring().put(REMOTE, key_set(), 2), False),
        (Ring().put(REMOTE, None, 1), False),
        (Ring(), False),
    ]:
        memory = TokenMemory()
        memory.keep(b"t", entry(source=REMOTE, generation=1))
        assert (memory.find(b"t", 0, ring) is not None) is good


def test_another_plan_forgets_everything() -> None:
    memory = TokenMemory()
    first, second = object(), object()
    memory.bind(first)
    memory.keep(b"t", entry())
    memory.keep_answer("q", "a")
    memory.refuse(b"t", 1, JWT_VERIFICATION_FAILED)
    memory.bind(first)
    assert len(memory) == 1
    memory.bind(second)
    assert len(memory) == 0
    assert memory.find_answer("q") is None
    assert memory.find_refused(b"t", 1) is None


def test_refusals_belong_to_a_generation_and_are_bounded() -> None:
    memory = TokenMemory()
    memory.refuse(b"t", 1, JWT_VERIFICATION_FAILED)
    assert memory.find_refused(b"t", 1) is JWT_VERIFICATION_FAILED
    assert memory.find_refused(b"t", 2) is None
    for number in range(MAX_REFUSED):
        memory.refuse(b"%d" % number, 1, JWT_VERIFICATION_FAILED)
    assert memory.find_refused(b"t", 1) is None


def test_answers_are_bounded() -> None:
    memory = TokenMemory()
    memory.keep_answer("first", 1)
    for number in range(MAX_ANSWERS):
        memory.keep_answer(number, number)
    assert memory.find_answer("first") is None


def test_a_key_does_not_hold_the_token() -> None:
    key = token_key(b"secret-token", b"1")
    assert b"secret" not in key
    assert key != token_key(b"secret-token", b"2")
