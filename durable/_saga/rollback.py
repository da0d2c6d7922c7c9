"""The rollback: what was done is undone, strictly one after another, last registered first.

What goes out, for n compensations (each line is one awaited call):

  Saga START, rollback STEP START + SUCCEED(plan), first compensation START
  first compensation SUCCEED or FAIL, second compensation START
  ...
  last compensation SUCCEED or FAIL, Saga SUCCEED(report) or FAIL(report)

So nothing is undone before it is recorded that it will be, and why; no compensation begins before the outcome of
the one before is recorded; and it costs n + 1 calls (more if compensations themselves record something).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .._engine.frame import Frame
from .._engine.perform import diverge, perform
from .._kernel.errors import encode_error
from .._kernel.history import Identity
from .._kernel.ids import compensation_id, rollback_id
from .._kernel.ledger import Entry, Policy
from .._kernel.undo_records import (
    CompensationStatus,
    Plan,
    PlannedUndo,
    RollbackReport,
    UndoRecord,
    decode_plan,
    decode_report,
    encode_plan,
    encode_report,
)
from .._operations.time_limit import TimeLimit
from .._wire import (
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
)
from .._wire.limits import MAX_PAYLOAD_BYTES
from ..exceptions import MalformedPayloadError, MissingCompensationError, RollbackTimeoutError
from .compensation import CompensationVerb
from .operator import ask_operator
from .report import CompensationResult, result_of

ROLLBACK_NAME = "rollback"
"""The name of the step that records the plan."""

_REPORT_BYTES = MAX_PAYLOAD_BYTES * 3 // 4
"""A report is a string within JSON once more when it fails: room for escapes and the rest of the error object."""


class Rollback:
    """The rollback of one saga scope, begun or not."""

    def __init__(self, frame: Frame, saga_id: str, name: str | None, policy: Policy) -> None:
        self._frame = frame
        self._id = saga_id
        self._policy = policy
        self._saga = Identity(OperationType.CONTEXT, SubType.SAGA, name, frame.context_id)
        self._plan_step = Identity(OperationType.STEP, SubType.STEP, ROLLBACK_NAME, saga_id)

    @property
    def _recorded(self) -> Operation | None:
        return self._frame.invocation.history.get(self._id)

    async def recorded_reason(self) -> ErrorObject | None:
        """Why the rollback has begun, if it has: in this invocation or in one before.

        Ends the invocation with a NonDeterminismError if something else is recorded at the saga's position.
        """
        recorded = self._recorded
        if recorded is None:
            return None
        if not self._saga.matches(recorded):
            await diverge(self._frame, recorded, str(self._saga))
        if recorded.is_final:
            return self._report_in(recorded).reason
        return self._plan().reason

    async def run(self, reason: ErrorObject, entries: Sequence[Entry]) -> CompensationResult:
        """Undo what is not undone yet.

        Args:
            reason: Why; what was recorded first counts.
            entries: What there is to undo, in order of undoing; what was recorded first counts.
        """
        recorded = self._recorded
        if recorded is not None and recorded.is_final:
            return result_of(self._report_in(recorded))
        if recorded is None:
            if not entries:
                return CompensationResult((), all_succeeded=True)
            self._begin(reason, entries)
        else:
            reason = self._plan().reason
            entries = self._planned(entries)
        items = await self._undo_in_time(entries)
        report = RollbackReport(reason=reason, items=items)
        await self._finish(report)
        # As a replay will read it: where it was too large, its errors have been shortened.
        return result_of(decode_report(encode_report(report, _REPORT_BYTES)))

    async def _undo_in_time(self, entries: Sequence[Entry]) -> list[UndoRecord]:
        """Undo, within the rollback's own time limit if it has one."""
        inner = Frame(self._frame.invocation, context_id=self._id, parent=self._frame)
        items: list[UndoRecord] = []
        seconds = self._policy.rollback_timeout
        if seconds is None:
            await self._undo(inner, entries, items)
            return items
        async with TimeLimit(inner, seconds, name="rollback timeout", fails=False) as limit:
            await self._undo(inner, entries, items)
        if limit.expired:
            cut_off, *others = entries[len(items) :]
            error = encode_error(RollbackTimeoutError(cut_off.name, seconds))
            items.append(UndoRecord(id=cut_off.forward_id, name=cut_off.name, status="failed", error=error))
            items.extend(_not_attempted(entry) for entry in others)
        return items

    async def _undo(self, inner: Frame, entries: Sequence[Entry], items: list[UndoRecord]) -> None:
        for number, entry in enumerate(entries):
            item = await self._undo_one(inner, entry)
            items.append(item)
            if item.status == "failed" and self._policy.on_error != "continue":
                items.extend(_not_attempted(entry) for entry in entries[number + 1 :])
                return

    async def _undo_one(self, inner: Frame, entry: Entry) -> UndoRecord:
        """Undo one thing; under `on_error="park"` until it succeeds or an operator says otherwise."""
        again = 0
        while True:
            verb = CompensationVerb(
                entry,
                parent_id=self._id,
                sub_type=SubType.COMPENSATION,
                key_id=compensation_id(self._id, entry.forward_id),
                retry=self._policy.retry,
                timeout=self._policy.timeout,
            )
            operation_id = compensation_id(self._id, entry.forward_id, again)
            try:
                await perform(inner, verb, operation_id)
            except Exception as error:  # noqa: BLE001 - reported; the others still have to be undone
                failure = encode_error(error)
            else:
                return UndoRecord(id=entry.forward_id, name=entry.name, status="succeeded")
            decision = "abandon"
            if self._policy.on_error == "park":
                decision = await ask_operator(inner, entry.name, operation_id)
            if decision != "retry":
                status: CompensationStatus = "skipped" if decision == "skip" else "failed"
                return UndoRecord(id=entry.forward_id, name=entry.name, status=status, error=failure)
            again += 1

    def _begin(self, reason: ErrorObject, entries: Sequence[Entry]) -> None:
        """Queue what says that the rollback has begun; the first compensation's START takes it along."""
        journal = self._frame.invocation.journal
        self._frame.invocation.budget.used += 2
        plan = Plan(reason=reason, undo=[PlannedUndo(entry.forward_id, entry.name) for entry in entries])
        journal.note(_update(self._id, self._saga, OperationAction.START))
        journal.note(_update(rollback_id(self._id), self._plan_step, OperationAction.START))
        journal.note(
            _update(rollback_id(self._id), self._plan_step, OperationAction.SUCCEED, payload=encode_plan(plan))
        )

    async def _finish(self, report: RollbackReport) -> None:
        payload = encode_report(report, _REPORT_BYTES)
        if report.is_settled:
            update = _update(self._id, self._saga, OperationAction.SUCCEED, payload=payload)
        else:
            failed = [item.name for item in report.items if item.status == "failed"]
            error = ErrorObject(
                error_type="durable.exceptions.CompensationError",
                error_message=f"could not undo {', '.join(failed)}"[:1000],
                error_data=payload,
            )
            update = _update(self._id, self._saga, OperationAction.FAIL, error=error)
        await self._frame.invocation.journal.record(update)

    def _planned(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries in the order of the recorded plan.

        What the plan has and the code has not, is there all the same, and fails: it must not be passed over.
        """
        registered = {entry.forward_id: entry for entry in entries}
        planned: list[Entry] = []
        for undo in self._plan().undo:
            entry = registered.get(undo.id)
            if entry is None or entry.name != undo.name:
                found = "registers none" if entry is None else f"registers one under the name {entry.name!r}"
                entry = Entry(forward_id=undo.id, name=undo.name, undo=_missing, args=(undo.name, found))
            planned.append(entry)
        return planned

    def _plan(self) -> Plan:
        recorded = self._frame.invocation.history.get(rollback_id(self._id))
        payload = recorded.result if recorded is not None else None
        try:
            return decode_plan(payload or "")
        except msgspec.DecodeError as error:
            raise MalformedPayloadError("Plan", f"recorded for {self._saga}: {error}") from error

    def _report_in(self, recorded: Operation) -> RollbackReport:
        succeeded = recorded.status is OperationStatus.SUCCEEDED
        payload = recorded.result if succeeded else recorded.error and recorded.error.error_data
        try:
            return decode_report(payload or "")
        except msgspec.DecodeError as error:
            raise MalformedPayloadError("RollbackReport", f"recorded for {self._saga}: {error}") from error


def _not_attempted(entry: Entry) -> UndoRecord:
    return UndoRecord(id=entry.forward_id, name=entry.name, status="not attempted")


async def _missing(name: str, found: str) -> None:
    raise MissingCompensationError(name, found)


def _update(
    operation_id: str,
    identity: Identity,
    action: OperationAction,
    *,
    payload: str | None = None,
    error: ErrorObject | None = None,
) -> OperationUpdate:
    return OperationUpdate(
        id=operation_id,
        type=identity.type,
        action=action,
        parent_id=identity.parent_id,
        name=identity.name,
        sub_type=identity.sub_type,
        payload=payload,
        error=error,
    )
