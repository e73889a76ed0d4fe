"""A protected workload for the live tests: everything below /open is public, the rest needs a token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.serving import Served, serve
from tests.live.upstream import Upstream, run_upstream
from tests.tokens import key_set, mint

ISSUER = "https://issuer.example"
POLICY = """
apiVersion: policy.eastgate.dev/v1alpha1
kind: RouteTable
metadata: {name: table, namespace: shop}
spec:
  hosts: ["shop.example"]
  http:
  - name: open
    matchers: [{uri: {prefix: /open}}]
    forwardTo: {destinations: [{ref: {name: shop, namespace: shop}}]}
  - name: guarded
    labels: {guard: "yes"}
    forwardTo: {destinations: [{ref: {name: shop, namespace: shop}}]}
---
apiVersion: policy.eastgate.dev/v1alpha1
kind: JWTPolicy
metadata: {name: guard, namespace: shop}
spec:
  applyToRoutes: [{route: {labels: {guard: "yes"}}}]
  config:
    providers:
      issuer:
        issuer: https://issuer.example
        keepToken: true
        local: {inline: '%s'}
        claimsToHeaders: [{claim: org, header: x-org}]
"""


def write_policy(folder: Path) -> Path:
    """The policy above as a file."""
    path = folder / "policy.yaml"
    path.write_text(POLICY % key_set("main"))
    return path


def make_token(**claims: object) -> str:
    """A token that the policy accepts."""
    return mint({"iss": ISSUER, "exp": "+1h", "org": "internal", **claims})


@dataclass
class Protected:
    """A served workload and the application behind it."""

    served: Served
    upstream: Upstream
    token: str

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self.served.port


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """One proxy and one application for the module's tests."""
    folder = tmp_path_factory.mktemp("policy")
    with run_upstream() as upstream, serve([write_policy(folder)], upstream.port) as served:
        yield Protected(served, upstream, make_token())
