"""The HTTP session under the AWS client: aiobotocore's place for one, filled with httpcore's connection pool.

aiobotocore takes any subclass of its `HttpxSession` for one that runs on both event loops. This one leaves out the
HTTP client above the pool: botocore has prepared and signed the request already, down to its bytes. What remains is
the pool's: TLS, proxies, HTTP/1.1, and that a connection which died while it was idle, or while the sandbox was
frozen, is noticed before it is used again.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self

import anyio.to_thread
import httpcore2

from . import untyped
from .connection import Outgoing, target_of
from .pool import Pool
from .tls import make_tls_context, tls_context

DEFAULT_TIMEOUT: Final = 60.0
"""Seconds, if nobody says otherwise: botocore's own number."""

_KEEPALIVE: Final = 12.0
_WRITE_TIMEOUT: Final = 5.0
_POOL_TIMEOUT: Final = 5.0
"""Seconds: aiobotocore's own numbers."""


class PoolSession(untyped.HttpxSession):  # type: ignore[misc] # untyped; it is the session class that is known to aiobotocore
    """An HTTP session of aiobotocore's that sends through a connection pool, on asyncio and on trio.

    The parameters are those that aiobotocore gives its session classes. Bodies of answers are read whole.

    Attributes:
        made: Of a class of its own for one client: the session that the client sends with.
    """

    made: ClassVar[PoolSession | None] = None

    def __init__(  # noqa: PLR0917 - aiobotocore's signature
        self,
        verify: bool | str | None = True,  # noqa: FBT001, FBT002 - the same
        proxies: Mapping[str, str] | None = None,
        timeout: float | tuple[float | None, float | None] | list[float | None] | None = DEFAULT_TIMEOUT,
        max_pool_connections: int = 10,
        socket_options: list[Any] | None = None,
        client_cert: str | tuple[str, str] | None = None,
        proxies_config: Mapping[str, Any] | None = None,
        connector_args: Mapping[str, Any] | None = None,
    ) -> None:
        options = connector_args or {}
        connect, read = timeout if isinstance(timeout, (tuple, list)) else (timeout, timeout)
        self._verify: bool | str = True if verify is None else verify
        self._tls: ssl.SSLContext | None = options.get("ssl_context")
        self._certificate = client_cert
        self._proxy_for = untyped.make_proxies(proxies, proxies_config)
        self._has_proxies = bool(proxies)
        self._timeouts: dict[str, float | None] = {
            "connect": connect,
            "read": read,
            "write": options.get("write_timeout", _WRITE_TIMEOUT),
            "pool": options.get("pool_timeout", _POOL_TIMEOUT),
        }
        self._keepalive: float | None = options.get("keepalive_timeout", _KEEPALIVE)
        self._max_connections = max_pool_connections
        self._socket_options = socket_options
        # One for each proxy that is used, and one for what goes without, by the proxy's URL.
        self._pools: dict[str | None, Pool] = {}

    async def __aenter__(self) -> Self:
        if self._tls is None:
            # In a thread, as it reads files: 20 ms for all the authorities that botocore trusts.
            self._tls = await anyio.to_thread.run_sync(tls_context, self._verify, self._certificate)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, {}
        with anyio.CancelScope(shield=True):
            for pool in pools.values():
                await pool.aclose()

    async def send(self, request: Any) -> Any:
        """Send a request that botocore has prepared, and read its answer whole.

        Raises:
            Exception: botocore's own, for whatever goes wrong on the way: its retries know them.
        """
        url: str = request.url
        proxy: str | None = self._proxy_for.proxy_url_for(url) if self._has_proxies else None
        outgoing = Outgoing(request.method, target_of(url), request.headers.items(), _body(request.body))
        try:
            answer = await self._pool(proxy).exchange(outgoing, self._timeouts_of(request))
        except (httpcore2.ConnectTimeout, httpcore2.PoolTimeout) as error:
            raise untyped.connect_timeout(url, error) from error
        except httpcore2.TimeoutException as error:
            raise untyped.read_timeout(url, error) from error
        except httpcore2.ProxyError as error:
            raise untyped.connect_error(url, error, proxy=proxy, tls=None) from error
        except (httpcore2.ConnectError, ssl.SSLError) as error:
            raise untyped.connect_error(url, error, proxy=proxy, tls=_tls_error(error)) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise untyped.connection_closed(url, error) from error
        return untyped.make_response(url, answer.status, answer.headers, answer)

    def _pool(self, proxy: str | None) -> Pool:
        pool = self._pools.get(proxy)
        if pool is None:
            pool = self._pools[proxy] = Pool(
                ssl_context=self._tls,
                proxy=None if proxy is None else self._make_proxy(proxy),
                max_connections=self._max_connections,
                keepalive_expiry=self._keepalive,
                socket_options=self._socket_options,
            )
        return pool

    def _make_proxy(self, url: str) -> httpcore2.Proxy:
        settings: Mapping[str, Any] = self._proxy_for.settings
        context = None
        if url.startswith("https:"):
            context = make_tls_context(self._verify, settings.get("proxy_client_cert"))
            if "proxy_ca_bundle" in settings:
                context.load_verify_locations(settings["proxy_ca_bundle"])
        return httpcore2.Proxy(url, headers=self._proxy_for.proxy_headers_for(url), ssl_context=context)

    def _timeouts_of(self, request: Any) -> dict[str, float | None]:
        context: Mapping[str, Any] = getattr(request, "context", None) or {}
        own = context.get("read_timeout")
        return self._timeouts if own is None else {**self._timeouts, "read": own}


def own_session_class() -> type[PoolSession]:
    """A session class for one client, which knows the session that the client has made of it (`made`)."""

    class Own(PoolSession):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            Own.made = self

    return Own


def _body(body: Any) -> bytes:
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        return body.encode()
    return b"" if body is None else bytes(body)


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS handshake's own error, if that is what kept the connection from being made."""
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, ssl.SSLError):
            return current
        current = current.__cause__ or current.__context__
    return None
