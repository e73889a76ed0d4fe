"""Which addresses a JWKS may be fetched from, checked after the name was resolved and before anything is connected.

A policy author may name any host; this is what keeps that from reaching a cloud's metadata service or a multicast
group (server-side request forgery; Istio's CVE-2026-41413 and its ``BLOCKED_CIDRS_IN_JWKS_URIS``). The connection
then goes to the very address that was checked: the name is not resolved again, so it cannot be rebound in between.

Knows: addresses. Must not know: HTTP, TLS, keys.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

type Address = IPv4Address | IPv6Address

_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux connects it to the local host (RFC 1122 section 3.2.1.3)
        "169.254.0.0/16",  # link-local (RFC 3927): the metadata services of AWS, GCP, Azure
        "100.100.100.200/32",  # Alibaba Cloud's metadata service
        "224.0.0.0/4",  # multicast (RFC 5771)
        "255.255.255.255/32",  # limited broadcast (RFC 919)
        "::/128",  # unspecified
        "fe80::/10",  # link-local (RFC 4291)
        "fd00:ec2::254/128",  # AWS's metadata service over IPv6
        "fd20:ce::254/128",  # GCP's metadata service over IPv6
        "ff00::/8",  # multicast
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address, which a gateway would connect to."""


class AddressRefusedError(Exception):
    """No address of the host may be connected to; ``str()`` says why, in a few words."""


def refuse_address(text: str, *, block_loopback: bool) -> bool:
    """True when ``text``, a numeric address, must not be connected to."""
    try:
        address = _unwrap(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return True
    if address.is_loopback:
        return block_loopback
    return any(address in network for network in _REFUSED if network.version == address.version)


def _unwrap(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one: the kernel or a NAT64 gateway connects to that."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


async def resolve_host(host: str, port: int, *, block_loopback: bool) -> list[str]:
    """The numeric addresses of ``host`` that may be connected to, in the resolver's order.

    Raises:
        OSError: the name does not resolve.
        AddressRefusedError: it does, but only to addresses that are refused.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    allowed = [address for address in addresses if not refuse_address(address, block_loopback=block_loopback)]
    if not allowed:
        raise AddressRefusedError("address refused: loopback, link-local, metadata or multicast")
    return allowed
