"""A name for the content of a plan: equal content, equal digest, whatever files it came from.

Knows: the model's values as values. Positions and diagnostics do not count; keys count by their text, through the hash
only. Must not know: what any of it means.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from functools import lru_cache
from hashlib import sha256

from eastgate.model.diagnostics import Position
from eastgate.model.sets import PolicySet
from eastgate.model.workloads import Workload


def digest_of(policy_set: PolicySet, workload: Workload) -> str:
    """SHA-256, in hexadecimal."""
    digest = sha256()
    for part in (*policy_set.policies, *policy_set.routes, *policy_set.services, workload):
        digest.update(_write(part).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _write(value: object) -> str:
    """A text that only equal values share: types are named, strings are quoted."""
    if isinstance(value, Enum):
        return repr(value.value)
    if isinstance(value, tuple):
        return "(" + ",".join([_write(one) for one in value]) + ")"
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        named = [(name, getattr(value, name)) for name in _field_names(kind)]
        written = [f"{name}={_write(one)}" for name, one in named if not isinstance(one, Position)]
        return f"{kind.__name__}({','.join(written)})"
    return repr(value)
