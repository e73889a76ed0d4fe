"""One GET of a JWKS document, done with distrust.

A small strict client over asyncio streams with ``h11`` as the parser (the sans-io HTTP/1.1 state machine that
mitmproxy and httpx stand on), rather than a client library: redirects, decompression, proxies from the environment,
cookies and pooling are what such libraries bring, and each of them would have to be found and switched off here. What
is left is this file. Rules: status 200 with a body and nothing else (Envoy's jwks_fetcher), no redirect followed, no
content coding, bounded in bytes; the caller bounds it in time. TLS 1.2 or newer, verified against the source's own CA,
or else the system's and the platform's (``--trusted-ca``), under the source's server name (Gateway API
BackendTLSPolicy).

Knows: URLs, sockets, TLS, HTTP/1.1. Must not know: what a JWKS means, when to fetch, what to do about a
failure. Never puts a URL, header or body into a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import h11

import eastgate
from eastgate.keys.keyset import KeyProblem
from eastgate.model.keys import RemoteKeys
from eastgate.pods.authorities import Authorities, write_pem
from sidecar.jwks.addresses import AddressRefusedError, refuse_address, resolve_host

MAX_BODY = 1024 * 1024
"""Bytes of a JWKS: the largest well-known ones have tens of KiB. Nimbus stops at 50 KiB, Envoy never."""

MAX_HEAD = 64 * 1024
"""Bytes of the response head (h11's own default is 16 KiB; Envoy's is 60 KiB)."""

READ_SIZE = 16 * 1024

_URL = re.compile(r"[\x21-\x7e]+")
_USER_AGENT = f"eastgate/{eastgate.__version__}".encode()


class Failure(StrEnum):
    """How a fetch failed, in the words that retry triggers and metrics use."""

    CONFIGURATION = "configuration"
    REFUSED_ADDRESS = "refused_address"
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    RESET = "reset"
    TIMEOUT = "timeout"
    STATUS = "status"
    RESPONSE = "response"
    KEYS = "keys"


class FetchError(Exception):
    """A fetch that failed. ``str()`` is short and safe to log; ``status`` is set when there was an answer. ``text`` is
    what a caller is told, in Envoy's words: a set that was fetched and cannot be used has its own.
    """

    def __init__(self, failure: Failure, why: str, status: int = 0, text: str = KeyProblem.FETCH_FAIL.text) -> None:
        super().__init__(why)
        self.failure = failure
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Locator:
    """A source's URL, taken apart once. ``host_header`` is the URL's own authority, whatever is connected to."""

    host: str
    port: int
    host_header: bytes
    target: bytes

    @property
    def label(self) -> str:
        """The source for logs and metrics: no user information, no query."""
        return f"{self.host_header.decode()}{self.target.partition(b'?')[0].decode()}"


@dataclass(frozen=True, slots=True)
class Reach:
    """How to reach sources.

    ``resolve`` redirects connections as curl's ``--connect-to`` does, ``block_loopback`` refuses 127.0.0.0/8 and ::1
    (for pods).
    """

    resolve: tuple[tuple[str, int, str, int], ...] = ()
    block_loopback: bool = False


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and who vouched for the server that it came from: fingerprints of authorities that are trusted
    besides the system's. Empty where none of them was needed.
    """

    body: bytes = field(repr=False)
    vouched: frozenset[str] = frozenset()


