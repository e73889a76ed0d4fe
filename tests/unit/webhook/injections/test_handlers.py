"""Probes and hooks of every kind, and which are left alone."""

from __future__ import annotations

from typing import Any

import pytest

from eastgate.pods import names
from eastgate.pods.probes import AppProbe, from_json, is_token
from tests.unit.webhook.injections.scenes import (
    CLASSIC,
    CONTEXT,
    container,
    environment,
    inject,
    make_pod,
    patch_of,
    probes_of,
    refuse,
)
from webhook.injections.pod import inject_pod
from webhook.injections.verdicts import Context, Injection

PROBES = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
HOOKS = {"postStart": "poststart", "preStop": "prestop"}

KINDS: list[tuple[dict[str, Any], AppProbe]] = [
    ({"httpGet": {"port": 8080}}, AppProbe("http", 8080)),
    ({"httpGet": {"port": "http", "path": "/a?b=c&d=$(E)"}}, AppProbe("http", 8080, "/a?b=c&d=$(E)")),
    ({"httpGet": {"port": "8081", "path": "", "host": ""}}, AppProbe("http", 8081)),
    (
        {"httpGet": {"port": 8443, "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "x"}, {"name": "A", "value": "1"}]}},
        AppProbe("http", 8443, "/", "HTTPS", (("Host", "x"), ("A", "1"))),
    ),
    ({"tcpSocket": {"port": "http"}}, AppProbe("tcp", 8080)),
    ({"grpc": {"port": 9090}}, AppProbe("grpc", 9090)),
    ({"grpc": {"port": 9090, "service": "a.B"}}, AppProbe("grpc", 9090, service="a.B")),
]  # fmt: skip


def pod_with(**fields: Any) -> dict[str, Any]:
    pod = make_pod()
    pod["spec"]["containers"][0] |= fields
    return pod


@pytest.mark.parametrize("field", PROBES)
@pytest.mark.parametrize(("handler", "expected"), KINDS)
def test_probes(field: str, handler: dict[str, Any], expected: AppProbe) -> None:
    rest = {
        "periodSeconds": 7,
        "failureThreshold": 2,
        "terminationGracePeriodSeconds": 9,
        "ofTomorrow": {"x": 1},
        "timeoutSeconds": 4,
    }
    pod = inject(pod_with(**{field: {**handler, **rest}}))
    path = f"/app-probe/app/{PROBES[field]}"
    assert container(pod, "app")[field] == {"httpGet": {"path": path, "port": 19020, "scheme": "HTTP"}, **rest}
    table = from_json(environment(pod)[names.APP_PROBES_VARIABLE])
    assert list(table) == [f"app/{PROBES[field]}"]
    (entry,) = table.values()
    assert entry.timeout_seconds == 4
    assert AppProbe(entry.kind, entry.port, entry.path, entry.scheme, entry.headers, entry.service) == expected


@pytest.mark.parametrize("field", HOOKS)
@pytest.mark.parametrize(("handler", "expected"), [one for one in KINDS if "grpc" not in one[0]])
def test_hooks(field: str, handler: dict[str, Any], expected: AppProbe) -> None:
    other = {"preStop" if field == "postStart" else "postStart": {"exec": {"command": ["x"]}}}
    pod = inject(pod_with(lifecycle={field: handler, **other, "stopSignal": "SIGUSR1"}))
    path = f"/app-hook/app/{HOOKS[field]}"
    entry = from_json(environment(pod)[names.APP_PROBES_VARIABLE])[f"app/{HOOKS[field]}"]
    headers = [{"name": "Eastgate-Hook-Token", "value": entry.token}]
    request = {"httpGet": {"path": path, "port": 19020, "scheme": "HTTP", "httpHeaders": headers}}
    assert container(pod, "app")["lifecycle"] == {field: request, **other, "stopSignal": "SIGUSR1"}
    assert is_token(entry.token)
    assert (entry.kind, entry.port, entry.path, entry.headers) == (
        expected.kind,
        expected.port,
        expected.path,
        expected.headers,
    )


BYE = {"httpGet": {"path": "/bye", "port": 8080}}


def tokens_of(pod: dict[str, Any]) -> list[str]:
    """Of every hook that leads to the sidecar, as the kubelet will send them; then those in the sidecar's table."""
    apps = [one for one in pod["spec"]["containers"] if one["name"] not in names.CONTAINERS]
    hooks = [hook for one in apps for hook in one.get("lifecycle", {}).values()]
    headers = [one["httpGet"]["httpHeaders"] for one in hooks]
    assert all(one["name"] == names.HOOK_TOKEN_HEADER and len(pair) == 1 for pair in headers for one in pair)
    table = probes_of(pod)
    assert not any("token" in one for key, one in table.items() if not key.endswith(("poststart", "prestop")))
    return [*(pair[0]["value"] for pair in headers), *(one["token"] for one in table.values() if "token" in one)]


@pytest.mark.parametrize("context", [CONTEXT, CLASSIC])
def test_a_pod_has_one_token_and_keeps_it(context: Context) -> None:
    pod = pod_with(lifecycle={"preStop": BYE, "postStart": {"tcpSocket": {"port": 8080}}}, readinessProbe=BYE)
    pod["spec"]["containers"].append({"name": "other", "lifecycle": {"preStop": BYE}})
    injected = inject(pod, context)
    tokens = tokens_of(injected)
    assert len(tokens) == 6
    (token,) = set(tokens)
    assert patch_of(injected, context).patch == ()
    assert token not in str(injected["metadata"])
    assert token not in tokens_of(inject(pod_with(lifecycle={"preStop": BYE})))
    # Another webhook's container joins in.
    injected["spec"]["containers"].append({"name": "late", "lifecycle": {"preStop": BYE}})
    again = inject(injected, context)
    assert container(again, "late")["lifecycle"]["preStop"]["httpGet"]["httpHeaders"][0]["value"] == token
    assert probes_of(again)["late/prestop"]["token"] == token


def test_no_token_where_there_is_no_hook() -> None:
    def refuse_to_make() -> str:
        raise AssertionError

    pod = pod_with(readinessProbe=BYE, lifecycle={"preStop": {"exec": {"command": ["x"]}}})
    assert isinstance(inject_pod(pod, CONTEXT, refuse_to_make), Injection)


@pytest.mark.parametrize(
    "headers", [None, [], [{"name": names.HOOK_TOKEN_HEADER, "value": "x"}], [{"name": "A", "value": "b"}]]
)
@pytest.mark.parametrize("known", [True, False])
def test_a_hook_without_its_token_is_given_it(headers: Any, known: bool) -> None:
    """As of pods that an earlier version has injected, where neither the hook nor the table had one."""
    injected = inject(pod_with(lifecycle={"preStop": BYE}))
    token, _ = tokens_of(injected)
    hook = container(injected, "app")["lifecycle"]["preStop"]["httpGet"]
    del hook["httpHeaders"]
    if headers is not None:
        hook["httpHeaders"] = headers
    if not known:
        variable = next(one for one in container(injected, names.SIDECAR_CONTAINER)["env"] if "PROBES" in one["name"])
        variable["value"] = variable["value"].replace(f',"token":"{token}"', "")
    again = inject(injected)
    first, second = tokens_of(again)
    assert first == second
    assert (first == token) is known
    assert patch_of(again).patch == ()


def test_the_headers_of_the_author_are_the_apps() -> None:
    headers = [{"name": "Eastgate-Hook-Token", "value": "mine"}, {"name": "B", "value": "c"}]
    pod = inject(pod_with(lifecycle={"preStop": {"httpGet": {"port": 8080, "httpHeaders": headers}}}))
    assert probes_of(pod)["app/prestop"]["headers"] == [["Eastgate-Hook-Token", "mine"], ["B", "c"]]
    assert "mine" not in tokens_of(pod)


def test_timeouts() -> None:
    get = {"httpGet": {"port": 8080}}
    pod = inject({**pod_with(readinessProbe=get, lifecycle={"preStop": get, "postStart": get})})
    table = from_json(environment(pod)[names.APP_PROBES_VARIABLE])
    assert {key: one.timeout_seconds for key, one in table.items()} == {
        "app/readyz": 1,
        "app/prestop": 30,
        "app/poststart": 3600,
    }
    pod = pod_with(lifecycle={"preStop": get})
    pod["spec"]["terminationGracePeriodSeconds"] = 90
    assert probes_of(inject(pod))["app/prestop"]["timeoutSeconds"] == 90


@pytest.mark.parametrize(
    "fields",
    [
        {"readinessProbe": {"exec": {"command": ["true"]}}},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
        {"lifecycle": {"preStop": {"exec": {"command": ["x"]}}, "stopSignal": "SIGTERM"}},
        {"readinessProbe": {}},
        {"readinessProbe": None, "lifecycle": None},
        {"readinessProbe": {"ofTomorrow": {"port": 8080}}},
        {"readinessProbe": {"httpGet": {"port": 19020, "path": "/readyz"}}},
    ],
)
def test_left_alone(fields: dict[str, Any]) -> None:
    injection = patch_of(pod_with(**fields))
    assert injection.warnings == ()
    assert not any("/containers/0" in str(operation["path"]) for operation in injection.patch)


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        ({"httpGet": {"port": "admin"}}, "no port named `admin`"),
        ({"tcpSocket": {"port": "admin"}}, "no port named `admin`"),
        ({"httpGet": {"port": 8080, "host": "example.com"}}, "host `example.com`"),
        ({"httpGet": {"port": 8080, "host": "127.0.0.1"}}, "host `127.0.0.1`"),
        ({"tcpSocket": {"port": 8080, "host": "10.0.0.1"}}, "host `10.0.0.1`"),
        ({"httpGet": {"port": 0}}, "`0` is no port"),
        ({"httpGet": {}}, "`null` is no port"),
        ({"httpGet": {"port": True}}, "`true` is no port"),
        ({"httpGet": {"port": 1, "scheme": "FTP"}}, "scheme"),
        ({"httpGet": []}, "not one handler"),
        ({"httpGet": {"port": 1}, "tcpSocket": {"port": 1}}, "not one handler"),
    ],
)
def test_left_alone_with_a_warning(probe: dict[str, Any], why: str) -> None:
    injection = patch_of(pod_with(livenessProbe=probe))
    assert len(injection.warnings) == 1
    assert injection.warnings[0].startswith("spec.containers[0].livenessProbe is left as it is: ")
    assert why in injection.warnings[0]
    assert not any("/containers/0" in str(operation["path"]) for operation in injection.patch)


