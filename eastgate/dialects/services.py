"""Kubernetes Services: which pods a route's destination leads to, and on which container ports.

Reads only what routing needs; everything else in a Service is none of our business. Rules: core/v1 Service.
"""

from __future__ import annotations

from functools import partial

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.dialects.documents import Fields, Reporter, Value
from eastgate.model.diagnostics import Diagnostic
from eastgate.model.workloads import Service, ServicePort

KIND = "Service"


def read(catalogue: Catalogue, sink: list[Diagnostic]) -> list[Service]:
    """Every Service that was read."""
    return [
        catalogue.remember(found, KIND, sink, partial(_read_service, found, sink))
        for found in catalogue.of_kind("", KIND)
    ]


def _read_service(found: Object, sink: list[Diagnostic]) -> Service:
    report = Reporter(sink, str(found.title))
    spec = Fields(found.spec(), report)
    ports = [port for item in spec.items("ports") if (port := _read_port(item, report)) is not None]
    return Service(found.namespace, found.name, found.labels, spec.labels("selector"), tuple(ports))


def _read_port(item: Value, report: Reporter) -> ServicePort | None:
    fields = Fields(item, report)
    number = fields.integer("port", least=1, most=65535)
    if number is None or (fields.text("protocol") or "TCP") != "TCP":
        return None  # HTTP runs over TCP
    target: int | str | None = None
    written = fields.take("targetPort")
    if written is None or written.data in (0, ""):
        target = number
    elif isinstance(written.data, str):
        target = written.data
    else:
        target = fields.integer("targetPort", least=1, most=65535)
    return ServicePort(number, fields.text("name") or "", target)
