"""Which requests a route is for: ``matchers`` of a RouteTable, and how a child's join with its parent's.

Rules: Gloo ``common/v2`` HTTPRequestMatcher, HeaderMatcher, StringMatch. ``prefix`` is a raw prefix of the path as in
Envoy; a regular expression is RE2 and must match all of it. What cannot be read is left out of the match, which then
matches more, and the route is invalid.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import re2

from eastgate.dialects.documents import Fields, show
from eastgate.dialects.gateway.values import check_regex, is_header_name
from eastgate.model.routes import Comparison, FieldMatch, Match, StringMatch

_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"])
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def read_matches(entry: Fields, *, own: bool) -> tuple[Match, ...]:
    """The alternatives of an entry; none written matches everything."""
    found = []
    for item in entry.items("matchers"):
        with Fields(item, entry.report) as matcher:
            if matcher.text("name"):
                matcher.note("name", "no effect: the name of a matcher is not matched")
            path = None
            if matcher.has("uri"):
                with matcher.mapping("uri") as uri:
                    path = read_path(uri, own=own)
            found.append(
                Match(
                    path=path,
                    method=_read_method(matcher),
                    headers=read_header_matches(matcher, "headers"),
                    query=_read_query_matches(matcher),
                    port=matcher.integer("port", least=0, most=65535) or None,
                )
            )
    return tuple(found)


def read_path(uri: Fields, *, own: bool) -> StringMatch | None:
    """A StringMatch on the path. Our own kind also has ``segments``: whole path elements (Gateway API)."""
    uri.refuse("suffix", "matching the end of a path is not supported; accepted: exact, prefix, regex")
    kinds = ("exact", "prefix", "regex", "segments") if own else ("exact", "prefix", "regex")
    chosen = uri.choose(*kinds)
    ignore_case = uri.boolean("ignoreCase")
    if chosen is None:
        return None
    texts = {kind: uri.text(kind) for kind in kinds}
    text = texts[chosen]
    if text is None:
        return None
    if chosen == "regex":
        if ignore_case:
            uri.note("ignoreCase", "no effect on a regular expression; write `(?i)` into it")
        return StringMatch(Comparison.REGEX, text) if check_regex(text, uri.at("regex"), uri.report) else None
    if (text or chosen != "prefix") and not text.startswith("/") and text != "*":
        uri.report.warning(uri.at(chosen), "never-matches", f"{show(text)} never matches: a path begins with `/`")
    elif "?" in text or "#" in text:
        uri.report.warning(uri.at(chosen), "never-matches", f"{show(text)} never matches: the query is not in the path")
    if chosen == "segments":
        text = text.rstrip("/") or "/"
    return StringMatch(Comparison(chosen), text, ignore_case)


def _read_method(matcher: Fields) -> str | None:
    method = matcher.text("method")
    if not method:
        return None
    check_method(matcher, "method", method)
    return method


def check_method(fields: Fields, name: str, method: str) -> None:
    """Report what is no method, and warn of one in the wrong case (RFC 9110 section 9.1)."""
    if _TOKEN.fullmatch(method) is None:
        fields.report.error(
            fields.at(name), "bad-value", f"{show(method)} is not a method; accepted: a word like `GET`"
        )
    elif method not in _METHODS and method.upper() in _METHODS:
        message = f"{show(method)} never matches: methods are case-sensitive (did you mean `{method.upper()}`?)"
        fields.report.warning(fields.at(name), "never-matches", message)


def read_header_matches(fields: Fields, name: str) -> tuple[FieldMatch, ...]:
    """Header conditions, all of which must hold. Without a value the header must be there; inverted, absent."""
    found = []
    for item in fields.items(name):
        with Fields(item, fields.report) as header:
            name_text = header.text("name", required=True)
            invert = header.boolean("invertMatch")
            value = _read_value(header)
            if name_text is None or value is None:
                continue
            if not is_header_name(name_text) or name_text.lower() == "host":
                header.report.error(
                    header.at("name"),
                    "bad-header-name",
                    f"{show(name_text)} cannot be matched as a header; accepted: a header's name, "
                    "`hosts` for the host, `uri` for the path, `method` for the method",
                )
                continue
            found.append(FieldMatch(name_text.lower(), value, invert))
    return tuple(found)


def _read_query_matches(matcher: Fields) -> tuple[FieldMatch, ...]:
    found = []
    for item in matcher.items("queryParameters"):
        with Fields(item, matcher.report) as parameter:
            name = parameter.text("name", required=True)
            value = _read_value(parameter)
        if name is not None and value is not None:
            found.append(FieldMatch(name, value))
    return tuple(found)


def _read_value(fields: Fields) -> StringMatch | None:
    text = fields.text("value")
    is_regex = fields.boolean("regex")
    if not text:
        return StringMatch(Comparison.PRESENT)
    if not is_regex:
        return StringMatch(Comparison.EXACT, text)
    return StringMatch(Comparison.REGEX, text) if check_regex(text, fields.at("value"), fields.report) else None


# --- a child's match within its parent's ----------------------------------------------------------------------------


MAX_JOINED = 1_000
"""Alternatives of one route. Every level of delegation multiplies them; Gloo documents no bound."""


class UnjoinableError(Exception):
    """Both conditions make sense, but no single one says "both". ``str()`` says what to do."""

    def __init__(self, remedy: str = "write the whole path into it") -> None:
        super().__init__(remedy)


def join_matches(parents: tuple[Match, ...], children: tuple[Match, ...]) -> tuple[Match, ...] | None:
    """Requests that match a parent's alternative and a child's; None when there can be none. Raises UnjoinableError."""
    if not parents or not children:
        return parents or children
    if len(parents) * len(children) > MAX_JOINED:
        raise UnjoinableError(f"they would give more than {MAX_JOINED} alternatives")
    joined = [join for parent in parents for child in children if (join := _join(parent, child)) is not None]
    return tuple(dict.fromkeys(joined)) or None


def _join(parent: Match, child: Match) -> Match | None:
    if None not in (parent.method, child.method) and parent.method != child.method:
        return None
    if None not in (parent.port, child.port) and parent.port != child.port:
        return None
    path = child.path if parent.path is None else parent.path
    if parent.path is not None and child.path is not None:
        path = _join_paths(parent.path, child.path)
        if path is None:
            return None
    return Match(
        path=path,
        method=child.method or parent.method,
        headers=_unite(parent.headers, child.headers),
        query=_unite(parent.query, child.query),
        port=child.port or parent.port,
    )


def _unite(first: Iterable[FieldMatch], second: Iterable[FieldMatch]) -> tuple[FieldMatch, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _join_paths(parent: StringMatch, child: StringMatch) -> StringMatch | None:
    """The narrower of two conditions on the path, one of which must lie within the other; None when they are apart."""
    if parent == child:
        return child
    for one, other in ((parent, child), (child, parent)):
        if _matches_every_path(one):
            return other
        if other.comparison is Comparison.EXACT and not other.ignore_case:
            return other if _accepts(one, other.value) else None
    if Comparison.REGEX in (parent.comparison, child.comparison):
        return _join_regex(parent, child)
    if parent.ignore_case != child.ignore_case:
        strict, loose = (child, parent) if parent.ignore_case else (parent, child)
        if _contains(loose, strict):
            return strict
        if not _contains(replace(strict, ignore_case=True), loose):
            return None
        raise UnjoinableError
    if _contains(parent, child):
        return child
    if _contains(child, parent):
        return parent
    return None


_HEAD = re.compile(r"[^\\.+*?()|\[\]{}^$]*")


def _join_regex(parent: StringMatch, child: StringMatch) -> StringMatch | None:
    """A regular expression says "both" only where its literal beginning already lies within the other condition."""
    regex, other = (child, parent) if child.comparison is Comparison.REGEX else (parent, child)
    if other.comparison not in (Comparison.PREFIX, Comparison.SEGMENTS) or other.ignore_case or "|" in regex.value:
        raise UnjoinableError
    head = _HEAD.match(regex.value)
    literal = head.group() if head is not None else ""
    if literal and regex.value[len(literal) : len(literal) + 1] in ("?", "*", "{"):
        literal = literal[:-1]
    wanted = other.value if other.comparison is Comparison.PREFIX else other.value.rstrip("/") + "/"
    if literal.startswith(wanted):
        return regex
    if not wanted.startswith(literal):
        return None
    raise UnjoinableError


def _matches_every_path(path: StringMatch) -> bool:
    return path.comparison in (Comparison.PREFIX, Comparison.SEGMENTS) and path.value in ("", "/")


def _accepts(path: StringMatch, text: str) -> bool:
    if path.comparison is Comparison.REGEX:
        return re2.fullmatch(path.value, text) is not None
    return _contains(path, StringMatch(Comparison.EXACT, text))


def _contains(outer: StringMatch, inner: StringMatch) -> bool:
    """True when every path that ``inner`` accepts is accepted by ``outer``; both literal."""
    wide, narrow = outer.value, inner.value
    if outer.ignore_case:
        wide, narrow = wide.lower(), narrow.lower()
    if outer.comparison is Comparison.EXACT:
        return inner.comparison is Comparison.EXACT and wide == narrow
    if outer.comparison is Comparison.PREFIX:
        return narrow.startswith(wide)
    whole = wide.rstrip("/")
    if inner.comparison is Comparison.PREFIX:
        return narrow.startswith(whole + "/")
    return narrow == whole or narrow.startswith(whole + "/") or not whole


def specificity(matches: tuple[Match, ...]) -> tuple[int, int]:
    """Smaller is more specific: exact before regular expression before prefix, longer first. Of the most specific
    alternative (Gloo ROUTE_SPECIFICITY).
    """
    ranks = {Comparison.EXACT: 0, Comparison.REGEX: 1, Comparison.PREFIX: 2, Comparison.SEGMENTS: 2}
    best = (3, 0)
    for match in matches:
        if match.path is not None:
            length = 0 if match.path.comparison is Comparison.REGEX else -len(match.path.value)
            best = min(best, (ranks[match.path.comparison], length))
    return best