def test_named_ports_are_those_of_the_container() -> None:
    pod = make_pod(
        containers=[
            {
                "name": "a",
                "ports": [{"name": "web", "containerPort": 1111}],
                "readinessProbe": {"httpGet": {"port": "web"}},
            },
            {
                "name": "b",
                "ports": [{"name": "web", "containerPort": 2222}],
                "readinessProbe": {"httpGet": {"port": "web"}},
            },
        ]
    )
    assert {key: one["port"] for key, one in probes_of(inject(pod)).items()} == {"a/readyz": 1111, "b/readyz": 2222}


def test_ports_that_are_not_intercepted() -> None:
    pod = pod_with(readinessProbe={"httpGet": {"port": 8080}}, livenessProbe={"httpGet": {"port": 8081}})
    pod["metadata"]["annotations"][names.EXCLUDE_INBOUND_PORTS] = "8080"
    assert list(probes_of(inject(pod))) == ["app/livez"]


def test_rewriting_switched_off() -> None:
    pod = pod_with(readinessProbe={"httpGet": {"port": 8080}}, livenessProbe={"exec": {"command": ["x"]}})
    pod["metadata"]["annotations"][names.REWRITE_PROBES] = "false"
    injection = patch_of(pod)
    assert "spec.containers[0].readinessProbe will be held to the policies" in injection.warnings[0]
    assert container(inject(pod), "app")["readinessProbe"] == {"httpGet": {"port": 8080}}
    pod["metadata"]["annotations"][names.INCLUDE_INBOUND_PORTS] = "9090"
    assert patch_of(pod).warnings == ()


