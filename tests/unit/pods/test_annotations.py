"""Annotations: what is accepted, and how what is not is said."""

from __future__ import annotations

import time

import pytest

from eastgate.model.workloads import Mode, Unmatched
from eastgate.pods import names
from eastgate.pods.annotations import MAX_UNKNOWN, SETTINGS_KEYS, Fault, Settings, quote, read_settings
from eastgate.pods.ports import read_ports


def fault_of(annotations: dict[str, object]) -> Fault:
    _, faults = read_settings(annotations)
    assert len(faults) == 1, [str(fault) for fault in faults]
    return faults[0]


def test_nothing_written() -> None:
    settings, faults = read_settings({"app.kubernetes.io/name": "x", "other.dev/mode": "?"})
    assert settings == Settings()
    assert faults == ()
    assert settings.policies is None
    assert settings.rewrite_probes
    assert settings.native is None


def test_everything_written() -> None:
    settings, faults = read_settings(
        {
            names.POLICIES: "jwt-policy , other/x.y,\n*, *,other/*",
            names.MODE: "audit",
            names.UNMATCHED: "allow",
            names.INCLUDE_INBOUND_PORTS: "8080,9000-9010",
            names.EXCLUDE_INBOUND_PORTS: "9999,19006",
            names.OPAQUE_PORTS: "9001",
            names.REWRITE_PROBES: "false",
            names.NATIVE_SIDECAR: "true",
            names.CPU_REQUEST: "0.5",
            names.CPU_LIMIT: "1e0",
            names.MEMORY_REQUEST: "64Mi",
            names.MEMORY_LIMIT: "1Gi",
            names.PROXY_IMAGE: "registry.example.com:5000/team/eastgate-sidecar:1.0@sha256:" + "a" * 64,
            names.LOG_LEVEL: "debug",
            names.STATUS: "anything",
            names.BUNDLE: "sha256:x",
        }
    )
    assert faults == ()
    assert settings == Settings(
        policies=("jwt-policy", "other/x.y", "*", "other/*"),
        mode=Mode.AUDIT,
        unmatched=Unmatched.ALLOW,
        include_ports=read_ports("8080,9000-9010"),
        exclude_ports=read_ports("9999,19006"),
        opaque_ports=read_ports("9001"),
        rewrite_probes=False,
        native=True,
        cpu_request="0.5",
        cpu_limit="1e0",
        memory_request="64Mi",
        memory_limit="1Gi",
        image="registry.example.com:5000/team/eastgate-sidecar:1.0@sha256:" + "a" * 64,
        log_level="debug",
    )
    assert settings.intercepts(8080)
    assert not settings.intercepts(8081)
    assert not settings.intercepts(9999)
    assert not Settings().intercepts(19020)
    assert settings.resources()["limits"] == {"cpu": "1e0", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        (names.POLICIES, "", ["empty list", "NAME or NAMESPACE/NAME"]),
        (names.POLICIES, "a,,b", ["empty entry"]),
        (names.POLICIES, "a b", ["`a b`"]),
        (names.POLICIES, "A", ["`A`"]),
        (names.POLICIES, "a/b/c", ["`a/b/c`"]),
        (names.POLICIES, "a/", ["`a/`"]),
        (names.POLICIES, "ns.x/b", ["`ns.x/b`"]),
        (names.POLICIES, "a." + "b" * 253, ["which is no name"]),
        (names.POLICIES, "-a", ["`-a`"]),
        (names.POLICIES, "a_b", ["`a_b`"]),
        (names.POLICIES, "jwt*", ["`jwt*`"]),
        (names.POLICIES, "*/x", ["`*/x`"]),
        (names.POLICIES, ",".join(f"p{n}" for n in range(65)), ["more than 64"]),
        (names.MODE, "enfroce", ["`enfroce`", "did you mean `enforce`", "accepted: enforce, audit"]),
        (names.MODE, "Audit", ["did you mean `audit`"]),
        (names.MODE, "", ["accepted: enforce, audit"]),
        (names.UNMATCHED, "404", ["`404`", "accepted: deny, allow"]),
        (names.INCLUDE_INBOUND_PORTS, "http", ["`http` is no port", "1 to 65535"]),
        (names.INCLUDE_INBOUND_PORTS, "", ["the list is empty"]),
        (names.INCLUDE_INBOUND_PORTS, "*", ["`*` is no port"]),
        (names.INCLUDE_INBOUND_PORTS, "19006", ["19006", "sidecar itself"]),
        (names.INCLUDE_INBOUND_PORTS, "19000-19010", ["(19001,19006)"]),
        (names.EXCLUDE_INBOUND_PORTS, "0", ["`0` is not within"]),
        (names.OPAQUE_PORTS, "19020", ["19020", "sidecar itself"]),
        (names.OPAQUE_PORTS, "70000", ["`70000`"]),
        (names.REWRITE_PROBES, "yes", ["`yes`", "accepted: true, false"]),
        (names.REWRITE_PROBES, "True", ["did you mean `true`"]),
        (names.NATIVE_SIDECAR, "auto", ["accepted: true, false"]),
        (names.NATIVE_SIDECAR, False, ["`false` is not a string", "a string (quote it): true, false"]),
        (names.POLICIES, None, ["`null` is not a string", "a string (quote it): NAME or NAMESPACE/NAME"]),
        (names.POLICIES, ["a"], ['`["a"]` is not a string']),
        (names.OPAQUE_PORTS, 80, ["`80` is not a string", "quote it", "1 to 65535"]),
        (names.CPU_REQUEST, "100mm", ["`100mm` is not a quantity", "100m"]),
        (names.CPU_REQUEST, "0", ["`0` is not above 0"]),
        (names.CPU_REQUEST, "3", ["more than the default limit `2`", names.CPU_LIMIT]),
        (names.CPU_LIMIT, "50m", ["less than the default request `100m`", names.CPU_REQUEST]),
        (names.CPU_LIMIT, "-1", ["not a quantity"]),
        (names.MEMORY_REQUEST, "400m", ["`400m` is in thousandths of a byte", "did you mean `400Mi`"]),
        (names.MEMORY_REQUEST, "0.3", ["`0.3` is not whole bytes"]),
        (names.MEMORY_REQUEST, "2Gi", ["more than the default limit `1Gi`"]),
        (names.MEMORY_LIMIT, "64Mi", ["less than the default request `128Mi`"]),
        (names.MEMORY_LIMIT, "128MB", ["`128MB`"]),
        (names.PROXY_IMAGE, "Bad Image", ["`Bad Image`", "no image reference"]),
        (names.PROXY_IMAGE, "", ["no image reference"]),
        (names.PROXY_IMAGE, "x:", ["no image reference"]),
        (names.PROXY_IMAGE, "https://registry/x", ["no image reference"]),
        (names.LOG_LEVEL, "verbose", ["`verbose`", "debug, info, warning, error"]),
        (names.LOG_LEVEL, "warn", ["did you mean `warning`"]),
        ("eastgate.dev/policy", "x", ["unknown key", "did you mean `eastgate.dev/policies`", "`x`"]),
        ("eastgate.dev/", "x", ["unknown key"]),
        ("eastgate.dev/inject", "true", ["a label `eastgate.dev/inject` of the pod"]),
        ("eastgate.dev/injection", "enabled", ["label `eastgate.dev/injection` of the namespace"]),
    ],
)
def test_faults(key: str, value: object, parts: list[str]) -> None:
    fault = fault_of({key: value})
    message = str(fault)
    assert message.startswith(f"{key}: ")
    assert quote(value) in message
    assert "; accepted: " in message
    for part in parts:
        assert part in message, message


