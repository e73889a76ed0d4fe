"""What the Secret holds, and what it should hold: the authority that signs now, and everyone who is trusted.

The Secret is the replicas' common memory. ``tls.crt`` and ``tls.key`` are the authority that signs; ``ca.crt`` is what
the API server is to trust: that authority first, and those before it until they end. So the next authority is trusted
before it has signed anything, and the last one for as long as anybody may still show a leaf of it.

Knows: a Secret as a dict, certificates. Must not know: the API, the clock. What comes out depends on what goes in
only, so that replicas that see the same Secret want the same.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from eastgate.pods.names import MANAGER
from webhook.certificates.authority import (
    MAX_CERTIFICATES,
    Authority,
    AuthorityError,
    fingerprint,
    read_authority,
    read_span,
)
from webhook.certificates.schedule import is_authority_due

SECRET_TYPE: Final = "kubernetes.io/tls"  # noqa: S105 (a type)
LABELS: Final = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": MANAGER}
MAX_BUNDLE_BYTES: Final = 64 * 1024
"""Of PEM text that is parsed. A certificate has about 1 kB; etcd's own limit for a whole object is 1.5 MB."""


@dataclass(frozen=True, slots=True)
class Holding:
    """An authority, and the certificates that are trusted: its own first."""

    authority: Authority
    trusted: tuple[x509.Certificate, ...]

    def bundle(self) -> bytes:
        """The trusted certificates as PEM: the same bytes from every replica."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.trusted)


def read_holding(secret: Mapping[str, object]) -> Holding:
    """What a Secret holds. Raises ``AuthorityError``; ``ca.crt`` may be missing or wrong, that can be made good."""
    authority = read_authority(_read_value(secret, "tls.crt"), _read_value(secret, "tls.key"))
    try:
        trusted = read_certificates(_read_value(secret, "ca.crt"))
    except AuthorityError:
        trusted = ()
    return Holding(authority, trusted)


def salvage_certificates(secret: Mapping[str, object]) -> tuple[x509.Certificate, ...]:
    """The trusted certificates of a Secret whose authority is broken."""
    try:
        return read_certificates(_read_value(secret, "ca.crt"))
    except AuthorityError:
        return ()


def want_holding(
    found: Holding | None,
    remembered: Holding | None,
    served: x509.Certificate | None,
    salvaged: Iterable[x509.Certificate],
    now: float,
    make: Callable[[], Authority],
) -> Holding:
    """What the Secret should hold. Equal to ``found`` where nothing is to be done.

    ``remembered`` is what this replica last saw there: it goes back when the Secret was deleted or broken. ``served``
    signed the leaf that this replica shows now, so it has to stay trusted. ``make`` makes the next authority.
    """
    best = found or remembered
    authority = best.authority if best is not None else None
    trusted = [*(best.trusted if best is not None else ()), *salvaged]
    if authority is None or is_authority_due(authority.span, now):
        if authority is not None:
            trusted.insert(0, authority.certificate)
        authority = make()
    if served is not None:
        trusted.append(served)
    return Holding(authority, _arrange(authority.certificate, trusted, now))


def render_secret(holding: Holding, name: str, namespace: str, seen: Mapping[str, Any] | None) -> dict[str, Any]:
    """The Secret to write, laid over what was seen: what is not ours stays, and exactly that version is replaced."""
    old = seen or {}
    metadata = old.get("metadata") or {}
    certificate = holding.authority.certificate.public_bytes(serialization.Encoding.PEM)
    values = {"tls.crt": certificate, "tls.key": holding.authority.key_pem(), "ca.crt": holding.bundle()}
    data = {key: base64.b64encode(value).decode("ascii") for key, value in values.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        **old,
        "metadata": {
            **metadata,
            "name": name,
            "namespace": namespace,
            "labels": {**(metadata.get("labels") or {}), **LABELS},
        },
        "data": {**(old.get("data") or {}), **data},
    }


def read_certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM text. Raises ``AuthorityError``."""
    if len(pem) > MAX_BUNDLE_BYTES:
        raise AuthorityError(f"a bundle of {len(pem)} bytes; accepted: {MAX_BUNDLE_BYTES}")
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise AuthorityError("no certificates in PEM form") from None


def _arrange(issuer: x509.Certificate, others: Iterable[x509.Certificate], now: float) -> tuple[x509.Certificate, ...]:
    """The issuer, then the others that have not ended, the longest first, each once."""
    unique = {fingerprint(one): one for one in others if read_span(one).ends > now}
    unique.pop(fingerprint(issuer), None)
    rest = sorted(unique.items(), key=lambda item: (-read_span(item[1]).ends, item[0]))
    return (issuer, *(certificate for _, certificate in rest[: MAX_CERTIFICATES - 1]))


def _read_value(secret: Mapping[str, object], key: str) -> bytes:
    data = secret.get("data")
    value = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(value, str):
        raise AuthorityError(f"`data` has no `{key}`")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise AuthorityError(f"`{key}` is not base64") from None
