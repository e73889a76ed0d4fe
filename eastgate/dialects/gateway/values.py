"""The small value types of the Gateway API: durations, header names, regular expressions, label selectors.

Knows how each is written and what is wrong with one that is not. Must not know where they are used.
Rules: GEP-2257 (Duration), RFC 9110 section 5.6.2 (token), RE2 syntax, Kubernetes label selectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import re2

from eastgate.dialects.durations import is_number
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.diagnostics import suggest_name

_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_DURATION_PART = re.compile(r"([0-9]{1,5})(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
"""Gateway API ``HTTPMethod``."""

_QUIET = re2.Options()
_QUIET.log_errors = False


def read_duration(fields: Fields, name: str, default: float, *, positive: bool = False) -> float:
    """Seconds; ``default`` when absent or after an error was reported."""
    written = fields.take(name)
    number = written is not None and is_number(written.data)
    text = str(written.data) if written is not None and number else fields.text(name)
    if text is None:
        return default
    if number or _DURATION.fullmatch(text) is None:
        fields.report.error(
            fields.at(name),
            "bad-duration",
            f"{show(text)} is not a duration; accepted: up to four numbers with a unit, like `10s`, `500ms`, `1m30s`",
        )
        return default
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if positive and seconds <= 0:
        fields.report.error(fields.at(name), "bad-duration", f"{show(text)} is not accepted: it must be above zero")
        return default
    return seconds


def read_text_items(fields: Fields, name: str, *, most: int | None = None, least: int = 0) -> list[tuple[Value, str]]:
    """The texts of a list, each with its place. Anything else in the list is reported and left out."""
    found = []
    for item in fields.items(name, most=most, least=least):
        if isinstance(item.data, str):
            found.append((item, item.data))
        else:
            quote = "" if isinstance(item.data, (dict, list)) else " (quote it)"
            fields.report.error(item, "wrong-type", f"expected a string{quote}, found {item.kind} {show(item.plain())}")
    return found


def is_header_name(text: str) -> bool:
    """True for a field name that HTTP allows; pseudo headers (``:path``) are none."""
    return _TOKEN.fullmatch(text) is not None


def read_header_name(fields: Fields, name: str = "name") -> str | None:
    """A header's name in lower case, or None after an error was reported."""
    text = fields.text(name, required=True, longest=256)
    if text is None:
        return None
    if not is_header_name(text):
        fields.report.error(
            fields.at(name), "bad-header-name", f"{show(text)} is not a header name; accepted: a token of RFC 9110"
        )
        return None
    return text.lower()


def check_method(method: str, at: Value, report: Reporter) -> bool:
    """True for a method that the Gateway API knows; they are written in capitals."""
    if method not in METHODS:
        near = suggest_name(method.upper(), METHODS)
        report.error(at, "unknown-value", f"unknown value {show(method)}{near}; accepted: {', '.join(METHODS)}")
    return method in METHODS


def check_regex(pattern: str, at: Value, report: Reporter) -> bool:
    """True when RE2 takes the pattern; otherwise the reason is reported."""
    try:
        re2.compile(pattern, _QUIET)
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        report.error(at, "bad-regex", f"{show(pattern)} is not a regular expression that RE2 accepts: {reason}")
        return False
    return True


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """``matchLabels`` and ``matchExpressions``, all of which must hold; with neither it selects everything."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[tuple[str, str, tuple[str, ...]], ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            _holds(labels, *expression) for expression in self.expressions
        )


def _holds(labels: Mapping[str, str], key: str, operator: str, values: tuple[str, ...]) -> bool:
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) is (operator == "Exists")


OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def read_label_selector(fields: Fields) -> LabelSelector:
    """``matchLabels`` and ``matchExpressions`` of the mapping being read."""
    expressions = []
    for item in fields.items("matchExpressions"):
        with Fields(item, fields.report) as entry:
            key = entry.text("key", required=True)
            operator = entry.text("operator", required=True)
            values = entry.texts("values")
            if operator is not None and operator not in OPERATORS:
                fields.report.error(
                    entry.at("operator"),
                    "unknown-value",
                    f"unknown value {show(operator)}{suggest_name(operator, OPERATORS)}; accepted: "
                    f"{', '.join(OPERATORS)}",
                )
            elif operator in ("In", "NotIn") and not values:
                fields.report.error(entry.at("values"), "missing-field", f"operator `{operator}` needs `values`")
            elif operator in ("Exists", "DoesNotExist") and values:
                fields.report.error(entry.at("values"), "bad-value", f"operator `{operator}` takes no `values`")
            elif key and operator:
                expressions.append((key, operator, values))
    return LabelSelector(fields.labels("matchLabels"), tuple(expressions))
