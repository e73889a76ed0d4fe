"""The rules as data, and their two spellings.

Both spellings say the same, in this order. Inbound (nat, before routing): own ports are left alone, then excluded
ports, then what is not included; every other TCP connection goes to the proxy. Guard (filter): a connection that was
*dialled* at one of the proxy's ports, instead of redirected there, is reset: it would have no original destination, and
whoever else listened there would do so without a policy. Proof (nat,
own connections of the sidecar only): a port on the loopback address at which nobody listens leads to the admin port.
All of it comes into force in one transaction, so that the proof holds only where the rest does.

Must not know: how text gets into the kernel. Rules: nft(8), iptables-extensions(8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eastgate.pods.names import ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_ID
from eastgate.pods.ports import NO_PORTS, PortSet

TABLE = "eastgate"
INBOUND, GUARD, PROOF = "inbound", "guard", "proof"

PROOF_PORT = 19019
"""Nobody listens here. Beside our own ports, below the range of ephemeral ones (32768 and up)."""

MAX_MULTIPORT = 15
"""Ports of one ``-m multiport`` match; a range counts twice (iptables-extensions)."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """``include`` None: every port. ``exempt_id`` is the sidecar's uid."""

    proxy_port: int = INBOUND_PORT
    admin_port: int = ADMIN_PORT
    include: PortSet | None = None
    exclude: PortSet = NO_PORTS
    exempt_id: int = PROXY_ID

    @property
    def untouched(self) -> PortSet:
        """Never redirected: the admin port is the kubelet's, the proxy's own are the guard's, and what is excluded."""
        return PortSet.of((self.proxy_port, self.admin_port, OUTBOUND_PORT)) | self.exclude

    @property
    def guarded(self) -> PortSet:
        """The proxy's own ports, at which nobody from outside has any business."""
        return PortSet.of((self.proxy_port, OUTBOUND_PORT))


def render_nft(redirection: Redirection) -> str:
    """A whole ``nft -f`` transaction; applied again it replaces what was there. One table serves both families."""
    inbound = [f"tcp dport {_nft_set(redirection.untouched)} return"]
    if redirection.include is not None:
        inbound.append(f"tcp dport != {_nft_set(redirection.include)} return" if redirection.include else "return")
    inbound.append(f"meta l4proto tcp redirect to :{redirection.proxy_port}")
    dialled = f"ct original proto-dst {_nft_set(redirection.guarded)}"
    guard = [f'iifname != "lo" meta l4proto tcp {dialled} reject with tcp reset']
    to_admin = f"tcp dport {PROOF_PORT} meta skuid {redirection.exempt_id} redirect to :{redirection.admin_port}"
    proof = [f"ip daddr 127.0.0.1 {to_admin}", f"ip6 daddr ::1 {to_admin}"]
    chains = (
        (INBOUND, "type nat hook prerouting priority dstnat", inbound),
        (GUARD, "type filter hook input priority filter", guard),
        (PROOF, "type nat hook output priority -100", proof),
    )
    # The empty table first: deleting one that is not there is an error, and would fail the transaction.
    lines = [f"table inet {TABLE} {{ }}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for name, hook, rules in chains:
        lines += [f"  chain {name} {{", f"    {hook}; policy accept;", *(f"    {rule}" for rule in rules), "  }"]
    return "\n".join([*lines, "}", ""])


def render_iptables(redirection: Redirection, *, ipv6: bool) -> str:
    """Input of ``iptables-restore --noflush`` (or ``ip6tables-restore``). Only chains of our own are flushed; the jumps
    into them are added by ``kernel`` where they are not there yet.
    """
    inbound, guard, proof = (chain_name(name) for name in (INBOUND, GUARD, PROOF))
    loopback = "::1/128" if ipv6 else "127.0.0.1/32"
    lines = ["*nat", f":{inbound} - [0:0]", f":{proof} - [0:0]", f"-F {inbound}", f"-F {proof}"]
    matching = f"-A {inbound} -p tcp -m multiport --dports"
    lines += [f"{matching} {ports} -j RETURN" for ports in _chunk(redirection.untouched)]
    to_proxy = f"-j REDIRECT --to-ports {redirection.proxy_port}"
    if redirection.include is None:
        lines.append(f"-A {inbound} -p tcp {to_proxy}")
    lines += [f"{matching} {ports} {to_proxy}" for ports in _chunk(redirection.include or NO_PORTS)]
    lines += [
        f"-A {proof} -d {loopback} -p tcp -m owner --uid-owner {redirection.exempt_id} --dport {PROOF_PORT} "
        f"-j REDIRECT --to-ports {redirection.admin_port}",
        "COMMIT",
        "*filter",
        f":{guard} - [0:0]",
        f"-F {guard}",
        *(
            f"-A {guard} ! -i lo -p tcp -m conntrack --ctorigdstport {port} -j REJECT --reject-with tcp-reset"
            for port in redirection.guarded
        ),
        "COMMIT",
        "",
    ]
    return "\n".join(lines)


def list_jumps() -> tuple[tuple[str, str, str], ...]:
    """(table, built-in chain, our chain) of the iptables spelling."""
    return (
        ("nat", "PREROUTING", chain_name(INBOUND)),
        ("nat", "OUTPUT", chain_name(PROOF)),
        ("filter", "INPUT", chain_name(GUARD)),
    )


def chain_name(name: str) -> str:
    """Our chain as iptables knows it."""
    return f"EASTGATE_{name.upper()}"


def _nft_set(ports: PortSet) -> str:
    return "{ " + str(ports).replace(",", ", ") + " }"


def _chunk(ports: PortSet) -> Iterator[str]:
    """Lists of ports that one match can hold."""
    chunk: list[str] = []
    room = MAX_MULTIPORT
    for low, high in ports.ranges:
        size = 1 if low == high else 2
        if size > room:
            yield ",".join(chunk)
            chunk, room = [], MAX_MULTIPORT
        chunk.append(str(low) if low == high else f"{low}:{high}")
        room -= size
    if chunk:
        yield ",".join(chunk)
