"""Lanes: one sans-io mitmproxy layer a protocol, from bytes to a request head, and from a decision back to bytes.

Knows: HTTP/1.1 and HTTP/2 framing, back-pressure, limits. Must not know: policies; a lane hands a ``Request`` to the
gate and applies the ``Decision``. A lane forwards only bytes it wrote itself for heads, and only after a decision.
Any exception in a lane answers 503 where it still can, and closes; it never forwards.
"""
