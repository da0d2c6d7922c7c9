"""STEP.

  recorded          START     SUCCEED     FAIL     RETRY     time
  ----------------  --------  ----------  -------  --------  ------------------------------
  nothing           STARTED   SUCCEEDED   FAILED   PENDING
  STARTED                     SUCCEEDED   FAILED   PENDING
  READY             STARTED   SUCCEEDED   FAILED   PENDING
  PENDING                                                    READY when its delay has passed

Everything else is refused. `attempt` counts the attempts that have finished.

A RETRY has an error, and in history is a failure; or it has the state of a check that is made again, which has
succeeded (PROTOCOL section 8).
"""

from __future__ import annotations

from typing import Final

from ..._wire import Operation, OperationAction, OperationStatus, OperationUpdate, Timestamp
from ..._wire.events import EventType
from ..._wire.operations import StepDetails
from ...abc import EventRecord
from .rules import RefusedUpdateError, check_delay

# Every step comes through here twice, and the members of an enum are slow to look up in Python 3.11.
_START: Final = OperationAction.START
_SUCCEED: Final = OperationAction.SUCCEED
_FAIL: Final = OperationAction.FAIL
_RETRY: Final = OperationAction.RETRY

_OPEN: Final = (None, OperationStatus.STARTED, OperationStatus.READY)
_ALLOWED: Final = {
    _START: (None, OperationStatus.READY),
    _SUCCEED: _OPEN,
    _FAIL: _OPEN,
    _RETRY: _OPEN,
}
_EVENT: Final = {
    _START: EventType.STEP_STARTED,
    _SUCCEED: EventType.STEP_SUCCEEDED,
    _FAIL: EventType.STEP_FAILED,
}
_NO_PAYLOAD: Final = (_START, _FAIL)
_NO_ERROR: Final = (_START, _SUCCEED)
_ENDS: Final = (_SUCCEED, _FAIL)
_STATUS: Final = {
    _START: OperationStatus.STARTED,
    _SUCCEED: OperationStatus.SUCCEEDED,
    _FAIL: OperationStatus.FAILED,
    _RETRY: OperationStatus.PENDING,
}


def apply(known: Operation | None, update: OperationUpdate, now: Timestamp) -> tuple[Operation, EventRecord]:
    """The step after an update, and the event.

    Raises:
        RefusedUpdateError: The update is not possible now.
    """
    action = update.action
    allowed = _ALLOWED.get(action)
    if allowed is None:
        raise RefusedUpdateError("a STEP has no such action", update)
    status = None if known is None else known.status
    if status not in allowed:
        raise RefusedUpdateError(f"the STEP is {status}", update)
    if update.payload is not None and action in _NO_PAYLOAD:
        raise RefusedUpdateError(f"{action} has no Payload", update)
    if update.error is not None and action in _NO_ERROR:
        raise RefusedUpdateError(f"{action} has no Error", update)
    before = known.step_details if known is not None else None
    finished = (before.attempt or 0) if before is not None else 0
    delay = next_attempt = error = payload = None
    if action is _RETRY:
        if update.step_options is None:
            raise RefusedUpdateError("RETRY needs StepOptions", update)
        if update.error is not None and update.payload is not None:
            raise RefusedUpdateError("RETRY has an Error or a Payload, not both", update)
        delay = check_delay(update.step_options.next_attempt_delay_seconds, update)
        next_attempt = Timestamp(now + delay * 1000)
        error, payload = update.error, update.payload
    if action is _START:
        details = before or StepDetails(attempt=0)
    else:
        finished += 1
        details = StepDetails(
            attempt=finished, next_attempt_timestamp=next_attempt, result=update.payload, error=update.error
        )
    operation = Operation(
        id=update.id,
        type=update.type,
        start_timestamp=now if known is None else known.start_timestamp,
        status=_STATUS[action],
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
        end_timestamp=now if action in _ENDS else None,
        step_details=details,
    )
    attempt = finished + 1 if action is _START else finished
    kind = _EVENT.get(action) or (EventType.STEP_SUCCEEDED if error is None else EventType.STEP_FAILED)
    return operation, EventRecord(kind, now, update.id, attempt, delay, error, payload=payload)


def due(operation: Operation) -> Timestamp | None:
    """When time changes the step by itself; `None` if it does not."""
    if operation.status is OperationStatus.PENDING and operation.step_details is not None:
        return operation.step_details.next_attempt_timestamp
    return None


def elapse(operation: Operation) -> Operation:
    """The step once its delay has passed. No event: the next START is one."""
    details = operation.step_details or StepDetails()
    return Operation(
        id=operation.id,
        type=operation.type,
        start_timestamp=operation.start_timestamp,
        status=OperationStatus.READY,
        parent_id=operation.parent_id,
        name=operation.name,
        sub_type=operation.sub_type,
        step_details=StepDetails(attempt=details.attempt, result=details.result, error=details.error),
    )
