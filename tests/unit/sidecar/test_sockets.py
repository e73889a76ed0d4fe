"""Which addresses are this host's own, as others see it."""

from __future__ import annotations

import socket

import pytest

from sidecar.sockets import is_own_address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.8.8",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "203.0.113.7",
        "2001:db8::1",
        "",
    ],
)
def test_neither_the_loopback_nor_somebody_elses(host: str) -> None:
    assert not is_own_address(host)
    assert not is_own_address(host), "nor the second time"


def test_an_address_of_an_interface() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.7", 9))  # sends nothing; the kernel chooses where it would send from
        except OSError:
            pytest.skip("no address but the loopback's")
        own = probe.getsockname()[0]
    assert is_own_address(own)
    assert is_own_address(own)
