"""An application that tells what it saw: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, one thread a connection.

It answers 200 with a JSON body: method, path, headers (in order, as pairs), length of the body. It counts requests
and connections, so that a test can say that nothing was forwarded; ``arrivals`` are the monotonic times at which requests were complete.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import h2.config
import h2.connection
import h2.events

from tests.ports import stop_accepting

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Upstream:
    """A listening echo application. ``requests`` are (method, path, headers) in order of arrival."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self.socket.getsockname()[1]
        self.requests: list[tuple[str, str, list[list[str]]]] = []
        self.connections = 0
        self.arrivals: list[float] = []
        self.raw = b""
        self._closing = False
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Stop listening."""
        self._closing = True
        stop_accepting(self.socket, self._accepting)

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ConnectionError), connection:
            data = connection.recv(65536)
            while data and PREFACE.startswith(data[:24]) and len(data) < 24:
                data += connection.recv(65536)
            if data.startswith(PREFACE):
                self._serve_http2(connection, data)
            elif data:
                self._serve_http1(connection, data)

    def _answer(self, method: str, path: str, headers: list[list[str]], length: int) -> bytes:
        self.arrivals.append(time.monotonic())
        self.requests.append((method, path, headers))
        return json.dumps({"method": method, "path": path, "headers": headers, "length": length}).encode()

    def _serve_http1(self, connection: socket.socket, data: bytes) -> None:
        self.raw += data
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return
                self.raw += more
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            headers = [[n.lower(), v.strip()] for n, v in (line.split(":", 1) for line in lines[1:])]
            named = dict(map(tuple, headers))
            length = int(named.get("content-length", 0))
            if named.get("transfer-encoding") == "chunked":
                while b"0\r\n\r\n" not in data:
                    data += connection.recv(65536)
                length, data = data.index(b"0\r\n\r\n"), data[data.index(b"0\r\n\r\n") + 5 :]
            else:
                while len(data) < length:
                    data += connection.recv(65536)
                data = data[length:]
            body = self._answer(method, path, headers, length)
            head_out = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head_out + (b"" if method == "HEAD" else body))

    def _serve_http2(self, connection: socket.socket, data: bytes) -> None:
        engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        engine.initiate_connection()
        connection.sendall(engine.data_to_send())
        streams: dict[int, tuple[list[tuple[str, str]], int]] = {}
        while data:
            for event in engine.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    streams[event.stream_id] = (event.headers, 0)
                elif isinstance(event, h2.events.DataReceived):
                    headers, length = streams[event.stream_id]
                    streams[event.stream_id] = (headers, length + len(event.data))
                    engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    headers, length = streams.pop(event.stream_id)
                    pseudo = dict(headers)
                    plain = [["host", pseudo.get(":authority", "")]]
                    plain += [[n, v] for n, v in headers if not n.startswith(":")]
                    body = self._answer(pseudo[":method"], pseudo[":path"], plain, length)
                    answer = [(":status", "200"), ("content-type", "application/json")]
                    engine.send_headers(event.stream_id, answer)
                    engine.send_data(event.stream_id, body, end_stream=True)
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return
            connection.sendall(engine.data_to_send())
            data = connection.recv(65536)


@contextlib.contextmanager
def run_upstream() -> Iterator[Upstream]:
    """An echo application for the time of a test."""
    upstream = Upstream()
    try:
        yield upstream
    finally:
        upstream.close()
