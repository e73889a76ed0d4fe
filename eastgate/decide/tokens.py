"""Where tokens are: headers, then query parameters, then cookies, read from raw bytes.

Every value of a repeated header, every occurrence of a parameter and every cookie of the name is a token, and none is
passed over: a token that is found must be good. A value without the configured prefix holds no token; an empty value is
a bad token, not a missing one. Must not know: what a token says. Rules: Envoy's extractor.cc, Gloo's ``tokenSource``,
RFC 6750, RFC 9110 section 11.4. Deliberately unlike Envoy: the prefix must stand at the start of the value, not
anywhere in it; a repeated parameter or cookie is many tokens, not its first; what follows a token is part of it, but
for white space around a cookie's value.
"""

from __future__ import annotations

from typing import NamedTuple

from eastgate.compile.paths import decode_once
from eastgate.model.policies import TokenSources

Headers = tuple[tuple[bytes, bytes], ...]


class Place(NamedTuple):
    """Where a token was found: ``kind`` is ``header``, ``query`` or ``cookie``."""

    kind: str
    name: bytes

    def __str__(self) -> str:
        return f"{self.kind} {self.name.decode('latin-1')}"


class Found(NamedTuple):
    """A token at a place, and the whole value it is in, prefix and all. Neither ever leaves the decision."""

    place: Place
    value: bytes
    whole: bytes

    @property
    def spot(self) -> tuple[Place, bytes]:
        """What two readings of one value have in common."""
        return self.place, self.whole


class _Prefix(NamedTuple):
    rank: int
    place: Place
    prefix: bytes
    folded: bytes | None


class Places:
    """The places of one provider, prepared for asking. Order of extraction: headers by name and prefix, parameters by
    name, cookies by name.
    """

    __slots__ = ("_cookies", "_headers", "_one", "_parameters")

    def __init__(self, sources: TokenSources) -> None:
        self._headers: dict[bytes, tuple[_Prefix, ...]] = {}
        for rank, source in enumerate(sorted(sources.headers, key=lambda one: (one.name, one.prefix))):
            name, prefix = source.name.lower().encode(), source.prefix.encode()
            one = _Prefix(rank, Place("header", name), prefix, prefix.lower() if source.any_case else None)
            self._headers[name] = (*self._headers.get(name, ()), one)
        # Nearly every provider looks in one header: the short way for it.
        self._one = next(iter(self._headers.items())) if len(sources.headers) == 1 else None
        self._parameters = {name.encode(): Place("query", name.encode()) for name in sorted(sources.query)}
        self._cookies = {name.encode(): Place("cookie", name.encode()) for name in sorted(sources.cookies)}

    def find(self, headers: Headers, query: bytes | None) -> list[Found]:
        """Every token, in order of extraction."""
        if self._one is not None:
            wanted, (source,) = self._one
            found = []
            for name, value in headers:
                if name == wanted:
                    token = _after_prefix(value, source)
                    if token is not None:
                        found.append(Found(source.place, token, value))
        else:
            found = self._in_headers(headers)
        if query is not None:
            for parameter in self._parameters:
                if parameter in query or b"%" in query:
                    found += self._in_query(query)
                    break
        if self._cookies:
            found += self._in_cookies(headers)
        return found

    def _in_headers(self, headers: Headers) -> list[Found]:
        """Headers arrive in the client's order; between places ours is restored."""
        by_name = self._headers
        ranked = []
        for name, value in headers:
            if name in by_name:
                for one in by_name[name]:
                    token = _after_prefix(value, one)
                    if token is not None:
                        ranked.append((one.rank, Found(one.place, token, value)))
        ranked.sort(key=lambda pair: pair[0])
        return [found for _, found in ranked]

    def _in_query(self, query: bytes) -> list[Found]:
        found: dict[bytes, list[Found]] = {name: [] for name in self._parameters}
        for piece in query.split(b"&"):
            key, _, value = piece.partition(b"=")
            name = decode_once(key)
            if name in found:
                token = decode_once(value)
                found[name].append(Found(self._parameters[name], token, token))
        return [one for places in found.values() for one in places]

    def _in_cookies(self, headers: Headers) -> list[Found]:
        found: dict[bytes, list[Found]] = {name: [] for name in self._cookies}
        for header, text in headers:
            if header == b"cookie":
                for pair in text.split(b";"):
                    key, _, value = pair.partition(b"=")
                    name, value = key.strip(b" \t"), value.strip(b" \t")
                    if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"'):
                        value = value[1:-1]
                    if name in found:
                        found[name].append(Found(self._cookies[name], value, value))
        return [one for places in found.values() for one in places]


def _after_prefix(value: bytes, wanted: _Prefix) -> bytes | None:
    """What follows the prefix, without the white space between; None where the prefix is not there."""
    prefix = wanted.prefix
    if not prefix:
        return value
    if value.startswith(prefix) or (wanted.folded is not None and value[: len(prefix)].lower() == wanted.folded):
        return value[len(prefix) :].lstrip(b" \t")
    return None


def strip_parameters(query: bytes, names: frozenset[bytes]) -> bytes | None:
    """The query without these parameters, every other byte as it was; None when nothing is left of it."""
    pieces = query.split(b"&")
    kept = [piece for piece in pieces if decode_once(piece.partition(b"=")[0]) not in names]
    if len(kept) == len(pieces):
        return query
    return b"&".join(kept) if kept else None


def strip_cookies(headers: Headers, names: frozenset[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """The ``Cookie`` fields without these cookies; the others stay as they are, and a field with none left goes."""
    kept = []
    for header, text in headers:
        if header == b"cookie":
            pairs = [pair for pair in text.split(b";") if pair.partition(b"=")[0].strip(b" \t") not in names]
            rest = b";".join(pairs).strip(b" \t")
            if rest:
                kept.append((header, rest))
    return tuple(kept)
