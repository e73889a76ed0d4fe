"""Policies: who may call, in one model for every dialect.

A policy is a *requirement* (any of some token providers; may a token be missing? may it be bad?) followed by an
*authorization* (ordered rules over the verified claims and the request). Gloo's ``claims`` and ``requiredScopes``,
Envoy Gateway's ``authorization`` and, later, Istio's AuthorizationPolicy all fit in without a second engine.
Rules: gloo ``security.policy.gloo.solo.io/v2`` JWTPolicy; Envoy Gateway v1alpha1 SecurityPolicy; Envoy jwt_authn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from eastgate.model.diagnostics import Position
from eastgate.model.keys import KeySource
from eastgate.model.routes import FieldMatch, ObjectName, StringMatch

# --- where a token is found ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeaderSource:
    """A token in a header. ``name`` in lower case. ``prefix`` is compared byte for byte (``Bearer ``), except that
    the default location also accepts ``bearer`` in any case (``any_case``; RFC 9110 section 11.1).
    """

    name: str
    prefix: str = ""
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class TokenSources:
    """The places one provider looks in, in order of extraction: headers, query parameters, cookies."""

    headers: tuple[HeaderSource, ...] = ()
    query: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()


DEFAULT_SOURCES = TokenSources(
    headers=(HeaderSource("authorization", "Bearer ", any_case=True),),
    query=("access_token",),
)
"""``Authorization: Bearer``, then ``?access_token=`` (RFC 6750; Envoy's and Gloo's default)."""


# --- who issued it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimHeader:
    """Copy a claim into a request header. ``path`` is tried first as one literal name (``claim``), then nested.

    ``append`` False replaces what an earlier token of this request put there; True joins with ``delimiter`` (Gloo),
    or, where ``delimiter`` is empty, adds a second header field (Envoy). The client's own copy is always removed.
    """

    header: str
    claim: str
    path: tuple[str, ...]
    append: bool = False
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Provider:
    """One issuer of tokens and how its tokens are checked.

    ``issuer`` None: ``iss`` is not compared. ``audiences`` empty: ``aud`` is not compared. ``clock_skew`` in seconds.
    ``forward_token`` False takes a verified token out of the request. ``payload_header`` receives the base64url
    payload. ``required_claims`` must be present in every token (own kind only).
    """

    name: str
    keys: KeySource
    issuer: str | None = None
    audiences: tuple[str, ...] = ()
    sources: TokenSources = DEFAULT_SOURCES
    claim_headers: tuple[ClaimHeader, ...] = ()
    payload_header: str | None = None
    forward_token: bool = False
    clock_skew: int = 60
    required_claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Requirement:
    """A token that any of ``providers`` accepts.

    ``missing_allowed``: a request without any token passes. ``failed_allowed``: so does one with a bad token.
    ``every_token``: beyond Envoy's "one provider is satisfied", every token found in any provider's places must be
    accepted by one of them (Gloo: "if a request has both, both must be valid").
    """

    providers: tuple[Provider, ...]
    missing_allowed: bool = False
    failed_allowed: bool = False
    every_token: bool = True


# --- what the claims must say -------------------------------------------------------------------------------------


class ClaimType(StrEnum):
    """``STRING`` matches only JSON strings, ``LIST`` only lists holding that string (Envoy Gateway's valueType);
    ``ANY`` matches a scalar by its text, a list by membership, and ``scope``/``scp`` word by word (Gloo).
    """

    STRING = "string"
    LIST = "list"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class ClaimCondition:
    """A claim must have one of ``values`` and none of ``not_values``.

    ``path``: the claim's name, split where it is nested; the literal ``claim`` is looked up first. ``wildcards``:
    ``*`` in a value stands for any text, also none. Empty ``values`` demands nothing beyond ``not_values``.
    """

    claim: str
    path: tuple[str, ...]
    type: ClaimType
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()
    wildcards: bool = False


@dataclass(frozen=True, slots=True)
class TokenCondition:
    """Conditions on a verified token, all of which must hold. ``provider`` None: of whichever provider accepted;
    otherwise the token of that provider. Each of ``scopes`` must be in ``scope`` or in ``scp`` (string or list).
    """

    provider: str | None = None
    claims: tuple[ClaimCondition, ...] = ()
    scopes: tuple[str, ...] = ()


class RuleAction(StrEnum):
    """What a matching rule says."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """One authorization rule; everything set in it must hold (AND); lists inside are alternatives (OR).

    ``paths`` are compared with the path without query, ``inverted_paths`` must not match. ``addresses`` are CIDRs of
    the connecting peer. A rule with nothing set matches every request.
    """

    name: str
    action: RuleAction
    token: TokenCondition | None = None
    methods: tuple[str, ...] = ()
    paths: tuple[StringMatch, ...] = ()
    inverted_paths: tuple[StringMatch, ...] = ()
    headers: tuple[FieldMatch, ...] = ()
    header_values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """Ordered rules: the first that matches decides; none matching, ``default`` does."""

    rules: tuple[Rule, ...] = ()
    default: RuleAction = RuleAction.DENY


# --- what it applies to -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RouteSelector:
    """Routes that carry all ``labels`` (of the entry or its table). ``namespace`` None: the policy's own."""

    labels: tuple[tuple[str, str], ...] = ()
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class DestinationSelector:
    """Service destinations by name, namespace, labels and port; None or empty does not restrict.

    ``of_routes`` True (Gloo ``withDestinations``): selects the routes that lead there; False
    (``applyToDestinations``): selects every request to the destination, routed or not.
    """

    namespace: str | None = None
    name: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    port: int | str | None = None
    of_routes: bool = False


@dataclass(frozen=True, slots=True)
class TargetReference:
    """A Gateway API policy target. ``section`` is a rule name of a route or a listener name of a Gateway."""

    target: ObjectName
    section: str | None = None


class Phase(StrEnum):
    """Gloo's place of the JWT filter; only its order counts here, lowest first."""

    PRE = "preAuthz"
    POST = "postAuthz"


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy object.

    ``dialect`` is ``eastgate``, ``gloo`` or ``envoy_gateway``: one policy of a dialect applies to a route (oldest
    ``created`` wins, then namespace/name; Envoy Gateway: most specific target first), policies of different dialects
    must all pass. Nothing selected at all (``everything``) means every route of the policy's namespace.
    ``invalid`` holds the messages that made it unusable: routes it could have applied to answer 503.
    ``places`` are the positions of its parts, by field path; where it stands makes no policy another one.
    """

    name: ObjectName
    dialect: str
    position: Position
    requirement: Requirement | None = None
    authorization: Authorization | None = None
    everything: bool = False
    routes: tuple[RouteSelector, ...] = ()
    destinations: tuple[DestinationSelector, ...] = ()
    targets: tuple[TargetReference, ...] = ()
    phase: Phase = Phase.PRE
    priority: int = 0
    created: str = ""
    invalid: tuple[str, ...] = ()
    places: tuple[tuple[str, Position], ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        return str(self.name)

    def place_of(self, path: str) -> Position:
        """Where a field is written, or what it belongs to."""
        places = dict(self.places)
        while path and path not in places:
            path = path.rpartition(".")[0]
        return places.get(path, self.position)
