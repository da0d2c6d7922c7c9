"""HTTP/1.1 on one connection, for the pool: the common answer read in a few lines, every other one by h11.

The pool's own connection passes each part of a request and of its answer through h11, with a timeout and a system
call each: twice what signing takes. Here a request is one write. An answer whose length is known and whose headers
are all as they should be is read here; h11 judges whatever is unusual in any way, and whatever is wrong.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Final, NamedTuple

import anyio
import h11
import httpcore2

_READ_BYTES: Final = 64 * 1024
_MAX_HEAD_BYTES: Final = 100 * 1024
"""The pool's own numbers."""

_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t\x20-\x7e]*)?")
_HEADER: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?|)[ \t]*"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,10}")
_WITHOUT_BODY: Final = frozenset({204, 304})
_USUALLY_EMPTY: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_OWN_HEADERS: Final = frozenset({"host", "accept-encoding", "content-length", "transfer-encoding"})
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}

Headers = Sequence[tuple[bytes, bytes]]


class _State(Enum):
    NEW = auto()
    ACTIVE = auto()
    IDLE = auto()
    CLOSED = auto()


class Target:
    """Where requests go: all that there is to know of a URL."""

    def __init__(self, url: httpcore2.URL) -> None:
        self.url = url
        self.origin = url.origin
        name = b"[%b]" % url.host if b":" in url.host else url.host
        port = url.port
        self.host = name if port in {None, _DEFAULT_PORTS.get(url.scheme)} else b"%b:%d" % (name, port)
        self.line_end = b" %b HTTP/1.1" % url.target


@lru_cache(maxsize=64)
def target_of(url: str) -> Target:
    """Where a URL leads: an execution's checkpoints all go to the same one."""
    return Target(httpcore2.URL(url))


class Outgoing:
    """A request that is to be sent.

    Args:
        method: Its method.
        target: Where it goes.
        headers: Its headers; those of the connection and of the body's length are not taken from there.
        body: Its body.
    """

    def __init__(
        self, method: str, target: Target, headers: Iterable[tuple[str, str | bytes]], body: bytes
    ) -> None:
        self.method = method.encode("latin-1")
        self.target = target
        self.body = body
        self.headers = [(b"Host", target.host), (b"Accept-Encoding", b"identity")]
        self.headers += [
            (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode())
            for name, value in headers
            if name.lower() not in _OWN_HEADERS
        ]
        if body or self.method not in _USUALLY_EMPTY:
            self.headers.append((b"Content-Length", b"%d" % len(body)))

    def as_request(self, timeouts: Mapping[str, float | None]) -> httpcore2.Request:
        """The same, as the pool has it."""
        return httpcore2.Request(
            self.method,
            self.target.url,
            headers=self.headers,
            content=self.body,
            extensions={"timeout": timeouts},
        )


class Answer(NamedTuple):
    """An answer, read whole; aiobotocore asks for its body by `aread`.

    Attributes:
        status: Its HTTP status.
        headers: Its headers.
        body: Its body.
        reusable: Whether the connection may carry another request.
    """

    status: int
    headers: Headers
    body: bytes
    reusable: bool

    async def aread(self) -> bytes:
        """Its body."""
        return self.body


