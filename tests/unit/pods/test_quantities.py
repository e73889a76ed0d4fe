"""Quantities, as Kubernetes reads them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from eastgate.pods.quantities import read_cpu, read_memory, read_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("100m", Fraction(1, 10)),
        ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("+2", 2),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1e-3", Fraction(1, 1000)),
        ("1E", 10**18),
        ("128Mi", 128 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("1k", 1000),
        ("500M", 500_000_000),
        ("10n", Fraction(1, 10**8)),
        ("1u", Fraction(1, 10**6)),
        ("0", 0),
    ],
)
def test_read(text: str, number: Fraction) -> None:
    assert read_quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "1K",
        "1ki",
        "1kB",
        "1MB",
        "1mi",
        "lots",
        "1e",
        "1ee3",
        "-1",
        "1_000",
        "0x10",
        "1,5",
        ".",
        "1e3Mi",
        "8E999",
        "10E",
        "١",
    ],
)
def test_refuse(text: str) -> None:
    with pytest.raises(ValueError):
        read_quantity(text)


def test_amounts() -> None:
    assert read_cpu("250m") == Fraction(1, 4)
    assert read_memory("1e3") == 1000
    for text in ("0", "0m", "0.0001", "100u"):
        with pytest.raises(ValueError):
            read_cpu(text)
    with pytest.raises(ValueError, match="did you mean `400Mi`"):
        read_memory("400m")
    with pytest.raises(ValueError, match="whole bytes"):
        read_memory("0.3")
    with pytest.raises(ValueError, match="above 0"):
        read_memory("0")
