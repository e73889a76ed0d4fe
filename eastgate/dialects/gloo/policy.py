"""JWTPolicy, Gloo's and our own: who may call, in ``spec.config``.

Knows: how the blocks of a policy fit together. Providers, claims, selectors and our rules have modules of their own.
A policy with an error keeps what could be read and says in ``invalid`` why it cannot be enforced.
Rules: Gloo ``security.policy.gloo.solo.io/v2`` JWTPolicy (2.14).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from eastgate.dialects.catalogue import Object
from eastgate.dialects.documents import Fields, show
from eastgate.dialects.eastgate.rules import read_authorization
from eastgate.dialects.gloo.claims import read_claims, read_scopes
from eastgate.dialects.gloo.dialect import Scope, open_spec
from eastgate.dialects.gloo.providers import read_provider
from eastgate.dialects.gloo.selection import read_selection
from eastgate.dialects.places import find_places
from eastgate.model.policies import (
    Authorization,
    Phase,
    Policy,
    Provider,
    Requirement,
    Rule,
    RuleAction,
    TokenCondition,
)

KIND = "JWTPolicy"

VALIDATION_POLICIES = ("REQUIRE_VALID", "ALLOW_MISSING", "ALLOW_MISSING_OR_FAILED")


def read_policies(scope: Scope) -> Iterator[Policy]:
    """Every JWTPolicy of the dialect."""
    for found in scope.catalogue.of_kind(scope.dialect.policy_group, KIND):
        yield scope.catalogue.remember(found, scope.dialect.name, scope.sink, partial(_read_policy, found, scope))


def _read_policy(found: Object, scope: Scope) -> Policy:
    report = scope.report_on(found)
    with open_spec(found, report) as spec:
        selection = read_selection(spec, found.namespace, own=scope.dialect.own)
        with spec.mapping("config") as config:
            providers = _read_providers(config, scope, found)
            requirement = _read_requirement(config, providers, own=scope.dialect.own)
            authorization = _read_authorization(config, providers, own=scope.dialect.own)
            phase, priority = _read_phase(config, authorized=authorization is not None)
            _note_route_cache(config)
    if requirement.missing_allowed and authorization is not None and _needs_token(authorization):
        report.warning(
            config.value, "missing-denied", "a request without a token is let in, then denied by the authorization"
        )
    return Policy(
        name=found.title,
        dialect=scope.dialect.name,
        position=found.document.position,
        requirement=requirement,
        authorization=authorization,
        everything=selection.everything,
        routes=selection.routes,
        destinations=selection.destinations,
        phase=phase,
        priority=priority,
        created=found.created,
        invalid=tuple(report.errors),
        places=find_places(found),
    )


def _read_providers(config: Fields, scope: Scope, found: Object) -> tuple[Provider, ...]:
    providers = []
    for name, value in config.entries("providers"):
        if not name:
            config.report.error(value, "bad-name", "a provider's name must not be empty")
        providers.append(read_provider(name, value, scope, found, config))
    if not providers and not config.report.errors:
        config.report.error(config.at("providers"), "missing-field", "at least one provider is required in `providers`")
    return tuple(providers)


def _read_requirement(config: Fields, providers: tuple[Provider, ...], *, own: bool) -> Requirement:
    validation = config.choice("validationPolicy", VALIDATION_POLICIES, "REQUIRE_VALID")
    if own:
        if config.has("validationPolicy") and (config.has("missing") or config.has("failed")):
            message = "set either `validationPolicy` or `missing` and `failed`"
            config.report.error(config.at("validationPolicy"), "exclusive-fields", message)
        every_token = config.choice("tokens", ("All", "Any"), "All") == "All"
        missing = config.choice("missing", ("Allow", "Deny"), "Deny") == "Allow"
        failed = config.choice("failed", ("Allow", "Deny"), "Deny") == "Allow"
    else:
        missing = failed = False
        every_token = True
        if config.has("allowMissingOrFailed"):
            config.report.warning(
                config.at("allowMissingOrFailed"),
                "deprecated-field",
                "deprecated; write `validationPolicy: ALLOW_MISSING_OR_FAILED`",
            )
            if config.boolean("allowMissingOrFailed") and validation == "REQUIRE_VALID":
                validation = "ALLOW_MISSING_OR_FAILED"
    return Requirement(
        providers=providers,
        missing_allowed=missing or validation != "REQUIRE_VALID",
        failed_allowed=failed or validation == "ALLOW_MISSING_OR_FAILED",
        every_token=every_token,
    )


def _read_authorization(config: Fields, providers: tuple[Provider, ...], *, own: bool) -> Authorization | None:
    claims = read_claims(config, "claims", own=own)
    scopes = read_scopes(config, "requiredScopes")
    if own and config.has("authorization"):
        if claims or scopes:
            message = "set either `authorization` or `claims` and `requiredScopes`: rules hold both"
            config.report.error(config.at("authorization"), "exclusive-fields", message)
        with config.mapping("authorization") as authorization:
            return read_authorization(authorization, providers)
    # What could not be read must not turn into "no condition": the policy is invalid then, and still says Deny.
    for name in ("claims", "requiredScopes"):
        value = config.take(name)
        if value is not None and value.data == []:
            config.report.warning(value, "demands-nothing", f"an empty `{name}` demands nothing of a token")
    if not _is_written(config, "claims") and not _is_written(config, "requiredScopes"):
        return None
    condition = TokenCondition(claims=claims, scopes=scopes)
    return Authorization((Rule("claims", RuleAction.ALLOW, condition),), RuleAction.DENY)


def _is_written(config: Fields, name: str) -> bool:
    value = config.take(name)
    return value is not None and value.data != []


def _needs_token(authorization: Authorization) -> bool:
    """True when nothing passes without a token."""
    passing = [rule for rule in authorization.rules if rule.action is RuleAction.ALLOW]
    return authorization.default is RuleAction.DENY and all(rule.token is not None for rule in passing)


def _read_phase(config: Fields, *, authorized: bool) -> tuple[Phase, int]:
    with config.mapping("phase") as phase:
        chosen = phase.choose("preAuthz", "postAuthz")
        if chosen is None:
            return Phase.PRE, 0
        with phase.mapping(chosen) as inner:
            priority = inner.integer("priority", least=-(2**31), most=2**31 - 1)
    if chosen == Phase.POST and authorized:
        phase.report.error(
            phase.at(chosen),
            "bad-phase",
            "a policy with claims, scopes or rules authorizes and cannot run in `postAuthz`; accepted: preAuthz",
        )
    return Phase(chosen), priority or 0


def _note_route_cache(config: Fields) -> None:
    """``TRUE`` without quotes is a boolean in YAML; Gloo's own examples write it so."""
    value = config.take("clearRouteCache")
    if value is None:
        return
    written = str(value.data).upper() if isinstance(value.data, bool) else value.data
    if written not in ("AUTO", "TRUE", "FALSE"):
        config.report.error(value, "unknown-value", f"unknown value {show(value.plain())}; accepted: AUTO, TRUE, FALSE")
    elif written == "TRUE":
        config.report.warning(
            value, "no-effect", "no effect: a request is not routed anew after its claims were put into headers"
        )
