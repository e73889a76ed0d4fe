"""A name for the content of a plan: equal content, equal digest, whatever files it came from.

Knows: the model's values as values. Positions and diagnostics do not count; keys count by their text, through the hash
only. Must not know: what any of it means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from operator import attrgetter

from eastgate.model.diagnostics import Position
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Workload

_POSITION = (Position, Position.__name__)
"""A field's type, as it is written with or without deferred annotations."""


def digest_of(policy_set: PolicySet, workload: Workload) -> str:
    """SHA-256, in hexadecimal."""
    digest = sha256()
    for part in (*policy_set.policies, *policy_set.routes, *policy_set.services, workload):
        digest.update(_write(part).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def _write(value: object) -> str:
    """A text that only equal values share: types are named, strings are quoted."""
    kind = type(value)
    if kind is str:
        return repr(value)
    if kind is tuple:
        return "(" + ",".join(map(_write, value)) + ")" if value else "()"  # type: ignore[call-overload]
    return (_WRITERS.get(kind) or _make_writer(kind))(value)


_WRITERS: dict[type, Callable[[object], str]] = {}
"""How values of a type are written, worked out once: a plan of a thousand routes has a hundred thousand values."""


def _make_writer(kind: type) -> Callable[[object], str]:
    if issubclass(kind, Enum):
        write: Callable[[object], str] = _write_member
    elif is_dataclass(kind):
        named = [
            (f"{field.name}=", attrgetter(field.name))
            for field in fields(kind)
            if field.compare and field.type not in _POSITION
        ]
        name = kind.__name__

        def write(value: object) -> str:
            return f"{name}({','.join([prefix + _write(read(value)) for prefix, read in named])})"
    else:
        write = repr
    _WRITERS[kind] = write
    return write


def _write_member(value: object) -> str:
    return repr(value.value) if isinstance(value, Enum) else repr(value)
