"""A gate with one simple rule, so that lanes can be tested without the engine.

``Authorization: Bearer good`` passes and asserts ``x-org: internal``; ``Bearer fetch`` needs keys first; all else is
denied.
"""

from __future__ import annotations

from eastgate.model.decisions import Decision, Edits, KeysNeeded, Reason
from eastgate.model.keys import RemoteKeys
from eastgate.model.requests import Request
from sidecar.upstream import UpstreamError

SOURCE = RemoteKeys("https://idp.example/jwks")
DENIED = Decision(
    allowed=False,
    status=401,
    reason="jwt_missing",
    body=b"Jwt is missing",
    headers=((b"www-authenticate", b'Bearer realm="http://a/"'),),
    denied_by_policy=True,
)


class StubGate:
    """Records what it was asked and told."""

    def __init__(self, *, allow_all: bool = False) -> None:
        self.allow_all = allow_all
        self.requests: list[Request] = []
        self.refused: list[Decision] = []
        self.upstream_errors: list[UpstreamError] = []

    def decide(self, request: Request, *, asked: bool = False) -> Decision | KeysNeeded:
        """See the module."""
        self.requests.append(request)
        token = dict(request.headers).get(b"authorization")
        if token == b"Bearer fetch" and not asked:
            return KeysNeeded((SOURCE,))
        if self.allow_all or token in (b"Bearer good", b"Bearer fetch"):
            edits = Edits(request.target, frozenset([b"x-org"]), ((b"x-org", b"internal"),))
            return Decision(allowed=True, status=200, reason=Reason.ALLOWED, edits=edits, route="a route")
        return DENIED

    def refuse(self, request: Request, decision: Decision) -> None:
        """A lane's own refusal."""
        self.refused.append(decision)

    def report_upstream_error(self, error: UpstreamError) -> None:
        """A request that came to nothing."""
        self.upstream_errors.append(error)
