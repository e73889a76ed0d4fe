"""The connection to an API server, against a small HTTP server that answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook import cluster as module
from webhook.cluster import Cluster, ClusterError, Conflict, Forbidden, Gone, NotFound, Unreachable
from webhook.resources import CONFIG_MAPS, PODS

type Answer = tuple[int, bytes | list[bytes]]


class Server:
    """``answer(method, path, headers, body)``; a list of bytes is streamed, and then left open."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, Any, bytes], Answer] = lambda *_: (200, b"{}")
        self.requests: list[tuple[str, str, Any, bytes]] = []
        self.hold = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.requests.append((self.command, self.path, self.headers, body))
                status, said = outer.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                if isinstance(said, bytes):
                    self.send_header("content-length", str(len(said)))
                    self.end_headers()
                    self.wfile.write(said)
                    return
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for part in said:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.flush()
                outer.hold.wait(30)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.hold.set()
    running.http.shutdown()
    running.http.server_close()


def write_kubeconfig(folder: Path, address: str, user: dict[str, Any]) -> str:
    file = folder / "config"
    file.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": address}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return str(file)


@pytest.fixture
def cluster(server: Server, tmp_path: Path) -> Cluster:
    return Cluster(write_kubeconfig(tmp_path, server.address, {"token": "first"}))


def status(code: int, reason: str, message: str) -> Answer:
    return code, json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "kind"), [(403, Forbidden), (404, NotFound), (409, Conflict), (410, Gone), (422, ClusterError)]
)
def test_refusals_are_exceptions_with_the_servers_words(
    server: Server, cluster: Cluster, code: int, kind: type[ClusterError]
) -> None:
    server.answer = lambda *_: status(code, "SomeReason", "in its own words")
    with pytest.raises(kind) as refused:
        cluster.get(PODS, "a", "b")
    assert (refused.value.status, refused.value.reason, refused.value.message) == (
        code,
        "SomeReason",
        "in its own words",
    )


def test_an_answer_that_is_no_status_is_an_error_all_the_same(server: Server, cluster: Cluster) -> None:
    server.answer = lambda *_: (502, b"<html>")
    with pytest.raises(ClusterError, match="GET /api/v1/namespaces/a/pods/b: HTTP status 502"):
        cluster.get(PODS, "a", "b")
    server.answer = lambda *_: (200, b"<html>")
    with pytest.raises(ClusterError, match="not JSON"):
        cluster.get(PODS, "a", "b")
    server.answer = lambda *_: (200, b"[]")
    with pytest.raises(ClusterError, match="no object"):
        cluster.get(PODS, "a", "b")
    server.answer = lambda *_: (302, b"")  # nobody sends our token elsewhere
    with pytest.raises(ClusterError, match="302"):
        cluster.get(PODS, "a", "b")
    assert len(server.requests) == 4


def test_a_server_that_is_away_is_unreachable(tmp_path: Path) -> None:
    cluster = Cluster(write_kubeconfig(tmp_path, "http://127.0.0.1:1", {}))
    with pytest.raises(Unreachable) as refused:
        cluster.get(PODS, "a", "b")
    assert refused.value.status == 0


def test_a_write_is_never_sent_twice(server: Server, cluster: Cluster) -> None:
    with pytest.raises(Unreachable):
        server.answer = lambda *_: (200, [])
        cluster.create(CONFIG_MAPS, {"metadata": {"namespace": "a", "name": "b"}}, timeout=0.1)
    assert len(server.requests) == 1


def test_a_list_is_read_page_by_page(server: Server, cluster: Cluster) -> None:
    def answer(_method: str, path: str, headers: Any, _body: bytes) -> Answer:
        assert "PartialObjectMetadataList" in headers["accept"]
        more = {} if "continue=next" in path else {"continue": "next"}
        name = "b" if "continue=next" in path else "a"
        return 200, json.dumps(
            {"metadata": {"resourceVersion": "7", **more}, "items": [{"metadata": {"name": name}}]}
        ).encode()

    server.answer = answer
    found = cluster.list(PODS, selector="a=b", metadata_only=True)
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert {(one["apiVersion"], one["kind"]) for one in found} == {("v1", "Pod")}
    assert found.resource_version == "7"
    assert "labelSelector=a%3Db" in server.requests[0][1]
    assert cluster.calls == {"list": 2}


