"""YAML as kubectl reads it, with a line number behind every value: texts in, ``Value`` out.

Scalars and keys resolve as ``scalars`` says. What ``<<`` brings counts as if it were written in its place (go-yaml v2):
a key before it gives way, one after it does not. JSON objects may follow one another. Duplicate keys are errors
(kubectl's strict validation). Must not know what any document means.
``Fields``, ``Reporter``, ``Value`` and ``show`` live in ``values`` and are handed on, for readers need all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

import yaml
import yaml.cyaml

from eastgate.dialects.scalars import name_key, read_scalar
from eastgate.dialects.values import Fields, Reporter, Value, show
from eastgate.model.diagnostics import Diagnostic, Position, Severity

__all__ = ["Fields", "Reporter", "Value", "read_documents", "show"]

MAX_NODES = 1_000_000
"""Values in one file, aliases counted each time they are used. An object of 1.5 MiB (etcd's limit) holds fewer."""

MAX_ALIASED = 100_000
"""Values in one file that come from aliases and merges: a few lines can ask for billions. go-yaml begins to count at
400,000 values, aliased or not."""

MAX_DEPTH = 100
"""Nesting. CRD schemas of the kinds read here are at most 14 levels deep; JSON parsers commonly stop at 100-500."""

_INVISIBLE = frozenset("\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff")
"""Blanks that YAML does not take for one; they come out of documents and chats."""

_YAML = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", _YAML + "str")
_SCALAR_TAGS = frozenset(_YAML + name for name in ("int", "bool", "null", "float"))
_COLLECTION_TAGS = (None, "!", _YAML + "map", _YAML + "seq")


class _Parser(Protocol):
    """What PyYAML's two parsers have in common: a stream of events."""

    def get_event(self) -> Any: ...


def _fast_parser(text: str) -> _Parser:
    """libyaml, of which kubectl's go-yaml is a port; the pure parser where PyYAML was built without it."""
    return yaml.cyaml.CParser(text) if yaml.__with_libyaml__ else _PureParser(text)  # type: ignore[attr-defined]


class _PureParser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """PyYAML's own parser: slower, and its messages and line numbers are the better ones."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)


class _RefusedError(yaml.MarkedYAMLError):
    """YAML, but not such as a Kubernetes object may be."""


class _Builder:
    """Builds values from events, without PyYAML's composer: it neither recurses nor shares aliased nodes."""

    def __init__(self, file: str, parser: _Parser, *, open_lists: bool = True) -> None:
        self.file = file
        self.open_lists = open_lists
        self.next = parser.get_event
        self.count = 0
        self.aliased = 0
        self.anchors: dict[str, Value | None] = {}
        self.found: list[Value] = []
        self.duplicates: list[Diagnostic] = []
        self.refused: list[Diagnostic] = []
        self._last = Position(file, 1)
        self._keys: dict[str, str] = {}

    def read(self) -> None:
        """Collect the documents of the stream in ``found``; on a syntax error, those before it are kept."""
        while not isinstance(event := self.next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                value = self._build(self.next(), "", 0)
                if value.data is not None:
                    self.found.extend(_open_list(value, self.refused) if self.open_lists else [value])

    def _position(self, event: Any) -> Position:
        line = event.start_mark.line + 1
        if line != self._last.line:
            self._last = Position(self.file, line)
        return self._last

    def _fail(self, event: Any, problem: str) -> NoReturn:
        raise _RefusedError(problem=problem, problem_mark=event.start_mark)

    def _build(self, event: Any, path: str, depth: int) -> Value:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            self._fail(event, f"more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}")
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(str(event.anchor))
            if target is None:
                self._fail(event, f"alias `*{event.anchor}` has no anchor before it")
            return self._rebase(event, target, path, depth)
        here = self._position(event)
        anchor = event.anchor
        if anchor is not None:
            self.anchors[anchor] = None  # an alias to what is still being read would be endless
        if isinstance(event, yaml.ScalarEvent):
            value = Value(self._read_scalar(event), path, here)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event)
            items: list[Value] = []
            while not isinstance(child := self.next(), yaml.SequenceEndEvent):
                items.append(self._build(child, f"{path}[{len(items)}]", depth + 1))
            value = Value(items, path, here)
        else:
            self._check_tag(event)
            value = self._read_mapping(path, here, depth)
        if anchor is not None:
            self.anchors[anchor] = value
        return value

    def _check_tag(self, event: Any) -> None:
        if event.tag not in _COLLECTION_TAGS:
            self._fail(event, f"tag `{event.tag}` is not accepted")

    def _read_text(self, event: Any) -> str:
        text: str = event.value
        if text.isascii():
            return text
        joined = _join_surrogates(text)
        if joined is None:
            self._fail(event, "half of a surrogate pair is not a character")
        return joined

    def _read_scalar(self, event: Any) -> Any:
        text, tag = self._read_text(event), event.tag
        if tag is None:
            return read_scalar(text) if event.implicit[0] else text
        if tag in _TEXT_TAGS:
            return text
        if tag in _SCALAR_TAGS:
            return read_scalar(text)
        return self._fail(event, f"tag `{tag}` is not accepted")

    def _read_key(self, event: Any) -> str:
        plain = event.tag is None and event.implicit[0]
        if plain and event.value in self._keys:  # the same few hundred in every file
            return self._keys[event.value]
        value = self._read_scalar(event)
        if value is None:
            self._fail(event, "a mapping key must not be null (quote it)")
        key = value if isinstance(value, str) else name_key(value, event.value)
        if plain:
            self._keys[event.value] = key
        return key

    def _read_mapping(self, path: str, here: Position, depth: int) -> Value:
        data: dict[str, Value] = {}
        keys: dict[str, Position] = {}
        written: dict[str, int] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fail(event, "a mapping key must be a scalar")
            key = self._read_key(event)
            where = self._position(event)
            child = f"{path}.{key}" if path else key
            value_event = self.next()
            value = self._build(value_event, child, depth + 1)
            if key == "<<" and event.implicit[0]:
                for name, inner in self._list_merged(value_event, value).items():
                    data[name] = self._rebase(value_event, inner, f"{path}.{name}" if path else name, depth + 1)
                    keys[name] = inner.position
                continue
            if key in written:
                spelt = "" if event.value == key else f" (here as `{event.value}`)"
                message = f"key `{key}`{spelt} is already set on line {written[key]}"
                self.duplicates.append(Diagnostic(where, Severity.ERROR, "duplicate-key", message, "", child))
            data[key] = value
            keys[key] = where
            written[key] = where.line
        return Value(data, path, here, keys)

    def _list_merged(self, event: Any, value: Value) -> dict[str, Value]:
        """What a ``<<`` brings; of several mappings the first counts."""
        found: dict[str, Value] = {}
        for source in value.data if isinstance(value.data, list) else [value]:
            if not isinstance(source.data, dict):
                self._fail(event, "`<<` takes a mapping or a list of mappings")
            for key, inner in source.data.items():
                found.setdefault(key, inner)
        return found

    def _rebase(self, event: Any, value: Value, path: str, depth: int) -> Value:
        """The same value under another path; every use counts against the limits."""
        self.aliased += 1
        if self.aliased > MAX_ALIASED or depth > MAX_DEPTH:
            self._fail(event, f"more than {MAX_ALIASED} values by aliases, or nested deeper than {MAX_DEPTH}")
        data = value.data
        if isinstance(data, list):
            data = [self._rebase(event, item, f"{path}[{index}]", depth + 1) for index, item in enumerate(data)]
        elif isinstance(data, dict):
            prefix = f"{path}." if path else ""
            data = {key: self._rebase(event, item, prefix + key, depth + 1) for key, item in data.items()}
        return Value(data, path, value.position, value.keys)


def _join_surrogates(text: str) -> str | None:
    """JSON writes characters beyond U+FFFF as two escapes; None when one of them is missing."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        return None


def read_documents(file: str, text: str, sink: list[Diagnostic], *, open_lists: bool = True) -> list[Value]:
    """The documents of one file, ``List`` objects opened; whatever does not parse becomes a diagnostic in ``sink``.

    Documents before a syntax error are still returned: the error alone stops ``serve``. The fast parser decides; what
    it refuses is read once more by the pure one, whose messages say better where and why.
    """
    builder, problem = _read_with(_fast_parser, file, text, open_lists)
    if problem is not None and (parted := _part_objects(text)) != text:
        text = parted
        builder, problem = _read_with(_fast_parser, file, text, open_lists)
    if problem is not None and not isinstance(problem, _RefusedError):
        builder, problem = _read_with(_PureParser, file, text, open_lists)
    sink.extend((*builder.duplicates, *builder.refused))
    if problem is not None:
        sink.append(_say_problem(file, text, problem))
    return builder.found


def _part_objects(text: str) -> str:
    """JSON objects one after another, as ``jq`` writes and kubectl reads them, made YAML documents: each begins a line,
    and stays on it. Any other text stays as it is.
    """
    decoder, parts = json.JSONDecoder(), []
    start = place = _skip_blanks(text, 0)
    try:
        while place < len(text):
            if text[place] != "{" or text[place - 1 : place] not in ("", "\n"):
                return text
            _, end = decoder.raw_decode(text, place)
            end = _skip_blanks(text, end)
            parts.append(text[place:end])
            place = end
    except (ValueError, RecursionError):
        return text
    return text[:start] + "--- ".join(["", *parts]) if len(parts) > 1 else text


def _skip_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _read_with(
    make_parser: Callable[[str], _Parser], file: str, text: str, open_lists: bool
) -> tuple[_Builder, yaml.YAMLError | UnicodeError | None]:
    builder = _Builder(file, _Nothing(), open_lists=open_lists)
    try:
        builder.next = make_parser(text).get_event
        builder.read()
    except (yaml.YAMLError, UnicodeError) as error:
        return builder, error
    return builder, None


def _say_problem(file: str, text: str, error: Exception) -> Diagnostic:
    line, problem = 1, str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = " ".join(part for part in (error.context, error.problem) if part)
    elif isinstance(error, yaml.reader.ReaderError):
        line, problem = text.count("\n", 0, error.position) + 1, error.reason
    hint = _guess_cause(text.split("\n")[max(0, line - 2) : line])
    return Diagnostic(Position(file, line), Severity.ERROR, "not-yaml", f"not valid YAML: {problem}{hint}")


def _guess_cause(lines: list[str]) -> str:
    """What people cannot see, or did not think of, in the lines where YAML gave up."""
    written = "\n".join(lines)
    if "{{" in written:
        return "; `{{` is what a template has in it: render it first (`helm template`)"
    if "\t" in lines[-1][: len(lines[-1]) - len(lines[-1].lstrip())]:
        return "; the line is indented with a tab: YAML wants spaces"
    odd = next((one for one in written if one in _INVISIBLE), None)
    if odd is not None:
        return f"; there is an invisible character (U+{ord(odd):04X}) here or on the line before"
    return ""


class _Nothing:
    """A parser that has read nothing: the reader of a text may already refuse it."""

    def get_event(self) -> Any:
        return yaml.StreamEndEvent()


def _open_list(value: Value, refused: list[Diagnostic]) -> Iterator[Value]:
    """The objects of a list: ``List``, or ``HTTPRouteList`` as the API itself answers, whose items do not repeat their
    kind. ``items: null`` is an empty list; what else is no list is refused, lest objects go missing.
    """
    kind = value.data["kind"].data if isinstance(value.data, dict) and "kind" in value.data else None
    if not isinstance(kind, str) or not kind.endswith("List") or not (kind == "List" or "items" in value.data):
        yield value
        return
    items = value.data.get("items", Value(None, "items", value.position))
    if items.data is not None and not isinstance(items.data, list):
        message = f"expected a list, found {items.kind}: nothing in it is read"
        refused.append(Diagnostic(items.position, Severity.ERROR, "wrong-type", message, kind, "items"))
        return
    if items.data is None and "items" not in value.data:
        message = "`items` is missing: nothing in it is read"
        refused.append(Diagnostic(items.position, Severity.ERROR, "missing-field", message, kind, "items"))
        return
    for item in items.data or ():
        detached = _detach(item, len(item.path))
        if kind != "List" and isinstance(detached.data, dict):
            detached = _inherit_kind(detached, value.data, kind.removesuffix("List"))
        yield from _open_list(detached, refused)


def _inherit_kind(item: Value, outer: dict[str, Value], kind: str) -> Value:
    """client-go's rule: the item of an ``HTTPRouteList`` without a kind is an ``HTTPRoute`` of the list's version."""
    data = {"kind": Value(kind, "kind", item.position)}
    if "apiVersion" in outer:
        data["apiVersion"] = Value(outer["apiVersion"].data, "apiVersion", item.position)
    return Value({**data, **item.data}, item.path, item.position, item.keys)


def _detach(value: Value, cut: int) -> Value:
    """An item of a ``List`` as a document of its own: paths begin at the item."""
    data = value.data
    if isinstance(data, list):
        data = [_detach(item, cut) for item in data]
    elif isinstance(data, dict):
        data = {key: _detach(item, cut) for key, item in data.items()}
    return Value(data, value.path[cut:].removeprefix("."), value.position, value.keys)
