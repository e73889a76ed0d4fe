"""``/validate``: a policy or route is read by the readers of ``eastgate lint`` before the API server stores it.

One object is looked at by itself and nothing is looked up. So what it refers to may be missing here and be there in
the cluster, or come a moment later: such findings are warnings, and a condition on the object tells what came of it.
What can never work, whatever else there is, is refused.

What must never be refused: a delete; an object that is being deleted (its finalizers have to go); an update that
leaves everything but ``metadata`` and ``status`` as it was. And an update is refused only for faults that are *new*:
after an upgrade to stricter readers an object that was accepted once must stay one that people and controllers can
edit, also piece by piece. Kubernetes does the same for its own schemas (KEP-4008, validation ratcheting). Nothing is
opened by that: an object with a fault compiles to a refusal.

Knows: which findings depend on other objects. Must not know: any kind, or how it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from eastgate.compile.review import review as review_set
from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.kinds import is_read
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.sets import PolicySet
from webhook.admissions.pod_reviews import read_object
from webhook.admissions.review import CREATE, UPDATE, Review, Verdict, allow, refuse

PENDING: Final = frozenset({"not-there", "not-granted"})
"""Codes of findings about a reference: whether it leads somewhere depends on what else is in the cluster."""

FOLLOWING: Final = frozenset({"no-keys", "no-provider", "bad-key"})
"""Codes that follow from a reference that leads nowhere; by themselves they are faults."""

ALONE: Final = frozenset({"selects-nothing", "no-policy", "no-hosts", "foreign-route"})
"""Codes that say nothing about an object which was read alone: it selects, or is selected by, others."""

OWN_REFERENCES: Final = (".provider",)
"""Fields that refer to a part of the same object: whether that is there is known."""

MAX_FAULTS: Final = 25
"""Faults in one message. Whoever has more begins at the top."""

_MISSING: Final = "refers to what is not there: "
_UNCOUNTED: Final = frozenset({"metadata", "status", "apiVersion", "kind"})
_FILE: Final = "object.json"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Findings:
    """About one object: what could never work, and what its author should know. Places are fields, not lines."""

    faults: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge_object(review: Review) -> Verdict:
    """The verdict on an object of any kind. Raises ``NotAReviewError`` for what is no object."""
    if review.operation not in (CREATE, UPDATE) or review.subResource:
        return allow("nothing-to-check", outcome="skipped")
    if not is_read(review.kind.group, review.kind.kind) or not review.kind.group:
        return allow("unknown-kind", outcome="skipped")
    found = _mapping(read_object(review.object))
    if review.operation == CREATE:
        return _say(check_object(found, review.namespace))
    before = _mapping(read_object(review.oldObject))
    if _mapping(found.get("metadata")).get("deletionTimestamp"):
        return allow("being-deleted", outcome="skipped")
    if _content(found) == _content(before):
        return allow("unchanged", outcome="skipped")
    findings = check_object(found, review.namespace)
    if not findings.faults:
        return _say(findings)
    known = frozenset(check_object(before, review.namespace).faults)
    old = tuple(f"not new, so not refused: {fault}" for fault in findings.faults if fault in known)
    new = tuple(fault for fault in findings.faults if fault not in known)
    return _say(Findings(new, (*old, *findings.warnings)), ratcheted=bool(old))


def check_object(found: Mapping[str, Any], namespace: str) -> Findings:
    """Read one object as ``eastgate lint`` would, in the namespace it is being written to."""
    text = _encode(_identify(found, namespace)).decode()
    policy_set = read_policy_set([(_FILE, text)])
    pending = [one for one in policy_set.diagnostics if _is_pending(one)]
    # A policy that only waits for others is reviewed like any other: what is wrong with the rest of it counts.
    reviewed = review_set(_without(policy_set, pending))
    faults: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for one in (*policy_set.diagnostics, *reviewed):
        if one.code in ALONE:
            continue
        if _is_pending(one) or _follows(one, pending):
            # A route whose Service or Gateway was not read is merely less exact: no word to its author.
            if one.severity is Severity.ERROR and one.code in PENDING:
                warnings[_say_pending(one)] = None
        elif one.severity is Severity.ERROR:
            faults[_say_finding(one)] = None
        else:
            warnings[_say_finding(one)] = None
    return Findings(tuple(faults), tuple(warnings))


def _is_pending(one: Diagnostic) -> bool:
    return one.code in PENDING and not one.field.endswith(OWN_REFERENCES)


def _follows(one: Diagnostic, pending: Iterable[Diagnostic]) -> bool:
    """Whether a finding is about what a pending reference would have brought."""
    return one.code in FOLLOWING and any(other.field.startswith(one.field) for other in pending)


def _without(policy_set: PolicySet, pending: Iterable[Diagnostic]) -> PolicySet:
    said = {f"{one.field}: {one.message}" if one.field else one.message for one in pending}
    if not said:
        return policy_set
    policies = tuple(
        replace(one, invalid=tuple(reason for reason in one.invalid if reason not in said))
        for one in policy_set.policies
    )
    routes = tuple(
        replace(one, invalid=tuple(reason for reason in one.invalid if reason not in said)) for one in policy_set.routes
    )
    return replace(policy_set, policies=policies, routes=routes)


def _say_finding(one: Diagnostic) -> str:
    # What was found about a route as a whole has no field: its name tells which of them.
    where = one.field or one.subject
    line = f"{where}: {one.message}" if where else one.message
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _say_pending(one: Diagnostic) -> str:
    if one.message.startswith(_MISSING):
        what = one.message.removeprefix(_MISSING)
        return f"{one.field} refers to {what}: not looked up here, see the condition ResolvedRefs"
    return f"{_say_finding(one)} (not looked up here, see the condition ResolvedRefs)"


def _say(findings: Findings, *, ratcheted: bool = False) -> Verdict:
    if findings.faults:
        shown = findings.faults[:MAX_FAULTS]
        if len(findings.faults) > MAX_FAULTS:
            shown = (*shown, f"and {len(findings.faults) - MAX_FAULTS} more; `eastgate lint` shows all of them")
        return refuse("invalid", shown, warnings=findings.warnings)
    return allow("no-worse-than-before" if ratcheted else "fine", warnings=findings.warnings)


def _identify(found: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """The object with the name and namespace it will have; who wrote which field is of no interest."""
    metadata = {key: value for key, value in _mapping(found.get("metadata")).items() if key != "managedFields"}
    if namespace:
        metadata["namespace"] = namespace
    prefix = metadata.get("generateName")
    if not metadata.get("name") and isinstance(prefix, str) and prefix:
        metadata["name"] = f"{prefix[:248]}xxxxx"
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}


def _content(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is checked of an object. ``apiVersion`` changes when the API server converts; it is no change of content."""
    return {key: value for key, value in found.items() if key not in _UNCOUNTED}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
