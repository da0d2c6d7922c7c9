"""What a saga has to undo, and what became of it.

The ledger is plain bookkeeping: entries in the order in which their forward operations registered, undone in
the exact reverse (Garcia-Molina and Salem 1987, section 3). Who calls what is the business of `_saga`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec

from .._wire import ErrorObject

T = TypeVar("T")

CompensationStatus = Literal["succeeded", "failed", "not attempted"]
OutcomeStatus = Literal["succeeded", "failed", "in doubt"]


class StepOutcome(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What became of a step whose compensation was registered before it ran.

    Attributes:
        status: `"succeeded"`, `"failed"`, or `"in doubt"`: begun, and nobody knows.
        value: What it returned; `None` unless it succeeded.
        error: What it raised; `None` unless it failed.
    """

    status: OutcomeStatus
    value: T | None = None
    error: Exception | None = None


class Entry:
    """One thing to undo.

    Attributes:
        forward_id: The operation it undoes.
        name: The operation's name, which the compensation takes over.
        undo: The user's function.
        args: What it is called with. An entry made before its step ran gets the step's outcome later.
    """

    __slots__ = ("args", "forward_id", "name", "undo")

    def __init__(self, forward_id: str, name: str, undo: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.forward_id = forward_id
        self.name = name
        self.undo = undo
        self.args = args


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


class Ledger:
    """The entries of one saga scope."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        # In the order of registration. Appended to, emptied by whoever takes the entries over, never reordered.
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self.entries)

    def in_order_of_undoing(self) -> list[Entry]:
        """Last registered first."""
        return self.entries[::-1]

    def hand_over(self, other: Ledger) -> None:
        """Give all entries, as one unit, to an outer saga."""
        other.entries.extend(self.entries)
        self.entries = []


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
