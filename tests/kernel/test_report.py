"""What a rollback came to, as users see it."""

from __future__ import annotations

import pytest

from durable import CompensationError, CompensationResult
from durable._kernel.report import CompensationItem, attribute_of, restore_result

UNDONE = CompensationItem("hotel", "succeeded")
SKIPPED = CompensationItem("flight", "skipped", KeyError("flight"))
FAILED = CompensationItem("car", "failed", ValueError("no"))
LEFT = CompensationItem("card", "not attempted")


def result(*items: CompensationItem) -> CompensationResult:
    return CompensationResult(items, all(item.status == "succeeded" for item in items))


@pytest.mark.parametrize(
    ("items", "settled", "note"),
    [
        ((), True, "s was rolled back; undone: nothing"),
        ((UNDONE,), True, "s was rolled back; undone: hotel"),
        ((UNDONE, SKIPPED), True, "s was rolled back; undone: hotel; skipped: flight"),
        ((SKIPPED,), True, "s was rolled back; undone: nothing; skipped: flight"),
        ((UNDONE, FAILED), False, "s was rolled back; undone: hotel"),
        ((UNDONE, LEFT), False, "s was rolled back; undone: hotel"),
    ],
)
def test_what_was_undone_is_said_in_one_line(items: tuple[CompensationItem, ...], settled: bool, note: str):
    """And nothing is left to do if all was, or an operator has skipped the rest."""
    assert result(*items).is_settled is settled
    assert result(*items).note("s") == note


def test_what_was_not_undone_is_an_exception():
    """It has every failure, each with a note whose it is; and says what was not attempted."""
    unknown = CompensationItem("boat", "failed")
    whole = result(UNDONE, FAILED, unknown, LEFT)
    error = whole.failure("s")
    assert error.message == "s could not undo car, boat; not attempted: card"
    assert error.exceptions[0] is FAILED.error
    assert [str(member) for member in error.exceptions] == ["no", "no error was recorded"]
    assert error.exceptions[1].__notes__ == ["raised by the compensation of 'boat'"]
    assert error.result is whole
    assert result(UNDONE, FAILED).failure("s").message == "s could not undo car"


def test_the_report_of_an_error_is_recorded_with_it_and_made_again():
    """Its failures are the group's own members; what an operator skipped is recorded by itself."""
    error = result(UNDONE, SKIPPED, FAILED, LEFT).failure("s")
    recorded = attribute_of(error)
    assert [item.get("error") for item in recorded[::2]] == [None, 0]
    again = CompensationError(error.message, error.exceptions)
    again.result = recorded
    restore_result(again)
    found = again.result
    assert isinstance(found, CompensationResult)
    assert [(item.name, item.status) for item in found.items] == [
        ("hotel", "succeeded"),
        ("flight", "skipped"),
        ("car", "failed"),
        ("card", "not attempted"),
    ]
    assert not found.all_succeeded
    assert found.items[2].error is error.exceptions[0]
    assert isinstance(found.items[1].error, KeyError)
    assert found.items[0].error is None
    again.result = result(UNDONE)
    again.result = attribute_of(again)
    restore_result(again)
    assert again.result.all_succeeded
