"""Who may talk to the server: nobody from another site's page, and nobody without the token if there is one."""

from __future__ import annotations

import hmac
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .errors import RefusedError, refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

MAX_BODY_BYTES: Final = 20 * 1024 * 1024
"""More than any request of the API has: the largest is a call with 250 updates, or an input of 6 MB."""

_CREDENTIAL: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/")


class Guard:
    """Middleware that looks at each request before anything else does.

    A page of another site can have a browser send requests to 127.0.0.1, and can have a name of its own point
    there (DNS rebinding). The first has an Origin that is not this server, the second a Host that is not: both
    are refused.

    Args:
        app: What is guarded.
        hosts: The names by which the server may be called, without ports; all, if there are none.
        token: What each request must have as its bearer token, or as the access key id that it is signed with.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] = LOOPBACK, token: str | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        why = self._why_not(Headers(scope=scope))
        if why is not None:
            await refusal("AccessDeniedException", why, HTTPStatus.FORBIDDEN)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive), send)

    def _why_not(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self._hosts and _name_in(f"//{host}") not in self._hosts:
            return f"this server is not called {host!r}: call it by one of {', '.join(sorted(self._hosts))}"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return f"requests from pages of {origin} are refused"
        if self._token is not None and not self._has_token(headers.get("authorization", "")):
            return "the token is missing, or another one: send it as a bearer token, or as the access key id"
        return None

    def _has_token(self, authorization: str) -> bool:
        signed = _CREDENTIAL.match(authorization)
        found = authorization.removeprefix("Bearer ") if signed is None else signed[1]
        return hmac.compare_digest(found.encode(), (self._token or "").encode())


def _bounded(receive: Receive) -> Receive:
    """What receives a request, up to the size that any may have."""
    size = 0

    async def receive_some() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY_BYTES:
            raise RefusedError(
                f"a request has at most {MAX_BODY_BYTES:,} bytes",
                code="RequestTooLargeException",
                status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        return message

    return receive_some


def _name_in(url: str) -> str:
    """The host's name in a URL, without a port."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
