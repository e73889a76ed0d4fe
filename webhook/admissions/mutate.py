"""``/mutate`` and ``/mutate/enforced``: a pod in, a patch, nothing, or a refusal out.

Two paths and not one, so that the namespace's label need not be looked up: the configuration has an entry for each
label, and which entry matched says which label it is. Nothing is asked and nothing is written here, so a dry run is
answered like any other.

A new pod is injected. A pod that is updated keeps the handlers that injection rewrote where its author applies the
original ones again; nothing else of it is touched, and it is never refused here.

Knows: which reviews are meant for injection, and how its three results are said. Must not know: how a pod is injected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from webhook.admissions.pod_reviews import read_object
from webhook.admissions.replicas import Replicas
from webhook.admissions.review import CREATE, UPDATE, Review, Verdict, allow, refuse
from webhook.admissions.tokens import make_token
from webhook.injections.pod import inject_pod
from webhook.injections.updates import restore_handlers
from webhook.injections.verdicts import Context, Injection, Refusal, Skip

LOG = logging.getLogger(__name__)


def inject_with_token(pod: Mapping[str, object], context: Context) -> Injection | Skip | Refusal:
    """What becomes of a pod. With hooks it gets a new token; replicas may share one (``replicas``)."""
    return inject_pod(pod, context, make_token)


type Inject = Callable[[Mapping[str, object], Context], Injection | Skip | Refusal]

_encode = msgspec.json.Encoder().encode


def mutate_pod(
    review: Review,
    pod: Mapping[str, object],
    context: Context,
    *,
    inject: Inject = inject_with_token,
    replicas: Replicas | None = None,
) -> Verdict:
    """The verdict on a pod. ``context`` is that of its namespace; ``replicas`` remembers verdicts on pods like it."""
    if review.kind.kind != "Pod" or review.kind.group or review.subResource:
        return allow("not-a-pod", outcome="skipped")
    if review.operation == UPDATE:
        return _restore(review, pod)
    if review.operation != CREATE:
        return allow("not-a-new-pod", outcome="skipped")
    if replicas is None:
        return _judge(pod, context, inject)
    return replicas.judge(pod, context, lambda: _judge(pod, context, inject))


def _judge(pod: Mapping[str, object], context: Context, inject: Inject) -> Verdict:
    result = inject(pod, context)
    if isinstance(result, Injection):
        if not result.patch:
            return allow("nothing-left-to-do", outcome="unchanged", warnings=result.warnings)
        return Verdict(
            allowed=True,
            outcome="patched",
            reason="injected",
            patch=_encode(result.patch),
            warnings=result.warnings,
        )
    if isinstance(result, Skip):
        return Verdict(
            allowed=True,
            outcome="skipped",
            reason=result.reason,
            warnings=result.warnings,
            annotations={"message": result.message},
        )
    return refuse(result.reason, result.messages)


def _restore(review: Review, pod: Mapping[str, object]) -> Verdict:
    """A pod that exists: nothing can be added any more, and what was rewritten stays so (``injections.updates``)."""
    old = read_object(review.oldObject)
    try:
        patch = restore_handlers(pod, old) if isinstance(old, dict) else ()
    except Exception:
        # A convenience: without it the API server says what it says. A pod must stay one that can be updated, if only
        # for its finalizers to go.
        LOG.exception("handlers were not restored")
        return allow("not-restored", outcome="error")
    if not patch:
        return allow("nothing-left-to-do", outcome="unchanged")
    return Verdict(allowed=True, outcome="patched", reason="applied-again", patch=_encode(patch))


def name_pod(pod: Mapping[str, object], review: Review) -> str:
    """The pod's name for logs. One that a controller makes has none yet: what its name will begin with."""
    metadata = pod.get("metadata")
    fields: Mapping[str, object] = metadata if isinstance(metadata, Mapping) else {}
    for value in (review.name, fields.get("name"), fields.get("generateName")):
        if isinstance(value, str) and value:
            return value
    return ""
