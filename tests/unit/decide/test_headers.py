"""Claims as headers."""

from __future__ import annotations

import pytest

from eastgate.decide.headers import Statement, settle_statements, state_claims
from eastgate.model.policies import ClaimHeader
from tests.unit.decide.scenes import provider


def test_claims_are_stated_in_the_order_of_the_policy() -> None:
    headers = (ClaimHeader("X-Org", "org", ("org",)), ClaimHeader("x-gone", "gone", ("gone",)))
    stated = state_claims(provider(claim_headers=headers, payload_header="x-payload"), {"org": ["a"]}, b"abc")
    assert stated == (
        Statement(b"x-org", b"WyJhIl0=", False, b","),
        Statement(b"x-payload", b"abc", False, b""),
    )


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\x00b", "\x7f", "\ud800"])
def test_what_is_no_header_value_is_an_error(value: str) -> None:
    headers = (ClaimHeader("x-org", "org", ("org",)),)
    with pytest.raises(ValueError):
        state_claims(provider(claim_headers=headers), {"org": value}, b"")


def test_settling() -> None:
    def one(value: bytes, append: bool, delimiter: bytes = b",") -> tuple[Statement, ...]:
        return (Statement(b"h", value, append, delimiter),)

    assert settle_statements([]) == ()
    assert settle_statements([one(b"2", False), one(b"1", False)]) == ((b"h", b"1"),)
    assert settle_statements([one(b"2", True), one(b"1", True)]) == ((b"h", b"2,1"),)
    assert settle_statements([one(b"2", True, b""), one(b"1", True, b"")]) == ((b"h", b"2"), (b"h", b"1"))
    assert settle_statements([one(b"2", True), one(b"1", False), one(b"0", True)]) == ((b"h", b"1,0"),)
