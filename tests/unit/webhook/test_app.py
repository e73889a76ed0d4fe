from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.webhook.admissions.reviews import POLICY, as_bytes, make_pod, make_review, read_answer, read_patch
from webhook import app as application
from webhook.admissions.review import MAX_BODY
from webhook.app import BODY, MUTATE, MUTATE_ENFORCED, VALIDATE, VALIDATE_PODS, VALIDATE_PODS_ENFORCED, build_app
from webhook.injections.verdicts import Context
from webhook.log import Journal, ReviewLog
from webhook.metrics import Metrics

CONTEXT = Context("", False, "registry.example.com/eastgate-sidecar:1", "Always", (), True, "1.0.0")
PATHS = [MUTATE, MUTATE_ENFORCED, VALIDATE, VALIDATE_PODS, VALIDATE_PODS_ENFORCED]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(metrics: Metrics):
    return build_app(CONTEXT, metrics=metrics).test_client()


def _post(client: Any, path: str, review: object) -> dict[str, Any]:
    answer = client.post(path, data=as_bytes(review), content_type="application/json")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    return read_answer(answer.data)


def test_a_pod_is_injected(client) -> None:
    response = _post(client, MUTATE, make_review(make_pod()))
    assert (response["uid"], response["allowed"]) == ("705ab4f5-6393-11e8-b7cc-42010a800002", True)
    operations = read_patch(response)
    assert {one["op"] for one in operations} == {"add"}
    assert CONTEXT.image in str(operations)
    assert response["auditAnnotations"] == {"outcome": "patched", "reason": "injected"}


def test_a_dry_run_is_answered_alike(client) -> None:
    assert _post(client, MUTATE, make_review(make_pod(), dryRun=True)) == _post(
        client, MUTATE, make_review(make_pod(), dryRun=False)
    )


def test_the_path_says_what_the_namespace_is_labelled(client) -> None:
    pod = make_pod({"eastgate.dev/policies": "login"}, hostNetwork=True)
    assert _post(client, MUTATE, make_review(pod))["allowed"] is True
    response = _post(client, MUTATE_ENFORCED, make_review(pod))
    assert response["allowed"] is False
    assert "hostNetwork" in response["status"]["message"]


def test_the_patch_of_a_large_pod_is_small(client) -> None:
    pod = make_pod()
    pod["spec"]["containers"][0]["env"] = [{"name": f"VARIABLE_{n}", "value": f"value {n}"} for n in range(2000)]
    response = _post(client, MUTATE, make_review(pod))
    assert len(json.dumps(read_patch(response), separators=(",", ":"))) < 20_000


def test_a_policy_is_checked(client) -> None:
    def review(policy: object) -> dict[str, Any]:
        return make_review(policy, group="policy.eastgate.dev", version="v1alpha1", kind="JWTPolicy")

    assert _post(client, VALIDATE, review(POLICY))["allowed"] is True
    response = _post(client, VALIDATE, review({**POLICY, "spec": {"aplyToRoutes": [{}]}}))
    assert response["allowed"] is False
    assert "spec.aplyToRoutes: unknown field `aplyToRoutes` (did you mean" in response["status"]["message"]


def test_a_running_pod_is_checked(client) -> None:
    before, after = make_pod({"eastgate.dev/policies": "login"}), make_pod({})
    review = make_review(after, before=before, operation="UPDATE")
    assert _post(client, VALIDATE_PODS, review)["allowed"] is True
    assert _post(client, VALIDATE_PODS_ENFORCED, review)["allowed"] is False


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/yaml", 415),
        (b"{}", None, 415),
        (b"", "application/json", 400),
        (b"{}", "application/json", 400),
        (b"[" * 1000, "application/json", 400),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
def test_what_is_no_review(client, path: str, body: bytes, content_type: str | None, status: int) -> None:
    answer = client.post(path, data=body, content_type=content_type)
    assert answer.status_code == status
    assert answer.content_type.startswith("text/plain")
    if status != 413:  # Flask's own, which closes without reading
        assert answer.text.strip()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_reviews_are_posted(client, path: str, method: str) -> None:
    assert client.open(path, method=method).status_code == 405


def test_what_is_not_here(client) -> None:
    assert client.get("/").status_code == 404
    assert client.post("/mutate/").status_code == 404


