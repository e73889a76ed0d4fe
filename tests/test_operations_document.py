"""``docs/operations.md`` lists every metric, and none that is not there."""

from __future__ import annotations

import re

from sidecar.metrics import FAMILIES
from tests.corpus import ROOT


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"^\| `(eastgate_\w+)` \|", text, re.MULTILINE))
    assert documented == {name for name in FAMILIES if name.startswith("eastgate_")}
