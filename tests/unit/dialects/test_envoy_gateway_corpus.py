"""The dialect behind the room's own door: the examples as files, beside the other dialects."""

from __future__ import annotations

from pathlib import Path

import pytest

from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.files import read_sources
from eastgate.model.diagnostics import has_errors
from eastgate.model.keys import RemoteKeys
from eastgate.model.policies import Policy

EXAMPLES = Path(__file__).parents[3] / "manifests" / "examples"


def read_example(folder: str) -> Policy:
    found = read_policy_set(read_sources([str(EXAMPLES / folder)]))
    assert not has_errors(found.diagnostics), list(map(str, found.diagnostics))
    assert all(not route.invalid for route in found.routes)
    assert found.services
    (policy,) = found.policies
    assert policy.invalid == ()
    return policy


@pytest.mark.parametrize(
    "folder",
    ["claim-authorization", "jwt-authentication/http", "jwt-authentication/grpc", "jwt-authentication/self-signed"],
)
def test_examples_are_read_without_error(folder: str) -> None:
    policy = read_example(folder)
    assert policy.requirement is not None
    (provider,) = policy.requirement.providers
    assert isinstance(provider.keys, RemoteKeys)
    assert provider.keys.unresolved is None


def test_without_its_authority_the_self_signed_example_closes() -> None:
    folder = EXAMPLES / "jwt-authentication" / "self-signed"
    found = read_policy_set(read_sources([str(folder / "policy.yaml"), str(folder / "routes.yaml")]))
    (policy,) = found.policies
    assert policy.invalid
    assert policy.requirement is not None
    keys = policy.requirement.providers[0].keys
    assert isinstance(keys, RemoteKeys)
    assert keys.unresolved is not None
    assert "ConfigMap `default/remote-jwks-server-ca`" in keys.unresolved


def test_filters_and_namespaces_are_known_kinds() -> None:
    found = read_policy_set(
        [
            (
                "a.yaml",
                "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: HTTPRouteFilter\nmetadata: {name: f}\n"
                "spec: {directResponse: {}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: space}\n",
            )
        ]
    )
    assert found.diagnostics == ()
