"""A YAML value with its place, and the way readers take a mapping apart.

``Fields`` reads a mapping key by key and, when it is closed, reports every key nobody asked for, so that no field can
be ignored by accident. Must not know YAML's syntax, nor what any field means. Message style: ``model.diagnostics``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from eastgate.model.diagnostics import Diagnostic, Position, Severity, suggest_name

MAX_UNKNOWN = 20
"""Unknown fields reported one by one in a mapping. Whoever has more pasted something else."""

MAX_SUGGESTED = 100
"""Findings that come with a suggestion. Each costs a comparison with every name there is, and nobody reads so many."""

MAX_COMPARED = 256
"""Names that are compared for one suggestion, those nearest in length."""

_PEM = re.compile(r"(-----BEGIN [A-Z0-9 ]{0,40}-----).*", re.DOTALL)
_JWK_SECRET = re.compile(r"""(\\*["'](?:k|d|p|q|dp|dq|qi)\\*["']\s*:\s*\\*["'])[^"'\\]*""")
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_.-]*")
_RUN = re.compile(r"[A-Za-z0-9+_=-]{32,}")


class Reporter:
    """Collects diagnostics about one object; knows the object's name for the messages."""

    def __init__(self, sink: list[Diagnostic], subject: str) -> None:
        self.sink = sink
        self.subject = subject
        self.errors: list[str] = []

    def error(self, at: Value, code: str, message: str) -> None:
        """Say what makes the object unusable. The message is also kept for ``Policy.invalid``."""
        self.sink.append(Diagnostic(at.position, Severity.ERROR, code, message, self.subject, at.path))
        self.errors.append(f"{at.path}: {message}" if at.path else message)

    def warning(self, at: Value, code: str, message: str) -> None:
        """Say what the author should know."""
        self.sink.append(Diagnostic(at.position, Severity.WARNING, code, message, self.subject, at.path))

    def suggest(self, given: str, accepted: Iterable[str]) -> str:
        """`` (did you mean `x`?)``, while there is still somebody to read it."""
        if len(self.sink) >= MAX_SUGGESTED:
            return ""
        names = list(accepted)
        if len(names) > MAX_COMPARED:
            names = sorted(names, key=lambda name: abs(len(name) - len(given)))[:MAX_COMPARED]
        return suggest_name(given, names)


