"""EXECUTION: the operation that stands for the whole.

It is there from the start, with the input. It ends by an update (a result that is too large for an answer), or by
an invocation's answer; both come through `finish`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from ..._wire import (
    ErrorObject,
    ExecutionStatus,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from ..._wire.events import EventType
from ..._wire.limits import MAX_EXECUTION_NAME_LENGTH
from ..._wire.operations import ExecutionDetails
from ...abc import Caller, EventRecord, ExecutionRecord
from .rules import RefusedUpdateError

_EVENT: Final = {
    ExecutionStatus.SUCCEEDED: EventType.EXECUTION_SUCCEEDED,
    ExecutionStatus.FAILED: EventType.EXECUTION_FAILED,
    ExecutionStatus.TIMED_OUT: EventType.EXECUTION_TIMED_OUT,
    ExecutionStatus.STOPPED: EventType.EXECUTION_STOPPED,
}

_SUFFIX: Final = 8
"""Hex characters that tell apart executions started without a name; twice as many where nobody can try again."""


def new_record(
    execution_id: str,
    function: str,
    target: str,
    payload: str | None,
    now: Timestamp,
    *,
    name: str | None = None,
    caller: Caller | None = None,
    timeout: int | None = None,
) -> ExecutionRecord:
    """An execution that begins.

    Args:
        execution_id: Its id: characters of `[a-zA-Z0-9_-]`.
        function: What its function is called.
        target: What its function is loaded by.
        payload: Its input, JSON text.
        now: What time it is.
        name: Its name; by default made of the function's and the id.
        caller: The chained invoke that starts it.
        timeout: Seconds that it may take; `None` if there is no limit.
    """
    plain = re.sub(r"[^a-zA-Z0-9_-]", "-", function)
    if name is None:
        suffix = execution_id[: _SUFFIX if caller is None else 2 * _SUFFIX]
        name = f"{plain[: MAX_EXECUTION_NAME_LENGTH - 1 - len(suffix)]}-{suffix}"
    return ExecutionRecord(
        id=execution_id,
        name=name,
        # As AWS makes them, of an account that it does not have.
        arn=f"arn:aws:lambda:us-east-1:000000000000:function:{plain}:1/durable-execution/{name}/{execution_id}",
        function=target,
        status=ExecutionStatus.RUNNING,
        start_timestamp=now,
        input=payload,
        caller=caller,
        timeout=timeout,
    )


def function_arn(arn: str) -> str:
    """The ARN of an execution's function, with its version."""
    return arn.partition("/")[0]


def name_of(arn: str) -> str:
    """The name of an execution."""
    return arn.rpartition("/")[0].rpartition("/")[2]


def version_of(arn: str) -> str:
    """The version of its function that an execution runs on."""
    return function_arn(arn).rpartition(":")[2]


def operation_of(record: ExecutionRecord) -> Operation:
    """The EXECUTION operation, as an invocation sees it."""
    return Operation(
        id=record.id,
        type=OperationType.EXECUTION,
        start_timestamp=record.start_timestamp,
        status=OperationStatus.STARTED,
        name=record.name,
        execution_details=ExecutionDetails(input_payload=record.input),
    )


def finish(
    record: ExecutionRecord,
    now: Timestamp,
    status: ExecutionStatus,
    *,
    result: str | None = None,
    error: ErrorObject | None = None,
) -> tuple[ExecutionRecord, EventRecord]:
    """The execution after its end, and the event."""
    ended = msgspec.structs.replace(
        record, status=status, end_timestamp=now, result=result, error=error, pause=None
    )
    return ended, EventRecord(_EVENT[status], now)


def answered(
    record: ExecutionRecord, outcome: InvocationOutput, now: Timestamp, *, let_pass: bool
) -> tuple[ExecutionRecord, EventRecord] | None:
    """The execution after an invocation's answer, and the event; `None` if it does not end by it.

    Args:
        record: The execution.
        outcome: What was answered.
        now: What time it is.
        let_pass: Whether PENDING is let pass.
    """
    if outcome.status is InvocationStatus.SUCCEEDED:
        return finish(record, now, ExecutionStatus.SUCCEEDED, result=outcome.result)
    if outcome.status is InvocationStatus.FAILED:
        return finish(record, now, ExecutionStatus.FAILED, error=outcome.error)
    if let_pass:
        return None
    error = ErrorObject(
        error_type="InvalidPendingAnswer",
        error_message="the function answered PENDING although nothing is pending",
    )
    return finish(record, now, ExecutionStatus.FAILED, error=error)


def apply(record: ExecutionRecord, update: OperationUpdate, now: Timestamp) -> tuple[ExecutionRecord, EventRecord]:
    """The execution after an EXECUTION update, and the event.

    Raises:
        RefusedUpdateError: Neither SUCCEED nor FAIL, or with what does not belong to it.
    """
    if update.action is OperationAction.SUCCEED and update.error is None:
        return finish(record, now, ExecutionStatus.SUCCEEDED, result=update.payload)
    if update.action is OperationAction.FAIL and update.payload is None:
        return finish(record, now, ExecutionStatus.FAILED, error=update.error)
    raise RefusedUpdateError("an EXECUTION ends with SUCCEED and no Error, or FAIL and no Payload", update)
