"""The Kubernetes API: raw dicts in and out. The only module that imports ``kubernetes``.

Knows: the API's conventions (paths, paging, watches, patches, errors; "Kubernetes API Concepts"). Must not know: any
kind, or why it is asked. Objects stay the dicts that the server sent: typed models would cost time and drop the fields
that this version does not know.

What the client library does here: kubeconfig files, service account tokens and their rotation, exec plugins, proxies
and TLS. Requests go to its connection pool directly: its own layer above differs from release to release, and logs
what it receives. It takes long to import, so it is imported when the first connection is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlencode

from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout, disable_warnings
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from eastgate import __version__
from eastgate.pods.names import MANAGER
from webhook.resources import Resource

PAGE: Final = 500
"""Objects a page, as client-go's pager."""
REQUEST_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0
WATCH_SECONDS: Final = (300, 600)
"""How long a watch may last, drawn anew each time: client-go's five to ten minutes."""
LOGIN_SECONDS: Final = 5.0
"""At least so long between two attempts to read the credentials anew."""

_PATCHES: Final = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_RETRIES: Final = Retry(total=2, connect=2, read=0, redirect=0, status=0, other=0, backoff_factor=0.1)
"""A request that never reached the server is sent again. Nothing else is: only the caller knows what it means."""
_SOCKET_OPTIONS: Final = [
    *HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]
"""A watch may hear nothing for a minute; a server that is gone is to be noticed in one. Go's dialer: 15 s, 15 s, 9."""
_METADATA: Final = "application/json;as={};g=meta.k8s.io;v=v1"

type Object = dict[str, Any]


