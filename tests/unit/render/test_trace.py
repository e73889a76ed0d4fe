"""The explanation that programs read: exactly the keys of the interface."""

from __future__ import annotations

import json

from eastgate.model.decisions import Check, Decision, Edits
from eastgate.model.requests import Request
from eastgate.render.trace import Explanation, render_trace

KEYS = ["id", "decision", "status", "body", "response_headers", "upstream", "route", "policies", "reason", "trace"]
REQUEST = Request(
    b"GET", b"/get?t=x&a=%41", b"www.example.com", ((b"x-auth", b"t"), (b"x-raw", b"\xff"), (b"a", b"\xc3\xa9"))
)


def test_a_pass() -> None:
    edits = Edits(b"/get?a=%41", frozenset({b"x-auth"}), ((b"x-org", b"internal"),))
    decision = Decision(
        allowed=True,
        status=200,
        reason="allowed",
        edits=edits,
        route="r",
        policies=("a/b",),
        checks=(Check("token", "header x-auth", True, "d"),),
    )
    trace = render_trace(Explanation("x", REQUEST, decision, ("note",)))
    assert list(trace) == KEYS
    assert trace["decision"] == "allow"
    assert trace["status"] == 200
    assert trace["body"] == ""
    assert trace["response_headers"] == []
    assert trace["upstream"] == {
        "method": "GET",
        "path": "/get?a=%41",
        "headers": [["host", "www.example.com"], ["x-raw", "ÿ"], ["a", "é"], ["x-org", "internal"]],
    }
    assert trace["policies"] == ["a/b"]
    assert trace["trace"] == [
        {"kind": "request", "subject": "", "passed": True, "detail": "note"},
        {"kind": "token", "subject": "header x-auth", "passed": True, "detail": "d"},
    ]
    json.dumps(trace)


def test_a_refusal() -> None:
    challenge = (b"www-authenticate", b'Bearer realm="x"')
    decision = Decision(allowed=False, status=401, reason="jwt_missing", body=b"Jwt is missing", headers=(challenge,))
    trace = render_trace(Explanation(7, REQUEST, decision))
    assert list(trace) == KEYS
    assert (trace["id"], trace["decision"], trace["status"], trace["body"]) == (7, "deny", 401, "Jwt is missing")
    assert trace["upstream"] is None
    assert ["www-authenticate", 'Bearer realm="x"'] in trace["response_headers"]  # type: ignore[operator]
    head = render_trace(Explanation(7, REQUEST._replace(method=b"HEAD"), decision))
    assert (head["status"], head["body"]) == (401, "")


def test_a_grpc_refusal_as_on_the_wire() -> None:
    request = REQUEST._replace(headers=((b"content-type", b"application/grpc+proto"),))
    decision = Decision(allowed=False, status=403, reason="rbac_access_denied", body=b"RBAC: access denied")
    trace = render_trace(Explanation(1, request, decision))
    assert (trace["decision"], trace["status"], trace["body"]) == ("deny", 200, "")
    headers = trace["response_headers"]
    assert isinstance(headers, list)
    assert ["grpc-status", "7"] in headers
    assert ["grpc-message", "RBAC: access denied"] in headers
