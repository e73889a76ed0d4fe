"""The conformance corpus: ``tests/cases/*.yaml``, each a set of policies and the requests it is asked about.

A case file is what a user could have written: ``policies`` (documents, or files of the checkout), ``serve`` (flags of
``eastgate serve`` that say what the workload is), ``tokens`` (how to mint them) and ``cases``. In every string
``$jwks(main)`` is a JWKS on one line, ``$token(dev)`` a token of the file. The same cases run through the pure engine,
through ``eastgate explain --json`` and through ``eastgate serve`` over HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched, Workload
from tests.tokens import key_set, mint, public_pem

ROOT = Path(__file__).parent.parent
CASES = ROOT / "tests" / "cases"
_SUBSTITUTE = re.compile(r"\$(jwks|pem|token)\(([^)]*)\)")


@dataclass(frozen=True)
class Expectation:
    """What must be true. Fields left out are not compared; ``upstream_without`` lists headers that must be absent."""

    decision: str
    status: int
    body: str | None = None
    reason: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    upstream_path: str | None = None
    upstream_headers: dict[str, Any] = field(default_factory=dict)
    upstream_without: tuple[str, ...] = ()
    route: str | None = None
    policies: list[str] | None = None


@dataclass(frozen=True)
class Case:
    """One request of a case file."""

    file: str
    name: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    expect: Expectation
    lanes: tuple[str, ...]

    @property
    def target(self) -> str:
        """The path and query, byte for byte as written."""
        rest = self.url.split("://", 1)[1]
        slash = rest.find("/")
        return rest[slash:] if slash >= 0 else "/"

    @property
    def authority(self) -> str:
        """The host and port of the URL."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True)
class CaseFile:
    """A parsed case file. ``policies`` are (name, text) pairs; ``flags`` go to the command line as they are."""

    name: str
    about: str
    policies: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    remote_keys: dict[str, str]
    cases: tuple[Case, ...]


def load_case_files() -> list[CaseFile]:
    """Every case file, in name order."""
    return [load_case_file(path) for path in sorted(CASES.glob("*.yaml"))]


def load_case_file(path: Path) -> CaseFile:
    """Parse one file and expand its substitutions."""
    data = yaml.load(path.read_text(), yaml.CSafeLoader)
    tokens: dict[str, str] = {}

    def expand(text: str) -> str:
        def put(match: re.Match[str]) -> str:
            kind, argument = match[1], match[2]
            if kind == "jwks":
                return key_set(*[name.strip() for name in argument.split(",")])
            if kind == "pem":
                return public_pem(argument)
            return tokens[argument]

        return _SUBSTITUTE.sub(put, text)

    for name, how in (data.get("tokens") or {}).items():
        tokens[name] = how if isinstance(how, str) else mint(how.pop("claims", None), **how)
    policies = []
    for index, entry in enumerate(data["policies"]):
        if "\n" in entry:
            policies.append((f"{path.stem}-{index}.yaml", expand(entry)))
        else:
            policies.append((entry, (ROOT / entry).read_text()))
    flags = [part for flag, value in (data.get("serve") or {}).items() for part in (f"--{flag}", str(value))]
    cases = tuple(_read_case(path.stem, one, expand) for one in data["cases"])
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), f"{path.name}: two cases have the same name"
    remote = {url: expand(text) for url, text in (data.get("remote") or {}).items()}
    return CaseFile(path.stem, data["about"], tuple(policies), tuple(flags), remote, cases)


def _read_case(file: str, data: dict[str, Any], expand: Any) -> Case:
    method, url = data["request"].split(" ", 1)
    headers = []
    for line in data.get("headers", []):
        name, value = line.split(":", 1)
        headers.append((name, expand(value.strip())))
    wanted = dict(data["expect"])
    upstream = wanted.pop("upstream", {})
    status = wanted.pop("status", 200)
    expectation = Expectation(
        decision=wanted.pop("decision", "allow" if status == 200 else "deny"),
        status=status,
        body=wanted.pop("body", None),
        reason=wanted.pop("reason", None),
        headers={k.lower(): v for k, v in wanted.pop("headers", {}).items()},
        upstream_path=upstream.pop("path", None),
        upstream_headers={
            k.lower(): expand(v) if isinstance(v, str) else v for k, v in upstream.pop("headers", {}).items()
        },
        upstream_without=tuple(upstream.pop("without", [])),
        route=wanted.pop("route", None),
        policies=wanted.pop("policies", None),
    )
    assert not wanted, f"{file}: {data['name']}: unknown expectations {sorted(wanted)}"
    assert not upstream, f"{file}: {data['name']}: unknown expectations {sorted(upstream)}"
    lanes = tuple(data.get("lanes", ["http1", "http2"]))
    return Case(file, data["name"], method, expand(url), tuple(headers), expectation, lanes)


def build_workload(flags: Sequence[str]) -> Workload:
    """The workload that these flags of ``serve`` describe, read independently of the command line's own code."""
    parser = argparse.ArgumentParser()
    for name in ("service", "policies", "pod-labels", "mode", "unmatched", "keys-unavailable"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args(list(flags))
    services = None
    namespace = "default"
    if given.service:
        namespace, _, rest = given.service.partition("/")
        name, _, port = rest.partition(":")
        services = ((namespace, name, int(port) if port.isdigit() else port or None),)
    labels = tuple(sorted(tuple(pair.split("=", 1)) for pair in (given.pod_labels or "").split(",") if pair))
    return Workload(
        namespace=namespace,
        labels=labels,  # type: ignore[arg-type]
        services=services,
        policies=tuple(given.policies.split(",")) if given.policies else None,
        mode=Mode(given.mode or "enforce"),
        unmatched=Unmatched(given.unmatched or "deny"),
        keys_unavailable=KeysUnavailable(given.keys_unavailable or "503"),
    )
