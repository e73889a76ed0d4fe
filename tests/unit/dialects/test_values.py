"""What messages repeat of what a person wrote, and what they do not: key material, control characters, floods."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eastgate.dialects.documents import read_documents
from eastgate.dialects.values import MAX_UNKNOWN, Fields, Reporter, list_names, show
from eastgate.model.diagnostics import Diagnostic
from tests.unit.dialects.reading import errors, policy_text, read
from tests.unit.keys.issuer import jwk, jwks, sign


def private_pem() -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("httpbin", "`httpbin`"),
        ("a\nb\tc\r", "`a\\nb\\tc\\r`"),
        ("\x1b[31mred", "`\\u001b[31mred`"),
        ("no\u00a0break", "`no\\u00a0break`"),
        ("x" * 100, "`" + "x" * 79 + "…`"),
        ({"a": 1}, '`{"a": 1}`'),
        ("a-very-long-name-of-a-service-that-somebody-chose-in-2026", None),
        ("/v1/some/long/path/that/is/no/secret/at/all/of/Anybody9", None),
    ],
)
def test_what_was_written_is_repeated_on_one_line(written: object, shown: str | None) -> None:
    assert show(written) == (f"`{written}`" if shown is None else shown)


def test_a_private_key_is_not_repeated() -> None:
    pem = private_pem()
    for written in (pem, {"inline": pem}, f"text before {pem}"):
        assert pem.splitlines()[1][:8] not in show(written)
        assert "-----BEGIN PRIVATE KEY-----…" in show(written)


def test_a_token_is_not_repeated() -> None:
    token = sign({"sub": "admin"}).decode()
    for written in (token, f"Bearer {token}", f"https://host/?access_token={token}", "eyJhbGciOi.e30.c2ln"):
        assert "eyJ…" in show(written, 1000)
        assert not any(part in show(written, 1000) for part in token.split("."))


def test_secret_members_of_a_jwk_are_not_repeated() -> None:
    for document in (jwk("HS256"), jwk("ES256", private=True)):
        secret = document.get("k") or document["d"]
        for written in (document, json.dumps(document), {"inline": json.dumps(document)}, {"keys": [document]}):
            assert secret[:16] not in show(written, 4000)


def test_unknown_fields_are_shortened_and_counted() -> None:
    pem = private_pem()
    sink: list[Diagnostic] = []
    text = json.dumps({pem: 1, **{f"k{number}": 1 for number in range(MAX_UNKNOWN + 5)}})
    (document,) = read_documents("a.yaml", text, sink)
    Fields(document, Reporter(sink, "X a/b")).close()
    assert len(sink) == MAX_UNKNOWN + 1
    assert sink[0].field == "-----BEGIN PRIVATE KEY-----…"
    assert sink[-1].message == "6 more unknown fields; accepted: nothing"
    assert not any(pem.splitlines()[1] in str(one) for one in sink)


def test_nothing_a_file_says_forges_a_line() -> None:
    found = read(policy_text().replace("name: p,", '"name": "p\\nb.yaml:1: error: \\e[2Jx",'))
    assert found.diagnostics
    for one in found.diagnostics:
        assert str(one).isprintable()


def test_many_missing_names_are_found_quickly() -> None:
    """Each suggestion compares with every name: two thousand of each took minutes."""
    policies = (
        policy_text(provider=f"local: {{secretRef: {{objectRef: {{name: number-{n}-secret}}, key: k}}}}").replace(
            "{name: p,", f"{{name: p{n},"
        )
        for n in range(1000)
    )
    secrets = (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: nomber-{n}-secret, namespace: shop}}" for n in range(2000)
    )
    begin = time.process_time()
    found = errors(read("\n---\n".join(policies), "\n---\n".join(secrets)))
    assert time.process_time() - begin < 10
    assert len(found) == 1000
    assert "did you mean" in found[0]
    assert "did you mean" not in found[-1]


def test_long_lists_of_names_are_cut() -> None:
    assert list_names([]) == "none"
    assert list_names(["a", "b"]) == "`a`, `b`"
    assert list_names(map(str, range(15))).endswith("`11` and 3 more")


def test_a_key_in_the_wrong_field_is_not_in_any_message() -> None:
    pem, secret = private_pem(), jwk("HS256")
    provider = f"local: {json.dumps(pem)}\nissuer: [{json.dumps(pem)}]\naudiences: {json.dumps(jwks(secret))}"
    found = errors(read(policy_text(provider=provider)))
    assert len(found) >= 3
    assert not any(part in one for one in found for part in (pem.splitlines()[1][:8], secret["k"][:8]))
