"""Connections of the API server to the webhook: TLS, HTTP/1.1, turns on an event loop, within bounds.

Knows: bytes and a WSGI application. Must not know: admission, pods or policies. See ``docs/decisions/0005``.
"""