class Connection(httpcore2.AsyncConnectionInterface):
    """One connection to an origin, made with its first request. Answers are read whole."""

    def __init__(
        self,
        origin: httpcore2.Origin,
        *,
        backend: httpcore2.AsyncNetworkBackend,
        tls: ssl.SSLContext | None,
        keepalive_expiry: float | None,
        socket_options: Iterable[Any] | None,
    ) -> None:
        self._origin = origin
        self._backend = backend
        self._tls = tls
        self._keepalive_expiry = keepalive_expiry
        self._socket_options = socket_options
        self._state = _State.NEW
        # `None` as long as the state is NEW, and if the connection could not be made.
        self._stream: httpcore2.AsyncNetworkStream | None = None
        # While it is idle: when it is too old.
        self._expires_at = float("inf")
        # It has just become idle: the pool, which looks at it then as well, need not ask the socket.
        self._is_fresh = False

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send a request of the pool's, and read its answer whole.

        Raises:
            httpcore2.ConnectionNotAvailable: Another request is under way.
        """
        body = await _body_of(request)
        timeouts: Mapping[str, float | None] = extensions_of(request).get("timeout", {})
        answer = await self.exchange(request.method, Target(request.url), request.headers, body, timeouts)
        self._is_fresh = True
        return httpcore2.Response(
            answer.status, headers=answer.headers, content=_Body(answer.body), extensions={"body": answer.body}
        )

    async def exchange(
        self, method: bytes, target: Target, headers: Headers, body: bytes, timeouts: Mapping[str, float | None]
    ) -> Answer:
        """Send a request, and read its answer whole.

        Raises:
            httpcore2.ConnectionNotAvailable: Another request is under way.
        """
        if self._state not in {_State.NEW, _State.IDLE}:
            raise httpcore2.ConnectionNotAvailable
        self._state = _State.ACTIVE
        try:
            data = _encode(method, target, headers, body)
            if self._stream is None:
                self._stream = await self._connect(timeouts.get("connect"))
            # It may have been refused before it was read whole: the answer says so.
            with contextlib.suppress(httpcore2.WriteError):
                await self._stream.write(data, timeout=timeouts.get("write"))
            answer = await _Reading(self._stream, method, timeouts.get("read")).read()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise
        if answer.reusable and not self.is_closed():  # by somebody else, while it was being made
            self._state = _State.IDLE
            self._is_fresh = False
            if self._keepalive_expiry is not None:
                self._expires_at = time.monotonic() + self._keepalive_expiry
        else:
            await self.aclose()
        return answer

    async def _connect(self, timeout: float | None) -> httpcore2.AsyncNetworkStream:
        host = self._origin.host.decode("ascii")
        stream = await self._backend.connect_tcp(
            host, self._origin.port, timeout=timeout, socket_options=self._socket_options
        )
        if self._origin.scheme != b"https":
            return stream
        context = httpcore2.default_ssl_context() if self._tls is None else self._tls
        context.set_alpn_protocols(["http/1.1"])
        return await stream.start_tls(context, server_hostname=host, timeout=timeout)

    async def aclose(self) -> None:
        """Close it."""
        self._state = _State.CLOSED
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    # --- What the pool asks ----------------------------------------------------------------------------------

    def can_handle_request(self, origin: httpcore2.Origin) -> bool:
        """Whether it leads there."""
        return origin == self._origin

    def is_connected(self) -> bool:
        """Whether there is a socket."""
        return self._stream is not None

    def is_available(self) -> bool:
        """Whether it can take a request at once."""
        return self._state is _State.IDLE

    def is_idle(self) -> bool:
        """Whether there is no request on it."""
        return self._state is _State.IDLE

    def is_closed(self) -> bool:
        """Whether it is of no more use."""
        return self._state is _State.CLOSED

    def has_expired(self) -> bool:
        """Whether it has been idle for too long, or the other side has closed it: nothing else can come now."""
        if self._state is not _State.IDLE or self._stream is None:
            return False
        if self._is_fresh:
            self._is_fresh = False
            return False
        return time.monotonic() > self._expires_at or bool(self._stream.get_extra_info("is_readable"))

    def info(self) -> str:
        """For the pool's `repr`."""
        return f"{str(self._origin)!r}, HTTP/1.1, {self._state.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} [{self.info()}]>"


