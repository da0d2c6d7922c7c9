"""Invoke: start an execution of a durable function, or call a plain one; wait for the outcome, or not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.background import BackgroundTask
from starlette.responses import Response

from .._kernel.errors import encode_error
from .._wire import ErrorObject, ExecutionStatus
from .._wire.limits import MAX_EXECUTION_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES
from ..exceptions import DurableError
from ..local.functions import PlainFunction
from ..local.machine.execution import version_of
from .errors import JSON, RefusedError
from .requests import engine_of, execution_name

if TYPE_CHECKING:
    from starlette.requests import Request

    from ..local import Run

_log = logging.getLogger("durable.server")

_KINDS: Final = ("RequestResponse", "Event", "DryRun")


async def invoke(request: Request) -> Response:
    """Invoke."""
    kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
    if kind not in _KINDS:
        raise RefusedError(f"InvocationType is one of {', '.join(_KINDS)}, not {kind!r}")
    function = request.path_params["function"]
    found = engine_of(request).functions.named(function)
    payload = await _payload(
        request, MAX_EXECUTION_PAYLOAD_BYTES if kind == "RequestResponse" else MAX_PAYLOAD_BYTES
    )
    name = execution_name(request.headers.get("X-Amz-Durable-Execution-Name"))
    if kind == "DryRun":
        return Response(status_code=204)
    if isinstance(found, PlainFunction):
        if name is not None:
            raise RefusedError(f"{function} is not a durable function: its invocations have no names")
        return await _call(found, payload, kind)
    run = await engine_of(request).start_registered(function, payload, name=name)
    if kind == "Event":
        return Response(status_code=202, headers=_headers(run))
    return await _outcome(run)


async def _payload(request: Request, limit: int) -> str:
    """The event, JSON text; `{}` if there is none, as on Lambda."""
    body = await request.body() or b"{}"
    if len(body) > limit:
        raise RefusedError(
            f"a payload has at most {limit:,} bytes, this one {len(body):,}",
            code="RequestTooLargeException",
            status=413,
        )
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        return body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            f"Could not parse request body into json: {error}", code="InvalidRequestContentException"
        ) from error


async def _outcome(run: Run[object]) -> Response:
    """Wait for an execution, however long it takes; whoever asked may leave, and ask again by its name."""
    headers = _headers(run)
    try:
        record = await run.wait()
    except DurableError as error:
        # It is not over, but does not go on here: its code is missing, or does not follow its history.
        return _failed(encode_error(error), headers)
    if record.status is ExecutionStatus.SUCCEEDED:
        return Response(record.result or "null", headers=headers, media_type=JSON)
    ended = ErrorObject(error_type=f"Execution.{record.status}", error_message=f"the execution is {record.status}")
    return _failed(record.error or ended, headers)


async def _call(function: PlainFunction, payload: str, kind: str) -> Response:
    if kind == "Event":
        return Response(status_code=202, background=BackgroundTask(_call_aside, function, payload))
    try:
        result = await function.call(payload)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's outcome
        return _failed(encode_error(error), {})
    return Response(result, headers={"X-Amz-Executed-Version": "$LATEST"}, media_type=JSON)


async def _call_aside(function: PlainFunction, payload: str) -> None:
    try:
        await function.call(payload)
    except Exception:  # noqa: BLE001 - nobody waits for it
        _log.exception("function %s raised, and nobody waits for it", function.name)


def _headers(run: Run[object]) -> dict[str, str]:
    return {"X-Amz-Durable-Execution-Arn": run.arn, "X-Amz-Executed-Version": version_of(run.arn)}


def _failed(error: ErrorObject, headers: dict[str, str]) -> Response:
    """A function's error as Lambda answers it: the call itself was fine."""
    body = {
        "errorMessage": error.error_message,
        "errorType": error.error_type,
        "errorData": error.error_data,
        "stackTrace": error.stack_trace,
    }
    told = {key: value for key, value in body.items() if value is not None}
    return Response(
        msgspec.json.encode(told), headers={**headers, "X-Amz-Function-Error": "Unhandled"}, media_type=JSON
    )
