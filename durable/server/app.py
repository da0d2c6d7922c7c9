"""The ASGI application: which path is which operation. Paths as botocore's Lambda model has them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from ..exceptions import DurableError
from . import callbacks, executions
from .errors import answer_of, refusal
from .guard import LOOPBACK, Guard
from .invoke import invoke
from .remote import RemoteFunction
from .runtime_api import make_runtime_api

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ..local import Engine

_log = logging.getLogger("durable.server")

_EXECUTION: Final = "/2025-12-01/durable-executions/{arn:path}"
_CALLBACK: Final = "/2025-12-01/durable-execution-callbacks/{callback:path}"

_ROUTES: Final = (
    Route("/2015-03-31/functions/{function}/invocations", invoke, methods=["POST"]),
    Route("/2025-12-01/functions/{function}/durable-executions", executions.list_by_function, methods=["GET"]),
    # Those with something after the ARN first: an ARN has slashes, and the last one would be part of it.
    Route(f"{_EXECUTION}/checkpoint", executions.checkpoint, methods=["POST"]),
    Route(f"{_EXECUTION}/state", executions.state, methods=["GET"]),
    Route(f"{_EXECUTION}/history", executions.history, methods=["GET"]),
    Route(f"{_EXECUTION}/stop", executions.stop, methods=["POST"]),
    Route(f"{_EXECUTION}/pause", executions.pause, methods=["POST"]),
    Route(f"{_EXECUTION}/resume", executions.resume, methods=["POST"]),
    Route("/durable/executions/{arn:path}/logs", executions.logs, methods=["GET"]),
    Route(_EXECUTION, executions.get, methods=["GET"]),
    Route(_EXECUTION, executions.delete, methods=["DELETE"]),
    Route(f"{_CALLBACK}/succeed", callbacks.succeed, methods=["POST"]),
    Route(f"{_CALLBACK}/fail", callbacks.fail, methods=["POST"]),
    Route(f"{_CALLBACK}/heartbeat", callbacks.heartbeat, methods=["POST"]),
)


def make_app(
    open_engine: Callable[[], AbstractAsyncContextManager[Engine]],
    *,
    hosts: frozenset[str] = LOOPBACK,
    token: str | None = None,
    store: str | None = None,
    runtimes: Mapping[int, RemoteFunction] = MappingProxyType({}),
) -> ASGIApp:
    """The API over an engine, on either event loop.

    Args:
        open_engine: Opens the engine when the application starts; it is closed when that ends.
        hosts: The names by which the server may be called, without ports; all, if there are none.
        token: What each request must have as its bearer token, or as the access key id that it is signed with.
        store: The store's file, beside which it is kept what functions log; if it is.
        runtimes: The functions whose processes ask for invocations, by the port at which each of them asks.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with open_engine() as engine:
            app.state.engine = engine
            app.state.store = store
            yield

    main = Starlette(
        routes=_ROUTES,
        middleware=[Middleware(_RequestIds), Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={
            DurableError: _refused,
            Exception: _refused,
            HTTPStatus.NOT_FOUND: _no_such,
            HTTPStatus.METHOD_NOT_ALLOWED: _no_such,
        },
        lifespan=lifespan,
    )
    if not runtimes:
        return main
    apis = {port: make_runtime_api(function) for port, function in runtimes.items()}

    async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
        app = apis.get(scope["server"][1], main) if scope["type"] == "http" else main
        await app(scope, receive, send)

    return by_port


class _RequestIds:
    """Gives each answer an id, as Lambda does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-amzn-requestid", str(uuid4()).encode())]
            await send(message)

        await self._app(scope, receive, send_with_id)


async def _refused(request: Request, error: Exception) -> Response:
    answer = answer_of(error)
    if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s could not be answered", request.method, request.url.path, exc_info=error)
    return answer


async def _no_such(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the same
    text = (
        f"{request.method} {request.url.path} is not supported here: this server has what durable executions need "
        "of Lambda's API, Invoke and the operations on durable executions and their callbacks"
    )
    return refusal("UnsupportedOperationException", text, HTTPStatus.NOT_FOUND)
