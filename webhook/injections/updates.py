"""An injected pod that its author applies again: the handlers that injection rewrote keep what it made of them.

The author's manifest says ``/ready``, the pod ``/app-probe/app/readyz``, and the API server allows no change of a
probe: without this, ``kubectl apply`` of an unchanged pod would be refused. Restored is only what is word for word what
the table of the pod says it was; a probe that really changed is left to the API server, which refuses it in its own
words. Client-side apply merges, so that two kinds of handler may stand side by side: ours and the author's.

Must not know: whether the pod would be injected today. Only pods that carry our sidecar are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from eastgate.pods import names, probes
from eastgate.pods.probes import AppProbe, ProbeTableError
from webhook.injections.handlers import Handler, LeftAloneError, leads_to_sidecar, list_handlers, read_handler
from webhook.injections.patches import Operation, add
from webhook.injections.views import Container, MalformedError, PodView, map_of, maps_of, read_view


def restore_handlers(pod: Mapping[str, object], old: Mapping[str, object]) -> tuple[Operation, ...]:
    """What makes the handlers of ``pod`` those of ``old``, the pod in etcd, where they mean the same."""
    try:
        view, was = read_view(pod), read_view(old)
    except MalformedError:
        return ()
    table = _read_table(was)
    if not table:
        return ()
    present = {(one.container.group, one.container.name, one.name): one for one in _list_all(view)}
    operations = []
    for before in _list_all(was):
        now = present.get((before.container.group, before.container.name, before.name))
        if now is None or now.data == before.data or not leads_to_sidecar(before) or before.key not in table:
            continue
        if _is_original(view, now, before, table[before.key]):
            operations.append(add(now.path, dict(before.data)))
    return tuple(operations)


def _list_all(view: PodView) -> list[Handler]:
    return [handler for container in view.all_containers() for handler in list_handlers(container)]


def _is_original(view: PodView, now: Handler, before: Handler, original: AppProbe) -> bool:
    """Whether a handler is the author's, as the table has it; timings and thresholds must be those of the pod."""
    kinds = [kind for kind in probes.HANDLER_KINDS if now.data.get(kind) is not None]
    data: dict[str, Any] = dict(now.data)
    if len(kinds) > 1 and leads_to_sidecar(now):
        data.pop("httpGet")
    elif original.token:
        data = _drop_token(data, original.token)
    rest = {key: value for key, value in data.items() if key not in probes.HANDLER_KINDS}
    if rest != {key: value for key, value in before.data.items() if key not in probes.HANDLER_KINDS}:
        return False
    try:
        return read_handler(view, replace(now, data=data)) == replace(original, token="")
    except LeftAloneError:
        return False


def _drop_token(data: dict[str, Any], token: str) -> dict[str, Any]:
    """The hook without our header, which a merge leaves in it where the author has written none."""
    request = map_of(data.get("httpGet"))
    headers = request.get("httpHeaders")
    if not isinstance(headers, list):
        return data
    ours = {"name": names.HOOK_TOKEN_HEADER, "value": token}
    return {**data, "httpGet": {**request, "httpHeaders": [one for one in headers if one != ours]}}


def _read_table(view: PodView) -> Mapping[str, AppProbe]:
    """The table in the sidecar's environment; empty where there is none that can be read."""
    sidecar: Container | None = next(
        (one for one in (*view.init_containers, *view.containers) if one.name == names.SIDECAR_CONTAINER), None
    )
    for variable in maps_of(sidecar.data.get("env")) if sidecar is not None else ():
        if variable.get("name") == names.APP_PROBES_VARIABLE:
            try:
                return probes.from_json(str(variable.get("value", "")))
            except ProbeTableError:
                return {}
    return {}
