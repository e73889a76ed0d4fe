"""Hand-built policies, routes, tokens and requests: the engine's tests say only what matters to them."""

from __future__ import annotations

import base64
import json
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import encode as encode_jwt

from eastgate.compile.plan import Plan, compile_plan
from eastgate.decide.decision import decide
from eastgate.decide.memory import TokenMemory
from eastgate.keys.keyset import KeySet, parse_key_set
from eastgate.keys.ring import Held, KeyRing, NoRemoteKeys
from eastgate.model.decisions import Decision, KeysNeeded
from eastgate.model.diagnostics import Position
from eastgate.model.keys import KeySource, LocalKeys, RemoteKeys
from eastgate.model.policies import (
    Authorization,
    ClaimCondition,
    ClaimType,
    Policy,
    Provider,
    Requirement,
    RouteSelector,
    Rule,
    RuleAction,
    TargetReference,
    TokenCondition,
)
from eastgate.model.requests import Request
from eastgate.model.routes import Attachment, Comparison, Destination, Match, ObjectName, Order, Route, StringMatch
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Service, Workload

NOW = 1_800_000_000.0
ISSUER = "https://issuer.example"
HERE = Position("scene.yaml", 1)
REMOTE = RemoteKeys("https://issuer.example/jwks.json")


@lru_cache(maxsize=8)
def private_key(name: str = "first") -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@lru_cache(maxsize=8)
def ec_key(name: str = "first") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@lru_cache(maxsize=8)
def public_pem(name: str = "first") -> str:
    return private_key(name).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@lru_cache(maxsize=32)
def key_set(name: str = "first", kid: str | None = None) -> KeySet:
    if kid is None:
        return parse_key_set(public_pem(name), remote=False)
    numbers = private_key(name).public_key().public_numbers()

    def write(number: int) -> str:
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    jwk = {"kty": "RSA", "n": write(numbers.n), "e": write(numbers.e), "kid": kid}
    return parse_key_set(json.dumps({"keys": [jwk]}), remote=True)


def local_keys(name: str = "first") -> LocalKeys:
    return LocalKeys(public_pem(name))


def token(key: str = "first", kid: str | None = None, **claims: object) -> bytes:
    content: dict[str, object] = {"iss": ISSUER, "exp": int(NOW) + 3600, **claims}
    content = {name: value for name, value in content.items() if value is not ...}
    return encode_jwt(content, private_key(key), algorithm="RS256", headers={"kid": kid} if kid else None).encode()


def bearer(value: bytes) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + value)


def provider(name: str = "dev", keys: KeySource | None = None, **fields: object) -> Provider:
    return Provider(**{"name": name, "keys": keys or local_keys(), "issuer": ISSUER, **fields})  # type: ignore[arg-type]


def policy(
    *providers: Provider,
    name: str = "jwt",
    namespace: str = "default",
    dialect: str = "gloo",
    authorization: Authorization | None = None,
    requirement: Requirement | None = None,
    **fields: object,
) -> Policy:
    kind = "SecurityPolicy" if dialect == "envoy_gateway" else "JWTPolicy"
    if requirement is None and (providers or authorization is None):
        requirement = Requirement(providers or (provider(),))
    if not {"everything", "routes", "destinations", "targets"} & set(fields):
        fields["everything"] = True
    return Policy(
        name=ObjectName(kind, namespace, name),
        dialect=dialect,
        position=HERE,
        requirement=requirement,
        authorization=authorization,
        **fields,  # type: ignore[arg-type]
    )


def claims_policy(*conditions: ClaimCondition, scopes: tuple[str, ...] = (), **fields: object) -> Policy:
    rule = Rule("claims", RuleAction.ALLOW, token=TokenCondition(claims=conditions, scopes=scopes))
    return policy(provider(), authorization=Authorization((rule,)), **fields)  # type: ignore[arg-type]


def claim(
    name: str,
    *values: str,
    not_values: tuple[str, ...] = (),
    kind: ClaimType = ClaimType.ANY,
    wildcards: bool = True,
    path: tuple[str, ...] | None = None,
) -> ClaimCondition:
    return ClaimCondition(name, path if path is not None else (name,), kind, values, not_values, wildcards)


def prefix(value: str, **fields: object) -> Match:
    return Match(path=StringMatch(Comparison.PREFIX, value), **fields)  # type: ignore[arg-type]


