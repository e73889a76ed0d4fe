"""What a policy points to and lives elsewhere: text in a Secret or a ConfigMap.

Knows: where the two kinds keep their data, what to say when something is not there, and that text must not cross
namespaces without leave: whoever may write a policy here need not be allowed to read Secrets there, and what a
policy points to ends up in the pods' bundle. Must not know what the text is good for.
Rules: Kubernetes core/v1 Secret (``data`` is base64, ``stringData`` wins) and ConfigMap; Gateway API ReferenceGrant.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.documents import Fields, Reporter, Value, show
from eastgate.dialects.gateway.references import CORE_GROUP, is_granted, say_missing
from eastgate.dialects.values import list_names

_PUBLIC_PEM = re.compile(
    r"\s*(?:-----BEGIN ((?:RSA |EC )?PUBLIC KEY|CERTIFICATE)-----[A-Za-z0-9+/=\s]*-----END \1-----\s*)+"
)


@dataclass(frozen=True, slots=True)
class Source:
    """The object that refers: for the question whether it may."""

    group: str
    kind: str
    namespace: str


def read_object_name(fields: Fields, namespace: str) -> tuple[str, str] | None:
    """(namespace, name) of an object reference; ``namespace`` is that of the referring object. ``cluster`` is noted."""
    name = fields.text("name", required=True)
    namespace = fields.text("namespace") or namespace
    note_cluster(fields)
    return None if name is None else (namespace, name)


def note_cluster(fields: Fields, *names: str) -> None:
    """``cluster`` and ``workspace`` have no meaning in one cluster; an empty one says nothing."""
    for name in names or ("cluster",):
        if fields.text(name):
            fields.note(name, f"`{name}` has no effect: only this cluster is looked at, and there are no workspaces")


def read_data(
    catalogue: Catalogue, source: Source, kind: str, name: tuple[str, str], key: str, at: Value, report: Reporter
) -> str | None:
    """The text under ``key`` of a Secret or ConfigMap, or None after saying what is wrong with the reference."""
    found = catalogue.find(CORE_GROUP, kind, *name)
    if found is None:
        say_missing(catalogue, at, report, CORE_GROUP, kind, *name)
        return None
    text = _value_of(found, key)
    if not _may_read(catalogue, source, kind, name, text):
        # The same whether there is such a key or not: which ones a Secret has is no more his to know.
        message = (
            f"{kind} `{name[0]}/{name[1]}` is in another namespace and no ReferenceGrant there permits it; accepted: a "
            f"ReferenceGrant in `{name[0]}` from {source.group} {source.kind} in `{source.namespace}` to {kind}, "
            "or a value that is nothing but PEM public keys"
        )
        report.error(at, "not-granted", message)
        return None
    keys = data_keys(found)
    if key not in keys:
        near = report.suggest(key, keys)
        message = f"{kind} `{name[0]}/{name[1]}` has no key {show(key)}{near}; it has: {list_names(keys)}"
        report.error(at, "not-there", message)
        return None
    if text is None:
        report.error(at, "bad-value", f"key {show(key)} of {kind} `{name[0]}/{name[1]}` is not base64 of UTF-8 text")
        return None
    # Only now: what somebody may not read is not brought to him, either.
    catalogue.note_key(found, key)
    return text


def _may_read(catalogue: Catalogue, source: Source, kind: str, name: tuple[str, str], text: str | None) -> bool:
    """Gloo lets a policy refer to any Secret of its workspace, for PEM public keys; those are no secret."""
    origin = (source.group, source.kind, source.namespace)
    if is_granted(catalogue, origin, CORE_GROUP, kind, *name):
        return True
    return text is not None and _PUBLIC_PEM.fullmatch(text) is not None


def data_keys(found: Object) -> list[str]:
    """The keys that a Secret or ConfigMap has values for."""
    blocks = ("data", "stringData") if found.kind == "Secret" else ("data",)
    keys: dict[str, None] = {}
    for block in blocks:
        data = found.document.get(block)
        keys.update(dict.fromkeys(data if isinstance(data, dict) else ()))
    return list(keys)


def _value_of(found: Object, key: str) -> str | None:
    if found.kind != "Secret":
        value = _entry(found, "data", key)
        return value if isinstance(value, str) else None
    plain = _entry(found, "stringData", key)
    if isinstance(plain, str):
        return plain
    encoded = _entry(found, "data", key)
    if not isinstance(encoded, str):
        return None
    try:
        return base64.b64decode("".join(encoded.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        return None


def _entry(found: Object, block: str, key: str) -> object:
    data = found.document.get(block)
    return data.get(key) if isinstance(data, dict) else None
