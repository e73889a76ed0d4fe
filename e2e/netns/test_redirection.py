"""What reaches a redirected pod, over both families and with every way to write the rules."""

from __future__ import annotations

import json
import time

import pytest

from e2e.netns.app import GREETING
from e2e.netns.client import talk
from e2e.netns.conftest import ECHO, EXCLUDED, HTTP, ProtectedPod
from e2e.netns.conftest import GREETING as GREETING_PORT
from e2e.netns.lab import APP_ID, CLIENT4, CLIENT6, NODE4, POD4, POD6, PYTHON, SERVICE4, SERVICE_PORT

BOTH = pytest.mark.parametrize(("host", "client"), [(POD4, CLIENT4), (POD6, CLIENT6)], ids=["v4", "v6"])


@BOTH
def test_a_request_is_decided(pod: ProtectedPod, host: str, client: str, token: str) -> None:
    since = len(pod.log)
    assert pod.ask(host).status == 401
    reply = pod.ask(host, token=token)
    assert reply.status == 200
    assert reply.seen["request"] == "GET /get HTTP/1.1"

    def list_peers() -> list[str]:
        records = [json.loads(line) for line in pod.log[since:].splitlines() if line]
        return [record["peer"] for record in records if record.get("event") == "decision"]

    pod.await_true(lambda: len(list_peers()) == 2, "the log has both decisions")
    assert list_peers() == [client] * 2, "the log names who really asked"


@BOTH
@pytest.mark.parametrize("port", [19006, 19001])
def test_the_proxys_own_ports_cannot_be_dialled(pod: ProtectedPod, host: str, client: str, port: int) -> None:
    reply = pod.ask(host, port)
    assert reply.status == 0
    assert reply.error in ("ConnectionResetError", "ConnectionRefusedError")


def test_nobody_listens_at_the_proxys_other_port_without_a_policy(pod: ProtectedPod) -> None:
    pod.lab.start("pod", PYTHON, "-m", "e2e.netns.app", "19001", "9102", "9002", user=APP_ID, name="outbound")
    assert pod.ask("127.0.0.1", 19001, where="pod").status == 200
    reply = pod.ask(POD4, 19001)
    assert reply.status == 0
    assert reply.error in ("ConnectionResetError", "ConnectionRefusedError")


@pytest.mark.parametrize("port", [HTTP, ECHO])
def test_the_pod_is_no_relay_for_its_neighbours(pod: ProtectedPod, port: int, token: str) -> None:
    """Who sends to the pod's hardware address what is for somebody else; here, by taking the pod for a router."""
    since = len(pod.log)
    pod.lab.run("client", "ip", "route", "replace", f"{NODE4}/32", "via", POD4)
    try:
        reply = pod.ask(NODE4, port, token=token)
        assert reply.status == 0
        pod.await_true(lambda: "was not made to an address of this pod" in pod.log[since:], "the log says why")
    finally:
        pod.lab.run("client", "ip", "route", "delete", f"{NODE4}/32")
    assert pod.ask(token=token).status == 200


def test_the_pod_itself_cannot_make_a_loop(pod: ProtectedPod) -> None:
    for host in ("127.0.0.1", "::1", POD4):
        reply = pod.ask(host, 19006, where="pod")
        assert reply.status in (0, 400, 403, 421, 503), reply
    assert pod.ask().status == 401


@BOTH
def test_an_excluded_port_is_not_intercepted(pod: ProtectedPod, host: str, client: str) -> None:
    reply = pod.ask(host, EXCLUDED)
    assert reply.status == 200
    assert reply.seen["peer"] == client


@BOTH
def test_an_opaque_port_is_a_tunnel(pod: ProtectedPod, host: str, client: str) -> None:
    said = b"\x00\x01not http"
    assert pod.lab.call("client", lambda: talk(host, ECHO, said, length=len(said))) == said


@BOTH
def test_a_server_that_speaks_first_is_heard(pod: ProtectedPod, host: str, client: str) -> None:
    assert pod.lab.call("client", lambda: talk(host, GREETING_PORT, length=len(GREETING))) == GREETING


def test_what_is_not_http_is_refused_on_other_ports(pod: ProtectedPod) -> None:
    since = len(pod.log)
    assert pod.lab.call("client", lambda: talk(POD4, HTTP, b"\x16\x03\x01\x02\x00")) == b""
    pod.await_true(lambda: "refused TLS" in pod.log[since:], "the log says why")


def test_a_pod_that_calls_itself_through_its_service_is_decided(pod: ProtectedPod, token: str) -> None:
    assert pod.ask(SERVICE4, SERVICE_PORT, where="pod").status == 401
    assert pod.ask(SERVICE4, SERVICE_PORT, where="pod", token=token).status == 200


def test_the_loopback_interface_is_the_pods_own(pod: ProtectedPod) -> None:
    assert pod.ask("127.0.0.1", HTTP, where="pod").status == 200


def test_readiness_proves_redirection(pod: ProtectedPod) -> None:
    pod.await_true(lambda: pod.find_missing("client") == {}, "redirection is proven")
    assert pod.find_missing("node") == {}, "the kubelet's own way"


def test_is_applied_again_without_harm(pod: ProtectedPod, token: str) -> None:
    pod.redirect()
    assert pod.ask().status == 401
    assert pod.ask(token=token).status == 200


@BOTH
def test_a_dead_proxy_refuses(pod: ProtectedPod, host: str, client: str, token: str) -> None:
    pod.kill_sidecar()
    try:
        for _ in range(5):
            reply = pod.ask(host, token=token)
            assert reply.status == 0
            assert reply.error in ("ConnectionRefusedError", "ConnectionResetError")
        assert pod.ask(host, EXCLUDED).status == 200
    finally:
        begun = time.monotonic()
        pod.start_sidecar()
    assert pod.ask(host, token=token).status == 200
    print(f"back after {time.monotonic() - begun:.1f} s")


def test_without_rules_it_is_not_ready(pod: ProtectedPod) -> None:
    pod.remove_rules()
    try:
        # Looked at every 10 s once it was proven.
        pod.await_true(lambda: "redirection" in pod.find_missing("client"), "/readyz says that redirection is missing")
    finally:
        pod.redirect()


def test_says_what_is_missing_without_the_right(pod: ProtectedPod) -> None:
    with pytest.raises(RuntimeError, match="NET_ADMIN"):
        pod.redirect(user=APP_ID)
