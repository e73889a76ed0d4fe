"""A company's own authority, end to end: a key server that only it vouches for, and sidecars that learn to trust it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eastgate.pods.authorities import read_authorities
from tests.live.client import request_http1
from tests.live.keys import run_key_server
from tests.live.pod_running import Volumes, make_policy, make_service, run_pod
from tests.live.serving import serve
from tests.live.upstream import Upstream, run_upstream
from tests.ports import free_port
from tests.tokens import mint
from tests.unit.sidecar.key_server import KeyServer, make_authority

OURS, OTHER = make_authority("Example Corp Root").pem, make_authority("another CA").pem
AT_ONCE = 5.0
"""Seconds. The bar is one, on a machine that does nothing else; a crowded one may stop any of the processes for longer."""
PRIVATE = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIKfyFHlXnhzZvkCzgbVs3DuIBwqiHHBq4W0dWTPb7nFo\n-----END PRIVATE KEY-----\n"
TOKEN = mint({"iss": "https://dev.example.com", "exp": "+1h"})
POLICY = """\
apiVersion: policy.eastgate.dev/v1alpha1
kind: JWTPolicy
metadata: {name: jwt, namespace: httpbin}
spec:
  applyToRoutes: [{route: {labels: {app: %s}}}]
  config: {providers: {dev: {issuer: https://dev.example.com, remote: {url: https://idp.example/keys}}}}
"""


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    """``https://idp.example/keys``, which only ``OURS`` vouches for."""
    with run_key_server(make_authority("Example Corp Root")) as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with run_upstream() as up:
        yield up


def ask(port: int) -> int:
    return request_http1(port, "GET", "/get", "httpbin", [("authorization", f"Bearer {TOKEN}")]).status


def until(condition: Callable[[], bool], seconds: float = 30.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not happen"
        time.sleep(0.01)
    return time.monotonic() - began


def read_config(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=10) as response:
        found: dict[str, Any] = json.loads(response.read())
    return found


def test_serve_follows_its_file(keys: KeyServer, upstream: Upstream, tmp_path: Path) -> None:
    policy, ca, admin = tmp_path / "policy.yaml", tmp_path / "ca.pem", free_port()
    policy.write_text(POLICY % "httpbin")
    ca.write_text(OTHER)
    flags = ["--pod-labels", "app=httpbin", "--namespace", "httpbin", "--workers", "2"]
    flags += ["--trusted-ca", str(ca), "--resolve", f"idp.example:443:127.0.0.1:{keys.port}"]
    with serve([policy], upstream.port, *flags, "--admin", f"127.0.0.1:{admin}", fresh=True) as served:
        assert ask(served.port) == 503
        assert "certificate refused: unable to get local issuer certificate" in served.log
        assert read_config(admin)["trusted_ca"] == {"count": 1, "subjects": ["CN=another CA"]}
        # A changed file is live as fast as a changed policy.
        ca.write_text(OTHER + OURS)
        assert until(lambda: {ask(served.port) for _ in range(8)} == {200}) < AT_ONCE
        assert read_config(admin)["trusted_ca"]["subjects"] == ["CN=Example Corp Root", "CN=another CA"]
        # A bad one keeps what is in force, and says so once, without a word of what stands in it.
        ca.write_text(OURS + PRIVATE)
        until(lambda: "authorities not reloaded, those in force stay" in served.log)
        assert f"`{ca}` holds a private key" in served.log
        assert PRIVATE.splitlines()[1] not in served.log
        assert {ask(served.port) for _ in range(8)} == {200}
        # Policies follow all the same; and trust follows where policies are no good.
        policy.write_text(POLICY % "other")
        until(lambda: request_http1(served.port, "GET", "/get", "httpbin").status == 200)
        policy.write_text(POLICY % "httpbin")
        until(lambda: request_http1(served.port, "GET", "/get", "httpbin").status == 401)
        policy.write_text("kind: [")
        until(lambda: "policies not reloaded" in served.log)
        ca.write_text(OTHER)
        assert until(lambda: {ask(served.port) for _ in range(8)} == {503}) < AT_ONCE
        assert "keys dropped: who vouched for them is not trusted any more" in served.log


def make_remote_policy(**remote: object) -> dict[str, Any]:
    policy = make_policy()
    provider = policy["spec"]["config"]["providers"]["dev"]
    del provider["local"]
    provider["remote"] = {"url": "https://idp.example/keys", **remote}
    return policy


def test_a_pod_follows_its_bundle(keys: KeyServer, upstream: Upstream, tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    objects = (make_remote_policy(), make_service())
    volumes.write_bundle(*objects)
    with run_pod(volumes, upstream.port, "--resolve", f"idp.example:443:127.0.0.1:{keys.port}") as pod:
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert ask(pod.port) == 503
        assert pod.config["trusted_ca"] == {"count": 0, "subjects": []}
        volumes.write_bundle(*objects, authorities=read_authorities(OURS))
        assert until(lambda: ask(pod.port) == 200) < AT_ONCE
        assert pod.config["trusted_ca"] == {"count": 1, "subjects": ["CN=Example Corp Root"]}
        assert pod.config["bundle"]["current"] is True
        assert "BEGIN" not in pod.log + pod.ask("/config")[1]
        volumes.write_bundle(*objects)
        assert until(lambda: ask(pod.port) == 503) < AT_ONCE


def test_a_policys_own_authority_replaces_them(keys: KeyServer, upstream: Upstream, tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    policy = make_remote_policy(caCertificate={"inline": OTHER})
    volumes.write_bundle(policy, make_service(), authorities=read_authorities(OURS))
    with run_pod(volumes, upstream.port, "--resolve", f"idp.example:443:127.0.0.1:{keys.port}") as pod:
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert ask(pod.port) == 503
        assert "certificate refused" in pod.log


def test_a_pod_may_have_a_file_besides(keys: KeyServer, upstream: Upstream, tmp_path: Path) -> None:
    volumes, ca = Volumes(tmp_path / "volumes"), tmp_path / "ca.pem"
    volumes.write_bundle(make_remote_policy(), make_service(), authorities=read_authorities(OTHER))
    ca.write_text(OTHER)
    flags = ("--trusted-ca", str(ca), "--resolve", f"idp.example:443:127.0.0.1:{keys.port}")
    with run_pod(volumes, upstream.port, *flags) as pod:
        until(lambda: pod.ask("/readyz")[0] == 200)
        assert ask(pod.port) == 503
        ca.write_text(OURS)
        assert until(lambda: ask(pod.port) == 200) < AT_ONCE
        assert pod.config["trusted_ca"]["count"] == 2
        ca.unlink()
        until(lambda: f"`{ca}` cannot be read: no such file or directory" in pod.log)
        assert ask(pod.port) == 200
