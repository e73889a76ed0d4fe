"""What is written to the terminal, and whether in colour.

Knows: streams, ``NO_COLOR`` (no-color.org) and ``FORCE_COLOR``, encodings without the marks, the form of a diagnostic.
Must not know: what is said. Off a terminal every line is plain; a diagnostic is then exactly the line of the interface.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from eastgate.model.diagnostics import Diagnostic, Severity
from eastgate.render.text import Line

_CODES = {"good": "1;32", "bad": "1;31", "warn": "1;33", "strong": "1", "faint": "2", "name": "36"}
_ASCII = str.maketrans({"✓": "+", "✗": "x", "├": "|", "└": "`", "│": "|", "─": "-", "…": "."})
_WIDEST_EXCERPT = 110


def use_colour(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Colour on a terminal only; ``NO_COLOR`` forbids it, ``FORCE_COLOR`` asks for it elsewhere."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return bool(environment.get("FORCE_COLOR")) or stream.isatty()


def paint(text: str, style: str, colour: bool) -> str:
    """The text in its style's colour."""
    code = _CODES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code and text else text


def write(stream: TextIO, text: str) -> None:
    """One line; characters that the stream's encoding lacks are replaced."""
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text + "\n")


def write_lines(stream: TextIO, lines: Iterable[Line]) -> None:
    """Styled lines, painted where the stream is a terminal."""
    colour = use_colour(stream)
    for line in lines:
        write(stream, "".join(paint(span.text, span.style, colour) for span in line))


def complain(message: str) -> None:
    """One error line on stderr that has no file to point to."""
    write(sys.stderr, paint("error", "bad", use_colour(sys.stderr)) + f": {message}")


def warn(message: str) -> None:
    """The same for what is survived."""
    write(sys.stderr, paint("warning", "warn", use_colour(sys.stderr)) + f": {message}")


def write_diagnostics(
    diagnostics: Iterable[Diagnostic], sources: Sequence[tuple[str, str]] = (), stream: TextIO | None = None
) -> None:
    """Sorted diagnostics, one a line; on a terminal each with the line it is about."""
    stream = sys.stderr if stream is None else stream
    texts = dict(sources)
    pretty = use_colour(stream)
    for diagnostic in sort_diagnostics(diagnostics):
        if not pretty:
            write(stream, str(diagnostic))
            continue
        for line in _show(diagnostic, texts.get(diagnostic.position.file, "")):
            write(stream, line)


def sort_diagnostics(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """By place, errors first, each once."""
    return sorted(
        dict.fromkeys(diagnostics), key=lambda d: (d.position, d.severity is not Severity.ERROR, d.field, d.message)
    )


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _show(diagnostic: Diagnostic, text: str) -> Iterable[str]:
    style = "bad" if diagnostic.severity is Severity.ERROR else "warn"
    where = " ".join(part for part in (diagnostic.subject, diagnostic.field) if part)
    yield (
        f"{paint(str(diagnostic.position), 'strong', True)}: {paint(diagnostic.severity, style, True)}: "
        f"{paint(where + ': ', 'name', True) if where else ''}{diagnostic.message}"
    )
    lines = text.splitlines()
    number = diagnostic.position.line
    if not 1 <= number <= len(lines) or diagnostic.subject.startswith("Secret ") or "PRIVATE KEY" in lines[number - 1]:
        return
    line = lines[number - 1].rstrip().replace("\t", " ")
    if not line.strip():
        return
    start, length = _mark(line, diagnostic.field)
    gutter = f"{number:>6} | "
    yield paint(gutter, "faint", True) + line[:_WIDEST_EXCERPT]
    if start < _WIDEST_EXCERPT:
        length = min(length, _WIDEST_EXCERPT - start)
        yield paint(" " * (len(gutter) - 2) + "| ", "faint", True) + " " * start + paint("^" * length, style, True)


def _mark(line: str, field: str) -> tuple[int, int]:
    """Where the caret goes: under the field's own key, else under everything that is written."""
    key = field.rpartition(".")[2].partition("[")[0]
    place = line.find(key + ":") if key else -1
    if place >= 0:
        return place, len(key)
    start = len(line) - len(line.lstrip(" -"))
    return (start, len(line) - start) if start < len(line) else (0, len(line))
