"""Field paths for messages about a policy that was read already: where its author wrote what the model holds.

Knows: the spelling of each dialect. Must not know: what is wrong.
"""

from __future__ import annotations

from eastgate.model.policies import Policy, Provider

ENVOY_GATEWAY = "envoy_gateway"

_KEYS = ("local", "jwks", "remote", "localJWKS", "remoteJWKS")
_TARGETS = ("spec.targetRefs", "spec.targetRef", "spec.targetSelectors")


def provider_field(policy: Policy, provider: Provider) -> str:
    """A provider: a map entry for Gloo and our own kind, a list item for Envoy Gateway."""
    if policy.dialect != ENVOY_GATEWAY or policy.requirement is None:
        return f"spec.config.providers.{provider.name}"
    return f"spec.jwt.providers[{policy.requirement.providers.index(provider)}]"


def keys_field(policy: Policy, provider: Provider) -> str:
    """What a provider says of its keys, where that is known; else the provider."""
    whole = provider_field(policy, provider)
    said = (path for path, _ in policy.places if path.startswith(f"{whole}."))
    return next((path for path in said if path[len(whole) + 1 :].partition(".")[0] in _KEYS), whole)


def sources_field(policy: Policy, provider: Provider) -> str:
    """Where a provider says that its tokens are."""
    return f"{provider_field(policy, provider)}.{'extractFrom' if policy.dialect == ENVOY_GATEWAY else 'tokenSource'}"


def rule_field(policy: Policy, index: int) -> str:
    """A rule. Gloo has one, which is written as ``claims`` and ``requiredScopes``."""
    if policy.dialect == ENVOY_GATEWAY:
        return f"spec.authorization.rules[{index}]"
    if policy.authorization is not None and policy.authorization.rules[index].name == "claims":
        return "spec.config.claims"
    return f"spec.config.authorization.rules[{index}]"


def authorization_field(policy: Policy) -> str:
    """All rules."""
    return "spec.authorization" if policy.dialect == ENVOY_GATEWAY else "spec.config"


def selection_field(policy: Policy) -> str:
    """What it applies to."""
    if policy.dialect == ENVOY_GATEWAY:
        written = {path for path, _ in policy.places}
        return next((path for path in _TARGETS if path in written), _TARGETS[0])
    return "spec.applyToRoutes" if policy.routes or not policy.destinations else "spec.applyToDestinations"
