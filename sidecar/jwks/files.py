"""The last good keys of every source, kept over a restart.

A container that restarts while its identity provider is away would refuse everybody; with these files it goes on
with the keys it had, for as long as it would have without the restart. What is written are public keys only, by
construction: the file is made from the parsed keys, not from the document they came in. What is read is parsed as
strictly as if it came from the network, and not older than old keys may serve.

Knows: files. Must not know: the network, or when to fetch. Blocking: call it from a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eastgate.keys.json_text import JSONTextError, parse_json
from eastgate.keys.keyset import MAX_SET_BYTES, Key, KeySet, KeySetError, parse_key_set
from eastgate.model.keys import RemoteKeys

_CLOCK_TOLERANCE = 60.0
"""Seconds a file may come from the future: a clock that was set back a little, not one that was never set."""

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


@dataclass(frozen=True, slots=True)
class Kept:
    """``age`` in seconds; ``vouched``: see ``client.Fetched``."""

    keys: KeySet
    age: float
    vouched: frozenset[str]


class KeyFiles:
    """One file a source, mode 0600, written whole or not at all."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def save(self, source: RemoteKeys, keys: KeySet, fetched: float, vouched: frozenset[str] = frozenset()) -> None:
        """Keep ``keys``, fetched at the Unix time ``fetched``, with the fingerprints of who ``vouched`` for them.
        Raises ``OSError``.
        """
        members = [jwk for key in keys.keys if (jwk := _write_jwk(key)) is not None]
        text = json.dumps({"fetched": fetched, "vouched": sorted(vouched), "set": {"keys": members}})
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=".keys-")  # 0600 from the start
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path(source))
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def load(self, source: RemoteKeys, now: float, max_age: float) -> Kept | None:
        """The keys kept for a source, or None: no file, too old, or not beyond doubt."""
        try:
            document = parse_json(self._read(self._path(source)), max_bytes=2 * MAX_SET_BYTES)
            if not isinstance(document, dict):
                return None
            fetched, vouched = document.get("fetched"), document.get("vouched")
            if not isinstance(fetched, float | int) or isinstance(fetched, bool):
                return None
            if not isinstance(vouched, list):
                return None
            age = now - fetched
            if not -_CLOCK_TOLERANCE <= age < max_age:
                return None
            keys = parse_key_set(json.dumps(document.get("set")), remote=True)
            return Kept(keys, max(age, 0.0), frozenset(map(str, vouched)))
        except (OSError, JSONTextError, KeySetError):
            return None

    def forget(self, source: RemoteKeys) -> None:
        """Remove what is kept of a source that no policy names any more."""
        with contextlib.suppress(OSError):
            self._path(source).unlink()

    def _path(self, source: RemoteKeys) -> Path:
        """Named by what identifies the keys: where they come from and whom we trust to serve them."""
        identity = (source.url, source.addresses, source.tls, source.ca, source.server_name)
        return self._directory / f"{sha256(json.dumps(identity).encode()).hexdigest()}.json"

    @staticmethod
    def _read(path: Path) -> bytes:
        """The file's content, if nobody but us can have written it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise PermissionError("not a regular file of our own")
            return file.read(2 * MAX_SET_BYTES + 1)


def _write_jwk(key: Key) -> dict[str, str] | None:
    """The public JWK (RFC 7518 section 6, RFC 8037); None for a key that has no public half."""
    material = key.material
    if isinstance(material, RSAPublicKey):
        numbers = material.public_numbers()
        jwk = {"kty": "RSA", "n": _encode_number(numbers.n), "e": _encode_number(numbers.e)}
    elif isinstance(material, EllipticCurvePublicKey):
        point = material.public_numbers()
        size = (material.key_size + 7) // 8
        x, y = _encode_number(point.x, size), _encode_number(point.y, size)
        jwk = {"kty": "EC", "crv": _CURVES[material.curve.name], "x": x, "y": y}
    elif isinstance(material, Ed25519PublicKey):
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": _encode(material.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    else:
        return None
    if key.kid:
        jwk["kid"] = key.kid
    if key.algorithm:
        jwk["alg"] = key.algorithm
    return jwk


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _encode_number(number: int, size: int | None = None) -> str:
    return _encode(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))
