"""The key store against a real JWKS server: single flight, rotation, outages, retries, restarts."""

from __future__ import annotations

import asyncio
import json
import ssl
import stat
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

from eastgate.model.keys import RemoteKeys, Retry
from eastgate.pods.authorities import Authorities, read_authorities
from sidecar.jwks.client import Failure, FetchError
from sidecar.jwks.files import KeyFiles
from sidecar.jwks.source import may_retry
from sidecar.jwks.store import FetchSettings, KeyStore
from tests.tokens import key_set
from tests.unit.sidecar.key_server import KeyServer, make_authority, reply, serve_keys

FAILED = "Jwks remote fetch is failed"
QUICK = Retry(attempts=3, base_interval=0.01, max_interval=0.02)

type Scenario = Callable[[KeyServer, KeyStore, RemoteKeys], Coroutine[None, None, None]]


class Reports(list[tuple[str, str]]):
    """How flights ended."""

    @property
    def results(self) -> list[str]:
        return [result for _, result in self]


def play(
    scenario: Scenario,
    *,
    document: str | None = None,
    settings: FetchSettings | None = None,
    reports: Reports | None = None,
    **source_fields: object,
) -> None:
    """Run a scenario with a server, a store and the server as a source."""

    async def run() -> None:
        async with serve_keys(key_set("main") if document is None else document) as server:
            source = RemoteKeys(f"http://127.0.0.1:{server.port}/keys", tls=False)
            store = KeyStore(settings or FetchSettings(), lambda *report: (reports or Reports()).append(report))
            try:
                async with asyncio.timeout(15):
                    await scenario(server, store, replace(source, **source_fields))  # type: ignore[arg-type]
            finally:
                await store.close()

    asyncio.run(run())


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that happens in the background."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def kids(store: KeyStore, source: RemoteKeys) -> list[str]:
    keys = store.held(source).keys
    return [key.kid for key in keys.keys] if keys is not None else []


# --- one fetch ----------------------------------------------------------------------------------------------------


def test_fifty_cold_requests_cause_one_fetch() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.delay = 0.1
        assert store.held(source).keys is None
        assert store.held(source).problem is None
        # Equal sources of different policies are one source.
        await asyncio.gather(*(store.fetch((replace(source),)) for _ in range(50)))
        assert server.count == 1
        assert kids(store, source) == ["main"]

    play(scenario)


def test_a_fetch_with_keys_at_hand_asks_nobody() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        for _ in range(5):
            await store.fetch((source,))
        assert server.count == 1

    play(scenario)


def test_waiting_is_bounded() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.delay = 30.0
        began = time.monotonic()
        await store.fetch((source,))
        assert time.monotonic() - began < 10
        assert store.held(source).keys is None
        assert store.held(source).problem is None

    play(scenario, settings=FetchSettings(wait_seconds=0.1))


def test_the_timeout_bounds_the_whole_flight() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.delay = 30.0
        began = time.monotonic()
        await store.fetch((source,))
        assert time.monotonic() - began < 10
        assert store.held(source).problem == FAILED
        assert store.describe()[0].problem == "not done within 0.2 s"

    play(scenario, timeout=0.2, retry=QUICK)


def test_an_unresolved_reference_is_never_fetched() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        assert store.held(source).problem == FAILED
        await store.prefetch((source,), 1.0)
        await store.fetch((source,))
        assert store.held(source).problem == FAILED
        assert not store.may_refetch(source, "any")
        assert server.count == 0

    play(scenario, unresolved="ConfigMap default/ca")


