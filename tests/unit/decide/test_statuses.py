"""Every status has a token that gets it, and the text is Envoy's."""

from __future__ import annotations

import re

import pytest

from eastgate.decide import statuses
from eastgate.decide.statuses import ALL_STATUSES, Status, status_of_keys
from eastgate.decide.token import ParsedToken, check_claims, parse_token
from eastgate.decide.verify import verify_signature
from eastgate.keys.base64url import encode_base64url
from eastgate.keys.keyset import KeySet, parse_key_set
from eastgate.keys.problems import KeyProblem
from tests.unit.keys.issuer import join, jwk, jwks, sign

NOW = 1_700_000_000
HEADER = b'{"alg":"RS256"}'
RSA_KEYS = parse_key_set(jwks(jwk("RSA", kid="k1", alg="RS256")), remote=True)
OKP_KEYS = parse_key_set(jwks(jwk("EdDSA")), remote=True)


def judge(raw: bytes, keys: KeySet = RSA_KEYS) -> Status | None:
    """One token before one provider: issuer ``i``, audience ``api``, skew 60."""
    token = parse_token(raw)
    if isinstance(token, Status):
        return token
    failure = check_claims(
        token, issuer="i", audiences=frozenset({"api"}), clock_skew=60, required=("sub",), now=float(NOW)
    )
    return failure or verify_signature(token, keys)


GOOD = {"iss": "i", "aud": "api", "sub": "s", "exp": NOW + 100}


def payload(**claims: object) -> dict[str, object]:
    return {**GOOD, **claims}


def raw(header: bytes = HEADER, body: bytes = b'{"iss":"i"}', signature: bytes = b"s") -> bytes:
    return join(header, body, signature)


def unencoded(header: bytes = b"eyJhbGciOiJSUzI1NiJ9", body: bytes = b"e30", signature: bytes = b"AAAA") -> bytes:
    return b".".join((header, body, signature))


BAD_FORMAT = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"

