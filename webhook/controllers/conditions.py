"""What is said to the author of a policy or route: its status conditions.

Accepted (can it be enforced as it is written?), ResolvedRefs (is there what it refers to?), Conflicted (does another
policy hold in its place, and where?), Programmed (is it in the pods' bundle, and how many pods were told of that?).
The messages are those of ``eastgate lint``, for they come from the same readers and the same review.

Knows: a built bundle and how far it got. Must not know: the API, time (the writer sets ``lastTransitionTime``).
Rules: Kubernetes ``metav1.Condition`` (a message has at most 32,768 characters), Gateway API's condition types and
reasons (``Accepted``, ``ResolvedRefs``, ``Programmed``; ``Invalid``, ``RefNotPermitted``, ``Pending``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eastgate.compile.review import review_selected
from eastgate.dialects.catalogue import Reference
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.policies import Policy
from eastgate.model.routes import Route
from webhook.controllers.excerpts import POLICY_KINDS, Excerpt
from webhook.controllers.state import BuiltBundle

type Condition = dict[str, object]
"""A ``metav1.Condition`` without ``lastTransitionTime``."""

ACCEPTED, RESOLVED, CONFLICTED, PROGRAMMED = "Accepted", "ResolvedRefs", "Conflicted", "Programmed"

MOST_SHOWN = 3
"""Findings in one message; the others are counted. ``eastgate lint`` shows all."""

LONGEST_MESSAGE = 2048
"""Of a condition. The API takes sixteen times as much; nobody reads it in a column of ``kubectl describe``."""

_UNRESOLVED = {"not-there": "RefNotFound", "not-granted": "RefNotPermitted", "bad-reference": "RefNotUsable"}
"""Codes of readers about what is referred to, and the condition's reason."""

_OF_ITSELF = ".provider"
"""The field of a rule that names a provider of its own policy: not there is then a mistake in this very object."""

