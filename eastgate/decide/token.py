"""One token read: a JSON Web Signature in compact form, and what its claims say before any key is looked at.

Reads strictly and in Envoy's order, so that the first thing wrong with a token has Envoy's name
(``source/common/jwt/jwt.cc``, ``source/extensions/filters/http/jwt_authn/authenticator.cc``). Must not know: where a
token was found, keys, signatures or PyJWT; ``verify`` is next. Nothing here trusts the token: a ``ParsedToken`` is
only a claim. Rules: RFC 7515, RFC 7519, RFC 8725. Stricter than Envoy: exactly three segments, canonical base64url,
no ``crit``, JSON as RFC 8259 has it (Envoy reads single quotes, control characters in strings, and ``null`` for no
claims at all), and an ``exp`` below one is long past (Envoy truncates it to zero, which is never).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from eastgate.decide import statuses
from eastgate.decide.statuses import Status
from eastgate.keys.algorithms import SUPPORTED_ALGORITHMS
from eastgate.keys.base64url import Base64Error, decode_base64url
from eastgate.keys.json_text import JSONTextError, parse_json

MAX_TOKEN_BYTES = 16 * 1024
"""Room for a few hundred groups in a token; nginx's and Node's whole request head is 16-32 KiB. Envoy has no limit of
its own.
"""

_UINT64_END = 2.0**64


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A well-formed token, unverified. ``key_id`` is empty where the header has none; ``payload`` is base64url text;
    ``expires`` None means never. ``claims`` is shared by all who ask: read only. ``repr`` leaves content out.
    """

    algorithm: str
    key_id: str
    claims: dict[str, object] = field(repr=False)
    payload: bytes = field(repr=False)
    issuer: str | None
    audiences: tuple[str, ...]
    expires: int | None
    not_before: int
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


class _MalformedError(Exception):
    """Carries the status out of the reading functions below."""

    def __init__(self, status: Status) -> None:
        self.status = status


def parse_token(raw: bytes) -> ParsedToken | Status:
    """Read a token, or say what is the first thing wrong with it."""
    if len(raw) > MAX_TOKEN_BYTES:
        return statuses.JWT_TOO_LARGE
    segments = raw.split(b".", 3)
    if len(segments) != 3 or not all(segments):
        return statuses.JWT_BAD_FORMAT
    header, payload, signature = segments
    try:
        algorithm, key_id = _read_header(header)
        claims = _read_object(payload, statuses.JWT_PAYLOAD_BAD_BASE64, statuses.JWT_PAYLOAD_BAD_JSON)
        issuer = _read_string(claims, "iss", statuses.JWT_BAD_ISS)
        _read_string(claims, "sub", statuses.JWT_BAD_SUB)
        _read_seconds(claims, "iat", statuses.JWT_BAD_IAT, statuses.JWT_IAT_OUT_OF_RANGE)
        not_before = _read_seconds(claims, "nbf", statuses.JWT_BAD_NBF, statuses.JWT_NBF_OUT_OF_RANGE)
        expires = _read_seconds(claims, "exp", statuses.JWT_BAD_EXP, statuses.JWT_EXP_OUT_OF_RANGE)
        _read_string(claims, "jti", statuses.JWT_BAD_JTI)
        audiences = _read_audiences(claims)
    except _MalformedError as malformed:
        return malformed.status
    try:
        signature_bytes = decode_base64url(signature)
    except Base64Error:
        return statuses.JWT_SIGNATURE_BAD_BASE64
    return ParsedToken(
        algorithm=algorithm,
        key_id=key_id,
        claims=claims,
        payload=payload,
        issuer=issuer,
        audiences=audiences,
        # Zero means never, as in Envoy; a fraction below one is a time long past, not a zero.
        expires=int(expires) if expires else None,
        not_before=int(not_before or 0),
        signing_input=raw[: len(header) + 1 + len(payload)],
        signature=signature_bytes,
    )


def check_claims(
    token: ParsedToken,
    *,
    issuer: str | None,
    audiences: frozenset[str],
    clock_skew: int,
    required: tuple[str, ...],
    now: float,
) -> Status | None:
    """What a provider demands of the claims, in Envoy's order: issuer, time, audience; then the claims that must be
    there.

    ``audiences`` are normalised (``normalise_audience``); empty accepts any. Comparison is by code point: no case
    folding, no Unicode normalisation (RFC 8725 section 3.8). Call it before looking for keys: no key is fetched for a
    dead token.
    """
    if issuer is not None and token.issuer != issuer:
        return statuses.JWT_UNKNOWN_ISSUER
    second = int(now)
    if second + clock_skew < token.not_before:
        return statuses.JWT_NOT_YET_VALID
    if token.expires is not None and second > token.expires + clock_skew:
        return statuses.JWT_EXPIRED
    if audiences and not any(normalise_audience(audience) in audiences for audience in token.audiences):
        return statuses.JWT_AUDIENCE_NOT_ALLOWED
    if required and any(token.claims.get(name) is None for name in required):
        return statuses.JWT_CLAIM_MISSING
    return None


def normalise_audience(audience: str) -> str:
    """Without one leading ``http://`` or ``https://`` and one trailing ``/``, as Envoy compares audiences."""
    for scheme in ("http://", "https://"):
        if audience.startswith(scheme):
            audience = audience.removeprefix(scheme)
            break
    return audience.removesuffix("/")


@lru_cache(maxsize=256)
def _decode_header(segment: bytes) -> dict[str, object]:
    """Headers repeat: an issuer writes the same one into every token. Memoised by its bytes; failures are not."""
    return _read_object(segment, statuses.JWT_HEADER_BAD_BASE64, statuses.JWT_HEADER_BAD_JSON)


def _read_header(segment: bytes) -> tuple[str, str]:
    """``alg`` and ``kid``. Everything else that may point at a key (``jwk``, ``jku``, ``x5u`` …) is never looked at."""
    header = _decode_header(segment)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str):
        raise _MalformedError(statuses.JWT_HEADER_BAD_ALG)
    if algorithm not in SUPPORTED_ALGORITHMS:
        raise _MalformedError(statuses.JWT_HEADER_UNSUPPORTED_ALG)
    key_id = header.get("kid", "")
    if not isinstance(key_id, str):
        raise _MalformedError(statuses.JWT_HEADER_BAD_KID)
    if "crit" in header:
        # RFC 7515 section 4.1.11: we understand no extension, so a token that demands one is invalid. Envoy ignores it.
        raise _MalformedError(statuses.JWT_HEADER_CRIT)
    return algorithm, key_id


def _read_object(segment: bytes, bad_base64: Status, bad_json: Status) -> dict[str, object]:
    try:
        value = parse_json(decode_base64url(segment))
    except Base64Error:
        raise _MalformedError(bad_base64) from None
    except JSONTextError:
        raise _MalformedError(bad_json) from None
    if not isinstance(value, dict):
        raise _MalformedError(bad_json)
    return value


def _read_string(claims: dict[str, object], name: str, wrong_type: Status) -> str | None:
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str):
        raise _MalformedError(wrong_type)
    return value


def _read_seconds(claims: dict[str, object], name: str, wrong_type: Status, out_of_range: Status) -> int | float | None:
    """A NumericDate. ``null``, a string and a boolean are no numbers."""
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _MalformedError(wrong_type)
    if not 0 <= float(value) < _UINT64_END:
        raise _MalformedError(out_of_range)
    return value


def _read_audiences(claims: dict[str, object]) -> tuple[str, ...]:
    if "aud" not in claims:
        return ()
    value = claims["aud"]
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _MalformedError(statuses.JWT_BAD_AUD)
    return tuple(value)
