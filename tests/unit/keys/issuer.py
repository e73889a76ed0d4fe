"""An issuer for tests: real keys, the JWKs they publish, and tokens signed over exactly the bytes a test wants."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from eastgate.keys.base64url import encode_base64url

_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_SIGNERS = get_default_algorithms()
_SIGNERS["Ed25519"] = _SIGNERS["EdDSA"]

SECRET = b"a shared secret that is as long as the longest hash, 64 bytes...."[:64]


@cache
def _make(family: str, number: int, bits: int) -> Any:
    if family == "OKP":
        return ed25519.Ed25519PrivateKey.generate()
    if family in _CURVES:
        return ec.generate_private_key(_CURVES[family])
    return rsa.generate_private_key(65537, bits)


def private_key(algorithm: str, number: int = 0, bits: int = 2048) -> Any:
    """The key of a number for an algorithm (``RSA`` stands for all of its own), shared by all tests: RSA is dear."""
    if algorithm.startswith("HS"):
        return SECRET
    if algorithm in _CURVES:
        return _make(algorithm, number, bits)
    return _make("OKP" if algorithm in ("EdDSA", "Ed25519") else "RSA", number, bits)


def jwk(
    algorithm: str, number: int = 0, *, bits: int = 2048, private: bool = False, **members: object
) -> dict[str, Any]:
    """The JWK of a key, with further members; None takes a member away."""
    key = private_key(algorithm, number, bits)
    if isinstance(key, bytes):
        document: dict[str, Any] = {"kty": "oct", "k": encode_base64url(key).decode()}
    else:
        public = key if private else key.public_key()
        form: Any = RSAAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey):
            form = ECAlgorithm
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            form = OKPAlgorithm
        document = form.to_jwk(public, as_dict=True)
    document.pop("key_ops", None)
    document.update(members)
    return {name: value for name, value in document.items() if value is not None}


def jwks(*keys: dict[str, Any]) -> str:
    """A key set as an issuer publishes it."""
    return json.dumps({"keys": list(keys)})


def join(header: bytes, payload: bytes, signature: bytes) -> bytes:
    """A compact serialisation of any three octet strings."""
    return b".".join(encode_base64url(part) for part in (header, payload, signature))


def sign(
    payload: bytes | dict[str, object],
    algorithm: str = "RS256",
    *,
    number: int = 0,
    key: object = None,
    header: bytes | None = None,
    **members: object,
) -> bytes:
    """A token over exactly these bytes. ``header`` replaces the header's text; ``key`` the key."""
    header_text = header if header is not None else json.dumps({"alg": algorithm, **members}).encode()
    payload_text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = encode_base64url(header_text) + b"." + encode_base64url(payload_text)
    signer = _SIGNERS[algorithm]
    signature = signer.sign(signing_input, private_key(algorithm, number) if key is None else key)
    return signing_input + b"." + encode_base64url(signature)
