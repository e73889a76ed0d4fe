"""What a token must say: ``claims`` and ``requiredScopes``.

Entries of ``claims`` must all hold; one of ``values`` and none of ``notValues``; ``*`` is a wildcard. They speak of
whichever provider accepted the token. Rules: Gloo JWTPolicy ``config.claims`` (ClaimMatcher), RFC 8693 section 4.2.
"""

from __future__ import annotations

from eastgate.dialects.documents import Fields, show
from eastgate.model.policies import ClaimCondition, ClaimType

_VALUE_TYPES = {"Any": ClaimType.ANY, "String": ClaimType.STRING, "StringArray": ClaimType.LIST}
"""Our own kind's; the words are Envoy Gateway's. Of a claim whose type is given the values are literal."""


def read_claims(fields: Fields, name: str, *, own: bool) -> tuple[ClaimCondition, ...]:
    """The list of claim matchers. ``own`` also reads ``path`` for nested names."""
    conditions: list[ClaimCondition] = []
    seen: dict[str, int] = {}
    for item in fields.items(name):
        with Fields(item, fields.report) as entry:
            condition = _read_claim(entry, own=own)
        if condition is None:
            continue
        if condition.claim in seen:
            fields.report.error(
                item,
                "claim-twice",
                f"claim {show(condition.claim)} is already listed on line {seen[condition.claim]}; "
                "put all its `values` and `notValues` into one entry",
            )
        seen.setdefault(condition.claim, item.position.line)
        conditions.append(condition)
    return tuple(conditions)


def _read_claim(entry: Fields, *, own: bool) -> ClaimCondition | None:
    path = read_claim_path(entry, "key", own=own)
    kind = _VALUE_TYPES[entry.choice("valueType", _VALUE_TYPES, "Any")] if own else ClaimType.ANY
    before = len(entry.report.errors)
    values, not_values = entry.texts("values"), entry.texts("notValues")
    if not entry.has("values") and not entry.has("notValues"):
        entry.report.error(entry.value, "missing-field", "at least one of `values`, `notValues` is required")
    elif not values and not not_values and len(entry.report.errors) == before:
        entry.report.error(entry.at("values"), "too-few", "at least one value in `values` or `notValues` is required")
    if path is None:
        return None
    claim, names = path
    return ClaimCondition(claim, names, kind, values, not_values, wildcards=kind is ClaimType.ANY)


def read_claim_path(entry: Fields, key: str, *, own: bool) -> tuple[str, tuple[str, ...]] | None:
    """A claim's literal name and the way to it: ``key`` with ``nestedClaimDelimiter``, or our ``path``."""
    if own and entry.choose(key, "path", required=True) == "path":
        names = entry.texts("path", least=1)
        if not names or not all(names):
            entry.report.error(entry.at("path"), "bad-value", "a path is a list of claim names, none of them empty")
            return None
        return ".".join(names), names
    name = entry.text(key, required=True)
    delimiter = entry.text("nestedClaimDelimiter") if key == "key" else None
    if name is None:
        return None
    if not delimiter:
        return name, (name,)
    names = tuple(name.split(delimiter))
    if not all(names):
        entry.report.error(
            entry.at(key), "bad-value", f"{show(name)} has an empty name between two delimiters {show(delimiter)}"
        )
        return None
    return name, names


def read_scopes(fields: Fields, name: str) -> tuple[str, ...]:
    """Scopes that must all be there; each is one word, since ``scope`` is a list of words."""
    scopes = fields.texts(name)
    for scope in scopes:
        if not scope or any(character.isspace() for character in scope):
            fields.report.error(
                fields.at(name), "bad-value", f"{show(scope)} is not a scope: a scope is one word; list them one by one"
            )
    return scopes
