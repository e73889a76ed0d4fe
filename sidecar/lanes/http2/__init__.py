"""The HTTP/2 lane: a frame relay with a gate in the way of request heads.

One upstream connection a client connection, stream ids kept. DATA, WINDOW_UPDATE, PING, RST_STREAM and GOAWAY pass as
they are, so flow control and graceful shutdown stay end to end; response heads pass undecoded. Request heads are
decoded, judged, and written anew. Rooms, from bytes to sockets: ``frames``, ``huffman``, ``fields`` (HPACK), ``heads``,
``blocks``, ``settings``, ``window``, ``floods``, ``streams``, ``answers``; ``session``, ``control``, ``requests`` and
``responses`` (the protocol, sans-io); ``lane`` (the layer).
Rules: RFC 9113, RFC 7541, RFC 9110; gRPC's PROTOCOL-HTTP2.
"""

from sidecar.lanes.http2.lane import Http2Lane

__all__ = ["Http2Lane"]
