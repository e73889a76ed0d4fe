"""How the sidecar, without any rights, tells that its pod is redirected.

The rules lead its own connections to a port where nobody listens to its admin port (``rules``); so a connection that
is accepted there proves them, and one that is refused proves that they are missing. They came into force in one
transaction with those that matter. The rules of both families are asked, where the pod has both.
"""

from __future__ import annotations

import asyncio
import contextlib

from sidecar.redirections.rules import PROOF_PORT

TIMEOUT_SECONDS = 1.0


async def find_gap(port: int = PROOF_PORT) -> str:
    """What is missing, or an empty string when the pod is redirected."""
    for host in ("127.0.0.1", "::1"):
        problem = await _try(host, port)
        if problem:
            return f"redirection is not in place for {host}: {problem}"
    return ""


async def _try(host: str, port: int) -> str:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return "no answer"
    except OSError as error:
        if host == "::1" and not isinstance(error, ConnectionRefusedError):
            return ""  # a pod without IPv6 has no such address
        return error.strerror or str(error)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ""
