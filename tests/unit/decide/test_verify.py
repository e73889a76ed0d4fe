"""One token against one provider: published vectors, every class of attack, and the edges of time and audience."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eastgate.decide import statuses
from eastgate.decide.statuses import Status
from eastgate.decide.token import MAX_TOKEN_BYTES, ParsedToken, check_claims, normalise_audience, parse_token
from eastgate.decide.verify import verify_signature
from eastgate.keys.algorithms import VERIFIERS
from eastgate.keys.base64url import decode_base64url, encode_base64url
from eastgate.keys.keyset import KeySet, parse_key_set
from tests.unit.keys.certificates import self_signed
from tests.unit.keys.issuer import SECRET, join, jwk, jwks, private_key, sign

NOW = 1_700_000_000.0
RSA_KEYS = parse_key_set(jwks(jwk("RSA")), remote=True)


def parsed(raw: bytes) -> ParsedToken:
    token = parse_token(raw)
    assert isinstance(token, ParsedToken), token
    return token


def outcome(raw: bytes, keys: KeySet = RSA_KEYS, **demands: Any) -> str:
    """``ok`` or the reason, for a provider that demands only what the test names."""
    token = parse_token(raw)
    if isinstance(token, Status):
        return token.reason
    wanted: dict[str, Any] = {"issuer": None, "audiences": frozenset(), "clock_skew": 60, "required": (), "now": NOW}
    failure = check_claims(token, **(wanted | demands)) or verify_signature(token, keys)
    return "ok" if failure is None else failure.reason


# --- published vectors --------------------------------------------------------------------------------------------

RFC_PAYLOAD = b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_7515 = {
    "A.1 HS256": (
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        {"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
    ),
    "A.2 RS256": (
        b"eyJhbGciOiJSUzI1NiJ9",
        b"cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU"
        b"Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"
        b"O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig"
        b"cN_IoypGlUPQGe77Rw",
        {
            "kty": "RSA",
            "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT"
            "-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UT"
            "o7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkML"
            "s91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            "e": "AQAB",
        },
    ),
    "A.3 ES256": (
        b"eyJhbGciOiJFUzI1NiJ9",
        b"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        {
            "kty": "EC",
            "crv": "P-256",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        },
    ),
}


@pytest.mark.parametrize("name", RFC_7515)
def test_rfc_7515_appendix_a(name: str) -> None:
    header, signature, key = RFC_7515[name]
    keys = parse_key_set(json.dumps({"keys": [key]}), remote=False)
    raw = b".".join((header, RFC_PAYLOAD, signature))
    assert outcome(raw, keys, now=1300819380.0) == "ok"
    assert outcome(raw, keys, now=1300819380.0 + 60) == "ok"
    assert outcome(raw, keys, now=1300819380.0 + 61) == "jwt_expired"
    assert parsed(raw).claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}


def test_rfc_7515_appendix_a_4_es512() -> None:
    """Its payload is no JSON, so only the key can be asked."""
    document = {
        "kty": "EC",
        "crv": "P-521",
        "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
        "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
    }
    signature = decode_base64url(
        b"AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2Y"
        b"BJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
    )
    key = parse_key_set(json.dumps(document), remote=True).keys[0]
    assert key.verify("ES512", b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA", signature)
    assert not key.verify("ES512", b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", signature)


def test_rfc_8037_appendix_a_4_ed25519() -> None:
    key = parse_key_set(
        '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}', remote=True
    ).keys[0]
    signature = decode_base64url(
        b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
    assert key.verify("EdDSA", message, signature)
    assert key.verify("Ed25519", message, signature)


def test_rfc_7515_appendix_a_5_unsecured() -> None:
    assert outcome(b"eyJhbGciOiJub25lIn0." + RFC_PAYLOAD + b".") == "jwt_bad_format"


def test_rfc_7515_appendix_a_6_json_serialisation_is_no_token() -> None:
    document = {"payload": "e30", "signatures": [{"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "AAAA"}]}
    assert outcome(json.dumps(document).encode()) == "jwt_bad_format"


# --- every algorithm ----------------------------------------------------------------------------------------------

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
ALGORITHMS += ["HS256", "HS384", "HS512"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_verifies_and_only_with_its_own_key(algorithm: str) -> None:
    keys = parse_key_set(jwks(jwk(algorithm)), remote=False)
    raw = sign({"sub": "s"}, algorithm)
    assert outcome(raw, keys) == "ok"
    head, signature = raw.rsplit(b".", 1)
    flipped = bytearray(decode_base64url(signature))
    for place in (0, len(flipped) // 2, len(flipped) - 1):
        flipped[place] ^= 1
        assert outcome(head + b"." + encode_base64url(bytes(flipped)), keys) == "jwt_verification_failed"
        flipped[place] ^= 1
    other = raw.split(b".")[0] + b"." + encode_base64url(b'{"sub":"t"}') + b"." + signature
    assert outcome(other, keys) == "jwt_verification_failed"
    for length in (0, 1, len(flipped) - 1):
        shorter = head + b"." + encode_base64url(bytes(flipped[:length]))
        assert outcome(shorter, keys) in ("jwt_verification_failed", "jwt_bad_format", "jwt_ed25519_wrong_length")
    longer = head + b"." + encode_base64url(bytes(flipped) + b"\0")
    assert outcome(longer, keys) in ("jwt_verification_failed", "jwt_ed25519_wrong_length")


def test_every_matching_key_is_tried() -> None:
    keys = parse_key_set(jwks(jwk("RSA", 1, kid="a"), jwk("ES256", kid="a"), jwk("RSA", 0, kid="a")), remote=True)
    assert outcome(sign({}, kid="a"), keys) == "ok"
    assert outcome(sign({}), keys) == "ok"


# --- attacks on the algorithm -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE"])
@pytest.mark.parametrize("signature", [b"", b"x", b"\0" * 256])
def test_none_is_no_algorithm(name: str, signature: bytes) -> None:
    raw = join(json.dumps({"alg": name}).encode(), b"{}", signature)
    assert outcome(raw) == ("jwt_header_unsupported_alg" if signature else "jwt_bad_format")


@pytest.mark.parametrize(
    "name", ["rs256", "RS256 ", "RS-256", "RSA1_5", "ES256K", "Ed448", "HS1", "dir", "", "RS256\0"]
)
def test_other_names_are_no_algorithms(name: str) -> None:
    assert outcome(join(json.dumps({"alg": name}).encode(), b"{}", b"x")) == "jwt_header_unsupported_alg"


def public_key_texts() -> dict[str, bytes]:
    """Ten ways to write the public key that an attacker may hope serves as the HMAC secret."""
    public = private_key("RSA").public_key()
    spki_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    spki_der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    document = jwk("RSA")
    return {
        "spki-pem": spki_pem,
        "spki-pem-stripped": spki_pem.strip(),
        "spki-pem-crlf": spki_pem.replace(b"\n", b"\r\n"),
        "spki-der": spki_der,
        "spki-base64": base64.b64encode(spki_der),
        "pkcs1-pem": public.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "pkcs1-der": public.public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "openssh": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "certificate": self_signed(private_key("RSA")).encode(),
        "jwk": json.dumps(document).encode(),
        "modulus": decode_base64url(document["n"].encode()),
        "nothing": b"",
    }


@pytest.mark.parametrize("spelling", list(public_key_texts()))
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_never_serves_as_a_secret(spelling: str, algorithm: str) -> None:
    header = encode_base64url(json.dumps({"alg": algorithm}).encode())
    signing_input = header + b"." + encode_base64url(b'{"sub":"admin"}')
    digest = getattr(hashlib, f"sha{algorithm[2:]}")
    signature = hmac.new(public_key_texts()[spelling], signing_input, digest).digest()
    raw = signing_input + b"." + encode_base64url(signature)
    pem = private_key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for text in (jwks(jwk("RSA")), jwks(jwk("RSA", alg="RS256")), pem, self_signed(private_key("RSA"))):
        assert outcome(raw, parse_key_set(text, remote=False)) in ("jwt_verification_failed", "jwks_kid_alg_mismatch")


def test_a_family_never_verifies_for_another() -> None:
    families = {
        "RSA": "RS256",
        "ES256": "ES256",
        "ES384": "ES384",
        "ES512": "ES512",
        "EdDSA": "EdDSA",
        "HS256": "HS256",
    }
    for signing in families.values():
        for holding in families:
            keys = parse_key_set(jwks(jwk(holding)), remote=False)
            expected = families[holding] == signing
            assert (outcome(sign({}, signing), keys) == "ok") is expected, (signing, holding)


def test_alg_relabelled_is_refused() -> None:
    _, body, signature = sign({}, "RS256").split(b".")
    for algorithm in ALGORITHMS:
        if algorithm != "RS256":
            header = encode_base64url(json.dumps({"alg": algorithm}).encode())
            assert outcome(b".".join((header, body, signature))) == "jwt_verification_failed"


def test_a_good_signature_under_another_name_is_refused() -> None:
    """Envoy 1.40 takes these for an EC key or a shared secret without ``alg``: there the key alone says what to do."""
    for signing in ("ES256", "HS256", "RS256", "EdDSA"):
        keys = parse_key_set(jwks(jwk(signing)), remote=False)
        for claimed in ALGORITHMS:
            raw = sign({}, signing, header=json.dumps({"alg": claimed}).encode())
            assert (outcome(raw, keys) == "ok") is (claimed == signing or {claimed, signing} == {"EdDSA", "Ed25519"})


def test_an_ed25519_key_in_the_set_spoils_no_other_token() -> None:
    """Envoy 1.40 refuses every token without ``kid`` whose signature has not Ed25519's length."""
    keys = parse_key_set(jwks(jwk("EdDSA"), jwk("RSA"), jwk("ES512"), jwk("HS256")), remote=False)
    assert [outcome(sign({}, name), keys) for name in ("RS256", "ES512", "HS256", "EdDSA")] == ["ok"] * 4


