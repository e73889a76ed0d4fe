"""Which group of routes a Host header opens: Envoy's virtual hosts.

An exact host, else the longest wildcard suffix, else the routes without hosts; never a less specific group after that,
so that what no route of the host's own group expects stays unmatched. Hosts are compared in lower case, without port
and without one trailing dot (CVE-2021-39155 was a host in capitals). Must not know: routes beyond being something to
keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

ANY = "*"
CLUSTER_DOMAIN = "cluster.local"


def service_hosts(namespace: str, name: str) -> tuple[str, ...]:
    """The names under which a Service is called inside a cluster."""
    return (
        name,
        f"{name}.{namespace}",
        f"{name}.{namespace}.svc",
        f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}",
    )


def normalise_host(host: str) -> str:
    """A configured host as it is compared. One that cannot be written in ASCII is no host that a request could have."""
    try:
        return normalise_authority(host.encode("idna") if not host.isascii() else host.encode()).decode()
    except UnicodeError:
        return host


def normalise_authority(authority: bytes) -> bytes:
    """A request's authority as it is compared."""
    host = authority.lower()
    if host.startswith(b"["):
        return host[: host.find(b"]") + 1] or host
    colon = host.find(b":")
    if colon >= 0:
        host = host[:colon]
    return host[:-1] if host.endswith(b".") else host


class HostIndex[Group]:
    """Finds the group of a host. Built once, then only read."""

    def __init__(self, groups: Iterable[tuple[str, Group]]) -> None:
        self._exact: dict[bytes, Group] = {}
        self._suffixes: dict[bytes, Group] = {}
        self._any: Group | None = None
        for host, group in groups:
            if host == ANY:
                self._any = group
            elif host.startswith(ANY):
                self._suffixes[host[1:].encode("utf-8", "surrogatepass")] = group
            else:
                self._exact[host.encode("utf-8", "surrogatepass")] = group
        self._lengths = sorted({len(suffix) for suffix in self._suffixes}, reverse=True)

    def find(self, authority: bytes) -> Group | None:
        """The group, or None. The authority is as sent."""
        found = self._exact.get(authority)
        if found is not None:
            return found
        host = normalise_authority(authority)
        found = self._exact.get(host)
        if found is not None:
            return found
        for length in self._lengths:
            # A wildcard stands for at least one character.
            if length < len(host):
                found = self._suffixes.get(host[-length:])
                if found is not None:
                    return found
        return self._any

    def __iter__(self) -> Iterator[Group]:
        yield from self._exact.values()
        yield from self._suffixes.values()
        if self._any is not None:
            yield self._any
