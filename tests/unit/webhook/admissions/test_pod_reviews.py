from __future__ import annotations

from copy import deepcopy
from typing import Any

import msgspec
import pytest

from tests.unit.webhook.admissions.reviews import as_bytes, make_pod, make_review
from webhook.admissions import pod_reviews
from webhook.admissions.pod_reviews import parse_pod_review
from webhook.admissions.review import NotAReviewError


def _without_variables(pod: dict[str, Any]) -> dict[str, Any]:
    pod = deepcopy(pod)
    for name in ("containers", "initContainers"):
        for container in pod["spec"].get(name) or ():
            container.pop("env", None)
            container.pop("envFrom", None)
    return pod


def test_everything_but_the_variables_is_read() -> None:
    pod = make_pod(
        hostNetwork=False,
        volumes=[{"name": "data", "emptyDir": {}}],
        initContainers=[{"name": "one", "image": "i", "envFrom": [{"configMapRef": {"name": "c"}}], "args": None}],
        ephemeralContainers=None,
        nodeSelector=None,
    )
    _, read = parse_pod_review(as_bytes(make_review(pod)))
    assert read == _without_variables(pod)


def test_our_own_containers_keep_theirs() -> None:
    own = {"name": "eastgate-sidecar", "image": "i", "env": [{"name": "EASTGATE_APP_PROBES", "value": "{}"}]}
    pod = make_pod(initContainers=[own])
    _, read = parse_pod_review(as_bytes(make_review(pod)))
    assert read["spec"]["initContainers"] == [own]  # type: ignore[index]


@pytest.mark.parametrize(
    "where",
    [
        lambda pod: pod,
        lambda pod: pod["spec"],
        lambda pod: pod["spec"]["containers"][0],
    ],
    ids=["pod", "spec", "container"],
)
def test_a_pod_with_a_field_of_a_later_kubernetes_is_read_whole(where) -> None:
    pod = make_pod()
    where(pod)["laterField"] = {"deep": [1, {"deeper": None}]}
    _, read = parse_pod_review(as_bytes(make_review(pod)))
    assert read == pod


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod.update(spec=None),
        lambda pod: pod.update(spec=[]),
        lambda pod: pod["spec"].update(containers=None),
        lambda pod: pod["spec"].update(containers={"name": "app"}),
        lambda pod: pod["spec"].update(containers=[None, "text"]),
        lambda pod: pod["spec"].pop("containers"),
        lambda pod: pod.pop("metadata"),
    ],
)
def test_a_pod_of_another_shape_is_handed_on_as_it_is(change) -> None:
    pod = make_pod()
    change(pod)
    _, read = parse_pod_review(as_bytes(make_review(pod)))
    assert _loose(read) == _loose(pod)


def _loose(pod: Any) -> Any:
    """Without variables where there are containers to take them from."""
    spec = pod.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list):
        return pod
    if not all(isinstance(one, dict) for one in spec["containers"]):
        return pod
    return _without_variables(pod)


@pytest.mark.parametrize("found", [[], "text", 3, True])
def test_an_object_that_is_none_is_no_review(found: object) -> None:
    with pytest.raises(NotAReviewError) as caught:
        parse_pod_review(as_bytes(make_review(found)))
    assert caught.value.status == 400


def test_a_number_that_is_none() -> None:
    body = as_bytes(make_review(make_pod())).replace(b'"name": "app"', b'"name": "app", "later": 1e999')
    with pytest.raises(NotAReviewError, match="the object in the review cannot be read: Number out of range"):
        parse_pod_review(body)


def test_a_review_without_an_object() -> None:
    assert parse_pod_review(as_bytes(make_review(None)))[1] == {}


def test_the_usual_pod_goes_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: bytes) -> Any:
        raise AssertionError

    monkeypatch.setattr(pod_reviews, "_parse_slowly", never)
    parse_pod_review(as_bytes(make_review(make_pod())))


def test_the_variables_of_the_app_are_not_even_looked_at() -> None:
    pod = make_pod()
    body = as_bytes(make_review(pod)).replace(b'[{"name": "A", "value": "1"}]', b'{"env": "is no list"}')
    msgspec.json.decode(body)
    assert parse_pod_review(body)[1] == _without_variables(pod)
