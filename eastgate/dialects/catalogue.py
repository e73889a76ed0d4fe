"""Finds the objects that others refer to, among everything that was read.

Knows names only: an object is (group, kind, namespace, name). Must not know what any of them is for, nor whether a
reference to it is permitted: ``references`` and ``gateway.references`` say that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eastgate.dialects.documents import Value
from eastgate.model.routes import ObjectName

DEFAULT_NAMESPACE = "default"
"""Where an object without ``metadata.namespace`` lives, as with kubectl and no context."""


@dataclass(frozen=True)
class Object:
    """One document with its identity read. ``document`` is the whole value. What is asked of it often is kept."""

    group: str
    version: str
    kind: str
    namespace: str
    name: str
    document: Value

    @cached_property
    def title(self) -> ObjectName:
        """How messages name it."""
        return ObjectName(self.kind, self.namespace, self.name)

    @property
    def created(self) -> str:
        """``metadata.creationTimestamp``, or an empty string."""
        stamp = self.document.get("metadata", "creationTimestamp")
        return stamp if isinstance(stamp, str) else ""

    @cached_property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """``metadata.labels`` as sorted pairs; entries that are not strings are left to the kind's reader."""
        labels = self.document.get("metadata", "labels")
        if not isinstance(labels, dict):
            return ()
        return tuple(sorted((key, value) for key, value in labels.items() if isinstance(value, str)))

    def spec(self) -> Value:
        """``spec``, or an empty mapping at the document's place."""
        data = self.document.data
        found = data.get("spec") if isinstance(data, dict) else None
        return found if found is not None else Value({}, "spec", self.document.position)


class Catalogue:
    """Every object read, by identity. Of two with the same identity the first is found."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects
        self._index: dict[tuple[str, str, str, str], Object] = {}
        self._kinds: dict[tuple[str, str], list[Object]] = {}
        self._names: dict[tuple[str, str, str], list[str]] = {}
        self._prepared: dict[str, Any] = {}
        for found in objects:
            self._index.setdefault((found.group, found.kind, found.namespace, found.name), found)
            self._kinds.setdefault((found.group, found.kind), []).append(found)
            self._names.setdefault((found.group, found.kind, found.namespace), []).append(found.name)

    def find(self, group: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._index.get((group, kind, namespace, name))

    def of_kind(self, group: str, kind: str) -> Iterator[Object]:
        """All objects of a kind, in the order they were read."""
        return iter(self._kinds.get((group, kind), ()))

    def names(self, group: str, kind: str, namespace: str) -> list[str]:
        """The names of a kind in a namespace, for "did you mean"."""
        return self._names.get((group, kind, namespace), [])

    def prepared[Made](self, name: str, make: Callable[[Catalogue], Made]) -> Made:
        """What a reader works out once about all objects, so that asking for it does not cost a walk over them."""
        if name not in self._prepared:
            self._prepared[name] = make(self)
        made: Made = self._prepared[name]
        return made
