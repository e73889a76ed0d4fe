"""Each seed: its YAML applied, its requests sent from a pod, and every answer as the seed says."""

from __future__ import annotations

import os

import pytest

from e2e.cluster import seeds
from e2e.cluster.conftest import Installation, Tell
from e2e.cluster.given import check_names
from e2e.cluster.node import ROOT
from eastgate.demonstrations.scenes import Result

DOCUMENT = ROOT / "docs" / "seeds.md"
BEGIN, END = "<!-- the cluster's table -->\n", "<!-- end of the cluster's table -->\n"


@pytest.fixture(scope="module")
def results(installation: Installation, tell: Tell) -> list[Result]:
    """All scenes, one after the other; examples that do not get in each other's way are applied together."""
    cluster, found, applied = installation.cluster, [], set()
    if installation.node is None:
        check_names(cluster)
    scenes = seeds.list_scenes(installation.material, installation.private)
    for example in (seeds.CLAIM_AUTHORIZATION, seeds.HTTP, seeds.GRPC, seeds.SELF_SIGNED, seeds.CLAIMS):
        seeds.apply_example(cluster, example)
        applied.add(example)
    for example, scene in scenes:
        if example not in applied:
            seeds.remove_example(cluster, seeds.CLAIMS)
            seeds.apply_example(cluster, example)
        seeds.await_example(cluster, example)
        if scene.keys == "private":
            seeds.put_authority(cluster, example, installation.private.pem)
        for result in seeds.play(cluster, example, scene):
            found.append(result)
            tell(f"{'ok  ' if result.passed else 'FAIL'} {scene.seed} {scene.title}: {result.step.says}: {result.got}")
            for problem in result.problems:
                tell(f"     {problem}")
    for example in (seeds.CLAIM_AUTHORIZATION, seeds.HTTP, seeds.GRPC, seeds.SELF_SIGNED, seeds.EAST_WEST):
        cluster.kubectl("delete", "namespace", example.namespace, "--wait=false")
    return found


@pytest.mark.timeout(600, func_only=True)
def test_every_request_of_every_seed(results: list[Result]) -> None:
    assert len(results) > 40
    failed = [f"{one.scene.title}: {one.step.says}: {'; '.join(one.problems)}" for one in results if not one.passed]
    assert not failed


def test_the_document_has_the_table(results: list[Result]) -> None:
    table = seeds.draw_table(results)
    text = DOCUMENT.read_text()
    if os.environ.get("EASTGATE_E2E_WRITE") == "1":
        before, _, rest = text.partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + "\n" + table + "\n" + END + rest.partition(END)[2])
        return
    found = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert found == table.strip(), "docs/seeds.md has another table: EASTGATE_E2E_WRITE=1 writes it"
