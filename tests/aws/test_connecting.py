"""How the stream under the pool comes to be: addresses, time limits, whom TLS trusts."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any

import anyio
import httpcore2
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream

from durable.aws.session import _tls_error
from durable.aws.stream import SocketBackend
from tests.aws.peers import (
    AMPLE,
    HOST,
    SOON,
    Peer,
    Tls,
    arrival,
    connected,
    echo,
    listening,
    reset,
    say_nothing,
)

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_socket_is_left")]


# --- Connecting ----------------------------------------------------------------------------------------------


async def test_a_new_connection_is_open_both_ways():
    """Nothing that is done on the way to a socket tells the peer that this is all that it will be sent."""
    ended: list[bytes] = []

    async def listen(stream: ByteStream) -> None:
        with anyio.move_on_after(SOON):
            ended.append(await stream.receive())
        await stream.send(b"go")
        ended.append(await stream.receive())
        await stream.send(b"done")

    async with connected(listen) as stream:
        assert await stream.read(100, AMPLE) == b"go"
        await stream.write(b"ping", AMPLE)
        assert await stream.read(100, AMPLE) == b"done"
    assert ended == [b"ping"]


async def test_options_of_the_socket_are_set():
    """Those that are asked for; and nothing small waits to be sent together with more."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 700)]
    async with listening(echo) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE, socket_options=options)
        raw = stream.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 700
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not raw.getblocking()
        await stream.aclose()
        with pytest.raises(httpcore2.ConnectError):
            await SocketBackend().connect_tcp(HOST, port, AMPLE, socket_options=[(socket.SOL_SOCKET, -1, 1)])


async def test_an_address_of_ones_own():
    """The connection comes from there."""
    seen: list[str] = []

    async def look(stream: ByteStream) -> None:
        seen.append(stream.extra(SocketAttribute.remote_address)[0])
        await stream.send(b"!")

    async with listening(look) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE, local_address="127.0.0.2")
        assert await stream.read(100, AMPLE) == b"!"
        await stream.aclose()
    assert seen == ["127.0.0.2"]


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="there is no IPv6 here")
async def test_ipv6():
    """An address of the other kind is one as well."""
    async with listening(echo, host="::1") as port:
        stream = await SocketBackend().connect_tcp("::1", port, AMPLE)
        await stream.write(b"ping", AMPLE)
        assert await stream.read(100, AMPLE) == b"ping"
        await stream.aclose()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have every name lead to these addresses, in this order."""

    async def find(_host: str, port: int, **_: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(anyio, "getaddrinfo", find)


async def test_of_a_hosts_addresses_the_first_that_answers_counts(monkeypatch: pytest.MonkeyPatch):
    """One that refuses costs nothing but the attempt."""
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3", HOST)
    async with listening(echo) as port:
        stream = await SocketBackend().connect_tcp("lambda.test", port, AMPLE)
        assert stream.get_extra_info("socket").getpeername()[0] == HOST
        await stream.aclose()


async def test_an_address_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    """The next one is tried beside it; what was begun is given up."""
    monkeypatch.setattr("durable.aws.stream._PATIENCE", SOON)
    with full("127.0.0.2") as port:
        resolve_to(monkeypatch, "127.0.0.2", HOST)
        with socket.create_server((HOST, port)):
            stream = await SocketBackend().connect_tcp("lambda.test", port, AMPLE)
            assert stream.get_extra_info("socket").getpeername()[0] == HOST
            await stream.aclose()


async def test_if_no_address_answers_all_say_why(monkeypatch: pytest.MonkeyPatch):
    """There may be a reason for each of them."""
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.3")
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(httpcore2.ConnectError, match=r"refused; .*refused"):
            await SocketBackend().connect_tcp("lambda.test", port, AMPLE)


@pytest.mark.parametrize(
    ("found", "tried"),
    [(["::2", "::3", "1.1", "1.2", "1.3"], ["::2", "1.1", "::3", "1.2", "1.3"]), (["1.1", "1.2"], ["1.1", "1.2"])],
)
async def test_addresses_of_both_kinds_are_tried_by_turns(
    found: list[str], tried: list[str], monkeypatch: pytest.MonkeyPatch
):
    """A network that only seems to have the one kind does not keep from the other."""
    from durable.aws.stream import _addresses

    resolve_to(monkeypatch, *found)
    assert [address[0] for _, address in await _addresses("lambda.test", 1)] == tried


async def test_a_host_that_there_is_not(monkeypatch: pytest.MonkeyPatch):
    """The resolver's error is the cause."""

    async def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(anyio, "getaddrinfo", fail)
    with pytest.raises(httpcore2.ConnectError, match="not known") as caught:
        await SocketBackend().connect_tcp("nowhere.test", 1, AMPLE)
    assert isinstance(caught.value.__cause__, socket.gaierror)


