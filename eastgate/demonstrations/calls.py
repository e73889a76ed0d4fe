"""The clients: ``http.client`` and grpcio, each request on a connection of its own, as ``curl`` and ``grpcurl`` do."""

from __future__ import annotations

import http.client
from typing import NamedTuple

from eastgate.demonstrations.scenes import GRPCCall, HTTPCall
from eastgate.demonstrations.upstreams import PONG

TIMEOUT_SECONDS = 15.0
"""Longer than a sidecar waits for keys (10 s), so that its answer is what is seen."""


class Got(NamedTuple):
    """``status`` as ``Expected.status``; ``body`` is the text of a refusal, gRPC details included."""

    status: int | str
    body: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """A header of the answer."""
        return next((value for key, value in self.headers if key == name), None)


def send(call: HTTPCall | GRPCCall, address: tuple[str, int]) -> Got:
    """Send it and wait for the whole answer. A broken connection is an answer too, named by its exception."""
    try:
        return _send_http(call, address) if isinstance(call, HTTPCall) else _send_grpc(call, address)
    except (OSError, http.client.HTTPException) as error:
        return Got(type(error).__name__, str(error), ())


def _send_http(call: HTTPCall, address: tuple[str, int]) -> Got:
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_SECONDS)
    try:
        connection.putrequest(call.method, call.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", call.host)
        for name, value in call.headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
        return Got(answer.status, body, tuple((name.lower(), value) for name, value in answer.getheaders()))
    finally:
        connection.close()


def _send_grpc(call: GRPCCall, address: tuple[str, int]) -> Got:
    import grpc

    options = [("grpc.default_authority", call.authority), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"{address[0]}:{address[1]}", options=options) as channel:
        try:
            if call.streaming:
                stream = channel.stream_stream(call.method)
                replies = list(stream(iter([b""]), metadata=call.metadata, timeout=TIMEOUT_SECONDS))
            else:
                replies = [channel.unary_unary(call.method)(b"", metadata=call.metadata, timeout=TIMEOUT_SECONDS)]
        except grpc.RpcError as error:
            headers = tuple(
                (key, str(value))
                for key, value in (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
            )
            return Got(error.code().name, error.details() or "", headers)
    return Got("OK", "pong" if replies == [PONG] else repr(replies), ())
