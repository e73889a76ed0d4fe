"""The ``authorization`` section of a SecurityPolicy: ordered rules over the verified claims and the request.

Knows every field of a rule, with the CEL messages of the CRD, and that a rule may only name a provider of its own
policy (Envoy Gateway accepts any name and then never matches). Must not know: how a rule is evaluated.
Rules: Envoy Gateway v1alpha1 ``Authorization``; its translation to Envoy's RBAC matchers
(``internal/xds/translator/authorization.go``) for the form of paths.
"""

from __future__ import annotations

import ipaddress

from eastgate.dialects.gateway.references import LONGEST_NAME
from eastgate.dialects.gateway.values import check_method, check_regex, read_header_name, read_text_items
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.diagnostics import suggest_name
from eastgate.model.policies import Authorization, ClaimCondition, ClaimType, Rule, RuleAction, TokenCondition
from eastgate.model.routes import Comparison, ObjectName, StringMatch

MOST_METHODS = 16
MOST_CONDITIONS = 16
MOST_CLAIM_VALUES = 128
MOST_HEADERS = 256
LONGEST_PATH = 1024
"""All from the CRD."""

_ACTIONS = {"Allow": RuleAction.ALLOW, "Deny": RuleAction.DENY}
_CLAIM_TYPES = {"String": ClaimType.STRING, "StringArray": ClaimType.LIST}
_NO_PRINCIPAL_OR_CEL = "at least one of principal or cel must be specified"
_EMPTY_PRINCIPAL = "at least one of clientCIDRs, jwt, headers, clientIPGeoLocations, or clientCert must be specified"
_NO_JWT = "if authorization.rules.principal.jwt is used, jwt must be defined"


def read_authorization(
    fields: Fields, policy: ObjectName, providers: tuple[str, ...] | None, report: Reporter
) -> Authorization:
    """The rules. ``providers`` are the names in ``spec.jwt``, None where the policy has no such section."""
    default = _ACTIONS[fields.choice("defaultAction", _ACTIONS, "Deny")]
    rules = []
    for index, item in enumerate(fields.items("rules")):
        generated = f"securitypolicy/{policy.namespace}/{policy.name}/authorization/rule/{index}"
        rules.append(_read_rule(item, generated, providers, report))
    return Authorization(tuple(rules), default)


def _read_rule(item: Value, generated: str, providers: tuple[str, ...] | None, report: Reporter) -> Rule:
    # A rule that could not be read whole makes the policy invalid, so what is left of it never decides anything.
    token: TokenCondition | None = None
    addresses: tuple[str, ...] = ()
    header_values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[StringMatch, ...] = ()
    inverted = False
    with Fields(item, report) as rule:
        name = rule.text("name", longest=LONGEST_NAME) or generated
        if not rule.has("action"):
            report.error(rule.at("action"), "missing-field", "`action` is required; accepted: Allow, Deny")
        action = _ACTIONS[rule.choice("action", _ACTIONS, "Deny")]
        operation = rule.fields("operation")
        if operation is not None:
            with operation:
                methods = _read_methods(operation, report)
                paths, inverted = _read_path(operation, report)
                if not operation.has("methods") and not operation.has("path"):
                    report.error(operation.value, "missing-field", "at least one of methods or path must be specified")
        has_cel = rule.refuse("cel", "CEL expressions are not evaluated here; accepted: `principal`, `operation`")
        principal = rule.fields("principal")
        if principal is None and not has_cel:
            report.error(item, "missing-field", _NO_PRINCIPAL_OR_CEL)
        if principal is not None:
            with principal:
                token = _read_token_condition(principal, providers, report)
                addresses = _read_addresses(principal, report)
                header_values = _read_headers(principal, report)
                refused = [
                    principal.refuse(
                        "clientIPGeoLocations", "there is no geographic database here to look addresses up"
                    ),
                    principal.refuse(
                        "clientCert", "client certificates are not seen here: TLS ends before the sidecar"
                    ),
                ]
                if not any(refused) and not any(map(principal.has, ("clientCIDRs", "jwt", "headers"))):
                    report.error(principal.value, "missing-field", _EMPTY_PRINCIPAL)
    return Rule(
        name=name,
        action=action,
        token=token,
        methods=methods,
        paths=() if inverted else paths,
        inverted_paths=paths if inverted else (),
        header_values=header_values,
        addresses=addresses,
    )


def _read_methods(operation: Fields, report: Reporter) -> tuple[str, ...]:
    methods = read_text_items(operation, "methods", most=MOST_METHODS, least=1)
    return tuple(method for item, method in methods if check_method(method, item, report))


