"""The secret between a pod's kubelet and its sidecar, without which nobody runs the app's hooks.

Knows: how one is made. Must not know: where it goes. It is no name, no digest of the pod, and nothing that is known
outside of it: manifests are public, and what can be computed from one can be computed by anybody.
"""

from __future__ import annotations

import secrets

_BYTES = 16
"""As many as a random UUID has, and then some (RFC 9562: 122 bits)."""


def make_token() -> str:
    """32 hexadecimal digits (``eastgate.pods.probes.is_token``)."""
    return secrets.token_hex(_BYTES)
