"""Texts that are well-formed and were surely not meant: a template that nobody rendered, quotation marks out of a chat.

Knows: what such a text looks like, in any field of any kind that is read. Must not know what a field means. A value
like this is compared as it is written, and so never matches; hence a warning, for one may be meant after all.
"""

from __future__ import annotations

from eastgate.dialects.documents import Reporter, Value, show

MOST_REPORTED = 5
"""Of one object: where one is, many are."""

_CONTENT = ("ConfigMap", "Secret")
"""Kinds whose texts are somebody else's content."""

_CONTENT_FIELDS = ("body", "inline")
"""Fields that hold content too: a response, a key."""

_OPENING, _CLOSING = "“‘«„", "”’»“"
_FIRST = frozenset(_OPENING)


def warn_of_leftovers(document: Value, kind: str, report: Reporter) -> None:
    """Look at every text under ``spec``."""
    spec = document.data.get("spec") if isinstance(document.data, dict) else None
    if spec is None or kind in _CONTENT:
        return
    left, waiting = MOST_REPORTED, [spec]
    while waiting and left:
        value = waiting.pop()
        data = value.data
        if isinstance(data, str):
            if "{{" in data or data[:1] in _FIRST:
                left -= _warn(value, data, report)
        elif isinstance(data, dict):
            waiting += [inner for key, inner in reversed(data.items()) if key not in _CONTENT_FIELDS]
        elif isinstance(data, list):
            waiting += reversed(data)


def _warn(value: Value, text: str, report: Reporter) -> bool:
    if "{{" in text and "}}" in text:
        report.warning(value, "not-rendered", f"{show(text)} looks like a template that was not rendered")
        return True
    if len(text) > 1 and text[0] in _OPENING and text[-1] in _CLOSING:
        report.warning(
            value, "odd-quotes", f"{show(text)} holds its quotation marks as text: YAML knows only `'` and `\"`"
        )
        return True
    return False
