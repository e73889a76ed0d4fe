"""Field paths for messages about a policy that was read already: where its author wrote what the model holds.

Knows: the spelling of each dialect. Must not know: what is wrong.
"""

from __future__ import annotations

from eastgate.model.policies import Policy, Provider

ENVOY_GATEWAY = "envoy_gateway"


def provider_field(policy: Policy, provider: Provider) -> str:
    """A provider: a map entry for Gloo and our own kind, a list item for Envoy Gateway."""
    if policy.dialect != ENVOY_GATEWAY or policy.requirement is None:
        return f"spec.config.providers.{provider.name}"
    return f"spec.jwt.providers[{policy.requirement.providers.index(provider)}]"


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
        return "spec.targetRefs"
    return "spec.applyToRoutes" if policy.routes or not policy.destinations else "spec.applyToDestinations"
