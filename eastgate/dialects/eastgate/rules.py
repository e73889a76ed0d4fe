"""Ordered rules, which only our own JWTPolicy has: ``config.authorization``.

The first rule that matches decides; where none does, ``defaultAction``. Everything set in a rule must hold. The words
are Envoy Gateway's (``defaultAction``, ``action: Allow | Deny``), the conditions are the model's.
"""

from __future__ import annotations

import ipaddress

from eastgate.dialects.documents import Fields, Value, show
from eastgate.dialects.gloo.claims import read_claims, read_scopes
from eastgate.dialects.gloo.matchers import check_method, read_header_matches, read_path
from eastgate.model.diagnostics import suggest_name
from eastgate.model.policies import Authorization, Provider, Rule, RuleAction, TokenCondition
from eastgate.model.routes import StringMatch

ACTIONS = {"Allow": RuleAction.ALLOW, "Deny": RuleAction.DENY}


def read_authorization(fields: Fields, providers: tuple[Provider, ...]) -> Authorization:
    """``{}`` denies every request, as in Envoy Gateway."""
    default = ACTIONS[fields.choice("defaultAction", ACTIONS, "Deny")]
    rules = []
    for index, item in enumerate(fields.items("rules")):
        with Fields(item, fields.report) as rule:
            rules.append(_read_rule(rule, index, [provider.name for provider in providers]))
    return Authorization(tuple(rules), default)


def _read_rule(rule: Fields, index: int, providers: list[str]) -> Rule:
    name = rule.text("name") or f"rule-{index}"
    if not rule.has("action"):
        rule.report.error(rule.at("action"), "missing-field", "`action` is required; accepted: Allow, Deny")
    action = ACTIONS[rule.choice("action", ACTIONS, "Deny")]
    for field in ("methods", "paths", "headers", "addresses", "claims", "scopes"):
        _refuse_empty(rule, field)
    methods = rule.texts("methods")
    for method in methods:
        check_method(rule, "methods", method)
    paths, inverted = _read_paths(rule)
    return Rule(
        name=name,
        action=action,
        token=_read_token(rule, providers),
        methods=methods,
        paths=paths,
        inverted_paths=inverted,
        headers=read_header_matches(rule, "headers"),
        addresses=tuple(found for item in rule.items("addresses") if (found := _read_address(item, rule)) is not None),
    )


def _refuse_empty(rule: Fields, field: str) -> None:
    """An empty list out of a template would read as "any": the opposite of what a list without methods says."""
    value = rule.take(field)
    if value is not None and value.data in ([], {}):
        rule.report.error(value, "too-few", f"`{field}` is empty; list what must match, or leave the field out for any")


def _read_token(rule: Fields, providers: list[str]) -> TokenCondition | None:
    provider = rule.text("provider") or None
    claims, scopes = read_claims(rule, "claims", own=True), read_scopes(rule, "scopes")
    if provider is not None and provider not in providers:
        listed = ", ".join(providers) or "none"
        message = f"no provider {show(provider)}{suggest_name(provider, providers)}; there are: {listed}"
        rule.report.error(rule.at("provider"), "not-there", message)
    if provider is None and not claims and not scopes:
        return None
    return TokenCondition(provider, claims, scopes)


def _read_paths(rule: Fields) -> tuple[tuple[StringMatch, ...], tuple[StringMatch, ...]]:
    paths: list[StringMatch] = []
    inverted: list[StringMatch] = []
    for item in rule.items("paths"):
        with Fields(item, rule.report) as fields:
            fields.choose("exact", "prefix", "segments", "regex", required=True)
            invert = fields.boolean("invert")
            path = read_path(fields, own=True)
        if path is not None:
            (inverted if invert else paths).append(path)
    return tuple(paths), tuple(inverted)


def _read_address(item: Value, rule: Fields) -> str | None:
    accepted = "accepted: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`"
    if not isinstance(item.data, str):
        rule.report.error(item, "wrong-type", f"expected a string, found {item.kind} {show(item.plain())}; {accepted}")
        return None
    try:
        return str(ipaddress.ip_network(item.data))
    except ValueError:
        pass
    try:
        near = f" (did you mean `{ipaddress.ip_network(item.data, strict=False)}`?)"
    except ValueError:
        near = ""
    rule.report.error(item, "bad-address", f"{show(item.data)} is not an address or a CIDR{near}; {accepted}")
    return None
