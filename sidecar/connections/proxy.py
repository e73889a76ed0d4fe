"""The proxy of one worker: a listener, its connections, and how they end.

Puts the parts together: mitmproxy's master with our addon, one server instance, the lanes, the gate. Knows: life and
death of the listener. Must not know: what is decided, what bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from sidecar._mitmproxy import Context, Drain, Layer, check_version
from sidecar.connections.capacity import find_capacity
from sidecar.connections.connection import KeyFetcher
from sidecar.connections.listener import (
    EastgateAddon,
    InboundInstance,
    InboundMode,
    ServeInstance,
    ServeMode,
    make_master,
)
from sidecar.lanes.top import TopLane

if TYPE_CHECKING:
    from sidecar.gate import Gate
    from sidecar.options import ServeOptions


class Proxy:
    """``start``, then ``drain`` and ``stop``. Must be made inside a running event loop; any loop will do (uvloop
    too).
    """

    def __init__(self, gate: Gate, key_store: KeyFetcher, options: ServeOptions, *, inbound: bool = False) -> None:
        check_version()
        limits = options.limits
        self.opaque_ports = options.opaque_ports
        """Of connections that come from now on."""

        def make_top_lane(context: Context) -> Layer:
            return TopLane(context, gate, limits, self.opaque_ports)

        self._addon = EastgateAddon(make_top_lane, key_store, limits, find_capacity(options.max_connections))
        self._master = make_master(self._addon)
        host, port = options.listen
        listen = {"custom_listen_host": host, "custom_listen_port": port}
        self._instance: InboundInstance | ServeInstance
        if inbound:
            self._instance = InboundInstance(InboundMode(full_spec="eastgateinbound", data="", **listen), self._addon)  # type: ignore[arg-type]
        else:
            if options.upstream is None:
                raise ValueError("no upstream, and connections are not led where they were dialled")
            upstream = f"{options.upstream[0]}:{options.upstream[1]}"
            mode = ServeMode(full_spec=f"eastgateserve:{upstream}", data=upstream, **listen)  # type: ignore[arg-type]
            self._instance = ServeInstance(mode, self._addon)

    @property
    def connections(self) -> int:
        """Client connections that are open."""
        return sum(handler.is_open for handler in tuple(self._addon.connections.values()))

    @property
    def capacity(self) -> int:
        """Client connections that may be open."""
        return self._addon.capacity

    @property
    def turned_away(self) -> int:
        """Client connections that were one too many."""
        return self._addon.turned_away.count

    @property
    def displaced(self) -> int:
        """Client connections that were idle and made room for another."""
        return self._addon.displaced.count

    async def start(self) -> tuple[str, int]:
        """Listen; returns where. Raises ``OSError`` when the address cannot be had."""
        await self._instance.start()
        addresses = self._instance.listen_addrs
        self._addon.own_addresses = frozenset((address[0], address[1]) for address in addresses)
        await self._master.running()
        return addresses[0][0], addresses[0][1]

    async def drain(self, seconds: float) -> None:
        """Accept no more, finish what is in flight, and return when all is done or ``seconds`` are over."""
        addon = self._addon
        addon.draining = True
        if self._instance.is_running:
            await self._instance.stop_listening()
        # What the loop had already accepted is handed over by its next turn.
        await asyncio.sleep(0)
        for handler in list(addon.connections.values()):
            handler.dispatch(Drain())
        if addon.connections:
            addon.nobody_connected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(addon.nobody_connected.wait(), seconds)

    async def stop(self) -> None:
        """Cut what is left and let go of everything."""
        if self._instance.is_running:
            await self._instance.stop()
        for handler in list(self._addon.connections.values()):
            handler.abort()
        await asyncio.sleep(0)
        await self._master.done()
