"""A policy set: everything that was read from a set of files or objects, before a workload is known."""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.model.diagnostics import Diagnostic
from eastgate.model.policies import Policy
from eastgate.model.routes import Route
from eastgate.model.workloads import Service


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Policies, routes and services with every reference resolved, and what there was to say about them.

    Invalid policies and routes are kept (``Policy.invalid``, ``Route.invalid``): they compile to a refusal.
    """

    policies: tuple[Policy, ...] = ()
    routes: tuple[Route, ...] = ()
    services: tuple[Service, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
