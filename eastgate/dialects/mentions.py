"""For whom a route that cannot be read may have been written: the words of its text.

A broken route that leads nowhere readable must not be taken for no route, and must not concern every namespace either.
Whoever is not named in it, as a namespace or as a part of a host, was not meant. Must not know any field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from eastgate.dialects.catalogue import Catalogue, Object
from eastgate.model.routes import ANYBODY, ObjectName, Route

MAX_WORDS = 512
"""Different words that are kept of one object. One with more of them could have meant anybody. Ten routes with a dozen
matches each have about as many."""

_WORD = re.compile(r"[a-z0-9][-a-z0-9]{0,62}")
"""As the name of a namespace (RFC 1123), and the parts of ``web.shop.svc:80`` and ``shop/web``."""


def note_mentions(route: Route, catalogue: Catalogue) -> Route:
    """The route, with its words where it is broken and leads nowhere."""
    if not route.invalid or route.destinations:
        return route
    words = catalogue.prepared("mentions", _no_words)
    if route.origin not in words:
        found = catalogue.prepared("objects by name", _objects_by_name).get(route.origin, [])
        words[route.origin] = collect_words(one.document.plain() for one in found)
    return replace(route, mentions=words[route.origin])


def _no_words(_: Catalogue) -> dict[ObjectName, tuple[str, ...]]:
    return {}


def _objects_by_name(catalogue: Catalogue) -> dict[ObjectName, list[Object]]:
    found: dict[ObjectName, list[Object]] = {}
    for one in catalogue.objects:
        found.setdefault(one.title, []).append(one)
    return found


def collect_words(data: object) -> tuple[str, ...]:
    """The words in all values, sorted; ``ANYBODY`` alone where there are too many to tell."""
    words = list_words(data)
    return tuple(sorted(words)) if len(words) <= MAX_WORDS else (ANYBODY,)


def list_words(data: object) -> set[str]:
    """The words in all values, however many."""
    return set(_words(data))


def _words(data: object) -> Iterator[str]:
    if isinstance(data, dict):
        data = data.values()
    if isinstance(data, (str, int)):
        yield from _WORD.findall(str(data).lower())
    elif data is not None and not isinstance(data, float):
        for value in data:  # type: ignore[attr-defined]
            yield from _words(value)
