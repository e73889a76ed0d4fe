"""The kinds of the API that the control plane touches, as values: where they live and how they are called.

Knows: group, version, plural, kind. Must not know: how to reach an API server, or what an object holds. The plurals are
those of the published CRDs (Gloo, Envoy Gateway, Gateway API); the kinds that carry policy are those that
``eastgate.dialects.kinds`` reads, and a test holds the two lists together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from eastgate.dialects.kinds import ENVOY_GROUP, GATEWAY_GROUP, GLOO_NETWORK_GROUP, GLOO_POLICY_GROUP, OWN_GROUP


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind in one version. ``fallbacks`` are older versions that are read, too, where this one is not served."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    fallbacks: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """Path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def versions(self) -> tuple[str, ...]:
        """All that can be read, the best first."""
        return (self.version, *self.fallbacks)

    def at(self, version: str) -> Resource:
        """The same kind in another version."""
        return replace(self, version=version)

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Of one object, or of the collection; without a namespace that of the whole cluster."""
        parts = [self.root]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part is not None]
        return "/".join(parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


# --- Kubernetes' own ------------------------------------------------------------------------------------------------
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
PODS: Final = Resource("", "v1", "pods", "Pod")
SERVICES: Final = Resource("", "v1", "services", "Service")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
EVENTS: Final = Resource("", "v1", "events", "Event")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
MUTATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
VALIDATING_WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)
CRDS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)

# --- policy and routes ----------------------------------------------------------------------------------------------
JWT_POLICIES: Final = Resource(OWN_GROUP, "v1alpha1", "jwtpolicies", "JWTPolicy")
ROUTE_TABLES: Final = Resource(OWN_GROUP, "v1alpha1", "routetables", "RouteTable")
SECURITY_POLICIES: Final = Resource(ENVOY_GROUP, "v1alpha1", "securitypolicies", "SecurityPolicy")

POLICY_KINDS: Final = (
    JWT_POLICIES,
    ROUTE_TABLES,
    Resource(GLOO_POLICY_GROUP, "v2", "jwtpolicies", "JWTPolicy"),
    Resource(GLOO_NETWORK_GROUP, "v2", "routetables", "RouteTable"),
    Resource(GLOO_NETWORK_GROUP, "v2", "externalservices", "ExternalService"),
    Resource(GLOO_NETWORK_GROUP, "v2", "externalendpoints", "ExternalEndpoint"),
    SECURITY_POLICIES,
    Resource(ENVOY_GROUP, "v1alpha1", "backends", "Backend"),
    Resource(ENVOY_GROUP, "v1alpha1", "httproutefilters", "HTTPRouteFilter"),
    Resource(GATEWAY_GROUP, "v1", "gateways", "Gateway", fallbacks=("v1beta1",)),
    Resource(GATEWAY_GROUP, "v1", "listenersets", "ListenerSet", fallbacks=("v1alpha1",)),
    Resource("gateway.networking.x-k8s.io", "v1alpha1", "xlistenersets", "XListenerSet"),
    Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute", fallbacks=("v1beta1",)),
    Resource(GATEWAY_GROUP, "v1", "grpcroutes", "GRPCRoute", fallbacks=("v1alpha2",)),
    Resource(GATEWAY_GROUP, "v1", "backendtlspolicies", "BackendTLSPolicy", fallbacks=("v1alpha3",)),
    Resource(GATEWAY_GROUP, "v1", "referencegrants", "ReferenceGrant", fallbacks=("v1beta1", "v1alpha2")),
)
"""What the bundles are made of, besides Services, Namespaces, and the ConfigMaps and Secrets that these refer to."""
