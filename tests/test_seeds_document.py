"""``docs/seeds.md`` names cases: each must exist."""

from __future__ import annotations

import re

from tests.corpus import ROOT, load_case_files


def test_every_case_it_names_exists() -> None:
    cases = {f"{file.name}: {case.name}" for file in load_case_files() for case in file.cases}
    text = (ROOT / "docs" / "seeds.md").read_text()
    named = {
        one for one in re.findall(r"`([a-z0-9-]+: [^`]+)`", text) if not one.startswith(("issuer:", "email:", "http"))
    }
    named = {one for one in named if (ROOT / "tests" / "cases" / f"{one.split(': ')[0]}.yaml").exists() or one in cases}
    assert len(named) > 40
    assert named <= cases, f"docs/seeds.md names cases that do not exist: {sorted(named - cases)}"


def test_every_file_it_names_exists() -> None:
    text = (ROOT / "docs" / "seeds.md").read_text()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path