# --- attacks on the header ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "crit", ['["exp"]', '["b64"]', "[]", '"exp"', "null", "{}", "1", "true", '["x","x"]', '["alg"]']
)
def test_crit_is_refused(crit: str) -> None:
    assert outcome(sign({}, header=b'{"alg":"RS256","b64":true,"crit":%s}' % crit.encode())) == "jwt_header_crit"


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"RS256","alg":"RS256"}',
        b'{"alg":"none","alg":"RS256"}',
        b'{"alg":"RS256","\\u0061lg":"HS256"}',
        b'{"alg":"RS256","x":{"y":1,"y":2}}',
        b'{"alg":"RS256","crit":["exp"],"crit":[]}',
        b'\xef\xbb\xbf{"alg":"RS256"}',
        '{"alg":"RS256"}'.encode("utf-16"),
        '{"alg":"RS256"}'.encode("utf-16-be"),
        '{"alg":"RS256"}'.encode("utf-32"),
        b'{"alg":"RS256",}',
        b'{"alg":"RS256"}x',
        b'{"alg":"RS256","x":NaN}',
        b'{"alg":"RS256","x":' + b"[" * 5000,
        b'"RS256"',
        b"null",
    ],
)
def test_a_header_with_two_meanings_is_refused(header: bytes) -> None:
    assert outcome(sign({}, header=header)) == "jwt_header_bad_json"


