"""Objects written so that kubectl reads back the same ones.

kubectl (sigs.k8s.io/yaml) takes more words for booleans and numbers than PyYAML thinks of: ``y``, ``0o17``, ``1e3``. So
whatever might be taken for something else is quoted. Must not know: what the objects are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_DUMPER):  # type: ignore[misc]
    """libyaml's emitter, which kubectl's own descends from; without aliases."""

    def ignore_aliases(self, _data: object) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quoted where a reader could think of a number, a boolean or nothing; a script keeps its lines."""
        style = None
        if text.lower() in _WORDS or text[:1] in "+-.0123456789~=<":
            style = '"'
        elif "\n" in text:
            style = "|"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # type: ignore[no-any-return]


_Dumper.add_representer(str, _Dumper.represent_text)


def write_yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    """One document for each object."""
    return "---\n".join(
        yaml.dump(normalise(one), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
        for one in objects
    )


def write_json(objects: list[Mapping[str, Any]]) -> str:
    """The object, or a ``List`` of several."""
    whole = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": objects}
    return json.dumps(normalise(whole), indent=2, ensure_ascii=False) + "\n"


def normalise(value: Any) -> Any:
    """Whole numbers without a fraction: ``1e3`` is a float to YAML, and Go reads no ``1000.0`` into an integer."""
    if isinstance(value, Mapping):
        return {key: normalise(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [normalise(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
