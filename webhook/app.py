"""The Flask application: paths to verdicts, and everything that happens around one: metrics, log, and no exception.

Knows: HTTP as far as an AdmissionReview needs it, and which path means what. Must not know: how a pod is injected, a
policy read, or who serves. A review gets an answer with its uid whatever happens; what is not a review, a 4xx.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import flask

from webhook.admissions.mutate import mutate_pod, name_pod
from webhook.admissions.pod_reviews import parse_pod_review, read_object
from webhook.admissions.pods import judge_pod_update
from webhook.admissions.replicas import Replicas
from webhook.admissions.review import (
    MAX_BODY,
    NotAReviewError,
    Review,
    Verdict,
    check_request,
    fail,
    parse_review,
    render_response,
)
from webhook.admissions.validate import judge_object
from webhook.injections.verdicts import Context
from webhook.log import ReviewLog
from webhook.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOG = logging.getLogger(__name__)

MUTATE: Final = "/mutate"
MUTATE_ENFORCED: Final = "/mutate/enforced"
VALIDATE: Final = "/validate"
VALIDATE_PODS: Final = "/validate/pods"
VALIDATE_PODS_ENFORCED: Final = "/validate/pods/enforced"

BODY: Final = "eastgate.body"
"""Where in the WSGI environment our own server leaves a body that it has received as a whole: Werkzeug's stream would
copy it three times."""

TEXT: Final = "text/plain; charset=utf-8"

type Judge = Callable[[bytes], tuple[Review, str, Verdict]]
"""Body to request, name of the object, verdict. Raises ``NotAReviewError``; anything else is a fault of ours."""


def build_app(
    context: Context,
    *,
    metrics: Metrics | None = None,
    log: ReviewLog | None = None,
    ready: Callable[[], bool] = lambda: True,
) -> flask.Flask:
    """The application on the TLS port. ``context`` is completed with each pod's namespace."""
    metrics = metrics or Metrics()
    app = ReviewApp("eastgate-webhook", static_folder=None)
    _add_health(app, metrics, ready)
    enabled, enforced = replace(context, enforced=False), replace(context, enforced=True)
    replicas = Replicas()
    judges: dict[str, Judge] = {
        MUTATE: lambda body: _mutate(body, enabled, replicas),
        MUTATE_ENFORCED: lambda body: _mutate(body, enforced, replicas),
        VALIDATE: _validate,
        VALIDATE_PODS: lambda body: _validate_pod(body, enforced=False),
        VALIDATE_PODS_ENFORCED: lambda body: _validate_pod(body, enforced=True),
    }
    for path, judge in judges.items():
        app.add_desk(Desk(path, judge, metrics, log))
    return app


def build_health_app(metrics: Metrics, ready: Callable[[], bool]) -> flask.Flask:
    """The application on the plain port: health and metrics, and no reviews."""
    app = flask.Flask("eastgate-webhook-health", static_folder=None)
    _add_health(app, metrics, ready)
    return app


def _add_health(app: flask.Flask, metrics: Metrics, ready: Callable[[], bool]) -> None:
    def healthz() -> flask.Response:
        return _text(200, "ok\n")

    def readyz() -> flask.Response:
        return _text(200, "ok\n") if ready() else _text(503, "not ready\n")

    def show_metrics() -> flask.Response:
        return flask.Response(metrics.render(), content_type=CONTENT_TYPE)

    for path, view in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", show_metrics)):
        app.add_url_rule(path, path, view, methods=["GET"])
    app.register_error_handler(Exception, _answer_failure)


