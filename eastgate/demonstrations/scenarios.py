"""The four seeds as scenes: which policies, which requests, and what each document says must happen.

Every sentence of a seed that can be seen from outside is a step. The seeds' own tokens and key sets are sent where they
still verify; where a seed tells its reader to make a key, one is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from time import time

from eastgate.demonstrations.manifests import locate_manifests, paste_pem, published
from eastgate.demonstrations.scenes import Expected, GRPCCall, HTTPCall, Scene, Step
from eastgate.demonstrations.signing import SigningKey, generate_key, public_key_set, public_pem, sign_token
from eastgate.demonstrations.verification import verify_token

EXAMPLE_HOST = "www.example.com"
GRPC_HOST = "grpc-example.com"
DENIED_BY_RULE = Expected(403, "RBAC: access denied", reason="rbac_access_denied")

KEY_SET_PATHS = {
    "/envoyproxy/gateway/refs/heads/main/examples/kubernetes/jwt/jwks.json": "claim-authorization",
    "/envoyproxy/gateway/main/examples/kubernetes/jwt/jwks.json": "jwt-authentication",
    "/jwks.json": "jwt-authentication",
}
"""Where the seeds' policies look for keys. The two documents of one name are of different years."""

_FAR = 4804324736
"""``exp`` of the seeds' own payloads: the year 2122."""


@dataclass(frozen=True, slots=True)
class Material:
    """Keys of this run. ``provider`` is in the remote key sets beside the published keys, ``local`` is the pair that
    the seeds tell their reader to make, ``stranger`` is in nobody's key set.
    """

    provider: SigningKey
    local: SigningKey
    stranger: SigningKey

    @classmethod
    def generate(cls) -> Material:
        """New ones."""
        return cls(generate_key("RSA", "provider"), generate_key("RSA"), generate_key("RSA", "provider"))

    def key_set(self, seed: str) -> str:
        """What the identity provider serves for a seed: the keys it publishes, and the provider's own."""
        keys = json.loads(public_key_set(self.provider))["keys"]
        text = published(f"{seed}.jwks.json")
        return json.dumps({"keys": [*(json.loads(text)["keys"] if text is not None else ()), *keys]})

    def key_sets(self) -> dict[str, str]:
        """All of them, by the paths of the seeds' URLs."""
        return {path: self.key_set(seed) for path, seed in KEY_SET_PATHS.items()}


def bearer(token: str, name: str = "Authorization") -> tuple[tuple[str, str], ...]:
    """A token in a header, as the seeds send it."""
    return ((name, f"Bearer {token}"),)


def missing(path: str, host: str = EXAMPLE_HOST) -> Expected:
    """The seeds' 401: body and challenge."""
    challenge = ("www-authenticate", f'Bearer realm="http://{host}{path}"')
    return Expected(401, "Jwt is missing", answer=(challenge,), reason="jwt_missing")


def refused(status: int, body: str, reason: str) -> Expected:
    """Any other refusal."""
    return Expected(status, body, reason=reason)


def choose_token(seed: str, name: str, material: Material, claims: Mapping[str, object]) -> tuple[str, str]:
    """A seed's own token if this copy has it and it verifies with the key set served, else a fresh one with the same
    claims; and what to call it.
    """
    text = published(name)
    if text is not None and verify_token(text, material.key_set(seed), time()) is None:
        return text, "published"
    return sign_token(material.provider, claims), "fresh"