def test_a_fault_of_ours_is_a_refusal_with_its_number(monkeypatch, tmp_path, caplog) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the secret is in the pod")

    monkeypatch.setattr(application, "mutate_pod", explode)
    metrics = Metrics()
    log = tmp_path / "log"
    with log.open("wb") as file:
        app = build_app(CONTEXT, metrics=metrics, log=ReviewLog(Journal(file.fileno())))
        response = _post(app.test_client(), MUTATE, make_review(make_pod()))
    assert (response["allowed"], response["status"]["code"]) == (False, 500)
    assert response["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    assert "secret" not in str(response)
    record = next(one for one in caplog.records if one.exc_info)
    assert record.fields["fault_id"] in response["status"]["message"]
    assert 'outcome="error",path="/mutate",reason="internal-error"} 1.0' in metrics.render().decode()
    assert json.loads(log.read_text())["outcome"] == "error"


ANYTHING = build_app(CONTEXT).test_client()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PATHS), st.binary(max_size=200) | st.sampled_from([b"{}", as_bytes(make_review({}))]))
def test_never_a_500(path: str, body: bytes) -> None:
    answer = ANYTHING.post(path, data=body, content_type="application/json")
    assert answer.status_code in (200, 400)


def test_reviews_are_counted(client, metrics: Metrics) -> None:
    _post(client, MUTATE, make_review(make_pod()))
    _post(client, MUTATE, make_review(make_pod({})))
    client.post(MUTATE, data=b"{}", content_type="text/plain")
    text = metrics.render().decode()
    assert 'eastgate_webhook_reviews_total{outcome="patched",path="/mutate",reason="injected"} 1.0' in text
    assert 'eastgate_webhook_review_seconds_count{path="/mutate"} 2.0' in text
    assert 'eastgate_webhook_rejected_requests_total{path="/mutate",status="415"} 1.0' in text


def test_the_log_names_and_never_quotes(tmp_path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        client = build_app(CONTEXT, log=ReviewLog(Journal(file.fileno()))).test_client()
        pod = make_pod()
        pod["spec"]["containers"][0]["env"][0]["value"] = "hunter2"
        _post(client, MUTATE, make_review(pod))
        _post(client, MUTATE, make_review(make_pod({})))  # asks for nothing: no line
        _post(client, MUTATE, make_review(make_pod({"eastgate.dev/policies": "login", "eastgate.dev/mode": "off"})))
    patched, refused = map(json.loads, log.read_text().splitlines())
    assert "hunter2" not in log.read_text()
    assert patched.items() >= {
        "level": "info", "event": "review", "path": "/mutate", "kind": "Pod", "namespace": "shop",
        "name": "web-7d4b9c-", "operation": "CREATE", "outcome": "patched", "reason": "injected",
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
    }.items()  # fmt: skip
    assert 0 < patched["seconds"] < 5
    assert (refused["level"], refused["outcome"]) == ("warning", "refused")
    assert "eastgate.dev/mode" in refused["message"]


def test_health_and_metrics() -> None:
    ready = False
    client = build_app(CONTEXT, ready=lambda: ready).test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    ready = True
    assert client.get("/readyz").status_code == 200
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert "eastgate_webhook_build_info" in answer.text


@pytest.mark.parametrize(
    ("path", "content_type", "body"),
    [
        (MUTATE, "application/json", as_bytes(make_review(make_pod()))),
        (MUTATE, "text/plain", b"{}"),
        (VALIDATE, "application/json", b"{"),
    ],
)
def test_the_short_way_answers_like_flask(path: str, content_type: str, body: bytes) -> None:
    app = build_app(CONTEXT)
    usual = app.test_client().post(path, data=body, content_type=content_type)
    environ = {
        "REQUEST_METHOD": "POST", "PATH_INFO": path, "CONTENT_TYPE": content_type, BODY: body,
        "wsgi.input": io.BytesIO(),
    }  # fmt: skip
    said: list[Any] = []
    content = b"".join(app.wsgi_app(environ, lambda *arguments: said.extend(arguments)))  # type: ignore[arg-type,return-value]
    assert content == usual.data
    assert said[0] == usual.status.title().replace("Ok", "OK")
    assert dict(said[1]) == {"Content-Type": usual.content_type, "Content-Length": str(len(content))}
