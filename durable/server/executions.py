"""Executions: get one, its history, its state; list them; stop, pause, delete one; what functions write of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio.to_thread
import msgspec
from starlette.responses import Response

from .._wire import ExecutionStatus
from .._wire.calls import (
    DeleteDurableExecutionResponse,
    DurableConfig,
    ExecutionSummary,
    GetDurableExecutionResponse,
    ListDurableExecutionsByFunctionResponse,
    PauseDetails,
    StopDurableExecutionResponse,
)
from .._wire.codec import (
    CHECKPOINT_REQUEST,
    CHECKPOINT_RESPONSE,
    DELETE_RESPONSE,
    ERROR_REQUEST,
    EXECUTION_RESPONSE,
    HISTORY_RESPONSE,
    LIST_RESPONSE,
    PAUSE_REQUEST,
    RESUME_REQUEST,
    STATE_RESPONSE,
    STOP_RESPONSE,
)
from .._wire.events import (
    DETAILS_FIELD,
    Event,
    EventError,
    EventInput,
    EventReason,
    EventResult,
    GetDurableExecutionHistoryResponse,
)
from .._wire.limits import MAX_REASON_LENGTH
from .._wire.patterns import CLIENT_TOKEN_PATTERN
from .._wire.shapes import ErrorObject, Shape
from ..abc import ExecutionRecord, Listing
from ..local.logs import LOGS_RESPONSE, LogsResponse, read_lines
from ..local.machine.execution import function_arn, version_of
from ..local.machine.pausing import expires_at
from .errors import JSON, RefusedError
from .requests import body_of, engine_of, execution_name, flag, instant, marker, page_size

if TYPE_CHECKING:
    from starlette.requests import Request

_POSITION: Final = re.compile(r"([0-9]{1,20}-[0-9]{1,20})?")
_TRUNCATED: Final = {
    "input": EventInput(truncated=True),
    "result": EventResult(truncated=True),
    "error": EventError(truncated=True),
    "reason": EventReason(truncated=True),
}
_DATA: Final = (EventInput, EventResult, EventError, EventReason)


# --- What people and tools ask -----------------------------------------------------------------------------------


async def get(request: Request) -> Response:
    """GetDurableExecution."""
    record = await _execution(request)
    with_data = flag(request, "IncludeExecutionData", default=True)
    answer = GetDurableExecutionResponse(
        durable_execution_arn=record.arn,
        durable_execution_name=record.name,
        function_arn=function_arn(record.arn),
        start_timestamp=record.start_timestamp,
        end_timestamp=record.end_timestamp,
        status=record.status,
        version=version_of(record.arn),
        input_payload=record.input if with_data else None,
        result=record.result if with_data else None,
        error=record.error if with_data else None,
        durable_config=None if record.timeout is None else DurableConfig(execution_timeout=record.timeout),
        pause_details=_pause_details(record, with_data=with_data),
        expected_execution_timeout_timestamp=None if record.status.is_over else expires_at(record),
    )
    return Response(EXECUTION_RESPONSE.encode(answer), media_type=JSON)


async def history(request: Request) -> Response:
    """GetDurableExecutionHistory."""
    record = await _execution(request)
    size, begin = page_size(request), marker(request)
    with_data = flag(request, "IncludeExecutionData", default=True)
    if flag(request, "ReverseOrder", default=False):
        events = [
            event for event in await engine_of(request).history(record.name) if not begin or event.event_id < begin
        ]
        events.reverse()
    else:
        events = list(await engine_of(request).history(record.name, begin))
    page = events[:size]
    answer = GetDurableExecutionHistoryResponse(
        events=tuple(map(_with_data if with_data else _without_data, page)),
        next_marker=str(page[-1].event_id) if len(events) > size else None,
    )
    return Response(HISTORY_RESPONSE.encode(answer), media_type=JSON)


async def list_by_function(request: Request) -> Response:
    """ListDurableExecutionsByFunction."""
    wanted = Listing(
        function=target_of_function(request, request.path_params["function"]),
        statuses=_statuses(request),
        name=execution_name(request.query_params.get("DurableExecutionName")),
        started_after=instant(request, "StartedAfter"),
        started_before=instant(request, "StartedBefore"),
        oldest_first=flag(request, "ReverseOrder", default=False),
        position=marker(request),
        limit=page_size(request),
    )
    page = await engine_of(request).listing(wanted)
    answer = ListDurableExecutionsByFunctionResponse(
        durable_executions=tuple(map(_summary, page.records)),
        next_marker=None if page.position is None else str(page.position),
    )
    return Response(LIST_RESPONSE.encode(answer), media_type=JSON)


async def stop(request: Request) -> Response:
    """StopDurableExecution. What has ended is left as it is."""
    record = await _execution(request)
    error = await body_of(request, ERROR_REQUEST)
    ended = await engine_of(request).stop(record.name, None if error == ErrorObject() else error)
    answer = StopDurableExecutionResponse(stop_timestamp=ended.end_timestamp or ended.start_timestamp)
    return Response(STOP_RESPONSE.encode(answer), media_type=JSON)


async def pause(request: Request) -> Response:
    """PauseDurableExecution."""
    record = await _execution(request)
    asked = await body_of(request, PAUSE_REQUEST)
    _check(asked.reason, asked.client_token)
    await engine_of(request).pause(
        record.name, asked.reason, holds_timeout=asked.execution_timeout_paused, token=asked.client_token
    )
    return Response(b"{}", status_code=HTTPStatus.ACCEPTED, media_type=JSON)


async def resume(request: Request) -> Response:
    """ResumeDurableExecution."""
    record = await _execution(request)
    asked = await body_of(request, RESUME_REQUEST)
    _check(asked.reason, asked.client_token)
    await engine_of(request).unpause(record.name, asked.reason, token=asked.client_token)
    return Response(b"{}", status_code=HTTPStatus.ACCEPTED, media_type=JSON)


async def delete(request: Request) -> Response:
    """DeleteDurableExecution. It is gone when this is answered."""
    record = await _execution(request)
    engine = engine_of(request)
    answer = DeleteDurableExecutionResponse(deletion_request_timestamp=engine.service.clock.now())
    await engine.delete(record.name)
    return Response(DELETE_RESPONSE.encode(answer), status_code=HTTPStatus.ACCEPTED, media_type=JSON)


async def logs(request: Request) -> Response:
    """What the function has logged by its context: no operation of Lambda's, but one of this server's own."""
    record = await _execution(request)
    store: str | None = request.app.state.store
    if store is None:
        raise RefusedError("this server does not keep what functions log", code="UnsupportedOperationException")
    after = request.query_params.get("After", "")
    if _POSITION.fullmatch(after) is None:
        raise RefusedError("After is where an earlier answer has ended")
    lines, position = await anyio.to_thread.run_sync(read_lines, store, record.arn, after)
    answer = LogsResponse(lines=tuple(lines), position=position)
    return Response(LOGS_RESPONSE.encode(answer), media_type=JSON)


# --- What functions call -----------------------------------------------------------------------------------------


async def checkpoint(request: Request) -> Response:
    """CheckpointDurableExecution."""
    asked = await body_of(request, CHECKPOINT_REQUEST)
    answer = await engine_of(request).service.checkpoint(
        request.path_params["arn"], asked.checkpoint_token, asked.updates, asked.client_token or uuid4().hex
    )
    return Response(CHECKPOINT_RESPONSE.encode(answer), media_type=JSON)


async def state(request: Request) -> Response:
    """GetDurableExecutionState."""
    query = request.query_params
    if "CheckpointToken" not in query:
        raise RefusedError("CheckpointToken is required")
    answer = await engine_of(request).service.get_state(
        request.path_params["arn"], query["CheckpointToken"], query.get("Marker", ""), page_size(request)
    )
    return Response(STATE_RESPONSE.encode(answer), media_type=JSON)


# --- How they are told -------------------------------------------------------------------------------------------


def target_of_function(request: Request, name: str) -> str:
    """What executions of a function are found by.

    Raises:
        TargetNotFoundError: No function is registered by that name.
        NotDurableError: It is a plain function.
    """
    functions = engine_of(request).functions
    return functions.add(functions.durable(name))


async def _execution(request: Request) -> ExecutionRecord:
    return await engine_of(request).execution_by_arn(request.path_params["arn"])


def _statuses(request: Request) -> list[ExecutionStatus]:
    found = request.query_params.getlist("Statuses")
    try:
        return [ExecutionStatus(text) for text in found]
    except ValueError:
        known = ", ".join(ExecutionStatus)
        raise RefusedError(f"Statuses are some of {known}, not {found}") from None


def _check(reason: str | None, token: str | None) -> None:
    if reason is not None and len(reason) > MAX_REASON_LENGTH:
        raise RefusedError(f"a Reason has at most {MAX_REASON_LENGTH:,} characters, not {len(reason):,}")
    if token is not None and CLIENT_TOKEN_PATTERN.fullmatch(token) is None:
        raise RefusedError("a ClientToken has 1 to 64 characters that can be printed")


def _pause_details(record: ExecutionRecord, *, with_data: bool) -> PauseDetails | None:
    if record.pause is None:
        return None
    return PauseDetails(
        pause_request_timestamp=record.pause.requested,
        execution_timeout_paused=record.pause.holds_timeout,
        reason=record.pause.reason if with_data else None,
    )


def _summary(record: ExecutionRecord) -> ExecutionSummary:
    return ExecutionSummary(
        durable_execution_arn=record.arn,
        durable_execution_name=record.name,
        function_arn=function_arn(record.arn),
        status=record.status,
        start_timestamp=record.start_timestamp,
        end_timestamp=record.end_timestamp,
    )


def _with_data(event: Event) -> Event:
    details = event.details
    if details is None:
        return event
    whole = {
        name: msgspec.structs.replace(data, truncated=False)
        for name, data in ((name, getattr(details, name, None)) for name in _TRUNCATED)
        if isinstance(data, _DATA)
    }
    return _replaced(event, details, whole)


def _without_data(event: Event) -> Event:
    details = event.details
    if details is None:
        return event
    left_out = {
        name: empty for name, empty in _TRUNCATED.items() if getattr(getattr(details, name, None), "payload", None)
    }
    return _replaced(event, details, left_out)


def _replaced(event: Event, details: Shape, data: Mapping[str, Shape]) -> Event:
    """An event with other data."""
    changed: Shape = msgspec.structs.replace(details, **data)
    return msgspec.structs.replace(event, **{DETAILS_FIELD[event.event_type]: changed})
