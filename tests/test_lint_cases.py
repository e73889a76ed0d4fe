"""The lint corpus, as the engine says it and as ``eastgate lint`` prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eastgate.cli.main import main
from eastgate.compile.review import review
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.diagnostics import Diagnostic, Severity
from tests.lint_cases import POLICY_FILE, Finding, LintCase, load_lint_cases

CASES = load_lint_cases()
PARAMETERS = [pytest.param(case, id=f"{case.file}: {case.name}") for case in CASES]


def is_meant(wanted: Finding, found: Diagnostic) -> bool:
    """Whether a finding is the expected one."""
    return (
        (found.position.line, str(found.severity), found.code, found.field)
        == (wanted.line, wanted.severity, wanted.code, wanted.field)
        and wanted.message in found.message
        and found.position.file == POLICY_FILE
    )


@pytest.mark.parametrize("case", PARAMETERS)
def test_findings(case: LintCase) -> None:
    policy_set = read_policy_set(case.sources)
    found = list(dict.fromkeys((*policy_set.diagnostics, *review(policy_set))))
    for wanted in case.expect:
        meant = [one for one in found if is_meant(wanted, one)]
        if meant or not wanted.optional:
            assert len(meant) == 1, f"{wanted}\n" + "\n".join(f"{one} [{one.code} {one.field}]" for one in found)
            found.remove(meant[0])
    # What lies beside is there to be referred to; of it only errors count.
    rest = [one for one in found if one.position.file == POLICY_FILE or one.severity is Severity.ERROR]
    assert [f"{one} [{one.code} {one.field}]" for one in rest] == []


@pytest.mark.parametrize("case", PARAMETERS)
def test_the_command_prints_the_same(
    case: LintCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in case.sources:
        Path(name).write_text(text, newline="")
    names = [name for name, _ in case.sources]
    policy_set = read_policy_set(case.sources)
    expected = set(map(str, (*policy_set.diagnostics, *review(policy_set))))
    failed = any(": error: " in one for one in expected)
    assert main(["lint", *names]) == int(failed)
    assert set(capsys.readouterr().err.splitlines()) == expected
    assert main(["lint", "--json", *names]) == int(failed)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) == len(expected)
    for wanted in case.expect:
        fields = {"file": POLICY_FILE, "line": wanted.line, "severity": wanted.severity, "code": wanted.code}
        assert wanted.optional or any(
            fields | {"field": wanted.field} == {k: one[k] for k in (*fields, "field")} for one in printed
        )


def test_there_are_enough_of_them() -> None:
    bad = [case for case in CASES if case.expect]
    codes = {finding.code for case in bad for finding in case.expect}
    assert len(bad) >= 60
    assert len(codes) >= 30
    assert all(severity in {one.severity for case in bad for one in case.expect} for severity in map(str, Severity))
