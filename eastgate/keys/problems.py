"""What can be wrong with a key set, in Envoy's words.

Knows: the texts of Envoy's JWKS failures (``source/common/jwt/status.cc``) and a short stable name for each. A client
sees such a text only where no key of a set is usable. Must not know: HTTP, tokens, or any key. Nothing here, nor any
exception made of it, ever quotes key material: PyJWT's and cryptography's own messages do, so they never leave this
package.
"""

from __future__ import annotations

from enum import Enum


class KeyProblem(Enum):
    """``word`` is the reason for logs and labels, ``code`` Envoy's number of the status, ``text`` its text."""

    PARSE_ERROR = ("jwks_parse_error", 28, "Jwks is an invalid JSON")
    NO_KEYS = ("jwks_no_keys", 29, "Jwks does not have [keys] field")
    BAD_KEYS = ("jwks_bad_keys", 30, "[keys] in Jwks is not an array")
    NO_VALID_KEYS = ("jwks_no_valid_keys", 31, "Jwks doesn't have any valid public key")
    RSA_PARSE_ERROR = ("jwks_rsa_parse_error", 33, "Jwks RSA [n] or [e] field is missing or has a parse error")
    EC_CREATE_KEY_FAIL = ("jwks_ec_create_key_fail", 34, "Jwks EC create key fail")
    EC_BAD_BASE64 = ("jwks_ec_bad_base64", 35, "Jwks EC [x] or [y] field is an invalid Base64.")
    EC_PARSE_ERROR = ("jwks_ec_parse_error", 36, "Jwks EC [x] and [y] fields have a parse error.")
    OCT_BAD_BASE64 = ("jwks_oct_bad_base64", 37, "Jwks Oct key is an invalid Base64")
    OKP_BAD_BASE64 = ("jwks_okp_bad_base64", 38, "Jwks OKP [x] field is an invalid Base64.")
    OKP_WRONG_LENGTH = ("jwks_okp_wrong_length", 39, "Jwks OKP [x] field is wrong length.")
    FETCH_FAIL = ("jwks_fetch_fail", 40, "Jwks remote fetch is failed")
    MISSING_KTY = ("jwks_missing_kty", 41, "[kty] is missing in [keys]")
    BAD_KTY = ("jwks_bad_kty", 42, "[kty] is bad in [keys]")
    NOT_IMPLEMENTED_KTY = ("jwks_not_implemented_kty", 43, "[kty] is not supported in [keys]")
    RSA_BAD_ALG = ("jwks_rsa_bad_alg", 44, "[alg] is not started with [RS] or [PS] for an RSA key")
    RSA_MISSING_N = ("jwks_rsa_missing_n", 45, "[n] field is missing for a RSA key")
    RSA_BAD_N = ("jwks_rsa_bad_n", 46, "[n] field is not string for a RSA key")
    RSA_MISSING_E = ("jwks_rsa_missing_e", 47, "[e] field is missing for a RSA key")
    RSA_BAD_E = ("jwks_rsa_bad_e", 48, "[e] field is not string for a RSA key")
    EC_BAD_ALG = ("jwks_ec_bad_alg", 49, "[alg] is not started with [ES] for an EC key")
    EC_BAD_CRV = ("jwks_ec_bad_crv", 50, "[crv] field is not string for an EC key")
    EC_UNSUPPORTED = ("jwks_ec_unsupported", 51, "[crv] or [alg] field is not supported for an EC key")
    EC_INCOMPATIBLE = (
        "jwks_ec_incompatible",
        52,
        "[crv] field specified is not compatible with [alg] for an EC key",
    )
    EC_MISSING_X = ("jwks_ec_missing_x", 53, "[x] field is missing for an EC key")
    EC_BAD_X = ("jwks_ec_bad_x", 54, "[x] field is not string for an EC key")
    EC_MISSING_Y = ("jwks_ec_missing_y", 55, "[y] field is missing for an EC key")
    EC_BAD_Y = ("jwks_ec_bad_y", 56, "[y] field is not string for an EC key")
    HMAC_BAD_ALG = ("jwks_hmac_bad_alg", 57, "[alg] does not start with [HS] for an HMAC key")
    HMAC_MISSING_K = ("jwks_hmac_missing_k", 58, "[k] field is missing for an HMAC key")
    HMAC_BAD_K = ("jwks_hmac_bad_k", 59, "[k] field is not string for an HMAC key")
    OKP_BAD_ALG = ("jwks_okp_bad_alg", 60, "[alg] is not [EdDSA] for an OKP key")
    OKP_MISSING_CRV = ("jwks_okp_missing_crv", 61, "[crv] field is missing for an OKP key")
    OKP_BAD_CRV = ("jwks_okp_bad_crv", 62, "[crv] field is not string for an OKP key")
    OKP_UNSUPPORTED = ("jwks_okp_unsupported", 63, "[crv] field is not supported for an OKP key")
    OKP_MISSING_X = ("jwks_okp_missing_x", 64, "[x] field is missing for an OKP key")
    OKP_BAD_X = ("jwks_okp_bad_x", 65, "[x] field is not string for an OKP key")
    X509_PARSE_ERROR = ("jwks_x509_parse_error", 67, "X509 parse pubkey fails")
    X509_NO_PUBLIC_KEY = ("jwks_x509_no_public_key", 68, "X509 parse pubkey internal fails: get pubkey")
    PEM_NOT_IMPLEMENTED_KTY = ("jwks_pem_not_implemented_kty", 69, "PEM Key type is not supported")
    PEM_PARSE_ERROR = ("jwks_pem_parse_error", 70, "PEM pubkey parse fails")

    def __init__(self, word: str, code: int, text: str) -> None:
        self.word = word
        self.code = code
        self.text = text


class KeySetError(Exception):
    """A key, or a whole set, that cannot be used.

    ``str()`` and ``text`` are Envoy's text, ``detail`` is ours for the policy author (``keys[0]: RSA key of 1024 bits
    …``). Neither quotes the key. Raised ``from None`` wherever a library's exception came first.
    """

    def __init__(self, problem: KeyProblem, detail: str = "") -> None:
        super().__init__(problem.text)
        self.problem = problem
        self.detail = detail

    @property
    def text(self) -> str:
        """Envoy's text: what a client is told when this leaves a provider without keys."""
        return self.problem.text
