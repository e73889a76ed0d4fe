"""What a SecurityPolicy applies to: ``targetRef``, ``targetRefs``, ``targetSelectors``, resolved against what was read.

Knows which kinds can be targeted and what their sections are. Must not know: precedence and conflicts between policies
of one target; those are the compiler's.
Rules: Envoy Gateway v1alpha1 ``PolicyTargetReferences`` with its CEL messages; Gateway API policy attachment (GEP-713).
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.gateway.references import (
    CORE_GROUP,
    ENVOY_GROUP,
    GATEWAY_GROUP,
    LONGEST_NAME,
    is_granted,
    say_missing,
)
from eastgate.dialects.gateway.values import LabelSelector, read_label_selector
from eastgate.dialects.values import Fields, Reporter, Value, list_names, show
from eastgate.model.policies import TargetReference
from eastgate.model.routes import ObjectName

TARGET_KINDS = ("Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute")
_ALL_KINDS = "Gateway/ListenerSet/HTTPRoute/GRPCRoute/TCPRoute"
_EITHER = "either targetRef or targetRefs must be used"
DEPRECATED = "spec.targetRef is deprecated, use spec.targetRefs instead"


@dataclass(frozen=True, slots=True)
class Targets:
    """``unreadable``: there was more than could be read, so the policy may be meant for anything."""

    references: tuple[TargetReference, ...] = ()
    unreadable: bool = False


def read_targets(spec: Fields, policy: Object, catalogue: Catalogue, report: Reporter) -> Targets:
    """Every target, also those that are not there."""
    references: list[TargetReference] = []
    unreadable = False
    single = spec.take("targetRef")
    several = spec.items("targetRefs", most=16)
    selectors = spec.items("targetSelectors")
    if single is not None:
        report.warning(single, "deprecated-field", DEPRECATED)
    if single is not None and spec.has("targetRefs"):
        report.error(spec.at("targetRefs"), "conflict", _EITHER)
    elif single is None and not several and not selectors:
        report.error(spec.at("targetRefs"), "missing-field", _EITHER)
        unreadable = True
    for item in ([single] if single is not None else []) + list(several):
        field = "targetRef" if item is single else "targetRefs[*]"
        reference = _read_reference(item, field, policy, catalogue, report)
        if reference is None:
            unreadable = True
        elif reference not in references:
            references.append(reference)
    for item in selectors:
        selected = _read_selector(item, policy, catalogue, report)
        if selected is None:
            unreadable = True
        else:
            references.extend(one for one in selected if one not in references)
    wrong = any(
        spec.has(name) and not isinstance(spec.at(name).data, list) for name in ("targetRefs", "targetSelectors")
    )
    return Targets(tuple(references), unreadable or wrong)


def _check_kind(group: str | None, kind: str, entry: Fields, field: str, report: Reporter) -> bool:
    """False when what is meant cannot be known. A TCPRoute is known, and refused."""
    if group is not None and group != GATEWAY_GROUP:
        message = f"this policy can only have a {field}.group of {GATEWAY_GROUP}"
        report.error(entry.at("group"), "unknown-value", f"{message}, found {show(group)}")
        return False
    if kind == "TCPRoute":
        report.error(
            entry.at("kind"),
            "unsupported-value",
            f"`TCPRoute` is not supported: policies hold for HTTP requests; accepted: {', '.join(TARGET_KINDS)}",
        )
    elif kind not in TARGET_KINDS:
        message = f"this policy can only have a {field}.kind of {_ALL_KINDS}"
        report.error(
            entry.at("kind"), "unknown-value", f"{message}, found {show(kind)}{report.suggest(kind, TARGET_KINDS)}"
        )
        return False
    return True


def _read_reference(
    item: Value, field: str, policy: Object, catalogue: Catalogue, report: Reporter
) -> TargetReference | None:
    with Fields(item, report) as entry:
        group = entry.text("group", required=True)
        kind = entry.text("kind", required=True)
        name = entry.text("name", required=True, longest=LONGEST_NAME)
        section = entry.text("sectionName", longest=LONGEST_NAME) or None
        namespace = entry.text("namespace") or policy.namespace
        readable = kind is not None and _check_kind(group, kind, entry, field, report)
        if namespace != policy.namespace:
            report.error(
                entry.at("namespace"),
                "unsupported-value",
                f"a target must be in the policy's own namespace `{policy.namespace}`, found {show(namespace)}",
            )
            readable = False
    if group is None or kind is None or name is None or not readable:
        return None
    reference = TargetReference(ObjectName(kind, policy.namespace, name), section)
    if kind == "TCPRoute":
        return reference
    found = catalogue.find(GATEWAY_GROUP, kind, policy.namespace, name)
    if found is None:
        say_missing(catalogue, entry.at("name"), report, GATEWAY_GROUP, kind, policy.namespace, name)
    elif section is not None:
        known = section_names(found)
        if section not in known:
            report.error(
                entry.at("sectionName"),
                "not-there",
                f"No section name {show(section)[1:-1]} found for {kind} {policy.namespace}/{name}"
                f"{report.suggest(section, known)}; "
                f"its sections: {list_names(known) if known else 'none has a name'}",
            )
            # Which one was meant is not known: the broken policy refuses on all of them.
            return TargetReference(reference.target)
    return reference


def section_names(found: Object) -> tuple[str, ...]:
    """The names of a route's rules, or of a Gateway's or ListenerSet's listeners."""
    key = "rules" if found.kind.endswith("Route") else "listeners"
    entries = found.document.get("spec", key)
    names = [entry.get("name") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return tuple(name for name in names if isinstance(name, str) and name)


def _read_selector(item: Value, policy: Object, catalogue: Catalogue, report: Reporter) -> list[TargetReference] | None:
    before = len(report.errors)
    with Fields(item, report) as entry:
        group = entry.text("group")
        if group is not None and group != GATEWAY_GROUP:
            report.error(entry.at("group"), "unknown-value", f"group must be {GATEWAY_GROUP}, found {show(group)}")
        kind = entry.text("kind", required=True)
        if kind is not None:
            _check_kind(None, kind, entry, "targetSelectors[*]", report)
        selector = read_label_selector(entry)
        scope, namespaces = "Same", LabelSelector()
        where = entry.fields("namespaces")
        if where is not None:
            with where:
                scope = where.choice("from", ("Same", "All", "Selector"), "Same")
                nested = where.fields("selector")
                if (nested is not None) != (scope == "Selector"):
                    report.error(
                        where.value, "conflict", "`selector` must be set if, and only if, `from` is `Selector`"
                    )
                if nested is not None:
                    with nested:
                        namespaces = read_label_selector(nested)
    if len(report.errors) > before or kind is None:
        return None
    selected = []
    for found in catalogue.of_kind(GATEWAY_GROUP, kind):
        if not _in_scope(found, scope, namespaces, policy, catalogue) or not selector.selects(dict(found.labels)):
            continue
        source = (ENVOY_GROUP, "SecurityPolicy", policy.namespace)
        if is_granted(catalogue, source, GATEWAY_GROUP, kind, found.namespace, found.name):
            selected.append(TargetReference(found.title))
        else:
            report.warning(
                item,
                "not-granted",
                f"{found.title} matches but is not selected: no ReferenceGrant in namespace `{found.namespace}` "
                f"permits it from {ENVOY_GROUP} SecurityPolicy in `{policy.namespace}`",
            )
    if not selected:
        report.warning(item, "selects-nothing", f"selects nothing: no {kind} that was read has these labels")
    return selected


def _in_scope(found: Object, scope: str, namespaces: LabelSelector, policy: Object, catalogue: Catalogue) -> bool:
    if scope != "Selector":
        return scope == "All" or found.namespace == policy.namespace
    # Kubernetes itself sets this label on every namespace, so it is known without the object.
    labels = {"kubernetes.io/metadata.name": found.namespace}
    for namespace in catalogue.of_kind(CORE_GROUP, "Namespace"):
        if namespace.name == found.namespace:
            labels.update(namespace.labels)
    return namespaces.selects(labels)