class ReviewApp(flask.Flask):
    """Flask, with a short way for reviews that our own server has received as a whole.

    Contexts, signals and routing cost more than a whole review takes here (0.09 ms of 0.3). Whatever else comes, and
    the same paths under another WSGI server, goes the usual way, to the same desks.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self._desks: dict[str, Desk] = {}

    def add_desk(self, desk: Desk) -> None:
        """Answer reviews at the desk's path."""
        self._desks[desk.path] = desk
        self.add_url_rule(desk.path, desk.path, lambda: _ask(desk), methods=["POST"], provide_automatic_options=False)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The application as WSGI has it."""
        desk = self._desks.get(environ["PATH_INFO"])
        body = environ.get(BODY)
        if desk is None or body is None or environ["REQUEST_METHOD"] != "POST":
            return super().wsgi_app(environ, start_response)
        answer = desk.answer(environ.get("CONTENT_TYPE", ""), body)
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.content)))])
        return [answer.content]


def _ask(desk: Desk) -> flask.Response:
    """A desk as a Flask view."""
    request = flask.request
    body = request.environ.get(BODY)
    answer = desk.answer(request.content_type or "", request.get_data(cache=False) if body is None else body)
    return flask.Response(answer.content, answer.status, content_type=answer.content_type)


class Answer(NamedTuple):
    """An HTTP answer, as far as reviews have one."""

    status: int
    content_type: str
    content: bytes


class Desk:
    """Answers the reviews of one path."""

    def __init__(self, path: str, judge: Judge, metrics: Metrics, log: ReviewLog | None) -> None:
        self.path = path
        self._judge = judge
        self._metrics = metrics
        self._log = log

    def answer(self, content_type: str, body: bytes) -> Answer:
        """The answer to a request; a 4xx where it is no review. Never raises."""
        try:
            check_request(content_type, len(body))
            return Answer(200, "application/json", self.decide(body))
        except NotAReviewError as refusal:
            self._metrics.observe_rejected(self.path, refusal.status)
            LOG.warning("not a review: %s", refusal.message, extra={"fields": {"path": self.path}})
            return Answer(refusal.status, TEXT, f"{refusal.message}\n".encode())

    def decide(self, body: bytes) -> bytes:
        """Body to answer. Raises ``NotAReviewError``, and nothing else."""
        began = time.perf_counter()
        try:
            review, name, verdict = self._judge(body)
        except NotAReviewError:
            raise
        except Exception:
            review, name, verdict = self._recover(body)
        content = render_response(review.uid, verdict)
        seconds = time.perf_counter() - began
        self._metrics.observe_review(self.path, verdict.outcome, verdict.reason, seconds)
        if self._log is not None:
            self._log.observe(
                path=self.path,
                uid=review.uid,
                kind=review.kind.kind,
                namespace=review.namespace,
                name=name,
                operation=review.operation,
                dry_run=bool(review.dryRun),
                outcome=verdict.outcome,
                reason=verdict.reason,
                seconds=seconds,
                message="" if verdict.allowed else verdict.message,
            )
        return content

    def _recover(self, body: bytes) -> tuple[Review, str, Verdict]:
        """The answer to a review that something of ours broke over."""
        fault = secrets.token_hex(4)
        LOG.exception("a review could not be decided", extra={"fields": {"path": self.path, "fault_id": fault}})
        review = parse_review(body)
        return review, review.name, fail(fault)


def _mutate(body: bytes, context: Context, replicas: Replicas) -> tuple[Review, str, Verdict]:
    review, pod = parse_pod_review(body)
    verdict = mutate_pod(review, pod, _place(context, review.namespace), replicas=replicas)
    return review, name_pod(pod, review), verdict


def _place(context: Context, namespace: str) -> Context:
    """The context of a namespace. Names that no namespace can have are not kept."""
    return (
        _place_once(context, namespace)
        if len(namespace) <= _LONGEST_NAMESPACE
        else replace(context, namespace=namespace)
    )


_LONGEST_NAMESPACE: Final = 63


@lru_cache(1024)
def _place_once(context: Context, namespace: str) -> Context:
    return replace(context, namespace=namespace)


def _validate(body: bytes) -> tuple[Review, str, Verdict]:
    review = parse_review(body)
    return review, review.name, judge_object(review)


def _validate_pod(body: bytes, *, enforced: bool) -> tuple[Review, str, Verdict]:
    review, pod = parse_pod_review(body)
    before = read_object(review.oldObject)
    return (
        review,
        name_pod(pod, review),
        judge_pod_update(review, pod, before if isinstance(before, dict) else {}, enforced=enforced),
    )


def _text(status: int, text: str) -> flask.Response:
    return flask.Response(text, status, content_type=TEXT)


def _answer_failure(error: Exception) -> flask.Response:
    """Werkzeug's own errors (404, 405) in plain text; anything else is ours, and is not shown."""
    code = getattr(error, "code", None)
    if isinstance(code, int) and 400 <= code < 500:
        return _text(code, f"{getattr(error, 'name', 'error')}\n")
    LOG.error("a request could not be answered", exc_info=error)
    return _text(500, "internal error\n")
