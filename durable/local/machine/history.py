"""History events as the API gives them, from what is kept of them.

An event is kept without what its operation holds: an operation ends once, so the result or error it ended with is
the one of its last event.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..._wire import ErrorObject, Operation, Timestamp
from ..._wire.events import (
    DETAILS_FIELD,
    CallbackStartedDetails,
    ChainedInvokeStartedDetails,
    EmptyDetails,
    Event,
    EventError,
    EventInput,
    EventReason,
    EventResult,
    EventType,
    ExecutionPausedDetails,
    ExecutionResumedDetails,
    ExecutionStartedDetails,
    FailureDetails,
    InvocationCompletedDetails,
    ResultDetails,
    RetryDetails,
    StepFailedDetails,
    StepSucceededDetails,
    WaitStartedDetails,
    WaitSucceededDetails,
)
from ..._wire.limits import MAX_DELAY_SECONDS
from ..._wire.shapes import Shape
from ...abc import EventRecord, ExecutionRecord, OperationExtra
from .execution import version_of
from .invoke import callee_record

_NOTHING = OperationExtra()


def event_of(
    number: int,
    kept: EventRecord,
    record: ExecutionRecord,
    operations: Mapping[str, Operation],
    extras: Mapping[str, OperationExtra] = {},
) -> Event:
    """One event, whole.

    Args:
        number: Its EventId.
        kept: What is kept of it.
        record: The execution.
        operations: The execution's operations by id.
        extras: What the wire does not carry of them, by id.
    """
    operation = operations.get(kept.operation_id) if kept.operation_id is not None else None
    extra = extras.get(kept.operation_id, _NOTHING) if kept.operation_id is not None else _NOTHING
    started = _started(kept, record, operation, extra) if operation is not None else None
    details = {DETAILS_FIELD[kept.type]: started or _details(number, kept, record, operation)}
    return Event(
        event_type=kept.type,
        event_id=number,
        event_timestamp=kept.timestamp,
        id=record.id if kept.operation_id is None else kept.operation_id,
        parent_id=operation.parent_id if operation is not None else None,
        name=operation.name if operation is not None else record.name,
        sub_type=operation.sub_type if operation is not None else None,
        **details,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def _details(number: int, kept: EventRecord, record: ExecutionRecord, operation: Operation | None) -> Shape:  # noqa: C901, PLR0911 - one line a type
    result = EventResult(payload=operation.result if operation is not None else record.result)
    match kept.type:
        case EventType.EXECUTION_STARTED:
            return ExecutionStartedDetails(
                input=EventInput(payload=record.input), execution_timeout=record.timeout or MAX_DELAY_SECONDS
            )
        case (
            EventType.EXECUTION_SUCCEEDED
            | EventType.CONTEXT_SUCCEEDED
            | EventType.CALLBACK_SUCCEEDED
            | EventType.CHAINED_INVOKE_SUCCEEDED
        ):
            return ResultDetails(result=result)
        case EventType.EXECUTION_FAILED | EventType.EXECUTION_TIMED_OUT | EventType.EXECUTION_STOPPED:
            return FailureDetails(error=EventError(payload=record.error))
        case EventType.EXECUTION_PAUSED | EventType.EXECUTION_RESUMED:
            return _pause_details(kept)
        case (
            EventType.CONTEXT_FAILED
            | EventType.CALLBACK_FAILED
            | EventType.CALLBACK_TIMED_OUT
            | EventType.CHAINED_INVOKE_FAILED
            | EventType.CHAINED_INVOKE_TIMED_OUT
            | EventType.CHAINED_INVOKE_STOPPED
        ):
            return FailureDetails(error=EventError(payload=operation.error if operation is not None else None))
        case EventType.WAIT_STARTED:
            duration = kept.delay or 0
            return WaitStartedDetails(
                duration=duration, scheduled_end_timestamp=Timestamp(kept.timestamp + duration * 1000)
            )
        case EventType.WAIT_SUCCEEDED:
            return WaitSucceededDetails(duration=_duration_of(operation))
        case EventType.STEP_SUCCEEDED:
            return StepSucceededDetails(
                # A check that is made again: its operation has gone on since.
                result=result if kept.delay is None else EventResult(payload=kept.payload),
                retry_details=RetryDetails(current_attempt=kept.attempt, next_attempt_delay_seconds=kept.delay),
            )
        case EventType.STEP_FAILED:
            return StepFailedDetails(
                error=EventError(payload=_step_error(kept, operation)),
                retry_details=RetryDetails(current_attempt=kept.attempt, next_attempt_delay_seconds=kept.delay),
            )
        case EventType.INVOCATION_COMPLETED:
            return InvocationCompletedDetails(
                start_timestamp=kept.start or kept.timestamp,
                end_timestamp=kept.timestamp,
                request_id=f"{record.id}-{number}",
                error=None if kept.error is None else EventError(payload=kept.error),
            )
        case EventType.WAIT_CANCELLED:
            return FailureDetails()
        case _:
            return EmptyDetails()


def _started(
    kept: EventRecord, record: ExecutionRecord, operation: Operation, extra: OperationExtra
) -> Shape | None:
    """Of a callback or a chained invoke that begins; `None` for all else."""
    if kept.type is EventType.CALLBACK_STARTED:
        known = operation.callback_details
        return CallbackStartedDetails(
            callback_id=(known.callback_id if known is not None else None) or "",
            heartbeat_timeout=extra.heartbeat,
            timeout=extra.timeout,
        )
    if kept.type is EventType.CHAINED_INVOKE_STARTED:
        arn = version = None
        if extra.target is not None:
            arn = callee_record(record, operation.id, extra, extra.target, kept.timestamp).arn
            version = version_of(arn)
        return ChainedInvokeStartedDetails(
            function_name=extra.function,
            tenant_id=extra.tenant_id,
            input=EventInput(payload=extra.payload),
            executed_version=version,
            durable_execution_arn=arn,
        )
    return None


def _pause_details(kept: EventRecord) -> Shape:
    requested = kept.start or kept.timestamp
    reason = None if kept.payload is None else EventReason(payload=kept.payload)
    if kept.type is EventType.EXECUTION_RESUMED:
        return ExecutionResumedDetails(resume_request_timestamp=requested, reason=reason)
    return ExecutionPausedDetails(
        pause_request_timestamp=requested,
        execution_timeout_paused=kept.holds_timeout is not False,
        reason=reason,
    )


def _duration_of(operation: Operation | None) -> int | None:
    """How long a wait was to take, in seconds."""
    details = operation.wait_details if operation is not None else None
    if operation is None or details is None or details.scheduled_end_timestamp is None:
        return None
    return (details.scheduled_end_timestamp - operation.start_timestamp) // 1000


def _step_error(kept: EventRecord, operation: Operation | None) -> ErrorObject | None:
    if kept.delay is not None or operation is None:
        return kept.error
    return operation.error
