"""Client bytes that nobody has looked at yet, and the request heads that are found in them.

Bounds what is kept, refuses what no further byte can mend, and looks at no byte twice: a head that comes byte by
byte, or ten thousand in one segment, cost no more than their size. Rules: RFC 9112 section 2.2 (empty lines), Envoy's
60 KiB of headers. Knows: bytes. Must not know: what a head says.
"""

from __future__ import annotations

from sidecar.lanes.grammar import NOT_IN_HEAD, OTHER_VERSION, REQUEST_LINE
from sidecar.lanes.http1.requests import RequestError


class HeadReader:
    """``len()`` is the number of bytes kept."""

    __slots__ = ("_at", "_data", "_line_checked", "_most", "_scanned", "_skipped")

    def __init__(self, most: int) -> None:
        self._most = most
        self._data = b""
        self._at = 0  # everything before is used up
        self._scanned = 0  # no head ends before here
        self._skipped = False  # the empty line before this head
        self._line_checked = False

    def __len__(self) -> int:
        return len(self._data) - self._at

    def push(self, data: bytes) -> None:
        """More bytes."""
        kept, at = self._data, self._at
        self._data = kept[at:] + data if at < len(kept) else data
        self._scanned -= at
        self._at = 0

    def take_all(self) -> bytes:
        """All that is kept, for whoever reads bodies."""
        data = self._data[self._at :]
        self.clear()
        return data

    def clear(self) -> None:
        """Forget everything."""
        self._data = b""
        self._at = self._scanned = 0

    def next_head(self) -> bytes | None:
        """A complete head, or None while there is none and there may still be one. Raises ``RequestError``."""
        data, at = self._data, self._at
        if at == len(data):
            return None
        if not self._skipped and data.startswith(b"\r\n", at):
            self._skipped = True  # one is skipped (RFC 9112 section 2.2), more are refused by the grammar
            self._at = at = at + 2
        end = data.find(b"\r\n\r\n", max(at, self._scanned))
        if end < 0:
            if at < len(data):
                self._check_unfinished()
            return None
        if end - at > self._most:
            raise RequestError("request head too large", 431)
        self._at = self._scanned = end + 4
        self._skipped = self._line_checked = False
        return data[at : end + 4]

    def _check_unfinished(self) -> None:
        data, at = self._data, self._at
        if len(data) - at > self._most:
            raise RequestError("request head too large", 431)
        if NOT_IN_HEAD.search(data, max(at, self._scanned)):
            raise RequestError("malformed request head")
        if not self._line_checked and data.find(b"\r\n", at) >= 0:
            if REQUEST_LINE.match(data, at) is None:
                if OTHER_VERSION.match(data, at):
                    raise RequestError("HTTP version not supported", 505)
                raise RequestError("malformed request line")
            self._line_checked = True
        self._scanned = max(at, len(data) - 3)
