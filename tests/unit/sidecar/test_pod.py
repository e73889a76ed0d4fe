"""What a pod makes of its mounts: which policies it starts with, what it keeps, what it says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from eastgate.model.workloads import Mode
from eastgate.pods.bundles import pack
from eastgate.pods.names import BUNDLE, MANIFEST_KEY
from sidecar import pod as pod_module
from sidecar.loops import make_loop
from sidecar.options import PodOptions, ServeOptions
from sidecar.pod import PodService
from sidecar.policies.mounts import Fingerprint
from sidecar.policies.snapshot import Snapshot, demand_plan
from sidecar.policies.workload import PodMaterial
from sidecar.redirections.proof import find_gap
from tests.live.pod_running import Volumes, make_policy, make_service
from tests.ports import free_port


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


def make_options(volumes: Volumes) -> PodOptions:
    engine = ServeOptions((), None, ("127.0.0.1", 19006))
    folders = {name: str(volumes.root / name) for name in ("bundle", "shards", "pod")}
    return PodOptions(engine, "httpbin", name="web-1", **folders)


def with_service(options: PodOptions, act: Callable[[PodService], Awaitable[None]]) -> None:
    async def run() -> None:
        await act(PodService(options))

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())


async def look(service: PodService) -> Snapshot | None:
    """One look, and what it found put in force as far as the service itself is concerned."""
    snapshot = await service._look(asked=False)
    if snapshot is not None:
        service._put_in_force(snapshot)
    return snapshot


def failures(service: PodService) -> float:
    counted = {(name, labels): value for name, labels, value in service.metrics.read()}
    return counted.get(("eastgate_reloads_total", ("failed",)), 0.0)


def gauge(service: PodService, name: str) -> float:
    (value,) = [value for metric, _, value in service.metrics.read() if metric == name]
    return value


def test_it_waits_for_the_first_bundle(volumes: Volumes) -> None:
    async def act(service: PodService) -> None:
        first = asyncio.ensure_future(service.obtain())
        await asyncio.sleep(0.25)
        assert not first.done()
        assert service.readiness.missing["bundle"] == "there is no `manifest.json`"
        volumes.write_bundle(make_policy(), make_service())
        snapshot = await asyncio.wait_for(first, 20)
        plan = demand_plan(snapshot)
        assert plan.workload.services == (("httpbin", "httpbin", None),)
        assert snapshot.digest == volumes.annotations[BUNDLE]

    with_service(make_options(volumes), act)


def test_a_bundle_that_cannot_be_used_keeps_the_last_good_one(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_module, "RETRY_SECONDS", 0.0)
    good = volumes.write_bundle(make_policy())

    async def act(service: PodService) -> None:
        assert await look(service)
        assert gauge(service, "eastgate_bundle_unusable") == 0
        bad = pack("httpbin", [make_policy("other")])
        volumes.bundle.write(
            {**bad.files(), MANIFEST_KEY: bad.files()[MANIFEST_KEY].replace(b'"version":1', b'"version":9')}
        )
        for _ in range(3):
            assert await look(service) is None
        assert failures(service) == 1, "said once"
        assert gauge(service, "eastgate_bundle_unusable") == 1
        config = await service.describe()
        assert "format version 9" in str(config["error"])
        assert config["bundle"] == {"digest": good.digest, "expected": good.digest, "current": True}
        assert "bundle" not in service.readiness.missing, "the last good one is in force"
        # The good one again: nothing to compile, and nothing wrong any more.
        volumes.mount(good)
        assert await look(service) is None
        assert (await service.describe())["error"] is None
        assert gauge(service, "eastgate_bundle_unusable") == 0

    with_service(make_options(volumes), act)


def test_annotations_with_faults_keep_the_last_good_settings(volumes: Volumes) -> None:
    volumes.write_bundle(make_policy())

    async def act(service: PodService) -> None:
        assert await look(service)
        volumes.annotations |= {"eastgate.dev/mode": "audits", "eastgate.dev/unmatched": "allow"}
        volumes.write_pod()
        assert await look(service) is None
        error = (await service.describe())["error"]
        assert error == "eastgate.dev/mode: `audits` is not accepted (did you mean `audit`?); accepted: enforce, audit"
        volumes.annotations["eastgate.dev/mode"] = "audit"
        volumes.write_pod()
        snapshot = await look(service)
        assert snapshot is not None
        assert demand_plan(snapshot).workload.mode is Mode.AUDIT

    with_service(make_options(volumes), act)


def test_a_pod_that_cannot_be_read(volumes: Volumes) -> None:
    volumes.write_bundle(make_policy())
    volumes.pod.write({"labels": b"app"})

    async def act(service: PodService) -> None:
        assert await look(service) is None
        assert service.readiness.missing["bundle"].startswith("the downward API's file `labels`: line 1 is not")
        volumes.pod.write({"labels": b""})
        assert await look(service) is None
        assert service.readiness.missing["bundle"] == "the downward API's file `annotations` is not there"
        volumes.write_pod()
        assert await look(service) is not None
        assert "bundle" not in service.readiness.missing

    with_service(make_options(volumes), act)


def test_nothing_is_compiled_when_nothing_changed(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = 0
    compile_really = PodMaterial.compile

    def count(material: PodMaterial, before: Snapshot | None) -> Snapshot:
        nonlocal compiled
        compiled += 1
        return compile_really(material, before)

    monkeypatch.setattr(PodMaterial, "compile", count)
    bundle = volumes.write_bundle(make_policy())

    async def act(service: PodService) -> None:
        assert await look(service)
        volumes.annotations[BUNDLE] = "0" * 64
        volumes.annotations["somebody/else"] = "nudged"
        volumes.write_pod()
        assert await look(service) is None
        assert compiled == 1
        assert gauge(service, "eastgate_bundle_behind") == 1, "the announced bundle is not there yet"
        volumes.mount(bundle)
        assert await look(service) is None
        assert compiled == 1
        volumes.labels["version"] = "v2"
        volumes.annotations[BUNDLE] = bundle.digest
        volumes.write_pod()
        snapshot = await look(service)
        assert snapshot is not None
        assert demand_plan(snapshot).workload.labels == (("app", "httpbin"), ("version", "v2"))
        assert compiled == 2
        assert gauge(service, "eastgate_bundle_behind") == 0

    with_service(make_options(volumes), act)


def test_volumes_that_are_updated_one_after_the_other(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is there before the Secret that it names: no failure, unless that lasts."""
    volumes.write_bundle(make_policy())
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "httpbin"}, "data": {}}
    bundle = pack("httpbin", [make_policy()], [secret])
    files = bundle.files()
    late = {"secrets/secrets.jsonl.gz": files.pop("secrets/secrets.jsonl.gz")}

    async def act(service: PodService) -> None:
        assert await look(service)
        volumes.bundle.write(files)
        assert await look(service) is None
        assert (failures(service), gauge(service, "eastgate_bundle_unusable")) == (0, 0)
        volumes.shards.write(late)
        snapshot = await look(service)
        assert snapshot is not None
        assert snapshot.digest == bundle.digest
        monkeypatch.setattr(pod_module, "PATIENCE_SECONDS", 0.0)
        volumes.shards.write({})
        assert await look(service) is None
        assert failures(service) == 1
        assert "`secrets/secrets.jsonl.gz` is missing" in str((await service.describe())["error"])

    with_service(make_options(volumes), act)


