"""An HTTP or HTTPS probe, as the kubelet performs it.

A new connection each time, no verification of certificates, redirects followed within the same host and taken for
success elsewhere, headers of the pod's author including ``Host``. Rules: Kubernetes' pkg/probe/http, Go's net/http
client.

Knows: one GET, and where it is redirected. Must not know: who asked, or time; the caller bounds that.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import h11

from eastgate.pods.probes import AppProbe
from sidecar.probes.verdict import MAX_BODY, ProbeError, Verdict

MAX_REDIRECTS = 10
MAX_HEAD = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAFE = "%/:?&=@!$'()*+,;-._~[]"

type Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """``location`` is empty where there is none."""

    status: int
    location: str = ""
    body: bytes = b""


async def ask_http(probe: AppProbe, host: str, agent: str) -> Verdict:
    """Ask. Raises ``ProbeError`` or ``OSError``."""
    shown = f"[{host}]" if ":" in host else host
    path = probe.path.partition("#")[0]
    target = f"{'' if path.startswith('/') else '/'}{quote(path, safe=_SAFE)}"
    url = urlsplit(f"{probe.scheme.lower()}://{shown}:{probe.port}{target}")
    headers, written = _choose_headers(probe, agent)
    override = written
    for _ in range(MAX_REDIRECTS):
        answer = await _get(url, [("host", override or url.netloc), *headers])
        if answer.status not in _REDIRECTS or not answer.location:
            return _judge(answer)
        following = _follow(url, answer.location)
        if following.hostname != url.hostname:
            # Somebody else's health is not the app's; that it answers is.
            return Verdict(200, f"answers {answer.status} and leads to another host", answer.body)
        override = written if not urlsplit(answer.location).netloc else ""
        url = following
    raise ProbeError(f"stopped after {MAX_REDIRECTS} redirects")


def _choose_headers(probe: AppProbe, agent: str) -> tuple[Headers, str]:
    """The headers of the request, and the author's ``Host``. An empty ``Accept`` or ``User-Agent`` means none."""
    host = next((value for name, value in probe.headers if name.lower() == "host"), "")
    headers = [(name, value) for name, value in probe.headers if name.lower() not in ("host", "connection")]
    for name, value in (("User-Agent", agent), ("Accept", "*/*")):
        written = [pair for pair in headers if pair[0].lower() == name.lower()]
        if not written:
            headers.append((name, value))
        elif not written[0][1]:
            headers = [pair for pair in headers if pair not in written]
    return headers, host


def _judge(answer: Answer) -> Verdict:
    if 200 <= answer.status < 400:
        return Verdict(200, f"answers {answer.status}", answer.body)
    return Verdict(answer.status if 400 <= answer.status < 600 else 502, f"answers {answer.status}", answer.body)


def _follow(url: SplitResult, location: str) -> SplitResult:
    try:
        following = urlsplit(urljoin(url.geturl(), quote(location, safe=_SAFE + "#")))
        _ = following.port
    except ValueError:
        raise ProbeError("the redirect leads to what is no URL") from None
    if following.scheme not in ("http", "https") or not following.hostname:
        raise ProbeError(f"the redirect has an unsupported scheme `{following.scheme[:16]}`")
    return following


async def _get(url: SplitResult, headers: Headers) -> Answer:
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    async with connect(url.hostname or "", port, secure=secure) as (reader, writer):
        chosen = writer.get_extra_info("ssl_object")
        if chosen is not None and chosen.selected_alpn_protocol() == "h2":
            from sidecar.probes.http2 import call

            host = headers[0][1]
            plain = [(name.lower(), value) for name, value in headers[1:]]
            begin = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", target)]
            response = await call(reader, writer, [*begin, *plain])
            return Answer(response.status, response.headers.get("location", ""), response.body)
        return await _exchange(reader, writer, target, headers)


@contextlib.asynccontextmanager
async def connect(
    host: str, port: int, *, secure: bool
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection for one question."""
    try:
        reader, writer = await asyncio.open_connection(
            host, port, ssl=_make_trusting_context() if secure else None, server_hostname="" if secure else None
        )
    except ssl.SSLError as error:
        raise ProbeError(f"TLS failed: {error.reason or 'handshake'}") from None
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@cache
def _make_trusting_context() -> ssl.SSLContext:
    """Certificates of pods name no pod addresses, so the kubelet verifies none either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, headers: Headers
) -> Answer:
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    try:
        # Go sends what is no ASCII as it is, in UTF-8, and without the blanks around it.
        written = [(name.encode(), value.strip(" \t").encode()) for name, value in headers]
        request = h11.Request(method="GET", target=target, headers=[*written, (b"Connection", b"close")])
        writer.write((protocol.send(request) or b"") + (protocol.send(h11.EndOfMessage()) or b""))
        return await _read_answer(protocol, reader)
    except h11.LocalProtocolError as error:
        raise ProbeError(f"the probe cannot be written as a request: {error}") from None
    except h11.RemoteProtocolError:
        raise ProbeError("what the app answers is not HTTP/1") from None


async def _read_answer(protocol: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    answer, body = Answer(0), b""
    while len(body) < MAX_BODY:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            location = next((value for name, value in event.headers if name == b"location"), b"")
            answer = Answer(event.status_code, location.decode("latin-1"))
        elif isinstance(event, h11.Data):
            body += event.data
        elif not isinstance(event, h11.InformationalResponse):
            break
    return Answer(answer.status, answer.location, body[:MAX_BODY])