@pytest.mark.parametrize(
    "containers",
    [
        [{"name": f"c{n}", "livenessProbe": {"tcpSocket": {"port": 80}}} for n in range(4097)],
        [{"name": "c", "livenessProbe": {"httpGet": {"port": 80, "path": "/" + "x" * 131_000}}}],
    ],
)
def test_more_than_a_variable_can_hold(containers: list[dict[str, Any]]) -> None:
    """The sidecar of such a pod would never start, and nobody would be told why."""
    (message,) = refuse(make_pod(containers=containers)).messages
    assert "probes and hooks" in message
    assert "130048 bytes" in message
    pod = make_pod({names.REWRITE_PROBES: "false"}, containers=containers)
    assert probes_of(inject(pod)) == {}


def test_init_containers() -> None:
    get = {"httpGet": {"port": 24}}
    inits = [
        {
            "name": "log",
            "restartPolicy": "Always",
            "startupProbe": get,
            "readinessProbe": get,
            "lifecycle": {"postStart": get},
        },
        {"name": "once", "readinessProbe": get},
    ]
    pod = inject(make_pod(initContainers=inits))
    assert set(probes_of(pod)) == {"log/readyz", "log/startupz", "log/poststart"}
    assert container(pod, "once")["readinessProbe"] == get
    # In classic mode they start before the sidecar does: what must succeed first cannot wait for it.
    injection = patch_of(make_pod(initContainers=inits), CLASSIC)
    assert [warning.split(" ")[0] for warning in injection.warnings] == [
        "spec.initContainers[0].startupProbe",
        "spec.initContainers[0].lifecycle.postStart",
    ]
    assert set(probes_of(inject(make_pod(initContainers=inits), CLASSIC))) == {"log/readyz"}


@pytest.mark.parametrize("path", ["/app-probe/app/readyz", "/app-probe/app/livez", "/app-hook/app/prestop"])
def test_a_rewritten_probe_whose_origin_is_lost(path: str) -> None:
    refusal = refuse(pod_with(readinessProbe={"httpGet": {"port": 19020, "path": path}}), CONTEXT)
    assert refusal.reason == "name-clash"
    assert "spec.containers[0].readinessProbe" in refusal.messages[0]
    assert path in refusal.messages[0]
