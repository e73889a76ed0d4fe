"""When keys are fetched again."""

from __future__ import annotations

import pytest

from eastgate.keys.rotation import (
    MAX_ABSENT_KIDS,
    UNKNOWN_KID_FLOOR,
    Freshness,
    UnknownKids,
    judge_freshness,
    refresh_delay,
    retry_delay,
)


@pytest.mark.parametrize(
    ("now", "freshness"),
    [(0, "fresh"), (299, "fresh"), (300, "stale"), (3899, "stale"), (3900, "dead"), (-1000, "fresh")],
)
def test_keys_are_fresh_then_stale_then_dead(now: float, freshness: str) -> None:
    assert judge_freshness(0.0, 300.0, now) == Freshness(freshness)


def test_without_a_stale_limit_keys_die_with_the_cache() -> None:
    assert judge_freshness(0.0, 300.0, 300.0, stale_limit=0.0) is Freshness.DEAD


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 240.0), (0.5, 225.0), (0.999, pytest.approx(210.0, abs=0.1))])
def test_refresh_comes_before_the_end_and_is_spread(jitter: float, delay: float) -> None:
    assert refresh_delay(300.0, jitter) == delay


def test_refresh_never_hammers() -> None:
    assert refresh_delay(0.01, 0.5) == 1.0


def test_backoff_doubles_up_to_its_limit() -> None:
    assert [retry_delay(attempt, 1.0, 10.0, 0.0) for attempt in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 8, 10, 10]
    assert retry_delay(10_000, 1.0, 10.0, 0.0) == 10.0
    assert retry_delay(3, 1.0, 10.0, 0.999) == pytest.approx(2.0, abs=0.01)


def test_the_first_unknown_kid_is_worth_a_fetch() -> None:
    assert UnknownKids().may_refetch("new", 0.0)
    assert UnknownKids().may_refetch(None, 0.0)


def test_a_floor_between_two_fetches_whatever_the_kid() -> None:
    kids = UnknownKids().note_fetch(100.0)
    assert not kids.may_refetch("other", 100.0)
    assert not kids.may_refetch("other", 100.0 + UNKNOWN_KID_FLOOR - 0.1)
    assert kids.may_refetch("other", 100.0 + UNKNOWN_KID_FLOOR)


def test_a_kid_that_a_fetch_did_not_bring_waits_for_the_cache_duration() -> None:
    kids = UnknownKids().note_fetch(0.0).note_absent("gone", 1.0, 300.0)
    assert not kids.may_refetch("gone", 60.0)
    assert kids.may_refetch("other", 60.0)
    assert kids.may_refetch("gone", 301.0)


def test_ten_thousand_hostile_kids_cause_one_fetch_a_floor_and_bounded_memory() -> None:
    kids, fetches = UnknownKids(), 0
    for number in range(10_000):
        now = number * 0.1
        if kids.may_refetch(f"kid-{number}", now):
            fetches += 1
            kids = kids.note_fetch(now).note_absent(f"kid-{number}", now, 1e9)
    assert fetches == 34
    assert len(kids.absent) == 34
    for number in range(1000):
        kids = kids.note_absent(f"kid-{number}", 0.0, 1e9)
    assert len(kids.absent) == MAX_ABSENT_KIDS
    assert kids.absent[-1][0] == "kid-999"


def test_an_endless_kid_is_not_worth_a_fetch() -> None:
    assert not UnknownKids().may_refetch("k" * 257, 0.0)


def test_a_clock_that_went_back_does_not_block_for_ever() -> None:
    assert UnknownKids().note_fetch(1e9).may_refetch("new", 0.0)
