"""A history made by hand: an execution begins with what it says, as if it had got there by itself.

Every entry takes the next position, as the operation does in the code. What the code asks for there has to
be that operation, by type and name, or the test ends with a `NonDeterminismError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from .._engine.frame import SAGA
from .._kernel.completion import CODE, BatchRecord, ItemRecord, encode_batch
from .._kernel.errors import as_error_object, encode_error, with_cause
from .._kernel.ids import compensation_id, operation_id, reserved_id, rollback_id
from .._kernel.undo_records import Plan, PlannedUndo, RollbackReport, UndoRecord, encode_plan, encode_report
from .._kernel.values import PLAIN
from .._operations.outside import reported
from .._saga.rollback import ROLLBACK_NAME
from .._wire import ErrorObject, Operation, OperationStatus, OperationType, SubType, Timestamp
from .._wire.limits import MAX_PAYLOAD_BYTES
from .._wire.operations import CallbackDetails, ChainedInvokeDetails, ContextDetails, StepDetails, WaitDetails
from ..abc import OperationExtra
from ..exceptions import CallbackFailedError, CallbackTimeoutError
from ..local.machine.callback import MISSED_HEARTBEAT, TIMED_OUT, callback_id


class Records(NamedTuple):
    """What a store is given.

    Attributes:
        operations: The operations, in the order of their first record.
        extras: What the wire does not carry of them, by id.
    """

    operations: list[Operation]
    extras: dict[str, OperationExtra]


class _Place(NamedTuple):
    """Where an entry is written.

    Attributes:
        execution_id: In which execution.
        context_id: In which context.
        id: As which operation.
        now: What time it is, milliseconds.
        records: What there is so far.
    """

    execution_id: str
    context_id: str | None
    id: str
    now: int
    records: Records

    def add(
        self,
        kind: OperationType,
        sub_type: str,
        name: str | None,
        status: OperationStatus,
        **details: Any,
    ) -> None:
        """Write the operation."""
        over = status not in {OperationStatus.STARTED, OperationStatus.PENDING}
        self.records.operations.append(
            Operation(
                id=self.id,
                type=kind,
                start_timestamp=Timestamp(self.now),
                end_timestamp=Timestamp(self.now) if over else None,
                status=status,
                parent_id=self.context_id,
                name=name,
                sub_type=sub_type,
                **details,
            )
        )


_Entry = Callable[[_Place], None]

_SUCCEEDED = OperationStatus.SUCCEEDED
_FAILED = OperationStatus.FAILED
_TIMED_OUT = OperationStatus.TIMED_OUT
_STARTED = OperationStatus.STARTED


class History:
    """What an execution has recorded before the test begins. Each method adds an entry and returns the history.

    Results are encoded as JSON, errors as a step that raises them would be recorded. `DurableTest.start(event,
    history=...)` begins with it. Of an entry that is open, the execution has to wait as it would.
    """

    def __init__(self) -> None:
        # What is written at each position; and what is written aside, of what stands at some.
        self._entries: list[_Entry] = []
        self._aside: list[Callable[[_Place, Mapping[str, str]], None]] = []

    # --- Steps and conditions --------------------------------------------------------------------------------

    def step(self, name: str, result: Any = None, *, attempt: int = 1) -> History:
        """A step that succeeded, at that attempt."""
        payload = _encoded(result, name)

        def entry(place: _Place) -> None:
            details = StepDetails(attempt=attempt, result=payload)
            place.add(OperationType.STEP, SubType.STEP, name, _SUCCEEDED, step_details=details)

        return self._add(entry)

    def failed_step(self, name: str, error: Exception | str | ErrorObject, *, attempt: int = 1) -> History:
        """A step that failed for good, at that attempt."""
        recorded = as_error_object(error)

        def entry(place: _Place) -> None:
            details = StepDetails(attempt=attempt, error=recorded)
            place.add(OperationType.STEP, SubType.STEP, name, _FAILED, step_details=details)

        return self._add(entry)

    def retrying_step(
        self, name: str, error: Exception | str | ErrorObject, *, attempt: int = 1, delay: float = 1
    ) -> History:
        """A step of which so many attempts have failed, and that is tried again after a delay in seconds."""
        recorded = as_error_object(error)

        def entry(place: _Place) -> None:
            due = Timestamp(place.now + round(delay * 1000))
            details = StepDetails(attempt=attempt, error=recorded, next_attempt_timestamp=due)
            place.add(OperationType.STEP, SubType.STEP, name, OperationStatus.PENDING, step_details=details)

        return self._add(entry)

    def started_step(self, name: str, *, attempt: int = 1) -> History:
        """A step that a crash has interrupted at that attempt."""

        def entry(place: _Place) -> None:
            details = StepDetails(attempt=attempt - 1)
            place.add(OperationType.STEP, SubType.STEP, name, _STARTED, step_details=details)

        return self._add(entry)

    def condition(self, name: str, state: Any = None, *, attempt: int = 1) -> History:
        """A condition that was met with that state, at that check."""
        payload = _encoded(state, name)

        def entry(place: _Place) -> None:
            details = StepDetails(attempt=attempt, result=payload)
            place.add(OperationType.STEP, SubType.WAIT_FOR_CONDITION, name, _SUCCEEDED, step_details=details)

        return self._add(entry)

    def failed_condition(self, name: str, error: Exception | str | ErrorObject, *, attempt: int = 1) -> History:
        """A condition that failed, at that check."""
        recorded = as_error_object(error)

        def entry(place: _Place) -> None:
            details = StepDetails(attempt=attempt, error=recorded)
            place.add(OperationType.STEP, SubType.WAIT_FOR_CONDITION, name, _FAILED, step_details=details)

        return self._add(entry)

    def now(self, when: datetime) -> History:
        """The time that `ctx.now()` gave."""
        return self.step("now", when)

    # --- Waits -----------------------------------------------------------------------------------------------

    def wait(self, name: str | None = None) -> History:
        """A wait that is over."""

        def entry(place: _Place) -> None:
            details = WaitDetails(scheduled_end_timestamp=Timestamp(place.now))
            place.add(OperationType.WAIT, SubType.WAIT, name, _SUCCEEDED, wait_details=details)

        return self._add(entry)

    def open_wait(self, name: str | None = None, *, seconds: float) -> History:
        """A wait that has so many seconds left."""

        def entry(place: _Place) -> None:
            details = WaitDetails(scheduled_end_timestamp=Timestamp(place.now + round(seconds * 1000)))
            place.add(OperationType.WAIT, SubType.WAIT, name, _STARTED, wait_details=details)

        return self._add(entry)

    # --- Callbacks -------------------------------------------------------------------------------------------

    def callback(self, name: str | None = None, result: Any = None) -> History:
        """A callback that was completed."""
        return self._callback(name, _SUCCEEDED, result=_encoded(result, name))

    def failed_callback(self, name: str | None, error: Exception | str | ErrorObject) -> History:
        """A callback that was failed."""
        return self._callback(name, _FAILED, error=as_error_object(error))

    def timed_out_callback(self, name: str | None = None, *, heartbeat: bool = False) -> History:
        """A callback that timed out; or of which a heartbeat was missed."""
        return self._callback(name, _TIMED_OUT, error=MISSED_HEARTBEAT if heartbeat else TIMED_OUT)

    def open_callback(self, name: str | None = None) -> History:
        """A callback that somebody has yet to complete (`TestRun.callback`). It does not time out."""
        return self._callback(name, _STARTED)

    def _callback(self, name: str | None, status: OperationStatus, **outcome: Any) -> History:
        def entry(place: _Place) -> None:
            details = CallbackDetails(callback_id=callback_id(place.execution_id, place.id), **outcome)
            place.records.extras[place.id] = OperationExtra()
            place.add(OperationType.CALLBACK, SubType.CALLBACK, name, status, callback_details=details)

        return self._add(entry)

    def wait_for_callback(self, name: str, result: Any = None) -> History:
        """A `ctx.wait_for_callback` that was completed."""
        return self._context(SubType.WAIT_FOR_CALLBACK, name, _SUCCEEDED, result=_encoded(result, name))

    def failed_wait_for_callback(self, name: str, error: Exception | str | ErrorObject) -> History:
        """A `ctx.wait_for_callback` that was failed."""
        raised = with_cause(CallbackFailedError(name, "", **reported(as_error_object(error))))
        return self._context(SubType.WAIT_FOR_CALLBACK, name, _FAILED, error=encode_error(raised))

    def timed_out_wait_for_callback(self, name: str) -> History:
        """A `ctx.wait_for_callback` that timed out."""
        raised = with_cause(CallbackTimeoutError(name, "", **reported(TIMED_OUT)))
        return self._context(SubType.WAIT_FOR_CALLBACK, name, _FAILED, error=encode_error(raised))

    # --- Invokes ---------------------------------------------------------------------------------------------

    def invoke(self, name: str | None = None, result: Any = None) -> History:
        """A chained invoke that succeeded. The name is the operation's: what `ctx.invoke` was given as `name=`."""
        return self._invoke(name, _SUCCEEDED, result=_encoded(result, name))

    def failed_invoke(self, name: str | None, error: Exception | str | ErrorObject) -> History:
        """A chained invoke that failed."""
        return self._invoke(name, _FAILED, error=as_error_object(error))

    def timed_out_invoke(self, name: str | None = None) -> History:
        """A chained invoke that timed out."""
        return self._invoke(name, _TIMED_OUT, error=ErrorObject(error_message="timed out"))

    def stopped_invoke(self, name: str | None, error: Exception | str | ErrorObject) -> History:
        """A chained invoke whose callee was stopped."""
        return self._invoke(name, OperationStatus.STOPPED, error=as_error_object(error))

    def _invoke(self, name: str | None, status: OperationStatus, **outcome: Any) -> History:
        def entry(place: _Place) -> None:
            details = ChainedInvokeDetails(**outcome)
            place.add(
                OperationType.CHAINED_INVOKE, SubType.CHAINED_INVOKE, name, status, chained_invoke_details=details
            )

        return self._add(entry)

    # --- Children and branches -------------------------------------------------------------------------------

    def child(self, name: str, result: Any = None) -> History:
        """A child context that has returned; nothing of what it did inside is known any more."""
        return self._context(SubType.RUN_IN_CHILD_CONTEXT, name, _SUCCEEDED, result=_encoded(result, name))

    def failed_child(self, name: str, error: Exception | str | ErrorObject) -> History:
        """A child context that has failed."""
        return self._context(SubType.RUN_IN_CHILD_CONTEXT, name, _FAILED, error=as_error_object(error))

    def open_child(self, name: str, inside: History) -> History:
        """A child context that has come as far as the history inside says."""

        def entry(place: _Place) -> None:
            place.add(OperationType.CONTEXT, SubType.RUN_IN_CHILD_CONTEXT, name, _STARTED)
            inside._write(place.execution_id, place.id, place.now, place.records)

        return self._add(entry)

    def parallel(self, name: str, results: Iterable[Any]) -> History:
        """A `ctx.parallel` whose branches have all ended: with these results; an exception is what one raised."""
        return self._fan_out(SubType.PARALLEL, name, results)

    def map(self, name: str, results: Iterable[Any]) -> History:
        """A `ctx.map` whose items have all ended: with these results; an exception is what one raised."""
        return self._fan_out(SubType.MAP, name, results)

    def _fan_out(self, sub_type: str, name: str, results: Iterable[Any]) -> History:
        items: list[ItemRecord] = []
        for result in results:
            if isinstance(result, Exception):
                items.append(ItemRecord("failed", error=encode_error(result)))
            else:
                items.append(ItemRecord("succeeded", msgspec.Raw(_encoded(result, name).encode())))
        record = BatchRecord(
            reason="ALL_COMPLETED",
            successful=all(item.status == "succeeded" for item in items),
            statuses="".join(CODE[item.status] for item in items),
            items=items,
        )
        return self._context(sub_type, name, _SUCCEEDED, result=encode_batch(record))

    def _context(self, sub_type: str, name: str, status: OperationStatus, **outcome: Any) -> History:
        def entry(place: _Place) -> None:
            details = ContextDetails(replay_children=False, **outcome)
            place.add(OperationType.CONTEXT, sub_type, name, status, context_details=details)

        return self._add(entry)

    # --- Sagas -----------------------------------------------------------------------------------------------

    def rollback(
        self,
        saga: str | None,
        reason: Exception | str | ErrorObject,
        undo: Sequence[str],
        *,
        failed: Mapping[str, Exception | str | ErrorObject] | None = None,
        undone: int | None = None,
        number: int = 1,
    ) -> History:
        """A rollback that has begun: it stands after the steps that it undoes, and takes no position.

        Args:
            saga: The saga's name.
            reason: What made it roll back.
            undo: The steps that it undoes, by name, in the order of undoing: the last one first. Each is the last
                step of that name in this history.
            failed: The compensations that have failed, and with what.
            undone: How many have been attempted; the rollback is under way. By default it is over.
            number: Which of what this context registers aside the saga is: 1 for the first saga; sagas, cleanups
                and compensations by hand that come before it count.
        """
        why = as_error_object(reason)
        errors = {name: as_error_object(error) for name, error in (failed or {}).items()}

        def write(place: _Place, ids: Mapping[str, str]) -> None:
            missing = [name for name in undo if name not in ids]
            if missing:
                raise ValueError(f"a rollback undoes {missing[0]!r}, which this history does not have")
            items = [
                UndoRecord(
                    id=ids[name],
                    name=name,
                    status="failed" if name in errors else "succeeded",
                    error=errors.get(name),
                )
                for name in undo
            ]
            at_saga = place._replace(id=reserved_id(place.context_id, SAGA, number))
            _write_rollback(at_saga, saga, why, items, undone)

        self._aside.append(write)
        return self

    # --- For the kit -----------------------------------------------------------------------------------------

    def records(self, execution_id: str, now: int) -> Records:
        """What a store is given for it."""
        records = Records([], {})
        self._write(execution_id, None, now, records)
        return records

    def _write(self, execution_id: str, context_id: str | None, now: int, records: Records) -> None:
        first = len(records.operations)
        for position, entry in enumerate(self._entries, 1):
            entry(_Place(execution_id, context_id, operation_id(context_id, position), now, records))
        own = (one for one in records.operations[first:] if one.parent_id == context_id)
        ids = {one.name: one.id for one in own if one.name is not None}
        for write in self._aside:
            write(_Place(execution_id, context_id, "", now, records), ids)

    def _add(self, entry: _Entry) -> History:
        self._entries.append(entry)
        return self


