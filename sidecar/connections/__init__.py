"""Connections: what listens, one client and its upstream, how many there may be, and how they end.

Knows: sockets and mitmproxy's server instances, through ``sidecar._mitmproxy``. Must not know: HTTP; a lane is handed
the bytes. ``proxy.Proxy`` is all of it for one worker.
"""
