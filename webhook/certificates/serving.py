"""A leaf as a TLS server wants it: one context whose certificate changes under it.

Changing the certificate of a context that is in use is not one step (OpenSSL takes the certificate, then the key), and
a handshake between the two fails. So every leaf gets a context of its own, and the one that the server holds hands
each connection over to the newest as soon as it says hello. Connections that stand keep what they have.

Python's ``ssl`` reads keys from files only. The file here is memory without a name (``memfd_create``).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from webhook.certificates.leaf import Leaf
from webhook.connections.tls import open_context


class ServedLeaf:
    """``context`` always shows the leaf that was given last."""

    def __init__(self) -> None:
        self._newest: ssl.SSLContext | None = None
        self.context = open_context()
        self.context.sni_callback = self._hand_over

    def use(self, leaf: Leaf) -> None:
        """Show this leaf from the next connection on."""
        context = open_context()
        with _as_file(leaf.certificate_pem() + leaf.key_pem()) as file:
            context.load_cert_chain(file)
        self._newest = context

    def _hand_over(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> int | None:
        """Called with every hello, also with one that names no server."""
        newest = self._newest
        if newest is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = newest
        return None


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path that reads as ``content`` inside of the block."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("eastgate-tls", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{descriptor}"
        return
    with tempfile.NamedTemporaryFile(prefix="eastgate-tls-") as file:  # 0600, where there is no such memory
        file.write(content)
        file.flush()
        yield file.name
