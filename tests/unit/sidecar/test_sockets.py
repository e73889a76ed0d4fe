"""Ports that are held until the workers have them, and which addresses are this host's own, as others see it."""

from __future__ import annotations

import socket

import pytest

from sidecar.sockets import bind_socket, claim_address, is_own_address
from tests.ports import free_port


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


def test_a_port_of_the_kernels_choice_is_nobody_elses_before_the_workers_have_it() -> None:
    """Two programs that were told the same port would each answer half of the other's clients."""
    with claim_address("127.0.0.1", 0) as (host, port):
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind((host, port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), 5)
        with bind_socket(host, port) as first, bind_socket(host, port) as second:
            assert first.getsockname() == second.getsockname() == (host, port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), 5)


def test_a_port_that_was_given_must_be_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        with pytest.raises(OSError, match="in use"), claim_address(*taken.getsockname()):
            pass
    with claim_address(*(address := ("127.0.0.1", free_port()))) as claimed:
        assert claimed == address
        with bind_socket(*address), bind_socket(*address):
            pass
