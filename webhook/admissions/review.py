"""AdmissionReview ``admission.k8s.io/v1``: bytes to a frozen ``Review``, and a ``Verdict`` back to bytes.

Knows the envelope exactly, and what the API server makes of an answer. Must not know what is being reviewed, Flask, or
where bytes come from. Rules: ``k8s.io/api/admission/v1`` and "Dynamic Admission Control" of the Kubernetes documents.

What is not a review gets an HTTP status (``NotAReviewError``); whatever is one gets an answer with its uid, always.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

MAX_BODY: Final = 7 * 1024 * 1024
"""Bytes. The API server takes objects of 3 MiB; an update carries two, and a little around them. controller-runtime
draws its line at the same place."""

MAX_WARNING: Final = 256
MAX_WARNINGS: Final = 4096
"""Characters of one warning, and of all of them; the API server cuts off what is longer."""

MAX_MESSAGE: Final = 8192
"""Characters. What is longer than this nobody reads in a terminal; the API server has no limit of its own."""

TOO_DEEP: Final = "the document is nested more deeply than any object of the API server"

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"

_JSON: Final = "application/json"
_NULL: Final = msgspec.Raw(b"null")


class NotAReviewError(Exception):
    """The request is not an AdmissionReview v1; ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class GroupKind(msgspec.Struct, frozen=True):
    """``metav1.GroupVersionKind``. Lists of numbers in the type of a field would be read as one."""

    group: str
    version: str
    kind: str


class Review(msgspec.Struct, frozen=True, gc=False):
    """``AdmissionRequest``: what this webhook needs of it. ``object`` and ``oldObject`` are JSON, not read yet."""

    uid: str
    kind: GroupKind
    operation: str
    subResource: str = ""  # noqa: N815 (the API's own spelling, here and below)
    name: str = ""
    namespace: str = ""
    object: msgspec.Raw = _NULL
    oldObject: msgspec.Raw = _NULL  # noqa: N815
    dryRun: bool | None = None  # noqa: N815


class Version(msgspec.Struct, frozen=True):
    """What every object of Kubernetes says about itself."""

    apiVersion: str = ""  # noqa: N815
    kind: str = ""


class Envelope[Request](Version, frozen=True, gc=False):
    """The document around a request."""

    request: Request | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is answered. ``reason`` is a short stable word, for metrics, logs and the audit log."""

    allowed: bool
    outcome: str
    reason: str
    message: str = ""
    code: int = 0
    patch: bytes | None = None
    warnings: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Audit annotations beside ``outcome`` and ``reason``. Bare names: the API server puts ours before them."""


def allow(reason: str, *, outcome: str = "allowed", warnings: Iterable[str] = ()) -> Verdict:
    """Let it pass as it is."""
    return Verdict(allowed=True, outcome=outcome, reason=reason, warnings=tuple(warnings))


def refuse(reason: str, messages: Iterable[str], *, warnings: Iterable[str] = ()) -> Verdict:
    """Refuse, one fault a line. 403 whatever the fault is: on 422 (Invalid) ``kubectl apply --force`` deletes the
    object that is there in order to create the one that is refused.
    """
    lines = tuple(dict.fromkeys(messages))
    message = lines[0] if len(lines) == 1 else f"{len(lines)} faults:\n" + "\n".join(f"- {line}" for line in lines)
    return Verdict(allowed=False, outcome="refused", reason=reason, message=message, code=403, warnings=tuple(warnings))


def fail(fault: str) -> Verdict:
    """Something broke here. It is refused, and ``fault`` finds the record in the log."""
    message = f"internal error in eastgate (fault {fault}): nothing was decided; the webhook's log says more"
    return Verdict(allowed=False, outcome="error", reason="internal-error", message=message, code=500)


def check_request(content_type: str, size: int) -> None:
    """Raise ``NotAReviewError`` for what need not even be looked into."""
    if content_type.partition(";")[0].strip().lower() != _JSON:
        shown = "".join(one for one in content_type[:80] if one.isprintable())
        raise NotAReviewError(415, f"content type `{shown}` is not accepted; accepted: {_JSON}")
    if size > MAX_BODY:
        raise NotAReviewError(413, f"the request has {size} bytes; accepted: at most {MAX_BODY}")
    if size == 0:
        raise NotAReviewError(400, f"the request is empty; accepted: an {KIND} of {API_VERSION}")


