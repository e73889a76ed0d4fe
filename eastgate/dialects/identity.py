"""Who an object is: apiVersion, kind, namespace and name, as the API server would accept them.

Knows: the envelope that every Kubernetes object has. Must not know kinds. Objects that nobody here reads may lack a
name (a Job with ``generateName``, a kustomization): what they lack is said only when somebody reads their kind.
Rules: Kubernetes ObjectMeta; RFC 1123 names (section 2.1), labels of at most 63 characters.
"""

from __future__ import annotations

import re

from eastgate.dialects.catalogue import DEFAULT_NAMESPACE, Object
from eastgate.dialects.documents import Fields, Reporter, Value, show
from eastgate.dialects.kinds import is_read
from eastgate.model.diagnostics import Diagnostic

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z")

_METADATA = frozenset(
    [
        *("name", "generateName", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp"),
        *("deletionGracePeriodSeconds", "finalizers", "generation", "managedFields", "ownerReferences"),
        *("resourceVersion", "selfLink", "uid", "clusterName"),
    ]
)
"""ObjectMeta; kubectl refuses anything else."""

LONGEST_NAME = 253
"""Of a DNS name (RFC 1035 section 2.3.4), as Kubernetes has it."""


def read_identity(document: Value, sink: list[Diagnostic]) -> Object | None:
    """The object, or None when it cannot be said whose it is; the reason is in ``sink``."""
    report = Reporter(sink, "")
    if not isinstance(document.data, dict):
        report.error(document, "not-an-object", f"expected a Kubernetes object, found {document.kind}")
        return None
    fields = Fields(document, report)
    version = _read_word(fields, "apiVersion", report)
    kind = _read_word(fields, "kind", report)
    if version is None or kind is None:
        return None
    group, _, version = version.rpartition("/")
    named = Reporter(sink if is_read(group, kind) else [], kind)
    metadata = Fields(document, named).mapping("metadata")
    name = metadata.text("name", required=True)
    namespace = metadata.text("namespace") or DEFAULT_NAMESPACE
    if name is None:
        return None
    found = Object(group, version, kind, namespace, name, document)
    named.subject = str(found.title)
    _check_name(metadata, "name", name, _NAME, named)
    _check_name(metadata, "namespace", namespace, _NAMESPACE, named)
    _check_time(metadata, named)
    for key, value in metadata.data.items():
        if key not in _METADATA:
            at = Value(None, f"metadata.{show(key)[1:-1]}", metadata.value.keys.get(key, value.position))
            named.error(at, "unknown-field", f"unknown field {show(key)}{named.suggest(key, _METADATA)}")
    check_labels(metadata, "labels", metadata.labels("labels"))
    return found


def _check_time(metadata: Fields, report: Reporter) -> None:
    """The age decides which of two policies wins, so it must be one that can be compared."""
    stamp = metadata.text("creationTimestamp")
    if stamp and _TIME.fullmatch(stamp) is None:
        message = f"{show(stamp)} is not a time; accepted: `2026-01-31T12:00:00Z`, as the API server writes it"
        report.error(metadata.at("creationTimestamp"), "bad-time", message)


def _read_word(fields: Fields, name: str, report: Reporter) -> str | None:
    text = fields.text(name)
    if text:
        return text
    if not report.errors or not fields.has(name):
        report.error(fields.at(name), "not-an-object", f"`{name}` is missing: every Kubernetes object has one")
    return None


def _check_name(metadata: Fields, field: str, text: str, accepted: re.Pattern[str], report: Reporter) -> None:
    if accepted.fullmatch(text) is None or len(text) > LONGEST_NAME:
        report.error(
            metadata.at(field),
            "bad-name",
            f"{show(text)} is not a name; accepted: lower-case letters, digits and `-`"
            f"{' and `.`' if field == 'name' else ''}, beginning and ending with a letter or digit (RFC 1123)",
        )


def check_labels(fields: Fields, name: str, labels: tuple[tuple[str, str], ...]) -> None:
    """Report label keys and values that no Kubernetes object could carry."""
    for key, value in labels:
        if _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value):
            continue
        fields.report.error(
            fields.at(name),
            "bad-label",
            f"{show(f'{key}: {value}')} is not a label; accepted: letters, digits, `-`, `_` and `.`, at most 63, "
            "the key with an optional `domain/` before it",
        )
