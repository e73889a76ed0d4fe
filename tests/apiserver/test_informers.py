"""Informers against a real API server: what they know, through everything that happens to a watch."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.environment import Environment
from tests.apiserver.programs import await_true
from webhook.cluster import Cluster, Gone, Watch
from webhook.controllers.informers import Discovery, Informer, keep_all
from webhook.controllers.projections import project_pod
from webhook.controllers.references import References
from webhook.resources import CONFIG_MAPS, CRDS, NAMESPACES, PODS, SECRETS, Resource

pytestmark = pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")  # of the test server

Object = dict[str, Any]
WIDGETS = Resource("informers.eastgate.dev", "v2", "widgets", "Widget", fallbacks=("v1",))


class Told:
    """A sink that keeps what it was told, as a state and as a history."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.history: list[str] = []

    def __call__(self, _resource: Resource, old: Object | None, new: Object | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        assert (old is None) == (name not in self.objects)
        if new is None:
            del self.objects[name]
        else:
            self.objects[name] = new
        self.history.append(f"{'+' if old is None else '-' if new is None else '~'}{name}")


@pytest.fixture
def cluster(environment: Environment) -> Cluster:
    return Cluster(str(environment.kubeconfig))


@pytest.fixture
def namespace(environment: Environment, request: pytest.FixtureRequest) -> str:
    name = request.node.name.removeprefix("test_").replace("_", "-")
    return environment.create_namespace(name[:50].strip("-"))


@pytest.fixture
def follow() -> Iterator[Callable[..., tuple[Informer, Told]]]:
    running: list[Informer] = []

    def start(cluster: Cluster, resource: Resource, **options: Any) -> tuple[Informer, Told]:
        told = Told()
        informer = Informer(cluster, resource, told, **options)
        informer.start()
        running.append(informer)
        return informer, told

    yield start
    for informer in running:
        informer.stop()


def put(cluster: Cluster, namespace: str, name: str, **data: str) -> Object:
    return cluster.create(CONFIG_MAPS, {"metadata": {"namespace": namespace, "name": name}, "data": data})


def await_synced(*informers: Informer) -> None:
    await_true(lambda: all(one.synced for one in informers), "synced", pause=0.01)


def test_what_was_there_and_what_changes(cluster: Cluster, namespace: str, follow: Any) -> None:
    put(cluster, namespace, "before")
    informer, told = follow(cluster, CONFIG_MAPS, namespace=namespace)
    await_synced(informer)
    assert told.history == ["+before"]
    put(cluster, namespace, "later", a="1")
    cluster.patch(CONFIG_MAPS, namespace, "later", {"data": {"a": "2"}})
    cluster.delete(CONFIG_MAPS, namespace, "before")
    await_true(lambda: told.history == ["+before", "+later", "~later", "-before"], "three changes", pause=0.01)
    assert told.objects["later"]["data"] == {"a": "2"}
    assert told.objects["later"]["kind"] == "ConfigMap"
    assert informer.get(namespace, "later") is told.objects["later"]
    assert cluster.calls["list"] == 1


def test_watches_that_end_go_on_where_they_were(cluster: Cluster, namespace: str, follow: Any) -> None:
    informer, told = follow(cluster, CONFIG_MAPS, namespace=namespace, watch_seconds=1)
    await_synced(informer)
    for number in range(12):
        put(cluster, namespace, f"c{number}")
        time.sleep(0.2)
    await_true(lambda: len(told.objects) == 12, "all of them", pause=0.01)
    assert cluster.calls["list"] == 1
    assert cluster.calls["watch"] >= 2
    assert informer.problem == ""


def test_a_version_that_is_too_old_is_listed_again(environment: Environment, namespace: str, follow: Any) -> None:
    class Forgetful(Cluster):
        """The server says 410 once, as after a compaction."""

        forgets = True

        def watch(self, *arguments: Any, **options: Any) -> Watch:
            if self.forgets:
                self.forgets = False
                cluster.delete(CONFIG_MAPS, namespace, "gone")
                cluster.patch(CONFIG_MAPS, namespace, "changed", {"data": {"a": "2"}})
                raise Gone(410, "Expired", "too old resource version")
            return super().watch(*arguments, **options)

    cluster = Cluster(str(environment.kubeconfig))
    for name in ("gone", "changed", "same"):
        put(cluster, namespace, name, a="1")
    _, told = follow(Forgetful(str(environment.kubeconfig)), CONFIG_MAPS, namespace=namespace)
    await_true(lambda: len(told.history) == 5, "listed again", pause=0.01)
    assert set(told.history[:3]) == {"+gone", "+changed", "+same"}
    assert told.history[3:] == ["-gone", "~changed"]


class Line:
    """A TCP connection to the API server that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            threading.Thread(target=self._copy, args=(near, far), daemon=True).start()

    def _copy(self, near: socket.socket, far: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while True:
                try:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        key.data.sendall(data)
                except (OSError, ValueError):
                    return

    def fail(self) -> None:
        self.cut = True
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open.clear()


def test_nothing_is_lost_while_the_server_is_away(
    environment: Environment, cluster: Cluster, namespace: str, follow: Any, tmp_path: Path
) -> None:
    line = Line(int(environment.address.rpartition(":")[2]))
    config = tmp_path / "config"
    config.write_text(environment.kubeconfig.read_text().replace(environment.address, f"https://127.0.0.1:{line.port}"))
    put(cluster, namespace, "a")
    put(cluster, namespace, "b")
    informer, told = follow(Cluster(str(config)), CONFIG_MAPS, namespace=namespace)
    await_synced(informer)
    line.fail()
    await_true(lambda: informer.problem, "the problem is known", pause=0.01)
    cluster.delete(CONFIG_MAPS, namespace, "a")
    put(cluster, namespace, "c")
    assert informer.synced
    assert set(told.objects) == {"a", "b"}  # kept meanwhile
    line.cut = False
    await_true(lambda: set(told.objects) == {"b", "c"}, "caught up", pause=0.01)
    assert told.history[2:] == ["-a", "+c"]
    assert informer.problem == ""


def make_crd(*versions: str) -> Object:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": "widgets.informers.eastgate.dev"},
        "spec": {
            "group": WIDGETS.group,
            "scope": "Namespaced",
            "names": {"kind": WIDGETS.kind, "plural": WIDGETS.plural},
            "versions": [
                {"name": one, "served": True, "storage": one == versions[-1], "schema": schema} for one in versions
            ],
        },
    }


def test_a_kind_that_comes_and_goes(environment: Environment, cluster: Cluster, namespace: str, follow: Any) -> None:
    informer, told = follow(cluster, WIDGETS, discovery=Discovery(cluster, seconds=0.3))
    await_synced(informer)  # there is none: nothing to wait for
    cluster.create(CRDS, {"apiVersion": CRDS.api_version, "kind": CRDS.kind, **make_crd("v1")})
    environment.kubectl("wait", "--for=condition=Established", "crd", "widgets.informers.eastgate.dev")
    made = {"apiVersion": "informers.eastgate.dev/v1", "kind": "Widget", "spec": {"x": 1}}
    cluster.create(WIDGETS.at("v1"), {**made, "metadata": {"namespace": namespace, "name": "one"}})
    await_true(lambda: told.objects, "the older version is read", pause=0.01)
    assert told.objects["one"]["apiVersion"] == "informers.eastgate.dev/v1"
    begun = time.monotonic()
    cluster.delete(CRDS, None, "widgets.informers.eastgate.dev")
    await_true(lambda: not told.objects, "it is gone", pause=0.01)
    assert time.monotonic() - begun < 10
    assert told.history == ["+one", "-one"]


def test_metadata_only_and_projected(cluster: Cluster, namespace: str, follow: Any) -> None:
    informer, told = follow(cluster, PODS, namespace=namespace, metadata_only=True, project=project_pod)
    names, _ = follow(cluster, NAMESPACES, metadata_only=True, project=keep_all)
    await_synced(informer, names)
    spec = {"containers": [{"name": "a", "image": "a"}], "terminationGracePeriodSeconds": 0}
    for name, noted in (("asks", {"eastgate.dev/policies": "p", "more": "x"}), ("other", {"more": "x"})):
        metadata = {"namespace": namespace, "name": name, "annotations": noted}
        cluster.create(PODS, {"metadata": metadata, "spec": spec})
    await_true(lambda: told.objects, "a pod", pause=0.01)
    assert told.history == ["+asks"]
    assert told.objects["asks"]["kind"] == "Pod"
    assert set(told.objects["asks"]) == {"apiVersion", "kind", "metadata"}
    assert told.objects["asks"]["metadata"]["annotations"] == {"eastgate.dev/policies": "p"}
    # It begins and ceases to matter.
    cluster.patch(PODS, namespace, "other", {"metadata": {"annotations": {"eastgate.dev/policies": "p"}}})
    await_true(lambda: told.history == ["+asks", "+other"], "it matters now", pause=0.01)
    cluster.patch(PODS, namespace, "other", {"metadata": {"annotations": {"eastgate.dev/policies": None}}})
    await_true(lambda: told.history == ["+asks", "+other", "-other"], "and no more", pause=0.01)
    found = names.get("", namespace)
    assert found is not None
    assert "spec" not in found


def test_own_writes_are_known_at_once_and_no_news(cluster: Cluster, namespace: str, follow: Any) -> None:
    informer, told = follow(cluster, CONFIG_MAPS, namespace=namespace)
    await_synced(informer)
    made = put(cluster, namespace, "a")
    informer.absorb(made)
    assert informer.get(namespace, "a") is not None
    changed = cluster.patch(CONFIG_MAPS, namespace, "a", {"data": {"x": "1"}})
    informer.absorb(changed)
    assert (informer.get(namespace, "a") or {})["data"] == {"x": "1"}
    informer.absorb(made)  # an older answer that comes late
    assert (informer.get(namespace, "a") or {})["data"] == {"x": "1"}
    put(cluster, namespace, "marker")
    await_true(lambda: "+marker" in told.history, "the watch got there", pause=0.01)
    assert told.history.count("~a") <= 1  # the watch may have been faster; told once all the same
    cluster.delete(CONFIG_MAPS, namespace, "a")
    await_true(lambda: informer.get(namespace, "a") is None, "deleted", pause=0.01)
    informer.absorb(changed)  # and nothing rises from the dead
    assert informer.get(namespace, "a") is None


def test_references_are_watched_by_name(environment: Environment, cluster: Cluster, namespace: str) -> None:
    told = Told()
    ready: list[str] = []
    references = References(cluster, told, ready.extend)
    other = environment.create_namespace("references-elsewhere")
    for name in ("one", "two", "unwanted"):
        put(cluster, namespace, name)
    put(cluster, other, "three")
    assert references.want("app", []) is True
    references.want("app", [("ConfigMap", namespace, "one")])  # known at once, or a moment later
    await_true(lambda: ready == ["app"], "ready", pause=0.01)
    assert references.want("app", [("ConfigMap", namespace, "one")]) is True
    assert told.history == ["+one"]
    both = [("ConfigMap", namespace, "one"), ("ConfigMap", namespace, "two"), ("Secret", namespace, "missing")]
    references.want("app", both)
    await_true(lambda: references.want("app", both), "two more", pause=0.01)
    assert told.history == ["+one", "+two"]
    assert len(references.informers) == 2
    references.want("web", [("ConfigMap", other, "three"), ("ConfigMap", namespace, "two")])
    await_true(lambda: "three" in told.objects, "elsewhere", pause=0.01)
    # Forgotten by one, still wanted by the other; then by nobody.
    references.want("app", [])
    assert set(told.objects) == {"two", "three"}
    assert len(references.informers) == 2
    references.want("web", [])
    assert told.objects == {}
    assert references.informers == []
    references.want("app", [("ConfigMap", namespace, "one")])
    await_true(lambda: set(told.objects) == {"one"}, "wanted again", pause=0.01)
    cluster.patch(CONFIG_MAPS, namespace, "one", {"data": {"x": "1"}})
    await_true(lambda: told.objects["one"]["data"] == {"x": "1"}, "and followed", pause=0.01)
    references.stop()


def test_a_kind_that_the_role_leaves_out(environment: Environment, namespace: str, tmp_path: Path) -> None:
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "few"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": namespace}],
    }
    metadata = {"metadata": {"name": "few", "namespace": namespace}}
    items = [{**role, **metadata}, {**binding, **metadata}]
    environment.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    few = Cluster(str(environment.make_kubeconfig(namespace, "default", tmp_path)))
    config_maps = Informer(few, CONFIG_MAPS, Told(), namespace=namespace)
    optional = Informer(few, SECRETS, Told(), namespace=namespace, may_be_denied=True)
    needed = Informer(few, SECRETS, Told(), namespace=namespace)
    for informer in (config_maps, optional, needed):
        informer.start()
    await_synced(config_maps, optional)
    assert optional.denied
    await_true(lambda: needed.problem, "the problem is known", pause=0.01)
    assert not needed.synced
    assert "forbidden" in needed.problem
    # The role gets it: no restart is needed.
    rules[0]["resources"] = ["configmaps", "secrets"]
    environment.kubectl("apply", "-f", "-", input=json.dumps({**role, **metadata}))
    await_synced(needed)
    await_true(lambda: not optional.denied, "not denied any more", pause=0.01)
    for informer in (config_maps, optional, needed):
        informer.stop()
