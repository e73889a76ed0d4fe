"""Finds the objects that others refer to, among everything that was read.

Knows names only: an object is (group, kind, namespace, name). Must not know what any of them is for, nor whether a
reference to it is permitted: ``references`` and ``gateway.references`` say that.

It also knows what it was asked. Whoever brings the objects together learns from that which others a policy needs
(``asked``), and what a reader made of an object is kept with it (``remember``) until an answer changes: of a thousand
objects in a cluster one changes at a time, and the others need not be read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from eastgate.dialects.documents import Value
from eastgate.dialects.values import MAX_SUGGESTED
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.routes import ObjectName

DEFAULT_NAMESPACE = "default"
"""Where an object without ``metadata.namespace`` lives, as with kubectl and no context."""


class Reference(NamedTuple):
    """An object that somebody asked for, found or not. ``key`` is one of its values (ConfigMap, Secret), or empty."""

    group: str
    kind: str
    namespace: str
    name: str
    key: str = ""


@dataclass(frozen=True, eq=False)
class Object:
    """One document with its identity read. ``document`` is the whole value. What is asked of it often is kept. It is
    equal to nothing but itself: the same object, changed, is another one.
    """

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

    @cached_property
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

    @cached_property
    def remembered(self) -> dict[str, Remembered]:
        """What readers made of it, by reader. Only ``Catalogue.remember`` looks in here."""
        return {}

    def spec(self) -> Value:
        """``spec``, or an empty mapping at the document's place."""
        data = self.document.data
        found = data.get("spec") if isinstance(data, dict) else None
        return found if found is not None else Value({}, "spec", self.document.position)


@dataclass(slots=True)
class _Asking:
    """What one reader asks while it reads one object. ``lasting`` False: what it makes cannot be kept."""

    answers: list[tuple[Callable[..., object], tuple[Any, ...], object]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    lasting: bool = True


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a reader made of an object and said about it, and the answers that it relied on. ``told`` is how many
    findings there were before: from a certain number on they come without suggestions.
    """

    made: Any
    said: tuple[Diagnostic, ...]
    told: int
    asking: _Asking

    def holds(self, catalogue: Catalogue, told: int) -> bool:
        """Whether reading it again would come to the same."""
        if self.said and min(told, MAX_SUGGESTED) != min(self.told, MAX_SUGGESTED):
            return False
        return all(question(catalogue, *about) == answer for question, about, answer in self.asking.answers)


class Catalogue:
    """Every object read, by identity. Of two with the same identity the first is found. ``asked`` collects the
    references that were followed.
    """

    def __init__(self, objects: list[Object], asked: set[Reference] | None = None) -> None:
        self.objects = objects
        self.asked: set[Reference] = set() if asked is None else asked
        self._index: dict[tuple[str, str, str, str], Object] = {}
        self._kinds: dict[tuple[str, str], list[Object]] = {}
        self._names: dict[tuple[str, str, str], list[str]] = {}
        self._prepared: dict[str, Any] = {}
        self._asking: _Asking | None = None
        for found in objects:
            self._index.setdefault((found.group, found.kind, found.namespace, found.name), found)
            self._kinds.setdefault((found.group, found.kind), []).append(found)
            self._names.setdefault((found.group, found.kind, found.namespace), []).append(found.name)

    def find(self, group: str, kind: str, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        self._follow(Reference(group, kind, namespace, name))
        return self.ask(Catalogue._find, group, kind, namespace, name)

    def _find(self, group: str, kind: str, namespace: str, name: str) -> Object | None:
        return self._index.get((group, kind, namespace, name))

    def note_key(self, found: Object, key: str) -> None:
        """Somebody uses one value of a ConfigMap or Secret, and may."""
        self._follow(Reference(found.group, found.kind, found.namespace, found.name, key))

    def of_kind(self, group: str, kind: str) -> Iterator[Object]:
        """All objects of a kind, in the order they were read."""
        return iter(self.ask(Catalogue._of_kind, group, kind))

    def _of_kind(self, group: str, kind: str) -> list[Object]:
        return self._kinds.get((group, kind), [])

    def names(self, group: str, kind: str, namespace: str) -> list[str]:
        """The names of a kind in a namespace, for "did you mean"."""
        return self.ask(Catalogue._names_of, group, kind, namespace)

    def _names_of(self, group: str, kind: str, namespace: str) -> list[str]:
        return self._names.get((group, kind, namespace), [])

    def prepared[Made](self, name: str, make: Callable[[Catalogue], Made]) -> Made:
        """What a reader works out once about all objects, so that asking for it does not cost a walk over them. Only
        for questions (``ask``): the answer is what a reader relies on, not all that it was found in.
        """
        if name not in self._prepared:
            asking, self._asking = self._asking, None
            self._prepared[name] = make(self)
            self._asking = asking
        made: Made = self._prepared[name]
        return made

    def ask[Answer](self, question: Callable[..., Answer], *about: Any) -> Answer:
        """``question(self, *about)``: something about other objects that a reader relies on. The answer is compared
        with ``==`` when what the reader made is wanted again; the question itself asks nothing but ``prepared``.
        """
        answer = question(self, *about)
        if self._asking is not None:
            self._asking.answers.append((question, about, answer))
        return answer

    def remember[Made](self, found: Object, reader: str, sink: list[Diagnostic], make: Callable[[], Made]) -> Made:
        """``make()``, or what it made of the object when it was last read, if all answers are the same. What is made
        must not change afterwards, and may depend on nothing but the object and this catalogue.
        """
        kept = found.remembered.get(reader)
        if kept is not None and kept.holds(self, len(sink)):
            sink.extend(kept.said)
            for reference in kept.asking.references:
                self._follow(reference)
            made: Made = kept.made
            return made
        told = len(sink)
        outer, self._asking = self._asking, _Asking()
        try:
            made = make()
            asking = self._asking
        finally:
            self._asking = outer
        if asking.lasting:
            found.remembered[reader] = Remembered(made, tuple(sink[told:]), told, asking)
        return made

    def forget(self) -> None:
        """What is being made depends on more than its object and answers, and is made anew each time."""
        if self._asking is not None:
            self._asking.lasting = False

    def _follow(self, reference: Reference) -> None:
        self.asked.add(reference)
        if self._asking is not None:
            self._asking.references.append(reference)