def test_a_large_set_is_parsed_beside_the_loop() -> None:
    jwk = json.loads(key_set("main"))["keys"][0]
    large = json.dumps({"keys": [jwk, {"kty": "EC", "crv": "none", "x": "A" * 900_000, "y": "", "kid": "big"}]})

    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        loop, longest = asyncio.get_running_loop(), 0.0
        fetching = loop.create_task(store.fetch((source,)))
        while not fetching.done():
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)
        assert kids(store, source) == ["main"]
        assert longest < 0.25

    play(scenario, document=large)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "Jwks is an invalid JSON"),
        ('{"keys": []}', "Jwks doesn't have any valid public key"),
        ("[]", "Jwks is an invalid JSON"),
        ('{"keys": [], "keys": []}', "Jwks is an invalid JSON"),
        ("\ud7ff", "Jwks is an invalid JSON"),
    ],
)
def test_a_document_without_usable_keys_is_a_failed_fetch(document: str, problem: str) -> None:
    async def scenario(_server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        assert store.held(source).keys is None
        assert store.held(source).problem == problem

    reports = Reports()
    play(scenario, document=document, reports=reports)


# --- unknown kid --------------------------------------------------------------------------------------------------


def test_rotation_is_picked_up_at_the_first_token_with_the_new_kid() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        before = store.held(source).generation
        server.document = key_set("main", "p256")
        assert store.may_refetch(source, "p256")
        await store.fetch((source,))
        assert kids(store, source) == ["main", "p256"]
        assert store.held(source).generation > before
        assert server.count == 2

    play(scenario)


def test_many_requests_with_the_new_kid_share_the_fetch() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        server.document, server.delay = key_set("p256"), 0.05

        async def ask() -> bool:
            granted = store.may_refetch(source, "p256")
            await asyncio.sleep(0)
            await store.fetch((source,))
            return granted

        assert all(await asyncio.gather(*(ask() for _ in range(50))))
        assert server.count == 2
        assert kids(store, source) == ["p256"]

    play(scenario)


def test_the_floor_between_fetches_for_unknown_kids() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        for number in range(20):
            if store.may_refetch(source, f"made-up-{number}"):
                await store.fetch((source,))
        assert server.count == 2
        await asyncio.sleep(0.25)
        assert store.may_refetch(source, "another")

    play(scenario, settings=FetchSettings(unknown_kid_seconds=0.2))


def test_an_absent_kid_is_remembered() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        assert store.may_refetch(source, "absent")
        await store.fetch((source,))
        assert not store.may_refetch(source, "absent")
        assert store.may_refetch(source, "another")
        await store.fetch((source,))
        assert server.count == 3

    play(scenario, settings=FetchSettings(unknown_kid_seconds=0.0))


def test_unchanged_keys_keep_their_generation() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        before = store.held(source)
        server.document = "  " + server.document
        assert store.may_refetch(source, "other")
        await store.fetch((source,))
        assert server.count == 2
        assert store.held(source) is before

    play(scenario)


# --- refresh, outages, recovery -----------------------------------------------------------------------------------


def test_keys_are_refreshed_before_they_expire() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        server.document = key_set("p256")
        await until(lambda: kids(store, source) == ["p256"])
        assert server.count == 2

    play(scenario, cache_duration=1.25)


def test_an_outage_keeps_the_old_keys_and_ends_by_itself() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        held = store.held(source)
        server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")
        await until(lambda: store.describe()[0].stale)
        await until(lambda: store.describe()[0].problem == "status 500")
        assert store.held(source) is held
        server.behaviour = None
        await until(lambda: not store.describe()[0].problem)
        assert store.held(source) is held
        assert not store.describe()[0].stale

    play(scenario, cache_duration=0.3, failed_refetch=0.05)


def test_stale_keys_end_at_the_limit() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        before = store.held(source).generation
        server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")
        await until(lambda: store.held(source).keys is None)
        assert store.held(source).problem == FAILED
        assert store.held(source).generation > before
        server.behaviour = None
        await until(lambda: store.held(source).keys is not None)

    play(scenario, cache_duration=0.2, failed_refetch=0.05, settings=FetchSettings(stale_seconds=0.2))


def test_recovery_from_a_cold_outage_without_being_asked() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")
        await store.fetch((source,))
        assert store.held(source).problem == FAILED
        # Requests in an outage neither wait nor fetch.
        began, count = time.monotonic(), server.count
        await asyncio.gather(*(store.fetch((source,)) for _ in range(50)))
        assert time.monotonic() - began < 3
        assert server.count <= count + 1
        server.behaviour = None
        await until(lambda: kids(store, source) == ["main"])

    play(scenario, failed_refetch=0.2)


def test_an_outage_is_not_hammered() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")
        await store.fetch((source,))
        await asyncio.sleep(1.0)
        # 0.1, 0.2, 0.4 s apart, each less up to half: five at most in a second.
        assert 2 <= server.count <= 6

    play(scenario, failed_refetch=0.1)


# --- retries within a fetch ---------------------------------------------------------------------------------------


def test_retries_within_one_fetch() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        async def fail_twice(server: KeyServer, writer: asyncio.StreamWriter) -> None:
            if server.count > 2:
                server.behaviour = None
            body = server.document.encode() if server.count > 2 else b""
            status = b"200 OK" if body else b"503 No"
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))

        server.behaviour = fail_twice
        await store.fetch((source,))
        assert kids(store, source) == ["main"]
        assert server.count == 3

    reports = Reports()
    play(scenario, retry=QUICK, reports=reports)


def test_a_failure_that_no_trigger_names_is_not_retried() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.behaviour = reply("HTTP/1.1 404 No\ncontent-length: 0")
        await store.fetch((source,))
        assert server.count == 1

    play(scenario, retry=QUICK)


