"""How many clients a worker takes at a time.

Every client may need a second connection, to the application, and file descriptors are what runs out first: a process
without any can neither accept nor look at a policy. So the bound follows from them, as HAProxy's ``maxconn`` does from
``ulimit -n`` (nginx's ``worker_connections`` counts both sides in one figure). The soft limit is raised as far as that
takes, as Go and HAProxy do: container runtimes leave it at 1024 for the sake of ``select``, which nobody here calls.

Knows: limits of the process. Must not know: connections, or what becomes of one too many.
"""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger("eastgate.proxy")

MOST_CONNECTIONS = 10_000
"""Unless one asks for more. An idle client takes 10 to 20 KiB: 200 MB of the gigabyte that a sidecar's limit is. At the
edge Envoy advises 50,000 (``global_downstream_max_connections``); Debian's nginx has 768, both sides counted."""

RESERVED = 1024
"""Descriptors for everything else, above all the admin port and the probes that it passes on (``sidecar.admin``)."""


def find_capacity(asked: int | None = None) -> int:
    """The number of client connections there is room for, at most ``asked``; raises the soft limit for it."""
    wanted = MOST_CONNECTIONS if asked is None else asked
    room = _room_in(_raise_limit(2 * wanted + RESERVED))
    if asked is not None and room < asked:
        logger.warning("file descriptors for %d connections only, not for %d", room, asked)
    return min(wanted, room)


def _raise_limit(wanted: int) -> int:
    """Raise the soft limit of descriptors to ``wanted``, as far as the hard one permits; returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if raised <= soft:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    except (OSError, ValueError):
        return soft
    return raised


def _room_in(descriptors: int) -> int:
    """Connections for so many descriptors; where there are few, half of them are for everything else."""
    return max(1, (descriptors - min(RESERVED, descriptors // 2)) // 2)
