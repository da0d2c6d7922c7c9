"""What a rollback came to, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from .._wire import ErrorObject
from ..exceptions import CompensationError
from .errors import decode_error, encode_error
from .undo_records import CompensationStatus, RollbackReport


class CompensationItem(msgspec.Struct, frozen=True):
    """What became of one compensation.

    Attributes:
        name: The step it undoes.
        status: `"succeeded"`, `"failed"`, `"skipped"` by an operator after it had failed, or `"not attempted"`, as
            an earlier one failed or the time was over.
        error: What it raised; `None` unless it failed.
    """

    name: str
    status: CompensationStatus
    error: Exception | None = None


class CompensationResult(msgspec.Struct, frozen=True):
    """What a rollback came to.

    Attributes:
        items: One a compensation, in order of execution: last registered first.
        all_succeeded: Whether everything was undone.
    """

    items: Sequence[CompensationItem]
    all_succeeded: bool

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do: what did not succeed was skipped by an operator."""
        return all(item.status in {"succeeded", "skipped"} for item in self.items)

    def note(self, saga: str) -> str:
        """One line on what was undone, for the exception that made it necessary."""
        undone, skipped = self._named("succeeded"), self._named("skipped")
        return f"{saga} was rolled back; undone: {undone or 'nothing'}" + (
            f"; skipped: {skipped}" if skipped else ""
        )

    def failure(self, saga: str) -> CompensationError:
        """The exception that says what was not undone."""
        errors: list[Exception] = []
        for item in self.items:
            if item.status == "failed":
                error = item.error or RuntimeError("no error was recorded")
                error.add_note(f"raised by the compensation of {item.name!r}")
                errors.append(error)
        skipped = self._named("not attempted")
        text = f"{saga} could not undo {self._named('failed')}"
        group = CompensationError(text + (f"; not attempted: {skipped}" if skipped else ""), errors)
        group.result = self
        return group

    def _named(self, status: CompensationStatus) -> str:
        return ", ".join(item.name for item in self.items if item.status == status)


def result_of(report: RollbackReport) -> CompensationResult:
    """The result that users see, from what was recorded; the same live and on replay."""
    items = tuple(
        CompensationItem(item.name, item.status, None if item.error is None else decode_error(item.error))
        for item in report.items
    )
    return CompensationResult(items, report.all_succeeded)


class _ItemRecord(msgspec.Struct, omit_defaults=True):
    """One item of a report as an attribute of a `CompensationError`; its error by number if the group has it."""

    name: str
    status: CompensationStatus
    error: int | ErrorObject | None = None


def attribute_of(error: CompensationError) -> Any:
    """The report of an error, as what is recorded of its attributes."""
    result: CompensationResult = error.result
    numbers = {id(member): number for number, member in enumerate(error.exceptions)}
    items: list[_ItemRecord] = []
    for item in result.items:
        recorded: int | ErrorObject | None = None
        if item.error is not None:
            number = numbers.get(id(item.error))
            recorded = encode_error(item.error) if number is None else number
        items.append(_ItemRecord(item.name, item.status, recorded))
    return msgspec.to_builtins(items)


def restore_result(error: CompensationError) -> None:
    """Make the report again of what was recorded of it.

    Raises:
        msgspec.ValidationError: It is none.
    """
    records = msgspec.convert(error.result, list[_ItemRecord])
    items = [CompensationItem(record.name, record.status, _error_of(record, error)) for record in records]
    all_succeeded = all(item.status == "succeeded" for item in items)
    error.result = CompensationResult(tuple(items), all_succeeded)


def _error_of(record: _ItemRecord, group: CompensationError) -> Exception | None:
    error = record.error
    if isinstance(error, int):
        return group.exceptions[error]
    return None if error is None else decode_error(error)
