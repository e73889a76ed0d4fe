"""The certificate that one replica serves with. Its key never leaves the process that made it.

Knows X.509 (RFC 5280) and under which names a Service is called. Must not know: the Kubernetes API, files, the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webhook.certificates.authority import Authority, begin_certificate, describe_usage, read_span
from webhook.certificates.schedule import Span, date_leaf_renewal, plan_leaf

_MAX_COMMON_NAME = 64
"""X.520's upper bound; nobody reads a common name any more, so a longer Service name goes without."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A server certificate, its key, who signed it, and when it should be replaced."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    due: float
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)

    @property
    def span(self) -> Span:
        """From when until when it is valid."""
        return read_span(self.certificate)

    def certificate_pem(self) -> bytes:
        """What a server shows. The authority is left out: who does not have it already does not trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, PKCS#8."""
        form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, form, encryption)


def name_service(service: str, namespace: str, cluster_domain: str) -> tuple[str, ...]:
    """The DNS names of a Service. The API server calls the first; the others are for people and their tools."""
    called = f"{service}.{namespace}.svc"
    return (called, f"{called}.{cluster_domain}", f"{service}.{namespace}", service)


def make_leaf(authority: Authority, names: tuple[str, ...], now: float, lifetime: float, jitter: float) -> Leaf:
    """A new key, and the authority's word that it is the server of ``names``. ``jitter`` as in ``schedule``."""
    key = ec.generate_private_key(ec.SECP256R1())
    span = plan_leaf(now, lifetime, authority.span)
    common_name = [x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if len(names[0]) <= _MAX_COMMON_NAME else []
    issuer = authority.certificate
    builder = begin_certificate(x509.Name(common_name), issuer.subject, span)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    # RFC 5280 section 4.2.1.6: critical where the subject is empty.
    builder = builder.add_extension(alternatives, critical=not common_name)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(describe_usage("digital_signature"), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    builder = builder.add_extension(_identify_issuer(issuer), critical=False)
    certificate = builder.sign(authority.key, hashes.SHA256())
    return Leaf(certificate, issuer, date_leaf_renewal(now, span, jitter), key)


def _identify_issuer(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """By the issuer's own identifier: verifiers that look for a chain compare the two."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
