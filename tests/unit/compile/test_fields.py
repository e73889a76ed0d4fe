"""Field paths in each dialect's spelling."""

from __future__ import annotations

from eastgate.compile.fields import authorization_field, provider_field, rule_field, selection_field, sources_field
from eastgate.model.policies import Authorization, DestinationSelector, Rule, RuleAction
from tests.unit.decide.scenes import claims_policy, policy, provider, targeting


def test_gloo() -> None:
    one = claims_policy()
    assert provider_field(one, provider()) == "spec.config.providers.dev"
    assert sources_field(one, provider()) == "spec.config.providers.dev.tokenSource"
    assert rule_field(one, 0) == "spec.config.claims"
    assert authorization_field(one) == "spec.config"
    assert selection_field(one) == "spec.applyToRoutes"
    assert selection_field(policy(destinations=(DestinationSelector(),))) == "spec.applyToDestinations"


def test_own_rules() -> None:
    rules = Authorization((Rule("a", RuleAction.ALLOW), Rule("b", RuleAction.DENY)))
    assert rule_field(policy(dialect="eastgate", authorization=rules), 1) == "spec.config.authorization.rules[1]"


def test_envoy_gateway() -> None:
    first, second = provider("a"), provider("b")
    one = policy(first, second, dialect="envoy_gateway", targets=(targeting("HTTPRoute", "r"),))
    assert provider_field(one, second) == "spec.jwt.providers[1]"
    assert sources_field(one, second) == "spec.jwt.providers[1].extractFrom"
    assert rule_field(one, 3) == "spec.authorization.rules[3]"
    assert authorization_field(one) == "spec.authorization"
    assert selection_field(one) == "spec.targetRefs"
