"""Reads Gateway API and Envoy Gateway YAML through the dialect alone: without the other dialects, services or corpus."""

from __future__ import annotations

from dataclasses import dataclass, field

from eastgate.dialects.catalogue import Catalogue
from eastgate.dialects.documents import read_documents
from eastgate.dialects.envoy_gateway import read
from eastgate.dialects.identity import read_identity
from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.model.policies import Policy
from eastgate.model.routes import Route


@dataclass
class Reading:
    policies: list[Policy] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        return [str(one) for one in self.diagnostics if one.severity is Severity.ERROR]

    @property
    def warnings(self) -> list[str]:
        return [str(one) for one in self.diagnostics if one.severity is Severity.WARNING]

    @property
    def policy(self) -> Policy:
        (policy,) = self.policies
        return policy

    @property
    def route(self) -> Route:
        (route,) = self.routes
        return route

    def error(self, text: str) -> str:
        """The one error with this text in it."""
        found = [one for one in self.errors if text in one]
        assert len(found) == 1, f"{text!r} in {self.errors}"
        return found[0]

    def warning(self, text: str) -> str:
        """The one warning with this text in it."""
        found = [one for one in self.warnings if text in one]
        assert len(found) == 1, f"{text!r} in {self.warnings}"
        return found[0]


def reading(*texts: str) -> Reading:
    """What the dialect makes of these texts; file ``N.yaml`` is the N-th."""
    sink: list[Diagnostic] = []
    found = [
        identity
        for index, text in enumerate(texts)
        for document in read_documents(f"{index}.yaml", text, sink)
        if (identity := read_identity(document, sink)) is not None
    ]
    policies, routes = read(Catalogue(found), sink)
    return Reading(policies, routes, sink)


def indented(text: str, by: int) -> str:
    """The text, moved right, for putting it into a larger one."""
    pad = " " * by
    return "".join(pad + line + "\n" if line.strip() else "\n" for line in text.strip("\n").splitlines())
