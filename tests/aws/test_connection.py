"""The connection under the pool: common answers read at once, all others by h11, and never one for another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import h11
import httpcore2
import pytest

from durable.aws.connection import Connection
from durable.aws.pool import Pool

pytestmark = pytest.mark.anyio

URL = "http://lambda.test/path"


class ScriptedStream(httpcore2.AsyncNetworkStream):
    """A peer that sends what it was told to, piece by piece, and then closes the connection."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.written: list[bytes] = []
        self.is_closed = False
        self.refuses = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > max_bytes:
            self.pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written.append(buffer)
        if self.refuses:
            raise httpcore2.WriteError

    async def aclose(self) -> None:
        self.is_closed = True

    def get_extra_info(self, info: str) -> Any:
        return info == "is_readable" and bool(self.pieces)


class ScriptedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to one scripted peer."""

    def __init__(self, stream: ScriptedStream) -> None:
        self.stream = stream

    async def connect_tcp(self, *_args: Any, **_options: Any) -> httpcore2.AsyncNetworkStream:
        return self.stream


def connected(*pieces: bytes) -> tuple[Connection, ScriptedStream]:
    """A connection to a peer that sends these."""
    stream = ScriptedStream(pieces)
    connection = Connection(
        httpcore2.URL(URL).origin,
        backend=ScriptedBackend(stream),
        tls=None,
        keepalive_expiry=None,
        socket_options=None,
    )
    return connection, stream


def request(body: bytes = b"{}", **headers: str) -> httpcore2.Request:
    """A request as botocore makes them."""
    pairs = [(b"Host", b"lambda.test"), (b"Content-Length", b"%d" % len(body))]
    pairs += [(name.encode(), value.encode()) for name, value in headers.items()]
    return httpcore2.Request("POST", URL, headers=pairs, content=body)


COMMON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{'a': 'bcd'"


async def test_a_request_is_one_write():
    """Head and body leave together: apart, the other side may put off its acknowledgement between them."""
    connection, stream = connected(COMMON)
    response = await connection.handle_async_request(request(b"body"))
    assert (response.status, response.extensions["body"]) == (200, b"{'a': 'bcd'")
    assert stream.written == [b"POST /path HTTP/1.1\r\nHost: lambda.test\r\nContent-Length: 4\r\n\r\nbody"]
    assert connection.is_available()


@pytest.mark.parametrize(
    ("raw", "body", "is_kept"),
    [
        pytest.param(COMMON, b"{'a': 'bcd'", True, id="common"),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", True, id="no reason"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"abcde",
            True,
            id="chunked",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nto the end", b"to the end", False, id="until it closes"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", False, id="HTTP/1.0"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True, id="100"
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", b"", True, id="204"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", b"x", False, id="close"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", b"x", True, id="said twice"
        ),
        pytest.param(COMMON * 2, b"{'a': 'bcd'", False, id="sent twice"),
        pytest.param(
            b"HTTP/1.1 502 Bad Gateway\r\nX-A: \xe4\r\nContent-Length: 3\r\n\r\nbad", b"bad", True, id="not ASCII"
        ),
    ],
)
async def test_an_answer_is_read_the_same_in_whatever_pieces_it_comes(raw: bytes, body: bytes, is_kept: bool):
    """Whole, byte by byte, or cut anywhere: the same answer, and the connection is kept or closed as it says."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    cuts = sorted(random.Random(seed).sample(range(1, len(raw)), 3))
    pieces_of = [
        [raw],
        [raw[index : index + 1] for index in range(len(raw))],
        [raw[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)],
    ]
    for pieces in pieces_of:
        connection, stream = connected(*pieces)
        response = await connection.handle_async_request(request())
        assert response.extensions["body"] == body == await response.aread()
        if raw == COMMON * 2:
            continue  # of what has not arrived yet the pool learns before the next request
        assert (connection.is_available(), stream.is_closed) == (is_kept, not is_kept)