def test_nothing_in_a_header_opens_a_socket_or_brings_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    certificate = base64.b64encode(self_signed(private_key("RSA", 1)).encode()).decode()
    for member in (
        {"jwk": jwk("RSA", 1)},
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"x5c": [certificate]},
        {"x5t": "AAAA"},
        {"kid": "http://127.0.0.1:1/jwks"},
        {"kid": "../../../../dev/null"},
        {"kid": "file:///etc/passwd"},
        {"kid": "' OR 1=1 --"},
        {"kid": "a\r\nX: 1\0"},
    ):
        assert outcome(sign({}, number=1, **member)) == "jwt_verification_failed"
        assert outcome(sign({}, **member)) == "ok"


def test_an_endless_kid_is_just_another_kid() -> None:
    keys = parse_key_set(jwks(jwk("RSA", kid="k")), remote=True)
    assert outcome(sign({}, kid="x" * 8000), keys) == "jwks_kid_alg_mismatch"


def test_kid_is_compared_by_code_point() -> None:
    keys = parse_key_set(jwks(jwk("RSA", kid="k\u00e9")), remote=True)
    assert outcome(sign({}, kid="k\u00e9"), keys) == "ok"
    for kid in ("ke\u0301", "K\u00e9", "k\u00e9 ", "k"):
        assert outcome(sign({}, kid=kid), keys) == "jwks_kid_alg_mismatch"


# --- attacks on the framing ---------------------------------------------------------------------------------------


def test_other_framings_are_refused() -> None:
    good = sign({})
    header, body, signature = good.split(b".")
    for raw in (
        b".".join((header, body, signature, b"")),
        b".".join((b"", header, body, signature)),
        b".".join((header, b"", body, signature)),
        b".".join((header, body, signature, b"x", b"y")),
        header + body + signature,
        b"..",
        b"...",
        b"",
    ):
        assert outcome(raw) == "jwt_bad_format"


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "junk", [b"=", b"==", b" ", b"\n", b"\r\n", b"\t", b"+", b"/", b"*", b"\0", b"\xff", b"\xc3\xa9", b"%3d"]
)
def test_junk_in_a_segment_is_refused(place: int, junk: bytes) -> None:
    reason = ("jwt_header_bad_base64", "jwt_payload_bad_base64", "jwt_signature_bad_base64")[place]
    for end in (True, False):
        segments = sign({}).split(b".")
        segments[place] = segments[place] + junk if end else segments[place][:3] + junk + segments[place][3:]
        assert outcome(b".".join(segments)) == reason


