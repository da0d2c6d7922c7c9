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

from .._engine.frame import Frame, user_location
from .._engine.perform import diverge
from .._kernel.errors import decode_error, encode_error
from .._kernel.history import Identity
from .._kernel.ids import compensation_id, rollback_id
from .._kernel.ledger import Entry, Policy
from .._kernel.report import CompensationResult, result_of
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
from ..exceptions import (
    MalformedPayloadError,
    MissingCompensationError,
    NonDeterminismError,
    RollbackTimeoutError,
    SagaRolledBackError,
)
from .apart import apart
from .compensation import CompensationVerb, perform_or_look_up
from .operator import ask_operator

ROLLBACK_NAME = "rollback"
"""The name of the step that records the plan."""

_WHY_IS_LOST = "a crash has come before it was recorded why"

_REPORT_BYTES = MAX_PAYLOAD_BYTES * 3 // 4
"""A report is a string within JSON once more when it fails: room for escapes and the rest of the error object."""


class Rollback:
    """The rollback of one saga scope, begun or not.

    Attributes:
        attempted: The forward operations whose compensations have been run, once it is over.
    """

    def __init__(self, frame: Frame, saga_id: str, name: str | None, policy: Policy) -> None:
        self.attempted: set[str] = set()
        self._frame = frame
        self._id = saga_id
        self._policy = policy
        self._saga = Identity(OperationType.CONTEXT, SubType.SAGA, name, frame.context_id)
        self._plan_step = Identity(OperationType.STEP, SubType.STEP, ROLLBACK_NAME, saga_id)
        # The compensation that was begun last, and what it failed with if it is decided on by an operator.
        self._running: tuple[CompensationVerb, str] | None = None
        self._failure: ErrorObject | None = None

    @property
    def _recorded(self) -> Operation | None:
        return self._frame.invocation.history.get(self._id)

    async def recorded_decision(self) -> Plan | RollbackReport | None:
        """Why the rollback has begun, if it has: in this invocation or in one before.

        Ends the invocation with a NonDeterminismError if something else is recorded at the saga's position.
        """
        recorded = self._recorded
        if recorded is None:
            return None
        if not self._saga.matches(recorded):
            await diverge(self._frame, recorded, str(self._saga))
        if self._frame.invocation.rehearsal is not None:
            self._frame.invocation.rehearsal.seen |= {self._id, rollback_id(self._id)}
        if recorded.is_final:
            return self._report_in(recorded)
        # A crash may have come between the two: it has begun, nothing is undone, and why is found out again.
        return self._plan() or Plan(reason=encode_error(SagaRolledBackError(_WHY_IS_LOST)), undo=[])

    async def run(
        self, reason: ErrorObject, entries: Sequence[Entry], *, cancelled: bool = False
    ) -> CompensationResult:
        """Undo what is not undone yet. What was recorded first counts, and not what is given here.

        Args:
            reason: Why.
            entries: What there is to undo, in order of undoing.
            cancelled: Whether the saga's block was cancelled, and did not fail by itself.
        """
        recorded = self._recorded
        if recorded is not None and recorded.is_final:
            return self._result(self._report_in(recorded))
        plan = None if recorded is None else self._plan()
        if plan is not None:
            entries = self._planned(plan, entries)
        elif recorded is None and not entries:
            return CompensationResult((), all_succeeded=True)
        else:
            undo = [PlannedUndo(entry.forward_id, entry.name) for entry in entries]
            plan = Plan(reason=reason, undo=undo, cancelled=cancelled)
            self._begin(plan)
        async with apart(self._frame, "a rollback"):
            items = await self._undo_in_time(entries)
            report = RollbackReport(reason=plan.reason, items=items, cancelled=plan.cancelled)
            await self._finish(report)
        # As a replay will read it: where it was too large, its errors have been shortened.
        return self._result(decode_report(encode_report(report, _REPORT_BYTES)))

    def _result(self, report: RollbackReport) -> CompensationResult:
        self.attempted = {item.id for item in report.items if item.status != "not attempted"}
        return result_of(report)

    async def _undo_in_time(self, entries: Sequence[Entry]) -> list[UndoRecord]:
        """Undo, within the rollback's own time limit if it has one."""
        inner = Frame(self._frame.invocation, context_id=self._id, parent=self._frame)
        items: list[UndoRecord] = []
        seconds = self._policy.rollback_timeout
        if seconds is None:
            await self._undo(inner, entries, items)
            return items
        async with TimeLimit[bool](inner, seconds, name="rollback timeout", fails=False) as limit:
            await self._undo(inner, entries, items)
        if limit.expired:
            cut_off, *others = entries[len(items) :]
            items.append(self._cut_off(cut_off, seconds))
            items.extend(_not_attempted(entry) for entry in others)
        return items

    def _cut_off(self, entry: Entry, seconds: float) -> UndoRecord:
        """What becomes of the compensation that was next when the time was over."""
        before = None if self._failure is None else decode_error(self._failure)
        error = encode_error(RollbackTimeoutError(entry.name, seconds, before))
        if self._running is not None:
            verb, operation_id = self._running
            recorded = self._frame.invocation.history.get(operation_id)
            if recorded is not None and not recorded.is_final:
                # With the rollback's own end, which follows: no replay comes to it.
                update = verb.update(operation_id, OperationAction.FAIL, error=error)
                self._frame.invocation.journal.note(update)
        return UndoRecord(id=entry.forward_id, name=entry.name, status="failed", error=error)

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
        self._failure = None
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
            self._running = verb, operation_id
            try:
                await perform_or_look_up(inner, verb, operation_id)
            except Exception as error:  # noqa: BLE001 - reported; the others still have to be undone
                self._failure = encode_error(error)
            else:
                return UndoRecord(id=entry.forward_id, name=entry.name, status="succeeded")
            decision = "abandon"
            if self._policy.on_error == "park":
                decision = await ask_operator(inner, entry.name, operation_id)
            if decision != "retry":
                status: CompensationStatus = "skipped" if decision == "skip" else "failed"
                return UndoRecord(id=entry.forward_id, name=entry.name, status=status, error=self._failure)
            again += 1

    def _begin(self, plan: Plan) -> None:
        """Queue what says that the rollback has begun; the first compensation's START takes it along."""
        invocation = self._frame.invocation
        step_id = rollback_id(self._id)
        for operation_id, identity in ((self._id, self._saga), (step_id, self._plan_step)):
            if operation_id not in invocation.history:
                invocation.budget.used += 1
                invocation.journal.note(_update(operation_id, identity, OperationAction.START))
        payload = encode_plan(plan, _REPORT_BYTES)
        invocation.journal.note(_update(step_id, self._plan_step, OperationAction.SUCCEED, payload=payload))

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

    def _planned(self, plan: Plan, entries: Sequence[Entry]) -> list[Entry]:
        """The entries in the order of the recorded plan.

        What the plan has and the code has not, is there all the same, and fails: it must not be passed over.
        """
        registered = {entry.forward_id: entry for entry in entries}
        planned: list[Entry] = []
        for undo in plan.undo:
            entry = registered.get(undo.id)
            if entry is None or entry.name != undo.name:
                self._rehearse_missing(undo)
                found = "registers none" if entry is None else f"registers one under the name {entry.name!r}"
                entry = Entry(forward_id=undo.id, name=undo.name, undo=_missing, args=(undo.name, found))
            planned.append(entry)
        return planned

    def _rehearse_missing(self, undo: PlannedUndo) -> None:
        """In a rehearsal it is no matter for the rollback's report: the code does not follow its history."""
        invocation = self._frame.invocation
        recorded = invocation.history.get(compensation_id(self._id, undo.id))
        if invocation.rehearsal is not None and (recorded is None or not recorded.is_final):
            where = f"the rollback of {self._saga}, {user_location()}"
            planned = f"{SubType.COMPENSATION} {undo.name!r}"
            invocation.fail(NonDeterminismError(planned, "no compensation of that name and step", where))

    def _plan(self) -> Plan | None:
        recorded = self._frame.invocation.history.get(rollback_id(self._id))
        if recorded is None or not recorded.is_final:
            return None
        try:
            return decode_plan(recorded.result or "")
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
