"""What goes wrong with the application, in a fixed list of words: the metric's label, and the log's.

The words follow Envoy's response flags (UF, UC, UPE), with the reasons for a failed connection told apart, because they
have different remedies. Knows: the words, and which of them an error of the operating system is. Must not know: lanes,
sockets, who counts.
"""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import NamedTuple


class UpstreamFailure(StrEnum):
    """Why a request that was allowed has no answer of the application's, or not all of it."""

    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_UNREACHABLE = "connect_unreachable"
    CONNECT_FAILED = "connect_failed"
    CLOSED_EARLY = "closed_before_response"
    PROTOCOL_ERROR = "protocol_error"
    RESPONSE_CUT = "response_cut"

    @property
    def text(self) -> str:
        """The word in words."""
        return _TEXTS[self]


_TEXTS = {
    UpstreamFailure.CONNECT_REFUSED: "the application refused the connection",
    UpstreamFailure.CONNECT_TIMEOUT: "the application did not take the connection in time",
    UpstreamFailure.CONNECT_UNREACHABLE: "the application's address cannot be reached",
    UpstreamFailure.CONNECT_FAILED: "no connection to the application",
    UpstreamFailure.CLOSED_EARLY: "the application closed the connection instead of answering",
    UpstreamFailure.PROTOCOL_ERROR: "the application's answer breaks the protocol",
    UpstreamFailure.RESPONSE_CUT: "the application's answer stopped short of its end",
}


class UpstreamError(NamedTuple):
    """One request, or one opaque connection, that came to nothing. ``upstream`` is (host, port), ``route`` empty where
    none matched, ``detail`` our own text or the system's, never the peer's bytes.
    """

    failure: UpstreamFailure
    upstream: tuple[str, int] | None
    route: str = ""
    detail: str = ""


def describe_problem(error: OSError) -> str:
    """Why a connection was not made: a word, a colon, and the system's text."""
    if isinstance(error, TimeoutError):
        return f"{UpstreamFailure.CONNECT_TIMEOUT}: {error.strerror or ''}"
    failure = _OF_ERRNO.get(error.errno or 0, UpstreamFailure.CONNECT_FAILED)
    return f"{failure}: {error.strerror or type(error).__name__}"


_OF_ERRNO = {
    errno.ECONNREFUSED: UpstreamFailure.CONNECT_REFUSED,
    errno.ETIMEDOUT: UpstreamFailure.CONNECT_TIMEOUT,
    errno.EHOSTUNREACH: UpstreamFailure.CONNECT_UNREACHABLE,
    errno.ENETUNREACH: UpstreamFailure.CONNECT_UNREACHABLE,
}


def read_problem(problem: str) -> tuple[UpstreamFailure, str]:
    """The word and the text of ``describe_problem``; of any other text, what can be said of it."""
    word, _, detail = problem.partition(": ")
    try:
        return UpstreamFailure(word), detail
    except ValueError:
        return UpstreamFailure.CONNECT_FAILED, problem
