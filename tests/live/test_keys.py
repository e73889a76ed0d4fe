"""Keys over the network, end to end: ``serve``, a JWKS server over TLS with its own CA, and real requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.live.client import Response, request_http1, request_http2
from tests.live.keys import run_key_server
from tests.live.serving import Served, serve
from tests.live.upstream import Upstream, run_upstream
from tests.tokens import key_set, mint
from tests.unit.sidecar.key_server import KeyServer, make_authority, reply

ISSUER = "https://dev.example.com"
POLICY = """\
apiVersion: security.policy.gloo.solo.io/v2
kind: JWTPolicy
metadata: {name: jwt, namespace: httpbin}
spec:
  applyToRoutes:
  - route: {labels: {app: httpbin}}
  config:
    providers:
      dev:
        issuer: https://dev.example.com
        remote:
          url: https://idp.example/keys
          timeout: 20s
          cacheDuration: %s
"""
type Start = Callable[..., AbstractContextManager[Served]]
DOWN = reply("HTTP/1.1 500 Oh\ncontent-length: 0")


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with run_key_server(make_authority()) as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with run_upstream() as up:
        yield up


@pytest.fixture
def start(tmp_path: Path, keys: KeyServer, upstream: Upstream) -> Start:
    """Starts ``serve`` with the policy and the key server behind ``idp.example``."""
    policy, ca = tmp_path / "policy.yaml", tmp_path / "ca.pem"
    ca.write_text(make_authority().pem)

    def run(*flags: str, cache: str = "300s") -> AbstractContextManager[Served]:
        policy.write_text(POLICY % cache)
        resolve = f"idp.example:443:127.0.0.1:{keys.port}"
        common = (
            "--pod-labels",
            "app=httpbin",
            "--namespace",
            "httpbin",
            "--trusted-ca",
            str(ca),
            "--resolve",
            resolve,
        )
        return serve([policy], upstream.port, *common, *flags)

    return run


def ask(served: Served, key: str = "main", kid: str = "same") -> Response:
    token = mint({"iss": ISSUER, "exp": "+1h"}, key=key, kid=kid)
    return request_http1(served.port, "GET", "/get", "httpbin", [("authorization", f"Bearer {token}")])


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not happen"
        time.sleep(0.05)


def test_a_token_is_verified_with_keys_fetched_over_tls(start: Start, keys: KeyServer) -> None:
    with start() as served:
        assert ask(served).status == 200
        assert keys.count == 1
        assert b"\r\nhost: idp.example\r\n" in keys.requests[0].lower()
        assert ask(served, "p256", "main").body == b"Jwt verification fails"
        assert mint({"iss": ISSUER}) not in served.log


def test_fifty_concurrent_cold_requests_cause_one_fetch(start: Start, keys: KeyServer) -> None:
    keys.delay = 3.0  # longer than start-up waits
    with start() as served, ThreadPoolExecutor(50) as pool:
        answers = [future.result().status for future in [pool.submit(ask, served) for _ in range(50)]]
        assert answers == [200] * 50
        assert keys.count == 1


def test_rotation_is_picked_up_at_the_first_token(start: Start, keys: KeyServer) -> None:
    with start() as served, ThreadPoolExecutor(20) as pool:
        assert ask(served).status == 200
        keys.document = key_set("p256")
        answers = [future.result().status for future in [pool.submit(ask, served, "p256") for _ in range(20)]]
        assert answers == [200] * 20
        assert keys.count == 2
        # The key that was taken away does not verify any more, cached token or not; and made-up kids cause no fetches.
        assert ask(served).status == 401
        for number in range(10):
            assert ask(served, "p384", f"made-up-{number}").status == 401
        assert keys.count == 2


def test_an_outage_within_the_stale_limit_causes_no_false_401(start: Start, keys: KeyServer) -> None:
    with start(cache="1s") as served:
        assert ask(served).status == 200
        keys.behaviour = DOWN
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            assert ask(served).status == 200
        until(lambda: "keys not fetched" in served.log)


def test_the_stale_limit(start: Start, keys: KeyServer) -> None:
    with start("--stale-seconds", "1s", cache="1s") as served:
        assert ask(served).status == 200
        keys.behaviour = DOWN
        until(lambda: ask(served).status == 503)
        keys.behaviour = None
        until(lambda: ask(served).status == 200)


def test_without_keys_503_and_recovery_by_itself(start: Start, keys: KeyServer, upstream: Upstream) -> None:
    keys.behaviour = DOWN
    with start() as served:
        answer = ask(served)
        assert answer.status == 503
        assert answer.body == b"Jwks remote fetch is failed"
        assert answer.header("retry-after") is not None
        token = mint({"iss": ISSUER, "exp": "+1h"})
        headers = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", f"Bearer {token}")]
        grpc = request_http2(served.port, "POST", "/yages.Echo/Ping", "httpbin", headers)
        assert (grpc.status, grpc.header("grpc-status")) == (200, "14")
        assert grpc.header("grpc-message") == "Jwks remote fetch is failed"
        assert not upstream.requests
        keys.behaviour = None
        until(lambda: ask(served).status == 200)


def test_keys_survive_a_restart(start: Start, keys: KeyServer, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    with start("--keys-directory", folder) as served:
        assert ask(served).status == 200
        until(lambda: any(Path(folder).glob("*.json")))
    keys.behaviour = DOWN
    with start("--keys-directory", folder) as served:
        assert ask(served).status == 200


def test_workers_fetch_keys_of_their_own(start: Start, keys: KeyServer) -> None:
    with start("--workers", "2") as served:
        assert {ask(served).status for _ in range(20)} == {200}
        assert keys.count == 2
