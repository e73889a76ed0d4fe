"""Envoy Gateway and Gateway API objects to policies and routes.

Knows the SecurityPolicy as a whole: its targets, its ``jwt`` and ``authorization``, and which other sections protect
something and therefore cannot be passed over. Routes are read in ``gateway.routes``.
Must not know: precedence between policies, workloads, requests.
Rules: Envoy Gateway v1alpha1 ``SecurityPolicySpec``; an untranslatable policy fails closed (Envoy Gateway since 1.2).
"""

from __future__ import annotations

from functools import partial

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.envoy_gateway.authorization import read_authorization
from eastgate.dialects.envoy_gateway.jwks import read_key_source
from eastgate.dialects.envoy_gateway.jwt import read_requirement
from eastgate.dialects.envoy_gateway.targets import Targets, read_targets
from eastgate.dialects.gateway.backends import KeyServers
from eastgate.dialects.gateway.references import ENVOY_GROUP, open_spec
from eastgate.dialects.gateway.routes import read_routes
from eastgate.dialects.gateway.tls import check_targets
from eastgate.dialects.places import find_places
from eastgate.dialects.values import Fields, Reporter
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.policies import Authorization, Policy, Requirement
from eastgate.model.routes import Route

DIALECT = "envoy_gateway"

_PROTECTIONS = {
    "basicAuth": "HTTP Basic authentication",
    "apiKeyAuth": "API key authentication",
    "oidc": "OpenID Connect login",
    "extAuth": "external authorization",
    "csrf": "CSRF protection",
    "acl": "access control lists",
}
"""Sections that protect something we would not enforce. An ignored one would be an open door."""


def read(catalogue: Catalogue, sink: list[Diagnostic]) -> tuple[list[Policy], list[Route]]:
    """Every SecurityPolicy, and every rule of every HTTPRoute and GRPCRoute; what is wrong goes to ``sink``."""
    servers = KeyServers(catalogue, sink)
    policies = [
        catalogue.remember(policy, DIALECT, sink, partial(_read_policy, policy, catalogue, servers, sink))
        for policy in catalogue.of_kind(ENVOY_GROUP, "SecurityPolicy")
    ]
    check_targets(catalogue, sink)
    return policies, read_routes(catalogue, sink)


def _read_policy(policy: Object, catalogue: Catalogue, servers: KeyServers, sink: list[Diagnostic]) -> Policy:
    report = Reporter(sink, str(policy.title))
    with open_spec(policy, report, ("v1alpha1",)) as spec:
        targets = read_targets(spec, policy, catalogue, report)
        for name, what in _PROTECTIONS.items():
            spec.refuse(name, f"{what} is not enforced here, so the policy would protect less than it says; remove it")
        spec.refuse("mergeType", "policies are not merged here: the most specific one replaces the others as a whole")
        spec.note("cors", "no effect: CORS is not answered here, and a preflight request needs a token like any other")
        requirement, authorization = _read_sections(spec, policy, catalogue, servers, report)
        if requirement is None and authorization is None and not report.errors:
            report.warning(
                spec.value,
                "checks-nothing",
                "has neither `jwt` nor `authorization`: it lets every request pass where it applies, and replaces "
                "policies of the same routes' Gateways",
            )
    return _build_policy(policy, targets, requirement, authorization, tuple(report.errors))


def _read_sections(
    spec: Fields, policy: Object, catalogue: Catalogue, servers: KeyServers, report: Reporter
) -> tuple[Requirement | None, Authorization | None]:
    requirement, authorization = None, None
    jwt = spec.fields("jwt")
    if jwt is not None:
        with jwt:
            requirement = read_requirement(
                jwt, report, lambda provider: read_key_source(catalogue, servers, provider, policy, report)
            )
    section = spec.fields("authorization")
    if section is not None:
        names = tuple(provider.name for provider in requirement.providers) if requirement is not None else None
        with section:
            authorization = read_authorization(section, policy.title, names, report)
    return requirement, authorization


def _build_policy(
    policy: Object,
    targets: Targets,
    requirement: Requirement | None,
    authorization: Authorization | None,
    errors: tuple[str, ...],
) -> Policy:
    return Policy(
        name=policy.title,
        dialect=DIALECT,
        position=policy.document.position,
        requirement=requirement,
        authorization=authorization,
        # What the policy was meant for is not known: refuse wherever it could have applied.
        everything=targets.unreadable,
        targets=targets.references,
        created=policy.created,
        invalid=errors,
        places=find_places(policy),
    )
