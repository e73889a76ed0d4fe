"""Every way in which a token can fail, as a value: the word for logs, the text on the wire, the HTTP status.

The texts are Envoy's, letter for letter (``source/common/jwt/status.cc``), because clients and runbooks know them;
the one status that is not 401 is the audience's 403 (``source/extensions/filters/http/jwt_authn/filter.cc``). Where
Eastgate refuses what Envoy lets pass, the reason word is its own and the text is the nearest of Envoy's. Must not
know: tokens, keys, or how an answer is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.keys.problems import KeyProblem


@dataclass(frozen=True, slots=True)
class Status:
    """``reason`` is stable (metric label, log field); ``text`` is the response body; ``code`` is Envoy's number of the
    status, 0 for our own. ``invalid_token`` says whether ``www-authenticate`` carries ``error="invalid_token"``.
    """

    reason: str
    text: str
    http: int = 401
    code: int = 0

    @property
    def invalid_token(self) -> bool:
        """True for every failure but a missing token (RFC 6750 section 3.1)."""
        return self != JWT_MISSING


JWT_MISSING = Status("jwt_missing", "Jwt is missing", code=1)
JWT_NOT_YET_VALID = Status("jwt_not_yet_valid", "Jwt not yet valid", code=2)
JWT_EXPIRED = Status("jwt_expired", "Jwt is expired", code=3)
JWT_BAD_FORMAT = Status(
    "jwt_bad_format", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", code=4
)
JWT_HEADER_BAD_BASE64 = Status("jwt_header_bad_base64", "Jwt header is an invalid Base64url encoded", code=5)
JWT_HEADER_BAD_JSON = Status("jwt_header_bad_json", "Jwt header is an invalid JSON", code=6)
JWT_HEADER_BAD_ALG = Status("jwt_header_bad_alg", "Jwt header [alg] field is required and must be a string", code=7)
JWT_HEADER_UNSUPPORTED_ALG = Status("jwt_header_unsupported_alg", "Jwt header [alg] is not supported", code=8)
JWT_HEADER_BAD_KID = Status("jwt_header_bad_kid", "Jwt header [kid] field is not a string", code=9)
JWT_PAYLOAD_BAD_BASE64 = Status("jwt_payload_bad_base64", "Jwt payload is an invalid Base64url encoded", code=10)
JWT_PAYLOAD_BAD_JSON = Status("jwt_payload_bad_json", "Jwt payload is an invalid JSON", code=11)
JWT_BAD_ISS = Status("jwt_bad_iss", "Jwt payload [iss] field is not a string", code=12)
JWT_BAD_SUB = Status("jwt_bad_sub", "Jwt payload [sub] field is not a string", code=13)
JWT_BAD_IAT = Status("jwt_bad_iat", "Jwt payload [iat] field is not an integer", code=14)
JWT_IAT_OUT_OF_RANGE = Status(
    "jwt_iat_out_of_range", "Jwt payload [iat] field is not a positive 64 bit integer", code=15
)
JWT_BAD_NBF = Status("jwt_bad_nbf", "Jwt payload [nbf] field is not an integer", code=16)
JWT_NBF_OUT_OF_RANGE = Status(
    "jwt_nbf_out_of_range", "Jwt payload [nbf] field is not a positive 64 bit integer", code=17
)
JWT_BAD_EXP = Status("jwt_bad_exp", "Jwt payload [exp] field is not an integer", code=18)
JWT_EXP_OUT_OF_RANGE = Status(
    "jwt_exp_out_of_range", "Jwt payload [exp] field is not a positive 64 bit integer", code=19
)
JWT_BAD_JTI = Status("jwt_bad_jti", "Jwt payload [jti] field is not a string", code=20)
JWT_BAD_AUD = Status("jwt_bad_aud", "Jwt payload [aud] field is not a string or string list", code=21)
JWT_SIGNATURE_BAD_BASE64 = Status("jwt_signature_bad_base64", "Jwt signature is an invalid Base64url encoded", code=22)
JWT_ED25519_WRONG_LENGTH = Status("jwt_ed25519_wrong_length", "Jwt ED25519 signature is wrong length", code=23)
JWT_UNKNOWN_ISSUER = Status("jwt_unknown_issuer", "Jwt issuer is not configured", code=24)
JWT_AUDIENCE_NOT_ALLOWED = Status("jwt_audience_not_allowed", "Audiences in Jwt are not allowed", http=403, code=25)
JWT_VERIFICATION_FAILED = Status("jwt_verification_failed", "Jwt verification fails", code=26)
JWKS_KID_ALG_MISMATCH = Status("jwks_kid_alg_mismatch", "Jwks doesn't have key to match kid or alg from Jwt", code=32)

# Ours: Envoy lets these pass.
JWT_TOO_LARGE = Status("jwt_too_large", JWT_BAD_FORMAT.text)
JWT_HEADER_CRIT = Status("jwt_header_crit", JWT_VERIFICATION_FAILED.text)
JWT_CLAIM_MISSING = Status("jwt_claim_missing", JWT_VERIFICATION_FAILED.text)
JWT_CLAIM_UNUSABLE = Status("jwt_claim_unusable", "Jwt claim cannot be sent as a header value")
"""A signed claim with a line break in it. Envoy answers 503 ``invalid header value``; it is the token that is at fault,
and trying again would not help, so this is a 401 with ``invalid_token``. Nothing of it is ever forwarded."""

KEY_STATUSES: dict[str, Status] = {
    problem.text: Status(problem.word, problem.text, code=problem.code) for problem in KeyProblem
}
"""By Envoy's text, as ``Held.problem`` and ``KeySetError`` give it."""

JWKS_NO_VALID_KEYS = KEY_STATUSES[KeyProblem.NO_VALID_KEYS.text]
JWKS_FETCH_FAILED = KEY_STATUSES[KeyProblem.FETCH_FAIL.text]


def status_of_keys(problem: str | None) -> Status:
    """The status for what a key source says is wrong; without a word of its own, the fetch failed."""
    if problem is None:
        return JWKS_FETCH_FAILED
    return KEY_STATUSES.get(problem, JWKS_FETCH_FAILED)


ALL_STATUSES: tuple[Status, ...] = tuple(
    dict.fromkeys([*(value for value in globals().values() if isinstance(value, Status)), *KEY_STATUSES.values()])
)
"""For the reference documentation and the metric labels."""
