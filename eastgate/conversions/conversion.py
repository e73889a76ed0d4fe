"""The whole way: texts in, objects of our own kinds out, and everything there is to say about it.

All or nothing: with one error nothing is converted, for half of a set of policies is another set of policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from eastgate.compile.selection import Selection, subject_of
from eastgate.compile.services import ServiceDirectory
from eastgate.conversions import gateway_routes, gloo, security_policies
from eastgate.conversions.drafts import Draft, Findings
from eastgate.conversions.proof import prove
from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.corpus import read_objects, read_policy_set
from eastgate.dialects.documents import read_documents
from eastgate.dialects.identity import read_identity
from eastgate.model.diagnostics import Diagnostic, Severity, has_errors
from eastgate.model.policies import Policy
from eastgate.model.routes import ObjectName, Order, Route
from eastgate.model.sets import PolicySet

CONVERTED = (*gloo.KINDS, *security_policies.KINDS, *gateway_routes.KINDS)


@dataclass(frozen=True, slots=True)
class Conversion:
    """``drafts`` are the new objects, none where there was an error; ``kept`` those that stay as they are."""

    drafts: tuple[Draft, ...]
    kept: tuple[Object, ...]
    diagnostics: tuple[Diagnostic, ...]


def convert(sources: Sequence[tuple[str, str]]) -> Conversion:
    """Convert every foreign policy and route of these (file, text) together."""
    before = read_policy_set(sources)
    if has_errors(before.diagnostics):
        return Conversion((), (), before.diagnostics)
    objects = list(_read_objects(sources))
    foreign = [found for found in objects if (found.group, found.kind) in CONVERTED]
    kept = [found for found in objects if (found.group, found.kind) not in CONVERTED]
    findings = Findings()
    catalogue = Catalogue(objects)
    grants = gloo.draft_grants(foreign, catalogue, findings)
    drafts = _draft_all(before, foreign, catalogue, findings)
    _check_names([*grants, *drafts], kept, findings)
    if not has_errors(findings.diagnostics):
        _prove_all(before, drafts, grants, kept, {found.title: found for found in objects}, findings)
    diagnostics = (*before.diagnostics, *dict.fromkeys(findings.diagnostics))
    # Grants first: without one a table is refused until it comes.
    return Conversion(() if has_errors(diagnostics) else (*grants, *drafts), tuple(kept), diagnostics)


def _read_objects(sources: Iterable[tuple[str, str]]) -> Iterator[Object]:
    for file, text in sources:
        for document in read_documents(file, text, []):
            found = read_identity(document, [])
            if found is not None:
                yield found


def _draft_all(before: PolicySet, foreign: list[Object], catalogue: Catalogue, findings: Findings) -> list[Draft]:
    policies = {policy.name: policy for policy in before.policies if policy.dialect == "envoy_gateway"}
    routes = [route for route in before.routes if route.order is Order.PRECEDENCE]
    holds = _find_holders(before, list(policies.values()), routes, foreign, findings)
    drafts = []
    # Tables are tried by age, and by reading where none is known: the oldest comes first.
    for found in sorted(foreign, key=lambda one: one.created if (one.group, one.kind) in gloo.KINDS else ""):
        if (found.group, found.kind) in gloo.KINDS:
            drafts.append(gloo.draft_object(found, findings))
        elif (found.group, found.kind) in security_policies.KINDS:
            policy = policies[found.title]
            namespaces = {route.namespace for route, holder in holds.items() if holder is policy}
            if not namespaces:
                message = "it holds on no route that was read, and so selects none; label an entry with " + (
                    f"`{security_policies.POLICY_LABEL}: {security_policies.label_of(policy)}`"
                )
                findings.warning(found, "spec", "selects-nothing", message)
            drafts.append(security_policies.draft_policy(found, policy, namespaces, catalogue, findings))
    gateway = [found for found in foreign if (found.group, found.kind) in gateway_routes.KINDS]
    return [*drafts, *gateway_routes.draft_tables(gateway, routes, holds, findings)]


def _find_holders(
    before: PolicySet, policies: list[Policy], routes: list[Route], foreign: list[Object], findings: Findings
) -> dict[Route, Policy | None]:
    """The SecurityPolicy that holds on each route."""
    selection = Selection(policies, ServiceDirectory(before.services))
    objects = {found.title: found for found in foreign}
    holds: dict[Route, Policy | None] = {}
    wide: dict[ObjectName, list[str]] = {}
    for route in routes:
        found = selection.select(subject_of(route)).policies
        holds[route] = found[0] if found else None
        if len(found) > 1:
            names = ", ".join(str(one.name) for one in found)
            message = (
                f"{names} hold at once, for requests come in two ways; of our own kind one policy holds on a route"
            )
            findings.error(objects[route.origin], f"spec.rules[{route.index}]", "not-sayable", message)
    for policy in policies:
        above = [str(one.target) for one in policy.targets if not one.target.kind.endswith("Route")]
        if above:
            wide[policy.name] = above
    for name, above in wide.items():
        message = (
            f"it is for all routes of {', '.join(above)}; converted it holds on those that were read, and a new one "
            "needs the label"
        )
        findings.warning(objects[name], "spec.targetRefs", "narrower", message)
    return holds


def _check_names(drafts: list[Draft], kept: list[Object], findings: Findings) -> None:
    taken = {found.title: found for found in kept}
    for draft in drafts:
        if not draft.document:
            continue
        other = taken.get(draft.title)
        if other is not None:
            message = f"{draft.title} is what it would become, and there is one already: {other.document.position}"
            findings.error(draft.sources[0], "metadata.name", "name-twice", message)
        taken[draft.title] = draft.sources[0]


def _prove_all(
    before: PolicySet,
    drafts: list[Draft],
    grants: list[Draft],
    kept: list[Object],
    found_by: dict[ObjectName, Object],
    findings: Findings,
) -> None:
    """Read the result, among all that stays, and compare."""
    made = {draft.title: draft.sources[0] for draft in drafts}
    named = [(str(draft.title), draft.document) for draft in (*grants, *drafts)]
    named += [(str(found.title), found.document.plain()) for found in kept]
    after = read_objects(named)
    for one in after.diagnostics:
        if one.severity is Severity.ERROR:
            source = next((found for title, found in made.items() if str(title) == one.subject), None)
            if source is None and not made:
                continue
            message = f"converted it is refused: {one.field}: {one.message}"
            findings.error(source or next(iter(made.values())), "", "not-the-same", message)
    if not has_errors(findings.diagnostics):
        prove(before, after, drafts, found_by, findings)
