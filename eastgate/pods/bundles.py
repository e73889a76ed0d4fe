"""The policy bundle of one namespace: objects in, a few ConfigMaps and a Secret out, and back.

Content is JSON lines (keys sorted, no blanks, UTF-8), in the order of the objects' identity: the same objects give the
same bytes, whoever packs them and whenever. They are compressed together and cut into parts. The manifest stands beside
the first part in one ConfigMap, so that the two always change together, and names every other part by its checksum, so
that parts of two generations are never put together. Objects that come from Secrets travel in a Secret. Authorities
that the platform trusts travel as one more object, of a group that nobody can create anything of (no policy can name
it) and that a sidecar of an older version leaves alone.

Knows: the format. Must not know: what any object means, who writes a bundle, where it is mounted. Rules: ConfigMap and
Secret of core/v1 (at most 1 MiB of data in each).
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from eastgate.pods.authorities import Authorities, AuthoritiesError, read_authorities, unite_authorities
from eastgate.pods.names import BUNDLE, BUNDLE_NAME, MANAGER, MANIFEST_KEY, MAX_SHARDS, PART_KEY, SECRETS_KEY

VERSION: Final = 1
"""Of the format. A reader refuses what is newer: it could mean something that the reader would not enforce."""

PART_BYTES: Final = 768 * 1024
"""A ConfigMap holds 1 MiB, and in base64, as it is sent, 768 KiB are 1 MiB (etcd's request limit is 1.5 MiB)."""

MAX_PARTS: Final = 1 + MAX_SHARDS
MAX_CONTENT_BYTES: Final = 64 * 1024 * 1024
"""Uncompressed, of the objects and of those from Secrets each: ten times all parts, and more than any sidecar wants."""

MAX_OBJECTS: Final = 50_000
MAX_MANIFEST_BYTES: Final = 64 * 1024
_LEVEL: Final = 6
_GZIP: Final = 31
"""zlib's window bits for a gzip frame, whose time is 0 and which names no file."""

SECRETS_FILE: Final = f"secrets/{SECRETS_KEY}"
"""Where the Secret stands among the files of a bundle."""

_AUTHORITIES: Final = {"apiVersion": "bundle.eastgate.dev/v1", "kind": "TrustedAuthorities"}
_AUTHORITIES_LINE: Final = b'{"apiVersion":"bundle.eastgate.dev/v1","certificates":'
"""How the line of the authorities begins, keys being sorted: no other line is read to find it."""

type Object = dict[str, Any]


class BundleTooLarge(Exception):  # noqa: N818 (the condition's name)
    """More than the parts of a bundle hold; never cut short. ``what`` grew to ``bytes``, ``limit`` is what fits."""

    def __init__(self, bytes: int, limit: int, what: str = "compressed policies") -> None:  # noqa: A002
        super().__init__(f"{what}: {bytes} bytes, at most {limit} fit into the bundle of one namespace")
        self.bytes = bytes
        self.limit = limit
        self.what = what


class BundleError(Exception):
    """What is wrong with a bundle. ``str()`` quotes no content."""


class IncompleteBundle(BundleError):  # noqa: N818 (the condition's name)
    """The parts do not belong together: missing, or of another generation than the manifest. The rest may be on its
    way, for every ConfigMap and Secret is mounted on its own.
    """


@dataclass(frozen=True, slots=True)
class Bundle:
    """One namespace's policy, packed. ``sealed`` is the Secret's part, None when nothing comes from a Secret."""

    namespace: str
    digest: str
    count: int
    parts: tuple[bytes, ...] = field(repr=False)
    sealed: bytes | None = field(repr=False)
    manifest: str

    def config_maps(self) -> list[Object]:
        """The ConfigMaps, the one with the manifest last: whoever writes them in this order changes over at the end."""
        found = [
            self._object("ConfigMap", part_name(number), {"binaryData": {PART_KEY: _encode(part)}})
            for number, part in enumerate(self.parts)
        ]
        found[0]["data"] = {MANIFEST_KEY: self.manifest}
        return [*found[1:], found[0]]

    def secret(self) -> Object | None:
        """The Secret, or None when there is nothing for it to hold."""
        if self.sealed is None:
            return None
        return self._object("Secret", BUNDLE_NAME, {"type": "Opaque", "data": {SECRETS_KEY: _encode(self.sealed)}})

    def files(self) -> dict[str, bytes]:
        """What a pod that mounts it sees: the bundle's folder, and in folders of their own the rest."""
        files = {MANIFEST_KEY: self.manifest.encode(), PART_KEY: self.parts[0]}
        files |= {part_file(number): part for number, part in enumerate(self.parts)}
        if self.sealed is not None:
            files[SECRETS_FILE] = self.sealed
        return files

    def _object(self, kind: str, name: str, content: Object) -> Object:
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/managed-by": MANAGER},
                "annotations": {BUNDLE: self.digest},
            },
            **content,
        }