def exact(value: str, **fields: object) -> Match:
    return Match(path=StringMatch(Comparison.EXACT, value), **fields)  # type: ignore[arg-type]


def segments(value: str, **fields: object) -> Match:
    return Match(path=StringMatch(Comparison.SEGMENTS, value), **fields)  # type: ignore[arg-type]


def regex(value: str, **fields: object) -> Match:
    return Match(path=StringMatch(Comparison.REGEX, value), **fields)  # type: ignore[arg-type]


def table(*matches: Match, name: str = "table", namespace: str = "default", **fields: object) -> Route:
    """One entry of a RouteTable."""
    fields.setdefault("index", 0)
    return Route(
        origin=ObjectName("RouteTable", namespace, name),
        position=HERE,
        matches=matches,
        **fields,  # type: ignore[arg-type]
    )


def http_route(*matches: Match, name: str = "route", namespace: str = "default", **fields: object) -> Route:
    """One rule of an HTTPRoute."""
    fields.setdefault("index", 0)
    return Route(
        origin=ObjectName("HTTPRoute", namespace, name),
        position=HERE,
        matches=matches,
        order=Order.PRECEDENCE,
        **fields,  # type: ignore[arg-type]
    )


def targeting(kind: str, name: str, namespace: str = "default", section: str | None = None) -> TargetReference:
    return TargetReference(ObjectName(kind, namespace, name), section)


def attached(gateway: str, section: str | None = None, namespace: str = "default") -> Attachment:
    return Attachment(ObjectName("Gateway", namespace, gateway), section)


def service(name: str, port: int | str | None = None, namespace: str = "default") -> Destination:
    return Destination("Service", namespace, name, port)


def selecting(namespace: str | None = None, **labels: str) -> tuple[RouteSelector, ...]:
    return (RouteSelector(tuple(sorted(labels.items())), namespace),)


def compiled(*parts: Policy | Route | Service, workload: Workload | None = None, **fields: object) -> Plan:
    """A plan for the file set as one workload, unless a workload says otherwise."""
    return compile_plan(policy_set(*parts), workload or Workload(**fields))  # type: ignore[arg-type]


def policy_set(*parts: Policy | Route | Service) -> PolicySet:
    return PolicySet(
        policies=tuple(part for part in parts if isinstance(part, Policy)),
        routes=tuple(part for part in parts if isinstance(part, Route)),
        services=tuple(part for part in parts if isinstance(part, Service)),
    )


def request(
    target: str | bytes = "/",
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    host: bytes = b"www.example.com",
    port: int = 0,
    peer: str = "10.0.0.9",
) -> Request:
    raw = target.encode() if isinstance(target, str) else target
    return Request(method, raw, host, headers, port, peer)


class Ring:
    """A key ring with what a test puts in."""

    def __init__(self, refetch: bool = True, **held: Held) -> None:
        self.sources: dict[RemoteKeys, Held] = {}
        self.refetch = refetch
        self.asked: list[tuple[RemoteKeys, str | None]] = []

    def put(self, source: RemoteKeys, keys: KeySet | None, generation: int = 1, problem: str | None = None) -> Ring:
        self.sources[source] = Held(keys, generation, problem)
        return self

    def held(self, source: RemoteKeys) -> Held:
        return self.sources.get(source, Held())

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:
        self.asked.append((source, kid))
        return self.refetch


def ask(
    plan: Plan,
    asked: Request,
    *,
    ring: KeyRing | None = None,
    now: float = NOW,
    memory: TokenMemory | None = None,
    last_try: bool = False,
    explain: bool = False,
) -> Decision | KeysNeeded:
    # An empty memory is falsy: it has a length.
    memory = memory if memory is not None else TokenMemory()
    return decide(plan, asked, ring or NoRemoteKeys(), now, memory, last_try=last_try, explain=explain)


def answer(plan: Plan, asked: Request, **fields: object) -> Decision:
    """A decision; keys must not be needed."""
    decision = ask(plan, asked, **fields)  # type: ignore[arg-type]
    assert isinstance(decision, Decision)
    return decision


def upstream(decision: Decision, asked: Request) -> list[tuple[bytes, bytes]]:
    """The headers that the application sees."""
    assert decision.allowed
    assert decision.edits is not None
    return decision.edits.apply(asked.headers)
