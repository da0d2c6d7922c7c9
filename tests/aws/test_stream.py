"""The stream under the pool on real sockets: what is slow, broken or closed, plain and with TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl

import anyio
import httpcore2
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from durable.aws.stream import SocketStream
from tests.aws.peers import (
    AMPLE,
    HOST,
    LARGE,
    SOON,
    Tls,
    arrival,
    connected,
    echo,
    read_exactly,
    read_nothing,
    reset,
    say_nothing,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


# --- Reading and writing -------------------------------------------------------------------------------------


async def test_what_is_written_is_sent_and_what_comes_is_read(tls: Tls | None):
    """One exchange after the other on one connection."""
    async with connected(echo, tls) as stream:
        for number in range(3):
            await stream.write(b"ping %d" % number, AMPLE)
            assert await stream.read(100, AMPLE) == b"ping %d" % number


async def test_a_write_that_does_not_fit_goes_on_as_the_peer_reads(tls: Tls | None):
    """All of it arrives, in order, though the socket takes only a part of it at a time."""
    received = bytearray()
    ended = anyio.Event()

    async def slow(stream: ByteStream) -> None:
        await anyio.wait_all_tasks_blocked()  # until the writer waits
        while len(received) < len(LARGE):
            received.extend(await stream.receive(5000))
        ended.set()

    async with connected(slow, tls, is_small=True) as stream:
        await stream.write(LARGE, AMPLE)
        with anyio.fail_after(AMPLE):
            await ended.wait()
    assert bytes(received) == LARGE


async def test_a_peer_that_never_reads_is_waited_for_until_the_timeout(tls: Tls | None):
    """The error says how much is left."""
    async with connected(read_nothing, tls, is_small=True) as stream:
        with pytest.raises(httpcore2.WriteTimeout, match=rf"of {len(LARGE)} bytes were not sent within {SOON} s"):
            await stream.write(LARGE, SOON)


@pytest.mark.parametrize("most", [1000, 65536])
async def test_a_large_answer_is_read_in_pieces(tls: Tls | None, most: int):
    """No piece is larger than what was asked for, and none is lost in a TLS record that was read in part."""

    async def talk(stream: ByteStream) -> None:
        assert await stream.receive() == b"go"
        await stream.send(LARGE[: 1 << 18])
        await read_nothing(stream)

    async with connected(talk, tls) as stream:
        await stream.write(b"go", AMPLE)
        assert await read_exactly(stream, 1 << 18, most) == LARGE[: 1 << 18]


async def test_an_answer_that_does_not_come_is_waited_for_until_the_timeout(tls: Tls | None):
    """Before anything of it has come, and after some has."""
    async with connected(say_nothing, tls) as stream:
        await stream.write(b"ping", AMPLE)
        for _ in range(2):
            with pytest.raises(httpcore2.ReadTimeout, match=f"within {SOON} s"):
                await stream.read(100, SOON)


async def test_what_comes_after_a_timeout_can_be_read(tls: Tls | None):
    """A read that was given up has taken nothing."""
    go = anyio.Event()

    async def late(stream: ByteStream) -> None:
        await stream.receive()
        await go.wait()
        await stream.send(b"pong")
        await read_nothing(stream)

    async with connected(late, tls) as stream:
        await stream.write(b"ping", AMPLE)
        with pytest.raises(httpcore2.ReadTimeout):
            await stream.read(100, SOON)
        go.set()
        assert await stream.read(100, AMPLE) == b"pong"


# --- Ends ----------------------------------------------------------------------------------------------------


async def test_a_peer_that_closes_has_said_all(tls: Tls | None):
    """What was sent before is read; then nothing; without a `close_notify` of TLS as well."""

    async def leave(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"bye")

    async with connected(leave, tls) as stream:
        await stream.write(b"ping", AMPLE)
        assert await stream.read(100, AMPLE) == b"bye"
        assert await stream.read(100, AMPLE) == b""


async def test_a_peer_that_says_that_it_closes(secure: Tls):
    """With a `close_notify` it is the same."""

    async def leave(stream: ByteStream) -> None:
        await stream.receive()
        assert isinstance(stream, TLSStream)
        stream.standard_compatible = True
        await stream.aclose()

    async with connected(leave, secure) as stream:
        await stream.write(b"ping", AMPLE)
        assert await stream.read(100, AMPLE) == b""


async def test_a_connection_that_is_reset_is_broken(tls: Tls | None):
    """Whoever waits for an answer is told, and whoever writes then."""

    async def break_off(stream: ByteStream) -> None:
        await stream.receive()
        reset(stream)

    async with connected(break_off, tls) as stream:
        await stream.write(b"ping", AMPLE)
        if tls is None:
            with pytest.raises(httpcore2.ReadError, match="reset"):
                await stream.read(100, AMPLE)
        else:
            with contextlib.suppress(httpcore2.ReadError):  # before 3.13 Python says but that nothing comes
                assert await stream.read(100, AMPLE) == b""
        with pytest.raises(httpcore2.WriteError):
            await stream.write(b"ping", AMPLE)


async def test_a_connection_that_is_reset_during_a_write_is_broken(tls: Tls | None):
    """What waits for room learns that there will be none."""

    async def break_off(stream: ByteStream) -> None:
        await stream.receive(1000)
        await anyio.wait_all_tasks_blocked()
        reset(stream)

    async with connected(break_off, tls, is_small=True) as stream:
        with pytest.raises(httpcore2.WriteError):
            await stream.write(LARGE, AMPLE)


async def test_a_stream_that_was_closed_is_broken(tls: Tls | None):
    """Nothing waits for ever on a socket that is closed already; closing again does nothing."""
    async with connected(say_nothing, tls) as stream:
        await stream.write(b"ping", AMPLE)
        await stream.aclose()
        for _ in range(2):
            with pytest.raises(httpcore2.ReadError):
                await stream.read(100, AMPLE)
        with pytest.raises(httpcore2.WriteError):
            await stream.write(b"ping", AMPLE)
        with pytest.raises(httpcore2.ConnectError):
            await stream.start_tls(ssl.create_default_context(), HOST, AMPLE)
        assert stream.get_extra_info("is_readable")
        await stream.aclose()


async def test_closing_ends_what_waits(tls: Tls | None):
    """A read that is under way ends with an error as somebody else closes the stream."""
    ended = anyio.Event()

    async def read(stream: SocketStream) -> None:
        with pytest.raises(httpcore2.ReadError):
            await stream.read(100, AMPLE)
        ended.set()

    async with connected(say_nothing, tls) as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(read, stream)
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
        with anyio.fail_after(AMPLE):
            await ended.wait()


async def test_an_idle_connection_is_readable_once_something_comes_that_was_not_asked_for(tls: Tls | None):
    """Not before; TLS's own messages after its handshake are none of the peer's."""
    go = anyio.Event()

    async def interrupt(stream: ByteStream) -> None:
        await stream.send(await stream.receive())
        await go.wait()
        await stream.send(b"!")
        await read_nothing(stream)

    async with connected(interrupt, tls) as stream:
        await stream.write(b"ping", AMPLE)
        assert await stream.read(100, AMPLE) == b"ping"
        assert not stream.get_extra_info("is_readable")
        go.set()
        await arrival(stream)
        assert stream.get_extra_info("is_readable")


@pytest.mark.parametrize("is_reset", [False, True])
async def test_an_idle_connection_is_readable_once_the_peer_has_left(is_reset: bool, tls: Tls | None):
    """So the pool learns of it before the next request."""
    go = anyio.Event()

    async def leave(stream: ByteStream) -> None:
        await stream.send(await stream.receive())
        await go.wait()
        if is_reset:
            reset(stream)

    async with connected(leave, tls) as stream:
        await stream.write(b"ping", AMPLE)
        await stream.read(100, AMPLE)
        assert not stream.get_extra_info("is_readable")
        go.set()
        await arrival(stream)
        assert stream.get_extra_info("is_readable")


async def test_without_poll_select_says_whether_something_came(monkeypatch: pytest.MonkeyPatch):
    """As on Windows."""
    monkeypatch.delattr("select.poll")
    async with connected(echo) as stream:
        assert not stream.get_extra_info("is_readable")
        await stream.write(b"ping", AMPLE)
        await arrival(stream)
        assert stream.get_extra_info("is_readable")
        await stream.aclose()
        assert stream.get_extra_info("is_readable")


async def test_of_other_things_nothing_is_known():
    """The pool may ask for more."""
    async with connected(echo) as stream:
        assert stream.get_extra_info("ssl_object") is None
        assert isinstance(stream.get_extra_info("socket"), socket.socket)
