"""Whether a request carries the token that a policy requires.

Envoy's requires_any (verifier.cc): providers in order, the first that accepts wins; every token in a provider's places
must be good for it, looked at from the last extracted to the first; when all refuse, the last error answers that is
neither "missing" nor "unknown issuer". Gloo's rule comes on top (``every_token``): a token in any provider's place
must be accepted by someone; one value is one token, though one provider reads it after a prefix and another whole. Must
not know: rules over claims, routes, HTTP answers. A token that is dead anyway never asks for keys, and keys that are
away refuse only where they could have made a difference.
"""

from __future__ import annotations

from typing import NamedTuple

from eastgate.compile.policies import PolicyPlan, ProviderPlan
from eastgate.decide import statuses
from eastgate.decide.headers import state_claims
from eastgate.decide.memory import Remembered, TokenMemory, token_key
from eastgate.decide.statuses import Status, status_of_keys
from eastgate.decide.token import MAX_TOKEN_BYTES, ParsedToken, check_claims, normalise_audience, parse_token
from eastgate.decide.tokens import Found, Headers, Place, Places
from eastgate.decide.verify import verify_signature
from eastgate.keys.ring import KeyRing
from eastgate.model.decisions import Check
from eastgate.model.keys import RemoteKeys
from eastgate.model.policies import TokenSources

FOREVER = float("inf")


class KeysWanted(NamedTuple):
    """Not a result: keys are missing. ``kid`` is set where there are keys, but none for this ``kid``."""

    source: RemoteKeys
    kid: str | None
    problem: str | None = None


class Pending(NamedTuple):
    """No result yet: these keys would tell."""

    wanted: tuple[KeysWanted, ...]


class Accepted(NamedTuple):
    """A verified token, the provider that accepted it and the place it was found in."""

    provider: ProviderCheck
    place: Place
    token: Remembered


class Failure(NamedTuple):
    """Why the requirement is not met. ``unavailable``: for want of keys, not for anything in the request."""

    status: Status
    subject: str
    unavailable: bool = False


class ProviderCheck:
    """A provider prepared for checking tokens."""

    __slots__ = ("audiences", "name", "places", "plan", "provider", "strips", "suffix")

    def __init__(self, plan: ProviderPlan) -> None:
        self.plan = plan
        self.provider = plan.provider
        self.name = plan.provider.name
        self.places = Places(plan.provider.sources)
        self.audiences = frozenset(normalise_audience(audience) for audience in plan.provider.audiences)
        self.strips = not plan.provider.forward_token
        self.suffix = b"%d" % plan.index


class PolicyCheck:
    """A policy prepared for checking requests. ``lasting``: what it says about a token depends on nothing else."""

    __slots__ = ("authorization", "lasting", "name", "plan", "providers")

    def __init__(self, plan: PolicyPlan, memory: TokenMemory) -> None:
        self.plan = plan
        self.name = plan.name
        self.providers = tuple(memory.prepared(provider, ProviderCheck) for provider in plan.providers)
        self.authorization = plan.authorization
        self.lasting = bool(self.providers) and (plan.authorization is None or plan.authorization.claims_only)


class Inquiry:
    """One request being looked at. ``final``: keys will not be waited for any more. ``trace`` collects checks if there
    is one.
    """

    __slots__ = ("_parsed", "final", "headers", "memory", "now", "query", "ring", "trace")

    def __init__(
        self,
        headers: Headers,
        query: bytes | None,
        ring: KeyRing,
        now: float,
        memory: TokenMemory,
        final: bool,
        trace: list[Check] | None,
    ) -> None:
        self.headers = headers
        self.query = query
        self.ring = ring
        self.now = now
        self.memory = memory
        self.final = final
        self.trace = trace
        self._parsed: dict[bytes, ParsedToken | Status] | None = None

    def parse(self, raw: bytes) -> ParsedToken | Status:
        """The token read; once, however many providers ask."""
        if self._parsed is None:
            self._parsed = {}
        parsed = self._parsed.get(raw)
        if parsed is None:
            parsed = self._parsed[raw] = parse_token(raw)
        return parsed

    def note(self, kind: str, subject: str, passed: bool, detail: str) -> None:
        """One step of the reasoning, for ``explain``."""
        if self.trace is not None:
            self.trace.append(Check(kind, subject, passed, detail))


def satisfy(policy: PolicyCheck, inquiry: Inquiry) -> list[Accepted] | Failure | Pending:
    """The tokens that meet a policy's requirement, or why it is not met, or which keys are wanted to tell."""
    providers, plan = policy.providers, policy.plan
    failures: list[Status] = []
    wanted: list[KeysWanted] = []
    for provider in providers:
        result = _check_provider(provider, inquiry)
        if isinstance(result, list):
            if len(providers) > 1 and plan.every_token and not plan.failed_allowed:
                return _check_every_token(providers, result, inquiry)
            return result
        if isinstance(result, Status):
            failures.append(result)
        else:
            wanted.extend(result.wanted)
    return _conclude(plan, failures, wanted, inquiry)


