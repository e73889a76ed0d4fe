"""Addresses that a JWKS is never fetched from."""

import asyncio

import pytest

from sidecar.jwks.addresses import AddressRefusedError, refuse_address, resolve_host


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "239.1.1.1", "255.255.255.255",
        "100.100.100.200", "::", "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "fd20:ce::254",
        "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe", "not an address", "",
    ],
)  # fmt: skip
def test_refused(address: str) -> None:
    assert refuse_address(address, block_loopback=False)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "100.64.0.1", "2001:db8::1", "fd00::1"])
def test_allowed(address: str) -> None:
    assert not refuse_address(address, block_loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_a_setting(address: str) -> None:
    assert not refuse_address(address, block_loopback=False)
    assert refuse_address(address, block_loopback=True)


def test_names_are_judged_by_what_they_resolve_to() -> None:
    assert "127.0.0.1" in asyncio.run(resolve_host("localhost", 80, block_loopback=False))
    with pytest.raises(AddressRefusedError, match="address refused"):
        asyncio.run(resolve_host("localhost", 80, block_loopback=True))


@pytest.mark.parametrize("spelling", ["0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "169.254.43518"])
def test_odd_spellings_of_the_metadata_address(spelling: str) -> None:
    with pytest.raises((AddressRefusedError, OSError)):
        asyncio.run(resolve_host(spelling, 80, block_loopback=False))
