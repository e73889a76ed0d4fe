from __future__ import annotations

import time
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.verification import PolicyBuilder, Store

from webhook.certificates.authority import (
    Authority,
    AuthorityError,
    begin_certificate,
    describe_usage,
    fingerprint,
    make_authority,
    read_authority,
)
from webhook.certificates.leaf import make_leaf, name_service
from webhook.certificates.schedule import DAY, LEAF_LIFETIME, SKEW, Span

NOW = 1_800_000_000.0
NAMES = name_service("eastgate-webhook", "eastgate-system", "cluster.local")
PEM = serialization.Encoding.PEM


def pems(authority: Authority) -> tuple[bytes, bytes]:
    return authority.certificate.public_bytes(PEM), authority.key_pem()


def test_an_authority_may_sign_leaves_and_nothing_else() -> None:
    certificate = make_authority(NOW).certificate
    extensions = certificate.extensions

    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    assert (usage.critical, usage.value) == (True, describe_usage("key_cert_sign", "crl_sign"))
    assert certificate.not_valid_before_utc.timestamp() == NOW - SKEW
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    certificate.verify_directly_issued_by(certificate)


def test_two_authorities_have_different_names_serials_and_keys() -> None:
    first, second = make_authority(NOW).certificate, make_authority(NOW).certificate

    assert first.subject != second.subject
    assert first.serial_number != second.serial_number
    assert fingerprint(first) != fingerprint(second)


def test_an_authority_is_read_as_it_was_written() -> None:
    authority = make_authority(NOW)

    assert read_authority(*pems(authority)) == authority


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_is_accepted_for_every_name_of_the_service(name: str) -> None:
    authority = make_authority(time.time())
    leaf = make_leaf(authority, NAMES, time.time(), LEAF_LIFETIME, 0.5)

    verifier = PolicyBuilder().store(Store([authority.certificate])).build_server_verifier(x509.DNSName(name))

    assert verifier.verify(leaf.certificate, [])[-1] == authority.certificate


def test_the_names_of_a_service_begin_with_the_one_that_the_api_server_calls() -> None:
    assert NAMES == (
        "eastgate-webhook.eastgate-system.svc",
        "eastgate-webhook.eastgate-system.svc.cluster.local",
        "eastgate-webhook.eastgate-system",
        "eastgate-webhook",
    )


def test_a_leaf_is_a_server_s_and_no_authority_s() -> None:
    leaf = make_leaf(make_authority(NOW), NAMES, NOW, LEAF_LIFETIME, 0.0)
    extensions = leaf.certificate.extensions

    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert extensions.get_extension_for_class(x509.KeyUsage).value == describe_usage("digital_signature")
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    assert leaf.span == Span(NOW - SKEW, NOW + LEAF_LIFETIME)
    assert leaf.due == NOW + 60 * DAY


def test_a_service_whose_name_is_too_long_for_a_common_name_has_a_leaf_without_one() -> None:
    names = name_service("a" * 40, "b" * 40, "cluster.local")
    authority = make_authority(time.time())

    leaf = make_leaf(authority, names, time.time(), LEAF_LIFETIME, 0.0)

    assert list(leaf.certificate.subject) == []
    assert leaf.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    verifier = PolicyBuilder().store(Store([authority.certificate])).build_server_verifier(x509.DNSName(names[0]))
    verifier.verify(leaf.certificate, [])


def test_no_private_key_stands_in_a_repr() -> None:
    authority = make_authority(NOW)
    leaf = make_leaf(authority, NAMES, NOW, LEAF_LIFETIME, 0.0)

    assert "key" not in repr(authority).lower()
    assert "key" not in repr(leaf).lower()


def test_an_operator_s_own_rsa_authority_signs_leaves() -> None:
    key = rsa.generate_private_key(65537, 2048)
    authority = read_authority(*sign_own(key))

    leaf = make_leaf(authority, NAMES, NOW, LEAF_LIFETIME, 0.0)

    leaf.certificate.verify_directly_issued_by(authority.certificate)


def sign_own(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    ca: bool = True,
    usage: tuple[str, ...] | None = None,
) -> tuple[bytes, bytes]:
    name = x509.Name([])
    builder = begin_certificate(name, name, Span(NOW - timedelta(days=1).total_seconds(), NOW + 1000 * DAY))
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if usage is not None:
        builder = builder.add_extension(describe_usage(*usage), critical=True)
    certificate = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(PEM), private


def test_what_is_no_authority_is_refused_with_the_reason_and_without_the_key() -> None:
    good, other = make_authority(NOW), make_authority(NOW)
    certificate, key = pems(good)
    encrypted = good.key.private_bytes(
        PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    curve = ec.generate_private_key(ec.SECP256R1())
    cases = [
        (b"", key, "no certificate in PEM form"),
        (b"nonsense", key, "no certificate in PEM form"),
        (certificate, b"", "no private key in PEM form"),
        (certificate, encrypted, "not encrypted"),
        (certificate, pems(other)[1], "is not the key of the certificate"),
        (*sign_own(curve, ca=False), "may not sign others"),
        (*sign_own(curve, usage=("digital_signature",)), "may not sign others"),
        (*sign_own(ed25519.Ed25519PrivateKey.generate()), "accepted: ECDSA, RSA"),
        (*sign_own(rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (*sign_own(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    ]
    for certificate_pem, key_pem, why in cases:
        with pytest.raises(AuthorityError, match=why) as caught:
            read_authority(certificate_pem, key_pem)
        assert "PRIVATE" not in str(caught.value)
        assert caught.value.__cause__ is None
