"""RFC 6902 with its one operation that takes nothing away: building ``add`` operations, and applying them.

``add`` on a member that an object already has replaces that member's value (RFC 6902 section 4.1): that is how a probe
is rewritten. ``apply`` is strict: a path that leads nowhere is an error and never a place that is made.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from webhook.injections.verdicts import Path

type Operation = dict[str, object]

_INDEX = re.compile(r"0|[1-9][0-9]*")


class PatchError(Exception):
    """A patch that does not fit the document."""


def add(path: Path, value: object) -> Operation:
    """One operation; an index of ``-`` means the end of the list."""
    return {"op": "add", "path": to_pointer(path), "value": value}


@functools.lru_cache(maxsize=4096)  # the same few places in every pod, and a third of the time of an injection
def to_pointer(path: Path) -> str:
    """RFC 6901: ``~`` and ``/`` in keys are escaped (every annotation of ours has a ``/``)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def prefix(patch: Iterable[Operation], path: Path) -> tuple[Operation, ...]:
    """The same patch for a document that holds the patched one at ``path`` (a Deployment, a List)."""
    start = to_pointer(path)
    return tuple({**operation, "path": f"{start}{operation['path']}"} for operation in patch)


def apply(document: Mapping[str, Any], patch: Iterable[Operation]) -> dict[str, Any]:
    """The patched document; the one given stays as it was. Raises ``PatchError``."""
    result: Any = dict(document)
    for operation in patch:
        if operation.keys() != {"op", "path", "value"} or operation["op"] != "add":
            raise PatchError(f"only `add` is applied, found {operation.get('op')!r}")
        parts = _read_pointer(operation["path"])
        result = _add(result, parts, operation["value"], str(operation["path"]))
    if not isinstance(result, dict):
        raise PatchError("the result is no object")
    return result


def _read_pointer(pointer: object) -> list[str]:
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise PatchError(f"{pointer!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _add(target: Any, parts: list[str], value: object, pointer: str) -> Any:
    """A copy of ``target`` with the value in it; only what lies on the way is copied."""
    if not parts:
        return value
    part, rest = parts[0], parts[1:]
    if isinstance(target, dict):
        if rest and part not in target:
            raise PatchError(f"`{pointer}`: there is no `{part}`")
        return {**target, part: _add(target.get(part), rest, value, pointer)}
    if not isinstance(target, list):
        raise PatchError(f"`{pointer}`: `{part}` is not in an object or a list")
    if not rest and part == "-":
        return [*target, value]
    if not _INDEX.fullmatch(part) or int(part) > len(target) - bool(rest):
        raise PatchError(f"`{pointer}`: there is no element `{part}`")
    index = int(part)
    if rest:
        return [*target[:index], _add(target[index], rest, value, pointer), *target[index + 1 :]]
    return [*target[:index], value, *target[index:]]
