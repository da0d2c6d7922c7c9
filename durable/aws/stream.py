"""A connected socket for the pool, on either event loop: with as few steps and system calls as an exchange needs.

The streams of the event loops are made for any use: each read turns the watching of the socket on and off, each
write gives way to others. Here the socket is written to and read from directly, and waited for where it has to be;
OpenSSL works on the socket itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from itertools import zip_longest
from typing import Any, Final

import anyio
import httpcore2

_NOT_YET: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_BROKEN: Final = (
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    ValueError,  # what the event loops make of waiting for a socket that is closed
)
_PATIENCE: Final = 0.25
"""Seconds for one address, until the next one is tried beside it: RFC 8305's number."""

_Address = tuple[int, Any]


class SocketStream(httpcore2.AsyncNetworkStream):
    """A socket that is connected; one task at a time uses it."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        # What is asked for has not been sent yet: there is no use in looking for its answer before waiting.
        self._is_before_answer = False
        self._poll = _poll_of(connected)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, as soon as there is something; nothing if the other side has closed the connection.

        Raises:
            httpcore2.ReadTimeout: Nothing came in time.
            httpcore2.ReadError: The connection is broken.
        """
        begins, self._is_before_answer = self._is_before_answer, False
        received: bytes | None = None
        try:
            with anyio.move_on_after(timeout):
                if begins:
                    await anyio.wait_readable(self._socket)
                while received is None:
                    try:
                        received = self._socket.recv(max_bytes)
                    except _NOT_YET as error:
                        await self._wait(error, anyio.wait_readable)
        except _BROKEN as error:
            raise httpcore2.ReadError(str(error)) from error
        if received is None:
            raise httpcore2.ReadTimeout(f"nothing came within {timeout} s")
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it.

        Raises:
            httpcore2.WriteTimeout: It could not be sent in time.
            httpcore2.WriteError: The connection is broken.
        """
        self._is_before_answer = True
        rest = memoryview(buffer)
        try:
            with contextlib.suppress(*_NOT_YET):
                rest = rest[self._socket.send(rest) :]  # mostly this is all
            if not rest:
                return
            with anyio.move_on_after(timeout):
                while rest:
                    try:
                        rest = rest[self._socket.send(rest) :]
                    except _NOT_YET as error:
                        await self._wait(error, anyio.wait_writable)
        except _BROKEN as error:
            raise httpcore2.WriteError(str(error)) from error
        if rest:
            raise httpcore2.WriteTimeout(f"{len(rest)} of {len(buffer)} bytes were not sent within {timeout} s")

    async def _wait(self, reason: Exception, usual: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Wait until it is worth another try; TLS may have to read to write, and the other way."""
        if isinstance(reason, ssl.SSLWantReadError):
            await anyio.wait_readable(self._socket)
        elif isinstance(reason, ssl.SSLWantWriteError):
            await anyio.wait_writable(self._socket)
        else:
            await usual(self._socket)

    async def aclose(self) -> None:
        """Close it, whatever is under way."""
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
        self._socket.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The same connection, encrypted from here on.

        Raises:
            httpcore2.ConnectTimeout: That took too long.
            httpcore2.ConnectError: No trust, or no TLS.
        """
        try:
            self._socket.getpeername()  # one that was reset meanwhile would not be closed by what follows
            wrapped = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except OSError as error:
            await self.aclose()
            raise httpcore2.ConnectError(str(error)) from error
        except BaseException:
            await self.aclose()
            raise
        stream = SocketStream(wrapped)
        try:
            with anyio.fail_after(timeout):
                await stream._shake_hands(wrapped)
        except TimeoutError as error:
            await stream.aclose()
            raise httpcore2.ConnectTimeout(str(error)) from error
        except OSError as error:  # OpenSSL's are as well
            await stream.aclose()
            raise httpcore2.ConnectError(str(error)) from error
        except BaseException:
            await stream.aclose()
            raise
        return stream

    async def _shake_hands(self, wrapped: ssl.SSLSocket) -> None:
        while True:
            try:
                wrapped.do_handshake()
            except _NOT_YET as error:
                await self._wait(error, anyio.wait_readable)
            else:
                return

    def get_extra_info(self, info: str) -> Any:
        """What the pool's own connections ask; of these only whether there is something to read is of use here."""
        if info == "is_readable":
            return self._is_readable()
        if info == "socket":
            return self._socket
        return None

    def _is_readable(self) -> bool:
        if self._poll is not None:
            return bool(self._poll.poll(0))
        return self._socket.fileno() < 0 or bool(select.select([self._socket], [], [], 0)[0])


class SocketBackend(httpcore2.AsyncNetworkBackend):
    """Connects sockets."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> SocketStream:
        """A connection to whichever of a host's addresses answers first.

        Raises:
            httpcore2.ConnectTimeout: None of them did in time.
            httpcore2.ConnectError: None can be reached, or there is no such host.
        """
        try:
            with anyio.fail_after(timeout):
                connected = await _connect(await _addresses(host, port), local_address, socket_options or ())
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        return SocketStream(connected)


# The event loops' own streams are not asked for a socket: closing one may end the connection for all who have it.


async def _addresses(host: str, port: int) -> list[_Address]:
    """A host's addresses, those of its first family and those of the other by turns."""
    found: Iterable[Any]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: list[_Address] = [(family, address) for family, _, _, _, address in found]
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    return [address for pair in zip_longest(first, others) for address in pair if address is not None]


async def _connect(addresses: list[_Address], local: str | None, options: Iterable[Any]) -> socket.socket:
    """A socket that is connected to the first of the addresses that answers.

    Raises:
        OSError: None of them does.
    """
    connected: list[socket.socket] = []
    errors: list[OSError] = []
    scope = anyio.CancelScope()

    async def attempt(address: _Address, ended: anyio.Event) -> None:
        try:
            connected.append(await _connect_to(address, local, options))
            scope.cancel()
        except OSError as error:
            errors.append(error)
        ended.set()

    try:
        with scope:
            async with anyio.create_task_group() as tasks:
                for address in addresses:
                    ended = anyio.Event()
                    tasks.start_soon(attempt, address, ended)
                    with anyio.move_on_after(_PATIENCE):
                        await ended.wait()
    except BaseException:
        _close(connected)
        raise
    _close(connected[1:])
    if not connected:
        raise OSError("; ".join(str(error) for error in errors)) from errors[0]
    return connected[0]


async def _connect_to(address: _Address, local: str | None, options: Iterable[Any]) -> socket.socket:
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in options:
            made.setsockopt(*option)
        if local is not None:
            made.bind((local, 0))
        await _finish(made, where)
    except BaseException:
        made.close()
        raise
    return made


async def _finish(made: socket.socket, where: Any) -> None:
    try:
        made.connect(where)
    except _NOT_YET:
        await anyio.wait_writable(made)
    failed = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, os.strerror(failed))


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


def _poll_of(connected: socket.socket) -> Any:
    """What is asked whether there is something to read; `None` where there is nothing but `select`."""
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return poll
