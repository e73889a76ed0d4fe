"""Which kinds are read, in which versions, and which are not although people rely on them.

A policy that nobody reads protects nothing, so it is never passed over in silence: kinds of the groups that carry
policy get a warning, and a name that is nearly ours is an error. Everything else (a Deployment, a Namespace) is left
alone. Must not know what any kind holds.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum

from eastgate.model.diagnostics import suggest_name

OWN_GROUP = "policy.eastgate.dev"
GLOO_POLICY_GROUP = "security.policy.gloo.solo.io"
GLOO_NETWORK_GROUP = "networking.gloo.solo.io"
ENVOY_GROUP = "gateway.envoyproxy.io"
GATEWAY_GROUP = "gateway.networking.k8s.io"

READ: dict[tuple[str, str], tuple[str, ...]] = {
    (OWN_GROUP, "JWTPolicy"): ("v1alpha1",),
    (OWN_GROUP, "RouteTable"): ("v1alpha1",),
    (GLOO_POLICY_GROUP, "JWTPolicy"): ("v2",),
    (GLOO_NETWORK_GROUP, "RouteTable"): ("v2",),
    (GLOO_NETWORK_GROUP, "ExternalService"): ("v2",),
    (GLOO_NETWORK_GROUP, "ExternalEndpoint"): ("v2",),
    ("", "Service"): ("v1",),
    ("", "ConfigMap"): ("v1",),
    ("", "Secret"): ("v1",),
    ("", "Namespace"): ("v1",),
    # Their reader says which versions it accepts.
    (ENVOY_GROUP, "SecurityPolicy"): (),
    (ENVOY_GROUP, "Backend"): (),
    (ENVOY_GROUP, "HTTPRouteFilter"): (),
    (GATEWAY_GROUP, "Gateway"): (),
    (GATEWAY_GROUP, "ListenerSet"): (),
    ("gateway.networking.x-k8s.io", "XListenerSet"): (),
    (GATEWAY_GROUP, "HTTPRoute"): (),
    (GATEWAY_GROUP, "GRPCRoute"): (),
    (GATEWAY_GROUP, "BackendTLSPolicy"): (),
    (GATEWAY_GROUP, "ReferenceGrant"): (),
}
"""(group, kind) -> accepted versions."""

POLICY_GROUPS: dict[str, frozenset[str]] = {
    OWN_GROUP: frozenset(),
    GLOO_POLICY_GROUP: frozenset(),
    "trafficcontrol.policy.gloo.solo.io": frozenset(),
    "extensions.policy.gloo.solo.io": frozenset(),
    "resilience.policy.gloo.solo.io": frozenset(),
    "enterprise.gloo.solo.io": frozenset(),
    "gateway.solo.io": frozenset({"RouteOption", "VirtualHostOption", "RouteTable", "VirtualService"}),
    "gateway.kgateway.dev": frozenset(),
    "agentgateway.dev": frozenset(),
    ENVOY_GROUP: frozenset({"ClientTrafficPolicy", "BackendTrafficPolicy", "EnvoyExtensionPolicy", "EnvoyPatchPolicy"}),
    GATEWAY_GROUP: frozenset({"TCPRoute", "TLSRoute", "UDPRoute"}),
    "security.istio.io": frozenset(),
    "authentication.istio.io": frozenset(),
}
"""Groups whose other kinds carry policy; an empty set means all of them."""


COMMON_KINDS = frozenset({"Gateway", "Backend"})
"""Kinds that other groups have, too (Istio's Gateway): under another group they are left alone."""


class Standing(StrEnum):
    """What is to be done with an object of a kind; the value is the diagnostic's code."""

    READ = "read"
    FOREIGN = "foreign"
    NOT_ENFORCED = "not-enforced"
    WRONG_VERSION = "unsupported-version"
    UNKNOWN_KIND = "unknown-kind"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``field`` is the one at fault; ``message`` is empty where there is nothing to say."""

    standing: Standing
    message: str = ""
    field: str = ""


def is_read(group: str, kind: str) -> bool:
    """True when somebody here reads the kind."""
    return (group, kind) in READ


def judge_kind(group: str, version: str, kind: str) -> Verdict:
    """Whether an object is read, left alone, or has to be talked about."""
    if is_read(group, kind):
        return _judge_version(group, version, kind)
    known = [name for (one, name) in READ if one == group]
    twin = next((name for name in known if name.lower() == kind.lower()), None)
    if twin is not None or (group == OWN_GROUP) or _is_slip(kind, known, POLICY_GROUPS.get(group, frozenset())):
        accepted = ", ".join(known)
        message = f"unknown kind `{kind}`{suggest_name(kind, known)}; accepted in {group}: {accepted}"
        return Verdict(Standing.UNKNOWN_KIND, message, "kind")
    if group in POLICY_GROUPS and (not POLICY_GROUPS[group] or kind in POLICY_GROUPS[group]):
        message = f"kind `{kind}` of `{group}` is not read{suggest_name(kind, known)}: nothing of it is enforced"
        return Verdict(Standing.NOT_ENFORCED, message, "kind")
    return _judge_group(group, kind)


def _judge_version(group: str, version: str, kind: str) -> Verdict:
    accepted = READ[group, kind]
    if not accepted or version in accepted:
        return Verdict(Standing.READ)
    prefix = f"{group}/" if group else ""
    listed = ", ".join(f"`{prefix}{one}`" for one in accepted)
    message = f"unsupported version `{prefix}{version}` of {kind}; accepted: {listed}"
    return Verdict(Standing.WRONG_VERSION, message, "apiVersion")


def _is_slip(kind: str, known: list[str], others: frozenset[str]) -> bool:
    """Nearly a kind that is read, and none that is known to exist: ``SecurityPolcy``, ``HTTPRoutes``."""
    return kind not in others and bool(difflib.get_close_matches(kind, known, n=1, cutoff=0.92))


def _judge_group(group: str, kind: str) -> Verdict:
    """Our kinds under a group that nobody reads: an error when it looks like a slip of the pen."""
    groups = [one for (one, name) in READ if name == kind and one]
    if not groups or kind in COMMON_KINDS:
        return Verdict(Standing.FOREIGN)
    listed = ", ".join(f"`{one}`" for one in groups)
    near = not group or difflib.get_close_matches(group.lower(), groups, n=1, cutoff=0.6)
    if near and kind in ("JWTPolicy", "RouteTable", "SecurityPolicy", "HTTPRoute", "GRPCRoute"):
        message = f"unknown API group `{group}` for {kind}{suggest_name(group, groups)}; accepted: {listed}"
        return Verdict(Standing.UNKNOWN_KIND, message, "apiVersion")
    message = f"kind `{kind}` of `{group}` is not read: nothing of it is enforced; read are those of {listed}"
    return Verdict(Standing.NOT_ENFORCED, message, "apiVersion")