def _write_rollback(
    place: _Place, saga: str | None, why: ErrorObject, items: Sequence[UndoRecord], undone: int | None
) -> None:
    """What a rollback records: the saga, its plan, and each compensation that has been attempted."""
    saga_id = place.id
    report = RollbackReport(reason=why, items=list(items))
    outcome: dict[str, Any] = {}
    status = _STARTED
    if undone is None:
        payload = encode_report(report, MAX_PAYLOAD_BYTES)
        status = _SUCCEEDED if report.is_settled else _FAILED
        error = ErrorObject(error_message="could not undo everything", error_data=payload)
        outcome = {"result": payload} if report.is_settled else {"error": error}
    place.add(OperationType.CONTEXT, SubType.SAGA, saga, status, context_details=ContextDetails(**outcome))
    plan = Plan(reason=why, undo=[PlannedUndo(item.id, item.name) for item in items])
    details = StepDetails(attempt=1, result=encode_plan(plan, MAX_PAYLOAD_BYTES))
    inside = place._replace(context_id=saga_id, id=rollback_id(saga_id))
    inside.add(OperationType.STEP, SubType.STEP, ROLLBACK_NAME, _SUCCEEDED, step_details=details)
    for item in items[:undone]:
        inside._replace(id=compensation_id(saga_id, item.id)).add(
            OperationType.CONTEXT,
            SubType.COMPENSATION,
            item.name,
            _FAILED if item.status == "failed" else _SUCCEEDED,
            context_details=ContextDetails(error=item.error),
        )


def _encoded(value: Any, name: str | None) -> str:
    return PLAIN.encode(value, f"the recorded result of {name!r}")
