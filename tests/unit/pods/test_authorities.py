"""Authorities out of PEM files: what is kept, what is refused, and what is never repeated."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from eastgate.pods import authorities as module
from eastgate.pods.authorities import (
    AuthoritiesError,
    TrustedFiles,
    describe_authorities,
    read_authorities,
    unite_authorities,
    write_pem,
)
from tests.unit.sidecar.key_server import make_authority

ONE, OTHER = (make_authority(name).pem for name in ("One", "Other"))
KEY = ec.generate_private_key(ec.SECP256R1())


def write_key(form: PrivateFormat, *, password: bytes | None = None) -> str:
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    return KEY.private_bytes(Encoding.PEM, form, hidden).decode()


KEYS = [
    write_key(PrivateFormat.PKCS8),
    write_key(PrivateFormat.TraditionalOpenSSL),
    write_key(PrivateFormat.PKCS8, password=b"x"),
    write_key(PrivateFormat.OpenSSH),
]


def test_a_file_gives_each_certificate_once_and_in_order() -> None:
    found = read_authorities(ONE + OTHER)
    assert found == read_authorities(OTHER + ONE + OTHER)
    assert [one.pem for one in found] == [one.pem for one in read_authorities(write_pem(found))]
    assert [one.fingerprint for one in found] == sorted(
        hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() for pem in (ONE, OTHER)
    )
    assert {one.pem for one in found} == {ONE, OTHER}
    assert describe_authorities(found) == {"count": 2, "subjects": ["CN=One", "CN=Other"]}


@pytest.mark.parametrize(
    "text",
    [
        f"# One\n{ONE}",
        f"subject=CN = One\nissuer=CN = One\n{ONE}",
        ONE.replace("\n", "\r\n"),
        f"\ufeff{ONE}",
        ONE.removesuffix("\n"),
        ONE + KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n" + ONE,
    ],
)
def test_only_certificates_are_kept(text: str) -> None:
    assert write_pem(read_authorities(text)) == ONE


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("template", ["{ca}{key}", "{key}{ca}", "{key}", "{ca}{cut}"])
def test_a_private_key_is_refused_and_not_repeated(key: str, template: str) -> None:
    cut = key[: len(key) // 2]
    with pytest.raises(AuthoritiesError, match="holds a private key") as caught:
        read_authorities(template.format(ca=ONE, key=key, cut=cut))
    assert not any(line in str(caught.value) for line in key.splitlines()[1:-1])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no certificate"),
        ("none", "holds no certificate"),
        (ssl.PEM_cert_to_DER_cert(ONE).decode("ascii", "replace"), "holds no certificate"),
        (ONE.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "holds no certificate"),
        (ONE[:-30], "ends in the middle of certificate 1"),
        (ONE[:200] + "\n" + OTHER, "ends in the middle of certificate 1"),
        (ONE + OTHER.replace("MII", "MIX", 1), "number 2, that cannot be read"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "number 1, that cannot be read"),
        ("-----BEGIN CERTIFICATE-----\n\u00fc\n-----END CERTIFICATE-----\n", "number 1, that cannot be read"),
        ("x" * (module.MAX_TEXT + 1), "more than 1048576 bytes"),
    ],
)
def test_what_is_wrong_is_said_with_what_is_accepted(text: str, why: str) -> None:
    with pytest.raises(AuthoritiesError, match=why) as caught:
        read_authorities(text)
    if "cannot be read" not in why and "middle" not in why:
        assert "accepted: certificates in PEM" in str(caught.value)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CERTIFICATES", 1)
    with pytest.raises(AuthoritiesError, match="holds 2 certificates with 0 KiB; accepted"):
        read_authorities(ONE + OTHER)
    assert unite_authorities(read_authorities(ONE), read_authorities(ONE + ONE))
    with pytest.raises(AuthoritiesError):
        unite_authorities(read_authorities(ONE), read_authorities(OTHER))
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(AuthoritiesError):
        read_authorities(ONE)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_the_bounds_hold_the_public_authorities() -> None:
    """Whoever lets trust-manager add them to his own need not count."""
    path = ssl.get_default_verify_paths().cafile
    if path is None:
        pytest.skip("this machine has no list of them")
    found = read_authorities(Path(path).read_text(encoding="ascii", errors="replace"))
    assert len(found) > 50
    assert len(write_pem(found)) < module.MAX_BYTES


def test_a_file_that_goes_bad_leaves_what_it_said() -> None:
    texts = {"a": ONE, "b": OTHER}

    def read(path: str) -> str:
        if path not in texts:
            raise FileNotFoundError(2, "No such file or directory")
        return texts[path]

    files = TrustedFiles(("a", "b"), read)
    assert files.authorities == ()
    assert files.refresh() == ()
    assert files.authorities == read_authorities(ONE + OTHER)
    del texts["a"]
    texts["b"] = "nothing"
    problems = (
        "`a` cannot be read: no such file or directory",
        f"`b` holds no certificate; accepted: {module.ACCEPTED}",
    )
    assert files.refresh() == files.problems == problems
    assert files.refresh() == (), "said once"
    assert files.authorities == read_authorities(ONE + OTHER)
    texts |= {"a": ONE, "b": ONE}
    assert files.refresh() == files.problems == ()
    assert files.authorities == read_authorities(ONE)
    texts["b"] = "nothing"
    assert files.refresh() == problems[1:], "and again when it was right in between"


def test_files_that_are_too_many_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CERTIFICATES", 1)
    texts = {"a": ONE, "b": ONE}
    files = TrustedFiles(("a", "b"), texts.__getitem__)
    assert files.refresh() == ()
    texts["b"] = OTHER
    (problem,) = files.refresh()
    assert problem.startswith("`a`, `b` together: holds 2 certificates")
    assert files.authorities == read_authorities(ONE)


def test_a_subject_is_fit_for_a_terminal() -> None:
    certificate = x509.load_pem_x509_certificate(make_authority("a\u202eb" + "c" * 40).pem.encode())
    (found,) = read_authorities(certificate.public_bytes(Encoding.PEM).decode())
    assert found.subject == "CN=a\\u202eb" + "c" * 40


@given(st.text(alphabet="-BEGINCRTFAVKY \n", max_size=200))
@settings(max_examples=200)
def test_no_text_breaks_it(text: str) -> None:
    try:
        found = read_authorities(text + ONE)
    except AuthoritiesError:
        return
    assert [one.subject for one in found] == ["CN=One"]
