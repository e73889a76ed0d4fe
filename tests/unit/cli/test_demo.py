"""The demonstration: its parts, what it calls a difference, and the whole of it once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eastgate.demonstrations import signing
from eastgate.demonstrations.calls import Got
from eastgate.demonstrations.manifests import locate_manifests, paste_pem, published
from eastgate.demonstrations.scenes import Expected
from eastgate.demonstrations.stage import compare
from eastgate.demonstrations.upstreams import Seen
from eastgate.demonstrations.verification import verify_token

SEEN = Seen("GET", "/get", (("x-org", "internal"), ("x-org", "b"), ("accept", "*/*")))


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA", alg) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")]
    + [("EC", "ES256"), ("OKP", "EdDSA")],
)
def test_tokens_verify_with_the_engine(kind: str, algorithm: str) -> None:
    key = signing.generate_key(kind)
    token = signing.sign_token(key, {"sub": "é"}, algorithm=algorithm)
    keys = json.loads(signing.public_key_set(key))
    for one in keys["keys"]:
        one["alg"] = algorithm
    assert verify_token(token, json.dumps(keys), time.time()) is None
    assert verify_token(token, signing.public_pem(key), time.time()) is None
    other = signing.public_key_set(signing.generate_key(kind, key.kid))
    assert verify_token(token, other, time.time()) is not None


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves(curve: ec.EllipticCurve) -> None:
    pem = ec.generate_private_key(curve).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    key = signing.read_private_key(pem, "k")
    assert verify_token(signing.sign_token(key, {}), signing.public_key_set(key), time.time()) is None


def test_private_keys_round_trip_and_stay_out_of_reprs() -> None:
    key = signing.generate_key("EC")
    again = signing.read_private_key(signing.private_pem(key))
    assert again.kid == key.kid
    assert repr(key) == f"SigningKey(kid={key.kid!r})"


def test_keys_that_cannot_sign_tokens() -> None:
    wrong = dsa.generate_private_key(1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    odd = ec.generate_private_key(ec.SECP256K1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem in (wrong, odd.decode(), "nothing", signing.public_pem(signing.generate_key("EC"))):
        with pytest.raises(signing.SigningError):
            signing.read_private_key(pem)


def test_without_a_name_the_key_goes_by_its_thumbprint() -> None:
    private = rsa.generate_private_key(65537, 2048)
    n = signing.encode(private.public_key().public_numbers().n.to_bytes(256, "big"))
    canonical = f'{{"e":"AQAB","kty":"RSA","n":"{n}"}}'  # RFC 7638 section 3: members in order, no white space
    assert signing.name_key(private, None).kid == signing.encode(hashlib.sha256(canonical.encode()).digest())


def test_the_published_tokens_verify_with_the_published_keys() -> None:
    for token, keys in (
        ("claim-authorization-valid.jwt", "claim-authorization.jwks.json"),
        ("claim-authorization-invalid.jwt", "claim-authorization.jwks.json"),
        ("test.jwt", "jwt-authentication.jwks.json"),
    ):
        token_text, key_text = published(token), published(keys)
        assert token_text is not None
        assert key_text is not None
        assert verify_token(token_text, key_text, time.time()) is None


def test_pasting_a_key_keeps_the_indent() -> None:
    pem = signing.public_pem(signing.generate_key("EC"))
    text = (locate_manifests() / "claims" / "policy.yaml").read_text()
    pasted = paste_pem(text, "PUBLIC KEY", pem)
    assert pem.splitlines()[1] in pasted
    assert pasted.count("BEGIN PUBLIC KEY") == 1
    assert pasted.partition("-----BEGIN")[0] == text.partition("-----BEGIN")[0]
    assert pasted.partition("END PUBLIC KEY")[2] == text.partition("END PUBLIC KEY")[2]


@pytest.mark.parametrize(
    ("expected", "got", "seen", "differences"),
    [
        (Expected(200, path="/get", seen=(("x-org", "internal, b"), ("x-auth", None))), Got(200, "", ()), [SEEN], 0),
        (Expected(401, "no"), Got(401, "no", ()), [], 0),
        (Expected(401, "no"), Got(401, "no", ()), [SEEN], 1),
        (Expected(401, "no"), Got(403, "nope", ()), [], 2),
        (Expected(401, answer=(("a", "b"),)), Got(401, "", (("a", "c"),)), [], 1),
        (Expected(503, answer=(("retry-after", "*"),)), Got(503, "", (("retry-after", "7"),)), [], 0),
        (Expected(503, answer=(("retry-after", "*"),)), Got(503, "", ()), [], 1),
        (Expected(200), Got(200, "", ()), [], 1),
        (Expected(200), Got(200, "", ()), [SEEN, SEEN], 1),
        (Expected(200, path="/"), Got(200, "", ()), [SEEN], 1),
        (Expected(200, seen=(("x-org", None), ("accept", "x"))), Got(200, "", ()), [SEEN], 2),
        (Expected("OK", "pong"), Got("UNAVAILABLE", "gone", ()), [], 3),
    ],
)
def test_every_difference_is_said(expected: Expected, got: Got, seen: list[Seen], differences: int) -> None:
    assert len(list(compare(expected, got, seen))) == differences


def test_the_whole_demonstration() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eastgate", "demo", "--json"], capture_output=True, text=True, timeout=100, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row for row in rows if not row["passed"]] == []
    assert {row["seed"] for row in rows} == {"000", "001", "002", "003"}
    assert len(rows) >= 40
    assert (done.returncode, done.stderr) == (0, "")
    assert "eyJ" not in done.stdout
