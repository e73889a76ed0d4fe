"""An object on its way to our own kind: what it was, what it becomes, and what there is to say about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from eastgate.dialects.catalogue import Object
from eastgate.dialects.kinds import OWN_GROUP
from eastgate.dialects.values import Value
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.routes import Match, ObjectName, Route

API_VERSION = f"{OWN_GROUP}/v1alpha1"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_SERVER_FIELDS = frozenset(
    [
        *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "selfLink"),
        *("deletionGracePeriodSeconds", "managedFields", "clusterName"),
    ]
)
"""Written by the API server, each time anew."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a RouteTable that is to be: the route that it stands for, with some of its alternatives."""

    route: Route
    matches: tuple[Match, ...]


@dataclass(slots=True)
class Draft:
    """``document`` is what is written. ``sources`` are the objects that it says again, the first one its namesake.
    ``entries`` are those of a table that was put together from routes; a table that was taken over has none.
    """

    sources: tuple[Object, ...]
    document: dict[str, Any]
    entries: tuple[Entry, ...] = field(default=())

    @property
    def title(self) -> ObjectName:
        """The new object."""
        metadata = self.document["metadata"]
        return ObjectName(self.document["kind"], self.sources[0].namespace, metadata["name"])


class Findings:
    """What there is to say, each about an object and a field of it."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def error(self, found: Object, path: str, code: str, message: str) -> None:
        """What cannot be said in our own kind."""
        self._add(Severity.ERROR, found, path, code, message)

    def warning(self, found: Object, path: str, code: str, message: str) -> None:
        """What is said otherwise, or no more, and does not change a decision."""
        self._add(Severity.WARNING, found, path, code, message)

    def _add(self, severity: Severity, found: Object, path: str, code: str, message: str) -> None:
        position = locate(found.document, path).position
        self.diagnostics.append(Diagnostic(position, severity, code, message, str(found.title), path))


def locate(document: Value, path: str) -> Value:
    """The value at a path such as ``spec.rules[0].filters``; of what is not there the nearest thing around it."""
    here = document
    for part in path.replace("[", ".[").split(".") if path else ():
        if part.startswith("["):
            index = int(part[1:-1])
            if not isinstance(here.data, list) or index >= len(here.data):
                break
            here = here.data[index]
        elif isinstance(here.data, dict) and part in here.data:
            here = here.data[part]
        else:
            break
    return here


def begin_document(kind: str, found: Object, findings: Findings, name: str | None = None) -> dict[str, Any]:
    """An object of our own with the name, labels and annotations of a foreign one."""
    written = found.document.get("metadata")
    metadata: dict[str, Any] = {"name": name or found.name}
    for key, value in written.items() if isinstance(written, dict) else ():
        if key in ("namespace", "labels"):
            metadata[key] = value
        elif key == "annotations" and isinstance(value, dict):
            # What kubectl applied last is the foreign object, as a text.
            if kept := {name: text for name, text in value.items() if name != APPLIED}:
                metadata[key] = kept
        elif key in ("ownerReferences", "finalizers", "generateName"):
            findings.warning(found, f"metadata.{key}", "left-out", "left out: it belongs to the object as it was")
        elif key != "name" and key not in _SERVER_FIELDS:
            metadata[key] = value
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata}


def list_titles(objects: Iterable[Object]) -> str:
    """``SecurityPolicy default/a, HTTPRoute default/b``."""
    return ", ".join(str(one.title) for one in objects)
