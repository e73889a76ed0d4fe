"""Listening sockets: on one address, on all there are, alone or shared with other workers.

Knows: address families, ports, which addresses are ours. Must not know: who listens, or what is said.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

BACKLOG = 4096
"""Connections waiting to be accepted; the kernel caps it at net.core.somaxconn (4096 since Linux 5.4)."""


def bind_socket(host: str, port: int, *, shared: bool = True) -> socket.socket:
    """A bound socket: IPv4, IPv6, or both where ``host`` is empty or ``::``. An empty one takes what the machine has.

    ``shared`` lets other workers bind the same port (SO_REUSEPORT). Raises ``OSError``.
    """
    if host in ("", "::") and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=shared, backlog=BACKLOG
            )
        except OSError:
            if host == "::":
                raise
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.getaddrinfo(
        host or None, port, family if not host or ":" in host else 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
    )
    return socket.create_server(found[0][4][:2], family=found[0][0], reuse_port=shared, backlog=BACKLOG)


@contextlib.contextmanager
def claim_address(host: str, port: int) -> Iterator[tuple[str, int]]:
    """A numeric address and a port that nobody listens on, for as long as the block lasts. Raises ``OSError``.

    The workers share the port, which by itself would also let a second program slip in beside a first one; so a given
    port is bound once without sharing. One that the kernel chooses (0) is held until the block ends, or the kernel
    would choose it for somebody else, too, before the workers have it: two that share end up with half of each other's
    connections. What is held does not listen. An empty ``host`` stays empty: all addresses.
    """
    if not host:
        with bind_socket("", port, shared=False) as probe:
            chosen = int(probe.getsockname()[1])
        yield "", chosen
        return
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as claim:
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if port == 0:
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        claim.bind(address)
        bound = claim.getsockname()
        if port:
            claim.close()
        yield bound[0], bound[1]


_MAX_OWN = 64
_own: set[str] = set()


def is_own_address(host: str) -> bool:
    """Whether a numeric address is one at which others reach this host: none of the loopback, and none of others.

    Asked of the kernel, which lets only such an address be bound; what was once ours is taken to stay so.
    """
    if host in _own:
        return True
    try:
        address = ipaddress.ip_address(host)
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            return False
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except (OSError, ValueError):
        return False
    if len(_own) < _MAX_OWN:
        _own.add(host)
    return True


def join_address(host: str, port: int) -> str:
    """``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
