"""``eastgate webhook`` as a process: two ports, certificates that change underneath, signals, an orderly end.

One event loop in one process. Why not one of the servers that can be had, and what was measured:
docs/decisions/0005-webhook-server.md. Knows: sockets, signals, what is started and stopped in which order. Must not
know: what a review is, or how a certificate is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

from eastgate import __version__
from webhook import app as application
from webhook.admissions.review import MAX_BODY
from webhook.connections.channel import Channel
from webhook.connections.connection import Connection, Shared
from webhook.connections.tls import CertificateFiles, CertificateSource, harden
from webhook.connections.turns import make_loop
from webhook.injections.verdicts import Context
from webhook.log import Journal, ReviewLog, install_log
from webhook.metrics import Metrics
from webhook.options import WebhookOptions

LOG = logging.getLogger(__name__)

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the interpreter while others want it. With Python's 5 ms a policy being read in the thread
would delay every step of every pod's review by as much."""

BACKLOG = 1024

LOG_SECONDS = 0.1
"""How long records of reviews that went well may wait for others."""

INLINE = frozenset({application.MUTATE, application.MUTATE_ENFORCED})


class Port:
    """A listening socket and its connections. What is accepted is bounded, handshakes included."""

    def __init__(self, listener: socket.socket, shared: Shared, context: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._shared = shared
        self._context = context
        self._beginning: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begin to accept."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._shared.standing + len(self._beginning) >= self._shared.limits.connections:
                await asyncio.sleep(0 if self._shared.evict() else 0.01)
            try:
                connected, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # out of descriptors, or the client is gone already
                LOG.warning("a connection could not be accepted: %s", error.strerror)
                await asyncio.sleep(0.05)
                continue
            beginning = loop.create_task(self._begin(connected))
            self._beginning.add(beginning)
            beginning.add_done_callback(self._beginning.discard)

    async def _begin(self, connected: socket.socket) -> None:
        try:
            connected.setblocking(False)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connected)
        except OSError as error:
            LOG.debug("a connection was gone at once: %s", error.strerror)
            connected.close()

    def _make_protocol(self) -> asyncio.BaseProtocol:
        return Connection(self._shared) if self._context is None else Channel(self._shared, self._context)

    async def stop(self, seconds: float) -> None:
        """Accept no more, let what is in flight end, close the rest."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        self._shared.closing = True
        end = asyncio.get_running_loop().time() + seconds
        while self._shared.standing or self._beginning:
            for connection in [one for one in self._shared.open if one.idle]:
                connection.close("end")
            if asyncio.get_running_loop().time() > end:
                break
            await asyncio.sleep(0.01)
        for beginning in self._beginning:
            beginning.cancel()
        for greeting in list(self._shared.greeting):
            greeting.abort()
        for connection in list(self._shared.open):
            connection.close("drained")
        await asyncio.sleep(0)


class Server:
    """Everything between ``start`` and ``stop``. ``ready`` is what ``/readyz`` answers."""

    def __init__(
        self,
        options: WebhookOptions,
        certificate: CertificateSource,
        metrics: Metrics,
        log: ReviewLog,
        serving: threading.Event | None = None,
    ) -> None:
        self._options = options
        self._certificate = certificate
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="slow-reviews")
        self._ending = False
        self.serving = serving or threading.Event()
        """Set while connections are accepted; for other threads."""
        context = Context(
            namespace="",
            enforced=False,
            image=options.sidecar_image,
            pull_policy=options.image_pull_policy,
            pull_secrets=options.image_pull_secrets,
            native=options.native_sidecars,
            version=__version__,
        )
        self._reviews = application.build_app(context, metrics=metrics, log=log, ready=self.ready)
        self._health = application.build_health_app(metrics, self.ready)
        self._ports: list[Port] = []
        self._all: list[Shared] = []

    def ready(self) -> bool:
        """True while reviews are welcome here."""
        return self.serving.is_set() and not self._ending and self._certificate.ready

    async def start(self) -> tuple[str, int]:
        """Listen, and say where. Raises ``OSError``."""
        options = self._options
        harden(self._certificate.context)
        if options.health_listen is not None:
            self._open(options.health_listen, self._health.wsgi_app, None)
        self._open(options.listen, self._reviews.wsgi_app, self._certificate.context)
        self._tick()
        self.serving.set()
        return self._ports[-1].address

    @property
    def health_address(self) -> tuple[str, int] | None:
        """Where health is served in clear."""
        return self._ports[0].address if self._options.health_listen is not None else None

    def _open(self, address: tuple[str, int], app: Callable[..., object], context: ssl.SSLContext | None) -> None:
        listener = _listen(address)
        listener.setblocking(False)
        shared = Shared(
            application=app,  # type: ignore[arg-type]
            scheme="http" if context is None else "https",
            limits=self._options.limits,
            metrics=self._metrics,
            executor=self._executor,
            max_body=MAX_BODY,
            body_key=application.BODY,
            inline=INLINE,
        )
        shared.tick(0.0)
        self._all.append(shared)
        port = Port(listener, shared, context)
        port.start()
        self._ports.append(port)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        for shared in self._all:
            shared.tick(loop.time())
        loop.call_later(self._options.limits.tick_seconds, self._tick)

    def leave(self) -> None:
        """Not ready any more; reviews are still answered, and each answer asks its client to connect elsewhere."""
        self._ending = True
        for shared in self._all:
            shared.closing = True

    async def stop(self) -> None:
        """The end: nothing new, and what is in flight is finished. Health is answered until the reviews are."""
        for port in reversed(self._ports):
            await port.stop(self._options.limits.drained_seconds)
        self.serving.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket; ``::`` means every address of both families, or of the one that the machine has."""
    if address[0] == "::" and socket.has_dualstack_ipv6():
        try:
            return socket.create_server(address, family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            address = ("0.0.0.0", address[1])  # noqa: S104 (what was asked for)
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=BACKLOG)