def event(kind: str, version: str, **more: Any) -> bytes:
    return (
        json.dumps({"type": kind, "object": {"metadata": {"name": "a", "resourceVersion": version}, **more}}).encode()
        + b"\n"
    )


def test_a_watch_gives_whole_events_however_they_are_cut(server: Server, cluster: Cluster) -> None:
    text = event("ADDED", "1") + event("MODIFIED", "2", text="ü") + event("BOOKMARK", "9")
    server.answer = lambda *_: (200, [text[start : start + 7] for start in range(0, len(text), 7)])
    server.hold.set()
    watch = cluster.watch(PODS, resource_version="0")
    with pytest.raises(Unreachable):  # cut off, not ended
        seen = []
        for one in watch:
            seen.append((one.type, one.resource_version))
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("BOOKMARK", "9")]
    assert "allowWatchBookmarks=true" in server.requests[0][1]


def test_a_watch_says_when_it_is_too_old(server: Server, cluster: Cluster) -> None:
    error = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
    server.answer = lambda *_: (200, [json.dumps(error).encode() + b"\n"])
    with pytest.raises(Gone, match="too old"):
        list(cluster.watch(PODS, resource_version="1"))
    server.answer = lambda *_: status(410, "Expired", "too old")
    with pytest.raises(Gone):
        cluster.watch(PODS, resource_version="1")


def test_a_watch_that_waits_is_closed_from_another_thread(server: Server, cluster: Cluster) -> None:
    server.answer = lambda *_: (200, [event("ADDED", "1")])
    watch = cluster.watch(PODS, resource_version="0")
    assert next(watch).type == "ADDED"
    threading.Timer(0.05, watch.close).start()
    begun = time.monotonic()
    assert list(watch) == []
    assert time.monotonic() - begun < 2


def test_a_rotated_token_is_read_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOGIN_SECONDS", 0.0)
    token = tmp_path / "token"
    token.write_text("old")

    def answer(_method: str, _path: str, headers: Any, _body: bytes) -> Answer:
        if headers["authorization"] != f"Bearer {token.read_text()}":
            return status(401, "Unauthorized", "Unauthorized")
        return 200, b'{"items": []}'

    server.answer = answer
    cluster = Cluster(write_kubeconfig(tmp_path, server.address, {"tokenFile": str(token)}))
    cluster.list(PODS)
    token.write_text("new")
    cluster.list(PODS)
    assert len(server.requests) == 3
    server.hold.set()
    token.write_text("newer")
    server.answer = lambda *each: answer(*each) if each[2]["authorization"] == "Bearer newer" else status(401, "U", "U")
    with pytest.raises(Unreachable):  # the watch begins, and is then cut off
        server.answer = lambda *each: (200, [event("ADDED", "1")]) if answer(*each)[0] == 200 else status(401, "U", "U")
        list(cluster.watch(PODS, resource_version="0"))


def test_a_configuration_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="kubeconfig"):
        Cluster(str(tmp_path / "missing"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterError, match=r"in-cluster.*--kubeconfig"):
        Cluster()


def test_what_is_sent(server: Server, cluster: Cluster) -> None:
    cluster.patch(PODS, "a", "b", {"x": 1}, "apply", force=True, field_manager="m", subresource="status")
    method, path, headers, body = server.requests[0]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/a/pods/b/status?fieldManager=m&force=true")
    assert headers["content-type"] == "application/apply-patch+yaml"
    assert headers["user-agent"].startswith("eastgate/")
    assert headers["authorization"] == "Bearer first"
    assert body == b'{"x": 1}'
    cluster.patch(PODS, "a", "b", [{"op": "remove", "path": "/x"}], "json")
    assert server.requests[1][2]["content-type"] == "application/json-patch+json"
    cluster.delete(PODS, "a", "b", uid="u", resource_version="5")
    assert json.loads(server.requests[2][3])["preconditions"] == {"uid": "u", "resourceVersion": "5"}
    cluster.replace(CONFIG_MAPS, {"metadata": {"namespace": "a", "name": "b"}})
    assert server.requests[3][:2] == ("PUT", "/api/v1/namespaces/a/configmaps/b?fieldManager=eastgate")
