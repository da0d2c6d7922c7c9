"""The pool on real sockets: which connection an exchange has, and what becomes of it afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpcore2
import pytest
from anyio.abc import ByteStream, TaskGroup
from anyio.streams.tls import TLSStream

from durable.aws.connection import Outgoing, target_of
from durable.aws.pool import Pool
from durable.aws.stream import SocketStream
from tests.aws.peers import (
    AMPLE,
    HOST,
    LARGE,
    SMALL,
    SOON,
    Peer,
    Tls,
    arrival,
    listening,
    say_nothing,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUTS = {"connect": AMPLE, "read": AMPLE, "write": AMPLE, "pool": AMPLE}


@asynccontextmanager
async def pooled(peer: Peer, tls: Tls | None, *, expiry: float | None = None) -> AsyncGenerator[tuple[Pool, str]]:
    """A pool, and the URL of a peer."""

    async def converse(stream: ByteStream) -> None:
        if tls is not None:
            stream = await TLSStream.wrap(
                stream, server_side=True, ssl_context=tls.server, standard_compatible=False
            )
        await peer(stream)

    async with (
        listening(converse) as port,
        Pool(
            ssl_context=None if tls is None else tls.client,
            proxy=None,
            max_connections=2,
            keepalive_expiry=expiry,
            socket_options=SMALL,
        ) as pool,
    ):
        yield pool, f"{'http' if tls is None else 'https'}://{HOST}:{port}/path"


async def test_a_connection_carries_one_request_after_the_other(tls: Tls | None):
    """Also with the tickets that TLS 1.3 gives after its handshake, which are nothing that was not asked for."""
    connections = 0

    async def answer(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        while True:
            try:
                await stream.receive()
            except anyio.EndOfStream:
                return
            await stream.send(ANSWER)

    async with pooled(answer, tls) as (pool, url):
        for _ in range(3):
            answered = await pool.exchange(Outgoing("POST", target_of(url), [], b"{}"), TIMEOUTS)
            assert (answered.status, answered.body) == (200, b"ok")
    assert connections == 1


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["reading", "writing"])
async def test_an_exchange_that_is_cancelled_closes_its_connection(body: bytes, is_first: bool, tls: Tls | None):
    """On a new connection and on one that was used before; the peer sees it, and the next exchange has another."""
    under_way, ended = anyio.Event(), anyio.Event()
    connections = 0

    async def answer(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        if not is_first and connections == 1:
            await stream.receive()
            await stream.send(ANSWER)
        await stream.receive(1000)
        if connections > 1:
            await stream.send(ANSWER)
            return
        under_way.set()
        await hold(stream)

    async def hold(stream: ByteStream) -> None:
        if body == b"{}":
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        else:
            await cancelled.wait()
            await drained(stream)
        ended.set()

    cancelled = anyio.Event()
    async with pooled(answer, tls) as (pool, url):
        target = target_of(url)
        if not is_first:
            await pool.exchange(Outgoing("POST", target, [], b"{}"), TIMEOUTS)

        async def exchange(tasks: TaskGroup) -> None:
            await pool.exchange(Outgoing("POST", target, [], body), TIMEOUTS)
            raise AssertionError("it was answered")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange, tasks)
            await under_way.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        cancelled.set()
        with anyio.fail_after(AMPLE):
            await ended.wait()
        assert (await pool.exchange(Outgoing("POST", target, [], b"{}"), TIMEOUTS)).body == b"ok"
    assert connections == 2


@pytest.mark.parametrize("exchanges", [1, 2, 3])
async def test_a_connection_that_the_peer_has_left_is_not_used_again(exchanges: int, tls: Tls | None):
    """After the exchange that made it, and after those that found it idle."""
    connections = 0

    async def answer(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        for _ in range(exchanges):
            await stream.receive()
            await stream.send(ANSWER)

    async with pooled(answer, tls) as (pool, url):
        for number in range(2 * exchanges):
            await pool.exchange(Outgoing("POST", target_of(url), [], b"{}"), TIMEOUTS)
            if number == exchanges - 1:
                await arrival(_stream_of(pool))
    assert connections == 2


def _stream_of(pool: Pool) -> SocketStream:
    assert pool._latest is not None
    assert isinstance(pool._latest._stream, SocketStream)
    return pool._latest._stream


async def test_a_connection_that_was_idle_for_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch):
    """Somebody on the way may have forgotten it; each exchange begins its time anew."""

    class Clock:
        now = 0.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr("durable.aws.connection.time", clock)
    async with pooled(answering, None, expiry=12.0) as (pool, url):
        made = []
        for seconds in (0, 11, 11, 13, 11):
            clock.now += seconds
            await pool.exchange(Outgoing("POST", target_of(url), [], b"{}"), TIMEOUTS)
            made.append(_stream_of(pool))
    assert [made.index(stream) for stream in made] == [0, 0, 0, 3, 3]


async def test_a_connection_leads_to_one_origin():
    """What goes elsewhere has another."""

    async def other(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(ANSWER.replace(b"ok", b"no"))
        await say_nothing(stream)

    async with pooled(answering, None) as (pool, url), listening(other) as port:
        said = [
            (await pool.exchange(Outgoing("POST", target_of(target), [], b"{}"), TIMEOUTS)).body
            for target in (url, url, f"http://{HOST}:{port}/")
        ]
    assert said == [b"ok", b"ok", b"no"]


async def answering(stream: ByteStream) -> None:
    """Answer whatever is asked."""
    async for _ in stream:
        await stream.send(ANSWER)


async def test_whoever_waits_for_a_connection_is_told_by_each_that_becomes_free(tls: Tls | None):
    """Also if all of them are busy with exchanges of which the pool itself knows nothing."""
    gates: list[anyio.Event] = []

    async def answer(stream: ByteStream) -> None:
        while True:
            try:
                asked = await stream.receive()
            except anyio.EndOfStream:
                return
            if asked.endswith(b"hold"):
                gates.append(anyio.Event())
                await gates[-1].wait()
            await stream.send(ANSWER)

    async with pooled(answer, tls) as (pool, url), anyio.create_task_group() as tasks:

        async def exchange(body: bytes) -> None:
            assert (await pool.exchange(Outgoing("POST", target_of(url), [], body), TIMEOUTS)).body == b"ok"

        async def hold() -> None:
            count = len(gates)
            await exchange(b"made")  # so that there is an idle one, or another one is made
            tasks.start_soon(exchange, b"hold")
            with anyio.fail_after(AMPLE):
                while len(gates) == count:
                    await anyio.wait_all_tasks_blocked()

        await hold()
        await hold()
        with pytest.raises(httpcore2.PoolTimeout, match=f"no connection was free within {SOON} s"):
            await pool.exchange(Outgoing("POST", target_of(url), [], b""), {**TIMEOUTS, "pool": SOON})
        ended = anyio.Event()

        async def wait() -> None:
            await exchange(b"waited")
            ended.set()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not ended.is_set()
        gates[1].set()  # the first one stays busy
        with anyio.fail_after(AMPLE):
            await ended.wait()
        gates[0].set()


async def drained(stream: ByteStream) -> None:
    """To the end, which comes before all that was to be sent."""
    received = 0
    try:
        while True:
            received += len(await stream.receive())
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        assert received < len(LARGE)
