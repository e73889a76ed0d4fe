"""A certificate authority that signs for one Service: made, read and checked.

Knows X.509 (RFC 5280) as far as Go's verifier and OpenSSL's ask for it. Must not know: Kubernetes, files, the clock.
A private key never stands in a ``repr`` or a message.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from webhook.certificates.schedule import AUTHORITY_LIFETIME, Span, plan_authority

COMMON_NAME = "eastgate-webhook-ca"
MIN_RSA_BITS = 2048
"""The least that Go's crypto/tls accepts."""

MAX_CERTIFICATES = 8
"""In one bundle: the issuer, those before it, and room for what an operator adds. Every entry carries them all."""

type SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class AuthorityError(ValueError):
    """What was read is no authority that can sign for us; the text says why and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate that may sign, and its key."""

    certificate: x509.Certificate
    key: SigningKey = field(repr=False, compare=False)

    @property
    def span(self) -> Span:
        """From when until when it is valid."""
        return read_span(self.certificate)

    def key_pem(self) -> bytes:
        """The private key, PKCS#8: for the Secret and for nothing else."""
        form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, form, encryption)


def make_authority(now: float, lifetime: float = AUTHORITY_LIFETIME) -> Authority:
    """A new one, ECDSA on P-256, valid from a little before ``now``. It may sign leaves, not further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial in the name tells two of ours apart wherever people see them side by side.
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"[:16]),
        ]
    )
    span = plan_authority(now, lifetime)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = begin_certificate(name, name, span).public_key(key.public_key()).serial_number(serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(describe_usage("key_cert_sign", "crl_sign"), critical=True)
    builder = builder.add_extension(identifier, critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def read_authority(certificate_pem: bytes, key_pem: bytes) -> Authority:
    """The authority in two PEM texts: ours, or one that an operator put in its place. Raises ``AuthorityError``."""
    try:
        certificate = x509.load_pem_x509_certificates(certificate_pem)[0]
    except ValueError:
        raise AuthorityError("`tls.crt` holds no certificate in PEM form") from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError):
        raise AuthorityError("`tls.key` holds no private key in PEM form that is not encrypted") from None
    except Exception:  # UnsupportedAlgorithm and what else a stranger's key may raise: never its text
        raise AuthorityError("`tls.key` holds a key of an unknown kind; accepted: ECDSA, RSA") from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise AuthorityError("`tls.key` holds a key of an unknown kind; accepted: ECDSA, RSA")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise AuthorityError(f"`tls.key` holds an RSA key of {key.key_size} bits; accepted: {MIN_RSA_BITS} and more")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise AuthorityError(f"`tls.key` holds a key on {key.curve.name}; accepted: P-256, P-384, P-521")
    _check_may_sign(certificate)
    if certificate.public_key() != key.public_key():
        raise AuthorityError("`tls.key` is not the key of the certificate in `tls.crt`")
    return Authority(certificate, key)


def _check_may_sign(certificate: x509.Certificate) -> None:
    try:
        extensions = certificate.extensions
        may = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        may = False
    else:
        with contextlib.suppress(x509.ExtensionNotFound):  # RFC 5280 section 4.2.1.3: without it every use is allowed
            may = may and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    if not may:
        raise AuthorityError("the certificate in `tls.crt` may not sign others: it is no certificate authority's")


def begin_certificate(subject: x509.Name, issuer: x509.Name, span: Span) -> x509.CertificateBuilder:
    """Names and validity, the part that an authority and a leaf have in common."""
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    begins, ends = (datetime.fromtimestamp(int(moment), UTC) for moment in (span.begins, span.ends))
    return builder.not_valid_before(begins).not_valid_after(ends)


def describe_usage(*purposes: str) -> x509.KeyUsage:
    """A ``KeyUsage`` with these purposes and no others."""
    every = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{purpose: purpose in purposes for purpose in every})


def read_span(certificate: x509.Certificate) -> Span:
    """From when until when a certificate is valid."""
    return Span(certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp())


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, as ``openssl x509 -fingerprint`` counts it: for comparing and for the log."""
    return certificate.fingerprint(hashes.SHA256()).hex()
