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


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is recorded when a rollback begins.

    Attributes:
        reason: Why.
        undo: What it will undo, in order of execution.
        cancelled: Whether the block was cancelled, and did not fail by itself.
    """

    reason: ErrorObject
    undo: list[PlannedUndo]
    cancelled: bool = False


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one compensation, as it is recorded."""

    id: str
    name: str
    status: CompensationStatus
    error: ErrorObject | None = None


class RollbackReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole rollback, as it is recorded at its end: all that a later replay needs of it.

    Attributes:
        reason: As in the plan.
        items: What became of each, in order of execution.
        cancelled: As in the plan.
    """

    reason: ErrorObject
    items: list[UndoRecord]
    cancelled: bool = False

    @property
    def all_succeeded(self) -> bool:
        """Whether every compensation was attempted and succeeded."""
        return all(item.status == "succeeded" for item in self.items)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do: what did not succeed was skipped by an operator."""
        return all(item.status in {"succeeded", "skipped"} for item in self.items)


_json = msgspec.json.Encoder()

_LENGTHS = (10_000, 1_000, 100, 0)
"""How long the messages of errors may be, one after another, until what holds them is small enough."""


def encode_plan(plan: Plan, limit: int) -> str:
    """A plan as the payload of the step that records it.

    Args:
        plan: What is to be undone, and why.
        limit: Bytes it may take. Beyond that the reason is shortened, as in a report.
    """
    encoded = _json.encode(plan)
    for length in _LENGTHS:
        if len(encoded) <= limit:
            break
        encoded = _json.encode(msgspec.structs.replace(plan, reason=_cut(plan.reason, length)))
    return encoded.decode()


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
    for length in _LENGTHS:
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
    items = [
        item if item.error is None else msgspec.structs.replace(item, error=_cut(item.error, length))
        for item in report.items
    ]
    return msgspec.structs.replace(report, reason=_cut(report.reason, length), items=items)


def _cut(error: ErrorObject, length: int) -> ErrorObject:
    return ErrorObject(error_type=error.error_type, error_message=(error.error_message or "")[:length])
