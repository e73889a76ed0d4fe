"""The conformance corpus, three ways: the pure engine, ``eastgate explain``, and ``eastgate serve`` over both lanes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eastgate.cli.main import main
from eastgate.compile.plan import compile_plan
from eastgate.decide.decision import decide
from eastgate.decide.memory import TokenMemory
from eastgate.dialects.corpus import read_policy_set
from eastgate.keys.keyset import KeySetError, parse_key_set
from eastgate.keys.ring import Held
from eastgate.model.decisions import Decision
from eastgate.model.keys import RemoteKeys
from eastgate.model.requests import Request
from eastgate.render.grpc import is_grpc
from eastgate.render.http import render_answer
from tests.corpus import CASES, Case, CaseFile, Expectation, build_workload, load_case_file
from tests.live.client import request_http1, request_http2
from tests.live.keys import serve_key_sets
from tests.live.serving import serve
from tests.live.upstream import run_upstream

PARAMETERS = [pytest.param(path, id=path.stem) for path in sorted(CASES.glob("*.yaml"))]


class SuppliedKeys:
    """A ring whose remote sources hold what the case file says."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts

    def held(self, source: RemoteKeys) -> Held:
        """The supplied set, what is wrong with it, or a failed fetch."""
        if source.url not in self.texts:
            return Held(problem="Jwks remote fetch is failed")
        try:
            return Held(parse_key_set(self.texts[source.url], remote=True), 1)
        except KeySetError as error:
            return Held(problem=error.text)

    def may_refetch(self, source: RemoteKeys, kid: str | None) -> bool:
        """The supplied sets never change."""
        return False


def compare(case: Case, found: dict[str, object]) -> list[str]:
    """What differs from the expectation, one line each."""
    wanted: Expectation = case.expect
    differences = []

    def check(name: str, expected: object, actual: object) -> None:
        if expected is not None and expected != actual:
            differences.append(f"{name}: expected {expected!r}, got {actual!r}")

    check("decision", wanted.decision, found.get("decision"))
    check("status", wanted.status, found["status"])
    check("body", wanted.body, found.get("body"))
    if "reason" in found:
        check("reason", wanted.reason, found["reason"])
        check("route", wanted.route, found["route"])
        check("policies", wanted.policies, found["policies"])
    headers = dict(found["headers"])  # type: ignore[call-overload]
    for name, value in wanted.headers.items():
        check(f"header {name}", value, headers.get(name))
    upstream = found.get("upstream")
    if wanted.decision == "deny":
        if upstream is not None:
            differences.append(f"nothing may reach the application, but it saw {upstream}")
        return differences
    if upstream is None:
        return [*differences, "the application saw nothing"]
    check("upstream path", wanted.upstream_path, upstream["path"])
    seen: dict[str, list[str]] = {}
    for name, value in upstream["headers"]:
        seen.setdefault(name, []).append(value)
    for name, value in wanted.upstream_headers.items():
        check(f"upstream header {name}", value if isinstance(value, list) else [value], seen.get(name))
    differences += [f"upstream must not see {name}: {seen[name]}" for name in wanted.upstream_without if name in seen]
    return differences


def report(problems: dict[str, list[str]], said: str = "") -> None:
    """Fail with every difference of a file at once, and with what the product ``said`` meanwhile."""
    differences = "\n".join(f"{name}:\n    " + "\n    ".join(lines) for name, lines in problems.items())
    assert not problems, f"\n{differences}\n{said}"


@pytest.mark.parametrize("path", PARAMETERS)
def test_engine(path: Path) -> None:
    file = load_case_file(path)
    policy_set = read_policy_set(file.policies)
    plan = compile_plan(policy_set, build_workload(file.flags))
    ring = SuppliedKeys(file.remote_keys)
    problems = {}
    for case in file.cases:
        headers = tuple((n.lower().encode(), v.encode("latin-1")) for n, v in case.headers if n.lower() != "host")
        host = next((v for n, v in case.headers if n.lower() == "host"), case.authority)
        request = Request(case.method.encode(), case.target.encode("latin-1"), host.encode(), headers, peer="127.0.0.1")
        answer = decide(plan, request, ring, time.time(), TokenMemory(), last_try=True)
        assert isinstance(answer, Decision)
        found: dict[str, object] = {
            "decision": "allow" if answer.allowed else "deny",
            "reason": str(answer.reason),
            "route": answer.route,
            "policies": list(answer.policies),
        }
        if answer.allowed:
            assert answer.edits is not None
            seen = [[n.decode("latin-1"), v.decode("latin-1")] for n, v in answer.edits.apply(headers)]
            found |= {"status": 200, "headers": [], "upstream": {"path": answer.edits.target.decode(), "headers": seen}}
        else:
            rendered = render_answer(answer, grpc=is_grpc(headers), head=case.method == "HEAD")
            found |= {
                "status": rendered.status,
                "body": rendered.body.decode(),
                "upstream": None,
                "headers": [(n.decode(), v.decode()) for n, v in rendered.headers],
            }
        if lines := compare(case, found):
            problems[case.name] = lines
    report(problems)


def write_policies(file: CaseFile, folder: Path) -> list[Path]:
    """The case file's policies as files."""
    paths = []
    for index, (name, text) in enumerate(file.policies):
        path = folder / f"{index}-{Path(name).name}"
        path.write_text(text)
        paths.append(path)
    return paths


@pytest.mark.parametrize("path", PARAMETERS)
def test_explain(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = load_case_file(path)
    requests = tmp_path / "requests.jsonl"
    requests.write_text(
        "".join(
            json.dumps({"id": case.name, "method": case.method, "url": case.url, "headers": case.headers}) + "\n"
            for case in file.cases
        )
    )
    command = ["explain", "--json", "--requests", str(requests)]
    for policy in write_policies(file, tmp_path):
        command += ["--policy", str(policy)]
    with serve_key_sets(file.remote_keys, tmp_path) as key_flags:
        main([*command, *file.flags, *key_flags])
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["id"] for line in lines] == [case.name for case in file.cases], said.err
    problems = {}
    for case, line in zip(file.cases, lines, strict=True):
        line["headers"] = line.pop("response_headers")
        if line["decision"] == "allow":
            line.pop("body")
        if found := compare(case, line):
            problems[case.name] = found
    report(problems, said.err)


@pytest.mark.parametrize("path", PARAMETERS)
def test_serve(path: Path, tmp_path: Path) -> None:
    file = load_case_file(path)
    with (
        serve_key_sets(file.remote_keys, tmp_path) as key_flags,
        run_upstream() as upstream,
        serve(write_policies(file, tmp_path), upstream.port, *file.flags, *key_flags) as served,
    ):
        problems = {}
        for case in file.cases:
            for lane in case.lanes:
                send = request_http1 if lane == "http1" else request_http2
                authority = next((v for n, v in case.headers if n.lower() == "host"), case.authority)
                headers = [(n, v) for n, v in case.headers if n.lower() != "host"]
                before = len(upstream.requests)
                response = send(served.port, case.method, case.target, authority, headers)
                seen = upstream.requests[before:]
                found: dict[str, object] = {
                    "decision": "allow" if seen else "deny",
                    "status": response.status,
                    "headers": response.headers,
                    "upstream": {"path": seen[0][1], "headers": seen[0][2]} if seen else None,
                }
                if not seen:
                    found["body"] = response.body.decode()
                if lines := compare(case, found):
                    problems[f"{case.name} ({lane})"] = lines
        report(problems, served.log)
        for secret in ("eyJ", "PRIVATE"):
            assert secret not in served.log, "a token is in the log"
