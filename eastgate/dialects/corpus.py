"""The door of the room: texts or objects in, ``PolicySet`` out, and a diagnostic for everything not understood.

Knows: which kinds there are, who reads them, and which kinds people believe in that nobody here reads. Must not know
what is inside any of them. Total: bad input gives diagnostics, never an exception; an object with an error in its
identity still reaches its reader and comes back invalid, so that it compiles to a refusal and not to a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from eastgate.dialects.catalogue import Catalogue, Object, Reference
from eastgate.dialects.documents import Reporter, Value, read_documents
from eastgate.dialects.eastgate import read as read_eastgate
from eastgate.dialects.envoy_gateway import read as read_envoy_gateway
from eastgate.dialects.gloo import read as read_gloo
from eastgate.dialects.identity import read_identity
from eastgate.dialects.kinds import Standing, judge_kind
from eastgate.dialects.leftovers import warn_of_leftovers
from eastgate.dialects.mentions import note_mentions
from eastgate.dialects.objects import read_value
from eastgate.dialects.services import read as read_services
from eastgate.model.diagnostics import Diagnostic, Position, Severity
from eastgate.model.policies import Policy
from eastgate.model.routes import ObjectName, Route
from eastgate.model.sets import PolicySet

Reader = Callable[[Catalogue, list[Diagnostic]], tuple[list[Policy], list[Route]]]
"""What a dialect is: it finds its kinds in the catalogue and reports into the sink. It must not raise; if it does,
that is an error about the whole set."""

READERS: tuple[Reader, ...] = (read_eastgate, read_gloo, read_envoy_gateway)


@dataclass(frozen=True, slots=True)
class Document:
    """One object with all that can be said about it by itself, ready to be read among others as often as wanted.

    ``found`` is None where it cannot be said whose it is, or nobody reads its kind. ``findings`` are the diagnostics;
    ``faults`` the errors among them that concern the object as a whole, which its reader does not see.
    """

    position: Position
    found: Object | None
    findings: tuple[Diagnostic, ...] = ()
    faults: tuple[str, ...] = ()
    faulty: ObjectName | None = None


def read_policy_set(sources: Iterable[tuple[str, str]]) -> PolicySet:
    """Policies, routes and Services of all texts together; ``sources`` are (file name, text)."""
    said: list[Diagnostic] = []
    return read_parsed(document for file, text in sources for document in _parse_text(file, text, said))


def read_objects(objects: Iterable[tuple[str, object]]) -> PolicySet:
    """The same of objects that are JSON values already; ``objects`` are (name in messages, value)."""
    return read_parsed(parse_object(file, data) for file, data in objects)


def parse_object(file: str, data: object) -> Document:
    """One JSON value as a document. Positions are line 1 of ``file``; the field path is exact."""
    sink: list[Diagnostic] = []
    value = read_value(file, data, sink)
    if value is None:
        return Document(Position(file, 1), None, tuple(sink))
    kind = value.data.get("kind") if isinstance(value.data, dict) else None
    if kind is not None and isinstance(kind.data, str) and kind.data.endswith("List") and "items" in value.data:
        message = "expected one object, found a list of them: nothing in it is read"
        return Document(value.position, None, (Diagnostic(value.position, Severity.ERROR, "not-an-object", message),))
    return _parse_value(value, [])


def read_parsed(documents: Iterable[Document], asked: set[Reference] | None = None) -> PolicySet:
    """Policies, routes and Services of documents together. ``asked`` receives every reference that was followed, to
    objects that are there and to such as are not. A document that was read before is read much faster.
    """
    sink: list[Diagnostic] = []
    faulty: dict[ObjectName, tuple[str, ...]] = {}
    catalogue = Catalogue(list(_unite(documents, sink, faulty)), asked)
    policies: list[Policy] = []
    routes: list[Route] = []
    for reader in READERS:
        try:
            found_policies, found_routes = reader(catalogue, sink)
        except Exception as error:  # what no reader foresaw must not take the others down, nor pass for "no policy"
            sink.append(_internal_error(reader.__module__, error))
            continue
        policies += found_policies
        routes += found_routes
    return PolicySet(
        policies=tuple(_invalidate_policy(policy, faulty.get(policy.name, ())) for policy in policies),
        routes=tuple(
            note_mentions(_invalidate_route(route, faulty.get(route.origin, ())), catalogue) for route in routes
        ),
        services=tuple(read_services(catalogue, sink)),
        # An object that several others refer to is read, and complained about, once for each of them.
        diagnostics=tuple(dict.fromkeys(sink)),
    )


def _unite(
    documents: Iterable[Document], sink: list[Diagnostic], faulty: dict[ObjectName, tuple[str, ...]]
) -> Iterator[Object]:
    """The objects of all documents, each identity once."""
    places: dict[tuple[str, str, str, str], Position] = {}
    for document in documents:
        sink.extend(document.findings)
        if document.faulty is not None and document.faults:
            faulty[document.faulty] = (*faulty.get(document.faulty, ()), *document.faults)
        found = document.found
        if found is None:
            continue
        identity = (found.group, found.kind, found.namespace, found.name)
        if identity in places:
            message = f"already defined at {places[identity]}; only one may be"
            sink.append(Diagnostic(document.position, Severity.ERROR, "defined-twice", message, str(found.title), ""))
            faulty[found.title] = (*faulty.get(found.title, ()), message)
            continue
        places[identity] = document.position
        yield found


def _parse_text(file: str, text: str, said: list[Diagnostic]) -> Iterator[Document]:
    """The documents of a text. What is wrong with the text itself comes last. ``said`` collects what was found in all
    texts: from a certain number on it comes without suggestions.
    """
    own: list[Diagnostic] = []
    values = read_documents(file, text, own)
    twice = _sort_duplicates(own, [value.position.line for value in values])
    for index, value in enumerate(values):
        document = _parse_value(value, said)
        if document.faulty is not None:
            faults = []
            for place in twice.get(index, ()):
                own[place] = replace(own[place], subject=str(document.faulty))
                faults.append(f"{own[place].field}: {own[place].message}")
            document = replace(document, faults=(*document.faults, *faults)) if faults else document
        yield document
    if own:
        yield Document(own[0].position, None, tuple(own))


def _parse_value(document: Value, sink: list[Diagnostic]) -> Document:
    """Whose it is, whether it is read, and what can be seen without knowing its kind. Errors in its name and labels
    change what it is.
    """
    before = len(sink)
    found = read_identity(document, sink)
    if found is None:
        return Document(document.position, None, tuple(sink[before:]))
    faults = [one.message for one in sink[before:] if one.severity is Severity.ERROR]
    verdict = judge_kind(found.group, found.version, found.kind)
    if verdict.message:
        severity = Severity.WARNING if verdict.standing is Standing.NOT_ENFORCED else Severity.ERROR
        at = _at(document, verdict.field)
        code = verdict.standing.value
        sink.append(Diagnostic(at.position, severity, code, verdict.message, str(found.title), verdict.field))
        if severity is Severity.ERROR:
            faults.append(verdict.message)
    if verdict.standing is Standing.READ:
        warn_of_leftovers(document, found.kind, Reporter(sink, str(found.title)))
    read = None if verdict.standing is Standing.FOREIGN else found
    return Document(document.position, read, tuple(sink[before:]), tuple(faults), found.title)


def _sort_duplicates(own: list[Diagnostic], lines: list[int]) -> dict[int, list[int]]:
    """Where in ``own`` the keys that are set twice are, by the document, which begins on a line, that they are in."""
    found: dict[int, list[int]] = {}
    for place, one in enumerate(own):
        if one.code == "duplicate-key":
            found.setdefault(bisect_right(lines, one.position.line) - 1, []).append(place)
    return found


def _at(document: Value, field: str) -> Value:
    return document.data.get(field, document) if isinstance(document.data, dict) else document


def _internal_error(where: str, error: Exception) -> Diagnostic:
    message = f"internal error in {where}: {type(error).__name__}; nothing of this dialect can be enforced"
    return Diagnostic(Position("-", 0), Severity.ERROR, "internal-error", message)


def _invalidate_policy(policy: Policy, messages: tuple[str, ...]) -> Policy:
    return replace(policy, invalid=(*policy.invalid, *messages)) if messages else policy


def _invalidate_route(route: Route, messages: tuple[str, ...]) -> Route:
    return replace(route, invalid=(*route.invalid, *messages)) if messages else route
