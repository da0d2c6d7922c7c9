"""CHAINED_INVOKE.

  recorded     START      the callee ends
  -----------  ---------  ----------------------------------------------
  nothing      STARTED
  STARTED                 SUCCEEDED, FAILED, TIMED_OUT or STOPPED, as it

Everything else is refused: the function only starts it. Whom it calls, and with what, is its extra.

A callee that is durable becomes an execution of its own. Its id is made from its caller's, so that calling it again
after a crash finds the one that is there: it is never started twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from ..._wire import (
    ErrorObject,
    ExecutionStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationUpdate,
    Timestamp,
)
from ..._wire.events import EventType
from ..._wire.limits import MAX_FUNCTION_NAME_LENGTH, MAX_PAYLOAD_BYTES, MAX_TENANT_ID_LENGTH
from ..._wire.operations import ChainedInvokeDetails
from ...abc import Caller, EventRecord, ExecutionRecord, OperationExtra
from .execution import new_record
from .rules import RefusedUpdateError

_EVENT: Final = {
    OperationStatus.SUCCEEDED: EventType.CHAINED_INVOKE_SUCCEEDED,
    OperationStatus.FAILED: EventType.CHAINED_INVOKE_FAILED,
    OperationStatus.TIMED_OUT: EventType.CHAINED_INVOKE_TIMED_OUT,
    OperationStatus.STOPPED: EventType.CHAINED_INVOKE_STOPPED,
}
_OUTCOME: Final = {
    ExecutionStatus.SUCCEEDED: OperationStatus.SUCCEEDED,
    ExecutionStatus.FAILED: OperationStatus.FAILED,
    ExecutionStatus.TIMED_OUT: OperationStatus.TIMED_OUT,
    ExecutionStatus.STOPPED: OperationStatus.STOPPED,
}
_ARN: Final = re.compile(r"((arn:[^:]*:lambda:[^:]*:)?[^:]*:)?function:(?P<name>[^:]+)(:[^:]+)?")
_QUALIFIED: Final = re.compile(r"(?P<name>[^:]+):[^:]+")


def apply(
    known: Operation | None, update: OperationUpdate, now: Timestamp
) -> tuple[Operation, EventRecord, OperationExtra]:
    """The chained invoke after an update, the event, and whom it calls.

    Raises:
        RefusedUpdateError: The update is not possible now.
    """
    if update.action is not OperationAction.START:
        raise RefusedUpdateError("a CHAINED_INVOKE has no such action", update)
    if known is not None:
        raise RefusedUpdateError(f"the CHAINED_INVOKE is {known.status}", update)
    if update.error is not None:
        raise RefusedUpdateError("START of a CHAINED_INVOKE has no Error", update)
    options = update.chained_invoke_options
    if options is None:
        raise RefusedUpdateError("START of a CHAINED_INVOKE needs ChainedInvokeOptions", update)
    if not 1 <= len(options.function_name) <= MAX_FUNCTION_NAME_LENGTH:
        raise RefusedUpdateError(f"a function's name has 1 to {MAX_FUNCTION_NAME_LENGTH} characters", update)
    if options.tenant_id is not None and not 1 <= len(options.tenant_id) <= MAX_TENANT_ID_LENGTH:
        raise RefusedUpdateError(f"a tenant's id has 1 to {MAX_TENANT_ID_LENGTH} characters", update)
    operation = Operation(
        id=update.id,
        type=update.type,
        start_timestamp=now,
        status=OperationStatus.STARTED,
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
    )
    extra = OperationExtra(function=options.function_name, payload=update.payload, tenant_id=options.tenant_id)
    return operation, EventRecord(EventType.CHAINED_INVOKE_STARTED, now, update.id), extra


def end(
    operation: Operation,
    status: OperationStatus,
    now: Timestamp,
    *,
    result: str | None = None,
    error: ErrorObject | None = None,
) -> tuple[Operation, EventRecord]:
    """The chained invoke after its callee's end, and the event."""
    details = ChainedInvokeDetails(result=result, error=error)
    ended = msgspec.structs.replace(operation, status=status, end_timestamp=now, chained_invoke_details=details)
    return ended, EventRecord(_EVENT[status], now, operation.id)


def outcome_of(callee: ExecutionRecord) -> tuple[OperationStatus, str | None, ErrorObject | None]:
    """What a chained invoke ends with, by how its callee's execution has ended."""
    if callee.result is not None and len(callee.result.encode()) > MAX_PAYLOAD_BYTES:
        return OperationStatus.FAILED, None, too_large(callee.name, len(callee.result.encode()))
    return _OUTCOME[callee.status], callee.result, callee.error


def too_large(callee: str, size: int) -> ErrorObject:
    """What a chained invoke fails with whose result no operation can hold."""
    return ErrorObject(
        error_type="PayloadTooLarge",
        error_message=f"the result of {callee} is {size:,} bytes, a chained invoke takes {MAX_PAYLOAD_BYTES:,}: "
        "store it elsewhere and return a reference to it",
    )


def callee_record(
    caller: ExecutionRecord,
    operation_id: str,
    extra: OperationExtra,
    target: str,
    now: Timestamp,
    *,
    timeout: int | None = None,
) -> ExecutionRecord:
    """The execution of a durable callee. Its id, its name and its ARN are the same whenever this is asked."""
    execution_id = blake2b(f"{caller.id}/{operation_id}".encode(), digest_size=16).hexdigest()
    return new_record(
        execution_id,
        plain_name(extra.function),
        target,
        extra.payload,
        now,
        caller=Caller(caller.id, operation_id),
        timeout=timeout,
    )


def names_of(function: str) -> Iterator[str]:
    """What a function may be registered as: its name as it is given, and without what AWS puts around it."""
    yield function
    plain = plain_name(function)
    if plain != function:
        yield plain


def plain_name(function: str) -> str:
    """A function's name without region, account and version."""
    match = _ARN.fullmatch(function) or _QUALIFIED.fullmatch(function)
    return function if match is None else match["name"]
