"""A request as the decision sees it: bytes, parsed once by a lane, never reparsed.

Knows nothing of HTTP versions beyond a name. Whoever builds one has already refused what cannot be parsed without
doubt; ``decide`` still canonicalises the target, so that what is matched is what is forwarded.
"""

from __future__ import annotations

from typing import NamedTuple


class Request(NamedTuple):
    """``target`` is the origin-form (``/path?query``), ``authority`` the Host or :authority as sent.

    ``headers`` are (name in lower case, value without surrounding white space), in order, without Host and pseudo
    headers. ``port`` is the destination port the client dialled (0 where there is none, as in ``explain``).
    ``peer`` is the textual address of the TCP peer.
    """

    method: bytes
    target: bytes
    authority: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    port: int = 0
    peer: str = ""
    scheme: bytes = b"http"
    protocol: str = "HTTP/1.1"
