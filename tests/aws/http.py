"""A small HTTP/1.1 server on loopback, on the test's own event loop, that can misbehave in every way."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

_RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing the socket resets the connection."""


class Request(NamedTuple):
    """What was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What is answered, and how often."""

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)
    times: int = 1


class ConnectionLostError(Exception):
    """Raised by a handler: reset the connection instead of answering."""


Handler = Callable[[Request], Awaitable[Reply]]


@asynccontextmanager
async def serve(
    handler: Handler, tls: ssl.SSLContext | None = None, connected: Callable[[], None] = lambda: None
) -> AsyncGenerator[str]:
    """Serve on a free port of 127.0.0.1; gives `host:port`."""

    async def connection(stream: ByteStream) -> None:
        connected()
        try:
            async with stream:
                await _converse(stream, handler)
        except ConnectionLostError:
            pass  # it was closed, after what was set on it
        except (anyio.BrokenResourceError, anyio.EndOfStream, h11.RemoteProtocolError, ssl.SSLError):
            pass  # the client has gone

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as tcp:
        port = tcp.extra(SocketAttribute.local_port)
        listener = tcp if tls is None else TLSListener(tcp, tls, standard_compatible=False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, connection)
            yield f"127.0.0.1:{port}"
            tasks.cancel_scope.cancel()


async def _converse(stream: ByteStream, handler: Handler) -> None:
    """Answer one request after the other on a connection."""
    protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    while True:
        asked = await _read(stream, protocol)
        if asked is None:
            return
        try:
            reply = await handler(asked)
        except ConnectionLostError:
            stream.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            raise
        headers = [*reply.headers, ("Content-Length", str(len(reply.body)))]
        data = b"".join(
            protocol.send(event) or b""
            for event in (
                h11.Response(status_code=reply.status, headers=headers),
                h11.Data(data=reply.body),
                h11.EndOfMessage(),
            )
        )
        await stream.send(data * reply.times)
        if protocol.our_state is h11.MUST_CLOSE:
            return
        protocol.start_next_cycle()


async def _read(stream: ByteStream, protocol: h11.Connection) -> Request | None:
    head: h11.Request | None = None
    body: list[bytes] = []
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            try:
                protocol.receive_data(await stream.receive())
            except anyio.EndOfStream:
                protocol.receive_data(b"")
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode().lower(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), headers, b"".join(body))
        else:
            return None
