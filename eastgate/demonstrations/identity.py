"""A stand-in for an identity provider: a key set behind TLS, with a certificate of its own authority.

Knows: X.509 as far as a server certificate needs it (RFC 5280), and how to fail a few times first, so that retries can
be seen. Names such as ``raw.githubusercontent.com`` are its own only on this machine: ``serve --resolve`` leads here.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=1)


class Authority:
    """A certificate authority that lives as long as the demonstration."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._begin(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> str:
        """The authority's certificate: what ``caCertificateRefs`` or ``--trusted-ca`` point to."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def certify(self, names: Sequence[str], folder: Path) -> Path:
        """A server certificate for these DNS names, with its key, in one PEM file."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), key.public_key())
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        file = folder / f"{names[0]}.pem"
        file.touch(mode=0o600)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + certificate.public_bytes(pem))
        return file

    def _begin(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + _LIFETIME)
        own = x509.SubjectKeyIdentifier.from_public_key(key)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(own, critical=False).add_extension(issuer, critical=False)


class KeyServer:
    """Serves ``documents`` (path -> key set) under ``names``; the first ``failures`` requests get 503."""

    def __init__(
        self,
        authority: Authority,
        names: Sequence[str],
        documents: Mapping[str, str],
        folder: Path,
        failures: int = 0,
    ) -> None:
        self.names = tuple(names)
        self.answers: list[int] = []
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = documents.get(self.path)
                if len(answers) < failures:
                    status, body = 503, b"not yet\n"
                elif document is not None:
                    status, body = 200, document.encode()
                else:
                    status, body = 404, b"no such key set\n"
                answers.append(status)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (http.server)
                """Say nothing: the table does."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.certify(names, folder))
        self._server = _TLSServer(("127.0.0.1", 0), Handler, context)
        self.port: int = self._server.server_address[1]

    def resolutions(self) -> list[str]:
        """The ``--resolve`` values that lead its names here."""
        return [f"{name}:443:127.0.0.1:{self.port}" for name in self.names]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _TLSServer(ThreadingHTTPServer):
    """Shakes hands in the connection's own thread, so that a client that does not trust it holds up nobody."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext
    ) -> None:
        self._context = context
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            tls = self._context.wrap_socket(request, server_side=True)
        except OSError:
            return
        with tls:
            super().finish_request(tls, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the demonstration."""