def _read_path(operation: Fields, report: Reporter) -> tuple[tuple[StringMatch, ...], bool]:
    """The alternatives, and whether they are inverted."""
    path = operation.fields("path")
    if path is None:
        return (), False
    with path:
        kind = path.choice("type", ("Exact", "PathPrefix", "RegularExpression"), "PathPrefix")
        value = path.text("value", required=True, longest=LONGEST_PATH)
        inverted = path.boolean("invert")
    if value is None:
        return (), inverted
    at = path.at("value")
    if kind == "RegularExpression":
        if not check_regex(value, at, report):
            return (), inverted
        if r"\?" in value or "[?]" in value:
            report.warning(
                at,
                "can-never-match",
                "the query is not part of what is compared here, so a literal `?` in the expression never matches",
            )
        return (StringMatch(Comparison.REGEX, value),), inverted
    if not value.startswith("/"):
        report.error(at, "bad-path", f"{show(value)} is not an absolute path; accepted: one with `/` first")
        return (), inverted
    # As Envoy Gateway writes them for Envoy: parameters after the path (``;v=1``) do not hide it from a rule.
    if kind == "Exact":
        return (StringMatch(Comparison.EXACT, value), StringMatch(Comparison.PREFIX, f"{value};")), inverted
    prefix = value.removesuffix("/")
    if not prefix:
        return (StringMatch(Comparison.SEGMENTS, "/"),), inverted
    return (StringMatch(Comparison.SEGMENTS, prefix), StringMatch(Comparison.PREFIX, f"{prefix};")), inverted


def _read_addresses(principal: Fields, report: Reporter) -> tuple[str, ...]:
    found = []
    for item, text in read_text_items(principal, "clientCIDRs", least=1):
        try:
            if "/" not in text:
                raise ValueError(text)
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            report.error(
                item,
                "bad-address",
                f"{show(text)} is not a range of addresses; accepted: a CIDR, like `10.0.0.0/8`, `2001:db8::/64`",
            )
    if found:
        report.warning(
            principal.at("clientCIDRs"),
            "peer-address",
            "compared with the address that connects to the pod, which is a gateway's where one stands in between",
        )
    return tuple(found)


def _read_headers(principal: Fields, report: Reporter) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for item in principal.items("headers", least=1, most=MOST_HEADERS):
        with Fields(item, report) as header:
            name = read_header_name(header)
            values = header.texts("values", least=1, most=MOST_HEADERS)
            if not header.has("values"):
                report.error(header.at("values"), "missing-field", "`values` is required and must not be empty")
            if name is not None:
                found.append((name, values))
    return tuple(found)


def _read_token_condition(
    principal: Fields, providers: tuple[str, ...] | None, report: Reporter
) -> TokenCondition | None:
    jwt = principal.fields("jwt")
    if jwt is None:
        return None
    if providers is None:
        report.error(jwt.value, "missing-field", _NO_JWT)
    with jwt:
        provider = jwt.text("provider", required=True, longest=LONGEST_NAME)
        if provider is not None and providers is not None and provider not in providers:
            report.error(
                jwt.at("provider"),
                "not-there",
                f"refers to what is not there: provider {show(provider)}{suggest_name(provider, providers)}; "
                f"accepted: a provider of this policy: {', '.join(f'`{name}`' for name in providers) or 'it has none'}",
            )
        claims = tuple(
            claim
            for claim in (_read_claim(item, report) for item in jwt.items("claims", least=1, most=MOST_CONDITIONS))
            if claim is not None
        )
        scopes = read_text_items(jwt, "scopes", least=1, most=MOST_CONDITIONS)
        for scope_item, scope in scopes:
            if not scope or len(scope) > LONGEST_NAME or any(character.isspace() for character in scope):
                report.error(
                    scope_item,
                    "can-never-match",
                    f"{show(scope)} can never match: a scope is one word (RFC 6749 section 3.3), at most "
                    f"{LONGEST_NAME} characters here; write several as a list",
                )
        if not jwt.has("claims") and not jwt.has("scopes"):
            report.error(jwt.value, "missing-field", "at least one of claims or scopes must be specified")
    return TokenCondition(provider, claims, tuple(scope for _, scope in scopes))


def _read_claim(item: Value, report: Reporter) -> ClaimCondition | None:
    with Fields(item, report) as claim:
        name = claim.text("name", required=True, longest=LONGEST_NAME)
        kind = _CLAIM_TYPES[claim.choice("valueType", _CLAIM_TYPES, "String")]
        values = claim.texts("values", least=1, most=MOST_CLAIM_VALUES)
        if not claim.has("values"):
            report.error(claim.at("values"), "missing-field", "`values` is required and must not be empty")
    if name is None:
        return None
    return ClaimCondition(name, tuple(name.split(".")), kind, values)
