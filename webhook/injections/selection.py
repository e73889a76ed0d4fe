"""Which pods are injected: the one table that everything else follows.

| pod | namespace ``enabled`` | namespace ``enforced`` |
|---|---|---|
| mirror pod, or in a namespace of the system or our own | skipped | skipped |
| label ``eastgate.dev/inject: "false"`` | skipped | refused |
| that label with another value than ``"true"`` | refused | refused |
| ``hostNetwork: true`` | skipped | refused |
| a bad or unknown ``eastgate.dev/*`` annotation | refused | refused |
| no ``eastgate.dev/policies`` | skipped | refused |
| Windows | refused | refused |
| else | injected | injected |

A mirror pod is the shadow of a static pod that runs already: refusing it hides it and stops nothing. Without policies a
sidecar has nothing to enforce, so an ``enforced`` namespace asks for the annotation; ``"*"`` takes whatever there is.
"""

from __future__ import annotations

from collections.abc import Mapping

from eastgate.model.diagnostics import suggest_name
from eastgate.pods import names
from eastgate.pods.annotations import SETTINGS_KEYS, Settings, quote, read_settings
from webhook.injections.verdicts import Context, Path, Problem, Skip
from webhook.injections.views import PodView, map_of, maps_of

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

EXEMPT_NAMESPACES = frozenset({names.SYSTEM_NAMESPACE, "kube-system", "kube-public", "kube-node-lease"})
"""Whatever their labels say: a control plane that needs itself in order to start never starts."""

_OS_LABELS = ("kubernetes.io/os", "beta.kubernetes.io/os")

_MISPLACED = frozenset((*SETTINGS_KEYS, names.INJECTION_LABEL))
"""Among the labels of a pod they have no effect."""


def select(view: PodView, context: Context) -> Skip | tuple[Settings, list[Problem]]:
    """The skip, or the settings with every reason why the pod must be refused."""
    if MIRROR_ANNOTATION in view.annotations:
        return Skip("mirror", "a mirror pod shows a static pod, which runs already")
    if context.namespace in EXEMPT_NAMESPACES:
        return Skip("exempt-namespace", f"pods of the namespace `{context.namespace}` are never injected")
    problems = _judge_labels(view.labels, context)
    label = view.labels.get(names.INJECT_LABEL)
    if label == "false" and not context.enforced:
        return Skip("opted-out", f"label `{names.INJECT_LABEL}` is `false`")
    if view.spec.get("hostNetwork") is True:
        if not context.enforced:
            return _skip_host_network(view)
        message = (
            "spec.hostNetwork: `true` is not accepted in this namespace, which admits no pod without a sidecar, and "
            "the traffic of a node is not intercepted; accepted: a pod network of its own"
        )
        problems.append(Problem("host-network", message, ("spec", "hostNetwork")))
    settings, faults = read_settings(view.annotations)
    problems += [Problem("bad-annotation", str(fault), _annotation(fault.key)) for fault in faults]
    if settings.policies is None and names.POLICIES not in view.annotations:
        if context.enforced and label != "false":
            message = (
                f"annotation `{names.POLICIES}` is missing, and this namespace admits no pod without a sidecar; "
                'accepted: the names of JWTPolicies, or "*" for all of the namespace'
            )
            problems.append(Problem("no-policies", message, ("metadata", "annotations")))
        elif not problems:
            return Skip("no-policies", f"it has no annotation `{names.POLICIES}`", _doubts(view))
    if settings.policies is not None or context.enforced:
        problems += _judge_platform(view)
    return settings, problems


