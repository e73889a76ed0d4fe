"""One verification key: what it is, which algorithms it may verify, and the verification itself.

Knows: key families and their floor of strength. The signature mathematics is PyJWT's over ``cryptography``; nothing
here computes any. Must not know: JSON, PEM, key sets, tokens. Built by ``jwk`` and ``pem`` only. Rules: RFC 7518, RFC
8037, RFC 8725 sections 3.2 and 3.5; Envoy's jwks.cc (RSA exponents 3 and 65537 only).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from eastgate.keys.algorithms import (
    EC_ALGORITHMS,
    HMAC_SECRET_BYTES,
    OKP_ALGORITHMS,
    RSA_ALGORITHMS,
    SIGNATURE_BYTES,
    VERIFIERS,
)
from eastgate.keys.problems import KeyProblem, KeySetError

MIN_RSA_BITS = 2048
"""RFC 7518 section 3.3. Envoy accepts less."""

MAX_RSA_BITS = 8192
"""What Go's crypto/tls takes from a certificate: the cost of a verification grows with the square."""

RSA_EXPONENTS = frozenset({3, 65537})

CURVES: dict[str, type[EllipticCurve]] = {"P-256": SECP256R1, "P-384": SECP384R1, "P-521": SECP521R1}


@dataclass(frozen=True, slots=True)
class Key:
    """``family`` is the JWK ``kty`` (``RSA``, ``EC``, ``OKP``, ``oct``). ``kid`` and ``algorithm`` are as the set
    says, empty where it says nothing; ``algorithms`` are those the key may verify. Equal keys have equal
    ``fingerprint``s.
    """

    family: str
    algorithms: frozenset[str]
    fingerprint: bytes = field(repr=False)
    material: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes = field(repr=False, compare=False)
    kid: str = ""
    algorithm: str = ""

    def is_meant_for(self, algorithm: str, kid: str | None) -> bool:
        """Envoy's rule: not if both have a kid and they differ, nor if the key has an ``alg`` and it differs."""
        if kid and self.kid and kid != self.kid:
            return False
        return not self.algorithm or _same_algorithm(self.algorithm, algorithm)

    def verify(self, algorithm: str, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` over ``message`` is this key's. False for every algorithm but the key's own."""
        if algorithm not in self.algorithms:
            return False
        if len(signature) != SIGNATURE_BYTES.get(algorithm, len(signature)):
            return False
        try:
            return bool(VERIFIERS[algorithm].verify(message, self.material, signature))
        except Exception:
            # Whatever a library dislikes about a signature, it is not verified; its message may quote the key.
            return False


def _same_algorithm(one: str, other: str) -> bool:
    return one == other or (one in OKP_ALGORITHMS and other in OKP_ALGORITHMS)


def _pin(family: frozenset[str], algorithm: str, mismatch: KeyProblem) -> frozenset[str]:
    """The algorithms of a family, or the one that the key's ``alg`` pins."""
    if not algorithm:
        return family
    pinned = frozenset(one for one in family if _same_algorithm(one, algorithm))
    if not pinned:
        raise KeySetError(mismatch)
    return pinned


def _fingerprint(family: str, content: bytes) -> bytes:
    return sha256(family.encode() + b"\0" + content).digest()


def build_rsa_key(material: RSAPublicKey, kid: str = "", algorithm: str = "") -> Key:
    """An RSA key for RS* and PS*, if it is strong enough."""
    numbers = material.public_numbers()
    bits = numbers.n.bit_length()
    if numbers.e not in RSA_EXPONENTS:
        raise KeySetError(KeyProblem.RSA_PARSE_ERROR, "the RSA exponent is neither 3 nor 65537")
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or numbers.n % 2 == 0:
        raise KeySetError(
            KeyProblem.RSA_PARSE_ERROR, f"an RSA key of {bits} bits; from {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
        )
    algorithms = _pin(RSA_ALGORITHMS, algorithm, KeyProblem.RSA_BAD_ALG)
    content = b"%x.%x" % (numbers.n, numbers.e)
    return Key("RSA", algorithms, _fingerprint("RSA", content), material, kid, algorithm)


def build_ec_key(material: EllipticCurvePublicKey, kid: str = "", algorithm: str = "") -> Key:
    """An EC key for the one ES* algorithm of its curve."""
    curve = next((name for name, kind in CURVES.items() if isinstance(material.curve, kind)), None)
    if curve is None:
        raise KeySetError(KeyProblem.EC_UNSUPPORTED, "a curve other than P-256, P-384 and P-521")
    algorithms = _pin(frozenset({EC_ALGORITHMS[curve]}), algorithm, KeyProblem.EC_INCOMPATIBLE)
    content = material.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Key("EC", algorithms, _fingerprint("EC", content), material, kid, algorithm)


def build_okp_key(material: Ed25519PublicKey, kid: str = "", algorithm: str = "") -> Key:
    """An Ed25519 key, for ``EdDSA`` and its newer name ``Ed25519``."""
    algorithms = _pin(OKP_ALGORITHMS, algorithm, KeyProblem.OKP_BAD_ALG)
    content = material.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Key("OKP", algorithms, _fingerprint("OKP", content), material, kid, algorithm)


def build_hmac_key(secret: bytes, kid: str = "", algorithm: str = "") -> Key:
    """A shared secret, for every HS* whose hash is no longer than the secret."""
    try:
        # PyJWT refuses what looks like a public key: whoever configured it would let anyone sign with public knowledge.
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise KeySetError(KeyProblem.OCT_BAD_BASE64, "the secret is the text of an asymmetric key") from None
    strong = frozenset(name for name, length in HMAC_SECRET_BYTES.items() if len(secret) >= length)
    pinned = _pin(frozenset(HMAC_SECRET_BYTES), algorithm, KeyProblem.HMAC_BAD_ALG) & strong
    if not pinned:
        shortest = HMAC_SECRET_BYTES.get(algorithm, min(HMAC_SECRET_BYTES.values()))
        raise KeySetError(KeyProblem.OCT_BAD_BASE64, f"a secret of {len(secret)} bytes; at least {shortest} are needed")
    return Key("oct", pinned, _fingerprint("oct", secret), secret, kid, algorithm)
