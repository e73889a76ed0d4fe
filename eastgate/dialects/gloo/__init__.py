"""Gloo Mesh and Gloo Gateway: JWTPolicy, RouteTable, and the ExternalServices that JWKS servers are named by.

``security.policy.gloo.solo.io/v2`` and ``networking.gloo.solo.io/v2`` as of gloo-platform-crds 2.14, and the older
guides' spelling where it differs (``queryParameters``). The reading is shared with our own kinds, which have the same
shape; see ``policy`` and ``routes``.

Deliberately different, because enforcement is at the receiver and there is one cluster:
a policy acts in its own namespace unless a selector names another, ``cluster`` and ``workspace`` select nothing;
virtual gateways and workload selectors say where a request starts, and a route holds for requests from everywhere;
a VirtualDestination is refused, since nothing would be enforced behind it; certificates are always verified.
"""

from __future__ import annotations

from eastgate.dialects.catalogue import Catalogue
from eastgate.dialects.gloo.dialect import Dialect, Scope
from eastgate.dialects.gloo.policy import read_policies
from eastgate.dialects.gloo.routes import read_routes
from eastgate.dialects.kinds import GLOO_NETWORK_GROUP, GLOO_POLICY_GROUP
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.policies import Policy
from eastgate.model.routes import Route

GLOO = Dialect("gloo", GLOO_POLICY_GROUP, GLOO_NETWORK_GROUP)


def read(catalogue: Catalogue, sink: list[Diagnostic]) -> tuple[list[Policy], list[Route]]:
    """The policies and routes of Gloo's kinds."""
    scope = Scope(GLOO, catalogue, sink)
    return list(read_policies(scope)), read_routes(scope)