@pytest.mark.parametrize(
    ("failure", "status", "trigger", "retried"),
    [
        (Failure.STATUS, 500, "5xx", True),
        (Failure.STATUS, 500, "gateway-error", False),
        (Failure.STATUS, 502, "gateway-error", True),
        (Failure.STATUS, 409, "retriable-4xx", True),
        (Failure.STATUS, 404, "retriable-4xx", False),
        (Failure.CONNECT, 0, "connect-failure", True),
        (Failure.CONNECT, 0, "reset", False),
        (Failure.CONNECT, 0, "5xx", True),
        (Failure.RESET, 0, "reset", True),
        (Failure.RESET, 0, "connect-failure", False),
        (Failure.TLS, 0, "5xx", False),
        (Failure.REFUSED_ADDRESS, 0, "5xx", False),
        (Failure.KEYS, 0, "5xx", False),
    ],
)
def test_triggers(failure: Failure, status: int, trigger: str, retried: bool) -> None:
    assert may_retry(FetchError(failure, "", status), (trigger,)) is retried


# --- sources come and go ------------------------------------------------------------------------------------------


def test_sources_follow_the_plan() -> None:
    async def scenario(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        other = replace(source, url=source.url + "/other")
        await store.prefetch((source, other), 2.0)
        assert server.count == 2
        assert len(store.describe()) == 2
        await store.retain((other,))
        assert store.held(source).keys is None
        assert store.held(source).problem is None
        assert kids(store, other) == ["main"]
        await store.prefetch((source, other), 2.0)
        assert server.count == 3

    play(scenario)


def test_over_tls_with_the_sources_own_ca() -> None:
    async def run() -> None:
        async with serve_keys(key_set("main"), make_authority().make_context("foo.bar.com")) as server:
            source = RemoteKeys(
                "https://foo.bar.com/jwks.json",
                (("127.0.0.1", server.port),),
                ca=make_authority().pem,
                server_name="foo.bar.com",
            )
            store = KeyStore()
            await store.fetch((source, replace(source, ca=make_authority("another CA").pem, failed_refetch=9.0)))
            assert kids(store, source) == ["main"]
            assert [state.problem[:19] for state in store.describe()] == ["", "certificate refused"]
            await store.close()

    asyncio.run(run())


# --- authorities besides the system's ------------------------------------------------------------------------------


def trust(*names: str) -> Authorities:
    return read_authorities("".join(make_authority(name).pem for name in names)) if names else ()


@pytest.mark.skipif(not hasattr(ssl.SSLObject, "get_verified_chain"), reason="Python 3.12 does not say who vouched")
def test_trust_may_come_and_go() -> None:
    """Without the authority there are no keys, with it at once; what it vouched for goes when it goes."""

    async def run() -> None:
        reports = Reports()
        async with serve_keys(key_set("main"), make_authority("test CA").make_context("127.0.0.1")) as server:
            source = RemoteKeys(f"https://127.0.0.1:{server.port}/keys", failed_refetch=60.0)
            store = KeyStore(report=lambda *report: reports.append(report))
            await store.fetch((source,))
            assert store.held(source).problem == FAILED
            store.trust(trust("test CA", "another CA"))
            await store.fetch((source,))
            assert kids(store, source) == ["main"], "not after the minute that a failed fetch waits for"
            generation = store.held(source).generation
            # One that had no part in it goes; the keys stay, and are not even fetched again.
            store.trust(trust("test CA"))
            await asyncio.sleep(0.1)
            assert kids(store, source) == ["main"]
            assert store.held(source).generation == generation
            assert reports.results == ["tls", "success"]
            store.trust(())
            assert store.held(source).keys is None, "at once"
            assert store.held(source).problem is None, "a request waits for the fetch, and is not refused unasked"
            assert store.held(source).generation != generation
            await store.fetch((source,))
            assert store.held(source).problem == FAILED
            assert reports.results == ["tls", "success", "tls"]
            assert store.describe()[0].problem.startswith("certificate refused")
            await store.close()

    asyncio.run(run())


def test_trust_that_ends_during_a_fetch_ends_for_its_answer() -> None:
    async def run() -> None:
        async with serve_keys(key_set("main"), make_authority("test CA").make_context("127.0.0.1")) as server:
            source = RemoteKeys(f"https://127.0.0.1:{server.port}/keys", failed_refetch=60.0)
            store = KeyStore()
            store.trust(trust("test CA"))
            server.delay = 0.2
            fetching = asyncio.ensure_future(store.fetch((source,)))
            await until(lambda: server.count == 1)
            store.trust(())
            await fetching
            assert store.held(source).keys is None
            await until(lambda: store.describe()[0].problem.startswith("certificate refused"))
            store.trust(trust("test CA"))
            await store.fetch((source,))
            assert kids(store, source) == ["main"]
            await store.close()

    asyncio.run(run())


def test_a_source_with_its_own_ca_is_not_concerned() -> None:
    async def run() -> None:
        async with serve_keys(key_set("main"), make_authority("test CA").make_context("127.0.0.1")) as server:
            source = RemoteKeys(f"https://127.0.0.1:{server.port}/keys", ca=make_authority("test CA").pem)
            strict = replace(source, ca=make_authority("another CA").pem, failed_refetch=60.0)
            store = KeyStore()
            store.trust(trust("test CA"))
            await store.fetch((source, strict))
            for authorities in ((), trust("test CA")):
                store.trust(authorities)
                await asyncio.sleep(0.05)
                assert kids(store, source) == ["main"]
                assert store.held(strict).problem == FAILED
            await store.close()

    asyncio.run(run())


def test_kept_keys_are_used_while_who_vouched_for_them_is_trusted(tmp_path: Path) -> None:
    async def run() -> None:
        async with serve_keys(key_set("main"), make_authority("test CA").make_context("127.0.0.1")) as server:
            source = RemoteKeys(f"https://127.0.0.1:{server.port}/keys", failed_refetch=60.0)
            for authorities, expected in ((trust("test CA"), ["main"]), (trust("test CA"), ["main"]), ((), [])):
                store = KeyStore(make_files(tmp_path))
                store.trust(authorities)
                await store.fetch((source,))
                assert kids(store, source) == expected
                await until(lambda: bool(list((tmp_path / "keys").glob("*.json"))))
                await store.close()
                server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")

    asyncio.run(run())


# --- files --------------------------------------------------------------------------------------------------------


def make_files(folder: Path) -> FetchSettings:
    return FetchSettings(files=KeyFiles(str(folder / "keys")))


def test_last_good_keys_survive_a_restart(tmp_path: Path) -> None:
    names = ("main", "p256", "p384", "p521", "ed25519")

    async def first(_server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        await store.fetch((source,))
        await until(lambda: bool(list((tmp_path / "keys").glob("*.json"))))

    async def second(server: KeyServer, store: KeyStore, source: RemoteKeys) -> None:
        server.behaviour = reply("HTTP/1.1 500 Oh\ncontent-length: 0")
        began = time.monotonic()
        server.delay = 30.0
        await store.fetch((source,))
        assert time.monotonic() - began < 10
        assert kids(store, source) == list(names)

    # The file is found by what the source says, so both runs have to say the same.
    async def run() -> None:
        async with serve_keys(key_set(*names)) as server:
            source = RemoteKeys(f"http://127.0.0.1:{server.port}/", tls=False)
            for act in (first, second):
                store = KeyStore(make_files(tmp_path))
                await act(server, store, source)
                await store.close()

    asyncio.run(run())
    (file,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    members = {member for jwk in json.loads(file.read_text())["set"]["keys"] for member in jwk}
    assert members <= {"kty", "kid", "alg", "n", "e", "crv", "x", "y"}


def test_what_is_not_read_back(tmp_path: Path) -> None:
    files = KeyFiles(str(tmp_path))
    source = RemoteKeys("https://idp/keys")

    async def run() -> None:
        async with serve_keys(key_set("main")) as server:
            store = KeyStore(FetchSettings(files=files))
            fetched = RemoteKeys(f"http://127.0.0.1:{server.port}/", tls=False)
            await store.fetch((fetched,))
            keys = store.held(fetched).keys
            assert keys is not None
            files.save(source, keys, 1000.0)
            await store.close()

    asyncio.run(run())
    loaded = files.load(source, 1500.0, 600.0)
    assert loaded is not None
    assert (loaded.age, loaded.vouched) == (500.0, frozenset())
    assert files.load(replace(source, ca="another"), 1500.0, 600.0) is None
    assert files.load(source, 1601.0, 600.0) is None, "too old"
    assert files.load(source, 900.0, 600.0) is None, "from the future"
    path = files._path(source)
    path.chmod(0o622)
    assert files.load(source, 1500.0, 600.0) is None, "others can write it"
    path.chmod(0o600)
    text = path.read_text()
    for bad in (
        "",
        "[]",
        text.replace("fetched", "other"),
        text.replace("1000.0", "true"),
        text.replace("vouched", "other"),
        text.replace("RSA", "oct"),
    ):
        path.write_text(bad)
        assert files.load(source, 1500.0, 600.0) is None, bad
    target = tmp_path / "elsewhere"
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)
    assert files.load(source, 1500.0, 600.0) is None, "a link"
