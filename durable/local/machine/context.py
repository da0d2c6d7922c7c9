"""CONTEXT.

  recorded     START      SUCCEED      FAIL
  -----------  ---------  -----------  --------
  nothing      STARTED    SUCCEEDED    FAILED
  STARTED                 SUCCEEDED    FAILED

Everything else is refused.
"""

from __future__ import annotations

from typing import Final

from ..._wire import Operation, OperationAction, OperationStatus, OperationUpdate, Timestamp
from ..._wire.events import EventType
from ..._wire.operations import ContextDetails
from ...abc import EventRecord
from .rules import RefusedUpdateError

_OUTCOME: Final = {
    OperationAction.START: (OperationStatus.STARTED, EventType.CONTEXT_STARTED),
    OperationAction.SUCCEED: (OperationStatus.SUCCEEDED, EventType.CONTEXT_SUCCEEDED),
    OperationAction.FAIL: (OperationStatus.FAILED, EventType.CONTEXT_FAILED),
}


def apply(known: Operation | None, update: OperationUpdate, now: Timestamp) -> tuple[Operation, EventRecord]:
    """The context after an update, and the event.

    Raises:
        RefusedUpdateError: The update is not possible now.
    """
    action = update.action
    outcome = _OUTCOME.get(action)
    if outcome is None:
        raise RefusedUpdateError("a CONTEXT has no such action", update)
    if known is not None and (action is OperationAction.START or known.status is not OperationStatus.STARTED):
        raise RefusedUpdateError(f"the CONTEXT is {known.status}", update)
    if update.payload is not None and action is not OperationAction.SUCCEED:
        raise RefusedUpdateError(f"{action} of a CONTEXT has no Payload", update)
    if update.error is not None and action is not OperationAction.FAIL:
        raise RefusedUpdateError(f"{action} of a CONTEXT has no Error", update)
    status, event = outcome
    started = action is OperationAction.START
    options = update.context_options
    details = ContextDetails(
        replay_children=options.replay_children if options is not None else None,
        result=update.payload,
        error=update.error,
    )
    operation = Operation(
        id=update.id,
        type=update.type,
        start_timestamp=now if known is None else known.start_timestamp,
        status=status,
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
        end_timestamp=None if started else now,
        context_details=None if started else details,
    )
    return operation, EventRecord(event, now, update.id)
