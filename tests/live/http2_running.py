"""The proxy in a loop of its own, in this process, with a gate of the test's choice."""

from __future__ import annotations

import asyncio
import threading

from sidecar.connections.proxy import Proxy
from sidecar.options import ServeOptions

TIMEOUT = 20


class NoKeys:
    """A key store with nothing to fetch, which takes its time."""

    async def fetch(self, sources):
        await asyncio.sleep(0.1)


class Running:
    """A proxy in a loop of its own."""

    def __init__(self, gate, upstream: int) -> None:  # a FakeGate or a real one
        self.gate = gate
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self.call(self._start(upstream))

    async def _start(self, upstream: int) -> int:
        options = ServeOptions(policies=(), upstream=("127.0.0.1", upstream), listen=("127.0.0.1", 0))
        self.proxy = Proxy(self.gate, NoKeys(), options)
        _, port = await self.proxy.start()
        return port

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    def stop(self) -> None:
        self.call(self.proxy.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT)
        self.loop.close()