def test_another_spelling_of_the_signature_is_refused() -> None:
    """256 bytes end in a character with four unused bits: fifteen other characters decode to the same signature."""
    raw = sign({})
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = [last for last in alphabet if outcome(raw[:-1] + bytes([last])) == "ok"]
    assert accepted == [raw[-1]]


def test_every_single_wrong_byte_is_refused() -> None:
    raw = sign({"sub": "s"}, "EdDSA")
    keys = parse_key_set(jwks(jwk("EdDSA")), remote=True)
    for place in range(len(raw)):
        for wrong in (raw[place] ^ 1, raw[place] | 0x80):
            assert outcome(raw[:place] + bytes([wrong]) + raw[place + 1 :], keys) != "ok"


def test_the_largest_token_passes_and_one_byte_more_does_not() -> None:
    overhead = len(sign({"x": ""}))
    filler = "x" * ((MAX_TOKEN_BYTES - overhead) * 3 // 4 - 2)
    raw = sign({"x": filler})
    assert MAX_TOKEN_BYTES - 8 < len(raw) <= MAX_TOKEN_BYTES
    assert outcome(raw) == "ok"
    assert outcome(sign({"x": filler + "x" * 12})) == "jwt_too_large"


# --- attacks on the signature -------------------------------------------------------------------------------------

EC_SIZES = {"ES256": 32, "ES384": 48, "ES512": 66}


@pytest.mark.parametrize("algorithm", EC_SIZES)
def test_psychic_signatures_are_refused(algorithm: str) -> None:
    keys = parse_key_set(jwks(jwk(algorithm)), remote=True)
    order, size = private_key(algorithm).curve.group_order, EC_SIZES[algorithm]
    head = sign({}, algorithm).rsplit(b".", 1)[0]
    for r in (0, 1, order - 1, order, order + 1):
        for s in (0, 1, order - 1, order, order + 1):
            signature = r.to_bytes(size) + s.to_bytes(size)
            assert outcome(head + b"." + encode_base64url(signature), keys) == "jwt_verification_failed"


@pytest.mark.parametrize("algorithm", EC_SIZES)
def test_ecdsa_in_der_or_with_leading_zeros_is_refused(algorithm: str) -> None:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    keys = parse_key_set(jwks(jwk(algorithm)), remote=True)
    head, text = sign({}, algorithm).rsplit(b".", 1)
    signature = decode_base64url(text)
    half = len(signature) // 2
    r, s = signature[:half], signature[half:]
    der = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    for other in (der, b"\0" + r + b"\0" + s, signature + b"\0", signature[:-1], signature + signature):
        assert outcome(head + b"." + encode_base64url(other), keys) == "jwt_verification_failed"


@pytest.mark.parametrize("filler", [b"\0", b"\1", b"\xff"])
def test_constant_rsa_signatures_are_refused(filler: bytes) -> None:
    head = sign({}).rsplit(b".", 1)[0]
    for signature in (filler * 256, filler * 255, filler * 257, b"\0" * 255 + b"\1"):
        assert outcome(head + b"." + encode_base64url(signature)) == "jwt_verification_failed"


def test_ed25519_with_the_group_order_added_is_refused() -> None:
    keys = parse_key_set(jwks(jwk("EdDSA")), remote=True)
    head, text = sign({}, "EdDSA").rsplit(b".", 1)
    signature = decode_base64url(text)
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    assert outcome(head + b"." + encode_base64url(signature[:32] + scalar.to_bytes(32, "little")), keys) == (
        "jwt_verification_failed"
    )


def test_a_library_that_raises_is_a_failure_without_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Raises:
        def verify(self, *_args: object) -> bool:
            raise RuntimeError("the key is hunter2")

    monkeypatch.setitem(cast(dict[str, object], VERIFIERS), "RS256", Raises())
    assert outcome(sign({})) == "jwt_verification_failed"


# --- attacks on the claims ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ['"1"', '" 9_999_999_999 "', '"١٢٣"', "true", "false", "null", "[]", "{}", '""'])
def test_times_are_numbers(name: str, value: str) -> None:
    assert outcome(sign(f'{{"{name}":{value}}}'.encode())) == f"jwt_bad_{name}"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", ["-1", "-0.5", "-1e300", "18446744073709551615", "18446744073709551616", "1e300", "2e19"]
)
def test_times_are_in_range(name: str, value: str) -> None:
    assert outcome(sign(f'{{"{name}":{value}}}'.encode())) == f"jwt_{name}_out_of_range"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5000])
