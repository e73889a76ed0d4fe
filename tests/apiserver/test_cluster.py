"""What the API server does with what is sent to it: patches, status, preconditions, pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apiserver.environment import Environment
from webhook.cluster import Cluster, ClusterError, Conflict, Forbidden, NotFound
from webhook.resources import CONFIG_MAPS, JWT_POLICIES, NAMESPACES, PODS, SECRETS

pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # of the test server


@pytest.fixture
def cluster(environment: Environment) -> Cluster:
    return Cluster(str(environment.kubeconfig))


@pytest.fixture
def namespace(environment: Environment, request: pytest.FixtureRequest) -> str:
    return environment.create_namespace(request.node.name.removeprefix("test_").replace("_", "-")[:50].strip("-"))


def test_writing_and_reading(cluster: Cluster, namespace: str) -> None:
    body = {"metadata": {"namespace": namespace, "name": "a"}, "data": {"x": "1"}}
    assert cluster.create(CONFIG_MAPS, body, dry_run=True)["data"] == {"x": "1"}
    with pytest.raises(NotFound):
        cluster.get(CONFIG_MAPS, namespace, "a")
    made = cluster.create(CONFIG_MAPS, body)
    with pytest.raises(Conflict):
        cluster.create(CONFIG_MAPS, body)
    made["data"]["x"] = "2"
    changed = cluster.replace(CONFIG_MAPS, made)
    with pytest.raises(Conflict):
        cluster.replace(CONFIG_MAPS, made)
    with pytest.raises(Conflict):
        cluster.delete(CONFIG_MAPS, namespace, "a", resource_version=made["metadata"]["resourceVersion"])
    with pytest.raises(ClusterError, match=r"metadata\.uid"):  # what a nudge relies on: another pod by that name
        cluster.patch(CONFIG_MAPS, namespace, "a", {"metadata": {"uid": "another"}})
    assert cluster.get(CONFIG_MAPS, namespace, "a") == changed
    cluster.delete(CONFIG_MAPS, namespace, "a", uid=changed["metadata"]["uid"])
    with pytest.raises(NotFound):
        cluster.delete(CONFIG_MAPS, namespace, "a")


def test_three_kinds_of_patches(cluster: Cluster, namespace: str) -> None:
    identity = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    cluster.patch(CONFIG_MAPS, namespace, "a", {**identity, "data": {"x": "1"}}, "apply")  # creates
    cluster.patch(CONFIG_MAPS, namespace, "a", {"data": {"y": "2"}})
    cluster.patch(CONFIG_MAPS, namespace, "a", [{"op": "add", "path": "/data/z", "value": "3"}], "json")
    with pytest.raises(Conflict):  # another manager's field
        cluster.patch(CONFIG_MAPS, namespace, "a", {**identity, "data": {"x": "9"}}, "apply", field_manager="else")
    forced = cluster.patch(
        CONFIG_MAPS, namespace, "a", {**identity, "data": {"x": "9"}}, "apply", field_manager="else", force=True
    )
    assert forced["data"] == {"x": "9", "y": "2", "z": "3"}


def test_only_metadata_is_sent_where_only_that_is_asked_for(cluster: Cluster, namespace: str) -> None:
    cluster.create(CONFIG_MAPS, {"metadata": {"namespace": namespace, "name": "a"}, "data": {"x": "1"}})
    (found,) = cluster.list(CONFIG_MAPS, namespace, metadata_only=True)
    assert set(found) == {"apiVersion", "kind", "metadata"}
    assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")
    patched = cluster.patch(CONFIG_MAPS, namespace, "a", {"metadata": {"labels": {"a": "b"}}}, metadata_only=True)
    assert set(patched) == {"apiVersion", "kind", "metadata"}
    (found,) = cluster.list(CONFIG_MAPS, namespace, selector="a=b", fields="metadata.name=a")
    assert found["data"] == {"x": "1"}
    assert cluster.list(CONFIG_MAPS, namespace, selector="a=c") == []


def test_what_a_role_lacks_is_forbidden(environment: Environment, namespace: str, tmp_path: Path) -> None:
    nobody = Cluster(str(environment.make_kubeconfig(namespace, "default", tmp_path)))
    with pytest.raises(Forbidden, match="cannot list resource"):
        nobody.list(SECRETS, namespace)
    with pytest.raises(Forbidden):
        nobody.watch(PODS, resource_version="0")
    assert nobody.groups()  # open to every account, as are versions and readiness
    assert ("v1", "deployments") in nobody.served("apps")
    assert nobody.served("no.such.group") == frozenset()
    nobody.require_ready()


def test_a_kind_that_is_not_installed_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(NotFound):
        cluster.list(JWT_POLICIES.at("v9"))
    with pytest.raises(NotFound):
        cluster.watch(JWT_POLICIES.at("v9"), resource_version="0")
    assert any(one["metadata"]["name"] == "default" for one in cluster.list(NAMESPACES))
