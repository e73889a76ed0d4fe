"""What is kept of objects, and that nothing that matters is left out."""

from __future__ import annotations

from typing import Any

from eastgate.pods.bundles import pack
from webhook.controllers.projections import CONTENT, checksum, project_part, project_pod, project_policy


def pod(**annotations: str) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "a",
            "name": "b",
            "uid": "c",
            "labels": {"app": "x"},
            "annotations": annotations,
            "managedFields": [{}],
        }
    }


def test_pods_without_our_annotations_are_not_kept() -> None:
    assert project_pod(pod()) is None
    assert project_pod(pod(**{"eastgate.dev/mode": "audit", "other": "x"})) is None
    kept = project_pod(pod(**{"eastgate.dev/policies": "p", "other": "x" * 100_000}))
    assert kept is not None
    assert kept["metadata"] == {
        "namespace": "a",
        "name": "b",
        "uid": "c",
        "labels": {"app": "x"},
        "annotations": {"eastgate.dev/policies": "p"},
    }
    assert project_pod(pod(**{"eastgate.dev/status": "{}"})) is not None
    assert project_pod({"metadata": {"name": "bare"}}) is None


def test_a_bundle_as_written_and_as_read_have_the_same_checksum() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {}}
    bundle = pack("a", [{"kind": "x"}], [secret])
    for written in (*bundle.config_maps(), bundle.secret()):
        assert written is not None
        read = {**written, "metadata": {**written["metadata"], "uid": "u", "resourceVersion": "5", "managedFields": []}}
        kept = project_part(read)
        assert kept is not None
        assert kept[CONTENT] == checksum(written)
        assert "data" not in kept
        assert "binaryData" not in kept
        changed = project_part({**read, "data": {"more": "x"}})
        assert changed is not None
        assert changed[CONTENT] != checksum(written)


def test_only_bundles_are_kept_as_bundles() -> None:
    assert project_part({"kind": "ConfigMap", "metadata": {"name": "eastgate-bundler"}}) is None
    assert project_part({"kind": "ConfigMap", "metadata": {"name": "eastgate-bundle-3"}}) is not None


def test_bookkeeping_is_not_kept() -> None:
    found = {
        "metadata": {
            "name": "a",
            "managedFields": [1],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "a": "b"},
        },
        "spec": {"unknown": 1},
        "status": {"x": 1},
    }
    assert project_policy(found) == {
        "metadata": {"name": "a", "annotations": {"a": "b"}},
        "spec": {"unknown": 1},
        "status": {"x": 1},
    }
