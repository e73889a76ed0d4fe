"""Every function on the request path is made to raise in turn, in both lanes: from then on nothing is forwarded.

The functions are found, not listed: everything that the modules of the decision, the rendering and the data plane define,
and every closure that the compiled plan is made of. Each one's code is replaced, so it does not matter who imported it
under which name. Then a request that would be allowed is sent, over HTTP/1.1 and over HTTP/2: if the replaced function
was called at all, not one byte may have been written to the application afterwards. A request that would be refused never reaches it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import pkgutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

from eastgate.compile.plan import compile_plan
from eastgate.dialects.corpus import read_policy_set
from eastgate.model.workloads import Workload
from sidecar.connections.endpoint import Endpoint
from sidecar.connections.proxy import Proxy
from sidecar.gate import Gate
from sidecar.jwks.store import KeyStore
from sidecar.options import ServeOptions
from tests.live.client import request_http1, request_http2
from tests.live.conftest import make_token, write_policy
from tests.live.upstream import Upstream, run_upstream

PACKAGES = ("eastgate.decide", "eastgate.compile", "eastgate.render", "eastgate.model", "sidecar.lanes")
MODULES = (
    "sidecar.gate",
    "sidecar._mitmproxy",
    "sidecar.connections.connection",
    "sidecar.connections.listener",
    "sidecar.connections.proxy",
)
BOOKKEEPING = {"connection.SidecarHandler._task_done"}
"""Called by the event loop when a task of a connection has ended: by then what the task forwarded was decided long ago,
and what it raises reaches no lane. It must still not open anything for a request without a token."""
RAISED: list[float] = []
WAITING = -1


class RaisedOnPurposeError(Exception):
    """What every replaced function raises."""


def find_modules() -> list[ModuleType]:
    names = list(MODULES)
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        names.append(package_name)
        names += [found.name for found in pkgutil.walk_packages(package.__path__, f"{package_name}.")]
    return [importlib.import_module(name) for name in names]


def find_functions() -> list[FunctionType]:
    """Functions, methods and living closures that are defined in the modules, by their code."""
    files = {module.__file__ for module in find_modules()}
    gc.collect()
    found = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in files and one.__name__ != "<lambda>":
            found.setdefault((one.__code__.co_filename, one.__code__.co_firstlineno, id(one)), one)
    return [found[key] for key in sorted(found)]


def note_and_raise() -> None:
    """What every replaced function does: note the time, and raise."""
    RAISED.append(time.monotonic())
    raise RaisedOnPurposeError


def make_raiser(original: CodeType) -> CodeType:
    """Code of the same kind (plain, generator, coroutine) and with the same free variables that only raises."""

    def plain(*_: Any, **__: Any) -> None:
        from tests.live.test_raise_everywhere import note_and_raise

        note_and_raise()

    def generator(*_: Any, **__: Any) -> Iterator[None]:
        from tests.live.test_raise_everywhere import note_and_raise

        note_and_raise()
        yield

    async def coroutine(*_: Any, **__: Any) -> None:
        from tests.live.test_raise_everywhere import note_and_raise

        note_and_raise()

    kinds = {inspect.CO_GENERATOR: generator, inspect.CO_COROUTINE: coroutine}
    kind = next((function for flag, function in kinds.items() if original.co_flags & flag), plain)
    return kind.__code__.replace(co_freevars=original.co_freevars) if original.co_freevars else kind.__code__


class Workbench:
    """A real proxy in this process, on a loop of its own."""

    def __init__(self, folder: Path, upstream: Upstream) -> None:
        policies = read_policy_set([("policy.yaml", write_policy(folder).read_text())])
        options = ServeOptions(policies=(), upstream=("127.0.0.1", upstream.port), listen=("127.0.0.1", 0))
        self.upstream_port = upstream.port
        self.writes: list[float] = []
        self.written = 0
        self.loop = asyncio.new_event_loop()
        self.store = KeyStore(options)
        self.gate = Gate(compile_plan(policies, Workload()), self.store, lambda outcome: None)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.port = asyncio.run_coroutine_threadsafe(self.start(options), self.loop).result(20)[1]

    async def start(self, options: ServeOptions) -> tuple[str, int]:
        self.proxy = Proxy(self.gate, self.store, options)
        return await self.proxy.start()

    def wait_until_idle(self) -> None:
        """Until the last connection is gone, both its sides: what closes an earlier one must not count for the next."""
        asyncio.run_coroutine_threadsafe(self.settle(), self.loop).result(20)

    async def settle(self) -> None:
        """The client is forgotten one turn of the loop before the upstream's socket is."""
        while self.proxy.connections:
            await asyncio.sleep(0.0005)
        for _ in range(3):
            await asyncio.sleep(0)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.proxy.stop(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with run_upstream() as application:
        yield application


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Workbench]:
    workbench = Workbench(tmp_path_factory.mktemp("policy"), upstream)
    write = Endpoint.write

    def noting_write(endpoint: Endpoint, data: bytes) -> None:
        peer = endpoint.transport.get_extra_info("peername")
        if peer is not None and peer[1] == workbench.upstream_port:
            workbench.writes.append(time.monotonic())
        write(endpoint, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Endpoint, "write", noting_write)
        yield workbench
    workbench.close()


@pytest.mark.filterwarnings("error:.*was never awaited:RuntimeWarning")
@pytest.mark.parametrize("lane", ["http1", "http2"])
def test_nothing_is_forwarded(bench: Workbench, upstream: Upstream, lane: str) -> None:
    send = request_http1 if lane == "http1" else request_http2
    allowed = [("authorization", f"Bearer {make_token()}")]
    assert send(bench.port, "GET", "/secret", "shop.example", allowed).status == 200
    functions = find_functions()
    called, problems, waiting = set(), [], []
    for function in functions:
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        original = function.__code__
        for headers, must_pass in ((allowed, True), ([], False)):
            bench.wait_until_idle()
            RAISED.clear()
            bench.written += len(bench.writes)
            bench.writes.clear()
            function.__code__ = make_raiser(original)
            try:
                response = attempt(send, bench.port, headers)
            finally:
                function.__code__ = original
            later = [at for at in bench.writes if RAISED and at > RAISED[0]]
            if RAISED:
                called.add(name)
            if later and name not in BOOKKEEPING:
                problems.append(f"{name}: forwarded after it raised (status {response})")
            if not must_pass and bench.writes:
                problems.append(f"{name}: a request without a token was forwarded")
            if response == WAITING:
                waiting.append(name)
            if RAISED and response == 200 and not bench.writes:
                problems.append(f"{name}: answered 200 without the application")
    assert not problems, "\n".join(problems)
    assert not waiting, f"left the client waiting: {waiting}"
    assert bench.written > len(functions) / 2, "hardly anything was written to the application: the test sees nothing"
    assert len(called) > 40, f"only {len(called)} functions were on the path: {sorted(called)}"
    assert send(bench.port, "GET", "/secret", "shop.example", allowed).status == 200, "the proxy did not survive"


def attempt(send: Any, port: int, headers: list[tuple[str, str]]) -> int | None:
    """The status, ``WAITING`` when nothing came in time, None when the connection was closed without an answer."""
    try:
        return int(send(port, "GET", "/secret", "shop.example", headers).status)
    except TimeoutError:
        return WAITING
    except Exception:
        return None
