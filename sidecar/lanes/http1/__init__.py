"""The HTTP/1 lane: one request at a time from its client, decided on its head alone, relayed both ways as it comes.

Heads are read strictly and written anew; what could be read in two ways is refused. Rooms: ``heads`` (bytes to a
complete head), ``requests`` and ``responses`` (a head read and written), ``answers`` (our own), ``exchange`` (one
request and its response), ``session`` (how connections go on and end); ``lane`` (the layer).
Rules: RFC 9112, RFC 9110.
"""

from sidecar.lanes.http1.lane import Http1Lane

__all__ = ["Http1Lane"]
