from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from webhook.certificates.authority import MAX_CERTIFICATES, Authority, AuthorityError, make_authority
from webhook.certificates.holding import (
    MAX_BUNDLE_BYTES,
    Holding,
    read_certificates,
    read_holding,
    render_secret,
    salvage_certificates,
    want_holding,
)
from webhook.certificates.schedule import AUTHORITY_LIFETIME, DAY

NOW = 1_800_000_000.0
OLD, CURRENT, OTHER = (make_authority(NOW - days * DAY) for days in (100, 10, 5))
NEXT = make_authority(NOW)


def hold(authority: Authority, *others: Authority) -> Holding:
    return Holding(authority, tuple(one.certificate for one in (authority, *others)))


def want(found: Holding | None, now: float = NOW, **settings: Any) -> Holding:
    arguments = {"remembered": None, "served": None, "salvaged": (), "make": lambda: NEXT, **settings}
    return want_holding(found, now=now, **arguments)


def test_what_is_right_stays_as_it_is() -> None:
    found = hold(CURRENT, OLD)

    assert want(found) == found
    assert want(found, remembered=hold(OTHER), served=OLD.certificate) == found


def test_without_a_secret_there_is_a_new_authority_or_the_one_that_was_seen_last() -> None:
    assert want(None) == hold(NEXT)
    assert want(None, remembered=hold(CURRENT, OLD)) == hold(CURRENT, OLD)


def test_the_next_authority_signs_and_the_last_one_stays_trusted() -> None:
    due = NOW + AUTHORITY_LIFETIME * 4 / 5

    assert want(hold(OLD), due) == hold(NEXT, OLD)


def test_who_signed_the_leaf_in_use_is_trusted_whatever_the_secret_says() -> None:
    assert want(hold(CURRENT), served=OLD.certificate) == hold(CURRENT, OLD)


def test_the_issuer_comes_first_and_the_others_the_longest_first_each_once() -> None:
    found = Holding(CURRENT, (OLD.certificate, OTHER.certificate, OLD.certificate, CURRENT.certificate))

    assert want(found) == hold(CURRENT, OTHER, OLD)


def test_an_authority_that_ended_is_not_trusted_any_more() -> None:
    late = NOW + AUTHORITY_LIFETIME - 50 * DAY

    assert want(hold(NEXT, OLD), late, make=lambda: OTHER) == hold(OTHER, NEXT)


def test_a_secret_without_ca_crt_is_made_whole() -> None:
    secret = render_secret(hold(CURRENT), "name", "namespace", None)
    del secret["data"]["ca.crt"]

    found = read_holding(secret)

    assert found.trusted == ()
    assert want(found) == hold(CURRENT)


def test_a_bundle_has_its_bounds() -> None:
    many = tuple(make_authority(NOW + index).certificate for index in range(12))

    assert len(want(Holding(CURRENT, many)).trusted) == MAX_CERTIFICATES
    with pytest.raises(AuthorityError, match="accepted: 65536"):
        read_certificates(b"x" * (MAX_BUNDLE_BYTES + 1))


def test_a_secret_reads_as_it_was_written_and_keeps_what_is_not_ours() -> None:
    seen = {
        "metadata": {"name": "n", "resourceVersion": "7", "labels": {"theirs": "1"}, "annotations": {"a": "b"}},
        "type": "Opaque",
        "data": {"extra": "eA==", "tls.key": "bad"},
        "immutable": False,
    }

    secret = render_secret(hold(CURRENT, OLD), "n", "ns", seen)

    assert read_holding(secret) == hold(CURRENT, OLD)
    assert secret["type"] == "Opaque"
    assert secret["metadata"]["resourceVersion"] == "7"
    assert secret["metadata"]["annotations"] == {"a": "b"}
    assert secret["metadata"]["labels"]["theirs"] == "1"
    assert secret["data"]["extra"] == "eA=="


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tls.crt": None}, "no `tls.crt`"),
        ({"tls.key": None}, "no `tls.key`"),
        ({"tls.key": "%%%"}, "`tls.key` is not base64"),
        ({"tls.crt": ""}, "no certificate in PEM form"),
        ({"tls.key": base64.b64encode(OTHER.key_pem()).decode()}, "is not the key of the certificate"),
    ],
)
def test_a_broken_secret_is_refused_and_its_bundle_salvaged(change: dict[str, str | None], why: str) -> None:
    secret = render_secret(hold(CURRENT, OLD), "n", "ns", None)
    secret["data"] = {key: value for key, value in {**secret["data"], **change}.items() if value is not None}

    with pytest.raises(AuthorityError, match=why):
        read_holding(secret)

    salvaged = salvage_certificates(secret)
    assert salvaged == (CURRENT.certificate, OLD.certificate)
    assert want(None, salvaged=salvaged) == hold(NEXT, CURRENT, OLD)


@pytest.mark.parametrize("secret", [{}, {"data": None}, {"data": []}, {"data": {"ca.crt": 7}}])
def test_no_data_at_all_is_refused(secret: dict[str, object]) -> None:
    with pytest.raises(AuthorityError):
        read_holding(secret)
    assert salvage_certificates(secret) == ()


@settings(max_examples=60, deadline=None)
@given(
    held=st.lists(st.sampled_from([OLD, CURRENT, OTHER]), min_size=1, max_size=5),
    served=st.sampled_from([None, OLD, CURRENT, OTHER]),
    days=st.floats(0, 6 * 365),
)
def test_wanting_is_stable_and_whoever_signed_what_is_served_is_trusted_until_it_ends(
    held: list[Authority], served: Authority | None, days: float
) -> None:
    """What is wanted once is wanted again, by this replica and by one that serves something else that is trusted."""
    now = NOW + days * DAY
    certificate = served.certificate if served is not None else None
    made = make_authority(now)

    first = want_holding(hold(held[0], *held[1:]), None, certificate, (), now, lambda: made)

    assert want_holding(first, None, certificate, (), now, lambda: pytest.fail("made another")) == first
    assert want_holding(first, None, None, (), now, lambda: pytest.fail("made another")) == first
    assert first.trusted[0] == first.authority.certificate
    assert first.authority.span.covers(now)
    if served is not None and served.span.ends > now:
        assert served.certificate in first.trusted
    assert first.bundle().startswith(first.authority.certificate.public_bytes(Encoding.PEM))
