"""Test tokens, good and odd ones: any header, any payload text, any signature, with the published test keys."""

from __future__ import annotations

import base64
import functools
import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

KEYS = Path(__file__).parent / "keys"
DEFAULT_ALGORITHM = {"p256": "ES256", "p384": "ES384", "p521": "ES512", "ed25519": "EdDSA"}
SECRET = b"a published test secret of sufficient length, 64 bytes at least."


@functools.cache
def load_private_key(name: str) -> Any:
    """The private key ``tests/keys/corpus-NAME.pem``."""
    return load_pem_private_key((KEYS / f"corpus-{name}.pem").read_bytes(), None)


def encode_segment(data: bytes | str) -> str:
    """base64url without padding."""
    raw = data if isinstance(data, bytes) else data.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@functools.cache
def public_jwk(name: str, **_: Any) -> dict[str, Any]:
    """The public JWK of a test key, without kid, use or alg."""
    key = load_private_key(name).public_key()
    algorithm = {
        rsa.RSAPublicKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePublicKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PublicKey: jwt.algorithms.OKPAlgorithm,
    }
    for kind, maker in algorithm.items():
        if isinstance(key, kind):
            return dict(maker.to_jwk(key, as_dict=True))
    raise AssertionError(name)


def public_pem(name: str) -> str:
    """The public key as PEM."""
    return load_private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_set(*names: str, **extra: Any) -> str:
    """A JWKS on one line; each key's kid is its name unless ``kid=None``. ``extra`` goes into every key."""
    keys = []
    for name in names:
        jwk = {k: v for k, v in public_jwk(name).items() if k != "key_ops"}
        jwk["kid"] = name
        jwk.update(extra)
        keys.append({k: v for k, v in jwk.items() if v is not None})
    return json.dumps({"keys": keys}, separators=(",", ":"))


def relative_time(value: Any, now: float) -> Any:
    """``+1h``, ``-30s``, ``+10m`` become a NumericDate; everything else stays."""
    if isinstance(value, str) and value[:1] in "+-" and value[-1:] in "smhd" and value[1:-1].isdigit():
        seconds = int(value[1:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[value[-1]]
        return int(now) + (seconds if value[0] == "+" else -seconds)
    return value


def mint(
    claims: dict[str, Any] | None = None,
    *,
    key: str = "main",
    header: dict[str, Any] | None = None,
    header_text: str | None = None,
    payload_text: str | None = None,
    algorithm: str | None = None,
    signature: str | None = None,
    kid: str | None = "same",
) -> str:
    """A compact JWS. ``kid`` defaults to the key's name; ``header`` overrides members (None removes one);
    ``signature`` replaces the signature segment's text."""
    name = algorithm or ("HS256" if key == "secret" else DEFAULT_ALGORITHM.get(key, "RS256"))
    head: dict[str, Any] = {"alg": name, "typ": "JWT"}
    if kid is not None:
        head["kid"] = key if kid == "same" else kid
    head.update(header or {})
    head = {k: v for k, v in head.items() if v is not None}
    now = time.time()
    body = {k: relative_time(v, now) for k, v in (claims or {}).items()}
    first = encode_segment(header_text if header_text is not None else json.dumps(head, separators=(",", ":")))
    second = encode_segment(payload_text if payload_text is not None else json.dumps(body, separators=(",", ":")))
    signing_input = f"{first}.{second}"
    if signature is not None:
        return f"{signing_input}.{signature}"
    signer = jwt.get_algorithm_by_name(name)
    private = SECRET if key == "secret" else load_private_key(key)
    return f"{signing_input}.{encode_segment(signer.sign(signing_input.encode(), signer.prepare_key(private)))}"