def test_times_that_are_no_json_numbers(value: str) -> None:
    assert outcome(sign(f'{{"exp":{value}}}'.encode())) == "jwt_payload_bad_json"
    assert outcome(sign(f'{{"custom":{value}}}'.encode())) == "jwt_payload_bad_json"


@pytest.mark.parametrize(
    "body",
    [
        b'{"sub":"a","sub":"b"}',
        b'{"a":{"b":1,"b":2}}',
        b"[" * 10_000,
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"",
    ],
)
def test_a_payload_with_two_meanings_is_refused(body: bytes) -> None:
    assert outcome(sign(body)) == ("jwt_payload_bad_json" if body else "jwt_bad_format")


def test_exp_is_exact_to_the_second_with_the_skew() -> None:
    raw = sign({"exp": 1000})
    for now, reason in ((0.0, "ok"), (1060.0, "ok"), (1060.9, "ok"), (1061.0, "jwt_expired")):
        assert outcome(raw, now=now) == reason
    assert outcome(raw, now=1001.0, clock_skew=0) == "jwt_expired"
    assert outcome(raw, now=1000.0, clock_skew=0) == "ok"


def test_nbf_is_exact_to_the_second_with_the_skew() -> None:
    raw = sign({"nbf": 1000})
    for now, reason in ((939.9, "jwt_not_yet_valid"), (940.0, "ok")):
        assert outcome(raw, now=now) == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0", "ok"),
        ("-0", "ok"),
        ("0.0", "ok"),
        ("-0.0", "ok"),
        ("0.5", "jwt_expired"),
        ("1", "jwt_expired"),
        ("9223372036854775808", "ok"),
    ],
)
def test_only_exactly_zero_means_never(value: str, reason: str) -> None:
    assert outcome(sign(f'{{"exp":{value}}}'.encode())) == reason


def test_no_exp_means_never_and_iat_in_the_future_is_nobodys_business() -> None:
    assert outcome(sign({"iat": NOW + 10_000})) == "ok"
    assert parsed(sign({})).expires is None


def test_issuer_is_exact() -> None:
    for iss in ("https://i/", "https://I", "https://i ", "https", "", "https://i\0"):
        assert outcome(sign({"iss": iss}), issuer="https://i") == "jwt_unknown_issuer"
    assert outcome(sign({"iss": "https://i"}), issuer="https://i") == "ok"
    assert outcome(sign({}), issuer="https://i") == "jwt_unknown_issuer"
    assert outcome(sign({"iss": "anyone"}), issuer=None) == "ok"
    assert outcome(sign({"iss": ""}), issuer="") == "ok"


@pytest.mark.parametrize(
    ("audience", "allowed"),
    [
        ("api", True),
        ("api/", True),
        ("http://api", True),
        ("https://api/", True),
        (["other", "https://api"], True),
        ("https://http://api", False),
        ("api//", False),
        ("API", False),
        ("HTTPS://api", False),
        ("api.example", False),
        (" api", False),
        ("", False),
        ([], False),
        (["other"], False),
    ],
)
def test_audience(audience: object, *, allowed: bool) -> None:
    expected = "ok" if allowed else "jwt_audience_not_allowed"
    assert outcome(sign({"aud": audience}), audiences=frozenset({"api"})) == expected


def test_a_token_with_an_audience_passes_where_none_is_demanded() -> None:
    assert outcome(sign({"aud": "anything"})) == "ok"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("", ""),
        ("/", ""),
        ("http://", ""),
        ("https://a/", "a"),
        ("http://https://a", "https://a"),
        ("a//", "a/"),
        ("a", "a"),
    ],
)
def test_audiences_are_normalised_once(given: str, normal: str) -> None:
    assert normalise_audience(given) == normal


def test_required_claims() -> None:
    assert outcome(sign({"a": 1}), required=("a",)) == "ok"
    assert outcome(sign({"a": False}), required=("a",)) == "ok"
    assert outcome(sign({"a": None}), required=("a",)) == "jwt_claim_missing"
    assert outcome(sign({"b": 1}), required=("a", "b")) == "jwt_claim_missing"


