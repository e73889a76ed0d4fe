"""Two dialects of one shape: Gloo's JWTPolicy and RouteTable, and Eastgate's own, which grew out of them.

Knows: how they differ by name, and what every reader of the two needs at hand. Must not know any field.
"""

from __future__ import annotations

from dataclasses import dataclass

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.documents import Fields, Reporter
from eastgate.dialects.references import Source
from eastgate.model.diagnostics import Diagnostic


@dataclass(frozen=True, slots=True)
class Dialect:
    """``name`` is that of ``Policy.dialect``. ``own``: fields beyond Gloo's are read, and Gloo's slips are refused."""

    name: str
    policy_group: str
    route_group: str
    own: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What one reading works with: the dialect, everything that was read, and where messages go."""

    dialect: Dialect
    catalogue: Catalogue
    sink: list[Diagnostic]

    def source_of(self, found: Object) -> Source:
        """The object as the one that refers to others."""
        return Source(found.group, found.kind, found.namespace)

    def report_on(self, found: Object) -> Reporter:
        """A reporter that names the object."""
        return Reporter(self.sink, str(found.title))


def open_spec(found: Object, report: Reporter) -> Fields:
    """The object's ``spec`` for reading, after its top level was checked. Close it."""
    with Fields(found.document, report) as top:
        # ``status`` is written by controllers; the other three are the object's identity, which ``identity`` checks.
        top.ignore("apiVersion", "kind", "metadata", "status")
        if not top.has("spec"):
            report.error(top.at("spec"), "missing-field", "`spec` is required and must not be empty")
    return Fields(found.spec(), report)
