"""What is known of an execution's operations during one invocation."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from .._wire import (
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from .._wire.operations import ContextDetails, StepDetails, WaitDetails


class History:
    """Operations by id. Each answer of the service replaces what it names, whole (PROTOCOL section 6)."""

    __slots__ = ("_operations", "get")

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._operations = {operation.id: operation for operation in operations}
        # The hot path of replay: the dictionary's own lookup, no frame of ours in between.
        self.get = self._operations.get

    def __len__(self) -> int:
        return len(self._operations)

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._operations

    def merge(self, operations: Iterable[Operation]) -> None:
        """Take over what the service says."""
        for operation in operations:
            self._operations[operation.id] = operation

    def inside(self, context_id: str) -> int:
        """How many operations a context has inside, at any depth, of those that are known."""
        contexts = {context_id}
        count = 0
        for operation in self._operations.values():  # a context comes before what is inside of it
            if operation.parent_id in contexts:
                contexts.add(operation.id)
                count += 1
        return count

    def assume(self, update: OperationUpdate, now: int) -> None:
        """Take over an acknowledged update that the service's answer did not repeat.

        A service need not return what it was just told. The next decision must know it all the same.
        """
        self._operations[update.id] = _after(self._operations.get(update.id), update, now)


_STATUS_AFTER = {
    OperationAction.START: OperationStatus.STARTED,
    OperationAction.SUCCEED: OperationStatus.SUCCEEDED,
    OperationAction.FAIL: OperationStatus.FAILED,
    OperationAction.RETRY: OperationStatus.PENDING,
    OperationAction.CANCEL: OperationStatus.CANCELLED,
}


def _after(known: Operation | None, update: OperationUpdate, now: int) -> Operation:
    attempts = known.step_details.attempt or 0 if known and known.step_details else 0
    step = context = wait = None
    if update.type is OperationType.STEP:
        delay = update.step_options.next_attempt_delay_seconds if update.step_options else None
        step = StepDetails(
            attempt=attempts if update.action is OperationAction.START else attempts + 1,
            next_attempt_timestamp=None if delay is None else Timestamp(now + delay * 1000),
            result=update.payload,
            error=update.error,
        )
    elif update.type is OperationType.CONTEXT:
        options = update.context_options
        context = ContextDetails(
            replay_children=options.replay_children if options else None,
            result=update.payload,
            error=update.error,
        )
    elif update.type is OperationType.WAIT:
        seconds = update.wait_options.wait_seconds if update.wait_options else None
        wait = WaitDetails(scheduled_end_timestamp=None if seconds is None else Timestamp(now + seconds * 1000))
    return Operation(
        id=update.id,
        type=update.type,
        start_timestamp=known.start_timestamp if known else Timestamp(now),
        status=_STATUS_AFTER[update.action],
        parent_id=update.parent_id,
        name=update.name,
        sub_type=update.sub_type,
        step_details=step,
        context_details=context,
        wait_details=wait,
    )


class Identity(msgspec.Struct, frozen=True):
    """What an operation is: these four never change between the first run and a replay."""

    type: OperationType
    sub_type: str
    name: str | None
    parent_id: str | None

    def matches(self, recorded: Operation) -> bool:
        """Whether the recorded operation is this one."""
        return (
            self.name == recorded.name
            and self.type is recorded.type
            and self.sub_type == recorded.sub_type
            and self.parent_id == recorded.parent_id
        )

    def __str__(self) -> str:
        return describe(self.sub_type, self.name)


def describe(sub_type: str | None, name: str | None) -> str:
    """An operation for people: `Step 'reserve_hotel'`."""
    return (sub_type or "operation") if name is None else f"{sub_type or 'operation'} {name!r}"
