"""Reads YAML as ``lint`` would, for tests: one text, one set, and its messages as people see them."""

from __future__ import annotations

from textwrap import dedent

from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.policies import Policy
from eastgate.model.routes import Route
from eastgate.model.sets import PolicySet

PEM = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"

GLOO = "security.policy.gloo.solo.io/v2"
OWN = "policy.eastgate.dev/v1alpha1"


def read(*texts: str) -> PolicySet:
    """The set of these texts, each a file ``a.yaml``, ``b.yaml`` …"""
    return read_policy_set((f"{chr(97 + index)}.yaml", dedent(text)) for index, text in enumerate(texts))


def errors(found: PolicySet) -> list[str]:
    """The errors, as printed."""
    return [str(one) for one in found.diagnostics if one.severity is Severity.ERROR]


def warnings(found: PolicySet) -> list[str]:
    """The warnings, as printed."""
    return [str(one) for one in found.diagnostics if one.severity is Severity.WARNING]


def the_error(found: PolicySet) -> Diagnostic:
    """The only error there is."""
    (one,) = (one for one in found.diagnostics if one.severity is Severity.ERROR)
    return one


def policy_text(config: str = "", spec: str = "applyToRoutes: [{}]", api: str = GLOO, provider: str = "") -> str:
    """A JWTPolicy ``shop/p`` with one provider; ``config`` and ``provider`` are further YAML lines of those blocks."""
    return "\n".join(
        [
            f"apiVersion: {api}",
            "kind: JWTPolicy",
            "metadata: {name: p, namespace: shop}",
            "spec:",
            *_indent(spec, 2),
            "  config:",
            *_indent(config, 4),
            "    providers:",
            "      dev:",
            *_indent(provider or "local: {inline: key}", 8),
        ]
    )


def table_text(http: str, spec: str = "hosts: [www.example.com]", api: str = "networking.gloo.solo.io/v2") -> str:
    """A RouteTable ``shop/t`` with labels ``table: t``; ``http`` is the list."""
    return "\n".join(
        [
            f"apiVersion: {api}",
            "kind: RouteTable",
            "metadata: {name: t, namespace: shop, labels: {table: t}}",
            "spec:",
            *_indent(spec, 2),
            "  http:",
            *_indent(http, 2),
        ]
    )


def read_policy(*arguments: str, others: tuple[str, ...] = (), **keywords: str) -> Policy:
    """The one policy, which must be without error."""
    found = read(policy_text(*arguments, **keywords), *others)
    assert errors(found) == []
    (policy,) = found.policies
    return policy


def read_routes(*texts: str) -> tuple[Route, ...]:
    """The routes of these texts, which must be without error."""
    found = read(*texts)
    assert errors(found) == []
    return found.routes


def _indent(text: str, by: int) -> list[str]:
    return [" " * by + line for line in dedent(text).strip("\n").splitlines() if line.strip()]