async def test_a_port_that_nobody_listens_on():
    """The connection is refused."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpcore2.ConnectError, match="refused"):
        await SocketBackend().connect_tcp(HOST, port, AMPLE)


class full:  # noqa: N801 - used as a function
    """A listener that takes no further connection, and does not say so; gives its port."""

    def __init__(self, host: str = HOST) -> None:
        self._listener = socket.socket()
        self._listener.bind((host, 0))
        self._listener.listen(0)
        self._others = [socket.socket() for _ in range(4)]

    def __enter__(self) -> int:
        where = self._listener.getsockname()
        for other in self._others:
            other.setblocking(False)
            other.connect_ex(where)
        port: int = where[1]
        return port

    def __exit__(self, *_: object) -> None:
        for each in (*self._others, self._listener):
            each.close()


linux = pytest.mark.skipif(not os.path.isdir("/proc"), reason="others refuse what does not fit")  # noqa: PTH112


@linux
async def test_a_connection_that_is_not_taken_is_waited_for_until_the_timeout():
    """Nobody answers, and nobody refuses."""
    with full() as port, pytest.raises(httpcore2.ConnectTimeout):
        await SocketBackend().connect_tcp(HOST, port, SOON)


@linux
async def test_connecting_can_be_cancelled():
    """The socket is closed then."""
    with full() as port:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(SocketBackend().connect_tcp, HOST, port)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()


# --- TLS -----------------------------------------------------------------------------------------------------


def by(tls: Tls) -> Peer:
    """A peer that wants TLS, whether or not it comes to it."""

    async def converse(stream: ByteStream) -> None:
        try:
            await TLSStream.wrap(stream, server_side=True, ssl_context=tls.server)
        except (anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
            return
        await say_nothing(stream)

    return converse


async def test_a_certificate_of_another_name_is_not_trusted(authority: trustme.CA):
    """OpenSSL's error is the cause."""
    other = Tls(authority, "elsewhere.example", ssl.TLSVersion.TLSv1_3)
    async with listening(by(other)) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(httpcore2.ConnectError, match="mismatch") as caught:
            await stream.start_tls(other.client, HOST, AMPLE)
    assert isinstance(_tls_error(caught.value), ssl.SSLCertVerificationError)


async def test_an_authority_that_nobody_knows_is_not_trusted(secure: Tls):
    """The same."""
    async with listening(by(secure)) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(httpcore2.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await stream.start_tls(ssl.create_default_context(), HOST, AMPLE)
    assert isinstance(_tls_error(caught.value), ssl.SSLCertVerificationError)


async def test_a_peer_that_does_not_speak_tls(secure: Tls):
    """What it says is no handshake."""

    async def greet(stream: ByteStream) -> None:
        await stream.send(b"SSH-2.0-OpenSSH_9.6\r\n")
        await say_nothing(stream)

    async with listening(greet) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(httpcore2.ConnectError) as caught:
            await stream.start_tls(secure.client, HOST, AMPLE)
    assert _tls_error(caught.value) is not None


@pytest.mark.parametrize("is_reset", [False, True])
async def test_a_peer_that_leaves_in_the_handshake(is_reset: bool, secure: Tls):
    """Having heard what we said, it closes or resets the connection."""

    async def leave(stream: ByteStream) -> None:
        await stream.receive()
        if is_reset:
            reset(stream)

    async with listening(leave) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(httpcore2.ConnectError):
            await stream.start_tls(secure.client, HOST, AMPLE)


async def test_a_peer_that_leaves_before_the_handshake(secure: Tls):
    """A connection that is reset as soon as it was made is one that could not be made."""

    async def leave(stream: ByteStream) -> None:
        reset(stream)

    async with listening(leave) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        await arrival(stream)
        with pytest.raises(httpcore2.ConnectError):
            await stream.start_tls(secure.client, HOST, AMPLE)


async def test_a_handshake_that_stalls_is_waited_for_until_the_timeout(secure: Tls):
    """As for the connection itself."""
    async with listening(say_nothing) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(httpcore2.ConnectTimeout):
            await stream.start_tls(secure.client, HOST, SOON)


async def test_a_handshake_can_be_cancelled(secure: Tls):
    """The socket is closed then, as the peer sees."""
    begun, ended = anyio.Event(), anyio.Event()

    async def stall(stream: ByteStream) -> None:
        await stream.receive()
        begun.set()
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
        ended.set()

    async with listening(stall) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.start_tls, secure.client, HOST)
            await begun.wait()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(AMPLE):
            await ended.wait()


async def test_a_name_that_cannot_be_one(secure: Tls):
    """A mistake is told as it is, and the socket is closed."""
    async with listening(say_nothing) as port:
        stream = await SocketBackend().connect_tcp(HOST, port, AMPLE)
        with pytest.raises(ValueError, match="server_hostname"):
            await stream.start_tls(secure.client, "", AMPLE)
        assert stream.get_extra_info("socket").fileno() < 0
