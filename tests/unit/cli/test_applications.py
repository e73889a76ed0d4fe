"""Where the applications are found: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eastgate.cli.applications import PACKAGE, locate


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_checkout_has_them_at_its_root() -> None:
    assert locate() == PACKAGE.parent
    assert (locate() / "sidecar" / "__init__.py").is_file()


def test_a_wheel_carries_them_and_they_come_first(tmp_path: Path) -> None:
    carried = tmp_path / "eastgate" / "_applications"
    carried.mkdir(parents=True)
    assert locate(tmp_path / "eastgate") == carried
    assert sys.path[0] == str(carried)
    locate(tmp_path / "eastgate")
    assert sys.path.count(str(carried)) == 1
