"""One policy, compiled. What cannot be compiled makes the policy a refusal that carries the reason.

Knows: providers and their local keys, the headers that a policy asserts. Must not know: routes, workloads, tokens.
Rules: RFC 9110 section 7.6.1 (hop-by-hop fields no claim may overwrite); Envoy's jwt_authn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from eastgate.compile.fields import authorization_field, keys_field, provider_field
from eastgate.compile.rules import AuthorizationPlan, compile_authorization
from eastgate.keys.keyset import KeySet, KeySetError, parse_key_set
from eastgate.model.keys import LocalKeys, RemoteKeys
from eastgate.model.policies import Phase, Policy, Provider

FRAMING_HEADERS = frozenset(
    [
        *("host", "content-length", "transfer-encoding", "content-type", "expect", "te", "trailer", "upgrade"),
        *("connection", "keep-alive", "proxy-connection", "proxy-authorization"),
        *(":authority", ":method", ":path", ":scheme", ":status"),
    ]
)
"""Headers that say what a message is or where it goes: a claim written into one would be smuggling by policy."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


@dataclass(frozen=True, slots=True, eq=False)
class ProviderPlan:
    """A provider with its keys at hand: ``keys`` for local ones, ``source`` for remote ones. ``index`` is its place in
    the plan; equal providers share one.
    """

    index: int
    provider: Provider
    keys: KeySet | None
    source: RemoteKeys | None


@dataclass(frozen=True, slots=True, eq=False)
class PolicyPlan:
    """``name`` is ``namespace/name``. ``providers`` empty: no token is asked for. ``invalid``: it can only refuse."""

    index: int
    policy: Policy
    name: str
    providers: tuple[ProviderPlan, ...]
    missing_allowed: bool
    failed_allowed: bool
    every_token: bool
    authorization: AuthorizationPlan | None
    asserted: frozenset[bytes]
    invalid: tuple[str, ...]

    @property
    def demands_nothing(self) -> bool:
        """True for a policy that neither asks for a token nor authorizes (an Envoy Gateway one with only CORS, say)."""
        return not self.providers and self.authorization is None and not self.invalid

    @property
    def order(self) -> tuple[bool, int, str]:
        """Phase, priority, name: lowest first."""
        return (self.policy.phase is Phase.POST, self.policy.priority, self.name)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a policy cannot be compiled: a stable code, the field, and a text for its author."""

    code: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@lru_cache(maxsize=4096)
def parse_local_keys(text: str) -> KeySet | KeySetError:
    """The keys in a text, or why there is none; remembered, for plans are compiled again and again."""
    try:
        return parse_key_set(text, remote=False)
    except KeySetError as error:
        return error


def policy_name(policy: Policy) -> str:
    """How decisions and logs name a policy."""
    return f"{policy.name.namespace}/{policy.name.name}"


def asserted_headers(policy: Policy) -> frozenset[bytes]:
    """The headers whose content a policy vouches for, as ``Edits.remove`` compares them: lower case, ``_`` as ``-``."""
    names = set[str]()
    for provider in policy.requirement.providers if policy.requirement else ():
        names.update(header.header for header in provider.claim_headers)
        if provider.payload_header:
            names.add(provider.payload_header)
    return frozenset(name.lower().replace("_", "-").encode("utf-8", "replace") for name in names)


def find_problems(policy: Policy) -> Iterator[Problem]:
    """Everything that keeps a well-read policy from being enforced."""
    if policy.requirement is not None and not policy.requirement.providers:
        yield Problem("no-provider", "", "a token is required but no provider can accept one")
    for provider in policy.requirement.providers if policy.requirement else ():
        yield from _find_provider_problems(provider, provider_field(policy, provider), keys_field(policy, provider))
    if policy.authorization is not None:
        try:
            compile_authorization(policy.authorization)
        except ValueError as error:
            yield Problem("bad-rule", authorization_field(policy), str(error))


def _find_provider_problems(provider: Provider, where: str, keys: str) -> Iterator[Problem]:
    if isinstance(provider.keys, LocalKeys):
        parsed = parse_local_keys(provider.keys.text)
        if isinstance(parsed, KeySetError):
            yield Problem("bad-key", keys, f"no usable key in {provider.keys.origin}: {parsed.detail or parsed.text}")
    named = [header.header for header in provider.claim_headers]
    if provider.payload_header:
        named.append(provider.payload_header)
    for name in named:
        if not _TOKEN.fullmatch(name):
            yield Problem("bad-header-name", where, f"`{name}` is not a header name")
        elif name.lower().replace("_", "-") in FRAMING_HEADERS:
            yield Problem("bad-header-name", where, f"`{name}` belongs to the message itself and cannot carry a claim")
    sources = provider.sources
    if not (sources.headers or sources.query or sources.cookies):
        yield Problem("no-token-source", where, "no place to look for a token")


class PolicyCompiler:
    """Compiles policies of one plan; equal providers become one, so that a token is verified once for all of them."""

    def __init__(self) -> None:
        self.providers: list[ProviderPlan] = []
        self.policies: list[PolicyPlan] = []
        self._shared: dict[Provider, ProviderPlan] = {}

    def compile(self, policy: Policy) -> PolicyPlan:
        """The policy's plan."""
        invalid = policy.invalid or tuple(str(problem) for problem in find_problems(policy))
        requirement = None if invalid else policy.requirement
        authorization = None if invalid or policy.authorization is None else compile_authorization(policy.authorization)
        plan = PolicyPlan(
            index=len(self.policies),
            policy=policy,
            name=policy_name(policy),
            providers=tuple(self._provider(provider) for provider in requirement.providers) if requirement else (),
            missing_allowed=requirement is not None and requirement.missing_allowed,
            failed_allowed=requirement is not None and requirement.failed_allowed,
            every_token=requirement is not None and requirement.every_token,
            authorization=authorization,
            asserted=asserted_headers(policy),
            invalid=invalid,
        )
        self.policies.append(plan)
        return plan

    def _provider(self, provider: Provider) -> ProviderPlan:
        plan = self._shared.get(provider)
        if plan is None:
            keys, source = None, None
            if isinstance(provider.keys, RemoteKeys):
                source = provider.keys
            else:
                parsed = parse_local_keys(provider.keys.text)
                if isinstance(parsed, KeySet):
                    keys = parsed
            plan = ProviderPlan(len(self.providers), provider, keys, source)
            self._shared[provider] = plan
            self.providers.append(plan)
        return plan