def test_a_bundle_is_looked_at_again_even_if_it_did_not_change(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read that failed for a moment must not be the last word."""
    volumes.write_bundle(make_policy())
    fail = True
    compile_really = PodMaterial.compile

    def compile_sometimes(material: PodMaterial, before: Snapshot | None) -> Snapshot:
        if fail:
            raise MemoryError("SECRET")
        return compile_really(material, before)

    monkeypatch.setattr(PodMaterial, "compile", compile_sometimes)
    monkeypatch.setattr(pod_module, "RETRY_SECONDS", 0.0)

    async def act(service: PodService) -> None:
        nonlocal fail
        assert await look(service) is None
        assert service.readiness.missing["bundle"].startswith("MemoryError in ")
        fail = False
        assert await look(service) is not None

    with_service(make_options(volumes), act)


def test_idle_looks_read_nothing(volumes: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes.write_bundle(make_policy())

    async def act(service: PodService) -> None:
        assert await look(service)
        monkeypatch.setattr(pod_module, "read_pod", None)
        seen: Fingerprint | None = service._seen
        assert await look(service) is None
        assert service._seen == seen

    with_service(make_options(volumes), act)


def test_told_to_end_before_there_are_policies(volumes: Volumes) -> None:
    handlers, level = logging.root.handlers[:], logging.root.level

    async def act(service: PodService) -> None:
        running = asyncio.ensure_future(service.run())
        await asyncio.sleep(0.15)
        signal.raise_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running, 20) == 0

    try:
        with_service(make_options(volumes), act)
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        logging.captureWarnings(capture=False)


def test_redirection_is_a_condition_only_where_it_is_expected(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof itself is a connection to a port that only the kernel's rules make answer: here a listener stands in."""
    monkeypatch.setattr(pod_module, "PROVE_SECONDS", 0.01)
    monkeypatch.setattr(pod_module, "PROVEN_SECONDS", 0.01)
    volumes.write_bundle(make_policy())
    port = free_port()
    monkeypatch.setattr(pod_module, "find_gap", partial(find_gap, port))
    options = make_options(volumes)

    async def without(service: PodService) -> None:
        await service.obtain()
        assert set(service.readiness.missing) == {"bundle", "listener"}
        assert (await service.describe())["not_checked"] == ["redirection"]

    async def expecting(service: PodService) -> None:
        await service.obtain()
        await asyncio.sleep(0.1)
        assert "redirection is not in place for 127.0.0.1" in service.readiness.missing["redirection"]
        assert (await service.describe())["not_checked"] == []
        with socket.create_server(("127.0.0.1", port)), contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
            while "redirection" in service.readiness.missing:
                await asyncio.sleep(0.01)
        while "redirection" not in service.readiness.missing:  # the rules are gone
            await asyncio.sleep(0.01)

    with_service(options, without)
    with_service(replace(options, expect_redirection=True), expecting)
