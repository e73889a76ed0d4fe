"""The door of the room: texts in, ``PolicySet`` out, and a diagnostic for everything that was not understood.

Knows: which kinds there are, who reads them, and which kinds people believe in that nobody here reads. Must not know
what is inside any of them. Total: bad input gives diagnostics, never an exception; an object with an error in its
identity still reaches its reader and comes back invalid, so that it compiles to a refusal and not to a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.documents import Reporter, Value, read_documents
from eastgate.dialects.eastgate import read as read_eastgate
from eastgate.dialects.envoy_gateway import read as read_envoy_gateway
from eastgate.dialects.gloo import read as read_gloo
from eastgate.dialects.identity import read_identity
from eastgate.dialects.kinds import Standing, judge_kind
from eastgate.dialects.leftovers import warn_of_leftovers
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
class _Fault:
    """An error about an object as a whole, which its reader does not see."""

    name: ObjectName
    message: str


def read_policy_set(sources: Iterable[tuple[str, str]]) -> PolicySet:
    """Policies, routes and Services of all texts together; ``sources`` are (file name, text)."""
    sink: list[Diagnostic] = []
    faults: list[_Fault] = []
    catalogue = Catalogue(list(_read_objects(sources, sink, faults)))
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
    faulty: dict[ObjectName, tuple[str, ...]] = {}
    for fault in faults:
        faulty[fault.name] = (*faulty.get(fault.name, ()), fault.message)
    return PolicySet(
        policies=tuple(_invalidate_policy(policy, faulty.get(policy.name, ())) for policy in policies),
        routes=tuple(_invalidate_route(route, faulty.get(route.origin, ())) for route in routes),
        services=tuple(read_services(catalogue, sink)),
        # An object that several others refer to is read, and complained about, once for each of them.
        diagnostics=tuple(dict.fromkeys(sink)),
    )


def _read_objects(sources: Iterable[tuple[str, str]], sink: list[Diagnostic], faults: list[_Fault]) -> Iterator[Object]:
    places: dict[tuple[str, str, str, str], Position] = {}
    for file, text in sources:
        own: list[Diagnostic] = []
        documents = read_documents(file, text, own)
        twice = _sort_duplicates(own, [document.position.line for document in documents])
        for index, document in enumerate(documents):
            found, complaints = _identify(document, sink)
            if found is None:
                continue
            for place in twice.get(index, ()):
                own[place] = replace(own[place], subject=str(found.title))
                complaints.append(f"{own[place].field}: {own[place].message}")
            faults.extend(_Fault(found.title, message) for message in complaints)
            verdict = judge_kind(found.group, found.version, found.kind)
            if verdict.message:
                severity = Severity.WARNING if verdict.standing is Standing.NOT_ENFORCED else Severity.ERROR
                at = _at(document, verdict.field)
                code = verdict.standing.value
                sink.append(Diagnostic(at.position, severity, code, verdict.message, str(found.title), verdict.field))
                if severity is Severity.ERROR:
                    faults.append(_Fault(found.title, verdict.message))
            if verdict.standing is Standing.FOREIGN:
                continue
            identity = (found.group, found.kind, found.namespace, found.name)
            first = places.setdefault(identity, document.position)
            if first is not document.position:
                message = f"already defined at {first}; only one may be"
                sink.append(
                    Diagnostic(document.position, Severity.ERROR, "defined-twice", message, str(found.title), "")
                )
                faults.append(_Fault(found.title, message))
                continue
            if verdict.standing is Standing.READ:
                warn_of_leftovers(document, found.kind, Reporter(sink, str(found.title)))
            yield found
        sink += own


def _identify(document: Value, sink: list[Diagnostic]) -> tuple[Object | None, list[str]]:
    """The object, and the errors in its name and labels: its reader does not see them, and they change what it is."""
    before = len(sink)
    found = read_identity(document, sink)
    return found, [one.message for one in sink[before:] if one.severity is Severity.ERROR]


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
