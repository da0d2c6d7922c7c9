"""Lambda's Runtime API: a function's process asks for invocations and answers them. One address a function."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final

import anyio
import anyio.lowlevel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from ..exceptions import RecordedError
from .errors import JSON
from .guard import Guard
from .remote import UNKNOWN, RemoteFunction, RemoteInvocation

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

_log = logging.getLogger("durable.server")

_ROOT: Final = "/2018-06-01/runtime"
_ARN: Final = "arn:aws:lambda:us-east-1:000000000000:function:"
_TRACE: Final = "Root=1-00000000-000000000000000000000000;Sampled=0"


def make_runtime_api(function: RemoteFunction) -> ASGIApp:
    """The Runtime API of one function."""
    app = Starlette(
        routes=(
            Route(f"{_ROOT}/invocation/next", _next, methods=["GET"]),
            Route(f"{_ROOT}/invocation/{{request_id}}/response", _response, methods=["POST"]),
            Route(f"{_ROOT}/invocation/{{request_id}}/error", _error, methods=["POST"]),
            Route(f"{_ROOT}/init/error", _init_error, methods=["POST"]),
        ),
        middleware=[Middleware(Guard)],
    )
    app.state.function = function
    return app


async def _next(request: Request) -> Response:
    """The next invocation; waits for it as long as the runtime does."""
    function = _function(request)
    found: list[RemoteInvocation] = []

    async def ask() -> None:
        found.append(await function.next())
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                tasks.cancel_scope.cancel()
                await anyio.lowlevel.checkpoint()
    if not found:
        return Response(status_code=204)  # nobody is there to read it
    (invocation,) = found
    if await request.is_disconnected():
        function.give_back(invocation)
        return Response(status_code=204)
    headers = {
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline),
        "Lambda-Runtime-Invoked-Function-Arn": f"{_ARN}{function.name}:1",
        "Lambda-Runtime-Trace-Id": _TRACE,
    }
    return Response(invocation.body, headers=headers, media_type=JSON)


async def _response(request: Request) -> Response:
    return _answered(request, await request.body())


async def _error(request: Request) -> Response:
    return _answered(request, await _told(request))


async def _init_error(request: Request) -> Response:
    error = await _told(request)
    _log.error("%s cannot be initialized: %s", _function(request).name, error)
    _function(request).fail(f"it cannot be initialized: {error}")
    return _accepted()


def _answered(request: Request, answer: bytes | RecordedError) -> Response:
    if _function(request).answer(request.path_params["request_id"], answer):
        return _accepted()
    body = b'{"errorMessage":"the invocation is not known, or was given up","errorType":"InvalidRequestID"}'
    return Response(body, 400, media_type=JSON)


def _accepted() -> Response:
    return Response(b'{"status":"OK"}', 202, media_type=JSON)


async def _told(request: Request) -> RecordedError:
    """What a runtime says of an error, whatever its shape."""
    body = await request.body()
    try:
        told = json.loads(body)
        return RecordedError(str(told["errorType"]), str(told["errorMessage"]))
    except (ValueError, KeyError, TypeError):
        return RecordedError(UNKNOWN, body[:1000].decode(errors="replace") or "it did not say why")


def _function(request: Request) -> RemoteFunction:
    function: RemoteFunction = request.app.state.function
    return function
