"""What `--json` prints: the shapes that its lines and documents are made of.

Instants are ISO 8601 in UTC, durations seconds; what users' code returned is JSON and not text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .._kernel.errors import type_name
from .._wire import ErrorObject, Operation
from ..abc import ExecutionRecord, Pause
from ..exceptions import DurableError
from .awaited import Awaited
from .rollbacks import Rollback
from .texts import iso_text

_encode = msgspec.json.Encoder().encode


def encode(shape: Any) -> str:
    """A shape as JSON on one line."""
    return _encode(shape).decode()


def value_shape(payload: str | None) -> Any:
    """A recorded value: JSON within JSON, digit by digit as it was recorded."""
    if not payload:
        return None
    try:
        return msgspec.Raw(msgspec.json.format(payload.encode(), indent=-1))
    except msgspec.DecodeError:
        return payload


def error_shape(error: ErrorObject | None) -> dict[str, Any] | None:
    """A recorded error: `{"type", "message", "data", "stack_trace"}`."""
    if error is None:
        return None
    return {
        "type": error.error_type,
        "message": error.error_message,
        "data": error.error_data,
        "stack_trace": list(error.stack_trace or ()),
    }


def trouble_shape(error: DurableError) -> dict[str, Any]:
    """An error of ours, in the same shape."""
    return {"type": type_name(type(error)), "message": str(error), "data": None, "stack_trace": []}


def rollback_shape(rollback: Rollback) -> dict[str, Any]:
    """What became of a rollback."""
    return {
        "saga": rollback.name,
        "reason": error_shape(rollback.reason),
        "undone": rollback.undone,
        "failed": [{"name": one.name, "error": error_shape(one.error)} for one in rollback.failed],
        "skipped": [{"name": one.name, "error": error_shape(one.error)} for one in rollback.skipped],
        "not_attempted": rollback.not_attempted,
    }


def execution_shape(record: ExecutionRecord) -> dict[str, Any]:
    """An execution, with its outcome if it has one; without its input, which may be large."""
    end = record.end_timestamp
    return {
        "name": record.name,
        "id": record.id,
        "arn": record.arn,
        "function": record.function,
        "status": record.status,
        "started": iso_text(record.start_timestamp),
        "ended": None if end is None else iso_text(end),
        "seconds": None if end is None else (end - record.start_timestamp) / 1000,
        "invocations": record.invocations,
        "result": value_shape(record.result),
        "error": error_shape(record.error),
    }


def pause_shape(pause: Pause | None) -> dict[str, Any] | None:
    """That an execution is paused."""
    if pause is None:
        return None
    return {
        "requested": iso_text(pause.requested),
        "since": None if pause.since is None else iso_text(pause.since),
        "reason": pause.reason,
        "holds_timeout": pause.holds_timeout,
    }


def awaited_shape(one: Awaited) -> dict[str, Any]:
    """Something that an execution waits for."""
    return {
        "kind": one.kind,
        "name": one.name,
        "callback_id": one.callback_id,
        "saga": one.saga,
        "error": error_shape(one.error),
        "is_done": one.is_done,
    }


def operation_shape(operation: Operation, *, undoes: str | None, undone_by: str | None) -> dict[str, Any]:
    """An operation; `undoes` and `undone_by` are ids, and pair compensations with what they undo."""
    end, step, wait = operation.end_timestamp, operation.step_details, operation.wait_details
    callback = operation.callback_details
    until = wait.scheduled_end_timestamp if wait is not None else None
    if step is not None:
        until = step.next_attempt_timestamp
    return {
        "id": operation.id,
        "parent_id": operation.parent_id,
        "type": operation.type,
        "sub_type": operation.sub_type,
        "name": operation.name,
        "status": operation.status,
        "started": iso_text(operation.start_timestamp),
        "ended": None if end is None else iso_text(end),
        "seconds": None if end is None else (end - operation.start_timestamp) / 1000,
        "attempts": None if step is None else step.attempt,
        "until": None if until is None else iso_text(until),
        "callback_id": None if callback is None else callback.callback_id,
        "result": value_shape(operation.result),
        "error": error_shape(operation.error),
        "undoes": undoes,
        "undone_by": undone_by,
    }
