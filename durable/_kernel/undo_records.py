"""What is recorded of a rollback: what it will undo, and what became of each."""

from __future__ import annotations

from typing import Literal

import msgspec

from .._wire import ErrorObject

CompensationStatus = Literal["succeeded", "failed", "skipped", "not attempted"]


class PlannedUndo(msgspec.Struct, frozen=True):
    """One line of the plan that is recorded when a rollback begins."""

    id: str
    name: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Why a saga rolls back and what it will undo, in order of execution."""

    reason: ErrorObject
    undo: list[PlannedUndo]


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one compensation, as it is recorded."""

    id: str
    name: str
    status: CompensationStatus
    error: ErrorObject | None = None


class RollbackReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole rollback, as it is recorded at its end: all that a later replay needs of it."""

    reason: ErrorObject
    items: list[UndoRecord]

    @property
    def all_succeeded(self) -> bool:
        """Whether every compensation was attempted and succeeded."""
        return all(item.status == "succeeded" for item in self.items)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do: what did not succeed was skipped by an operator."""
        return all(item.status in {"succeeded", "skipped"} for item in self.items)


_json = msgspec.json.Encoder()


def encode_plan(plan: Plan) -> str:
    """A plan as the payload of the step that records it."""
    return _json.encode(plan).decode()


def decode_plan(payload: str) -> Plan:
    """A recorded plan.

    Raises:
        msgspec.DecodeError: Not a plan.
    """
    return msgspec.json.decode(payload, type=Plan)


def encode_report(report: RollbackReport, limit: int) -> str:
    """A report as the saga's payload or error data.

    Args:
        report: What happened.
        limit: Bytes it may take. Beyond that the errors lose their data and stack, then length of message.
    """
    encoded = _json.encode(report)
    for length in (10_000, 1_000, 100, 0):
        if len(encoded) <= limit:
            break
        encoded = _json.encode(_shortened(report, length))
    return encoded.decode()


def decode_report(payload: str) -> RollbackReport:
    """A recorded report.

    Raises:
        msgspec.DecodeError: Not a report.
    """
    return msgspec.json.decode(payload, type=RollbackReport)


def _shortened(report: RollbackReport, length: int) -> RollbackReport:
    def cut(error: ErrorObject | None) -> ErrorObject | None:
        if error is None:
            return None
        return ErrorObject(error_type=error.error_type, error_message=(error.error_message or "")[:length])

    items = [msgspec.structs.replace(item, error=cut(item.error)) for item in report.items]
    return RollbackReport(reason=cut(report.reason) or ErrorObject(), items=items)