def read_locator(source: RemoteKeys) -> Locator:
    """Take the URL apart. Raises ``FetchError`` for anything but a plain http or https URL."""
    if _URL.fullmatch(source.url) is None:
        raise FetchError(Failure.CONFIGURATION, "URL holds a blank, control or non-ASCII character")
    try:
        parts = urlsplit(source.url)
        port = parts.port
    except ValueError:
        raise FetchError(Failure.CONFIGURATION, "URL cannot be parsed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FetchError(Failure.CONFIGURATION, "URL is not http or https")
    if "@" in parts.netloc:
        raise FetchError(Failure.CONFIGURATION, "URL holds user information")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    default = 443 if parts.scheme == "https" else 80
    return Locator(parts.hostname, default if port is None else port, parts.netloc.encode(), target.encode())


def trusts_the_system(source: RemoteKeys) -> bool:
    """Whether a source is verified against the system's authorities, and those that are trusted besides."""
    return source.tls and source.ca is None


def make_tls(source: RemoteKeys, trusted: Authorities = ()) -> ssl.SSLContext | None:
    """The TLS settings of a source, None for cleartext. ``Contexts`` makes as few as there need be.

    A source with a CA is verified against that CA alone, any other against the system's and ``trusted``. Raises
    ``FetchError`` when the CA cannot be used, or when there is one for a connection that would not be TLS: never weaker
    than what was asked for (GHSA-qm8v-g4f9-qhjx).
    """
    if not source.tls:
        if source.ca is not None:
            raise FetchError(Failure.CONFIGURATION, "a CA is given for a source without TLS")
        return None
    if source.ca is not None and not source.ca.strip():
        # `create_default_context` would take an empty CA for none, and trust the system's instead.
        raise FetchError(Failure.CONFIGURATION, "the CA is empty")
    try:
        context = ssl.create_default_context(cadata=source.ca)
    except (ssl.SSLError, ValueError):
        raise FetchError(Failure.CONFIGURATION, "the CA holds no usable certificate") from None
    if not context.get_ca_certs() and source.ca is not None:
        raise FetchError(Failure.CONFIGURATION, "the CA holds no usable certificate")
    if trusted and trusts_the_system(source):
        try:
            context.load_verify_locations(cadata=write_pem(trusted))
        except ssl.SSLError:
            # They can be changed without the policy: no reason never to try again.
            raise FetchError(Failure.TLS, "the authorities trusted besides the system's cannot be used") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 asks for RFC 5280 to the letter by default, which refuses the usual `openssl req -x509` CA (no key
    # usage). Envoy takes those; chain, name and validity are verified all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


class Contexts:
    """TLS settings, made once for all sources that trust the same, for as long as one of them is there.

    Reading the system's trust takes 25 ms and leaves 0.8 MiB: too much for each of a hundred sources. For any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: WeakValueDictionary[tuple[str | None, Authorities], ssl.SSLContext] = WeakValueDictionary()

    def make(self, source: RemoteKeys, trusted: Authorities) -> ssl.SSLContext | None:
        """``make_tls``, and what it raises."""
        key = (source.ca, trusted if trusts_the_system(source) else ())
        with self._lock:
            context = self._made.get(key) if source.tls else None
            if context is None:
                context = make_tls(source, trusted)
                if context is not None:
                    self._made[key] = context
            return context


async def fetch_document(
    source: RemoteKeys, locator: Locator, tls: ssl.SSLContext | None, reach: Reach, trusted: Authorities = ()
) -> Fetched:
    """GET the document once. ``trusted`` is what ``tls`` was made with. Raises ``FetchError``; unbounded in time, so
    call it under a deadline.
    """
    reader, writer = await _connect(source, locator, tls, reach)
    try:
        vouched = _find_vouchers(writer, trusted) if trusted and trusts_the_system(source) else frozenset()
        return Fetched(await _exchange(reader, writer, locator), vouched)
    except (OSError, EOFError):
        raise FetchError(Failure.RESET, "connection lost") from None
    finally:
        # Not closed in order: a peer that does not answer the TLS goodbye must not hold this up.
        writer.transport.abort()
        with contextlib.suppress(Exception):
            await writer.wait_closed()


async def _connect(
    source: RemoteKeys, locator: Locator, tls: ssl.SSLContext | None, reach: Reach
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first address that takes the connection, of all the source's endpoints in order."""
    server_name = (source.server_name or locator.host) if tls is not None else None
    error = FetchError(Failure.CONNECT, "no address to connect to")
    for host, port in source.addresses or ((locator.host, locator.port),):
        to_host, to_port = _redirect_connection(host, port, reach)
        try:
            addresses = await resolve_host(to_host, to_port, block_loopback=reach.block_loopback)
        except AddressRefusedError as refusal:
            error = FetchError(Failure.REFUSED_ADDRESS, str(refusal))
            continue
        except (OSError, UnicodeError):
            error = FetchError(Failure.RESOLVE, "host name does not resolve")
            continue
        for address in addresses:
            try:
                reader, writer = await asyncio.open_connection(
                    address, to_port, ssl=tls, server_hostname=server_name, limit=MAX_HEAD
                )
            except ssl.SSLCertVerificationError as failed:
                error = FetchError(Failure.TLS, f"certificate refused: {failed.verify_message}")
            except ssl.SSLError as failed:
                error = FetchError(Failure.TLS, f"TLS handshake failed: {failed.reason or 'no reason given'}")
            except (OSError, EOFError):
                error = FetchError(Failure.CONNECT, "connection refused or unreachable")
            else:
                peer = writer.get_extra_info("peername")
                if peer is None or refuse_address(peer[0], block_loopback=reach.block_loopback):
                    writer.transport.abort()
                    raise FetchError(Failure.REFUSED_ADDRESS, "connected to a refused address")
                return reader, writer
    raise error


def _find_vouchers(writer: asyncio.StreamWriter, trusted: Authorities) -> frozenset[str]:
    """Which of ``trusted`` the server's chain ends at. Where Python cannot say (before 3.13): all of them."""
    fingerprints = frozenset(one.fingerprint for one in trusted)
    read_chain = getattr(writer.get_extra_info("ssl_object"), "get_verified_chain", None)
    if read_chain is None:
        return fingerprints
    return fingerprints & {hashlib.sha256(der).hexdigest() for der in read_chain()[-1:]}


def _redirect_connection(host: str, port: int, reach: Reach) -> tuple[str, int]:
    for from_host, from_port, to_host, to_port in reach.resolve:
        if (from_host.lower(), from_port) == (host.lower(), port):
            return to_host, to_port
    return host, port


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, locator: Locator) -> bytes:
    """Send the request, read the answer, and accept it or not."""
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    headers = [
        (b"host", locator.host_header),
        (b"user-agent", _USER_AGENT),
        (b"accept", b"application/jwk-set+json, application/json"),
        (b"accept-encoding", b"identity"),
        (b"connection", b"close"),
    ]
    request = h11.Request(method=b"GET", target=locator.target, headers=headers)
    writer.write((protocol.send(request) or b"") + (protocol.send(h11.EndOfMessage()) or b""))
    body = bytearray()
    ended = False
    while True:
        try:
            event = protocol.next_event()
        except h11.RemoteProtocolError:
            if ended:
                raise FetchError(Failure.RESET, "connection closed before the answer was complete") from None
            raise FetchError(Failure.RESPONSE, "answer is not valid HTTP/1.1") from None
        if event is h11.NEED_DATA:
            data = await reader.read(READ_SIZE)
            ended = not data
            protocol.receive_data(data)
        elif isinstance(event, h11.Response):
            _accept_head(event)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise FetchError(Failure.RESPONSE, f"document is larger than {MAX_BODY} bytes")
        elif isinstance(event, h11.EndOfMessage):
            if not body:
                raise FetchError(Failure.RESPONSE, "document is empty")
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise FetchError(Failure.RESET, "connection closed without an answer")


def _accept_head(response: h11.Response) -> None:
    """Refuse by the head alone what the body could not mend."""
    if response.status_code != 200:
        raise FetchError(Failure.STATUS, f"status {response.status_code}", response.status_code)
    for name, value in response.headers:
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise FetchError(Failure.RESPONSE, "answer has a content coding, none was asked for")
        if name == b"content-length" and int(value) > MAX_BODY:
            raise FetchError(Failure.RESPONSE, f"document is larger than {MAX_BODY} bytes")
