"""Self-signed certificates for tests."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding


def self_signed(key: Any) -> str:
    """A certificate over the key, long expired: nothing but its key counts."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(days=1))
    return (
        builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256()).public_bytes(Encoding.PEM).decode()
    )