class _Body:
    """The body of an answer, in the form that the pool passes on."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        yield self._body


class _Reading:
    """An answer that is being read."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, method: bytes, timeout: float | None) -> None:
        self._stream = stream
        self._method = method
        self._timeout = timeout
        self._received = bytearray()
        # Whether the other side has closed the connection.
        self._is_over = False

    async def read(self) -> Answer:
        """The answer."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _MAX_HEAD_BYTES or not await self._more():
                return await self._by_h11()
        lines = bytes(self._received[:end]).split(b"\r\n")
        status = _STATUS.fullmatch(lines[0])
        headers = _parse(lines[1:])
        if status is None or headers is None or int(status[1]) in _WITHOUT_BODY:
            return await self._by_h11()
        length, reusable = _framing(headers)
        if length is None:
            return await self._by_h11()
        begin = end + 4
        while len(self._received) < begin + length:
            if not await self._more():
                return await self._by_h11()
        # What follows an answer belongs to none: who sends twice is not asked again.
        is_all = len(self._received) == begin + length
        return Answer(int(status[1]), headers, bytes(self._received[begin : begin + length]), reusable and is_all)

    async def _more(self) -> bool:
        self._received += await self._read()
        return not self._is_over

    async def _read(self) -> bytes:
        data = await self._stream.read(_READ_BYTES, timeout=self._timeout)
        self._is_over = not data
        return data

    async def _by_h11(self) -> Answer:
        """Whatever it is, by the book.

        Raises:
            httpcore2.RemoteProtocolError: It is no answer, or not the whole of one.
        """
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        # As much of the request as answers depend on.
        connection.send(h11.Request(method=self._method, target=b"/", headers=[(b"Host", b"")]))
        connection.send(h11.EndOfMessage())
        if self._received:
            connection.receive_data(bytes(self._received))
        try:
            return await self._events(connection)
        except h11.RemoteProtocolError as error:
            raise httpcore2.RemoteProtocolError(str(error)) from error

    async def _events(self, connection: h11.Connection) -> Answer:
        head: h11.Response | None = None
        parts: list[bytes] = []
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                data = await self._read()
                if not data and connection.their_state is h11.SEND_RESPONSE:
                    raise httpcore2.RemoteProtocolError("Server disconnected without sending a response.")
                connection.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.InformationalResponse):
                continue
            else:
                break
        if head is None:
            raise httpcore2.RemoteProtocolError("Server disconnected without sending a response.")
        is_done = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        reusable = is_done and not self._is_over and not connection.trailing_data[0]
        return Answer(head.status_code, list(head.headers.raw_items()), b"".join(parts), reusable)


def extensions_of(message: Any) -> Mapping[str, Any]:
    """What goes along with a request or a response, whose type httpcore2 leaves open."""
    extensions: Mapping[str, Any] = message.extensions
    return extensions


async def _body_of(request: httpcore2.Request) -> bytes:
    assert isinstance(request.stream, AsyncIterable)  # noqa: S101 - for the type checkers
    return b"".join([part async for part in request.stream])


def _encode(method: bytes, target: Target, headers: Headers, body: bytes) -> bytes:
    """A request as bytes.

    Raises:
        httpcore2.LocalProtocolError: Something in it would be read as the end of a line.
    """
    lines = [method + target.line_end]
    lines += [b"%b: %b" % header for header in headers]
    head = b"\r\n".join(lines)
    if head.count(b"\n") + 1 != len(lines) or head.count(b"\r") + 1 != len(lines) or b"\0" in head:
        raise httpcore2.LocalProtocolError("a header of the request has a line break in it")
    return head + b"\r\n\r\n" + body


def _parse(lines: Sequence[bytes]) -> Headers | None:
    """Headers of an answer; `None` if there is anything unusual in them."""
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None:
            return None
        headers.append((found[1], found[2]))
    return headers


def _framing(headers: Headers) -> tuple[int | None, bool]:
    """How long the body is, if that is said in the usual way; and whether the connection stays open."""
    length: int | None = None
    reusable = True
    for name, value in headers:
        key = name.lower()
        if key == b"content-length":
            if length is not None or _LENGTH.fullmatch(value) is None:
                return None, False
            length = int(value)
        elif key == b"transfer-encoding":
            return None, False
        elif key == b"connection":
            reusable = value.lower() == b"keep-alive"
    return length, reusable
