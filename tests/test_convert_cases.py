"""Conversion: the conformance corpus decides the same before and after, and ``tests/cases/convert`` says how.

A file of ``tests/cases/convert`` has ``cases``; each is what a person could have written (``policies``), and either the
``documents`` that come of it or the ``errors`` that it is refused with, as parts of messages. ``warnings`` are parts of
messages, too. Every one of them that is converted is also asked, before and after, about its ``requests``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from eastgate.cli.convert import convert as convert_command
from eastgate.cli.manifests import write_yaml
from eastgate.compile.plan import Plan, compile_plan
from eastgate.conversions.conversion import Conversion, convert
from eastgate.decide.decision import decide
from eastgate.decide.memory import TokenMemory
from eastgate.dialects.corpus import read_policy_set
from eastgate.dialects.documents import read_documents
from eastgate.model.decisions import Decision
from eastgate.model.diagnostics import Severity, has_errors
from eastgate.model.requests import Request
from eastgate.model.workloads import Workload
from eastgate.render.grpc import is_grpc
from eastgate.render.http import render_answer
from tests.corpus import CASES, Case, build_workload, load_case_file
from tests.test_corpus import SuppliedKeys
from tests.tokens import key_set, mint

CORPUS = [pytest.param(path, id=path.stem) for path in sorted(CASES.glob("*.yaml"))]

REFUSED = {
    "gateway-listeners": ["hold at once", "without `jwt` there is no token"],
    "granted-routes": ["let their rules exclude each other"],
}
"""What of the corpus cannot be said in our own kinds, and why."""

NOTHING_FOREIGN = {
    *("audit-mode", "jwt-statuses", "policy-unavailable", "remote-keys", "remote-keys-unavailable", "selection"),
    *("targets", "token-cookies-own", "token-locations", "unmatched-allow"),
}


@dataclass(frozen=True)
class Asked:
    """A request as the engine sees it."""

    method: str
    target: str
    host: str
    headers: tuple[tuple[bytes, bytes], ...]


def errors_of(conversion: Conversion) -> list[str]:
    return [str(one) for one in conversion.diagnostics if one.severity is Severity.ERROR]


def write_result(conversion: Conversion) -> list[tuple[str, str]]:
    """What a cluster has afterwards, as texts: written and read as by a person."""
    kept = write_yaml([found.document.plain() for found in conversion.kept])
    return [("own.yaml", write_yaml([draft.document for draft in conversion.drafts])), ("kept.yaml", kept)]


def compile_texts(texts: Sequence[tuple[str, str]], workload: Workload) -> Plan:
    policy_set = read_policy_set(texts)
    return compile_plan(policy_set, workload)


def answer(plan: Plan, asked: Asked, ring: SuppliedKeys) -> dict[str, object]:
    """Everything that a caller or the application sees of a decision, and why."""
    request = Request(
        asked.method.encode(), asked.target.encode("latin-1"), asked.host.encode(), asked.headers, peer="127.0.0.1"
    )
    decision = decide(plan, request, ring, time.time(), TokenMemory(), last_try=True)
    assert isinstance(decision, Decision)
    found: dict[str, object] = {"reason": str(decision.reason), "policies": sorted(decision.policies)}
    if decision.allowed:
        assert decision.edits is not None
        return found | {"target": decision.edits.target, "headers": decision.edits.apply(asked.headers)}
    rendered = render_answer(decision, grpc=is_grpc(asked.headers), head=asked.method == "HEAD")
    return found | {"status": rendered.status, "body": rendered.body, "headers": rendered.headers}


def compare(before: Plan, after: Plan, requests: Iterable[Asked], ring: SuppliedKeys) -> int:
    count = 0
    for asked in requests:
        assert answer(after, asked, ring) == answer(before, asked, ring), asked
        count += 1
    return count


def ask_of_each(cases: Sequence[Case]) -> list[Asked]:
    """The file's requests, and every URL of them with what every other one carries."""
    asked = {}
    for where in cases:
        for what in cases:
            host = next((v for n, v in where.headers if n.lower() == "host"), where.authority)
            headers = tuple((n.lower().encode(), v.encode("latin-1")) for n, v in what.headers if n.lower() != "host")
            asked[what.method, where.target, host, headers] = Asked(what.method, where.target, host, headers)
    return list(asked.values())


@pytest.mark.parametrize("path", CORPUS)
def test_the_corpus_decides_the_same(path: Path) -> None:
    file = load_case_file(path)
    conversion = convert(file.policies)
    if path.stem in REFUSED:
        said = "\n".join(errors_of(conversion))
        assert all(why in said for why in REFUSED[path.stem]), said
        assert conversion.drafts == ()
        return
    assert errors_of(conversion) == []
    assert bool(conversion.drafts) is (path.stem not in NOTHING_FOREIGN)
    if not conversion.drafts:
        return

    workload = build_workload(file.flags)
    before, after = compile_texts(file.policies, workload), compile_texts(write_result(conversion), workload)

    assert compare(before, after, ask_of_each(file.cases), SuppliedKeys(file.remote_keys)) >= len(file.cases)


