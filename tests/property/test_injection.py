"""Injection over pods that nobody thought of: what holds for every one of them."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eastgate.pods import names
from eastgate.pods.probes import HOOK_NAMES, PROBE_NAMES, AppProbe, from_json
from tests.unit.webhook.injections.scenes import apply_independently, container, environment, make_token, status_of
from webhook.injections.patches import apply
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection

MANY = settings(max_examples=40, deadline=None)

words = st.text("abcdefghij", min_size=1, max_size=6)
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
unknown = st.dictionaries(words.map("x-of-tomorrow-{}".format), junk, max_size=2)
contexts = st.builds(
    Context,
    namespace=st.just("shop"),
    enforced=st.booleans(),
    image=st.just("r.example.com/eastgate-sidecar:1"),
    pull_policy=st.sampled_from([None, "Always"]),
    pull_secrets=st.sampled_from([(), ("a",), ("a", "b")]),
    native=st.booleans(),
    version=st.just("1"),
)


@st.composite
def handlers(draw: st.DrawFn, *, hook: bool = False) -> dict[str, Any]:
    port = draw(st.integers(1, 19000) | st.sampled_from(["http", "gone"]))
    kind = draw(st.sampled_from(["httpGet", "tcpSocket", "exec", *([] if hook else ["grpc"])]))
    if kind == "exec":
        return {"exec": {"command": ["x"]}}
    if kind == "grpc":
        return {"grpc": {"port": draw(st.integers(1, 19000)), "service": draw(words)}}
    action: dict[str, Any] = {"port": port}
    if draw(st.booleans()):
        action["host"] = draw(st.sampled_from(["", "example.com"]))
    if kind == "httpGet":
        action["path"] = "/" + draw(st.text(max_size=10))
        action["scheme"] = draw(st.sampled_from(["HTTP", "HTTPS"]))
        headers = draw(st.lists(st.tuples(words, st.text(min_size=1, max_size=5)), max_size=2))
        if headers:
            action["httpHeaders"] = [{"name": name, "value": value} for name, value in headers]
    return {kind: action}


@st.composite
def containers(draw: st.DrawFn, name: str, *, init: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "image": "x", **draw(unknown)}
    if init and draw(st.booleans()):
        found["restartPolicy"] = "Always"
    if draw(st.booleans()):
        found["ports"] = [{"name": "http", "containerPort": draw(st.integers(1, 19000))}]
    for field in PROBE_NAMES:
        if draw(st.booleans()):
            found[field] = {**draw(handlers()), "periodSeconds": draw(st.integers(1, 9)), **draw(unknown)}
    if draw(st.booleans()):
        found["lifecycle"] = {field: draw(handlers(hook=True)) for field in HOOK_NAMES if draw(st.booleans())}
    if draw(st.booleans()):
        found["env"] = [{"name": draw(words), "value": "y"}]
    return found


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    annotations: dict[str, str] = {names.POLICIES: draw(st.sampled_from(["*", "a, b/c"]))}
    for key, values in (
        (names.REWRITE_PROBES, ["true", "false"]),
        (names.NATIVE_SIDECAR, ["true", "false"]),
        (names.EXCLUDE_INBOUND_PORTS, ["8080", "1-9000"]),
        (names.OPAQUE_PORTS, ["10000-10010"]),
        ("kubectl.kubernetes.io/default-container", ["a"]),
        ("example.com/anything", ["x"]),
    ):
        if draw(st.integers(0, 3)) == 0:
            annotations[key] = draw(st.sampled_from(values))
    spec: dict[str, Any] = {
        "containers": [draw(containers(f"app-{n}")) for n in range(draw(st.integers(1, 3)))],
        **draw(unknown),
    }
    if draw(st.booleans()):
        spec["initContainers"] = [draw(containers(f"init-{n}", init=True)) for n in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        spec["volumes"] = [{"name": f"v{n}", "emptyDir": {}} for n in range(draw(st.integers(0, 2)))]
    if draw(st.booleans()):
        spec["imagePullSecrets"] = [{"name": "a"}]
    return {"metadata": {"name": "x", "annotations": annotations, **draw(unknown)}, "spec": spec, **draw(unknown)}


def run(pod: dict[str, Any], context: Context) -> tuple[Injection, dict[str, Any]]:
    before = json.dumps(pod)
    verdict = inject_pod(pod, context, make_token)
    assert isinstance(verdict, Injection), verdict
    assert json.dumps(pod) == before
    injected = apply_independently(pod, verdict.patch)
    assert apply(pod, verdict.patch) == injected
    return verdict, injected


@MANY
@given(pods(), contexts)
def test_the_second_call_has_nothing_to_do(pod: dict[str, Any], context: Context) -> None:
    verdict, injected = run(pod, context)
    assert all(operation["op"] == "add" for operation in verdict.patch)
    again, unchanged = run(injected, context)
    assert again.patch == ()
    assert unchanged == injected
    # Nor has another replica that is set up otherwise.
    other, _ = run(injected, Context("shop", True, "mirror/eastgate-sidecar:2", None, (), not context.native, "2"))
    assert other.patch == ()


@MANY
@given(pods(), contexts)
def test_nothing_of_the_users_is_lost(pod: dict[str, Any], context: Context) -> None:
    """Take away what the status lists, put back the probes that the table lists, and the pod is what it was."""
    _, injected = run(pod, context)
    status, table = status_of(injected), from_json(environment(injected)[names.APP_PROBES_VARIABLE])
    restored = restore(injected, status, table, pod)
    assert strip(restored) == strip(pod)


def restore(
    injected: dict[str, Any], status: dict[str, Any], table: dict[str, AppProbe], original: dict[str, Any]
) -> dict[str, Any]:
    pod = copy.deepcopy(injected)
    for group in ("initContainers", "containers", "volumes", "imagePullSecrets"):
        if group in pod["spec"]:
            pod["spec"][group] = [one for one in pod["spec"][group] if one["name"] not in status[group]]
    for key in (*status["annotations"], names.STATUS):
        del pod["metadata"]["annotations"][key]
    for key, probe in table.items():
        name, kind = key.split("/")
        fields = {known: field for field, known in (*PROBE_NAMES.items(), *HOOK_NAMES.items())}
        holder, source = container(pod, name), container(original, name)
        if fields[kind] in HOOK_NAMES:
            holder, source = holder["lifecycle"], source["lifecycle"]
        rest = {field: value for field, value in holder[fields[kind]].items() if field != "httpGet"}
        holder[fields[kind]] = {**rest, **rebuild(probe, source[fields[kind]])}
    return pod


def rebuild(probe: AppProbe, written: dict[str, Any]) -> dict[str, Any]:
    """The handler that the table means; how its port was written is taken from the original."""
    (action,) = (written[kind] for kind in ("httpGet", "tcpSocket", "grpc") if kind in written)
    port = action["port"]
    assert port == "http" or port == probe.port
    host = {"host": action["host"]} if "host" in action else {}
    if probe.kind == "tcp":
        return {"tcpSocket": {"port": port, **host}}
    if probe.kind == "grpc":
        return {"grpc": {"port": port, "service": probe.service}}
    headers = [{"name": name, "value": value} for name, value in probe.headers]
    request = {"port": port, "path": probe.path, "scheme": probe.scheme, **host}
    return {"httpGet": {**request, **({"httpHeaders": headers} if headers else {})}}


def strip(pod: dict[str, Any]) -> dict[str, Any]:
    """Without lists that are empty: whether one was there or not says the same."""
    lists = ("initContainers", "containers", "volumes", "imagePullSecrets")
    return {**pod, "spec": {key: value for key, value in pod["spec"].items() if value or key not in lists}}


@MANY
@given(pods(), contexts, st.data())
def test_another_webhook_in_between(pod: dict[str, Any], context: Context, data: st.DataObject) -> None:
    """It adds a container or an init container anywhere: the second call touches that one and the sidecar's table."""
    _, injected = run(pod, context)
    group = data.draw(st.sampled_from(["containers", "initContainers"]))
    late = data.draw(containers("late", init=group == "initContainers"))
    place = injected["spec"].setdefault(group, [])
    place.insert(data.draw(st.integers(0, len(place))), late)
    init, sidecar = (container(injected, name) for name in names.CONTAINERS)
    if init in place and sidecar in place:
        assume(place.index(sidecar) > place.index(init))
    verdict, again = run(injected, context)
    for operation in verdict.patch:
        path = str(operation["path"])
        assert (
            path.startswith(f"/spec/{group}/{place.index(late)}/") or path.endswith("/value") or path.endswith("/env/-")
        )
    table = from_json(environment(again)[names.APP_PROBES_VARIABLE])
    before = from_json(environment(injected)[names.APP_PROBES_VARIABLE])
    assert {key: table[key] for key in before} == before
    assert all(key.startswith("late/") for key in table.keys() - before.keys())
    assert run(again, context)[0].patch == ()


@MANY
@given(junk, contexts)
def test_anything_at_all_is_judged(pod: Any, context: Context) -> None:
    for one in (pod, {"metadata": pod, "spec": pod}, {"spec": {"containers": [pod]}}):
        if isinstance(one, dict):
            inject_pod(one, context, make_token)


@MANY
@given(st.dictionaries(st.sampled_from(["name", "ports", "env", "lifecycle", "readinessProbe", "securityContext", "volumeMounts", "resources", "image", "args", "restartPolicy"]), junk | st.just(names.SIDECAR_CONTAINER) | st.just(names.INIT_CONTAINER)), pods(), contexts)  # fmt: skip
def test_a_container_of_any_shape_is_judged(shape: dict[str, Any], pod: dict[str, Any], context: Context) -> None:
    pod["spec"]["containers"].append(shape)
    inject_pod(pod, context, make_token)
    _, injected = run({**pod, "spec": {**pod["spec"], "containers": pod["spec"]["containers"][:-1]}}, context)
    container(injected, names.SIDECAR_CONTAINER).update(shape)
    inject_pod(injected, context, make_token)