# --- order, and the value that is kept ----------------------------------------------------------------------------


def test_a_dead_token_with_a_garbage_signature_is_said_to_be_expired() -> None:
    assert outcome(sign({"exp": 1}, number=1)) == "jwt_expired"
    assert outcome(join(b'{"alg":"RS256","kid":"nobody"}', b'{"exp":1}', b"garbage")) == "jwt_expired"


def test_claims_are_checked_without_any_key() -> None:
    token = parsed(sign({"exp": 1}))
    demands: dict[str, Any] = {"issuer": None, "audiences": frozenset(), "clock_skew": 60, "required": ()}
    assert check_claims(token, now=NOW, **demands) is statuses.JWT_EXPIRED
    assert check_claims(token, now=1.0, **demands) is None


def test_a_token_says_what_a_cache_needs_to_check_again() -> None:
    raw = sign({"iss": "i", "aud": ["a", "b"], "exp": NOW + 5.5, "nbf": 7, "x": {"y": [1]}})
    token = parsed(raw)
    assert (token.issuer, token.audiences, token.expires, token.not_before) == ("i", ("a", "b"), int(NOW) + 5, 7)
    assert token.claims["x"] == {"y": [1]}
    assert token.payload == raw.split(b".")[1]


def test_only_a_mismatch_of_kid_or_alg_asks_for_a_fetch() -> None:
    keys = parse_key_set(jwks(jwk("RSA", kid="k")), remote=True)
    assert verify_signature(parsed(sign({}, kid="new")), keys) is statuses.JWKS_KID_ALG_MISMATCH
    assert verify_signature(parsed(sign({}, kid="k", number=1)), keys) is statuses.JWT_VERIFICATION_FAILED
    assert verify_signature(parsed(sign({}, number=1)), keys) is statuses.JWT_VERIFICATION_FAILED
    assert verify_signature(parsed(sign({}, "ES256", kid="k")), keys) is statuses.JWT_VERIFICATION_FAILED


def test_secret_keys_verify_only_hmac() -> None:
    keys = parse_key_set(jwks(jwk("HS256")), remote=False)
    assert outcome(sign({}, "HS256"), keys) == "ok"
    assert outcome(sign({}, "HS256", key=SECRET[:-1]), keys) == "jwt_verification_failed"
    assert outcome(sign({}, "RS256"), keys) == "jwt_verification_failed"


def test_the_example_of_envoy_gateway() -> None:
    """The key set and the token that its JWT task publishes: no ``exp``, no ``iss``, no ``kid``."""
    modulus = (
        "u1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0_IzW7yWR7QkrmBL7jTKEn5u-qKhbwKfBstIs-bMY2Zkp18gnTxK"
        "LxoS2tFczGkPLPgizskuemMghRniWaoLcyehkd3qqGElvW_VDL5AaWTg0nLVkjRo9z-40RQzuVaE8AkAFmxZzow3x-VJYKdjykkJ0iT9wCS0DRTX"
        "u269V264Vf_3jvredZiKRkgwlL9xNAwxXFg0x_XFw005UWVRIkdgcKWTjpBP2dPwVZ4WWC-9aGVd-Gyn1o0CLelf4rEjGoXbAAEgAqeGUxrcIlbj"
        "Xfbcmw"
    )
    raw = (
        b"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiYWRtaW4iOnRydWUsImlhdCI6"
        b"MTUxNjIzOTAyMn0.NHVaYe26MbtOYhSKkoKYdFVomg4i8ZJd8_-RU8VNbftc4TSMb4bXP3l3YlNWACwyXPGffz5aXHc6lty1Y2t4SWRqGteragsV"
        b"dZufDn5BlnJl9pdR_kdVFUsra2rWKEofkZeIC4yWytE58sMIihvo9H1ScmmVwBcQP6XETqYd0aSHp1gOa9RdUPDvoXQ5oqygTqVtxaDr6wUFKrKI"
        b"tgBMzWIdNZ6y7O9E0DhEPTbE9rfBo6KTFsHAZnMg4k68CDp2woYIaXbmYTWcvbzIuHO7_37GT79XdIwkm95QJ7hYC9RiwrV7mesbY4PAahERJawn"
        b"tho0my942XheVLmGwLMBkQ"
    )
    keys = parse_key_set(jwks({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "use": "sig"}), remote=True)
    assert outcome(raw, keys) == "ok"
    assert parsed(raw).claims["name"] == "John Doe"