class ClusterError(Exception):
    """The API server refused, or was not reached (status 0). ``message`` quotes no credentials."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message


class Forbidden(ClusterError):  # noqa: N818 (the API's own reason)
    """403: the role lacks a rule, or an admission plugin refused."""


class NotFound(ClusterError):  # noqa: N818
    """404: no such object, or no such kind."""


class Conflict(ClusterError):  # noqa: N818
    """409: it exists already, or is no longer what the caller has read."""


class Gone(ClusterError):  # noqa: N818
    """410: the resource version is too old to go on from; list again."""


class Unreachable(ClusterError):  # noqa: N818
    """No answer: refused, timed out, or cut off. Whether a write was made is not known."""


_ERRORS: Final[dict[int, type[ClusterError]]] = {403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch. ``type``: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object

    @property
    def resource_version(self) -> str:
        """Where to go on from."""
        return str(self.object.get("metadata", {}).get("resourceVersion", ""))


class Listing(list[Object]):
    """The objects of a collection, and the version of the collection that they were read at."""

    def __init__(self, items: Sequence[Object], resource_version: str) -> None:
        super().__init__(items)
        self.resource_version = resource_version


class Watch(Iterator[Event]):
    """An open watch. It ends without an error when the server ends it; ``close`` ends it from another thread."""

    def __init__(self, response: BaseHTTPResponse, resource: Resource) -> None:
        self._response = response
        self._resource = resource
        self._closed = False
        self._events = self._read()

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        """End it now. A reader blocked in another thread is woken by the end of its connection."""
        self._closed = True
        connection = getattr(self._response, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> Iterator[Event]:
        try:
            for line in self._lines():
                yield self._parse(line)
        finally:
            self._response.close()
            self._response.release_conn()

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        try:
            for chunk in self._response.stream():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from filter(None, lines)
        except (HTTPError, OSError) as error:
            if not self._closed:
                raise Unreachable(0, "Broken", f"watch of {self._resource} broke: {type(error).__name__}") from None

    def _parse(self, line: bytes) -> Event:
        try:
            said = json.loads(line)
            kind, found = said["type"], said["object"]
        except (ValueError, KeyError, TypeError):
            raise Unreachable(0, "Broken", f"watch of {self._resource}: a line is no event") from None
        if kind == "ERROR":
            raise _make_error(int(found.get("code") or 0), found)
        return Event(kind, _name_kind(found, self._resource))


class Cluster:
    """A connection to one API server; safe to use from several threads. ``calls`` counts requests by verb."""

    def __init__(self, kubeconfig: str | None = None, *, connections: int = 64) -> None:
        self._kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or None
        self._connections = connections
        self._lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self._login = _log_in(self._kubeconfig, connections)
        self._logged_in = time.monotonic()

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, resource: Resource, namespace: str | None, name: str, *, timeout: float = REQUEST_SECONDS) -> Object:
        """One object."""
        return self._call("get", "GET", resource.path(namespace, name), timeout=timeout)

    def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        selector: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
        timeout: float = 60.0,
    ) -> Listing:
        """All objects, read page by page; of all namespaces without one."""
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields}
        accept = _METADATA.format("PartialObjectMetadataList") if metadata_only else None
        items: list[Object] = []
        while True:
            page = self._call("list", "GET", resource.path(namespace), query=query, accept=accept, timeout=timeout)
            items += [_name_kind(item, resource) for item in page.get("items") or ()]
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return Listing(items, str(metadata.get("resourceVersion", "")))
            query["continue"] = metadata["continue"]

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        selector: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
        seconds: float | None = None,
    ) -> Watch:
        """What changes after ``resource_version``, with bookmarks. Raises ``Gone`` here or from the iterator."""
        lasts = int(seconds if seconds is not None else random.uniform(*WATCH_SECONDS))  # noqa: S311 (spreads load)
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, lasts)),
            "labelSelector": selector,
            "fieldSelector": fields,
        }
        accept = _METADATA.format("PartialObjectMetadata") if metadata_only else None
        # A server that has gone silent without a word is noticed by TCP's keep-alive; this is for proxies between.
        response = self._send("watch", "GET", resource.path(namespace), query, accept, timeout=lasts + 30.0)
        if response.status != 200:
            raise _read_error(response.status, response.data, f"watch of {resource}")
        return Watch(response, resource)

    def served(self, group: str) -> frozenset[tuple[str, str]]:
        """(version, plural) of what a group serves; empty where the group is not known."""
        try:
            versions = [one["version"] for one in self._call("get", "GET", f"/apis/{group}").get("versions") or ()]
        except NotFound:
            return frozenset()
        found: set[tuple[str, str]] = set()
        for version in versions:
            with contextlib.suppress(NotFound):
                listed = self._call("get", "GET", f"/apis/{group}/{version}")
                found |= {(version, str(one["name"])) for one in listed.get("resources") or ()}
        return frozenset(found)

    def groups(self) -> frozenset[str]:
        """The API groups that the server knows, in one call."""
        return frozenset(str(one["name"]) for one in self._call("get", "GET", "/apis").get("groups") or ())

    def require_ready(self) -> None:
        """Raise ``ClusterError`` unless the API server says that it is ready (``/readyz``, open to all accounts)."""
        response = self._send("get", "GET", "/readyz", {}, "text/plain")
        if response.status != 200:
            raise _read_error(response.status, response.data, "GET /readyz")

    # --- writing ----------------------------------------------------------------------------------------------------

    def create(
        self, resource: Resource, body: Mapping[str, Any], *, timeout: float = REQUEST_SECONDS, dry_run: bool = False
    ) -> Object:
        """Create; ``Conflict`` when it exists. The namespace is that of the object."""
        query = {"fieldManager": MANAGER, "dryRun": "All" if dry_run else None}
        path = resource.path(_namespace_of(body))
        return self._call("create", "POST", path, query=query, body=body, timeout=timeout)

    def replace(
        self,
        resource: Resource,
        body: Mapping[str, Any],
        *,
        subresource: str | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Object:
        """Replace; with a ``resourceVersion`` in the object only what was read (else ``Conflict``)."""
        path = resource.path(_namespace_of(body), str(body["metadata"]["name"]), subresource)
        return self._call("update", "PUT", path, query={"fieldManager": MANAGER}, body=body, timeout=timeout)

    def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        body: Mapping[str, Any] | Sequence[Any],
        kind: Literal["merge", "json", "apply"] = "merge",
        *,
        subresource: str | None = None,
        field_manager: str = MANAGER,
        force: bool = False,
        metadata_only: bool = False,
        timeout: float = REQUEST_SECONDS,
    ) -> Object:
        """Change some fields. ``force`` takes fields over from other managers, for ``apply`` only."""
        query = {"fieldManager": field_manager, "force": "true" if force and kind == "apply" else None}
        accept = _METADATA.format("PartialObjectMetadata") if metadata_only else None
        path = resource.path(namespace, name, subresource)
        found = self._call(
            "patch", "PATCH", path, query=query, accept=accept, body=body, content=_PATCHES[kind], timeout=timeout
        )
        return _name_kind(found, resource)

    def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> None:
        """Delete; with preconditions only that very object, as it was read."""
        conditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions} if conditions else None
        self._call("delete", "DELETE", resource.path(namespace, name), body=body, timeout=timeout)

    def close(self) -> None:
        """Give the idle connections back."""
        self._login.pool.clear()

    # --- the connection ---------------------------------------------------------------------------------------------

    def _call(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        accept: str | None = None,
        body: Any = None,
        content: str | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> Object:
        response = self._send(verb, method, path, query or {}, accept, body, content, timeout=timeout)
        if response.status >= 300:
            raise _read_error(response.status, response.data, f"{method} {path}")
        try:
            found = json.loads(response.data)
        except ValueError:
            raise ClusterError(response.status, "NoJSON", f"{method} {path}: the answer is not JSON") from None
        if not isinstance(found, dict):
            raise ClusterError(response.status, "NoObject", f"{method} {path}: the answer is no object")
        return found

    def _send(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str | None],
        accept: str | None = None,
        body: Any = None,
        content: str | None = None,
        *,
        timeout: float = REQUEST_SECONDS,
    ) -> BaseHTTPResponse:
        """One request. Its answer was read, but for a watch that began."""
        given = urlencode([(key, value) for key, value in query.items() if value is not None])
        target = f"{path}?{given}" if given else path
        headers = {"User-Agent": f"eastgate/{__version__}", "Accept": accept or "application/json"}
        data = None
        if body is not None:
            headers["Content-Type"] = content or "application/json"
            data = json.dumps(body).encode()
        response = self._request(verb, method, target, headers, data, timeout)
        if response.status == 401 and self._log_in():
            # A rotated token, or a kubeconfig that was replaced. A request refused so had no effect.
            response = self._request(verb, method, target, headers, data, timeout)
        return response

    def _request(
        self, verb: str, method: str, target: str, headers: Mapping[str, str], data: bytes | None, timeout: float
    ) -> BaseHTTPResponse:
        login = self._login
        with self._lock:
            self.calls[verb] += 1
        try:
            response = login.pool.request(
                method,
                login.host + target,
                body=data,
                headers={**headers, **login.authorize()},
                timeout=Timeout(connect=CONNECT_SECONDS, read=timeout),
                retries=_RETRIES,
                redirect=False,
                preload_content=False,
            )
            if verb != "watch" or response.status != 200:
                response.read(cache_content=True)
                response.release_conn()
        except (HTTPError, OSError) as error:
            raise _not_reached(method, target.partition("?")[0], error) from None
        return response

    def _log_in(self) -> bool:
        """Read the credentials, at most once every few seconds; false when that was done just now."""
        with self._lock:
            now = time.monotonic()
            if now - self._logged_in < LOGIN_SECONDS:
                return False
            self._logged_in = now
            self._login = _log_in(self._kubeconfig, self._connections)
            return True


@dataclass(frozen=True, slots=True)
class _Login:
    """Where the API server is, connections to it, and what a request has to carry (a token may change any time)."""

    host: str
    pool: PoolManager
    authorize: Callable[[], dict[str, str]]


def _log_in(kubeconfig: str | None, connections: int) -> _Login:
    # Here, for it takes long: most processes that import this module for its errors never get so far.
    from kubernetes.client.configuration import Configuration
    from kubernetes.client.rest import RESTClientObject
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import load_incluster_config
    from kubernetes.config.kube_config import load_kube_config

    configuration: Any = Configuration()
    where = f"kubeconfig {kubeconfig}"
    if kubeconfig is None:
        where = "in-cluster configuration (outside of a pod give --kubeconfig)"
    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        raise ClusterError(0, "Configuration", f"{where}: {error}") from None
    configuration.connection_pool_maxsize = connections
    configuration.socket_options = _SOCKET_OPTIONS
    if not configuration.verify_ssl:
        disable_warnings(InsecureRequestWarning)  # it is said in the kubeconfig; saying it each second helps nobody

    def authorize() -> dict[str, str]:
        try:
            token = configuration.auth_settings().get("BearerToken", {}).get("value")
        except (ConfigException, OSError) as error:
            raise Unreachable(0, "Configuration", f"{where}: no token: {type(error).__name__}") from None
        return {"Authorization": token} if token else {}

    return _Login(configuration.host, RESTClientObject(configuration).pool_manager, authorize)


def _not_reached(method: str, path: str, error: BaseException) -> Unreachable:
    cause = getattr(error, "reason", None)
    why = type(cause).__name__ if isinstance(cause, BaseException) else type(error).__name__
    return Unreachable(0, why, f"{method} {path}: the API server was not reached: {why}")


def _read_error(status: int, data: bytes, asked: str) -> ClusterError:
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    return _make_error(status, said if isinstance(said, dict) else {"message": f"{asked}: HTTP status {status}"})


def _make_error(status: int, said: Mapping[str, Any]) -> ClusterError:
    """From a ``Status`` object, or from a bare HTTP status."""
    reason = str(said.get("reason") or "Unknown")
    message = str(said.get("message") or reason)
    return _ERRORS.get(status, ClusterError)(status, reason, message)


def _name_kind(found: Object, resource: Resource) -> Object:
    """Objects of a list do not say what they are, and those of a metadata-only one say something else."""
    found["apiVersion"] = resource.api_version
    found["kind"] = resource.kind
    return found


def _namespace_of(body: Mapping[str, Any]) -> str | None:
    namespace = body["metadata"].get("namespace")
    return None if namespace is None else str(namespace)
