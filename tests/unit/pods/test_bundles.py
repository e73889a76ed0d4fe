"""Bundles: packed, mounted, read back, and everything that can be wrong with one."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eastgate.dialects.corpus import parse_object, read_parsed
from eastgate.model.sets import PolicySet
from eastgate.pods import bundles
from eastgate.pods.authorities import read_authorities
from eastgate.pods.bundles import BundleError, BundleTooLarge, IncompleteBundle, pack, unpack
from eastgate.pods.names import BUNDLE, MANIFEST_KEY, PART_KEY, SECRETS_KEY
from tests.unit.sidecar.key_server import make_authority


def make(name: str, namespace: str = "httpbin", kind: str = "JWTPolicy", **content: object) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}


def make_noise(size: int, seed: int = 1) -> str:
    """Text that does not compress."""
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()


DOCUMENTS = [make("b", spec={"ü": [1, 2.5, None, True]}), make("a", spec={"x": "y\n\u2028"})]
SECRETS = [make("s", kind="Secret", data={"jwks": "e30="})]


def mount(objects: list[dict[str, Any]]) -> dict[str, bytes]:
    """The files that pods see of ConfigMaps and the Secret, as the volumes of an injected pod place them."""
    files: dict[str, bytes] = {}
    for one in objects:
        name = one["metadata"]["name"]
        if one["kind"] == "Secret":
            files[f"secrets/{SECRETS_KEY}"] = base64.b64decode(one["data"][SECRETS_KEY])
            continue
        folder = "" if name == "eastgate-bundle" else name.removeprefix("eastgate-bundle-") + "/"
        files |= {folder + key: text.encode() for key, text in one.get("data", {}).items()}
        files |= {folder + key: base64.b64decode(text) for key, text in one["binaryData"].items()}
    return files


def objects_of(bundle: bundles.Bundle) -> list[dict[str, Any]]:
    secret = bundle.secret()
    return [*bundle.config_maps(), *([] if secret is None else [secret])]


def test_there_and_back() -> None:
    bundle = pack("httpbin", DOCUMENTS, SECRETS)
    found = unpack(bundle.files(), "httpbin")
    assert (found.namespace, found.digest) == ("httpbin", bundle.digest)
    assert list(found.documents) == DOCUMENTS[::-1], "in the order of their names"
    assert list(found.secrets) == SECRETS
    assert mount(objects_of(bundle)) == bundle.files()


def test_an_empty_bundle_is_one() -> None:
    bundle = pack("httpbin", [])
    assert bundle.secret() is None
    assert len(bundle.config_maps()) == 1
    assert unpack(bundle.files()).documents == ()


def test_the_same_content_gives_the_same_bytes() -> None:
    one = pack("httpbin", DOCUMENTS, SECRETS)
    other = pack("httpbin", [dict(reversed(document.items())) for document in DOCUMENTS[::-1]], SECRETS)
    assert one == other
    assert json.dumps(objects_of(one)) == json.dumps(objects_of(other))
    assert one.parts[0][:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "no time, no name"


def test_the_digest_is_of_the_content() -> None:
    bundle = pack("httpbin", DOCUMENTS, SECRETS)
    content = gzip.decompress(bundle.parts[0]) + b"\0" + gzip.decompress(bundle.sealed or b"")
    assert bundle.digest == hashlib.sha256(content).hexdigest()
    assert bundle.digest != pack("httpbin", DOCUMENTS).digest
    assert bundle.digest != pack("httpbin", [*DOCUMENTS, *SECRETS]).digest
    assert content.splitlines()[0].startswith(b'{"apiVersion":"v1","kind":"JWTPolicy","metadata":{"name":"a"')


def test_the_objects_say_whose_they_are() -> None:
    bundle = pack("httpbin", DOCUMENTS, SECRETS)
    for one in objects_of(bundle):
        assert one["apiVersion"] == "v1"
        metadata = one["metadata"]
        assert metadata["namespace"] == "httpbin"
        assert metadata["labels"] == {"app.kubernetes.io/managed-by": "eastgate"}
        assert metadata["annotations"] == {BUNDLE: bundle.digest}
    (main,) = bundle.config_maps()
    manifest = json.loads(main["data"][MANIFEST_KEY])
    assert manifest == {
        "version": 1,
        "namespace": "httpbin",
        "digest": bundle.digest,
        "count": 3,
        "parts": [
            {
                "name": "eastgate-bundle",
                "bytes": len(bundle.parts[0]),
                "sha256": hashlib.sha256(bundle.parts[0]).hexdigest(),
            }
        ],
        "secrets": {
            "bytes": len(bundle.sealed or b""),
            "sha256": hashlib.sha256(bundle.sealed or b"").hexdigest(),
        },
    }
    assert "jwks" not in json.dumps(bundle.config_maps())


def test_a_large_bundle_is_cut_and_put_together() -> None:
    documents = [make(f"p{number}", text=make_noise(400_000, number)) for number in range(3)]
    bundle = pack("httpbin", documents)
    names = [one["metadata"]["name"] for one in bundle.config_maps()]
    assert names == ["eastgate-bundle-1", "eastgate-bundle"], "the manifest comes last"
    assert all(len(part) <= 768 * 1024 for part in bundle.parts)
    assert all(len(json.dumps(one)) < 1024 * 1024 + 2048 for one in bundle.config_maps())
    assert mount(bundle.config_maps()) == bundle.files()
    assert list(unpack(bundle.files()).documents) == documents


def test_what_does_not_fit_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "PART_BYTES", 1000)
    with pytest.raises(BundleTooLarge) as caught:
        pack("httpbin", [make("a", text=make_noise(10_000))])
    assert caught.value.limit == 8000
    assert caught.value.bytes > 8000
    assert str(caught.value.bytes) in str(caught.value)
    with pytest.raises(BundleTooLarge, match="Secrets"):
        pack("httpbin", [], [make("a", text=make_noise(1000))])
    assert len(pack("httpbin", [make("a", text=make_noise(5_000))]).parts) == 6


def test_what_a_reader_would_refuse_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_OBJECTS", 2)
    with pytest.raises(BundleTooLarge, match="objects"):
        pack("httpbin", DOCUMENTS, SECRETS)
    monkeypatch.setattr(bundles, "MAX_CONTENT_BYTES", 50)
    with pytest.raises(BundleTooLarge, match="uncompressed"):
        pack("httpbin", DOCUMENTS)
    with pytest.raises(ValueError, match="JSON"):
        pack("httpbin", [make("a", number=float("nan"))])


def edit(files: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    """The files with another manifest."""
    manifest = json.loads(files[MANIFEST_KEY])
    manifest |= changes
    return {**files, MANIFEST_KEY: json.dumps({k: v for k, v in manifest.items() if v is not ...}).encode()}


FILES = pack("httpbin", DOCUMENTS, SECRETS).files()


def reseal(content: bytes, **changes: object) -> dict[str, bytes]:
    """A bundle whose checksums are right and whose content is ``content``."""
    packed = gzip.compress(content, mtime=0)
    return remake(packed, hashlib.sha256(content + b"\0").hexdigest(), **changes)


def remake(packed: bytes, digest: str = "0" * 64, **changes: object) -> dict[str, bytes]:
    part = {"name": "eastgate-bundle", "bytes": len(packed), "sha256": hashlib.sha256(packed).hexdigest()}
    changed = {"parts": [part], "secrets": None, "digest": digest, "count": 1, **changes}
    return edit({MANIFEST_KEY: FILES[MANIFEST_KEY], PART_KEY: packed}, **changed)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no `manifest.json`"),
        ({**FILES, MANIFEST_KEY: b"{"}, "`manifest.json` is not JSON"),
        ({**FILES, MANIFEST_KEY: b"[" * 60_000}, "is not JSON"),
        ({**FILES, MANIFEST_KEY: b"[]"}, "is no JSON object"),
        ({**FILES, MANIFEST_KEY: b"\xff"}, "is not JSON"),
        ({**FILES, MANIFEST_KEY: b" " * 70_000}, "70000 bytes"),
        (edit(FILES, version=2), "format version 2 and this sidecar reads up to 1: restart the pod"),
        (edit(FILES, version=0), "`version` of the manifest: 0"),
        (edit(FILES, version=True), "`version` of the manifest is missing or no int"),
        (edit(FILES, version=...), "`version`"),
        (edit(FILES, namespace="other"), "namespace `other`, not of `httpbin`"),
        (edit(FILES, digest="0" * 64), "not what the manifest's `digest` says"),
        (edit(FILES, digest=7), "`digest` of the manifest is missing or no str"),
        (edit(FILES, count=4), "counts `4` objects, found 3"),
        (edit(FILES, parts=[]), "`parts` of the manifest: 0"),
        (edit(FILES, parts=[{}] * 9), "`parts` of the manifest: 9, from 1 to 8"),
        (edit(FILES, parts=[7]), "does not describe `policies.jsonl.gz`"),
        (edit(FILES, parts=[{"bytes": 1}]), "`sha256`"),
        (edit(FILES, secrets=None), "`digest`"),
        (remake(b"no gzip"), "are not gzip data"),
        (remake(gzip.compress(b"{}\n")[:-9]), "end too early"),
        (remake(gzip.compress(b"{}\n") + b"x"), "more data behind"),
        (remake(gzip.compress(b"{}\n") + gzip.compress(b"{}\n")), "more data behind"),
        (reseal(b"{}"), "the last line of the content is cut off"),
        (reseal(b"{\n"), "line 1 of the content is not JSON"),
        (reseal(b"[]\n"), "line 1 of the content is no JSON object"),
        (reseal(b'{}\n{"a":NaN}\n', count=2), "line 2 of the content is not JSON"),
        (reseal(b'{"a":' * 100_000 + b"\n"), "line 1 of the content is not JSON"),
    ],
)
def test_what_is_wrong_is_said(files: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        unpack(files, "httpbin")
    assert message in str(caught.value)
    assert not isinstance(caught.value, IncompleteBundle)


def test_parts_of_two_generations_are_not_put_together() -> None:
    old, new = pack("httpbin", DOCUMENTS, SECRETS), pack("httpbin", DOCUMENTS[:1], [*SECRETS, make("t")])
    torn = {**new.files(), "secrets/secrets.jsonl.gz": old.sealed or b""}
    with pytest.raises(IncompleteBundle, match=r"`secrets/secrets.jsonl.gz` has .* bytes, the manifest says"):
        unpack(torn)
    flipped = bytes((new.parts[0][0] ^ 1,)) + new.parts[0][1:]
    with pytest.raises(IncompleteBundle, match=r"`policies.jsonl.gz` has not the checksum"):
        unpack({**new.files(), PART_KEY: flipped})
    for name in (PART_KEY, "secrets/secrets.jsonl.gz"):
        with pytest.raises(IncompleteBundle, match=f"`{name}` is missing"):
            unpack({key: content for key, content in new.files().items() if key != name})


def test_secrets_are_not_shown() -> None:
    bundle = pack("httpbin", DOCUMENTS, SECRETS)
    assert "e30=" not in repr(unpack(bundle.files()))
    assert repr(bundle.sealed)[2:20] not in repr(bundle)


def test_a_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_CONTENT_BYTES", 1_000_000)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"0" * 1_000_000) for _ in range(200)) + packer.flush()
    with pytest.raises(BundleError, match="decompress to more than 1000000 bytes"):
        unpack(remake(bomb))


def test_exactly_as_much_as_is_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = pack("httpbin", DOCUMENTS)
    monkeypatch.setattr(bundles, "MAX_CONTENT_BYTES", len(gzip.decompress(bundle.parts[0])))
    assert len(unpack(bundle.files()).documents) == 2
    monkeypatch.setattr(bundles, "MAX_CONTENT_BYTES", len(gzip.decompress(bundle.parts[0])) - 1)
    with pytest.raises(BundleError, match="more than"):
        unpack(bundle.files())


def test_too_many_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_OBJECTS", 1)
    with pytest.raises(BundleError, match="more than 1 objects"):
        unpack(reseal(b"{}\n{}\n", count=2))


def test_messages_quote_no_content() -> None:
    for files in (reseal(b'{"key":"SECRET"\n'), reseal(b'"SECRET"\n')):
        with pytest.raises(BundleError) as caught:
            unpack(files)
        assert "SECRET" not in str(caught.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "data"]), JSON), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(OBJECTS, OBJECTS)
def test_whatever_is_packed_is_unpacked(documents: list[dict[str, Any]], secrets: list[dict[str, Any]]) -> None:
    bundle = pack("httpbin", documents, secrets)
    found = unpack(bundle.files(), "httpbin")
    key = lambda one: json.dumps(one, sort_keys=True)  # noqa: E731
    assert sorted(found.documents, key=key) == sorted(documents, key=key)
    assert sorted(found.secrets, key=key) == sorted(secrets, key=key)
    assert pack("httpbin", documents[::-1], secrets[::-1]) == bundle


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_bundle_is_never_taken_for_another(name: str, place: int, flip: int) -> None:
    content = bytearray(FILES[name])
    content[place % len(content)] ^= flip
    try:
        found = unpack({**FILES, name: bytes(content)}, "httpbin")
    except BundleError:
        return
    assert (list(found.documents), list(found.secrets)) == (DOCUMENTS[::-1], SECRETS)


# --- authorities ----------------------------------------------------------------------------------------------------

AUTHORITIES = read_authorities("".join(make_authority(name).pem for name in ("One", "Other")))


def test_authorities_travel_with_policies() -> None:
    bundle = pack("httpbin", DOCUMENTS, SECRETS, AUTHORITIES)
    found = unpack(bundle.files(), "httpbin")
    assert found.authorities == AUTHORITIES
    assert [one.pem for one in found.authorities] == [one.pem for one in AUTHORITIES]
    assert list(found.documents) == DOCUMENTS[::-1], "they are none of the documents"
    assert list(found.secrets) == SECRETS
    assert bundle.digest != pack("httpbin", DOCUMENTS, SECRETS).digest
    assert bundle.digest != pack("httpbin", DOCUMENTS, SECRETS, AUTHORITIES[:1]).digest
    assert bundle.parts[0] in bundle.files().values()
    assert b"BEGIN CERTIFICATE" not in gzip.decompress(bundle.sealed or b"")


def test_a_bundle_without_authorities_is_what_it_always_was() -> None:
    assert pack("httpbin", DOCUMENTS, SECRETS, ()) == pack("httpbin", DOCUMENTS, SECRETS)
    assert unpack(pack("httpbin", DOCUMENTS).files()).authorities == ()


def test_a_reader_that_does_not_know_authorities_passes_over_them() -> None:
    """As every version does with an object of a group that it never heard of: the sidecars of before."""
    lines = gzip.decompress(pack("httpbin", DOCUMENTS[:0], (), AUTHORITIES).parts[0]).splitlines()
    assert len(lines) == 1
    policy_set = read_parsed([parse_object("bundle", json.loads(lines[0]))])
    assert policy_set == PolicySet()


def test_authorities_count_towards_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "PART_BYTES", 50)
    with pytest.raises(BundleTooLarge, match="compressed policies"):
        pack("httpbin", [], (), AUTHORITIES)


@pytest.mark.parametrize(
    ("certificates", "why"),
    [
        (None, "is no list of texts"),
        ([1], "is no list of texts"),
        (["x"], "the list of trusted authorities holds no certificate"),
        ([AUTHORITIES[0].pem.replace("CERTIFICATE", "PRIVATE KEY")], "holds a private key"),
    ],
)
def test_authorities_that_cannot_be_read_are_not_left_out(certificates: object, why: str) -> None:
    line = {"apiVersion": "bundle.eastgate.dev/v1", "certificates": certificates, "kind": "TrustedAuthorities"}
    content = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(BundleError, match=why):
        unpack(reseal(content, count=1))