def claim_authorization(material: Material) -> Scene:
    """Seed 000: an Envoy Gateway SecurityPolicy with claim-based authorization."""
    host, path = EXAMPLE_HOST, "/"
    user = {"name": "John Doe", "email": "john.doe@example.com", "roles": ["admin", "editor"]}
    claims = {"iss": "https://foo.bar.com", "sub": "1234567890", "user": user, "scope": "read add delete modify"}
    alice = {"name": "Alice Smith", "email": "alice.smith@example.com", "roles": ["developer"]}
    valid, source = choose_token("claim-authorization", "claim-authorization-valid.jwt", material, claims)
    other = {**claims, "user": alice, "scope": "read add delete"}
    invalid, other_source = choose_token("claim-authorization", "claim-authorization-invalid.jwt", material, other)

    def fresh(**changes: object) -> tuple[tuple[str, str], ...]:
        return bearer(sign_token(material.provider, {**claims, **changes}))

    allowed = Expected(200, path="/", seen=(("authorization", f"Bearer {valid}"),), reason="allowed")
    steps = (
        Step("no token", HTTPCall(host, path), missing(path)),
        Step(f"VALID_TOKEN ({source})", HTTPCall(host, path, bearer(valid)), allowed),
        Step(f"INVALID_TOKEN ({other_source})", HTTPCall(host, path, bearer(invalid)), DENIED_BY_RULE),
        Step("GET /get, VALID_TOKEN", HTTPCall(host, "/get", bearer(valid)), Expected(200, path="/get")),
        Step("scope lacks `modify`", HTTPCall(host, path, fresh(scope="read add")), DENIED_BY_RULE),
        Step("scope as a list", HTTPCall(host, path, fresh(scope=["read", "add", "modify"])), Expected(200)),
        Step("user.name of another", HTTPCall(host, path, fresh(user={**user, "name": "Jane Doe"})), DENIED_BY_RULE),
        Step("user.roles a string", HTTPCall(host, path, fresh(user={**user, "roles": "admin"})), DENIED_BY_RULE),
        Step(
            "another issuer",
            HTTPCall(host, path, fresh(iss="https://example.com")),
            refused(401, "Jwt issuer is not configured", "jwt_unknown_issuer"),
        ),
    )
    return Scene(
        "000",
        "claim-based authorization",
        read_folder("claim-authorization"),
        steps,
        "default/backend:3000",
        keys="public",
    )


def jwt_authentication(material: Material) -> Scene:
    """Seed 001: a SecurityPolicy on HTTPRoute foo; bar is not targeted."""
    host = EXAMPLE_HOST
    token, source = _test_token(material)
    stranger = sign_token(material.stranger, {"sub": "1234567890"})
    challenge = (("www-authenticate", f'Bearer realm="http://{host}/foo", error="invalid_token"'),)
    bad = Expected(401, "Jwt verification fails", answer=challenge, reason="jwt_verification_failed")
    steps = (
        Step("/foo without a token", HTTPCall(host, "/foo"), missing("/foo")),
        Step(f"/foo with $TOKEN ({source})", HTTPCall(host, "/foo", bearer(token)), Expected(200, path="/foo")),
        Step("/bar without a token", HTTPCall(host, "/bar"), Expected(200, path="/bar", reason="no_policy")),
        Step("/foo, signed by a stranger", HTTPCall(host, "/foo", bearer(stranger)), bad),
        Step("/foo/more without a token", HTTPCall(host, "/foo/more"), missing("/foo/more")),
        Step("no route: /elsewhere", HTTPCall(host, "/elsewhere"), refused(404, "", "route_not_found")),
    )
    files = read_folder("jwt-authentication/http")
    return Scene("001", "HTTPRoute", files, steps, "default/backend:3000", keys="public")


def grpc_authentication(material: Material) -> Scene:
    """Seed 001: the same on a GRPCRoute, with the real gRPC client."""
    token, source = _test_token(material)
    ping, reflection = "/yages.Echo/Ping", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    metadata = (("authorization", f"Bearer {token}"),)
    stranger = (("authorization", f"Bearer {sign_token(material.stranger, {'sub': '1'})}"),)
    denied = Expected("UNAUTHENTICATED", "Jwt is missing", reason="jwt_missing")
    steps = (
        Step("yages.Echo/Ping without a token", GRPCCall(GRPC_HOST, ping), denied),
        Step("grpcurl's descriptor query (stream)", GRPCCall(GRPC_HOST, reflection, streaming=True), denied),
        Step(
            f"yages.Echo/Ping with $TOKEN ({source})",
            GRPCCall(GRPC_HOST, ping, metadata),
            Expected("OK", "pong", path=ping, reason="allowed"),
        ),
        Step(
            "yages.Echo/Ping, signed by a stranger",
            GRPCCall(GRPC_HOST, ping, stranger),
            Expected("UNAUTHENTICATED", "Jwt verification fails", reason="jwt_verification_failed"),
        ),
    )
    files = read_folder("jwt-authentication/grpc")
    return Scene("001", "GRPCRoute", files, steps, "default/yages:9000", grpc=True, keys="public")


