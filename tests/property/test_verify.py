"""No bytes but the issuer's are ever verified, and nothing a client sends makes the reader raise."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from eastgate.decide.claim_values import UnsafeClaimError, claim_header_value
from eastgate.decide.statuses import ALL_STATUSES, Status
from eastgate.decide.token import ParsedToken, check_claims, parse_token
from eastgate.decide.verify import verify_signature
from eastgate.keys.keyset import KeySetError, parse_key_set
from tests.examples import examples
from tests.property.test_json import texts, values
from tests.unit.keys.issuer import join, jwk, jwks, sign

KEYS = parse_key_set(jwks(jwk("EdDSA"), jwk("RSA"), jwk("ES256")), remote=True)
GOOD = sign({"iss": "i", "sub": "s", "aud": ["api"], "exp": 2_000_000_000}, "EdDSA")


def judge(raw: bytes) -> Status | None:
    token = parse_token(raw)
    if isinstance(token, Status):
        return token
    failure = check_claims(
        token, issuer="i", audiences=frozenset({"api"}), clock_skew=60, required=(), now=1_700_000_000.0
    )
    return failure or verify_signature(token, KEYS)


def test_the_good_token_is_good() -> None:
    assert judge(GOOD) is None


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: data.replace(b"\0", b".")))
def test_any_bytes_are_refused_with_a_known_status(raw: bytes) -> None:
    assert judge(raw) in ALL_STATUSES


@given(st.data())
@examples(150)
def test_any_change_of_the_good_token_is_refused(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["replace", "insert", "delete", "cut"]))
        if kind == "replace":
            raw[place] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw.insert(place, data.draw(st.integers(0, 255)))
        elif kind == "delete":
            del raw[place]
        else:
            del raw[place:]
        if not raw:
            break
    if bytes(raw) != GOOD:
        assert judge(bytes(raw)) in ALL_STATUSES


headers: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "typ", "jwk", "b64"]),
    st.sampled_from(["RS256", "ES256", "EdDSA", "HS256", "none", "", 1, None, True, [], {}, ["exp"]]),
)
claims = st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "x"]), values, max_size=6)


@given(headers, claims, st.binary(max_size=80))
@examples(150)
def test_any_header_and_claims_with_a_forged_signature_are_refused(
    header: dict[str, Any], body: dict[str, Any], signature: bytes
) -> None:
    assert judge(join(json.dumps(header).encode(), json.dumps(body).encode(), signature)) in ALL_STATUSES


@given(claims)
def test_signed_claims_are_read_as_they_were_written(body: dict[str, Any]) -> None:
    token = parse_token(sign(json.dumps(body).encode(), "EdDSA"))
    if isinstance(token, ParsedToken):
        assert token.claims == body
        assert verify_signature(token, KEYS) is None
    else:
        assert token.reason.startswith(("jwt_bad_", "jwt_iat_", "jwt_nbf_", "jwt_exp_", "jwt_too_large"))


@given(st.text(max_size=200) | values.map(json.dumps))
def test_any_text_is_a_key_set_or_the_one_error(text: str) -> None:
    with suppress(KeySetError):
        assert parse_key_set(text, remote=True).keys


members = st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "k", "d"])
words = st.sampled_from(["RSA", "EC", "oct", "OKP", "P-256", "P-521", "Ed25519", "RS256", "ES256", "sig", "AQAB", "AQ"])


@given(st.lists(st.dictionaries(members, words | values, max_size=8), max_size=4), st.booleans())
@examples(150)
def test_any_jwk_is_a_key_or_the_one_error(keys: list[dict[str, Any]], remote: bool) -> None:
    try:
        found = parse_key_set(json.dumps({"keys": keys}), remote=remote)
    except KeySetError:
        return
    assert all(key.algorithms for key in found.keys)
    assert not remote or all(key.family != "oct" for key in found.keys)


@given(values | texts)
def test_a_claim_is_one_field_value_or_refused(value: Any) -> None:
    try:
        header = claim_header_value(value)
    except UnsafeClaimError:
        return
    if header is not None:
        assert header == header.strip()
        assert not any(byte < 0x20 and byte != 9 for byte in header)
        assert b"\x7f" not in header