_decode_review = msgspec.json.Decoder(Envelope[Review]).decode
_decode_version = msgspec.json.Decoder(Version).decode


def parse_review(body: bytes) -> Review:
    """The request in an AdmissionReview. Raises ``NotAReviewError``, and nothing else."""
    try:
        return open_envelope(_decode_review(body))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise explain_body(body, error) from None


def open_envelope[Request](envelope: Envelope[Request]) -> Request:
    """The request, when what is around it is what it should be. Raises ``NotAReviewError``."""
    _check_version(envelope)
    request = envelope.request
    if request is None:
        raise NotAReviewError(400, "`request` is missing: this is no question; accepted: a review with a request")
    if not getattr(request, "uid", ""):
        raise NotAReviewError(400, "`request.uid` is empty: an answer without one is not accepted by anybody")
    return request


def _check_version(version: Version) -> None:
    if version.apiVersion != API_VERSION or version.kind != KIND:
        said = f"{version.apiVersion[:80]} {version.kind[:80]}".strip()
        shown = "".join(one for one in said if one.isprintable()) or "no apiVersion and kind"
        raise NotAReviewError(400, f"found `{shown}`; accepted: {KIND} of {API_VERSION}")


def explain_body(body: bytes, error: Exception) -> NotAReviewError:
    """Why a body could not be read. The version goes first: in another one other fields are to be expected."""
    try:
        _check_version(_decode_version(body))
    except NotAReviewError as refusal:
        return refusal
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        pass  # the first error has told the same
    if isinstance(error, RecursionError):
        return NotAReviewError(400, TOO_DEEP)
    if isinstance(error, msgspec.MsgspecError):  # it names the place and the type, never the value
        return NotAReviewError(400, f"not an {KIND}: {error}")
    return NotAReviewError(400, f"not an {KIND}: the text is not UTF-8")


_encode = msgspec.json.Encoder().encode


def render_response(uid: str, verdict: Verdict) -> bytes:
    """The answer as the API server reads it."""
    response: dict[str, object] = {"uid": uid, "allowed": verdict.allowed}
    if verdict.allowed and verdict.patch is not None:
        response["patchType"] = "JSONPatch"
        response["patch"] = msgspec.Raw(b'"%b"' % binascii.b2a_base64(verdict.patch, newline=False))
    if not verdict.allowed:
        response["status"] = {
            "status": "Failure",
            "code": verdict.code,
            "reason": _REASONS.get(verdict.code, "Forbidden"),
            "message": shorten(verdict.message, MAX_MESSAGE),
        }
    warnings = bound_warnings(verdict.warnings)
    if warnings:
        response["warnings"] = warnings
    response["auditAnnotations"] = {
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        **{key: shorten(value, 1024) for key, value in verdict.annotations.items()},
    }
    return _encode({"apiVersion": API_VERSION, "kind": KIND, "response": response})


_REASONS: Final = {403: "Forbidden", 500: "InternalError"}
"""``metav1.StatusReason``; kubectl shows it in parentheses."""


def bound_warnings(warnings: Iterable[str]) -> list[str]:
    """Warnings as the API server passes them on: one line each, each once, within its limits. What does not fit is
    counted in the last one.
    """
    found = [shorten(" ".join(_clean(one).split()), MAX_WARNING) for one in dict.fromkeys(warnings)]
    kept: list[str] = []
    room = MAX_WARNINGS - MAX_WARNING
    for place, one in enumerate(found):
        if not one:
            continue
        if len(one) > room:
            kept.append(f"and {len(found) - place} more; `eastgate lint` shows all of them")
            break
        kept.append(one)
        room -= len(one)
    return kept


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters, the last of which tells that there were more."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _clean(text: str) -> str:
    """Warnings travel in a header: what cannot be printed is shown as an escape."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