def self_signed_keys(material: Material, ca: str) -> Scene:
    """Seed 001: the key set behind a Backend with a certificate of its own authority, and its retries."""
    host = EXAMPLE_HOST
    token = sign_token(material.provider, {"sub": "1234567890"})
    retried = Expected(200, path="/foo", reason="allowed", key_answers=(503, 503, 200))
    steps = (
        Step("JWKS answers 503 twice, then keys", HTTPCall(host, "/foo", bearer(token)), retried),
        Step("/foo without a token", HTTPCall(host, "/foo"), missing("/foo")),
    )
    files = _self_signed_files(ca)
    return Scene("001", "self-signed JWKS", files, steps, "default/backend:3000", keys="private")


def wrong_authority(material: Material, ca: str) -> Scene:
    """Seed 001 turned round: with another CA in the ConfigMap the key server is not believed, and nobody gets in."""
    token = sign_token(material.provider, {"sub": "1234567890"})
    unavailable = Expected(
        503, "Jwks remote fetch is failed", answer=(("retry-after", "*"),), reason="keys_unavailable"
    )
    steps = (Step("the ConfigMap holds another CA", HTTPCall(EXAMPLE_HOST, "/foo", bearer(token)), unavailable),)
    files = _self_signed_files(ca)
    return Scene("001", "self-signed JWKS, not trusted", files, steps, "default/backend:3000", keys="distrusted")


def claims(material: Material) -> Scene:
    """Seed 002: a Gloo JWTPolicy with claims and required scopes, and a key pair made by its reader."""
    host, path = EXAMPLE_HOST, "/get"
    payload = {"iss": "https://localhost", "exp": _FAR, "iat": 1648651136}
    developer = {**payload, "org": "internal", "email": "dev@example.com", "scope": "is:developer"}
    user = {**payload, "org": "external", "email": "user@example.com", "scope": "is:user"}
    routed = ("X-httpbin", "true")

    def call(content: Mapping[str, object] | None, header: str = "X-Auth", target: str = path) -> HTTPCall:
        token = () if content is None else bearer(sign_token(material.local, content), header)
        return HTTPCall(host, target, (*token, routed))

    partner = {**developer, "org": "partner", "scope": "is:developer read:secrets"}
    nameless = {name: value for name, value in developer.items() if name != "email"}
    query = f"{path}?auth_token={sign_token(material.local, developer)}"
    allowed = Expected(200, path=path, seen=(("x-auth", None), ("x-httpbin", "true")), reason="allowed")
    steps = (
        Step("no authentication", call(None), missing(path)),
        Step("TOKEN_DEV in X-Auth", call(developer), allowed),
        Step("TOKEN_USER in X-Auth", call(user), DENIED_BY_RULE),
        Step("TOKEN_DEV in ?auth_token=", call(None, target=query), Expected(200, path=path)),
        Step("org partner, one more scope", call(partner), Expected(200)),
        Step("org external, else TOKEN_DEV", call({**developer, "org": "external"}), DENIED_BY_RULE),
        Step("scope is:user, else TOKEN_DEV", call({**developer, "scope": "is:user"}), DENIED_BY_RULE),
        Step("no email claim", call(nameless), DENIED_BY_RULE),
        Step("TOKEN_DEV in Authorization", call(developer, "Authorization"), missing(path)),
        Step(
            "expired TOKEN_DEV",
            call({**developer, "exp": 1648651137}),
            refused(401, "Jwt is expired", "jwt_expired"),
        ),
        Step(
            "another issuer",
            call({**developer, "iss": "https://example.com"}),
            refused(401, "Jwt issuer is not configured", "jwt_unknown_issuer"),
        ),
    )
    files = read_folder("claims", key=material.local)
    return Scene("002", "claims and scopes", files, steps, "httpbin/httpbin:8000")