@dataclass(frozen=True, slots=True)
class Lines:
    """A bundle's content, verified to be what was packed: one line an object, which ``read_line`` reads."""

    namespace: str
    digest: str
    documents: tuple[bytes, ...] = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    authorities: Authorities = ()


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A bundle read back, everything verified."""

    namespace: str
    digest: str
    documents: tuple[Object, ...] = field(repr=False)
    secrets: tuple[Object, ...] = field(repr=False)
    authorities: Authorities = ()


def part_name(number: int) -> str:
    """The ConfigMap of a part: ``eastgate-bundle``, ``eastgate-bundle-1`` and so on."""
    return BUNDLE_NAME if number == 0 else f"{BUNDLE_NAME}-{number}"


def part_file(number: int) -> str:
    """The file of a part among a bundle's files: in its own folder, but for the first."""
    return PART_KEY if number == 0 else f"{number}/{PART_KEY}"


def pack(
    namespace: str,
    documents: Sequence[Mapping[str, Any]],
    secrets: Sequence[Mapping[str, Any]] = (),
    authorities: Authorities = (),
) -> Bundle:
    """Pack. ``authorities`` are trusted for fetching keys wherever a policy names no CA. Raises ``BundleTooLarge``, and
    ``ValueError`` for what cannot be written as JSON.
    """
    if authorities:
        documents = [*documents, _write_authorities(authorities)]
    content, hidden = _write_lines(documents), _write_lines(secrets)
    count = len(documents) + len(secrets)
    if count > MAX_OBJECTS:
        raise BundleTooLarge(count, MAX_OBJECTS, "objects, counted as")
    packed, sealed = _compress(content), _compress(hidden) if secrets else None
    if len(packed) > MAX_PARTS * PART_BYTES:
        raise BundleTooLarge(len(packed), MAX_PARTS * PART_BYTES)
    if sealed is not None and len(sealed) > PART_BYTES:
        raise BundleTooLarge(len(sealed), PART_BYTES, "compressed Secrets")
    parts = tuple(packed[start : start + PART_BYTES] for start in range(0, len(packed), PART_BYTES))
    digest = _digest(content, hidden)
    manifest = {
        "version": VERSION,
        "namespace": namespace,
        "digest": digest,
        "count": count,
        "parts": [
            {"name": part_name(number), "bytes": len(part), "sha256": _sha256(part)}
            for number, part in enumerate(parts)
        ],
        "secrets": None if sealed is None else {"bytes": len(sealed), "sha256": _sha256(sealed)},
    }
    return Bundle(namespace, digest, count, parts, sealed, _write(manifest) + "\n")


def unpack(files: Mapping[str, bytes], namespace: str | None = None) -> Unpacked:
    """Verify and read a bundle from its files, as ``Bundle.files`` names them; others are not looked at.

    ``namespace`` is the one it must be for. Raises ``BundleError`` with what is wrong.
    """
    found = unpack_lines(files, namespace)
    documents, secrets = (
        tuple(read_line(line, number) for number, line in enumerate(lines, 1))
        for lines in (found.documents, found.secrets)
    )
    return Unpacked(found.namespace, found.digest, documents, secrets, found.authorities)


def unpack_lines(files: Mapping[str, bytes], namespace: str | None = None) -> Lines:
    """The same without reading the objects: equal lines are equal objects, so some may have been read before."""
    manifest = _read_manifest(files, namespace)
    parts = _take(manifest, "parts", list)
    if not 1 <= len(parts) <= MAX_PARTS:
        raise BundleError(f"`parts` of the manifest: {len(parts)}, from 1 to {MAX_PARTS} are accepted")
    packed = b"".join(_take_file(files, part_file(number), part) for number, part in enumerate(parts))
    content, hidden = _decompress(packed, "the policies"), b""
    if manifest.get("secrets") is not None:
        hidden = _decompress(_take_file(files, SECRETS_FILE, manifest["secrets"]), "the Secrets")
    digest = _take(manifest, "digest", str)
    if _digest(content, hidden) != digest:
        raise BundleError("the content is not what the manifest's `digest` says")
    lines, secrets = _split_lines(content), _split_lines(hidden)
    count = len(lines) + len(secrets)
    if count != manifest.get("count"):
        raise BundleError(f"the manifest counts {_show(manifest.get('count'))} objects, found {count}")
    trusting = tuple(line for line in lines if line.startswith(_AUTHORITIES_LINE))
    documents = tuple(line for line in lines if line not in trusting) if trusting else lines
    return Lines(_take(manifest, "namespace", str), digest, documents, secrets, _read_authorities(trusting))


def read_line(line: bytes, number: int) -> Object:
    """The object of a line. Raises ``BundleError``."""
    return _read_object(line, f"line {number} of the content")


