"""The kinds by their paths, and that none is forgotten that somebody here reads."""

from __future__ import annotations

from eastgate.dialects.kinds import READ
from webhook.resources import CONFIG_MAPS, NAMESPACES, PODS, POLICY_KINDS, SECRETS, SERVICES


def test_every_kind_that_is_read_is_watched() -> None:
    watched = {(one.group, one.kind) for one in (*POLICY_KINDS, SERVICES, CONFIG_MAPS, SECRETS, NAMESPACES)}
    assert watched == set(READ)
    for one in POLICY_KINDS:
        accepted = READ[one.group, one.kind]
        assert not accepted or set(one.versions) <= set(accepted)


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("a", "b", "status") == "/api/v1/namespaces/a/pods/b/status"
    assert NAMESPACES.path(None, "a") == "/api/v1/namespaces/a"
    assert NAMESPACES.path("ignored", "a") == "/api/v1/namespaces/a"
    routes = next(one for one in POLICY_KINDS if one.kind == "HTTPRoute")
    assert routes.at("v1beta1").path("a") == "/apis/gateway.networking.k8s.io/v1beta1/namespaces/a/httproutes"
    assert PODS.path("a", "../b") == "/api/v1/namespaces/a/pods/..%2Fb"
