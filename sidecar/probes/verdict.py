"""What came of a probe."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY = 10 * 1024
"""Bytes of a body that are read (kubelet: ``maxRespBodyLength``)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``status`` is what the kubelet is told: it succeeds below 400. ``why`` is for people; ``body`` the app's.
    ``answered``: the app did.
    """

    status: int
    why: str
    body: bytes = b""
    answered: bool = True

    @property
    def well(self) -> bool:
        """Whether the app is."""
        return self.status < 400


class ProbeError(Exception):
    """The app could not be asked, or gave no answer that can be understood. ``str()`` says why, ``status`` how."""

    def __init__(self, why: str, status: int = 502) -> None:
        super().__init__(why)
        self.status = status
