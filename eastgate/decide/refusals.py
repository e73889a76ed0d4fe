"""Refusals as decisions: status, body and headers as Envoy writes them.

Knows: what a refusal looks like on the wire before it is rendered for HTTP or gRPC. Must not know: how it came about.
Rules: Envoy's jwt_authn filter.cc and rbac filter, RFC 6750 section 3, RFC 9110 sections 10.2.3 and 11.6.1.
Deliberately unlike Envoy: the realm leaves out the query, which may hold a token; keys that cannot be had are 503.
"""

from __future__ import annotations

import re

from eastgate.compile.guards import Guard, Refusal
from eastgate.decide.requirement import Failure
from eastgate.decide.statuses import Status
from eastgate.model.decisions import Check, Decision, Reason
from eastgate.model.requests import Request
from eastgate.model.workloads import KeysUnavailable

REALM_PATH_LIMIT = 256
"""Envoy's MaxUriLength: so much of the path goes into the realm."""

RETRY_AFTER = b"1"
"""Seconds; Envoy's and ours to wait after a failed fetch of keys."""

TEXT = (b"content-type", b"text/plain")
ACCESS_DENIED = b"RBAC: access denied"
UNAVAILABLE = b"policy is unavailable"

_UNQUOTABLE = re.compile(rb"[^!#-\[\]-~]")


def _deny(
    status: int,
    reason: str,
    body: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    guard: Guard | None,
    checks: tuple[Check, ...],
) -> Decision:
    return Decision(
        allowed=False,
        status=status,
        reason=reason,
        body=body,
        headers=headers,
        route=guard.route if guard is not None else "",
        policies=guard.names if guard is not None else (),
        denied_by_policy=True,
        checks=checks,
    )


def refuse_target(detail: str, checks: tuple[Check, ...]) -> Decision:
    """400: the request cannot be understood without doubt."""
    return _deny(400, Reason.BAD_REQUEST, b"bad request: " + detail.encode(), (TEXT,), None, checks)


def refuse_by_guard(refusal: Refusal, guard: Guard | None, checks: tuple[Check, ...]) -> Decision:
    """404 with an empty body where no route is, 503 where a policy that should decide cannot."""
    if refusal.reason is Reason.ROUTE_NOT_FOUND:
        return _deny(404, refusal.reason, b"", (), guard, checks)
    return _deny(503, refusal.reason, UNAVAILABLE, (TEXT,), guard, checks)


def refuse_token(
    failure: Failure,
    request: Request,
    path: bytes,
    keys_unavailable: KeysUnavailable,
    guard: Guard,
    checks: tuple[Check, ...],
) -> Decision:
    """401 (403 for the audience), or 503 for want of keys."""
    status = failure.status
    body = status.text.encode()
    if failure.unavailable:
        if keys_unavailable is KeysUnavailable.UNAVAILABLE:
            return _deny(503, Reason.KEYS_UNAVAILABLE, body, ((b"retry-after", RETRY_AFTER), TEXT), guard, checks)
        return _deny(401, Reason.KEYS_UNAVAILABLE, body, (challenge(status, request, path), TEXT), guard, checks)
    return _deny(status.http, status.reason, body, (challenge(status, request, path), TEXT), guard, checks)


def refuse_access(guard: Guard, checks: tuple[Check, ...]) -> Decision:
    """403: a good token is not enough."""
    return _deny(403, Reason.ACCESS_DENIED, ACCESS_DENIED, (TEXT,), guard, checks)


def challenge(status: Status, request: Request, path: bytes) -> tuple[bytes, bytes]:
    """The ``www-authenticate`` field. Nothing a client sends can end the quoted realm."""
    place = request.scheme + b"://" + request.authority + path[:REALM_PATH_LIMIT]
    realm = _UNQUOTABLE.sub(lambda odd: b"%%%02X" % odd[0][0], place)
    error = b', error="invalid_token"' if status.invalid_token else b""
    return (b"www-authenticate", b'Bearer realm="' + realm + b'"' + error)
