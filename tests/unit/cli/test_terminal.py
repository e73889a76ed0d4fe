"""Colour, marks and diagnostics on and off a terminal."""

from __future__ import annotations

import io
import re

import pytest

from eastgate.cli import terminal
from eastgate.model.diagnostics import Diagnostic, Position, Severity
from eastgate.render.text import Span


class Screen(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_colour_only_on_a_terminal() -> None:
    assert terminal.use_colour(Screen(), {})
    assert not terminal.use_colour(io.StringIO(), {})
    assert not terminal.use_colour(Screen(), {"NO_COLOR": "1"})
    assert terminal.use_colour(Screen(), {"NO_COLOR": ""})
    assert not terminal.use_colour(Screen(), {"TERM": "dumb"})
    assert terminal.use_colour(io.StringIO(), {"FORCE_COLOR": "1"})
    assert not terminal.use_colour(io.StringIO(), {"FORCE_COLOR": "1", "NO_COLOR": "1"})


def test_marks_survive_an_ascii_stream() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    terminal.write_lines(stream, [(Span("✓ ok "), Span("é", "bad"))])
    stream.flush()
    assert raw.getvalue() == b"+ ok \\xe9\n"


YAML = "kind: JWTPolicy\nspec:\n  isuer: https://x\nsecret: -----BEGIN PRIVATE KEY-----\n"
UNKNOWN = Diagnostic(
    Position("p.yaml", 3), Severity.ERROR, "unknown-field", "unknown field `isuer`", "JWTPolicy a/b", "spec.isuer"
)


def test_off_a_terminal_a_diagnostic_is_the_line_of_the_interface() -> None:
    stream = io.StringIO()
    terminal.write_diagnostics([UNKNOWN, UNKNOWN], [("p.yaml", YAML)], stream)
    assert stream.getvalue() == "p.yaml:3: error: JWTPolicy a/b spec.isuer: unknown field `isuer`\n"


def strip(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_on_a_terminal_it_shows_the_place() -> None:
    stream = Screen()
    terminal.write_diagnostics([UNKNOWN], [("p.yaml", YAML)], stream)
    assert "\x1b[1;31merror\x1b[0m" in stream.getvalue()
    assert strip(stream.getvalue()).splitlines() == [
        "p.yaml:3: error: JWTPolicy a/b spec.isuer: unknown field `isuer`",
        "     3 |   isuer: https://x",
        "       |   ^^^^^",
    ]


@pytest.mark.parametrize(
    "diagnostic",
    [
        Diagnostic(Position("p.yaml", 4), Severity.ERROR, "c", "m"),
        Diagnostic(Position("p.yaml", 3), Severity.ERROR, "c", "m", "Secret a/b", "data.key"),
        Diagnostic(Position("p.yaml", 99), Severity.WARNING, "c", "m"),
        Diagnostic(Position("gone.yaml", 1), Severity.WARNING, "c", "m"),
    ],
)
def test_no_excerpt_of_secrets_or_of_what_is_not_there(diagnostic: Diagnostic) -> None:
    stream = Screen()
    terminal.write_diagnostics([diagnostic], [("p.yaml", YAML)], stream)
    assert len(stream.getvalue().splitlines()) == 1


def test_order_is_by_place() -> None:
    found = [
        Diagnostic(Position("b", 1), Severity.ERROR, "c", "m"),
        Diagnostic(Position("a", 2), Severity.WARNING, "c", "m"),
        Diagnostic(Position("a", 2), Severity.ERROR, "c", "m"),
        Diagnostic(Position("a", 1), Severity.WARNING, "c", "m"),
    ]
    assert [f"{d.position} {d.severity}" for d in terminal.sort_diagnostics(found)] == [
        "a:1 warning",
        "a:2 error",
        "a:2 warning",
        "b:1 error",
    ]
