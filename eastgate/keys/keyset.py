"""A set of verification keys: read from any form people keep keys in, asked for candidates by ``alg`` and ``kid``.

Knows: a JWKS, a single JWK, PEM (public keys and certificates, several blocks) and Google's ``{kid: certificate}`` map.
What cannot be used is skipped and noted; only where no key is left is the set an error, and the first key's problem
is its name (Envoy's jwks.cc). Stricter than Envoy: JSON is strict (no trailing comma, no duplicate members), weak,
private and encryption keys are not used. Must not know: where the text came from, tokens beyond ``alg`` and ``kid``,
or when to fetch again. Rules: RFC 7517, RFC 8725 section 3.5; Envoy ``source/common/jwt/jwks.cc`` and ``verify.cc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from eastgate.keys.json_text import JSONTextError, parse_json
from eastgate.keys.jwk import read_jwk
from eastgate.keys.key import Key
from eastgate.keys.pem import looks_like_pem, read_block, split_blocks
from eastgate.keys.problems import KeyProblem, KeySetError

__all__ = ["MAX_CANDIDATES", "MAX_KEYS", "MAX_SET_BYTES", "Key", "KeyProblem", "KeySet", "KeySetError", "parse_key_set"]

MAX_SET_BYTES = 1 << 20
"""One MiB. The largest well-known sets (Google's, Microsoft's) are a few tens of KiB; Envoy has no limit."""

MAX_KEYS = 100
"""Keys read from one set, usable or not; Microsoft's shared set, the largest in common use, has about ten."""

MAX_CANDIDATES = 16
"""Signatures tried for one token. Only a token or a set without ``kid`` needs more than one; it bounds what a hostile
token costs.
"""


@dataclass(frozen=True, slots=True)
class KeySet:
    """``skipped`` says, one line a key, what was not used and why (``keys[2]: [kty] is not supported in [keys]``); it
    never quotes a key. Two sets are equal when their keys are, whatever was skipped.
    """

    keys: tuple[Key, ...]
    skipped: tuple[str, ...] = field(default=(), compare=False)

    def candidates(self, alg: str, kid: str | None) -> tuple[Key, ...]:
        """The keys worth trying, in the set's order: those meant for ``alg`` and ``kid`` and able to verify ``alg``."""
        found = [key for key in self.keys if alg in key.algorithms and key.is_meant_for(alg, kid)]
        return tuple(found[:MAX_CANDIDATES])

    def has_key_meant_for(self, alg: str, kid: str | None) -> bool:
        """Envoy's weaker question, which does not look at the key's type: it separates ``Jwt verification fails``
        (there is such a key, and it does not fit) from ``Jwks doesn't have key to match`` (a fetch may bring one).
        """
        return any(key.is_meant_for(alg, kid) for key in self.keys)


def parse_key_set(text: str, *, remote: bool) -> KeySet:
    """Read a key set, or raise ``KeySetError``. ``remote`` refuses shared secrets and private keys."""
    if len(text) > MAX_SET_BYTES or len(text.encode("utf-8", "replace")) > MAX_SET_BYTES:
        raise KeySetError(KeyProblem.PARSE_ERROR, f"larger than {MAX_SET_BYTES} bytes")
    if looks_like_pem(text):
        return _collect(
            (f"block {number}", partial(read_block, *block)) for number, block in enumerate(split_blocks(text))
        )
    return _read_json_set(text, remote)


def _read_json_set(text: str, remote: bool) -> KeySet:
    try:
        document = parse_json(text, max_bytes=MAX_SET_BYTES)
    except JSONTextError as error:
        raise KeySetError(KeyProblem.PARSE_ERROR, str(error)) from None
    if not isinstance(document, dict):
        raise KeySetError(KeyProblem.PARSE_ERROR, "not a JSON object")
    if "keys" in document:
        listed = document["keys"]
        if not isinstance(listed, list):
            raise KeySetError(KeyProblem.BAD_KEYS)
        return _collect(
            (f"keys[{index}]", partial(read_jwk, jwk, remote=remote))
            for index, jwk in enumerate(listed)
            if isinstance(jwk, dict)
        )
    if "kty" in document:
        return _collect([("key", partial(read_jwk, document, remote=remote))])
    if document and all(kid and _is_certificate(value) for kid, value in document.items()):
        return _collect(
            (f"certificate {index}", partial(_read_certificate, kid, value))
            for index, (kid, value) in enumerate(document.items())
        )
    raise KeySetError(KeyProblem.NO_KEYS)


def _is_certificate(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("-----BEGIN CERTIFICATE-----")


def _read_certificate(kid: str, text: object) -> Key:
    blocks = list(split_blocks(str(text)))
    return read_block(*blocks[0], kid)


def _collect(entries: Iterable[tuple[str, Callable[[], Key]]]) -> KeySet:
    """Keep what can be used. Nothing usable: the first problem names the failure, as in Envoy."""
    keys: list[Key] = []
    skipped: list[str] = []
    first: KeySetError | None = None
    for number, (place, read) in enumerate(entries):
        if number >= MAX_KEYS:
            skipped.append(f"{place} and what follows: only {MAX_KEYS} keys of a set are read")
            break
        try:
            keys.append(read())
        except KeySetError as error:
            first = first or KeySetError(error.problem, f"{place}: {error.detail or error.text}")
            skipped.append(f"{place}: {error.detail or error.text}")
    if not keys:
        raise first or KeySetError(KeyProblem.NO_VALID_KEYS)
    return KeySet(tuple(keys), tuple(skipped))
