"""Where conditions stand in an object's status, and whether they say anything new. Pure: the time is an argument.

Knows: ``status.conditions`` (own kinds, Gloo's), ``status.ancestors`` (Gateway API policies) and ``status.parents``
(its routes), each entry of which belongs to one controller. What others say stays: their types, ancestors, parents.
Must not know: what a condition means, or how it is written. Rules: metav1.Condition; Gateway API ``PolicyStatus`` and
``RouteStatus`` (GEP-713).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from eastgate.dialects.kinds import ENVOY_GROUP, GATEWAY_GROUP

CONTROLLER: Final = "eastgate.dev/controller"
MAX_MESSAGE: Final = 32768
"""metav1.Condition's own bound."""
MAX_ENTRIES: Final = {"ancestors": 16, "parents": 32}
"""Gateway API's bounds. Where others have filled the list there is no room for us, and nothing is said."""

type Data = dict[str, Any]

_PLACES: Final = {
    (ENVOY_GROUP, "SecurityPolicy"): ("ancestors", "ancestorRef"),
    (GATEWAY_GROUP, "HTTPRoute"): ("parents", "parentRef"),
    (GATEWAY_GROUP, "GRPCRoute"): ("parents", "parentRef"),
}
_REFERENCE_FIELDS: Final = ("group", "kind", "namespace", "name", "sectionName", "port")


def render_status(
    group: str, kind: str, found: Mapping[str, Any], said: Sequence[Mapping[str, Any]], now: str
) -> Data | None:
    """The part of the status to be written so that it says ``said``; None when it does already.

    ``said`` are conditions without times. A condition keeps its time until its status changes.
    """
    status = found.get("status")
    status = status if isinstance(status, dict) else {}
    place = _PLACES.get((group, kind))
    if place is None:
        conditions = _merge(_list_of(status, "conditions"), said, now)
        return None if conditions == status.get("conditions") else {"conditions": conditions}
    field, reference = place
    entries = _list_of(status, field)
    ours = [one for one in entries if one.get("controllerName") == CONTROLLER]
    others = [one for one in entries if one.get("controllerName") != CONTROLLER]
    before = {_identity(one.get(reference)): _list_of(one, "conditions") for one in ours}
    targets = _targets(found)[: max(0, MAX_ENTRIES[field] - len(others))]
    wanted = [
        {
            reference: target,
            "controllerName": CONTROLLER,
            "conditions": _merge(before.get(_identity(target), []), said, now),
        }
        for target in targets
    ]
    return None if wanted == ours else {field: [*others, *wanted]}


def _merge(before: Sequence[Data], said: Sequence[Mapping[str, Any]], now: str) -> list[Data]:
    known = {one.get("type"): one for one in before}
    ours = {str(one["type"]) for one in said}
    merged = [one for one in before if one.get("type") not in ours]
    for one in said:
        old = known.get(one["type"], {})
        same = old.get("status") == one["status"]
        condition = {
            "type": one["type"],
            "status": one["status"],
            "reason": one["reason"],
            "message": str(one["message"])[:MAX_MESSAGE],
            "lastTransitionTime": old.get("lastTransitionTime", now) if same else now,
        }
        if one.get("observedGeneration"):
            condition["observedGeneration"] = one["observedGeneration"]
        merged.append(condition)
    order = {one.get("type"): position for position, one in enumerate(before)}
    return sorted(merged, key=lambda one: order.get(one.get("type"), len(order)))


def _targets(found: Mapping[str, Any]) -> list[Data]:
    """What the object attaches to, as it says itself."""
    spec = found.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    single = spec.get("targetRef")
    listed = [
        *([single] if isinstance(single, dict) else []),
        *_list_of(spec, "targetRefs"),
        *_list_of(spec, "parentRefs"),
    ]
    targets: list[Data] = []
    for one in listed:
        target = {field: one[field] for field in _REFERENCE_FIELDS if one.get(field) is not None}
        if target.get("name") and target not in targets:
            targets.append(target)
    if listed or not spec.get("targetSelectors"):
        return targets
    # Policies that select their targets by labels have no name to give but their own.
    return [{"group": ENVOY_GROUP, "kind": str(found.get("kind")), "name": found["metadata"]["name"]}]


def _identity(reference: object) -> tuple[str, ...]:
    fields = reference if isinstance(reference, dict) else {}
    return tuple(str(fields.get(field) or "") for field in _REFERENCE_FIELDS)


def _list_of(value: Mapping[str, Any], field: str) -> list[Data]:
    found = value.get(field)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
