"""Port lists."""

from __future__ import annotations

import pytest

from eastgate.pods.ports import NO_PORTS, PortSet, read_ports


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("8080", ((8080, 8080),)),
        ("8080,9000-9010", ((8080, 8080), (9000, 9010))),
        (" 9000 - 9010 ,\n 8080", ((8080, 8080), (9000, 9010))),
        ("1-65535", ((1, 65535),)),
        ("80,81,82-90,85", ((80, 90),)),
        ("00080", ((80, 80),)),
    ],
)
def test_read(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    ports = read_ports(text)
    assert ports.ranges == ranges
    assert read_ports(str(ports)) == ports


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("80,", "empty entry"),
        (",80", "empty entry"),
        ("0", "`0` is not within 1-65535"),
        ("65536", "`65536` is not within"),
        ("9-8", "`9-8` ends before it begins"),
        ("http", "`http` is no port"),
        ("80 81", "`80 81` is no port"),
        ("-80", "`-80` is no port"),
        ("80-", "`80-` is no port"),
        ("*", "`*` is no port"),
        ("80-81-82", "no port"),
        ("٨٠", "no port"),
        ("8080.0", "no port"),
        ("1" * 4000, "no port"),
        (",".join(["80"] * 129), "more than 128 entries"),
    ],
)
def test_refuse(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("*", r"\*")):
        read_ports(text)


def test_sets() -> None:
    ports = read_ports("8080,9000-9010")
    assert 8080 in ports
    assert 9005 in ports
    assert 8081 not in ports
    assert "8080" not in ports
    assert list(read_ports("80-82,90")) == [80, 81, 82, 90]
    assert ports & read_ports("9010-9020,8000-8100") == read_ports("8080,9010")
    assert ports | read_ports("8081") == read_ports("8080-8081,9000-9010")
    assert PortSet.of([3, 1, 2, 2]) == read_ports("1-3")
    assert not NO_PORTS
    assert str(NO_PORTS) == ""
