"""Peers on loopback that do what the stream under the pool has to cope with, and connections to them."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from durable.aws.stream import SocketBackend, SocketStream

HOST = "127.0.0.1"
SOON = 0.05
"""Seconds in which nothing is to come."""
AMPLE = 30.0
"""Seconds in which all is to come."""
LARGE = os.urandom(1 << 16) * 48
"""Bytes: more than fit into the buffers of two sockets, of which one is made small."""
SMALL = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)]

Peer = Callable[[ByteStream], Awaitable[None]]


class Tls:
    """Both sides' settings."""

    def __init__(self, authority: trustme.CA, name: str, version: ssl.TLSVersion) -> None:
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self.server)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)
        self.client.minimum_version = self.client.maximum_version = version


def open_sockets() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():  # noqa: PTH112, PTH208
        try:
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        except OSError:
            continue  # the one that the directory was read by
        if target.startswith("socket:"):
            found.add(target)
    return found


@asynccontextmanager
async def listening(peer: Peer, *, host: str = HOST) -> AsyncGenerator[int]:
    """A peer for whoever connects; gives its port. What it does not expect fails the test."""

    async def converse(stream: ByteStream) -> None:
        async with stream:
            await peer(stream)

    async with await anyio.create_tcp_listener(local_host=host) as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, converse)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def connected(peer: Peer, tls: Tls | None = None, *, is_small: bool = False) -> AsyncGenerator[SocketStream]:
    """A stream that is connected to a peer, encrypted if there is TLS."""

    async def converse(stream: ByteStream) -> None:
        if tls is not None:
            stream = await TLSStream.wrap(
                stream, server_side=True, ssl_context=tls.server, standard_compatible=False
            )
        await peer(stream)

    async with listening(converse) as port:
        stream = await SocketBackend().connect_tcp(
            HOST, port, timeout=AMPLE, socket_options=SMALL if is_small else None
        )
        try:
            if tls is not None:
                made = await stream.start_tls(tls.client, HOST, AMPLE)
                assert isinstance(made, SocketStream)
                stream = made
            yield stream
        finally:
            await stream.aclose()


def reset(stream: ByteStream) -> None:
    """Have the connection reset as it is closed."""
    raw = stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def echo(stream: ByteStream) -> None:
    """Send back what comes."""
    async for data in stream:
        await stream.send(data)


async def say_nothing(stream: ByteStream) -> None:
    """Read, and never answer."""
    async for _ in stream:
        pass


async def read_nothing(_: ByteStream) -> None:
    """Neither read nor answer."""
    await anyio.sleep_forever()


async def read_exactly(stream: SocketStream, count: int, most: int = 65536) -> bytes:
    received = b""
    while len(received) < count:
        data = await stream.read(most, AMPLE)
        assert data
        assert len(data) <= most
        received += data
    return received


async def arrival(stream: SocketStream) -> None:
    """Until something has come of what is under way, without reading it."""
    with anyio.fail_after(AMPLE):
        await anyio.wait_readable(stream.get_extra_info("socket"))