def _conclude(
    policy: PolicyPlan, failures: list[Status], wanted: list[KeysWanted], inquiry: Inquiry
) -> list[Accepted] | Failure | Pending:
    """No provider accepted: what follows from that."""
    if wanted and not inquiry.final:
        return Pending(tuple(wanted))
    if policy.failed_allowed:
        inquiry.note("token", policy.name, True, "no valid token, which this policy allows")
        return []
    if wanted:
        return _for_want_of_keys(failures, wanted)
    status = choose_status(failures)
    if status is statuses.JWT_MISSING and policy.missing_allowed:
        inquiry.note("token", policy.name, True, "no token, which this policy allows")
        return []
    return Failure(status, policy.name)


def _for_want_of_keys(failures: list[Status], wanted: list[KeysWanted]) -> Failure:
    for one in wanted:
        if one.kid is None:
            return Failure(status_of_keys(one.problem), one.source.label, unavailable=True)
    return Failure(choose_status([*failures, statuses.JWKS_KID_ALG_MISMATCH]), wanted[-1].source.label)


def choose_status(failures: list[Status]) -> Status:
    """Which of several failures answers: the last that says something about the token itself."""
    for status in reversed(failures):
        if status is not statuses.JWT_MISSING and status is not statuses.JWT_UNKNOWN_ISSUER:
            return status
    return statuses.JWT_UNKNOWN_ISSUER if statuses.JWT_UNKNOWN_ISSUER in failures else statuses.JWT_MISSING


def _check_provider(provider: ProviderCheck, inquiry: Inquiry) -> list[Accepted] | Status | Pending:
    """Every token in the provider's places. A failure is final even where other tokens still want keys."""
    tokens = provider.places.find(inquiry.headers, inquiry.query)
    if not tokens:
        if inquiry.trace is not None:
            inquiry.note("token", provider.name, False, f"none in {_list_places(provider.provider.sources)}")
        return statuses.JWT_MISSING
    if inquiry.trace is not None:
        places = ", ".join(str(token.place) for token in tokens)
        inquiry.note("token", provider.name, True, f"found in {places}")
    if len(tokens) == 1:
        only = check_token(provider, tokens[0], inquiry)
        if isinstance(only, Remembered):
            return [Accepted(provider, tokens[0].place, only)]
        return only if isinstance(only, Status) else Pending((only,))
    accepted: list[Accepted] = []
    wanted: list[KeysWanted] = []
    for token in reversed(tokens):
        result = check_token(provider, token, inquiry)
        if isinstance(result, Remembered):
            accepted.append(Accepted(provider, token.place, result))
        elif isinstance(result, Status):
            return result
        else:
            wanted.append(result)
    if wanted:
        return Pending(tuple(wanted))
    accepted.reverse()
    return accepted


def _list_places(sources: TokenSources) -> str:
    places = [f"header {one.name}" + (f" ({one.prefix.strip()} …)" if one.prefix else "") for one in sources.headers]
    places += [f"query parameter {name}" for name in sources.query] + [f"cookie {name}" for name in sources.cookies]
    return ", ".join(places)


def _check_every_token(
    providers: tuple[ProviderCheck, ...], accepted: list[Accepted], inquiry: Inquiry
) -> list[Accepted] | Failure | Pending:
    """Every token that any provider would look at is accepted by one of those that look there."""
    winner = accepted[0].provider
    seen = {token.spot for token in winner.places.find(inquiry.headers, inquiry.query)}
    readings: dict[tuple[Place, bytes], list[tuple[ProviderCheck, Found]]] = {}
    for provider in providers:
        if provider is not winner:
            for token in provider.places.find(inquiry.headers, inquiry.query):
                if token.spot not in seen:
                    readings.setdefault(token.spot, []).append((provider, token))
    everything = list(accepted)
    wanted: list[KeysWanted] = []
    for (place, _), candidates in readings.items():
        result = _check_anywhere(candidates, inquiry)
        if isinstance(result, Accepted):
            everything.append(result)
        elif isinstance(result, Status):
            return Failure(result, str(place))
        else:
            wanted.extend(result.wanted)
    if wanted:
        return _for_want_of_keys([], wanted) if inquiry.final else Pending(tuple(wanted))
    return everything


def _check_anywhere(readings: list[tuple[ProviderCheck, Found]], inquiry: Inquiry) -> Accepted | Status | Pending:
    """One value as each provider reads it."""
    failures: list[Status] = []
    wanted: list[KeysWanted] = []
    for provider, token in readings:
        result = check_token(provider, token, inquiry)
        if isinstance(result, Remembered):
            return Accepted(provider, token.place, result)
        if isinstance(result, Status):
            failures.append(result)
        else:
            wanted.append(result)
    return Pending(tuple(wanted)) if wanted else choose_status(failures)