def run(options: WebhookOptions) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    journal = Journal()
    install_log(options.log_level, journal)
    metrics = Metrics()
    metrics.ask_counter("dropped_log_records", "Log records that nobody took.", lambda: journal.dropped)
    sys.setswitchinterval(SWITCH_SECONDS)
    log = ReviewLog(journal, options.log_level)
    try:
        return asyncio.run(
            _log_together(journal, _serve_files if options.tls_files else _serve_own, options, metrics, log),
            loop_factory=make_loop,
        )
    except OSError as error:
        LOG.error("cannot serve: %s", error.strerror or error)
        return 1


type _Serve = Callable[[WebhookOptions, Metrics, ReviewLog], Coroutine[None, None, int]]


async def _log_together(
    journal: Journal, serve: _Serve, options: WebhookOptions, metrics: Metrics, log: ReviewLog
) -> int:
    """Serve, and write records in batches as long as there is a loop that reminds of them."""
    loop = asyncio.get_running_loop()
    journal.call_later = lambda flush: loop.call_soon_threadsafe(loop.call_later, LOG_SECONDS, flush)
    try:
        return await serve(options, metrics, log)
    finally:
        journal.call_later = None
        journal.flush()


async def _serve_files(options: WebhookOptions, metrics: Metrics, log: ReviewLog) -> int:
    """With a certificate that somebody else renews."""
    assert options.tls_files is not None  # noqa: S101 (the caller has asked)
    files = CertificateFiles(*options.tls_files, time.time)
    try:
        files.load()
    except (OSError, ValueError) as error:
        LOG.error("no certificate: %s", error)
        return 1
    metrics.ask_counter("api_calls", "Calls to the API server.", lambda: 0)
    server = Server(options, files, metrics, log)
    again = asyncio.Event()
    watch = asyncio.get_running_loop().create_task(_watch(files, options.reload_seconds, again, metrics))
    try:
        return await _serve(server, options, files, metrics, on_hangup=again.set)
    finally:
        watch.cancel()


async def _watch(files: CertificateFiles, seconds: float, again: asyncio.Event, metrics: Metrics) -> None:
    """Look at the files now and then, and when asked to."""
    said = ""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(again.wait(), seconds)
        asked = again.is_set()
        again.clear()
        try:
            if files.load(anew=asked):
                metrics.certificate_changes.inc()
                LOG.info("a new certificate is in use", extra={"fields": {"expires": files.expires}})
            said = ""
        except (OSError, ValueError) as error:
            metrics.certificate_failures.inc()
            if str(error) != said:
                said = str(error)
                LOG.warning("the certificate stays as it was: %s", error)


async def _serve_own(options: WebhookOptions, metrics: Metrics, log: ReviewLog) -> int:
    """With certificates of our own, kept in a Secret of the cluster."""
    from webhook.certificates.keeper import CertificateKeeper
    from webhook.certificates.options import KeeperOptions
    from webhook.cluster import Cluster, ClusterError

    try:
        cluster = Cluster(options.kubeconfig)
    except ClusterError as error:
        LOG.error("no cluster: %s", error.message)
        return 1
    serving = threading.Event()
    keeper = CertificateKeeper(
        cluster,
        KeeperOptions(
            namespace=options.service[0],
            service=options.service[1],
            secret=options.secret,
            mutating=options.mutating,
            validating=options.validating,
            cluster_domain=options.cluster_domain,
        ),
        serving=serving.is_set,
    )
    keeper.on_change(metrics.certificate_changes.inc)
    metrics.ask_counter("api_calls", "Calls to the API server.", lambda: sum(cluster.calls.values()))
    metrics.ask_counter(
        "ca_bundle_repairs", "Configurations whose caBundle was corrected.", lambda: keeper.state.repairs
    )
    metrics.ask_gauge("ca_bundle_drift", "Entries that carry another caBundle right now.", lambda: keeper.state.drift)
    metrics.ask_gauge(
        "authority_expiry_timestamp_seconds", "When our authority ends.", lambda: keeper.state.authority_expires
    )
    server = Server(options, keeper, metrics, log, serving)
    keeper.start()
    try:
        return await _serve(server, options, keeper, metrics, wait=keeper.wait)
    finally:
        await asyncio.to_thread(keeper.stop)
        cluster.close()


async def _serve(
    server: Server,
    options: WebhookOptions,
    certificate: CertificateSource,
    metrics: Metrics,
    *,
    wait: Callable[[float], bool] = lambda _: True,
    on_hangup: Callable[[], None] = lambda: None,
) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, ended.set)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    metrics.ask_gauge(
        "certificate_expiry_timestamp_seconds", "When the certificate in use ends.", lambda: certificate.expires
    )
    host, port = await server.start()
    # A certificate of our own needs the API server; until it is there, handshakes fail and /readyz says so.
    while not ended.is_set() and not await asyncio.to_thread(wait, 0.2):
        pass
    if not ended.is_set():
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"ready https://{shown}:{port}\n")
        sys.stdout.flush()
        LOG.info("serving", extra={"fields": {"address": f"{shown}:{port}", "version": __version__}})
        # What is there now stays, and a review leaves no cycles behind: looking for some after every few of them, as
        # is usual, would only hold up the others.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)
        await ended.wait()
    LOG.info("ending", extra={"fields": {"drain_seconds": options.drain_seconds}})
    server.leave()
    ended.clear()
    with contextlib.suppress(TimeoutError):  # a second signal means: now
        await asyncio.wait_for(ended.wait(), options.drain_seconds)
    await server.stop()
    return 0
