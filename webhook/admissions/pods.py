"""``/validate/pods`` and ``/validate/pods/enforced``: what is changed about a pod that runs already.

The sidecar follows some annotations as it runs; the others were used up when the pod was made, and whoever changes
them should know that nothing comes of it. Only what a change brings is judged: a pod that is as it was, or is being
deleted, or is written to by kubelet, is never refused.

An ephemeral container with the sidecar's own user or one of its volumes could reach into the sidecar: its memory, or
the key sets that it keeps. Rights with which one could take the redirection away are refused in `enforced` namespaces,
by an admission policy that needs no webhook: `kubectl debug` has to work while this one is away.

Knows: annotations, users and volumes of pods. Must not know: how pods are injected, or what the sidecar does with the
values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from eastgate.pods import names
from eastgate.pods.annotations import SETTINGS_KEYS, read_settings
from webhook.admissions.review import UPDATE, Review, Verdict, allow, refuse

FOLLOWED: Final = frozenset({names.POLICIES, names.MODE, names.UNMATCHED})
"""What the sidecar reads from the downward API while it runs."""

_EPHEMERAL: Final = "ephemeralcontainers"
_USERS: Final = ("runAsUser", "runAsGroup")


def judge_pod_update(
    review: Review, pod: Mapping[str, object], before: Mapping[str, object], *, enforced: bool
) -> Verdict:
    """The verdict on an update of a pod, or of its ephemeral containers."""
    if review.operation != UPDATE or review.kind.kind != "Pod" or review.kind.group:
        return allow("not-an-update", outcome="skipped")
    if review.subResource == _EPHEMERAL:
        faults = list(_judge_ephemeral(pod, before))
        return refuse(faults[0][0], (message for _, message in faults)) if faults else allow("fine")
    if review.subResource:
        return allow("subresource", outcome="skipped")
    if _metadata(pod).get("deletionTimestamp"):
        return allow("being-deleted", outcome="skipped")
    return _judge_annotations(pod, before, enforced=enforced)


def _judge_annotations(pod: Mapping[str, object], before: Mapping[str, object], *, enforced: bool) -> Verdict:
    old, new = _annotations(before), _annotations(pod)
    changed = [key for key in dict.fromkeys((*old, *new)) if _is_ours(key) and old.get(key) != new.get(key)]
    if not changed:
        return allow("unchanged", outcome="skipped")
    _, faults = read_settings(new)
    messages = [str(fault) for fault in faults if fault.key in changed]
    if messages:
        return refuse("bad-annotation", messages)
    if enforced and names.POLICIES in changed and names.POLICIES not in new:
        message = (
            f"{names.POLICIES}: must not be removed: the namespace is labelled {names.INJECTION_LABEL}={names.ENFORCED}"
            f'; accepted: names of JWTPolicies, or "*" for all of the namespace (it was `{old[names.POLICIES]}`)'
        )
        return refuse("enforced", [message])
    return allow("fine", warnings=_warn(changed, new, injected=_is_injected(pod)))


def _warn(changed: list[str], new: Mapping[str, object], *, injected: bool) -> Iterator[str]:
    written = [key for key in changed if key in SETTINGS_KEYS]
    if not injected:
        if written:
            yield f"the pod has no sidecar: {', '.join(written)} takes effect when the pod is created anew"
        return
    late = [key for key in written if key not in FOLLOWED]
    if late:
        yield f"{', '.join(late)}: used when the pod is created, and has no effect until it is created anew"
    if names.POLICIES in changed and names.POLICIES not in new:
        yield f"{names.POLICIES} is removed: the sidecar stays until the pod is created anew"


def _judge_ephemeral(pod: Mapping[str, object], before: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Reason and message of each fault."""
    known = {one.get("name") for one in _ephemeral(before)}
    for container in _ephemeral(pod):
        if container.get("name") in known:
            continue  # nobody can change or remove it any more
        place = f"spec.ephemeralContainers[{container.get('name')}]"
        security = container.get("securityContext")
        for field in _USERS:
            if isinstance(security, Mapping) and security.get(field) == names.PROXY_ID:
                message = "is the sidecar's own: the container could reach into it; accepted: any other id"
                yield "proxy-user", f"{place}.securityContext.{field}: `{names.PROXY_ID}` {message}"
        mounts = container.get("volumeMounts")
        for mount in mounts if isinstance(mounts, list) else ():
            if isinstance(mount, Mapping) and mount.get("name") in names.VOLUMES:
                message = f"`{mount['name']}` is a volume of the sidecar; accepted: any other"
                yield "proxy-volume", f"{place}.volumeMounts: {message}"


def _ephemeral(pod: Mapping[str, object]) -> list[Mapping[str, object]]:
    return _containers(pod, "ephemeralContainers")


def _is_injected(pod: Mapping[str, object]) -> bool:
    return any(
        one.get("name") == names.SIDECAR_CONTAINER
        for field in ("initContainers", "containers")
        for one in _containers(pod, field)
    )


def _containers(pod: Mapping[str, object], field: str) -> list[Mapping[str, object]]:
    spec = pod.get("spec")
    found = spec.get(field) if isinstance(spec, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _is_ours(key: str) -> bool:
    return key.startswith(names.PREFIX) and key not in (names.STATUS, names.BUNDLE)


def _annotations(pod: Mapping[str, object]) -> Mapping[str, object]:
    found = _metadata(pod).get("annotations")
    return found if isinstance(found, Mapping) else {}


def _metadata(pod: Mapping[str, object]) -> Mapping[str, object]:
    found = pod.get("metadata")
    return found if isinstance(found, Mapping) else {}