def test_contradictions() -> None:
    fault = fault_of({names.INCLUDE_INBOUND_PORTS: "8000-9000", names.EXCLUDE_INBOUND_PORTS: "8080,9000-9001"})
    assert fault.key == names.INCLUDE_INBOUND_PORTS
    assert "which has 8080,9000, too" in str(fault)
    fault = fault_of({names.OPAQUE_PORTS: "3306", names.EXCLUDE_INBOUND_PORTS: "3306"})
    assert fault.key == names.OPAQUE_PORTS
    fault = fault_of({names.CPU_REQUEST: "2", names.CPU_LIMIT: "1500m"})
    assert fault.key == names.CPU_REQUEST
    assert f"more than `1500m` of {names.CPU_LIMIT}" in str(fault)
    assert read_settings({names.CPU_REQUEST: "3", names.CPU_LIMIT: "3000m"})[1] == ()


def test_all_faults_at_once() -> None:
    written = dict.fromkeys(SETTINGS_KEYS, "?!")
    settings, faults = read_settings(written)
    assert [fault.key for fault in faults] == list(SETTINGS_KEYS)
    assert settings == Settings()


def test_thousands_of_unknown_keys_are_refused_at_once() -> None:
    """Looking for what each of them was meant to be took four seconds, in which nobody else was answered."""
    began = time.perf_counter()
    _, faults = read_settings({f"eastgate.dev/x{n}": "y" for n in range(20_000)})
    assert time.perf_counter() - began < 5
    assert len(faults) == MAX_UNKNOWN + 1
    assert str(faults[-1]).startswith("eastgate.dev/x16: `y` stands under an unknown key, as 19983 more do; accepted: ")


def test_a_message_is_one_printable_line() -> None:
    fault = fault_of({names.MODE: "a\x1b[31m\n" + "x" * 1000})
    assert str(fault).isprintable()
    assert len(str(fault)) < 200


@pytest.mark.parametrize(
    "image",
    [
        "eastgate-sidecar",
        "a/b_c/d-e:1",
        "localhost:5000/x",
        "[::1]:5000/x:y",
        "r.io/x@sha256:" + "0" * 64,
        "a.b/c__d:V1.0-x",
    ],
)
def test_images(image: str) -> None:
    assert read_settings({names.PROXY_IMAGE: image})[1] == ()