# --- writing --------------------------------------------------------------------------------------------------------


def _write(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _write_lines(objects: Sequence[Mapping[str, Any]]) -> bytes:
    lines = sorted((_identify(one), _write(one)) for one in objects)
    content = "".join(f"{line}\n" for _, line in lines).encode()
    if len(content) > MAX_CONTENT_BYTES:
        raise BundleTooLarge(len(content), MAX_CONTENT_BYTES, "uncompressed policies")
    return content


def _write_authorities(authorities: Authorities) -> Object:
    return {**_AUTHORITIES, "metadata": {"name": "authorities"}, "certificates": [one.pem for one in authorities]}


def _identify(one: Mapping[str, Any]) -> tuple[str, ...]:
    metadata = one.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    return tuple(
        str(part or "") for part in (one.get("apiVersion"), one.get("kind"), names.get("namespace"), names.get("name"))
    )


def _compress(content: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return packer.compress(content) + packer.flush()


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(content: bytes, hidden: bytes) -> str:
    """Of what was packed, not of the packing: another zlib makes other bytes of the same policy."""
    return _sha256(content + b"\0" + hidden)


# --- reading --------------------------------------------------------------------------------------------------------


def _read_manifest(files: Mapping[str, bytes], namespace: str | None) -> Object:
    text = files.get(MANIFEST_KEY)
    if text is None:
        raise BundleError(f"there is no `{MANIFEST_KEY}`")
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"`{MANIFEST_KEY}`: {len(text)} bytes, at most {MAX_MANIFEST_BYTES} are accepted")
    manifest = _read_object(text, f"`{MANIFEST_KEY}`")
    version = _take(manifest, "version", int)
    if version > VERSION:
        raise BundleError(
            f"the bundle has format version {version} and this sidecar reads up to {VERSION}: "
            "restart the pod to get the sidecar of the control plane that wrote it"
        )
    if version < 1:
        raise BundleError(f"`version` of the manifest: {version}, from 1 to {VERSION} are accepted")
    if namespace is not None and manifest.get("namespace") != namespace:
        raise BundleError(f"it is the bundle of namespace {_show(manifest.get('namespace'))}, not of `{namespace}`")
    return manifest


def _read_object(text: bytes, what: str) -> Object:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BundleError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise BundleError(f"{what} is no JSON object")
    return value


def _read_authorities(lines: Iterable[bytes]) -> Authorities:
    found: Authorities = ()
    for line in lines:
        certificates = _read_object(line, "the line of the trusted authorities").get("certificates")
        if not isinstance(certificates, list) or not all(isinstance(one, str) for one in certificates):
            raise BundleError("`certificates` of the trusted authorities is no list of texts")
        try:
            found = unite_authorities(found, read_authorities("".join(certificates)))
        except AuthoritiesError as error:
            raise BundleError(f"the list of trusted authorities {error}") from None
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _take(value: Object, key: str, kind: type) -> Any:
    found = value.get(key)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise BundleError(f"`{key}` of the manifest is missing or no {kind.__name__}")
    return found


def _take_file(files: Mapping[str, bytes], file: str, said: object) -> bytes:
    """A file, if it is what the manifest says."""
    if not isinstance(said, dict):
        raise BundleError(f"the manifest does not describe `{file}`")
    size, checksum = _take(said, "bytes", int), _take(said, "sha256", str)
    content = files.get(file)
    if content is None:
        raise IncompleteBundle(f"`{file}` is missing: the manifest names it with {size} bytes")
    if len(content) != size:
        raise IncompleteBundle(f"`{file}` has {len(content)} bytes, the manifest says {size}")
    if _sha256(content) != checksum:
        raise IncompleteBundle(f"`{file}` has not the checksum that the manifest says")
    return content


def _decompress(packed: bytes, what: str) -> bytes:
    reader = zlib.decompressobj(_GZIP)
    try:
        content = reader.decompress(packed, MAX_CONTENT_BYTES)
    except zlib.error:
        raise BundleError(f"{what} are not gzip data") from None
    if not reader.eof and (reader.unconsumed_tail or len(content) >= MAX_CONTENT_BYTES):
        raise BundleError(f"{what} decompress to more than {MAX_CONTENT_BYTES} bytes")
    if not reader.eof:
        raise BundleError(f"{what} end too early")
    if reader.unused_data:
        raise BundleError(f"there is more data behind {what}")
    return content


def _split_lines(content: bytes) -> tuple[bytes, ...]:
    if content and not content.endswith(b"\n"):
        raise BundleError("the last line of the content is cut off")
    if content.count(b"\n") > MAX_OBJECTS:
        raise BundleError(f"more than {MAX_OBJECTS} objects")
    return tuple(content.split(b"\n")[:-1])


def _show(value: object) -> str:
    return f"`{str(value)[:64]}`"
