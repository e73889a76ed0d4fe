"""The YAML of the scenarios, wherever this copy of Eastgate keeps it, and what a user is told to paste into it.

In a wheel the examples are ``eastgate/demonstrations/manifests``; in a checkout ``manifests/examples``.
"""

from __future__ import annotations

import re
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_BLOCK = r"^(?P<indent>[ \t]*)-----BEGIN {0}-----.*?-----END {0}-----"


class MissingManifestsError(FileNotFoundError):
    """This installation carries no examples."""


def locate_manifests() -> Path:
    """The folder that holds a folder a scenario."""
    for folder in (_HERE / "manifests", _HERE.parent.parent / "manifests" / "examples"):
        if folder.is_dir():
            return folder
    raise MissingManifestsError("the example manifests are not part of this installation")


def published(name: str) -> str | None:
    """A key set or token that a seed publishes, or None where this copy has none."""
    file = _HERE / "seeds" / name
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def paste_pem(yaml: str, kind: str, pem: str) -> str:
    """The text with every PEM block of a kind (``PUBLIC KEY``) replaced and indented as it was, which is what the seeds
    tell their reader to do.
    """

    def replace(found: re.Match[str]) -> str:
        return "\n".join(found["indent"] + line for line in pem.strip().splitlines())

    return re.sub(_BLOCK.format(kind), replace, yaml, flags=re.DOTALL | re.MULTILINE)
