"""httpcore2's connection pool, with our connections in it; mostly the one that is there is taken without asking."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import anyio
import httpcore2

from .connection import Answer, Connection, Outgoing, extensions_of
from .stream import SocketBackend


class Pool(httpcore2.AsyncConnectionPool):
    """The pool, with our connections where no proxy is in between."""

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None,
        proxy: httpcore2.Proxy | None,
        max_connections: int,
        keepalive_expiry: float | None,
        socket_options: Iterable[Any] | None,
    ) -> None:
        self._own_backend = SocketBackend()
        self._own_options = None if socket_options is None else list(socket_options)
        self._own_tls = ssl_context
        self._own_expiry = keepalive_expiry
        self._is_direct = proxy is None
        # The connection that was made last: mostly there is but one.
        self._latest: Connection | None = None
        # As many exchanges at a time as there may be connections. So nobody ever waits in the pool itself, which
        # would not know that a connection is free again which was taken without asking.
        self._places = anyio.Semaphore(max_connections, fast_acquire=True)
        # It runs on both event loops: the one that chooses loads trio, if that is installed.
        for_proxies: Any = httpcore2.AnyIOBackend()  # defined twice, for where there is no anyio
        super().__init__(
            ssl_context=ssl_context,
            proxy=proxy,
            max_connections=max_connections,
            keepalive_expiry=keepalive_expiry,
            network_backend=for_proxies,
            socket_options=socket_options,
        )

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.AsyncConnectionInterface:
        """A new connection; the pool decides when."""
        if not self._is_direct:
            return super().create_connection(origin)
        self._latest = Connection(
            origin,
            backend=self._own_backend,
            tls=self._own_tls,
            keepalive_expiry=self._own_expiry,
            socket_options=self._own_options,
        )
        return self._latest

    async def exchange(self, outgoing: Outgoing, timeouts: Mapping[str, float | None]) -> Answer:
        """Send a request, and read its answer whole.

        Raises:
            httpcore2.TimeoutException: One of the `timeouts` (by kind, in seconds) has passed.
            httpcore2.NetworkError: There is no connection any more, or none to be had.
            httpcore2.ProtocolError: What came is no answer.
        """
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            await self._place(timeouts.get("pool"))
        try:
            latest = self._latest
            # It may be taken without asking: the pool leaves alone what is busy.
            if (
                latest is not None
                and latest.can_handle_request(outgoing.target.origin)
                and latest.is_available()
                and not latest.has_expired()
            ):
                return await latest.exchange(
                    outgoing.method, outgoing.target, outgoing.headers, outgoing.body, timeouts
                )
            return await self._exchange(outgoing, timeouts)
        finally:
            self._places.release()

    async def _place(self, timeout: float | None) -> None:
        try:
            with anyio.fail_after(timeout):
                await self._places.acquire()
        except TimeoutError as error:
            raise httpcore2.PoolTimeout(f"no connection was free within {timeout} s") from error

    async def _exchange(self, outgoing: Outgoing, timeouts: Mapping[str, float | None]) -> Answer:
        response = await self.handle_async_request(outgoing.as_request(timeouts))
        try:
            # One of our connections has read it already.
            body: bytes = extensions_of(response).get("body") or await response.aread()
        finally:
            await response.aclose()
        return Answer(response.status, response.headers, body, reusable=False)
