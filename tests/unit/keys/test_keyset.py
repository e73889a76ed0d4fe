"""Key sets in every form, the problems in Envoy's words, and which keys are candidates."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import RSAAlgorithm

from eastgate.keys.base64url import encode_base64url
from eastgate.keys.keyset import MAX_CANDIDATES, MAX_KEYS, KeySetError, parse_key_set
from eastgate.keys.problems import KeyProblem
from tests.unit.keys.certificates import self_signed
from tests.unit.keys.issuer import SECRET, jwk, jwks, private_key

RSA_ALL = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def refusal(text: str, *, remote: bool = False) -> KeySetError:
    with pytest.raises(KeySetError) as caught:
        parse_key_set(text, remote=remote)
    return caught.value


# --- what a set is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wire_text"),
    [
        ("", "Jwks is an invalid JSON"),
        ("{", "Jwks is an invalid JSON"),
        ("[]", "Jwks is an invalid JSON"),
        ("null", "Jwks is an invalid JSON"),
        ('{"keys":[],}', "Jwks is an invalid JSON"),
        ('{"keys":[],"keys":[]}', "Jwks is an invalid JSON"),
        ("{}", "Jwks does not have [keys] field"),
        ('{"other":1}', "Jwks does not have [keys] field"),
        ('{"a":"not a certificate"}', "Jwks does not have [keys] field"),
        ('{"":"-----BEGIN CERTIFICATE-----\\n"}', "Jwks does not have [keys] field"),
        ('{"keys":{}}', "[keys] in Jwks is not an array"),
        ('{"keys":null}', "[keys] in Jwks is not an array"),
        ('{"keys":[]}', "Jwks doesn't have any valid public key"),
        ('{"keys":[1,"x",null]}', "Jwks doesn't have any valid public key"),
    ],
)
def test_a_set_that_is_none(text: str, wire_text: str) -> None:
    error = refusal(text)
    assert error.text == wire_text
    assert str(error) == wire_text


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


@pytest.mark.parametrize(
    ("key", "wire_text"),
    [
        ({}, "[kty] is missing in [keys]"),
        ({"kty": 1}, "[kty] is bad in [keys]"),
        ({"kty": None}, "[kty] is bad in [keys]"),
        ({"kty": "rsa"}, "[kty] is not supported in [keys]"),
        (jwk("RSA", alg="ES256"), "[alg] is not started with [RS] or [PS] for an RSA key"),
        (jwk("RSA", alg="HS256"), "[alg] is not started with [RS] or [PS] for an RSA key"),
        (jwk("RSA", alg="RSA-OAEP"), "[alg] is not started with [RS] or [PS] for an RSA key"),
        (without(jwk("RSA"), "n"), "[n] field is missing for a RSA key"),
        (jwk("RSA", n=1), "[n] field is not string for a RSA key"),
        (without(jwk("RSA"), "e"), "[e] field is missing for a RSA key"),
        (jwk("RSA", e=65537), "[e] field is not string for a RSA key"),
        (jwk("RSA", n="a*b"), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("RSA", e="AQ"), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("RSA", e="EQ"), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("RSA", bits=1024), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("RSA", n="A" * 4000), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("RSA", n="_" * 4000), "Jwks RSA [n] or [e] field is missing or has a parse error"),
        (jwk("ES256", alg="RS256"), "[alg] is not started with [ES] for an EC key"),
        (jwk("ES256", crv=1), "[crv] field is not string for an EC key"),
        (jwk("ES256", crv="secp256k1"), "[crv] or [alg] field is not supported for an EC key"),
        (jwk("ES256", crv=None, alg="ES256K"), "[crv] or [alg] field is not supported for an EC key"),
        (jwk("ES256", alg="ES384"), "[crv] field specified is not compatible with [alg] for an EC key"),
        (without(jwk("ES256"), "x"), "[x] field is missing for an EC key"),
        (jwk("ES256", x=1), "[x] field is not string for an EC key"),
        (without(jwk("ES256"), "y"), "[y] field is missing for an EC key"),
        (jwk("ES256", y=1), "[y] field is not string for an EC key"),
        (jwk("ES256", x="a*b"), "Jwks EC [x] or [y] field is an invalid Base64."),
        (jwk("ES256", x="AAAA"), "Jwks EC [x] and [y] fields have a parse error."),
        (jwk("ES256", x="", y=""), "Jwks EC [x] and [y] fields have a parse error."),
        (jwk("HS256", alg="RS256"), "[alg] does not start with [HS] for an HMAC key"),
        (jwk("HS256", k=None), "[k] field is missing for an HMAC key"),
        (jwk("HS256", k=1), "[k] field is not string for an HMAC key"),
        (jwk("HS256", k="a*b"), "Jwks Oct key is an invalid Base64"),
        (jwk("HS256", k=""), "Jwks Oct key is an invalid Base64"),
        (jwk("HS256", k="c2hvcnQ"), "Jwks Oct key is an invalid Base64"),
        (jwk("EdDSA", alg="ES256"), "[alg] is not [EdDSA] for an OKP key"),
        (without(jwk("EdDSA"), "crv"), "[crv] field is missing for an OKP key"),
        (jwk("EdDSA", crv=1), "[crv] field is not string for an OKP key"),
        (jwk("EdDSA", crv="X25519"), "[crv] field is not supported for an OKP key"),
        (jwk("EdDSA", crv="Ed448"), "[crv] field is not supported for an OKP key"),
        (without(jwk("EdDSA"), "x"), "[x] field is missing for an OKP key"),
        (jwk("EdDSA", x=1), "[x] field is not string for an OKP key"),
        (jwk("EdDSA", x="a*b"), "Jwks OKP [x] field is an invalid Base64."),
        (jwk("EdDSA", x="AAAA"), "Jwks OKP [x] field is wrong length."),
        (jwk("RSA", use="enc"), "Jwks doesn't have any valid public key"),
        (jwk("RSA", use=["sig"]), "Jwks doesn't have any valid public key"),
        (jwk("RSA", key_ops=["encrypt"]), "Jwks doesn't have any valid public key"),
        (jwk("RSA", key_ops="verify"), "Jwks doesn't have any valid public key"),
        (jwk("RSA", kid=7), "Jwks doesn't have any valid public key"),
        (jwk("RSA", alg=["RS256"]), "Jwks doesn't have any valid public key"),
    ],
)
def test_the_one_key_of_a_set_is_unusable(key: dict[str, Any], wire_text: str) -> None:
    assert refusal(jwks(key)).text == wire_text
    if "kty" in key:
        assert refusal(json.dumps(key)).text == wire_text


def test_the_first_problem_names_a_set_without_a_usable_key() -> None:
    assert refusal(jwks({"kty": "X"}, {"kty": "RSA"})).text == "[kty] is not supported in [keys]"
    assert refusal(jwks({"kty": "RSA"}, {"kty": "X"})).text == "[n] field is missing for a RSA key"


def test_one_usable_key_is_enough_and_the_rest_is_noted() -> None:
    keys = parse_key_set(
        jwks({"kty": "X"}, jwk("RSA", use="enc"), jwk("RSA", kid="good"), jwk("RSA", bits=1024)), remote=True
    )
    assert [key.kid for key in keys.keys] == ["good"]
    assert keys.skipped == (
        "keys[0]: [kty] is not supported in [keys]",
        "keys[1]: [use] is not `sig`",
        "keys[3]: an RSA key of 1024 bits; from 2048 to 8192 are accepted",
    )


def test_unknown_members_are_ignored() -> None:
    key = jwk("RSA", x5c=["..."], x5t="..", issuer="https://i", nested={"a": [1]})
    assert parse_key_set(json.dumps({"keys": [key], "more": 1}), remote=True).keys[0].family == "RSA"


@pytest.mark.parametrize("algorithm", ["RSA", "ES256", "ES384", "ES512", "EdDSA"])
def test_a_private_key_is_never_used_from_a_remote_set(algorithm: str) -> None:
    key = jwk(algorithm, private=True)
    assert "d" in key
    error = refusal(jwks(key), remote=True)
    assert error.detail == "keys[0]: a private key in a remote key set"


@pytest.mark.parametrize("algorithm", ["RSA", "ES256", "ES384", "ES512", "EdDSA"])
def test_a_private_key_is_not_used_from_a_policy_either(algorithm: str) -> None:
    """As in PEM: whoever can read the policy could sign with it."""
    key = jwk(algorithm, private=True)
    assert refusal(jwks(key)).detail == "keys[0]: a private key where a public key belongs"
    assert refusal(json.dumps(key)).detail == "key: a private key where a public key belongs"
    mixed = parse_key_set(jwks(key, jwk("RSA", 1)), remote=False)
    assert len(mixed.keys) == 1
    assert mixed.skipped == ("keys[0]: a private key where a public key belongs",)


def test_a_secret_is_never_used_from_a_remote_set() -> None:
    assert refusal(jwks(jwk("HS256")), remote=True).detail == "keys[0]: a shared secret in a remote key set"
    assert parse_key_set(jwks(jwk("HS256")), remote=False).keys[0].family == "oct"


@pytest.mark.parametrize(
    ("length", "algorithms"),
    [(32, {"HS256"}), (47, {"HS256"}), (48, {"HS256", "HS384"}), (64, {"HS256", "HS384", "HS512"})],
)
def test_a_secret_serves_the_hashes_it_is_long_enough_for(length: int, algorithms: set[str]) -> None:
    key = parse_key_set(jwks({"kty": "oct", "k": encode_base64url(b"x" * length).decode()}), remote=False).keys[0]
    assert key.algorithms == algorithms


def test_a_secret_too_short_for_its_alg_is_refused() -> None:
    error = refusal(jwks({"kty": "oct", "alg": "HS512", "k": encode_base64url(b"x" * 32).decode()}))
    assert error.detail == "keys[0]: a secret of 32 bytes; at least 64 are needed"


def test_a_public_key_is_no_secret() -> None:
    pem = private_key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "asymmetric" in refusal(jwks({"kty": "oct", "k": encode_base64url(pem).decode()})).detail


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (jwk("RSA"), RSA_ALL),
        (jwk("RSA", alg="RS256"), {"RS256"}),
        (jwk("RSA", alg="PS384"), {"PS384"}),
        (jwk("ES256"), {"ES256"}),
        (jwk("ES256", crv=None), {"ES256"}),
        (jwk("ES384", crv=None, alg="ES384"), {"ES384"}),
        (jwk("ES512", alg="ES512"), {"ES512"}),
        (jwk("EdDSA"), {"EdDSA", "Ed25519"}),
        (jwk("EdDSA", alg="EdDSA"), {"EdDSA", "Ed25519"}),
        (jwk("EdDSA", alg="Ed25519"), {"EdDSA", "Ed25519"}),
        (jwk("HS256", alg="HS384"), {"HS384"}),
    ],
)
def test_the_key_decides_its_algorithms(key: dict[str, Any], algorithms: set[str]) -> None:
    assert parse_key_set(jwks(key), remote=False).keys[0].algorithms == algorithms


def test_padded_and_short_coordinates_are_read_as_envoy_reads_them() -> None:
    key = jwk("ES256")
    longer = encode_base64url(b"\0" + bytes.fromhex(f"{private_key('ES256').public_key().public_numbers().x:064x}"))
    same = parse_key_set(jwks({**key, "x": longer.decode() + "=", "y": key["y"] + "="}), remote=True)
    assert same == parse_key_set(jwks(key), remote=True)


def test_an_exponent_of_three_is_accepted() -> None:
    public = rsa.generate_private_key(3, 2048).public_key()
    assert parse_key_set(jwks(RSAAlgorithm.to_jwk(public, as_dict=True)), remote=True).keys


# --- bounds -------------------------------------------------------------------------------------------------------


def test_a_set_is_at_most_a_mebibyte() -> None:
    error = refusal('{"keys":[],"x":"' + "x" * (1 << 20) + '"}')
    assert (error.problem, error.detail) == (KeyProblem.PARSE_ERROR, "larger than 1048576 bytes")
    assert refusal('"' + "é" * (1 << 19) + '"').detail == "larger than 1048576 bytes"


def test_a_hundred_keys_are_read() -> None:
    keys = parse_key_set(jwks(*(jwk("EdDSA", kid=str(number)) for number in range(MAX_KEYS + 5))), remote=True)
    assert len(keys.keys) == MAX_KEYS
    assert keys.skipped == ("keys[100] and what follows: only 100 keys of a set are read",)


def test_a_deep_set_is_refused() -> None:
    assert refusal('{"keys":' + "[" * 100_000).text == "Jwks is an invalid JSON"


# --- candidates ---------------------------------------------------------------------------------------------------


def test_a_token_without_kid_tries_every_key_of_the_family() -> None:
    keys = parse_key_set(
        jwks(jwk("RSA", kid="a"), jwk("ES256", kid="b"), jwk("RSA", 1, kid="c"), jwk("RSA", 1)), remote=True
    )
    for kid in ("", None):
        assert [key.kid for key in keys.candidates("RS256", kid)] == ["a", "c", ""]


def test_kid_skips_only_keys_with_another_kid() -> None:
    keys = parse_key_set(
        jwks(jwk("RSA", kid="a"), jwk("RSA", 1, kid="a"), jwk("RSA", 1, kid="b"), jwk("RSA")), remote=True
    )
    assert [key.kid for key in keys.candidates("RS256", "a")] == ["a", "a", ""]


def test_alg_of_the_key_pins() -> None:
    keys = parse_key_set(jwks(jwk("RSA", alg="RS256")), remote=True)
    assert keys.candidates("RS256", None)
    assert not keys.candidates("RS384", None)
    assert not keys.candidates("PS256", None)


def test_the_family_limits_even_without_alg() -> None:
    keys = parse_key_set(jwks(jwk("RSA"), jwk("ES256"), jwk("EdDSA")), remote=True)
    for algorithm in ("HS256", "HS512", "ES384", "none", ""):
        assert keys.candidates(algorithm, None) == ()
    assert keys.has_key_meant_for("HS256", None)


def test_candidates_are_bounded() -> None:
    keys = parse_key_set(jwks(*(jwk("EdDSA") for _ in range(40))), remote=True)
    assert len(keys.candidates("EdDSA", None)) == MAX_CANDIDATES


def test_equal_keys_make_equal_sets() -> None:
    one, other = (parse_key_set(jwks(jwk("RSA", kid=kid)), remote=True) for kid in ("a", "b"))
    again = parse_key_set(json.dumps({"keys": [{"kty": "X"}, jwk("RSA", kid="a", x5t="t")]}), remote=True)
    assert one == again
    assert one != other


def test_repr_shows_no_key() -> None:
    text = repr(parse_key_set(jwks(jwk("HS256", kid="k"), jwk("RSA")), remote=False))
    assert "shared secret" not in text
    assert jwk("HS256")["k"] not in text


def test_errors_show_no_key() -> None:
    marker = encode_base64url(SECRET).decode()
    for key in (
        {"kty": "oct", "k": marker, "alg": "RS256"},
        {"kty": "RSA", "n": marker, "e": marker, "d": marker},
        {"kty": "EC", "x": marker, "y": marker, "crv": marker},
        {"kty": "OKP", "crv": "Ed25519", "x": marker},
        {"kty": marker},
        {"kty": "RSA", "kid": [marker]},
    ):
        error = refusal(jwks(key))
        assert marker not in str(error) + error.detail + repr(error)
        assert error.__cause__ is None


# --- other forms --------------------------------------------------------------------------------------------------


def pem(key: Any, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, form).decode())


def test_a_single_jwk_is_a_set_of_one() -> None:
    assert parse_key_set(json.dumps(jwk("RSA", kid="a")), remote=True).keys[0].kid == "a"


@pytest.mark.parametrize(
    ("algorithm", "algorithms"),
    [
        ("RSA", RSA_ALL),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA", "Ed25519"}),
    ],
)
def test_pem_public_keys(algorithm: str, algorithms: set[str]) -> None:
    keys = parse_key_set(pem(private_key(algorithm)), remote=False)
    assert keys.keys[0].algorithms == algorithms
    assert keys.keys[0].fingerprint == parse_key_set(jwks(jwk(algorithm)), remote=False).keys[0].fingerprint


def test_pem_rsa_public_key() -> None:
    text = pem(private_key("RSA"), PublicFormat.PKCS1)
    assert text.startswith("-----BEGIN RSA PUBLIC KEY-----")
    assert parse_key_set(text, remote=False) == parse_key_set(pem(private_key("RSA")), remote=False)


def test_pem_as_yaml_leaves_it() -> None:
    text = "# the key of dev\n" + re.sub("^", "    ", pem(private_key("RSA")), flags=re.MULTILINE) + "\r\n"
    assert parse_key_set(text, remote=False).keys
    assert parse_key_set(pem(private_key("RSA")).replace("\n", "\r\n"), remote=False).keys


def test_several_pem_blocks() -> None:
    text = pem(private_key("RSA")) + "between\n" + pem(private_key("ES256")) + self_signed(private_key("RSA", 1))
    assert [key.family for key in parse_key_set(text, remote=False).keys] == ["RSA", "EC", "RSA"]


@pytest.mark.parametrize("algorithm", ["RSA", "ES256", "EdDSA"])
def test_pem_certificates(algorithm: str) -> None:
    keys = parse_key_set(self_signed(private_key(algorithm)), remote=False)
    assert keys == parse_key_set(pem(private_key(algorithm)), remote=False)


def test_googles_map_of_certificates() -> None:
    text = json.dumps({"k1": self_signed(private_key("RSA")), "k2": self_signed(private_key("RSA", 1))})
    assert [key.kid for key in parse_key_set(text, remote=True).keys] == ["k1", "k2"]


@pytest.mark.parametrize(
    ("text", "wire_text"),
    [
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "PEM pubkey parse fails"),
        ("-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "PEM pubkey parse fails"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "PEM pubkey parse fails"),
        ("-----BEGIN PUBLIC KEY\nAAAA\n", "PEM pubkey parse fails"),
        ("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "PEM pubkey parse fails"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "X509 parse pubkey fails"),
        ("-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "PEM Key type is not supported"),
        ('{"a":"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"}', "X509 parse pubkey fails"),
    ],
)
def test_broken_pem(text: str, wire_text: str) -> None:
    assert refusal(text).text == wire_text


def test_a_private_pem_is_refused() -> None:
    text = private_key("RSA").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    error = refusal(text)
    assert error.text == "PEM Key type is not supported"
    assert error.detail == "block 0: a private key where a public key belongs"
    assert text.splitlines()[1] not in error.detail


def test_pem_of_an_unsupported_type() -> None:
    assert refusal(pem(ed448.Ed448PrivateKey.generate())).text == "PEM Key type is not supported"
    assert (
        refusal(pem(ec.generate_private_key(ec.SECP256K1()))).text
        == "[crv] or [alg] field is not supported for an EC key"
    )
    assert refusal(pem(private_key("RSA", 0, 1024))).detail.startswith("block 0: an RSA key of 1024 bits")


def test_endless_begin_lines_are_cheap() -> None:
    refusal("-----BEGIN PUBLIC KEY-----" * 30_000)
    refusal("-----BEGIN A-----\n-----END A-----\n" * 20_000)
