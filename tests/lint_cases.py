"""The lint corpus: ``tests/cases/lint/*.yaml``, texts as people write them and what is to be said about each.

A file has ``cases``; each is one text and the findings in it. ``policy`` is the text; a file may hold one for all cases,
with ``%NAME%`` where the case's field ``name`` goes (or the file's ``defaults``). ``beside`` are further files that the
text refers to. ``$jwks(main)`` and its like are keys. ``expect`` lists every finding, and there must be no other one;
``message`` is a part of the message, ``severity`` is ``error`` where it is not said, ``optional`` ones may be missing.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.tokens import key_set, load_private_key

CASES = Path(__file__).parent / "cases" / "lint"
POLICY_FILE = "policy.yaml"

_KEY = re.compile(r"\$([a-z-]+)\(([^)]*)\)")
_SPOKEN = frozenset(["name", "policy", "expect"])


@dataclass(frozen=True)
class Finding:
    """One expected line of ``lint``."""

    line: int
    severity: str
    code: str
    field: str
    message: str
    optional: bool


@dataclass(frozen=True)
class LintCase:
    """``sources`` are (file, text), the policy first."""

    file: str
    name: str
    sources: tuple[tuple[str, str], ...]
    expect: tuple[Finding, ...]


def load_lint_cases() -> list[LintCase]:
    """All cases of all files, in name order."""
    return [case for path in sorted(CASES.glob("*.yaml")) for case in _load_file(path)]


def _load_file(path: Path) -> list[LintCase]:
    data = yaml.load(path.read_text(), yaml.CSafeLoader)
    beside = tuple((f"beside-{index}.yaml", _put_keys(text)) for index, text in enumerate(data.get("beside", [])))
    cases = []
    for one in data["cases"]:
        text = one.get("policy", data.get("policy", ""))
        given = data.get("defaults", {}) | {name: value for name, value in one.items() if name not in _SPOKEN}
        for name, value in given.items():
            text = _put(text, f"%{name.upper()}%", value)
        assert "%" not in re.sub(r"%[^A-Z]", "", text), f"{path.name}: {one['name']}: something is not filled in"
        expect = tuple(_read_finding(finding) for finding in one["expect"])
        cases.append(LintCase(path.stem, one["name"], ((POLICY_FILE, _put_keys(text)), *beside), expect))
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), f"{path.name}: two cases have the same name"
    return cases


def _put(text: str, mark: str, value: str) -> str:
    """The value in place of the mark, its further lines indented as the first."""
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        lines.append(line.replace(mark, value.replace("\n", "\n" + indent)))
    return "\n".join(lines)


def _read_finding(data: dict[str, Any]) -> Finding:
    wanted: dict[str, Any] = {"severity": "error", "optional": False, **data}
    return Finding(**wanted)


def _put_keys(text: str) -> str:
    return _KEY.sub(lambda found: _make_key(found[1], found[2]), text)


@functools.cache
def _make_key(kind: str, argument: str) -> str:
    names = [name for name in argument.split(",") if name]
    if kind == "jwks":
        return key_set(*names)
    if kind == "enc-jwks":
        return key_set(*names, use="enc")
    if kind == "private-jwks":
        return json.dumps({"keys": [_private_jwk(name) for name in names]})
    if kind == "mixed-jwks":
        return json.dumps({"keys": [_private_jwk(names[0]), *json.loads(key_set(*names[1:]))["keys"]]})
    if kind == "weak-jwks":
        weak = rsa.generate_private_key(65537, 1024).public_key()
        return json.dumps({"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(weak, as_dict=True) | {"key_ops": ["verify"]}]})
    if kind == "secret-jwks":
        secret = base64.urlsafe_b64encode(b"s" * int(argument)).rstrip(b"=").decode()
        return json.dumps({"keys": [{"kty": "oct", "k": secret}]})
    if kind == "private-pem":
        key = load_private_key(argument)
        pem: str = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return pem.strip().replace("\n", "\n" + " " * 12)
    raise AssertionError(kind)


def _private_jwk(name: str) -> dict[str, Any]:
    key = load_private_key(name)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    document: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
    document.pop("key_ops", None)
    return document
