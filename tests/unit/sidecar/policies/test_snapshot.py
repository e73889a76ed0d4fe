"""Policy files as one state, and when they changed."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from eastgate.model.diagnostics import Severity
from eastgate.model.workloads import Workload
from sidecar.policies.snapshot import (
    PolicyFiles,
    Snapshot,
    Sources,
    Watcher,
    demand_plan,
    take_snapshot,
    write_diagnostics,
)

POLICY = """\
apiVersion: security.policy.gloo.solo.io/v2
kind: JWTPolicy
metadata: {name: jwt, namespace: httpbin}
spec:
  applyToRoutes:
  - route: {labels: {app: httpbin}}
  config:
    providers:
      dev:
        issuer: https://dev.example.com
        remote: {url: "https://idp.example/keys"}
"""
WORKLOAD = Workload(namespace="httpbin", labels=(("app", "httpbin"),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_a_good_file(file: Path) -> None:
    snapshot = take_snapshot([str(file)], None, WORKLOAD)
    assert [source.url for source in demand_plan(snapshot).sources] == ["https://idp.example/keys"]
    assert snapshot.material == PolicyFiles(((str(file), POLICY),), WORKLOAD)


def test_the_same_texts_compile_to_the_same_plan_elsewhere(file: Path) -> None:
    """A worker compiles what its parent read."""
    snapshot = take_snapshot([str(file)], None, WORKLOAD)
    assert demand_plan(snapshot.material.compile()).digest == demand_plan(snapshot).digest


def test_standard_input() -> None:
    assert demand_plan(take_snapshot(["-"], POLICY, WORKLOAD)).sources


@pytest.mark.parametrize(("old", "new"), [("issuer", "isuer"), ("spec:", "spec: ["), ("jwt,", "jwt, ")])
def test_an_error_leaves_no_plan(file: Path, old: str, new: str) -> None:
    file.write_text(POLICY.replace(old, new))
    snapshot = take_snapshot([str(file)], None, WORKLOAD)
    if new == "jwt, ":
        demand_plan(snapshot)
        return
    assert snapshot.plan is None
    with pytest.raises(ValueError, match="errors"):
        demand_plan(snapshot)
    stream = io.StringIO()
    write_diagnostics(snapshot.diagnostics, stream)
    assert stream.getvalue().startswith(f"{file}:")
    assert ": error: " in stream.getvalue()


def test_a_policy_that_selects_nothing_is_said_and_no_more(file: Path) -> None:
    route = """\
---
apiVersion: policy.eastgate.dev/v1alpha1
kind: RouteTable
metadata: {name: routes, namespace: httpbin, labels: {app: other}}
spec:
  hosts: ["*"]
  http:
  - forwardTo: {destinations: [{ref: {name: httpbin}, port: {number: 80}}]}
"""
    file.write_text(POLICY + route)
    snapshot = take_snapshot([str(file)], None, WORKLOAD)
    demand_plan(snapshot)
    assert [one.code for one in snapshot.diagnostics if one.severity is Severity.ERROR] == ["selects-nothing"]


def test_files_that_are_not_there_or_hold_nothing(tmp_path: Path) -> None:
    missing = take_snapshot([str(tmp_path / "none.yaml")], None, WORKLOAD)
    assert missing.plan is None
    assert str(missing.diagnostics[0]).startswith(f"{tmp_path}/none.yaml:1: error: ")
    empty = take_snapshot([str(tmp_path)], None, WORKLOAD)
    assert empty.plan is None
    assert "no policy file" in str(empty.diagnostics[0])


def change(path: Path, text: str) -> None:
    path.write_text(text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_a_change_counts_when_it_stood_still(file: Path) -> None:
    watcher = Watcher([str(file.parent), "-"])
    assert not watcher.has_changed()
    change(file, POLICY + "#")
    assert not watcher.has_changed()
    change(file, POLICY + "##")
    assert not watcher.has_changed(), "still being written"
    assert watcher.has_changed()
    assert not watcher.has_changed()


def test_files_that_come_and_go(file: Path) -> None:
    watcher = Watcher([str(file.parent)])
    other = file.parent / "other.yaml"
    other.write_text("")
    assert [watcher.has_changed(), watcher.has_changed(), watcher.has_changed()] == [False, True, False]
    other.unlink()
    assert [watcher.has_changed(), watcher.has_changed(), watcher.has_changed()] == [False, True, False]
    file.unlink()
    assert [watcher.has_changed(), watcher.has_changed()] == [False, True]


def sources(snapshot: Snapshot) -> Sources:
    assert isinstance(snapshot.material, PolicyFiles)
    return snapshot.material.sources


def test_a_config_map_is_swapped_by_a_link(tmp_path: Path) -> None:
    """As kubelet does: ``policy.yaml -> ..data/policy.yaml``, ``..data -> ..2026_1``; one rename changes them all."""
    for version in ("..2026_1", "..2026_2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "policy.yaml").write_text(POLICY + f"# {version}\n")
    (tmp_path / "..data").symlink_to("..2026_1")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    snapshot = take_snapshot([str(tmp_path)], None, WORKLOAD)
    assert [text[-9:] for _, text in sources(snapshot)] == ["..2026_1\n"]
    watcher = Watcher([str(tmp_path)])
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert [watcher.has_changed(), watcher.has_changed(), watcher.has_changed()] == [False, True, False]
    snapshot = take_snapshot([str(tmp_path)], None, WORKLOAD)
    assert [text[-9:] for _, text in sources(snapshot)] == ["..2026_2\n"]


def test_what_is_not_read_is_not_watched(file: Path) -> None:
    """``serve`` may well write its log into the folder of its policies."""
    watcher = Watcher([str(file.parent)])
    (file.parent / "log.txt").write_text("a line")
    assert not any(watcher.has_changed() for _ in range(3))
