from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhook.certificates.schedule import (
    AUTHORITY_LIFETIME,
    DAY,
    LEAF_LIFETIME,
    SKEW,
    Span,
    date_leaf_renewal,
    is_authority_due,
    plan_authority,
    plan_leaf,
)

nows = st.floats(1e9, 4e9)
jitters = st.floats(0, 1)


@given(nows, st.floats(60, 20 * 365 * DAY), st.floats(60, 400 * DAY), jitters)
def test_a_leaf_is_renewed_while_it_is_valid_and_ends_with_its_authority_at_the_latest(
    now: float, authority_lifetime: float, leaf_lifetime: float, jitter: float
) -> None:
    authority = plan_authority(now, authority_lifetime)
    leaf = plan_leaf(now, leaf_lifetime, authority)
    due = date_leaf_renewal(now, leaf, jitter)

    assert leaf.covers(now)
    assert leaf.covers(now - SKEW + 1)
    assert leaf.ends <= authority.ends
    assert now < due < leaf.ends
    assert 0.56 < (due - now) / (leaf.ends - now) < 0.67


@given(nows, st.floats(-AUTHORITY_LIFETIME, 2 * AUTHORITY_LIFETIME))
def test_an_authority_that_is_due_is_once_due_for_ever(made: float, later: float) -> None:
    span = plan_authority(made, AUTHORITY_LIFETIME)

    due = is_authority_due(span, made + later)

    assert not due or is_authority_due(span, made + later + DAY)
    assert due == (later >= 4 / 5 * (AUTHORITY_LIFETIME + SKEW) - SKEW)


@given(nows, st.floats(0, 1))
def test_a_leaf_that_was_signed_by_an_authority_before_it_was_due_is_never_cut_short(made: float, share: float) -> None:
    span = plan_authority(made, AUTHORITY_LIFETIME)
    signed = made + share * 0.79 * AUTHORITY_LIFETIME

    assert not is_authority_due(span, signed)
    assert plan_leaf(signed, LEAF_LIFETIME, span).ends == signed + LEAF_LIFETIME


def test_the_old_authority_stays_valid_beside_the_new_one_for_longer_than_any_leaf_of_it() -> None:
    span = plan_authority(0, AUTHORITY_LIFETIME)

    last_leaf_signed = 4 / 5 * span.seconds + span.begins

    assert span.ends - last_leaf_signed > 4 * LEAF_LIFETIME


def test_an_authority_from_the_future_is_not_due_and_not_valid() -> None:
    span = Span(1000, 2000)

    assert not is_authority_due(span, 0)
    assert not span.covers(999)
    assert not span.covers(2000)


def test_replicas_renew_at_different_times() -> None:
    span = Span(0, 90 * DAY)

    assert date_leaf_renewal(0, span, 0) == 60 * DAY
    assert date_leaf_renewal(0, span, 1) == 51 * DAY
