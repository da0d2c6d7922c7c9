"""Operations, rebuilt from history events: the control plane tells what has happened, and lists no operations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .._wire import ErrorObject, Operation, OperationStatus, OperationType, Timestamp
from .._wire.events import (
    CallbackStartedDetails,
    Event,
    EventError,
    EventResult,
    EventType,
    FailureDetails,
    ResultDetails,
    RetryDetails,
    StepFailedDetails,
    StepSucceededDetails,
    WaitStartedDetails,
)
from .._wire.operations import CallbackDetails, ChainedInvokeDetails, ContextDetails, StepDetails, WaitDetails

_Became = tuple[OperationType, OperationStatus]

_BECAME: Final[dict[EventType, _Became]] = {
    EventType.CONTEXT_STARTED: (OperationType.CONTEXT, OperationStatus.STARTED),
    EventType.CONTEXT_SUCCEEDED: (OperationType.CONTEXT, OperationStatus.SUCCEEDED),
    EventType.CONTEXT_FAILED: (OperationType.CONTEXT, OperationStatus.FAILED),
    EventType.WAIT_STARTED: (OperationType.WAIT, OperationStatus.STARTED),
    EventType.WAIT_SUCCEEDED: (OperationType.WAIT, OperationStatus.SUCCEEDED),
    EventType.WAIT_CANCELLED: (OperationType.WAIT, OperationStatus.CANCELLED),
    EventType.STEP_STARTED: (OperationType.STEP, OperationStatus.STARTED),
    EventType.STEP_SUCCEEDED: (OperationType.STEP, OperationStatus.SUCCEEDED),
    EventType.STEP_FAILED: (OperationType.STEP, OperationStatus.FAILED),
    EventType.CHAINED_INVOKE_STARTED: (OperationType.CHAINED_INVOKE, OperationStatus.STARTED),
    EventType.CHAINED_INVOKE_SUCCEEDED: (OperationType.CHAINED_INVOKE, OperationStatus.SUCCEEDED),
    EventType.CHAINED_INVOKE_FAILED: (OperationType.CHAINED_INVOKE, OperationStatus.FAILED),
    EventType.CHAINED_INVOKE_TIMED_OUT: (OperationType.CHAINED_INVOKE, OperationStatus.TIMED_OUT),
    EventType.CHAINED_INVOKE_STOPPED: (OperationType.CHAINED_INVOKE, OperationStatus.STOPPED),
    EventType.CALLBACK_STARTED: (OperationType.CALLBACK, OperationStatus.STARTED),
    EventType.CALLBACK_SUCCEEDED: (OperationType.CALLBACK, OperationStatus.SUCCEEDED),
    EventType.CALLBACK_FAILED: (OperationType.CALLBACK, OperationStatus.FAILED),
    EventType.CALLBACK_TIMED_OUT: (OperationType.CALLBACK, OperationStatus.TIMED_OUT),
}
"""What an event says of its operation; the others are about the execution or an invocation."""


def operations_of(events: Iterable[Event]) -> list[Operation]:
    """The operations of an execution, as they stand after its events.

    They are what the service holds, but for what no event tells:

    * `ReplayChildren` of a CONTEXT is `None`, whatever it is: a result that is rebuilt from the children looks like
      one that is empty, or is a summary.
    * READY. A STEP whose delay has passed stays PENDING, with the instant at which the next attempt was due, until
      it starts.
    * What was left out: events without their data (`IncludeExecutionData` false, or truncated) give operations
      without results and errors.
    * Heartbeats of a CALLBACK. Its time limits, and whom a CHAINED_INVOKE calls with what, are in their events, and
      in no operation at all.

    Args:
        events: In their order, from the first one; of a history that was cut, as far as it goes. What begins before
            the cut begins with its first event.

    Returns:
        In the order of their first record; without the EXECUTION, which is not made of events alone.
    """
    operations: dict[str, Operation] = {}
    for event in events:
        became = _BECAME.get(event.event_type)
        if became is not None and event.id is not None:
            known = operations.get(event.id) or _new(event, event.id, became)
            operations[event.id] = _after(known, event, became)
    return list(operations.values())


def _new(event: Event, operation_id: str, became: _Became) -> Operation:
    kind, status = became
    return Operation(
        id=operation_id,
        type=kind,
        start_timestamp=event.event_timestamp,
        status=status,
        parent_id=event.parent_id,
        name=event.name,
        sub_type=event.sub_type,
    )


def _after(known: Operation, event: Event, became: _Became) -> Operation:
    kind, status = became
    if kind is OperationType.STEP:
        return _step_after(known, event, status)
    is_start = status is OperationStatus.STARTED
    changed = msgspec.structs.replace(
        known, status=status, end_timestamp=None if is_start else event.event_timestamp
    )
    details = event.details
    if kind is OperationType.CALLBACK:
        return msgspec.structs.replace(changed, callback_details=_callback_after(known, event))
    if isinstance(details, WaitStartedDetails):
        until = WaitDetails(scheduled_end_timestamp=details.scheduled_end_timestamp)
        return msgspec.structs.replace(changed, wait_details=until)
    if kind is OperationType.WAIT or is_start:
        return changed  # a wait's end says nothing new: the instant that it was for stays
    if kind is OperationType.CONTEXT:
        context = ContextDetails(result=_result(event), error=_error(event))
        return msgspec.structs.replace(changed, context_details=context)
    invoke = ChainedInvokeDetails(result=_result(event), error=_error(event))
    return msgspec.structs.replace(changed, chained_invoke_details=invoke)


def _callback_after(known: Operation, event: Event) -> CallbackDetails:
    details = event.details
    if isinstance(details, CallbackStartedDetails):
        return CallbackDetails(callback_id=details.callback_id)
    before = known.callback_details or CallbackDetails()
    return CallbackDetails(callback_id=before.callback_id, result=_result(event), error=_error(event))


def _step_after(known: Operation, event: Event, status: OperationStatus) -> Operation:
    before = known.step_details or StepDetails(attempt=0)
    if status is OperationStatus.STARTED:
        # What the attempt before came to stays: a check that is made again begins with its state.
        details = StepDetails(attempt=before.attempt, result=before.result, error=before.error)
        return msgspec.structs.replace(known, status=status, step_details=details)
    retries = _retries(event)
    attempt = retries.current_attempt or (before.attempt or 0) + 1
    until = None
    if retries.next_attempt_delay_seconds:
        until = Timestamp(event.event_timestamp + retries.next_attempt_delay_seconds * 1000)
        status = OperationStatus.PENDING
    details = StepDetails(attempt=attempt, next_attempt_timestamp=until, result=_result(event), error=_error(event))
    end = event.event_timestamp if until is None else None
    return msgspec.structs.replace(known, status=status, end_timestamp=end, step_details=details)


def _retries(event: Event) -> RetryDetails:
    details = event.details
    if isinstance(details, (StepSucceededDetails, StepFailedDetails)):
        return details.retry_details
    return RetryDetails()


def _result(event: Event) -> str | None:
    details = event.details
    found = details.result if isinstance(details, (ResultDetails, StepSucceededDetails)) else None
    return found.payload if isinstance(found, EventResult) else None


def _error(event: Event) -> ErrorObject | None:
    details = event.details
    found = details.error if isinstance(details, (FailureDetails, StepFailedDetails)) else None
    return found.payload if isinstance(found, EventError) else None
