"""The explanation that people read."""

from __future__ import annotations

from eastgate.model.decisions import Check, Decision, Edits
from eastgate.model.requests import Request
from eastgate.render.text import conceal, conceal_query, plain, render_text
from eastgate.render.trace import Explanation

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqb2UifQ.c2lnbmF0dXJl"
REQUEST = Request(
    b"GET",
    b"/get?auth_token=" + TOKEN.encode() + b"&a=1",
    b"www.example.com",
    ((b"x-auth", b"Bearer " + TOKEN.encode()), (b"x-org", b"spoofed"), (b"accept", b"*/*")),
)
CHECKS = (
    Check("target", "target", True, "/get"),
    Check("route", "RouteTable httpbin/www-example-com httpbin-mesh", True),
    Check("selection", "RouteTable httpbin/www-example-com httpbin-mesh", True, "httpbin/jwt-policy"),
    Check("verify", "dev-example", True, "header x-auth: verified"),
    Check("claim", "org", True, "found 'internal', expected one of internal"),
    Check("claim", "email", False, "found nothing, expected one of *@solo.io"),
    Check("rule", "claims", False, "does not match"),
    Check("default", "deny", False, "no rule matched"),
)


def explain(decision: Decision, request: Request = REQUEST, notes: tuple[str, ...] = ()) -> str:
    return plain(render_text(Explanation("1", request, decision, notes)))


def test_a_refusal_at_a_glance() -> None:
    decision = Decision(
        allowed=False,
        status=401,
        reason="jwt_unknown_issuer",
        body=b"Jwt issuer is not configured",
        headers=((b"www-authenticate", b'Bearer realm="http://www.example.com/get", error="invalid_token"'),),
        route="RouteTable httpbin/www-example-com httpbin-mesh",
        policies=("httpbin/jwt-policy",),
        checks=CHECKS,
    )
    assert explain(decision, notes=("the Host header decides",)).splitlines() == [
        "DENY 401 Jwt issuer is not configured  (jwt_unknown_issuer)",
        "  request   GET http://www.example.com/get?auth_token=…&a=1",
        "            the Host header decides",
        "  route     RouteTable httpbin/www-example-com httpbin-mesh",
        "  policies  httpbin/jwt-policy",
        "  checks    ✓ target  /get",
        "            ✓ route RouteTable httpbin/www-example-com httpbin-mesh",
        "            ✓ selection RouteTable httpbin/www-example-com httpbin-mesh  httpbin/jwt-policy",
        "            ├─ ✓ verify dev-example  header x-auth: verified",
        "            ├─ ✗ rule claims  does not match",
        "            │  ├─ ✓ claim org  found 'internal', expected one of internal",
        "            │  └─ ✗ claim email  found nothing, expected one of *@solo.io",
        "            └─ ✗ default deny  no rule matched",
        "  answer    HTTP 401",
        '            www-authenticate: Bearer realm="http://www.example.com/get", error="invalid_token"',
    ]


def test_a_pass_shows_what_changes_on_the_way() -> None:
    edits = Edits(b"/get?a=1", frozenset({b"x-auth", b"x-org"}), ((b"x-org", b"internal"),))
    decision = Decision(allowed=True, status=200, reason="allowed", edits=edits)
    text = explain(decision)
    assert text.splitlines()[0] == "ALLOW  (allowed)"
    assert text.splitlines()[-5:] == [
        "  upstream  GET /get?a=1",
        "            ~ the target was changed on the way",
        "            - x-auth",
        "            - x-org  the client's own",
        "            + x-org: internal",
    ]


def test_a_grpc_refusal_is_said_in_grpc() -> None:
    request = Request(b"POST", b"/yages.Echo/Ping", b"a", ((b"content-type", b"application/grpc"),))
    text = explain(Decision(allowed=False, status=401, reason="jwt_missing", body=b"Jwt is missing"), request)
    assert "  answer    gRPC status 16 Unauthenticated" in text
    assert "grpc-message: Jwt is missing" in text


def test_audit_mode_says_both() -> None:
    decision = Decision(allowed=True, status=401, reason="jwt_missing", denied_by_policy=True, edits=Edits(b"/"))
    assert explain(decision).startswith("ALLOW in audit mode; enforced it would be 401  (jwt_missing)")


def test_no_token_anywhere() -> None:
    edits = Edits(REQUEST.target, frozenset(), ((b"x-payload", TOKEN.split(".")[1].encode()),))
    for decision in (
        Decision(allowed=True, status=200, reason="allowed", edits=edits),
        Decision(
            allowed=False, status=401, reason="x", body=TOKEN.encode(), checks=(Check("token", TOKEN, False, TOKEN),)
        ),
    ):
        assert "eyJ" not in explain(decision)


def test_conceal() -> None:
    assert conceal(f"Bearer {TOKEN}") == "Bearer <token>"
    assert conceal("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc"
    assert conceal("x" * 300) == "x" * 239 + "…"
    assert conceal_query("/a?b=1&c=" + "y" * 33 + "&d&my_token=x") == "/a?b=1&c=…&d&my_token=…"
