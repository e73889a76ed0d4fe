"""What verified tokens say to the application: claims and payloads as request headers.

Several tokens may speak: they are taken from the last extracted to the first, so that the first one's word stands where
claims replace each other. The client's own copies are removed elsewhere (``Plan.asserted``), whatever happens here.
Must not know: how a token was found or verified. Rules: Envoy's claim_to_headers and forward_payload_header; Gloo's
``claimsToHeaders`` (``append`` joins).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from eastgate.decide.claim_values import claim_header_value, find_claim
from eastgate.model.policies import Provider

HeaderPairs = tuple[tuple[bytes, bytes], ...]


class Statement(NamedTuple):
    """One header that one token asks for. ``delimiter`` is what appending joins with; empty adds a second field."""

    name: bytes
    value: bytes
    append: bool
    delimiter: bytes


def state_claims(provider: Provider, claims: Mapping[str, object], payload: bytes) -> tuple[Statement, ...]:
    """The headers that a provider makes of a token. Raises ``ValueError`` for a claim that is no header value."""
    stated = []
    for header in provider.claim_headers:
        value = claim_header_value(find_claim(claims, header.claim, header.path))
        if value is not None:
            stated.append(Statement(header.header.lower().encode(), value, header.append, header.delimiter.encode()))
    if provider.payload_header:
        stated.append(Statement(provider.payload_header.lower().encode(), payload, append=False, delimiter=b""))
    return tuple(stated)


def settle_statements(tokens: Iterable[tuple[Statement, ...]]) -> HeaderPairs:
    """The header fields of all tokens together; ``tokens`` from the last extracted to the first."""
    settled: dict[bytes, list[bytes]] = {}
    for statements in tokens:
        for statement in statements:
            values = settled.get(statement.name)
            if values is None or not statement.append:
                settled[statement.name] = [statement.value]
            elif statement.delimiter:
                values[-1] += statement.delimiter + statement.value
            else:
                values.append(statement.value)
    return tuple((name, value) for name, values in settled.items() for value in values)
