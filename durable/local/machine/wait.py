"""WAIT.

  recorded     START      CANCEL       time
  -----------  ---------  -----------  ------------------------------
  nothing      STARTED
  STARTED                 CANCELLED    SUCCEEDED when it has passed

Everything else is refused.
"""

from __future__ import annotations

import msgspec

from ..._wire import Operation, OperationAction, OperationStatus, OperationUpdate, Timestamp
from ..._wire.events import EventType
from ..._wire.operations import WaitDetails
from ...abc import EventRecord
from .rules import RefusedUpdateError, check_delay


def apply(known: Operation | None, update: OperationUpdate, now: Timestamp) -> tuple[Operation, EventRecord]:
    """The wait after an update, and the event.

    Raises:
        RefusedUpdateError: The update is not possible now.
    """
    if update.payload is not None or update.error is not None:
        raise RefusedUpdateError("a WAIT has neither Payload nor Error", update)
    if update.action is OperationAction.START:
        if known is not None:
            raise RefusedUpdateError(f"the WAIT is {known.status}", update)
        if update.wait_options is None:
            raise RefusedUpdateError("START of a WAIT needs WaitOptions", update)
        seconds = check_delay(update.wait_options.wait_seconds, update)
        operation = Operation(
            id=update.id,
            type=update.type,
            start_timestamp=now,
            status=OperationStatus.STARTED,
            parent_id=update.parent_id,
            name=update.name,
            sub_type=update.sub_type,
            wait_details=WaitDetails(scheduled_end_timestamp=Timestamp(now + seconds * 1000)),
        )
        return operation, EventRecord(EventType.WAIT_STARTED, now, update.id, None, seconds)
    if update.action is OperationAction.CANCEL:
        if known is None or known.status is not OperationStatus.STARTED:
            raise RefusedUpdateError(f"the WAIT is {known.status if known else 'not known'}", update)
        operation = msgspec.structs.replace(known, status=OperationStatus.CANCELLED, end_timestamp=now)
        return operation, EventRecord(EventType.WAIT_CANCELLED, now, update.id)
    raise RefusedUpdateError("a WAIT has no such action", update)


def due(operation: Operation) -> Timestamp | None:
    """When the wait ends by itself; `None` if it does not."""
    if operation.status is OperationStatus.STARTED and operation.wait_details is not None:
        return operation.wait_details.scheduled_end_timestamp
    return None


def elapse(operation: Operation, now: Timestamp) -> tuple[Operation, EventRecord]:
    """The wait once its time has passed, and the event."""
    ended = msgspec.structs.replace(operation, status=OperationStatus.SUCCEEDED, end_timestamp=now)
    return ended, EventRecord(EventType.WAIT_SUCCEEDED, now, operation.id)