TOKENS: list[tuple[str, bytes, str, int]] = [
    ("jwt_not_yet_valid", sign(payload(nbf=NOW + 61)), "Jwt not yet valid", 401),
    ("jwt_expired", sign(payload(exp=NOW - 61)), "Jwt is expired", 401),
    ("jwt_bad_format", b"", BAD_FORMAT, 401),
    ("jwt_bad_format", b"abc", BAD_FORMAT, 401),
    ("jwt_bad_format", b"a.b", BAD_FORMAT, 401),
    ("jwt_bad_format", b"a.b.c.d", BAD_FORMAT, 401),
    ("jwt_bad_format", b"a.b.c.d.e", BAD_FORMAT, 401),
    ("jwt_bad_format", b"." + sign(GOOD), BAD_FORMAT, 401),
    ("jwt_bad_format", sign(GOOD) + b".", BAD_FORMAT, 401),
    ("jwt_bad_format", sign(GOOD).replace(b".", b"..", 1), BAD_FORMAT, 401),
    ("jwt_bad_format", unencoded(signature=b""), BAD_FORMAT, 401),
    ("jwt_too_large", b"a" * 16385, BAD_FORMAT, 401),
    ("jwt_header_bad_base64", unencoded(header=b"a*b"), "Jwt header is an invalid Base64url encoded", 401),
    ("jwt_header_bad_base64", unencoded(header=b"abc\xff"), "Jwt header is an invalid Base64url encoded", 401),
    ("jwt_header_bad_json", raw(header=b"x"), "Jwt header is an invalid JSON", 401),
    ("jwt_header_bad_json", raw(header=b'["alg"]'), "Jwt header is an invalid JSON", 401),
    ("jwt_header_bad_alg", raw(header=b"{}"), "Jwt header [alg] field is required and must be a string", 401),
    ("jwt_header_bad_alg", raw(header=b'{"alg":1}'), "Jwt header [alg] field is required and must be a string", 401),
    ("jwt_header_unsupported_alg", raw(header=b'{"alg":"none"}'), "Jwt header [alg] is not supported", 401),
    ("jwt_header_bad_kid", raw(header=b'{"alg":"RS256","kid":1}'), "Jwt header [kid] field is not a string", 401),
    ("jwt_header_crit", sign(GOOD, header=b'{"alg":"RS256","crit":["exp"],"exp":1}'), "Jwt verification fails", 401),
    ("jwt_payload_bad_base64", unencoded(body=b"a*b"), "Jwt payload is an invalid Base64url encoded", 401),
    ("jwt_payload_bad_json", raw(body=b"x"), "Jwt payload is an invalid JSON", 401),
    ("jwt_payload_bad_json", raw(body=b'"x"'), "Jwt payload is an invalid JSON", 401),
    ("jwt_bad_iss", raw(body=b'{"iss":1}'), "Jwt payload [iss] field is not a string", 401),
    ("jwt_bad_sub", raw(body=b'{"sub":["s"]}'), "Jwt payload [sub] field is not a string", 401),
    ("jwt_bad_iat", raw(body=b'{"iat":"1"}'), "Jwt payload [iat] field is not an integer", 401),
    ("jwt_iat_out_of_range", raw(body=b'{"iat":-1}'), "Jwt payload [iat] field is not a positive 64 bit integer", 401),
    ("jwt_bad_nbf", raw(body=b'{"nbf":"1"}'), "Jwt payload [nbf] field is not an integer", 401),
    ("jwt_nbf_out_of_range", raw(body=b'{"nbf":-1}'), "Jwt payload [nbf] field is not a positive 64 bit integer", 401),
    ("jwt_bad_exp", raw(body=b'{"exp":"1"}'), "Jwt payload [exp] field is not an integer", 401),
    ("jwt_exp_out_of_range", raw(body=b'{"exp":-1}'), "Jwt payload [exp] field is not a positive 64 bit integer", 401),
    ("jwt_bad_jti", raw(body=b'{"jti":1}'), "Jwt payload [jti] field is not a string", 401),
    ("jwt_bad_aud", raw(body=b'{"aud":1}'), "Jwt payload [aud] field is not a string or string list", 401),
    ("jwt_bad_aud", raw(body=b'{"aud":["a",1]}'), "Jwt payload [aud] field is not a string or string list", 401),
    ("jwt_signature_bad_base64", unencoded(signature=b"a*b"), "Jwt signature is an invalid Base64url encoded", 401),
    ("jwt_unknown_issuer", sign(payload(iss="j")), "Jwt issuer is not configured", 401),
    ("jwt_unknown_issuer", sign({"aud": "api"}), "Jwt issuer is not configured", 401),
    ("jwt_audience_not_allowed", sign(payload(aud="other")), "Audiences in Jwt are not allowed", 403),
    ("jwt_audience_not_allowed", sign({"iss": "i"}), "Audiences in Jwt are not allowed", 403),
    ("jwt_claim_missing", sign({"iss": "i", "aud": "api"}), "Jwt verification fails", 401),
    ("jwt_verification_failed", sign(GOOD, number=1), "Jwt verification fails", 401),
    (
        "jwks_kid_alg_mismatch",
        sign(GOOD, kid="k2"),
        "Jwks doesn't have key to match kid or alg from Jwt",
        401,
    ),
    ("jwks_kid_alg_mismatch", sign(GOOD, "RS384"), "Jwks doesn't have key to match kid or alg from Jwt", 401),
    ("jwks_kid_alg_mismatch", sign(GOOD, "HS256"), "Jwks doesn't have key to match kid or alg from Jwt", 401),
]


@pytest.mark.parametrize(("reason", "token", "text", "http"), TOKENS, ids=[f"{n}-{t[0]}" for n, t in enumerate(TOKENS)])
def test_a_token_gets_its_status(reason: str, token: bytes, text: str, http: int) -> None:
    status = judge(token)
    assert status is not None
    assert (status.reason, status.text, status.http) == (reason, text, http)


def test_a_good_token_gets_none() -> None:
    assert judge(sign(GOOD)) is None
    assert judge(sign(GOOD, kid="k1")) is None


def test_a_short_ed25519_signature_has_its_own_status() -> None:
    token = sign(GOOD, "EdDSA")
    head = token[: token.rindex(b".")]
    for signature in (b"s" * 63, b"s" * 65, b"s"):
        status = judge(head + b"." + encode_base64url(signature), OKP_KEYS)
        assert status is statuses.JWT_ED25519_WRONG_LENGTH
        assert status.text == "Jwt ED25519 signature is wrong length"


