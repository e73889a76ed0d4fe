"""``docs/how-to.md``, ``docs/reference/policies.md``, the alerts: every reason, policy, metric and link is real.

Links, manifests and options are checked in every document.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from eastgate.cli.main import app
from eastgate.compile.review import review
from eastgate.decide.statuses import ALL_STATUSES
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.decisions import Reason
from eastgate.model.diagnostics import has_errors
from tests.corpus import ROOT
from tests.tokens import key_set

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
HOW_TO = (ROOT / "docs" / "how-to.md").read_text()
POLICIES = (ROOT / "docs" / "reference" / "policies.md").read_text()
RULES = ROOT / "manifests" / "components" / "alerts" / "rules.yaml"

PASSING = {Reason.ALLOWED, Reason.NO_POLICY, Reason.UNMATCHED_ALLOWED}
AUTHORITY = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BESIDE_POLICIES = """\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: login-ca, namespace: shop}
data: {ca.crt: "%s"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: partner-keys, namespace: shop}
data: {jwks.json: '%s'}
"""


def test_every_reason_says_what_to_do() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \| ([0-9, ]+) \|", HOW_TO, re.MULTILINE)
    said = {reason: answers for reasons, answers in rows for reason in re.findall(r"`(\w+)`", reasons)}
    assert len(said) == sum(len(re.findall(r"`(\w+)`", reasons)) for reasons, _ in rows)
    # What is wrong with a key set as a whole is `keys_unavailable`; its own words are the answer's body.
    statuses = {one.reason: str(one.http) for one in ALL_STATUSES if one.reason.startswith("jwt_")}
    others = {"jwks_kid_alg_mismatch", "jwks_no_valid_keys", *(set(map(str, Reason)) - PASSING)}
    assert set(said) == set(statuses) | others
    assert {reason: said[reason] for reason in statuses} == statuses


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = (re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", one) for one in re.findall(r"^#+ +(.*)", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_and_option_is_there(document: Path) -> None:
    text = document.read_text()
    for path in re.findall(r"\bmanifests/[\w./-]*\w", text):
        assert (ROOT / path).exists(), path
    commands: Any = get_command(app)
    # A command ends with its line, at a pipe or `&&`, or with the code that it stands in.
    for line in re.findall(r"\beastgate ((?:\w+ )+[^|&`\n]*--[^|&`\n]*)", text):
        words = line.split(" --")[0].split()
        command = commands
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line.partition("#")[0])) <= known, line


@pytest.mark.parametrize("index", range(4))
def test_the_reference_of_policies_is_policies(index: int) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", POLICIES, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    beside = BESIDE_POLICIES % (AUTHORITY, key_set("main"))
    policy_set = read_policy_set([("policies.yaml", blocks[index] + beside)])
    found = (*policy_set.diagnostics, *review(policy_set))
    assert not has_errors(found), found


def test_every_metric_of_the_alerts_is_documented() -> None:
    documented = set(
        re.findall(r"^\| `(eastgate_\w+)` \|", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    )
    groups = yaml.safe_load(RULES.read_text())["spec"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        metrics = re.findall(r"\beastgate_\w+", rule["expr"])
        assert metrics
        assert {metric.removesuffix("_count") for metric in metrics} <= documented, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
