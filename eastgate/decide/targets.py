"""The canonical request target: what is matched is what is forwarded.

Refuses what two readers could understand differently (a fragment, a backslash, an encoded slash, backslash or NUL, a
malformed escape, a dot segment with path parameters); of what is left there is one spelling: dot segments removed,
slashes merged, escapes normalised, what may not stand raw in a path escaped. The query is never touched. Must not know:
routes, headers, methods.
Rules: RFC 3986 sections 5.2.4 and 6.2.2, RFC 9112 section 3.2; Envoy's normalize_path and merge_slashes, in that order;
CVE-2021-29492 (encoded slashes), CVE-2021-39156 (fragment).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from eastgate.compile.paths import spell_path

# What needs no second look: RFC 3986's characters of a path without `%`; visible ASCII without `#` in the query.
_PLAIN = re.compile(rb"(/[!$&-;=@-\[\]_a-z~]*)(?:\?([!\"$-~]*))?")
_VISIBLE = re.compile(rb"[!-~]+")
_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_AMBIGUOUS_ESCAPE = re.compile(rb"%(?:00|2[Ff]|5[Cc])")
_DOT_SEGMENT_WITH_PARAMETERS = re.compile(rb"/\.{1,2}(?:;|%3[Bb])")
_SLASHES = re.compile(rb"//+")
_tuple = tuple.__new__


class Target(NamedTuple):
    """``path`` is canonical; ``query`` is as sent, None where there is no ``?``. ``whole`` is what goes upstream."""

    path: bytes
    query: bytes | None
    whole: bytes


class BadTarget(NamedTuple):
    """A target that cannot be understood without doubt. ``detail`` never quotes it."""

    detail: str


def canonicalise_target(target: bytes) -> Target | BadTarget:
    """The one spelling of an origin-form target."""
    plain = _PLAIN.fullmatch(target)
    if plain is not None:
        path, query = plain.groups()
        if b"//" not in path and b"/." not in path:
            # Target(path, query, target) without the detour through Python: every request comes by here.
            return _tuple(Target, (path, query, target))
    return _canonicalise(target)


def _canonicalise(target: bytes) -> Target | BadTarget:
    if not target.startswith(b"/"):
        return BadTarget("the target does not start with a slash")
    if not _VISIBLE.fullmatch(target):
        return BadTarget("a byte outside visible ASCII in the target")
    if b"#" in target:
        return BadTarget("a fragment in the target")
    path, mark, query = target.partition(b"?")
    if b"\\" in path:
        return BadTarget("a backslash in the path")
    if _MALFORMED_ESCAPE.search(path):
        return BadTarget("a malformed percent-encoding in the path")
    if _AMBIGUOUS_ESCAPE.search(path):
        return BadTarget("an encoded slash, backslash or NUL in the path")
    path = spell_path(path)
    if _DOT_SEGMENT_WITH_PARAMETERS.search(path):
        return BadTarget("a dot segment with parameters in the path")
    path = _SLASHES.sub(b"/", _remove_dot_segments(path))
    return Target(path, query if mark else None, path + mark + query)


def _remove_dot_segments(path: bytes) -> bytes:
    """RFC 3986 section 5.2.4. Climbing above the root stays at the root."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