ORDER = [
    (b'{"alg":1,"kid":1}', b"{}", "jwt_header_bad_alg"),
    (b'{"alg":"x","kid":1}', b"{}", "jwt_header_unsupported_alg"),
    (b'{"alg":"RS256","kid":1,"crit":1}', b"{}", "jwt_header_bad_kid"),
    (b'{"alg":"RS256","crit":1}', b"x", "jwt_header_crit"),
    (HEADER, b'{"iss":1,"sub":1,"iat":"","nbf":"","exp":"","jti":1,"aud":1}', "jwt_bad_iss"),
    (HEADER, b'{"sub":1,"iat":"","nbf":"","exp":"","jti":1,"aud":1}', "jwt_bad_sub"),
    (HEADER, b'{"iat":"","nbf":"","exp":"","jti":1,"aud":1}', "jwt_bad_iat"),
    (HEADER, b'{"nbf":"","exp":"","jti":1,"aud":1}', "jwt_bad_nbf"),
    (HEADER, b'{"exp":"","jti":1,"aud":1}', "jwt_bad_exp"),
    (HEADER, b'{"jti":1,"aud":1}', "jwt_bad_jti"),
    (HEADER, b'{"aud":1}', "jwt_bad_aud"),
    (HEADER, b'{"iss":"x","nbf":9999999999,"exp":1,"aud":"x"}', "jwt_unknown_issuer"),
    (HEADER, b'{"iss":"i","nbf":9999999999,"exp":1,"aud":"x"}', "jwt_not_yet_valid"),
    (HEADER, b'{"iss":"i","exp":1,"aud":"x"}', "jwt_expired"),
    (HEADER, b'{"iss":"i","aud":"x"}', "jwt_audience_not_allowed"),
    (HEADER, b'{"iss":"i","aud":"api","sub":null}', "jwt_bad_sub"),
    (HEADER, b'{"iss":"i","aud":"api"}', "jwt_claim_missing"),
    (HEADER, b'{"iss":"i","aud":"api","sub":"s"}', "jwt_verification_failed"),
]


@pytest.mark.parametrize(("header", "body", "reason"), ORDER, ids=[one[2] for one in ORDER])
def test_the_first_thing_wrong_is_the_one_that_is_said(header: bytes, body: bytes, reason: str) -> None:
    status = judge(raw(header, body))
    assert status is not None
    assert status.reason == reason


def test_reasons_are_unique_stable_words() -> None:
    reasons = [status.reason for status in ALL_STATUSES]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"jw(t|ks)_[a-z0-9_]+", reason) for reason in reasons)


def test_every_number_of_envoy_that_can_be_answered_is_there() -> None:
    codes = [status.code for status in ALL_STATUSES if status.code]
    assert len(set(codes)) == len(codes)
    # 27 is for a caller of the library that wants one token only; the others are failures to allocate memory.
    assert set(range(1, 73)) - set(codes) == {27, 66, 71, 72}


def test_only_the_audience_is_forbidden() -> None:
    assert [status.reason for status in ALL_STATUSES if status.http != 401] == ["jwt_audience_not_allowed"]


def test_only_a_missing_token_is_no_invalid_token() -> None:
    assert [status.reason for status in ALL_STATUSES if not status.invalid_token] == ["jwt_missing"]
    assert statuses.JWT_MISSING.text == "Jwt is missing"


@pytest.mark.parametrize("problem", KeyProblem)
def test_every_key_problem_is_a_status(problem: KeyProblem) -> None:
    status = status_of_keys(problem.text)
    assert (status.reason, status.text, status.code) == (problem.word, problem.text, problem.code)


def test_an_unknown_key_problem_is_a_failed_fetch() -> None:
    assert status_of_keys(None).text == "Jwks remote fetch is failed"
    assert status_of_keys("something else").text == "Jwks remote fetch is failed"


def test_a_parsed_token_shows_nothing_of_itself() -> None:
    token = parse_token(sign(payload(secret="hunter2")))
    assert isinstance(token, ParsedToken)
    assert "hunter2" not in repr(token)
