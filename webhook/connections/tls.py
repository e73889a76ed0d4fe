"""TLS for the port that the API server calls: what is spoken, and with which certificate.

A certificate is never changed in a context that is in use: OpenSSL takes the chain and the key in two steps, and a
handshake between them fails. The context that the server holds hands every new connection over to the newest one, in
which both are in place; connections that stand keep what they have. (``webhook.certificates`` does the same with
certificates of its own.) HTTP/2 is not offered: see docs/decisions/0005-webhook-server.md.

Knows: files, OpenSSL. Must not know: HTTP, or who issues certificates.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509

LOG = logging.getLogger(__name__)

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and AEAD only, Mozilla's "intermediate". TLS 1.3 has no others."""

PROTOCOLS: Final = ("http/1.1",)


class CertificateSource(Protocol):
    """Where the certificate comes from: files here, or ``webhook.certificates.keeper``."""

    @property
    def context(self) -> ssl.SSLContext:
        """The one context to serve with; new connections get the newest certificate."""

    @property
    def ready(self) -> bool:
        """True when the certificate is there and valid."""

    @property
    def expires(self) -> float:
        """When it ends, as a Unix time; 0 where there is none."""


def open_context() -> ssl.SSLContext:
    """A server's context without a certificate."""
    return harden(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def harden(context: ssl.SSLContext) -> ssl.SSLContext:
    """Set what is spoken. The versions and ciphers of a connection are those of the context it began with."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(PROTOCOLS))
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # All of them are good, so the client's order counts (Mozilla's advice, too). That of Go, and so of the API server,
    # begins with AES-128; OpenSSL's own begins with AES-256 and takes longer for a large review.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # No session is ever resumed: API servers keep connections, and a ticket would outlive the certificate.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


class CertificateFiles:
    """A certificate and its key in two files that somebody else renews (cert-manager, a mounted Secret)."""

    def __init__(self, certificate: str, key: str, clock: Callable[[], float]) -> None:
        self._paths = (Path(certificate), Path(key))
        self._clock = clock
        self._newest: ssl.SSLContext | None = None
        self._seen: tuple[object, ...] = ()
        self._ends = 0.0
        self._begins = 0.0
        self.context = open_context()
        self.context.sni_callback = self._hand_over

    @property
    def ready(self) -> bool:
        """True when there is a pair and it is valid now."""
        return self._newest is not None and self._begins <= self._clock() < self._ends

    @property
    def expires(self) -> float:
        """The end of the first certificate in the file."""
        return self._ends

    def load(self, *, anew: bool = False) -> bool:
        """Take the files if they changed (or ``anew``); True when a new pair is in use. Raises ``OSError`` or
        ``ValueError`` when they cannot be used; the last good pair stays, and the next look tries again.
        """
        seen = tuple(_stamp(path) for path in self._paths)
        if seen == self._seen and not anew:
            return False
        context = open_context()
        try:
            # Both are read once more by OpenSSL; a pair that does not fit together (one of them already renewed) fails.
            context.load_cert_chain(*self._paths)
            leaf = x509.load_pem_x509_certificate(self._paths[0].read_bytes())
        except ssl.SSLError as error:
            reason = error.reason or "not PEM"
            raise ValueError(
                f"`{self._paths[0]}` and `{self._paths[1]}` are no certificate and key: {reason}"
            ) from None
        if tuple(_stamp(path) for path in self._paths) != seen:
            raise ValueError("the files changed while they were read")
        self._newest = context
        self._begins = leaf.not_valid_before_utc.timestamp()
        self._ends = leaf.not_valid_after_utc.timestamp()
        self._seen = seen
        return True

    def _hand_over(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> int | None:
        """Called with every hello, also with one that names no server."""
        if self._newest is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._newest
        return None


def _stamp(path: Path) -> tuple[object, ...]:
    """What changes when a file does. Kubelet swaps a link and leaves the path as it was: the inode is another."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
