"""Host groups as Envoy's virtual hosts."""

from __future__ import annotations

import pytest

from eastgate.compile.hosts import HostIndex, normalise_authority, normalise_host, service_hosts

INDEX = HostIndex(
    [
        ("www.example.com", "exact"),
        ("*.example.com", "wildcard"),
        ("*.b.example.com", "longer"),
        ("*bar.org", "suffix"),
        ("*", "any"),
        ("[::1]", "six"),
    ]
)


@pytest.mark.parametrize(
    ("authority", "found"),
    [
        (b"www.example.com", "exact"),
        (b"WWW.Example.COM", "exact"),
        (b"www.example.com:8080", "exact"),
        (b"www.example.com.", "exact"),
        (b"www.example.com.:80", "exact"),
        (b"www.example.com..", "any"),
        (b"a.example.com", "wildcard"),
        (b"a.c.example.com", "wildcard"),
        (b"a.b.example.com", "longer"),
        (b"example.com", "any"),
        (b".example.com", "any"),
        (b"foobar.org", "suffix"),
        (b"bar.org", "any"),
        (b"[::1]:80", "six"),
        (b"[::1]", "six"),
        (b"", "any"),
        (b"xwww.example.com.evil", "any"),
    ],
)
def test_find(authority: bytes, found: str) -> None:
    assert INDEX.find(authority) == found


def test_without_any_group() -> None:
    index = HostIndex([("a", 1)])
    assert index.find(b"b") is None
    assert index.find(b"A:1") == 1


def test_names_of_a_service() -> None:
    assert service_hosts("ns", "web") == ("web", "web.ns", "web.ns.svc", "web.ns.svc.cluster.local")


def test_normalising() -> None:
    assert normalise_host("WWW.Example.com.") == "www.example.com"
    assert normalise_host("bücher.example") == "xn--bcher-kva.example"
    assert normalise_authority(b"[::1") == b"[::1"
