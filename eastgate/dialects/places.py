"""Where the parts of a policy stand that are looked at again once it was read.

What is wrong with a key set or with what a policy selects shows only beside other objects, when the text is gone: what
is said of it then (``compile.review``) still names the line. Knows the names of these parts in all dialects (those of
``compile.fields``). Must not know: what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator

from eastgate.dialects.catalogue import Object
from eastgate.dialects.values import Value
from eastgate.model.diagnostics import Position

_PARTS = (
    ("applyToRoutes",),
    ("applyToDestinations",),
    ("targetRefs",),
    ("targetRef",),
    ("targetSelectors",),
    ("jwt", "providers", "*"),
    ("jwt", "providers", "*", "localJWKS", "inline"),
    ("jwt", "providers", "*", "localJWKS", "valueRef"),
    ("jwt", "providers", "*", "remoteJWKS"),
    ("jwt", "providers", "*", "extractFrom"),
    ("authorization",),
    ("authorization", "rules", "*"),
    ("config",),
    ("config", "providers", "*"),
    ("config", "providers", "*", "local", "*"),
    ("config", "providers", "*", "jwks", "*"),
    ("config", "providers", "*", "remote"),
    ("config", "providers", "*", "tokenSource"),
    ("config", "claims"),
    ("config", "authorization", "rules", "*"),
)


def find_places(policy: Object) -> tuple[tuple[str, Position], ...]:
    """(field path, position) of each part that is written, for ``Policy.places``."""
    spec = policy.spec()
    return tuple(found for part in _PARTS for found in _find(spec, part))


def _find(value: Value, part: tuple[str, ...]) -> Iterator[tuple[str, Position]]:
    """A key in a mapping stands where it is written, an item of a list where it begins."""
    name, *rest = part
    if isinstance(value.data, list):
        found = [(item, item.position) for item in value.data] if name == "*" else []
    elif isinstance(value.data, dict):
        keys = value.data if name == "*" else [name] if name in value.data else []
        found = [(value.data[key], value.keys.get(key, value.data[key].position)) for key in keys]
    else:
        found = []
    for inner, position in found:
        if rest:
            yield from _find(inner, tuple(rest))
        else:
            yield inner.path, position
