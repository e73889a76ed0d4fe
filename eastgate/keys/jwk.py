"""One JSON Web Key read: an object of a key set becomes a ``Key``, or a problem in Envoy's words.

Knows: the members of RFC 7517, 7518 and 8037. Only public members are ever read, except ``k``. Must not know: sets,
PEM. Rules: Envoy's ``source/common/jwt/jwks.cc`` for the order of the checks and their names; RFC 7517 sections 4.2
and 4.3 (``use``, ``key_ops``), which Envoy ignores.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from eastgate.keys.algorithms import EC_ALGORITHMS, HMAC_SECRET_BYTES, OKP_ALGORITHMS
from eastgate.keys.base64url import Base64Error, decode_base64url
from eastgate.keys.key import (
    CURVES,
    MAX_RSA_BITS,
    RSA_EXPONENTS,
    Key,
    build_ec_key,
    build_hmac_key,
    build_okp_key,
    build_rsa_key,
)
from eastgate.keys.problems import KeyProblem, KeySetError

_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth")
_ED25519_BYTES = 32


def read_jwk(jwk: Mapping[str, object], *, remote: bool) -> Key:
    """Build the key. A private key is refused as in PEM: whoever can read the set could sign with it; ``remote`` also
    refuses shared secrets.
    """
    family = jwk.get("kty", _MISSING)
    if family is _MISSING:
        raise KeySetError(KeyProblem.MISSING_KTY)
    if not isinstance(family, str):
        raise KeySetError(KeyProblem.BAD_KTY)
    if family not in ("EC", "RSA", "oct", "OKP"):
        raise KeySetError(KeyProblem.NOT_IMPLEMENTED_KTY)
    kid, algorithm = _optional_text(jwk, "kid"), _optional_text(jwk, "alg")
    _check_purpose(jwk)
    if remote and family == "oct":
        raise KeySetError(KeyProblem.NOT_IMPLEMENTED_KTY, "a shared secret in a remote key set")
    if any(name in jwk for name in _PRIVATE_MEMBERS):
        where = "in a remote key set" if remote else "where a public key belongs"
        raise KeySetError(KeyProblem.NO_VALID_KEYS, f"a private key {where}")
    if family == "EC":
        return _read_ec(jwk, kid, algorithm)
    if family == "RSA":
        return _read_rsa(jwk, kid, algorithm)
    if family == "oct":
        return _read_oct(jwk, kid, algorithm)
    return _read_okp(jwk, kid, algorithm)


_MISSING = object()


def _optional_text(jwk: Mapping[str, object], name: str) -> str:
    """``kid`` or ``alg``. One that is no string is as good as absent to Envoy; to us the key is not usable."""
    value = jwk.get(name, "")
    if not isinstance(value, str):
        raise KeySetError(KeyProblem.NO_VALID_KEYS, f"[{name}] is not a string")
    return value


def _required_text(jwk: Mapping[str, object], name: str, missing: KeyProblem, wrong_type: KeyProblem) -> str:
    value = jwk.get(name, _MISSING)
    if value is _MISSING:
        raise KeySetError(missing)
    if not isinstance(value, str):
        raise KeySetError(wrong_type)
    return value


def _decode(text: str, problem: KeyProblem) -> bytes:
    """Base64url; padding, which some issuers write, is tolerated here (Envoy does) but never in a token."""
    try:
        return decode_base64url(text.rstrip("=").encode("ascii"))
    except (Base64Error, UnicodeEncodeError):
        raise KeySetError(problem) from None


def _check_purpose(jwk: Mapping[str, object]) -> None:
    use = jwk.get("use", "sig")
    if use != "sig":
        raise KeySetError(KeyProblem.NO_VALID_KEYS, "[use] is not `sig`")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise KeySetError(KeyProblem.NO_VALID_KEYS, "[key_ops] does not hold `verify`")


def _read_rsa(jwk: Mapping[str, object], kid: str, algorithm: str) -> Key:
    if algorithm and not algorithm.startswith(("RS", "PS")):
        raise KeySetError(KeyProblem.RSA_BAD_ALG)
    modulus_text = _required_text(jwk, "n", KeyProblem.RSA_MISSING_N, KeyProblem.RSA_BAD_N)
    exponent_text = _required_text(jwk, "e", KeyProblem.RSA_MISSING_E, KeyProblem.RSA_BAD_E)
    modulus = int.from_bytes(_decode(modulus_text, KeyProblem.RSA_PARSE_ERROR))
    exponent = int.from_bytes(_decode(exponent_text, KeyProblem.RSA_PARSE_ERROR))
    if exponent not in RSA_EXPONENTS:
        raise KeySetError(KeyProblem.RSA_PARSE_ERROR, "the RSA exponent is neither 3 nor 65537")
    if modulus.bit_length() > MAX_RSA_BITS:
        raise KeySetError(KeyProblem.RSA_PARSE_ERROR, f"an RSA key of more than {MAX_RSA_BITS} bits")
    try:
        material = RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise KeySetError(KeyProblem.RSA_PARSE_ERROR) from None
    return build_rsa_key(material, kid, algorithm)


def _read_ec(jwk: Mapping[str, object], kid: str, algorithm: str) -> Key:
    if algorithm and not algorithm.startswith("ES"):
        raise KeySetError(KeyProblem.EC_BAD_ALG)
    curve = jwk.get("crv", "")
    if not isinstance(curve, str):
        raise KeySetError(KeyProblem.EC_BAD_CRV)
    if algorithm and curve and EC_ALGORITHMS.get(curve) != algorithm:
        raise KeySetError(KeyProblem.EC_INCOMPATIBLE)
    if not curve:
        # As Envoy: the algorithm says which curve, and where neither is given it is P-256.
        curve = next((name for name, one in EC_ALGORITHMS.items() if one == (algorithm or "ES256")), "")
    if curve not in CURVES:
        raise KeySetError(KeyProblem.EC_UNSUPPORTED)
    x_text = _required_text(jwk, "x", KeyProblem.EC_MISSING_X, KeyProblem.EC_BAD_X)
    y_text = _required_text(jwk, "y", KeyProblem.EC_MISSING_Y, KeyProblem.EC_BAD_Y)
    x = int.from_bytes(_decode(x_text, KeyProblem.EC_BAD_BASE64))
    y = int.from_bytes(_decode(y_text, KeyProblem.EC_BAD_BASE64))
    try:
        material = EllipticCurvePublicNumbers(x, y, CURVES[curve]()).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise KeySetError(KeyProblem.EC_PARSE_ERROR) from None
    return build_ec_key(material, kid, algorithm)


def _read_okp(jwk: Mapping[str, object], kid: str, algorithm: str) -> Key:
    if algorithm and algorithm not in OKP_ALGORITHMS:
        raise KeySetError(KeyProblem.OKP_BAD_ALG)
    curve = _required_text(jwk, "crv", KeyProblem.OKP_MISSING_CRV, KeyProblem.OKP_BAD_CRV)
    if curve != "Ed25519":
        raise KeySetError(KeyProblem.OKP_UNSUPPORTED)
    x_text = _required_text(jwk, "x", KeyProblem.OKP_MISSING_X, KeyProblem.OKP_BAD_X)
    point = _decode(x_text, KeyProblem.OKP_BAD_BASE64)
    if len(point) != _ED25519_BYTES:
        raise KeySetError(KeyProblem.OKP_WRONG_LENGTH)
    try:
        material = Ed25519PublicKey.from_public_bytes(point)
    except (ValueError, UnsupportedAlgorithm):
        raise KeySetError(KeyProblem.OKP_WRONG_LENGTH) from None
    return build_okp_key(material, kid, algorithm)


def _read_oct(jwk: Mapping[str, object], kid: str, algorithm: str) -> Key:
    if algorithm and algorithm not in HMAC_SECRET_BYTES:
        raise KeySetError(KeyProblem.HMAC_BAD_ALG)
    secret = _decode(
        _required_text(jwk, "k", KeyProblem.HMAC_MISSING_K, KeyProblem.HMAC_BAD_K), KeyProblem.OCT_BAD_BASE64
    )
    if not secret:
        raise KeySetError(KeyProblem.OCT_BAD_BASE64)
    return build_hmac_key(secret, kid, algorithm)
