"""What is recorded of a rollback: what it was to undo, what became of each, which operation undid which. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .._kernel.ids import compensation_id, operation_id
from .._kernel.undo_records import CompensationStatus, Plan, RollbackReport, UndoRecord, decode_plan, decode_report
from .._wire import ErrorObject


class Rollback:
    """One rollback, as far as it has been told.

    Attributes:
        id: Its operation, a CONTEXT of subtype Saga.
        name: Its name.
        reason: Why it began.
        planned: Names of what is to be undone, in order, by the ids of what was done.
    """

    def __init__(self, operation: str, name: str) -> None:
        self.id = operation
        self.name = name
        self.reason: ErrorObject | None = None
        self.planned: dict[str, str] = {}
        # What has become of each, by the ids of what was done; in order.
        self._outcomes: dict[str, UndoRecord] = {}
        # Which compensation undoes what; several may undo the same, as an operator can have it tried again.
        self._forward: dict[str, str] = {}
        self._settled = False

    @property
    def undone(self) -> list[str]:
        """Names of what has been undone."""
        return [one.name for one in self._outcomes.values() if one.status == "succeeded"]

    @property
    def failed(self) -> Sequence[UndoRecord]:
        """What could not be undone, with the reasons."""
        return [one for one in self._outcomes.values() if one.status == "failed"]

    @property
    def skipped(self) -> Sequence[UndoRecord]:
        """What an operator decided not to undo after it had failed, with the reasons it failed for."""
        return [one for one in self._outcomes.values() if one.status == "skipped"]

    @property
    def not_attempted(self) -> list[str]:
        """Names of what nobody tried to undo, and will not try."""
        if not self._settled:
            return []
        return [
            name
            for forward, name in self.planned.items()
            if forward not in self._outcomes or self._outcomes[forward].status == "not attempted"
        ]

    def plan(self, payload: str | None) -> None:
        """Take in the recorded plan; one that cannot be read changes nothing."""
        plan = _plan_in(payload)
        if plan is not None:
            self.reason = plan.reason
            self.planned = {undo.id: undo.name for undo in plan.undo}

    def forward_of(self, compensation: str) -> str | None:
        """The id of what a compensation undoes; to be asked for each one as it begins."""
        if compensation not in self._forward:
            begun = list(self._forward.values())
            for forward in self.planned:
                if compensation_id(self.id, forward, begun.count(forward)) == compensation:
                    self._forward[compensation] = forward
        return self._forward.get(compensation)

    def note(self, compensation: str, name: str, *, succeeded: bool, error: ErrorObject | None) -> None:
        """Take in how a compensation has ended."""
        forward = self.forward_of(compensation) or compensation
        status: CompensationStatus = "succeeded" if succeeded else "failed"
        self._outcomes[forward] = UndoRecord(id=forward, name=name, status=status, error=error)

    def settle(self, payload: str | None) -> None:
        """Take in the recorded report, at the end; without one that can be read, what was noted counts."""
        self._settled = True
        report = _report_in(payload)
        if report is not None:
            self._outcomes = {item.id: item for item in report.items}

    def outcome_of(self, forward: str) -> UndoRecord | None:
        """What has become of undoing something."""
        return self._outcomes.get(forward)


def is_attempt(operation: str | None, name: str | None, compensation: str, compensation_name: str | None) -> bool:
    """Whether a step inside a compensation is the one that counts its attempts, and not one of the user's."""
    return name == compensation_name and operation == operation_id(compensation, 1)


def _plan_in(payload: str | None) -> Plan | None:
    try:
        return decode_plan(payload or "")
    except msgspec.DecodeError:
        return None


def _report_in(payload: str | None) -> RollbackReport | None:
    try:
        return decode_report(payload or "")
    except msgspec.DecodeError:
        return None
