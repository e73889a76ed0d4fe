"""Puts the applications and the example manifests inside the wheel; an editable install finds them in the checkout.

Hatchling calls this. See docs/decisions/0001-packaging.md.
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = {
    "sidecar": "eastgate/_applications/sidecar",
    "webhook": "eastgate/_applications/webhook",
    "manifests/examples": "eastgate/demonstrations/manifests",
}


class CarryApplications(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``CARRIED`` to a standard wheel, and nothing to an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is written; ``version`` is ``standard`` or ``editable``."""
        if version == "standard":
            build_data["force_include"].update(CARRIED)