@dataclass(slots=True)
class Value:
    """A YAML value with its place. ``data`` is None, bool, int, float, str, list[Value] or dict[str, Value].

    Nobody changes one. It is not frozen because there are a hundred thousand of them in a bundle, and making a frozen
    one takes three times as long.
    """

    data: Any
    path: str
    position: Position
    keys: dict[str, Position] = field(default_factory=dict, compare=False)

    @property
    def kind(self) -> str:
        """The JSON type's name, as messages use it."""
        names = {type(None): "null", bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
        return names.get(type(self.data), "a list" if isinstance(self.data, list) else "a mapping")

    def plain(self) -> Any:
        """The value as ordinary Python data, without positions."""
        if isinstance(self.data, dict):
            return {key: value.plain() for key, value in self.data.items()}
        if isinstance(self.data, list):
            return [value.plain() for value in self.data]
        return self.data

    def get(self, *names: str) -> Any:
        """The plain value at a path of mapping keys, or None. For looking at metadata, not for reading a spec."""
        here: Value | None = self
        for name in names:
            if here is None or not isinstance(here.data, dict):
                return None
            here = here.data.get(name)
        return None if here is None else here.plain()


def show(value: object, limit: int = 80) -> str:
    """What the person wrote, in backticks, shortened, on one line; what is not text as JSON. A key or a token that was
    pasted into the wrong field is not repeated: messages end up in logs, tickets and chats.
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = conceal(text[:4096]).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    text = "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
    return f"`{text if len(text) <= limit else text[: limit - 1] + '…'}`"


def list_names(names: Iterable[str], most: int = 12) -> str:
    """Names in backticks for "it has: …", the first few of them; ``none`` where there are none."""
    found = list(names)
    listed = ", ".join(f"`{name}`" for name in found[:most]) or "none"
    return listed if len(found) <= most else f"{listed} and {len(found) - most} more"


def conceal(text: str) -> str:
    """The text without what looks like key material: PEM bodies, secret members of a JWK, long runs as of base64."""
    if len(text) < 8:
        return text
    text = _PEM.sub(r"\1…", text)
    text = _JWK_SECRET.sub(r"\1…", text)
    text = _TOKEN.sub("eyJ…", text)
    return _RUN.sub(_shorten_run, text)


def _shorten_run(found: re.Match[str]) -> str:
    """Names of objects are in lower case; what mixes capitals, small letters and digits was not typed by a person."""
    run = found.group()
    mixed = any(c.isupper() for c in run) and any(c.islower() for c in run) and any(c.isdigit() for c in run)
    return run[:6] + "…" if mixed else run


class Fields:
    """Reads one mapping. Every ``take`` marks its key as known; ``close`` reports the rest.

    The readers return None (or an empty tuple) after reporting a wrong type, so that one pass finds every error.
    """

    def __init__(self, value: Value, report: Reporter) -> None:
        self.value = value
        self.report = report
        self.known: set[str] = set()
        self.aliases: dict[str, str] = {}
        if isinstance(value.data, dict):
            self.data: dict[str, Value] = value.data
        else:
            self.data = {}
            if value.data is not None:
                report.error(value, "wrong-type", f"expected a mapping, found {value.kind} {show(value.plain())}")

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()

    def copy(self, sink: list[Diagnostic]) -> Fields:
        """The same mapping, read as far as this one, with a reporter of its own that knows the same errors."""
        twin = Fields.__new__(Fields)
        twin.value, twin.known, twin.aliases, twin.data = self.value, self.known, self.aliases, self.data
        twin.report = Reporter(sink, self.report.subject)
        twin.report.errors = self.report.errors.copy()
        return twin

    def close(self) -> None:
        """Report every key that nothing asked for, with the nearest accepted name."""
        if self.data.keys() <= self.known:
            return
        unknown = [(key, value) for key, value in self.data.items() if key not in self.known]
        accepted = ", ".join(sorted(self.known)) or "nothing"
        for key, value in unknown[:MAX_UNKNOWN]:
            near = self.report.suggest(key, self.known)
            at = self._at_key(key, value)
            self.report.error(at, "unknown-field", f"unknown field {show(key)}{near}; accepted: {accepted}")
        if len(unknown) > MAX_UNKNOWN:
            at = self._at_key(*unknown[MAX_UNKNOWN])
            message = f"{len(unknown) - MAX_UNKNOWN} more unknown fields; accepted: {accepted}"
            self.report.error(at, "unknown-field", message)

    def _at_key(self, key: str, value: Value) -> Value:
        name = show(key)[1:-1]
        path = f"{self.value.path}.{name}" if self.value.path else name
        return Value(None, path, self.value.keys.get(key, value.position))

    def has(self, name: str) -> bool:
        """True when the key is written and not null."""
        self.known.add(name)
        return name in self.data and self.data[name].data is not None

    def take(self, name: str) -> Value | None:
        """The value, or None when absent or null."""
        return self.data[name] if self.has(name) else None

    def at(self, name: str) -> Value:
        """The value if written, else the mapping itself under the key's path: a place to report about."""
        found = self.data.get(name)
        if found is not None:
            return found
        return Value(None, f"{self.value.path}.{name}" if self.value.path else name, self.value.position)

    def _typed(self, name: str, types: tuple[type, ...], expected: str) -> Any:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value.data, types) or (isinstance(value.data, bool) and bool not in types):
            hint = _hint_at_quotes(value.data, types)
            message = f"expected {expected}{hint}, found {value.kind} {show(value.plain())}"
            self.report.error(value, "wrong-type", message)
            return None
        return value.data

    def text(self, name: str, *, required: bool = False, longest: int | None = None) -> str | None:
        """A string. ``required`` also refuses an empty one."""
        data = self._typed(name, (str,), "a string")
        if required and not data and not (name in self.data and data is None and self.data[name].data is not None):
            self.report.error(self.at(name), "missing-field", f"`{name}` is required and must not be empty")
            return None
        if data is not None and longest is not None and len(data) > longest:
            self.report.error(self.at(name), "too-long", f"at most {longest} characters, found {len(data)}")
            return None
        return data  # type: ignore[no-any-return]

    def boolean(self, name: str, default: bool = False) -> bool:
        """A boolean; a quoted one is refused."""
        data = self._typed(name, (bool,), "true or false")
        return default if data is None else data

    def integer(self, name: str, *, least: int | None = None, most: int | None = None) -> int | None:
        """An integer within bounds."""
        data = self._typed(name, (int,), "an integer")
        if data is not None and ((least is not None and data < least) or (most is not None and data > most)):
            bounds = f"from {least}" if most is None else f"from {least} to {most}"
            self.report.error(self.at(name), "out-of-range", f"expected an integer {bounds}, found `{data}`")
            return None
        return data  # type: ignore[no-any-return]

    def choice(self, name: str, accepted: Iterable[str], default: str) -> str:
        """One of a few words."""
        accepted = tuple(accepted)
        data = self._typed(name, (str,), "one of " + ", ".join(accepted))
        if data is None:
            return default
        if data not in accepted:
            self.report.error(
                self.at(name),
                "unknown-value",
                f"unknown value {show(data)}{self.report.suggest(data, accepted)}; accepted: {', '.join(accepted)}",
            )
            return default
        return data  # type: ignore[no-any-return]

    def items(self, name: str, *, most: int | None = None, least: int = 0) -> tuple[Value, ...]:
        """The elements of a list; empty when absent."""
        data = self._typed(name, (list,), "a list")
        if data is None:
            return ()
        if most is not None and len(data) > most:
            self.report.error(self.at(name), "too-many", f"at most {most} entries, found {len(data)}")
        if len(data) < least:
            self.report.error(self.at(name), "too-few", f"at least {least} entries, found {len(data)}")
        return tuple(data)

    def texts(
        self, name: str, *, most: int | None = None, least: int = 0, longest: int | None = None
    ) -> tuple[str, ...]:
        """A list of strings."""
        found = []
        for item in self.items(name, most=most, least=least):
            if not isinstance(item.data, str):
                quote = "" if isinstance(item.data, (dict, list)) else " (quote it)"
                message = f"expected a string{quote}, found {item.kind} {show(item.plain())}"
                self.report.error(item, "wrong-type", message)
            elif longest is not None and len(item.data) > longest:
                self.report.error(item, "too-long", f"at most {longest} characters, found {len(item.data)}")
            else:
                found.append(item.data)
        return tuple(found)

    def labels(self, name: str) -> tuple[tuple[str, str], ...]:
        """A mapping of strings to strings, sorted."""
        data = self._typed(name, (dict,), "a mapping of strings")
        found = []
        for key, value in (data or {}).items():
            if isinstance(value.data, str):
                found.append((key, value.data))
            else:
                self.report.error(
                    value, "wrong-type", f"expected a string (quote it), found {value.kind} {show(value.plain())}"
                )
        return tuple(sorted(found))

    def fields(self, name: str) -> Fields | None:
        """A nested mapping, or None when absent. Close it (use ``with``)."""
        value = self.take(name)
        return None if value is None else Fields(value, self.report)

    def mapping(self, name: str) -> Fields:
        """A nested mapping, empty when absent: for blocks whose every field has a default. Close it."""
        found = self.take(name)
        path = f"{self.value.path}.{name}" if self.value.path else name
        return Fields(found if found is not None else Value({}, path, self.value.position), self.report)

    def choose(self, *names: str, required: bool = False) -> str | None:
        """The one of these fields that is set. Two of them, or none where one is ``required``, is an error."""
        present = [name for name in names if self.has(name)]
        if len(present) == 1 or not (present or required):
            return present[0] if present else None
        listed = ", ".join(f"`{name}`" for name in names)
        if len(present) > 1:
            found = " and ".join(f"`{name}`" for name in present)
            self.report.error(
                self.at(present[1]), "exclusive-fields", f"only one of {listed} may be set, found {found}"
            )
            return present[0]
        self.report.error(self.value, "missing-field", f"one of {listed} is required")
        return None

    def entries(self, name: str) -> Iterator[tuple[str, Value]]:
        """The pairs of a mapping with free keys (``providers``)."""
        data = self._typed(name, (dict,), "a mapping")
        yield from (data or {}).items()

    def refuse(self, name: str, why: str) -> bool:
        """A field of the dialect that is not supported: an error that names it."""
        value = self.take(name)
        if value is not None:
            self.report.error(value, "unsupported-field", why)
        return value is not None

    def note(self, name: str, why: str) -> None:
        """A field that has no effect here: a warning that names it."""
        value = self.take(name)
        if value is not None:
            self.report.warning(value, "no-effect", why)

    def ignore(self, *names: str) -> None:
        """Fields that carry no meaning for policy (``status``); the reason belongs beside the call."""
        self.known.update(names)


def _hint_at_quotes(data: object, types: tuple[type, ...]) -> str:
    """YAML's types are often not what was meant: ``value: true`` for a header, ``number: "8000"`` out of a template."""
    if str in types and isinstance(data, (bool, int, float)):
        return " (quote it)"
    if isinstance(data, str):
        if int in types and data.strip().lstrip("+-").isdecimal():
            return " (without quotes)"
        if bool in types and data.strip().lower() in ("true", "false"):
            return " (without quotes)"
    return ""