def east_west(material: Material) -> Scene:
    """Seed 003: a Gloo RouteTable and JWTPolicy inside the mesh, claims copied into headers."""
    host, path = EXAMPLE_HOST, "/get"
    payload = {
        "iss": "https://localhost",
        "exp": _FAR,
        "iat": 1648651136,
        "org": "internal",
        "email": "dev@example.com",
    }
    token = sign_token(material.local, payload)
    stranger = sign_token(material.stranger, payload)
    routed = ("X-httpbin-mesh", "true")
    in_query = f"{path}?auth_token={token}"
    seen = (("x-org", "internal"), ("x-email", "dev@example.com"), ("x-auth", None), ("x-httpbin-mesh", "true"))
    allowed = Expected(200, path=path, seen=seen, reason="allowed")
    bad = refused(401, "Jwt verification fails", "jwt_verification_failed")
    spoofed = HTTPCall(
        host, in_query, (routed, ("X-Org", "admin"), ("x_org", "admin"), ("X-Email", "root@example.com"))
    )
    local = "httpbin.httpbin:8000"
    nameless = sign_token(material.local, {name: value for name, value in payload.items() if name != "email"})
    steps = (
        Step("no authentication", HTTPCall(host, path, (routed,)), missing(path)),
        Step("?auth_token=$TOKEN", HTTPCall(host, in_query, (routed,)), allowed),
        Step("X-Auth: Bearer $TOKEN", HTTPCall(host, path, (*bearer(token, "X-Auth"), routed)), allowed),
        Step(
            "both, both valid", HTTPCall(host, in_query, (*bearer(token, "X-Auth"), routed)), Expected(200, path=path)
        ),
        Step("both, the header's invalid", HTTPCall(host, in_query, (*bearer(stranger, "X-Auth"), routed)), bad),
        Step(
            "both, the query's invalid",
            HTTPCall(host, f"{path}?auth_token={stranger}", (*bearer(token, "X-Auth"), routed)),
            bad,
        ),
        Step(
            "other parameters stay as they are",
            HTTPCall(host, f"{path}?a=%41&auth_token={token}&b=+%2F", (routed,)),
            Expected(200, path=f"{path}?a=%41&b=+%2F"),
        ),
        Step("client sends X-Org, X-Email itself", spoofed, Expected(200, path=path, seen=(*seen, ("x_org", None)))),
        Step(
            "token without email",
            HTTPCall(host, path, (*bearer(nameless, "X-Auth"), routed)),
            Expected(200, seen=(("x-org", "internal"), ("x-email", None))),
        ),
        Step("no X-httpbin-mesh header", HTTPCall(host, in_query), refused(404, "", "route_not_found")),
        Step("http://httpbin.httpbin:8000, no token", HTTPCall(local, path, (routed,)), missing(path, local)),
        Step("http://httpbin.httpbin:8000, $TOKEN", HTTPCall(local, in_query, (routed,)), Expected(200, path=path)),
    )
    files = read_folder("east-west", key=material.local)
    return Scene("003", "east-west", files, steps, "httpbin/httpbin:8000")


def read_folder(folder: str, *, key: SigningKey | None = None) -> tuple[tuple[str, str], ...]:
    """The policy files of an example and its folders; ``key`` replaces the inline public keys."""
    root = locate_manifests() / folder
    found = []
    for file in sorted(root.rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        name = "-".join(file.relative_to(root).parts)
        found.append((name, text if key is None else paste_pem(text, "PUBLIC KEY", public_pem(key))))
    if not found:
        raise FileNotFoundError(f"no policy files in {root}")
    return tuple(found)


def _self_signed_files(ca: str) -> tuple[tuple[str, str], ...]:
    files = read_folder("jwt-authentication/self-signed")
    return tuple((name, paste_pem(text, "CERTIFICATE", ca)) for name, text in files)


def _test_token(material: Material) -> tuple[str, str]:
    return choose_token(
        "jwt-authentication",
        "test.jwt",
        material,
        {"sub": "1234567890", "name": "John Doe", "admin": True},
    )
