"""What listens: mitmproxy's modes and server instances of our own, and the addon that manages their connections.

Two modes: ``serve`` leads every connection to one upstream; ``inbound`` leads it where its client had dialled, before
the kernel redirected it. Knows: accepting. Must not know: bytes, HTTP, policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

from sidecar._mitmproxy import (
    TCP,
    AsyncioServerInstance,
    Client,
    ConnectionState,
    Context,
    Layer,
    Master,
    Options,
    ProxyMode,
    original_addr,
)
from sidecar.connections.connection import KeyFetcher, SidecarHandler
from sidecar.connections.endpoint import Endpoint
from sidecar.connections.room import MOST_LEAVING, IdleClients, Tally
from sidecar.options import Limits
from sidecar.sockets import BACKLOG, bind_socket, is_own_address

logger = logging.getLogger("eastgate.proxy")


class ServeMode(ProxyMode):  # type: ignore[no-untyped-call]
    """``eastgateserve:HOST:PORT@LISTEN:PORT``: every connection leads to one upstream."""

    description = "eastgate serve"
    transport_protocol = TCP

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("no upstream")

    @property
    def upstream(self) -> tuple[str, int]:
        """Where every connection leads."""
        host, _, port = self.data.rpartition(":")
        return host, int(port)


class InboundMode(ProxyMode):  # type: ignore[no-untyped-call]
    """``eastgateinbound@LISTEN:PORT``: connections the kernel redirected here lead where their client had dialled."""

    description = "eastgate inbound"
    transport_protocol = TCP

    def __post_init__(self) -> None:
        if self.data:
            raise ValueError("the inbound mode takes no upstream")


class SidecarInstance[M: ProxyMode](AsyncioServerInstance[M]):  # type: ignore[no-untyped-call]
    """What both server instances share: one listening socket that other workers may share, and our own handler."""

    @property
    def addon(self) -> EastgateAddon:
        """The manager, as what it is."""
        return cast(EastgateAddon, self.manager)

    def make_top_layer(self, context: Context) -> Layer:
        """The layer that chooses a lane."""
        return self.addon.make_top_layer(context)

    async def listen(self, host: str, port: int) -> list[Any]:
        """Bind. Raises ``OSError``: nobody must believe in a listener that is not there."""
        loop = asyncio.get_running_loop()
        self._listening = bind_socket(host, port)
        return [await loop.create_server(self._accept, sock=self._listening, backlog=BACKLOG)]

    async def stop_listening(self) -> None:
        """Accept no more and lose none: closing resets what the kernel has connected and nobody has accepted yet."""
        waiting: list[socket.socket] = []
        with contextlib.suppress(OSError):  # there are no more
            while len(waiting) < BACKLOG:
                waiting.append(self._listening.accept()[0])
        await self.stop()
        loop = asyncio.get_running_loop()
        for accepted in waiting:
            try:
                await loop.connect_accepted_socket(self._accept, accepted)
            except OSError:  # it is gone already
                accepted.close()

    def _accept(self) -> Endpoint:
        return Endpoint(self._begin)

    def _begin(self, endpoint: Endpoint) -> None:
        if len(self.addon.connections) >= self.addon.capacity and not self.addon.make_room():
            self.addon.turn_away(endpoint)
            return
        transport = endpoint.transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:  # the client is gone already
            transport.abort()
            return
        client = Client(
            peername=(_plain_host(peer[0]), peer[1]),
            sockname=(_plain_host(own[0]), own[1]),
            state=ConnectionState.OPEN,
            proxy_mode=self.mode,
        )
        context = Context(client, self.addon.options)
        upstream = self.find_upstream(context, transport.get_extra_info("socket"))
        if upstream is None:
            transport.abort()
            return
        context.server.address = upstream
        SidecarHandler(context, self.addon, endpoint, self.make_top_layer)

    @abstractmethod
    def find_upstream(self, context: Context, accepted: socket.socket) -> tuple[str, int] | None:
        """Where this connection leads; None refuses it."""


class ServeInstance(SidecarInstance[ServeMode]):  # type: ignore[no-untyped-call]
    """The plain reverse proxy."""

    def find_upstream(self, context: Context, accepted: socket.socket) -> tuple[str, int] | None:  # noqa: ARG002
        """The one upstream."""
        return self.mode.upstream


class InboundInstance(SidecarInstance[InboundMode]):  # type: ignore[no-untyped-call]
    """The pod's inbound side: the kernel's REDIRECT keeps the dialled address for SO_ORIGINAL_DST."""

    def find_upstream(self, context: Context, accepted: socket.socket) -> tuple[str, int] | None:
        """The address that was dialled. The proxy's own port was dialled directly and would lead back here for ever.

        The kernel redirects whatever comes in, also what a neighbour on the same link sent to this pod's hardware
        address for somebody else, or for the loopback: to pass that on would make the pod a relay, with its own
        address and without the rules that hold for others, and reach what listens for the pod itself only.
        """
        try:
            host, port = original_addr(accepted)
        except OSError as error:
            logger.error("original destination unknown: %s", type(error).__name__)
            return None
        if port == context.client.sockname[1]:
            logger.warning("refused a connection made to the proxy's own port")
            return None
        if not is_own_address(host):
            logger.warning("refused a connection that was not made to an address of this pod")
            return None
        context.client.sockname = (host, port)
        return host, port


def _plain_host(host: str) -> str:
    """An address as policies write it: no zone, no IPv4-mapped form."""
    return host.partition("%")[0].removeprefix("::ffff:") if ":" in host else host


class EastgateAddon:
    """The mitmproxy addon: manages the connections (mitmproxy's ``ServerManager``) and hands each to a lane."""

    name = "eastgate"

    def __init__(
        self, make_top_layer: Callable[[Context], Layer], fetcher: KeyFetcher, limits: Limits, capacity: int
    ) -> None:
        self.make_top_layer = make_top_layer
        self.capacity = capacity
        self.fetch_keys = fetcher.fetch
        self.limits = limits
        self.options = Options()
        self.connections: dict[tuple[Any, ...] | str, SidecarHandler] = {}
        self.own_addresses: frozenset[tuple[str, int]] = frozenset()
        self.nobody_connected = asyncio.Event()
        self.draining = False
        self._idle = IdleClients(self.connections, asyncio.get_running_loop().time)
        full = "there are as many as there may be"
        self.turned_away = Tally(f"connections turned away: {full}", self._describe)
        self.displaced = Tally(f"idle connections closed to make room: {full}", self._describe)

    @contextlib.contextmanager
    def register_connection(self, connection_id: tuple[Any, ...] | str, handler: Any) -> Iterator[None]:
        """Mitmproxy's own way to register a connection; ours come and go by callbacks."""
        self.connections[connection_id] = handler
        try:
            yield
        finally:
            self.forget(connection_id)

    def turn_away(self, endpoint: Endpoint) -> None:
        """One client too many: reset at once, and nothing is read.

        Not accepting would be gentler, but not safer: up to ``BACKLOG`` clients would wait in the kernel for somebody
        else to leave, told nothing and counted nowhere, and a TCP probe would go on succeeding. A reset is heard at
        once, and whoever balances loads goes elsewhere (Envoy's overload manager and nginx do the same).
        """
        self.turned_away.add()
        endpoint.reset()

    def make_room(self) -> bool:
        """Close the connection that has been idle longest; False where none is idle, or too many are closing."""
        if len(self.connections) >= self.capacity + MOST_LEAVING:
            return False
        longest = self._idle.take_longest()
        if longest is None:
            return False
        self.displaced.add()
        longest.leave()
        return True

    def _describe(self) -> dict[str, int]:
        return {"open": len(self.connections), "capacity": self.capacity}

    def forget(self, connection_id: tuple[Any, ...] | str) -> None:
        """A connection is over."""
        self.connections.pop(connection_id, None)
        if not self.connections:
            self.nobody_connected.set()

    def is_own_address(self, peer: tuple[Any, ...] | None) -> bool:
        """True for an address that this process listens on, also by way of a wildcard."""
        if not peer:
            return False
        host, port = _plain_host(peer[0]), peer[1]
        return (host, port) in self.own_addresses or (
            (("::", port) in self.own_addresses or ("0.0.0.0", port) in self.own_addresses) and _is_local(host)  # noqa: S104
        )


def _is_local(host: str) -> bool:
    """True when this machine owns the address: one can bind to it."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def make_master(addon: EastgateAddon) -> Master:
    """Mitmproxy with our addon and nothing else.

    Its log handler is taken out: it copies every record into the event loop. Its ``run`` is not used either: that
    installs an eager task factory, which uvloop 0.23 cannot use before CPython 3.13.3, and swallows failed binds.
    """
    master = Master(addon.options)
    master._legacy_log_events.uninstall()
    master.addons.add(addon)  # type: ignore[no-untyped-call]
    return master
