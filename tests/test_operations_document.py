"""``docs/operations.md`` lists every metric, and none that is not there; and no log line that nobody writes."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import chain

import pytest
from prometheus_client import CollectorRegistry

from sidecar.metrics import FAMILIES
from tests.corpus import ROOT
from webhook.controllers.metrics import Metrics as ControllerMetrics
from webhook.metrics import Metrics as WebhookMetrics

TEXT = (ROOT / "docs" / "operations.md").read_text()

type Documented = dict[str, tuple[str, tuple[str, ...]]]
"""Kind and labels of a metric."""


def read_metrics(prefix: str) -> Documented:
    rows = re.findall(rf"^\| `({prefix}_\w+)` \| (\w+) \|([^|]*)\|", TEXT, re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows})
    return {
        name: (kind, tuple(label for label in labels.replace(" ", "").split(",") if label))
        for name, kind, labels in rows
    }


@cache
def list_nodes(folder: str) -> tuple[ast.AST, ...]:
    """Everything that is written in the modules of a folder, but not in folders inside it."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / folder).glob("*.py"))]
    return tuple(chain.from_iterable(map(ast.walk, trees)))


def test_every_metric_of_the_sidecar_is_documented() -> None:
    documented = {
        name: said
        for name, said in read_metrics("eastgate").items()
        if not re.match("eastgate_(webhook|controller)_", name)
    }
    assert documented == {
        name: (family.kind, family.labels if family.kind != "histogram" else ())
        for name, family in FAMILIES.items()
        if name.startswith("eastgate_")
    }


def read_registry(registry: CollectorRegistry) -> Documented:
    """What counts by itself, with the labels it was made with."""
    made: Documented = {}
    for collector in registry._collector_to_names:
        for family in collector.describe() if hasattr(collector, "describe") else ():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            made[name] = (family.type, tuple(getattr(collector, "_labelnames", ())))
    return made


def read_asked(folder: str, prefix: str) -> Documented:
    """What somebody is asked for when it is scraped: ``ask_gauge("name", ...)`` anywhere."""
    made: Documented = {}
    for node in list_nodes(folder):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        kind = {"ask_gauge": "gauge", "ask_counter": "counter"}.get(node.func.attr)
        if kind is None:
            continue
        name, *others = (str(one.value) for one in node.args if isinstance(one, ast.Constant))
        labels = tuple(label for label in others[1:2] if label)
        made[f"{prefix}_{name}" + ("_total" if kind == "counter" else "")] = (kind, labels)
    return made


def test_every_metric_of_the_webhook_is_documented() -> None:
    made = read_registry(WebhookMetrics().registry) | read_asked("webhook", "eastgate_webhook")
    assert read_metrics("eastgate_webhook") == made


def test_every_metric_of_the_controller_is_documented() -> None:
    made = read_registry(ControllerMetrics().registry) | read_asked("webhook/controllers", "eastgate_controller")
    assert read_metrics("eastgate_controller") == made


LOG_LINES = [
    line
    for table in re.findall(r"^\| log line \|.*\n\|.*\n((?:\|.*\n?)+)", TEXT, re.MULTILINE)
    for row in table.splitlines()
    for line in re.findall(r"`([^`]+)`", row.split("|")[1])
]


@pytest.mark.parametrize("line", LOG_LINES)
def test_every_log_line_is_one_that_is_written(line: str) -> None:
    """``…`` stands for what is filled in."""
    written = [
        node.value
        for folder in ("webhook", "webhook/admissions", "webhook/certificates", "webhook/controllers")
        for node in list_nodes(folder)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    pattern = re.compile(".*".join(map(re.escape, line.removeprefix("… ").split("…"))))
    assert any(map(pattern.fullmatch, written)), line


def test_the_tables_of_log_lines_are_found() -> None:
    assert len(LOG_LINES) > 15
