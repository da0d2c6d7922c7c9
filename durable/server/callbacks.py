"""The three operations by which the world completes callbacks, or says that it is at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from .._wire.codec import ERROR_REQUEST
from .errors import JSON, RefusedError
from .requests import body_of, engine_of

if TYPE_CHECKING:
    from starlette.requests import Request


async def succeed(request: Request) -> Response:
    """SendDurableExecutionCallbackSuccess: the body is the result, text that is passed on as it is."""
    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"the Result is not UTF-8: {error}") from error
    await engine_of(request).complete_callback(request.path_params["callback"], text=text)
    return _done()


async def fail(request: Request) -> Response:
    """SendDurableExecutionCallbackFailure."""
    error = await body_of(request, ERROR_REQUEST)
    await engine_of(request).fail_callback(request.path_params["callback"], error)
    return _done()


async def heartbeat(request: Request) -> Response:
    """SendDurableExecutionCallbackHeartbeat."""
    await engine_of(request).heartbeat_callback(request.path_params["callback"])
    return _done()


def _done() -> Response:
    return Response(b"{}", media_type=JSON)