def _judge_labels(labels: Mapping[str, object], context: Context) -> list[Problem]:
    """The label that opts out, and those that were meant to be annotations."""
    problems = []
    value = labels.get(names.INJECT_LABEL)
    path: Path = ("metadata", "labels", names.INJECT_LABEL)
    if names.INJECT_LABEL in labels and value not in ("true", "false"):
        if isinstance(value, str):
            problem = f"is not accepted{suggest_name(value.lower(), ('true', 'false'))}"
        else:
            problem = "is not a string (quote it)"
        message = f'label {names.INJECT_LABEL}: {quote(value)} {problem}; accepted: "true", "false"'
        problems.append(Problem("bad-label", message, path))
    elif value == "false" and context.enforced:
        message = (
            f"label {names.INJECT_LABEL}: `false` is not accepted in this namespace, which admits no pod without a "
            'sidecar; accepted: "true", or no such label'
        )
        problems.append(Problem("opted-out", message, path))
    if not _MISPLACED.isdisjoint(labels):
        for key in (one for one in (*SETTINGS_KEYS, names.INJECTION_LABEL) if one in labels):
            kind = "a label of the namespace" if key == names.INJECTION_LABEL else "an annotation"
            message = f"label {key}: {quote(labels[key])} stands among the labels of the pod; accepted: {kind} `{key}`"
            problems.append(Problem("bad-label", message, ("metadata", "labels", key)))
    return problems


def _skip_host_network(view: PodView) -> Skip:
    doubts: tuple[str, ...] = ()
    if names.POLICIES in view.annotations:
        doubts = (f"it shares the network of its node: not injected, and `{names.POLICIES}` is not enforced",)
    return Skip("host-network", "it shares the network of its node", doubts)


def _doubts(view: PodView) -> tuple[str, ...]:
    """What somebody wrote who may have expected to be protected."""
    asked = [f"label `{names.INJECT_LABEL}`"] if view.labels.get(names.INJECT_LABEL) == "true" else []
    asked += [f"`{key}`" for key in SETTINGS_KEYS if key in view.annotations]
    if not asked:
        return ()
    return (f"not injected: {asked[0]} is there, but `{names.POLICIES}` is not, which asks for injection",)


def _judge_platform(view: PodView) -> list[Problem]:
    """Windows, in each way in which a pod says so; there is no such sidecar."""
    path = _find_windows(view)
    if path is None:
        return []
    message = "the pod is one for Windows, and the sidecar runs on Linux only; accepted: a pod for Linux"
    return [Problem("windows", message, path)]


def _find_windows(view: PodView) -> Path | None:
    if map_of(view.spec.get("os")).get("name") == "windows":
        return ("spec", "os", "name")
    selector = view.spec.get("nodeSelector")
    if isinstance(selector, dict):
        for key in _OS_LABELS:
            if selector.get(key) == "windows":
                return ("spec", "nodeSelector", key)
    terms = _list_node_terms(view.spec)
    if terms and all(_is_windows_term(term) for term in terms):
        return ("spec", "affinity", "nodeAffinity")
    if _asks_windows(view.spec):
        return ("spec", "securityContext", "windowsOptions")
    for container in view.all_containers():
        if _asks_windows(container.data):
            return (*container.path, "securityContext", "windowsOptions")
    return None


def _list_node_terms(spec: Mapping[str, object]) -> list[Mapping[str, object]]:
    """The alternatives of the required node affinity. An empty one matches no node (``core/v1`` NodeSelectorTerm)."""
    nodes = map_of(map_of(spec.get("affinity")).get("nodeAffinity"))
    required = map_of(nodes.get("requiredDuringSchedulingIgnoredDuringExecution"))
    return [term for term in maps_of(required.get("nodeSelectorTerms")) if any(term.values())]


def _is_windows_term(term: Mapping[str, object]) -> bool:
    """Whether every node that it matches says that it runs Windows."""
    return any(
        one.get("operator") == "In" and one.get("key") in _OS_LABELS and one.get("values") == ["windows"]
        for one in maps_of(term.get("matchExpressions"))
    )


def _asks_windows(holder: Mapping[str, object]) -> bool:
    security = holder.get("securityContext")
    return isinstance(security, dict) and bool(security.get("windowsOptions"))


def _annotation(key: str) -> Path:
    return ("metadata", "annotations", key)