def check_token(provider: ProviderCheck, token: Found, inquiry: Inquiry) -> Remembered | Status | KeysWanted:
    """One token against one provider."""
    if len(token.value) > MAX_TOKEN_BYTES:
        return statuses.JWT_TOO_LARGE
    key = token_key(token.value, provider.suffix)
    remembered = inquiry.memory.find(key, inquiry.now, inquiry.ring)
    if remembered is not None:
        if inquiry.trace is not None:
            inquiry.note("verify", provider.name, True, f"{token.place}: verified before")
        return remembered
    result = _verify(provider, token.value, key, inquiry)
    if inquiry.trace is not None:
        if isinstance(result, Remembered):
            inquiry.note("verify", provider.name, True, f"{token.place}: verified")
        elif isinstance(result, Status):
            told = tell_mismatch(provider, inquiry.parse(token.value), result, inquiry)
            inquiry.note("verify", provider.name, False, f"{token.place}: {result.text}{told}")
        else:
            what = "no keys" if result.kid is None else "no key of its kid"
            inquiry.note("keys", provider.name, False, f"{token.place}: {what} from {result.source.label}")
    return result


def tell_mismatch(provider: ProviderCheck, token: ParsedToken | Status, status: Status, inquiry: Inquiry) -> str:
    """What the token says and what was expected, for ``explain``: a claim or a name, never the token."""
    if isinstance(token, Status):
        return ""
    model = provider.provider
    if status is statuses.JWT_UNKNOWN_ISSUER:
        return f"; the token says {_quote(token.issuer)}, the provider {_quote(model.issuer)}"
    if status is statuses.JWT_AUDIENCE_NOT_ALLOWED:
        wanted = ", ".join(_quote(one) for one in model.audiences)
        return f"; the token says {', '.join(_quote(one) for one in token.audiences) or 'none'}, the provider {wanted}"
    if status is statuses.JWT_EXPIRED and token.expires is not None:
        return f"; exp is {token.expires}, {int(inquiry.now) - token.expires} s ago (skew {model.clock_skew} s)"
    if status is statuses.JWT_NOT_YET_VALID:
        return f"; nbf is {token.not_before}, in {token.not_before - int(inquiry.now)} s (skew {model.clock_skew} s)"
    if status in (statuses.JWKS_KID_ALG_MISMATCH, statuses.JWT_VERIFICATION_FAILED):
        held = provider.plan.keys if provider.plan.source is None else inquiry.ring.held(provider.plan.source).keys
        kids = ", ".join(_quote(key.kid) if key.kid else "without kid" for key in held.keys) if held is not None else ""
        return f"; the token has alg {token.algorithm}, kid {_quote(token.key_id or None)}; the keys: {kids}"
    return ""


def _quote(text: str | None) -> str:
    """At most 80 characters of what somebody sent, on one line."""
    if text is None:
        return "none"
    return ascii(text if len(text) <= 80 else text[:79] + "…")


def _verify(provider: ProviderCheck, raw: bytes, key: bytes, inquiry: Inquiry) -> Remembered | Status | KeysWanted:
    """Envoy's order: form, issuer, time, audience, keys, signature."""
    parsed = inquiry.parse(raw)
    if isinstance(parsed, Status):
        return parsed
    model, source = provider.provider, provider.plan.source
    failure = check_claims(
        parsed,
        issuer=model.issuer,
        audiences=provider.audiences,
        clock_skew=model.clock_skew,
        required=model.required_claims,
        now=inquiry.now,
    )
    if failure is not None:
        return failure
    keys, generation = provider.plan.keys, 0
    if source is not None:
        held = inquiry.ring.held(source)
        keys, generation = held.keys, held.generation
        if keys is None:
            return KeysWanted(source, None, held.problem)
    if keys is None:
        # The compiler refuses a policy without usable local keys; nothing may pass if it did not.
        return statuses.JWKS_NO_VALID_KEYS
    failure = inquiry.memory.find_refused(key, generation)
    if failure is None:
        failure = verify_signature(parsed, keys)
        if failure is not None and failure is not statuses.JWKS_KID_ALG_MISMATCH:
            inquiry.memory.refuse(key, generation, failure)
    if failure is not None:
        if failure is statuses.JWKS_KID_ALG_MISMATCH and source is not None and not inquiry.final:
            return KeysWanted(source, parsed.key_id)
        return failure
    return _remember(provider, parsed, key, generation, inquiry)


def _remember(
    provider: ProviderCheck, parsed: ParsedToken, key: bytes, generation: int, inquiry: Inquiry
) -> Remembered | Status:
    model = provider.provider
    try:
        statements = state_claims(model, parsed.claims, parsed.payload)
    except ValueError:
        return statuses.JWT_CLAIM_UNUSABLE
    entry = Remembered(
        claims=parsed.claims,
        statements=statements,
        # `check_claims` compares whole seconds: the second of `exp` plus the skew is still good to its end.
        good_from=parsed.not_before - model.clock_skew,
        good_until=FOREVER if parsed.expires is None else parsed.expires + model.clock_skew + 1,
        source=provider.plan.source,
        generation=generation,
    )
    inquiry.memory.keep(key, entry)
    return entry
