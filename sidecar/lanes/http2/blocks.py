"""Field blocks of the client, and the request heads that they are.

A client that keeps its connection sends the same block for the same request: a few are remembered with what they mean,
as long as the field table is the one that they were read with.

Knows: blocks. Must not know: frames, streams, decisions.
"""

from __future__ import annotations

from sidecar.lanes.http2.fields import FieldDecoder, FieldsError, FieldsTooLargeError
from sidecar.lanes.http2.frames import COMPRESSION_ERROR, Http2Error
from sidecar.lanes.http2.heads import Head, read_head
from sidecar.options import Limits

_MEMO_HEADS = 32
_MEMO_BLOCK = 2048
"""Heads remembered by their block, a connection; a browser-sized head with a token fits."""


class BlockReader:
    """One connection's. A block that cannot be decoded ends it (``Http2Error``): the table is in doubt."""

    __slots__ = ("_decoder", "_memo", "_memo_version", "_peer", "_port")

    def __init__(self, limits: Limits, port: int, peer: str) -> None:
        self._decoder = FieldDecoder(limits.head_bytes, limits.head_fields)
        self._port = port
        self._peer = peer
        self._memo: dict[bytes, Head] = {}
        self._memo_version = 0

    def read_head(self, block: bytes) -> Head:
        """Decode and check. A block that leaves the table as it was means the same until the table changes."""
        decoder = self._decoder
        memo = self._memo
        if self._memo_version == decoder.version:
            head = memo.get(block)
            if head is not None:
                return head
        head = read_head(self.decode(block), self._port, self._peer)
        if self._memo_version != decoder.version:
            self._memo_version = decoder.version
            memo.clear()
        elif len(block) <= _MEMO_BLOCK:
            if len(memo) >= _MEMO_HEADS:
                memo.clear()
            memo[block] = head
        return head

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a block that is no request head. Raises ``FieldsTooLargeError`` where they are too many."""
        try:
            return self._decoder.decode(block)
        except FieldsError as error:
            raise Http2Error(COMPRESSION_ERROR, str(error)) from None

    def skip(self, block: bytes) -> None:
        """Keep the table in step with the client's."""
        try:
            self.decode(block)
        except FieldsTooLargeError:
            return
