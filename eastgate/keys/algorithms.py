"""Signature algorithms: which there are, and which key may be used with which.

Knows: Envoy's thirteen (``source/common/jwt/jwt.cc``) and ``Ed25519``, RFC 9864's name for what was ``EdDSA``.
``none`` is not among them and cannot be configured. An algorithm belongs to a family of keys; a key never verifies
outside of its family (RFC 8725 section 3.1), so that a public key cannot become an HMAC secret.
"""

from __future__ import annotations

from jwt.algorithms import Algorithm, get_default_algorithms

RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
EC_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
OKP_ALGORITHMS = frozenset({"EdDSA", "Ed25519"})
HMAC_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The shortest secret for each: as long as the hash (RFC 7518 section 3.2)."""

SUPPORTED_ALGORITHMS = RSA_ALGORITHMS | OKP_ALGORITHMS | set(EC_ALGORITHMS.values()) | set(HMAC_SECRET_BYTES)

SIGNATURE_BYTES = {
    "ES256": 64,
    "ES384": 96,
    "ES512": 132,
    "EdDSA": 64,
    "Ed25519": 64,
    "HS256": 32,
    "HS384": 48,
    "HS512": 64,
}
"""The only length a signature can have (RFC 7518 section 3.4, RFC 8032); RSA's is that of the key's modulus."""

_known = get_default_algorithms()

VERIFIERS: dict[str, Algorithm] = {
    name: _known["EdDSA" if name == "Ed25519" else name] for name in SUPPORTED_ALGORITHMS
}
"""PyJWT's implementation of each, over ``cryptography`` and ``hmac``."""
