"""Flags' values: what is accepted, and that what is refused names the value and what would be accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import typer

from eastgate.cli import values
from eastgate.model.workloads import KeysUnavailable, Mode, Unmatched, Workload


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
    ],
)
def test_address(text: str, address: tuple[str, int]) -> None:
    assert values.parse_address(text, "--listen") == address


@pytest.mark.parametrize(
    "text", ["foo", ":80", "::1:80", "host:", "host:http", "host:70000", "host:-1", "a b:1", "http://host:80", "host:²"]
)
def test_address_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: HOST:PORT") as caught:
        values.parse_address(text, "--listen")
    assert f"`{text}`" in str(caught.value)


@pytest.mark.parametrize("text", ["http://127.0.0.1:8000", "HTTP://127.0.0.1:8000/"])
def test_upstream(text: str) -> None:
    assert values.parse_upstream(text, "--upstream") == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    "text",
    [
        "https://a:1",
        "127.0.0.1:80",
        "http://a",
        "http://a:0",
        "http://a:80/path",
        "http://user@a:80",
        "http://a:80?x",
        "unix:///run/app.sock",
        "",
    ],
)
def test_upstream_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: http://HOST:PORT"):
        values.parse_upstream(text, "--upstream")


def test_labels() -> None:
    assert values.parse_labels("b=2, app.kubernetes.io/name=x,empty=", "--pod-labels") == (
        ("app.kubernetes.io/name", "x"),
        ("b", "2"),
        ("empty", ""),
    )
    assert values.parse_labels(None, "--pod-labels") == ()


@pytest.mark.parametrize("text", ["x", "=v", "a=b,", "a=b c", "-a=b", "a=b/c"])
def test_labels_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: KEY=VALUE"):
        values.parse_labels(text, "--pod-labels")


def test_label_given_twice() -> None:
    with pytest.raises(typer.BadParameter, match="label `a` is given twice"):
        values.parse_labels("a=1,a=2", "--pod-labels")


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("httpbin/httpbin", ("httpbin", "httpbin", None)),
        ("httpbin/httpbin:8000", ("httpbin", "httpbin", 8000)),
        ("default/yages:grpc-web", ("default", "yages", "grpc-web")),
    ],
)
def test_service(text: str, service: tuple[str, str, int | str | None]) -> None:
    assert values.parse_service(text, "--service") == service


@pytest.mark.parametrize("text", ["httpbin", "a/b/c", "a/b:0", "a/b:99999", "a/", "/b", "A/b", "a/b:UPPER", "a/b:"])
def test_service_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: NAMESPACE/NAME"):
        values.parse_service(text, "--service")


def test_policies() -> None:
    assert values.parse_policies(None, "--policies") is None
    assert values.parse_policies("jwt-policy, other/one", "--policies") == ("jwt-policy", "other/one")
    assert values.parse_policies("*", "--policies") == ("*",)


@pytest.mark.parametrize("text", ["", ",", "a/b/c", "a b", "Upper", "a/*"])
def test_policies_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="comma-separated"):
        values.parse_policies(text, "--policies")


def test_ports() -> None:
    assert values.parse_ports("8080,9000-9002", "--opaque-ports") == {8080, 9000, 9001, 9002}
    assert values.parse_ports(None, "--opaque-ports") == frozenset()


@pytest.mark.parametrize("text", ["x", "9-8", "1-", "0", "70000", "1,,2", "-5"])
def test_ports_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: ports and ranges"):
        values.parse_ports(text, "--opaque-ports")


def test_resolve() -> None:
    assert values.parse_resolve(["Keys.example.com:443:127.0.0.1:8443", "a:1:[::1]:2"], "--resolve") == (
        ("keys.example.com", 443, "127.0.0.1", 8443),
        ("a", 1, "::1", 2),
    )


@pytest.mark.parametrize("text", ["a:1:b", "a:0:b:1", "a:1:b:99999", "a:1::1:2", "https://a:1:b:2"])
def test_resolve_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: HOST:PORT:ADDRESS:PORT"):
        values.parse_resolve([text], "--resolve")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5", 1.5), ("1h30m", 5400.0), ("250ms", 0.25), ("7d", 604800.0), ("0", 0.0)]
)
def test_seconds(text: str, seconds: float) -> None:
    assert values.parse_seconds(text, "--drain-seconds") == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1h x", "1y", "1 h", "nan", "inf"])
def test_seconds_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: seconds or a duration"):
        values.parse_seconds(text, "--drain-seconds")


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "", "all", "1e-3"])
def test_share_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: a share from 0"):
        values.parse_share(text, "--log-allows")


def test_share() -> None:
    assert [values.parse_share(text, "--log-allows") for text in ("0", "1", "0.25", ".5", "1.0")] == [
        0,
        1,
        0.25,
        0.5,
        1,
    ]


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "257", "99999999999999999999"])
def test_number_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="accepted: a whole number from 1 to 256"):
        values.parse_number(text, "--workers", least=1, most=256)


def test_assignment_splits_at_the_last_sign() -> None:
    assert values.parse_assignment("https://a/k?x=y=jwks.json", "--jwks", "") == ("https://a/k?x=y", "jwks.json")
    with pytest.raises(typer.BadParameter):
        values.parse_assignment("https://a/k", "--jwks", "URL=FILE")


def make(**changes: Any) -> Workload:
    options: dict[str, Any] = {
        "services": (),
        "namespace": None,
        "policies": None,
        "pod_labels": None,
        "mode": Mode.ENFORCE,
        "unmatched": Unmatched.DENY,
        "keys_unavailable": KeysUnavailable.UNAVAILABLE,
    }
    return values.make_workload(**{**options, **changes})


def test_workload_without_flags_is_served_by_every_route() -> None:
    assert make() == Workload(one_port=True)


def test_workload_takes_its_namespace_from_the_service() -> None:
    workload = make(services=["httpbin/httpbin:8000", "httpbin/other"], pod_labels="app=x", policies="*")
    assert workload.namespace == "httpbin"
    assert workload.services == (("httpbin", "httpbin", 8000), ("httpbin", "other", None))
    assert workload.labels == (("app", "x"),)
    assert workload.policies == ("*",)


@pytest.mark.parametrize(
    "how",
    [
        lambda: make(services=["a/x", "b/x"]),
        lambda: make(services=["a/x"], namespace="b"),
        lambda: make(namespace="Not A Name"),
    ],
)
def test_workload_refused(how: Callable[[], Workload]) -> None:
    with pytest.raises(typer.BadParameter):
        how()
