"""Keys, key sets and signed tokens for trying things out.

Knows: RFC 7515 (JWS, compact form), RFC 7517 and 7638 (JWK and its thumbprint), RFC 7518 and 8037 (algorithms).
Must not know: policies. Verifying is not done here: that is the engine's, and the only one there is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

RSA_BITS = 2048
"""The least that RFC 7518 section 3.3 permits, and what the seeds' own keys have."""

type PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_CURVES: dict[str, tuple[str, int, str]] = {
    "secp256r1": ("P-256", 32, "ES256"),
    "secp384r1": ("P-384", 48, "ES384"),
    "secp521r1": ("P-521", 66, "ES512"),
}
_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")


class SigningError(ValueError):
    """A key that cannot be read, or cannot do what was asked of it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the name it goes by in key sets. ``repr`` leaves the key out."""

    private: PrivateKey
    kid: str

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What it can sign with; the usual one first."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return _RSA_ALGORITHMS
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return (_CURVES[self.private.curve.name][2],)
        return ("EdDSA",)


def generate_key(kind: str, kid: str | None = None) -> SigningKey:
    """A new key: ``RSA``, ``EC`` (P-256) or ``OKP`` (Ed25519). Without ``kid`` its thumbprint."""
    if kind == "RSA":
        private: PrivateKey = rsa.generate_private_key(65537, RSA_BITS)
    elif kind == "EC":
        private = ec.generate_private_key(ec.SECP256R1())
    elif kind == "OKP":
        private = ed25519.Ed25519PrivateKey.generate()
    else:
        raise SigningError(f"key type `{kind}` is not known; accepted: RSA, EC, OKP")
    return name_key(private, kid)


def read_private_key(pem: str, kid: str | None = None) -> SigningKey:
    """The private key in a PEM text (PKCS#8, PKCS#1 or SEC 1, not encrypted)."""
    try:
        private = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        message = "holds no private key; accepted: PEM without a passphrase, as `token keygen` writes it"
        raise SigningError(message) from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name not in _CURVES:
        raise SigningError(f"curve {private.curve.name} cannot sign tokens; accepted: P-256, P-384, P-521")
    if not isinstance(private, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise SigningError("this type of key cannot sign tokens; accepted: RSA, EC, Ed25519")
    return name_key(private, kid)


def name_key(private: PrivateKey, kid: str | None) -> SigningKey:
    """Give it its ``kid``: the RFC 7638 thumbprint where none is given."""
    if kid is None:
        members = {
            name: value
            for name, value in _public_members(private).items()
            if name in ("crv", "e", "kty", "n", "x", "y")
        }
        canonical = json.dumps(members, sort_keys=True, separators=(",", ":"))
        kid = encode(hashlib.sha256(canonical.encode()).digest())
    return SigningKey(private, kid)


def public_jwk(key: SigningKey) -> dict[str, str]:
    """The public half as a JWK."""
    return {**_public_members(key.private), "kid": key.kid, "use": "sig", "alg": key.algorithms[0]}


def public_key_set(*keys: SigningKey) -> str:
    """The public halves as a JWKS document."""
    return json.dumps({"keys": [public_jwk(key) for key in keys]}, indent=2) + "\n"


def private_pem(key: SigningKey) -> str:
    """The private key as PKCS#8 PEM."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def public_pem(key: SigningKey) -> str:
    """The public key as PEM, as a policy's inline key takes it."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.private.public_key().public_bytes(encoding, form).decode()


def sign_token(
    key: SigningKey,
    claims: Mapping[str, object],
    *,
    algorithm: str | None = None,
    header: Mapping[str, object] | None = None,
) -> str:
    """A signed token. ``header`` is laid over ``alg``, ``kid`` and ``typ``; a value of None takes a field out."""
    algorithm = algorithm or key.algorithms[0]
    if algorithm not in key.algorithms:
        raise SigningError(f"this key cannot sign with `{algorithm}`; accepted: {', '.join(key.algorithms)}")
    fields = {"alg": algorithm, "kid": key.kid, "typ": "JWT", **(header or {})}
    parts = [
        encode(json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode())
        for part in ({name: value for name, value in fields.items() if value is not None}, dict(claims))
    ]
    message = ".".join(parts).encode()
    return ".".join([*parts, encode(_sign(key.private, algorithm, message))])


def encode(data: bytes) -> str:
    """base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(private: PrivateKey, algorithm: str, message: bytes) -> bytes:
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return private.sign(message)
    digest = _HASHES[algorithm[2:]]()
    if isinstance(private, ec.EllipticCurvePrivateKey):
        size = _CURVES[private.curve.name][1]
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    if algorithm.startswith("PS"):
        return private.sign(message, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return private.sign(message, padding.PKCS1v15(), digest)


def _public_members(private: PrivateKey) -> dict[str, str]:
    if isinstance(private, rsa.RSAPrivateKey):
        rsa_numbers = private.public_key().public_numbers()
        return {"kty": "RSA", "n": _integer(rsa_numbers.n), "e": _integer(rsa_numbers.e)}
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curve, size, _ = _CURVES[private.curve.name]
        numbers = private.public_key().public_numbers()
        return {"kty": "EC", "crv": curve, "x": _integer(numbers.x, size), "y": _integer(numbers.y, size)}
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(raw)}


def _integer(number: int, size: int | None = None) -> str:
    return encode(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))