async def test_what_follows_an_answer_is_not_taken_for_the_next_one():
    """A peer that sends an answer twice loses the connection, whether that is there already or comes later."""
    connection, stream = connected(COMMON + COMMON)
    await connection.handle_async_request(request())
    assert connection.is_closed()
    assert stream.is_closed
    connection, stream = connected(COMMON, COMMON)
    await connection.handle_async_request(request())
    assert not connection.has_expired()  # asked by the pool as it takes the connection back
    assert connection.has_expired()  # and before it hands it out again


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        COMMON[:-1],
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n X: folded\r\nno colon\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (200 * 1024) + b"\r\n\r\n",
    ],
)
async def test_what_is_no_whole_answer_is_an_error(raw: bytes):
    """Cut off, or not HTTP at all: botocore is told, and the connection is closed."""
    connection, stream = connected(raw)
    with pytest.raises(httpcore2.RemoteProtocolError):
        await connection.handle_async_request(request())
    assert connection.is_closed()
    assert stream.is_closed


async def test_an_answer_to_what_was_not_read_whole_counts():
    """A server may refuse a request before it has read it: what it says is the answer."""
    connection, stream = connected(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    stream.refuses = True
    response = await connection.handle_async_request(request())
    assert response.status == 413


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_bring_another_one(value: str):
    """What would end a line is refused before anything is sent."""
    connection, stream = connected(COMMON)
    with pytest.raises(httpcore2.LocalProtocolError, match="line break"):
        await connection.handle_async_request(request(X=value))
    assert stream.written == []


async def test_a_connection_takes_one_request_at_a_time():
    """While one is under way, and when it is closed, the pool is told to look for another connection."""
    connection, _ = connected(COMMON)
    await connection.aclose()
    with pytest.raises(httpcore2.ConnectionNotAvailable):
        await connection.handle_async_request(request())


async def test_a_connection_that_is_closed_while_it_is_made_stays_closed():
    """What is under way is answered, but nothing is left open."""
    stream = ScriptedStream([COMMON])
    backend = ScriptedBackend(stream)
    connection = Connection(
        httpcore2.URL(URL).origin, backend=backend, tls=None, keepalive_expiry=None, socket_options=None
    )
    connect = backend.connect_tcp

    async def close_meanwhile(*args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        await connection.aclose()
        return await connect(*args, **options)

    backend.connect_tcp = close_meanwhile  # type: ignore[method-assign]
    assert (await connection.handle_async_request(request())).status == 200
    assert connection.is_closed()
    assert stream.is_closed


async def test_random_heads_are_read_as_h11_reads_them():
    """Whatever a head looks like, the answer is h11's, or h11's error."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown if it fails
    chance = random.Random(seed)
    parts = [b"Content-Length: 3", b"content-length:3", b"X: y ", b"X:", b"X : y", b"Transfer-Encoding: chunked"]
    parts += [
        b"Connection: close",
        b"Connection: Keep-Alive",
        b"A: \x7f",
        b" folded",
        b"Content-Length: 03",
        b"\0: a",
    ]
    for _ in range(300):
        lines = [chance.choice([b"HTTP/1.1 200 OK", b"HTTP/1.1 500 ", b"HTTP/1.1 2000 OK", b"HTTP/1.1 304 N"])]
        lines += chance.choices(parts, k=chance.randrange(4))
        raw = b"\r\n".join(lines) + b"\r\n\r\nabc"
        expected = _by_h11(raw)
        connection, _ = connected(raw)
        found: Any
        try:
            response = await connection.handle_async_request(request())
        except httpcore2.RemoteProtocolError:
            found = None
        else:
            headers = [(name.lower(), value) for name, value in response.headers]
            found = (response.status, headers, response.extensions["body"])
        assert found == expected, raw


def _by_h11(raw: bytes) -> Any:
    protocol = h11.Connection(h11.CLIENT)
    protocol.send(h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")]))
    protocol.send(h11.EndOfMessage())
    head: Any = None
    body = b""
    try:
        protocol.receive_data(raw)
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                protocol.receive_data(b"")
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return head.status_code, list(head.headers), bytes(body)
    except h11.RemoteProtocolError:
        return None


async def test_the_pool_makes_its_own_connections_behind_a_proxy():
    """A proxy is the pool's business, as before."""
    proxy = httpcore2.Proxy("http://proxy.test:3128")
    async with Pool(
        ssl_context=None, proxy=proxy, max_connections=1, keepalive_expiry=None, socket_options=None
    ) as pool:
        connection = pool.create_connection(httpcore2.URL("https://lambda.test").origin)
    assert not isinstance(connection, Connection)
