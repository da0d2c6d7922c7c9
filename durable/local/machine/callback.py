"""CALLBACK.

  recorded     START      succeed, from outside   fail, from outside   time
  -----------  ---------  ----------------------  -------------------  -----------------------------------
  nothing      STARTED
  STARTED                 SUCCEEDED               FAILED               TIMED_OUT when a limit is reached

Everything else is refused: the function only starts it. There are two limits, either or both of which may be
absent: the whole time that it may take, and the time between two signs of life, which a heartbeat from outside
begins anew. They count wall-clock time, whether or not an engine runs. The wire does not carry them: they are its
extra.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import msgspec

from ..._wire import ErrorObject, Operation, OperationAction, OperationStatus, OperationUpdate, Timestamp
from ..._wire.events import EventType
from ..._wire.limits import MAX_CALLBACK_TIMEOUT_SECONDS
from ..._wire.operations import CallbackDetails
from ..._wire.updates import CallbackOptions
from ...abc import EventRecord, OperationExtra
from .rules import RefusedUpdateError

TIMED_OUT: Final = ErrorObject(error_type="Callback.Timeout", error_message="Callback timed out")
MISSED_HEARTBEAT: Final = ErrorObject(
    error_type="Callback.Heartbeat", error_message="Callback timed out on heartbeat"
)
"""How a function tells the two limits apart."""

_EVENT: Final = {
    OperationStatus.SUCCEEDED: EventType.CALLBACK_SUCCEEDED,
    OperationStatus.FAILED: EventType.CALLBACK_FAILED,
    OperationStatus.TIMED_OUT: EventType.CALLBACK_TIMED_OUT,
}
_ID: Final = re.compile(r"[A-Za-z0-9]{1,1024}")
_NAMED: Final = re.compile(r"[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+")


def callback_id(execution_id: str, operation_id: str) -> str:
    """What the outside world knows a callback by: it says where the callback is, so that nobody has to search.

    It is base64. As neither part has a character whose base64 could have `+` or `/`, it can be a part of an URL.
    """
    return base64.b64encode(f"{execution_id}/{operation_id}".encode()).decode().rstrip("=")


def named_by(text: str) -> tuple[str, str] | None:
    """The execution and the operation that a callback id names; `None` if it cannot be one of ours."""
    if _ID.fullmatch(text) is None:
        return None
    try:
        named = base64.b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        return None
    if _NAMED.fullmatch(named) is None:
        return None
    execution_id, _, operation_id = named.partition("/")
    return execution_id, operation_id


def apply(
    known: Operation | None, update: OperationUpdate, now: Timestamp, execution_id: str
) -> tuple[Operation, EventRecord, OperationExtra]:
    """The callback after an update, the event, and what else there is to know of it.

    Raises:
        RefusedUpdateError: The update is not possible now.
    """
    if update.action is not OperationAction.START:
        raise RefusedUpdateError("a CALLBACK has no such action", update)
    if known is not None:
        raise RefusedUpdateError(f"the CALLBACK is {known.status}", update)
    if update.payload is not None or update.error is not None:
        raise RefusedUpdateError("START of a CALLBACK has neither Payload nor Error", update)
    options = update.callback_options or CallbackOptions()
    timeout = _limit(options.timeout_seconds, update)
    heartbeat = _limit(options.heartbeat_timeout_seconds, update)
    operation = Operation(
        id=update.id,
        type=update.type,
        start_timestamp=now,
        status=OperationStatus.STARTED,
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
        callback_details=CallbackDetails(callback_id=callback_id(execution_id, update.id)),
    )
    extra = OperationExtra(
        timeout=timeout,
        heartbeat=heartbeat,
        timeout_at=None if timeout is None else Timestamp(now + timeout * 1000),
        heartbeat_at=None if heartbeat is None else Timestamp(now + heartbeat * 1000),
    )
    return operation, EventRecord(EventType.CALLBACK_STARTED, now, update.id), extra


def due(operation: Operation, extra: OperationExtra) -> Timestamp | None:
    """When the callback times out by itself; `None` if it does not."""
    if operation.status is not OperationStatus.STARTED:
        return None
    if extra.timeout_at is None or extra.heartbeat_at is None:
        return extra.timeout_at or extra.heartbeat_at
    return min(extra.timeout_at, extra.heartbeat_at)


def elapse(operation: Operation, extra: OperationExtra, now: Timestamp) -> tuple[Operation, EventRecord]:
    """The callback once its earlier limit has been reached, and the event."""
    missed_heartbeat = extra.timeout_at is None or (
        extra.heartbeat_at is not None and extra.heartbeat_at < extra.timeout_at
    )
    return end(operation, OperationStatus.TIMED_OUT, now, error=MISSED_HEARTBEAT if missed_heartbeat else TIMED_OUT)


def beat(extra: OperationExtra, now: Timestamp) -> OperationExtra:
    """What there is to know of a callback after a sign of life. A clock that was set back takes no time away."""
    if extra.heartbeat is None:
        return extra
    heartbeat_at = max(extra.heartbeat_at or now, Timestamp(now + extra.heartbeat * 1000))
    return msgspec.structs.replace(extra, heartbeat_at=heartbeat_at)


def end(
    operation: Operation,
    status: OperationStatus,
    now: Timestamp,
    *,
    result: str | None = None,
    error: ErrorObject | None = None,
) -> tuple[Operation, EventRecord]:
    """The callback after its end, and the event."""
    known = operation.callback_details or CallbackDetails()
    details = CallbackDetails(callback_id=known.callback_id, result=result, error=error)
    ended = msgspec.structs.replace(operation, status=status, end_timestamp=now, callback_details=details)
    return ended, EventRecord(_EVENT[status], now, operation.id)


def _limit(seconds: int | None, update: OperationUpdate) -> int | None:
    if seconds is not None and not 0 <= seconds <= MAX_CALLBACK_TIMEOUT_SECONDS:
        raise RefusedUpdateError(
            f"a callback's time limit is 0, which is none, to {MAX_CALLBACK_TIMEOUT_SECONDS:,} seconds", update
        )
    return seconds or None
