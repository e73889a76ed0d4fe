"""The only module that imports mitmproxy: everything of it that Eastgate uses goes through here.

Pinned to mitmproxy 12.2.3; what is taken from it and how stable each part is, is recorded in ``docs/decisions``. The
lanes speak its sans-io vocabulary: events go in, commands come out.

Taken: ``Master`` (the addon manager and the event loop's owner), ``ProxyMode`` and ``AsyncioServerInstance`` (what
listens), ``ConnectionHandler`` (what runs the layers of one client), ``Layer``, commands, events, connections. Not
taken, because in front of a policy each of them lets something through (guessing the protocol from the first bytes,
going on after an exception in a hook): its default addons, its ``NextLayer``, its HTTP layers.

Knows: names. Must not know: sockets, HTTP, policy.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from eastgate.model.keys import RemoteKeys

PINNED = "12.2.3"


class _Absent(types.ModuleType):
    """Stands in for a module that nobody needs; whatever is imported from it is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = type(name, (), {})
        setattr(self, name, found)
        return found


_UNUSED = (
    "mitmproxy.eventsequence",
    "mitmproxy.proxy.layers",
    "mitmproxy.proxy.layers.http",
    "mitmproxy.command_lexer",
    "pyparsing",
)


@contextmanager
def _without_unused_parts() -> Iterator[None]:
    """Import mitmproxy without its default addons and its own layers.

    ``mitmproxy.master`` imports one module of the package ``mitmproxy.addons``, whose ``__init__`` imports all default
    addons and with them flask, ldap and tornado: 17 MB and half a second in every worker. An empty package with the
    same path stands in while we import. The layers (HTTP, QUIC, TLS; aioquic, h2) are 7 MB and 0.15 s more; the server
    and its modes name them only in methods that ours override.
    """
    addons = "mitmproxy.addons"
    spec = None if addons in sys.modules else find_spec("mitmproxy")
    if spec is None or not spec.submodule_search_locations:
        yield
        return
    package = types.ModuleType(addons)
    package.__path__ = [str(Path(spec.submodule_search_locations[0]) / "addons")]
    standing_in = {name: _Absent(name) for name in _UNUSED if name not in sys.modules}
    sys.modules.update({addons: package, **standing_in})
    try:
        yield
    finally:
        for name in (addons, *standing_in):
            del sys.modules[name]


with _without_unused_parts():
    from mitmproxy import version
    from mitmproxy.connection import Client, Connection, ConnectionState, Server
    from mitmproxy.master import Master
    from mitmproxy.options import Options
    from mitmproxy.platform.linux import original_addr
    from mitmproxy.proxy import commands, events
    from mitmproxy.proxy.context import Context
    from mitmproxy.proxy.layer import Layer
    from mitmproxy.proxy.mode_servers import AsyncioServerInstance
    from mitmproxy.proxy.mode_specs import TCP, ProxyMode
    from mitmproxy.proxy.server import ConnectionHandler

__all__ = [
    "TCP", "AsyncioServerInstance", "Client", "Commands", "Connection", "ConnectionHandler", "ConnectionState",
    "Context", "CutConnection", "Drain", "FetchKeys", "HoldReading", "KeysFetched", "Lane", "Layer", "Master",
    "Options", "ProxyMode", "Server", "check_version", "commands", "events", "original_addr",
]  # fmt: skip

type Commands = Generator[commands.Command, Any, None]


def check_version() -> None:
    """Refuse to run on a mitmproxy whose internals have not been read and tested."""
    if version.VERSION != PINNED:
        raise RuntimeError(f"mitmproxy {PINNED} is required, found {version.VERSION}")


class Lane(Layer):
    """A layer that takes every event at once.

    mitmproxy's ``Layer`` holds events back while a connection is being opened; a lane goes on, and hears of the end
    as of any other event (``OpenConnectionCompleted``).
    """

    @property
    def idle(self) -> bool:
        """True while nothing is in flight, so that closing the connection now costs its client nothing but a dial."""
        return False

    def handle_event(self, event: events.Event) -> Commands:
        """React to one event."""
        raise NotImplementedError

    def _handle_event(self, event: events.Event) -> Commands:
        return self.handle_event(event)


# --- what lanes may say beyond mitmproxy's vocabulary --------------------------------------------------------------


class FetchKeys(commands.Command):
    """Ask for keys without blocking the layer: ``KeysFetched`` comes back when the fetch ended, well or badly.

    ``ticket`` is the lane's own mark (a stream id), handed back unchanged.
    """

    blocking = False

    def __init__(self, sources: tuple[RemoteKeys, ...], ticket: object) -> None:
        self.sources = sources
        self.ticket = ticket


class HoldReading(commands.ConnectionCommand):
    """Stop (``held`` True) or go on reading from a connection, because the lane has no use for more bytes now."""

    def __init__(self, connection: Connection, held: bool) -> None:
        super().__init__(connection)
        self.held = held


class CutConnection(commands.ConnectionCommand):
    """Reset a connection, so that its peer cannot take what it got for complete."""


class KeysFetched(events.Event):
    """A fetch asked for with ``FetchKeys`` ended. Ask the gate again: it never answers ``KeysNeeded`` for the same
    sources and token twice in a row.
    """

    def __init__(self, ticket: object) -> None:
        self.ticket = ticket


class Drain(events.Event):
    """The proxy is going away: finish what is in flight, begin nothing, close when idle. ``at_once``: without waiting
    for what the client may have on its way.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.at_once = at_once