_SAID_OTHERWISE = frozenset({"selects-nothing"})
"""Errors for ``lint``, which sees a set of files as a whole. In a cluster a policy may come before its routes."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the bundle of a namespace got. ``digest`` None: it is not written. ``announced``: so many of its ``pods``
    carry its digest as an annotation; whether they run with it only they know. ``trouble`` says why it cannot be
    written.
    """

    digest: str | None
    announced: int = 0
    pods: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``routes`` is on how many routes a policy holds, or how many an object holds itself."""

    conditions: tuple[Condition, ...]
    routes: int


def judge(built: BuiltBundle, progress: Mapping[str, Progress]) -> dict[Reference, Judgement]:
    """The conditions of every policy and route of the bundle's namespace. ``progress`` is of every namespace that has a
    bundle: a policy may act in others than its own.
    """
    found = _Findings(built)
    return {one.reference: _judge(one, found, progress) for one in built.own}


class _Findings:
    """What reading and review said, by the object that it is about."""

    def __init__(self, built: BuiltBundle) -> None:
        review = review_selected(built.policy_set, built.selection, built.selected)
        self.namespace = built.namespace
        self.said: defaultdict[str, list[Diagnostic]] = defaultdict(list)
        for one in dict.fromkeys((*built.policy_set.diagnostics, *review)):
            self.said[one.position.file].append(one)
        self.policies = {one.position.file: one for one in built.policy_set.policies}
        self.routes: defaultdict[str, list[Route]] = defaultdict(list)
        self.held: defaultdict[str, list[Route]] = defaultdict(list)
        for route in built.policy_set.routes:
            self.routes[route.position.file].append(route)
            for policy in built.selected[id(route)].policies:
                self.held[policy.position.file].append(route)


def _judge(own: Excerpt, found: _Findings, progress: Mapping[str, Progress]) -> Judgement:
    is_policy = own.kind in POLICY_KINDS
    said = found.said.get(own.file, [])
    errors = [one for one in said if one.severity is Severity.ERROR and one.code not in _SAID_OTHERWISE]
    unresolved = [one for one in errors if _is_unresolved(one)]
    wrong = [one for one in errors if not _is_unresolved(one)]
    routes = (found.held if is_policy else found.routes).get(own.file, [])
    conditions = [_accept(wrong, said), _resolve(unresolved)]
    if is_policy:
        conditions.append(_conflict([one for one in said if one.code == "conflict"]))
    acting = _acts_in(found.policies.get(own.file), routes, found.namespace)
    conditions.append(_program(bool(errors), acting, progress))
    for condition in conditions:
        condition["observedGeneration"] = own.generation
    return Judgement(tuple(conditions), len(routes))


def _is_unresolved(one: Diagnostic) -> bool:
    return one.code in _UNRESOLVED and not one.field.endswith(_OF_ITSELF)


def _condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    message = message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…"
    return {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}


def _accept(wrong: Sequence[Diagnostic], said: Sequence[Diagnostic]) -> Condition:
    if wrong:
        return _condition(ACCEPTED, False, "Invalid", _list(wrong))
    warnings = [one for one in said if one.severity is Severity.WARNING and one.code != "conflict"]
    warnings += [one for one in said if one.code in _SAID_OTHERWISE and one.severity is Severity.ERROR]
    return _condition(ACCEPTED, True, "Accepted", f"with a warning: {_list(warnings)}" if warnings else "")


def _resolve(unresolved: Sequence[Diagnostic]) -> Condition:
    if not unresolved:
        return _condition(RESOLVED, True, "ResolvedRefs", "")
    return _condition(RESOLVED, False, _UNRESOLVED[unresolved[0].code], _list(unresolved))


def _conflict(conflicts: Sequence[Diagnostic]) -> Condition:
    if not conflicts:
        return _condition(CONFLICTED, False, "NoConflicts", "")
    return _condition(CONFLICTED, True, "Conflicted", _list(conflicts, fields=False))


def _program(invalid: bool, acting: Iterable[str], progress: Mapping[str, Progress]) -> Condition:
    """Programmed is what every bundle has that it acts in. How many pods were told is known, not how many took it up:
    a pod says so itself (``eastgate_bundle_behind``).
    """
    concerned = {namespace: progress[namespace] for namespace in acting if namespace in progress}
    if not concerned:
        message = "no namespace that it acts in is labelled `eastgate.dev/injection`"
        return _condition(PROGRAMMED, False, "NotInjected", message)
    for namespace, one in concerned.items():
        if one.trouble:
            kept = "" if one.digest is None else "; the bundle before it stays in force"
            return _condition(PROGRAMMED, False, "BundleNotWritten", f"namespace `{namespace}`: {one.trouble}{kept}")
    pending = [namespace for namespace, one in concerned.items() if one.digest is None]
    if pending:
        return _condition(PROGRAMMED, False, "Pending", f"the bundle of namespace `{pending[0]}` is not written yet")
    announced, pods = sum(one.announced for one in concerned.values()), sum(one.pods for one in concerned.values())
    told = f"announced to {announced} of {pods} pods"
    if invalid:
        return _condition(PROGRAMMED, False, "Invalid", f"requests that it could apply to are refused (503); {told}")
    return _condition(PROGRAMMED, True, "Programmed", told)


def _acts_in(policy: Policy | None, routes: Iterable[Route], namespace: str) -> tuple[str, ...]:
    """The namespaces in whose pods it decides, or routes: where its routes lead, and where its selectors look for pods
    that have no routes.
    """
    found = {one.namespace: None for route in routes for one in route.destinations if one.kind == "Service"}
    if policy is None:
        return tuple(sorted(found or {namespace: None}))
    found |= {one.namespace or namespace: None for one in policy.routes}
    found |= {one.namespace or namespace: None for one in policy.destinations}
    if policy.everything or policy.invalid or not found:
        found[namespace] = None
    return tuple(sorted(found))


def _list(findings: Sequence[Diagnostic], *, fields: bool = True) -> str:
    """The first few in the words of ``lint``, each once, and how many more."""
    texts = list(dict.fromkeys(_say(one, fields=fields) for one in findings))
    more = len(texts) - MOST_SHOWN
    return "; ".join(texts[:MOST_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _say(one: Diagnostic, *, fields: bool) -> str:
    """With the field, or with the entry of a route; the object itself is where the condition stands."""
    entry = one.subject.split(" ", 2)[2] if one.subject.count(" ") > 1 else ""
    where = (one.field or entry) if fields else ""
    text = f"{where}: {one.message}" if where else one.message
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