# --- how ------------------------------------------------------------------------------------------------------------

EXPAND = {"$jwks": key_set("main"), "$token": mint({"iss": "https://i.example", "org": "a"})}


def load_cases() -> Iterable[Any]:
    for path in sorted((CASES / "convert").glob("*.yaml")):
        for case in yaml.safe_load(path.read_text())["cases"]:
            yield pytest.param(case, id=f"{path.stem}: {case['name']}")


def expand(text: str) -> str:
    for name, value in EXPAND.items():
        text = text.replace(name, value)
    return text


def read_plain(text: str) -> list[Any]:
    sink: list[Any] = []
    values = [value.plain() for value in read_documents("expected.yaml", text, sink)]
    assert sink == []
    return values


@pytest.mark.parametrize("case", list(load_cases()))
def test_conversion(case: dict[str, Any]) -> None:
    sources = [("policies.yaml", expand(case["policies"]))]
    conversion = convert(sources)
    errors = errors_of(conversion)
    warnings = [str(one) for one in conversion.diagnostics if one.severity is Severity.WARNING]
    for part in case.get("warnings", ()):
        assert any(part in one for one in warnings), warnings
    if "errors" in case:
        assert conversion.drafts == ()
        for part in case["errors"]:
            assert any(part in one for one in errors), errors
        return
    assert errors == []
    documents = [draft.document for draft in conversion.drafts]
    if "documents" in case:
        assert documents == read_plain(expand(case["documents"]))
    texts = write_result(conversion)
    assert read_plain(texts[0][1]) == documents
    workloads = [Workload()]
    for name in case.get("services", ()):
        namespace, _, service = name.partition("/")
        workloads.append(Workload(namespace=namespace, services=((namespace, service, None),)))
    for workload in workloads:
        requests = [read_request(line) for line in case.get("requests", ())]
        compare(compile_texts(sources, workload), compile_texts(texts, workload), requests, SuppliedKeys({}))


def read_request(line: str) -> Asked:
    """``GET host /path``, with ``+`` at the end for a good token and ``-`` for a bad one."""
    method, host, target, *token = line.split()
    value = {"+": EXPAND["$token"], "-": "nonsense"}.get(token[0] if token else "")
    headers = ((b"authorization", f"Bearer {value}".encode()),) if value else ()
    return Asked(method, target, host, headers)


# --- the command ----------------------------------------------------------------------------------------------------

POLICY = """\
apiVersion: security.policy.gloo.solo.io/v2
kind: JWTPolicy
metadata: {name: p, namespace: shop, labels: {a: "yes", b: "0777", c: "1e3"}, annotations: {note: "on"}}
spec:
  applyToRoutes: [{}]
  config: {providers: {x: {issuer: "https://i.example", local: {inline: '$jwks'}}}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(expand(POLICY))
    return file


def run(*arguments: str) -> int:
    """The command, as ``eastgate convert`` runs it; its exit code."""
    app = typer.Typer()
    app.command()(convert_command)
    return int(typer.main.get_command(app).main([*arguments], "convert", standalone_mode=False) or 0)


def test_the_command_writes_what_kubectl_reads_as_it_is(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(policy)) == 0
    out, err = capsys.readouterr()

    assert out.startswith(
        f"# Converted from JWTPolicy shop/p, {policy}:1.\n# Comments could not be kept.\napiVersion: "
    )
    assert '    a: "yes"\n    b: "0777"\n    c: "1e3"\n' in out
    assert '    note: "on"\n' in out
    assert "left as it is: Service shop/web" in err
    assert not has_errors(read_policy_set([("own.yaml", out)]).diagnostics)


def test_the_command_writes_one_file_an_object(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(policy), "-o", str(tmp_path / "own")) == 0

    assert [one.name for one in (tmp_path / "own").iterdir()] == ["1-jwtpolicy-shop-p.yaml"]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"1 object written to {tmp_path / 'own'}"
    assert run(str(tmp_path / "own")) == 1
    assert "nothing to convert" in capsys.readouterr().err


def test_the_command_refuses_and_writes_nothing(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.write_text(policy.read_text().replace("issuer:", "isuer:"))

    assert run(str(policy), "-o", str(tmp_path / "own")) == 1

    assert not (tmp_path / "own").exists()
    out, err = capsys.readouterr()
    assert out == ""
    assert "unknown field `isuer`" in err
    assert "nothing was converted" in err
