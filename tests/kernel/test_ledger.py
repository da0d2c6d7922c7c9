"""The saga's bookkeeping."""

from __future__ import annotations

import msgspec
import pytest

from durable import Retry
from durable._kernel.ledger import Entry, Ledger, Policy
from durable._kernel.undo_records import (
    Plan,
    PlannedUndo,
    RollbackReport,
    UndoRecord,
    decode_plan,
    decode_report,
    encode_plan,
    encode_report,
)
from durable._wire import ErrorObject

REASON = ErrorObject(error_type="ValueError", error_message="no", error_data="{}")


def entry(name: str, *path: int) -> Entry:
    return Entry(forward_id=f"id-{name}", name=name, undo=print, path=path)


def names(ledger: Ledger) -> list[str]:
    return [one.name for one in ledger.in_order_of_undoing()]


def ledger_of(*entries: Entry) -> Ledger:
    ledger = Ledger()
    for one in entries:
        ledger.add(one)
    return ledger


def test_undone_in_reverse_of_position_and_not_of_registration():
    """What branches registered side by side is undone branch by branch, whenever it came in."""
    ledger = ledger_of(
        entry("b2", 2, 1, 1), entry("a1", 1), entry("c", 3), entry("b1", 2, 0, 7), entry("b3", 2, 1, 2)
    )
    assert names(ledger) == ["c", "b3", "b2", "b1", "a1"]


def test_only_what_came_after_a_savepoint():
    """A savepoint is how many there were; what is undone is dropped."""
    ledger = ledger_of(entry("a", 1), entry("c", 3), entry("b", 2))
    later = ledger.in_order_of_undoing(1)
    assert [one.name for one in later] == ["c", "b"]
    ledger.drop({one.forward_id for one in later})
    assert names(ledger) == ["a"]


def test_an_inner_saga_hands_over_as_one_unit():
    """The inner one's entries stay together, between what came before and after."""
    outer, inner = ledger_of(entry("a", 1)), ledger_of(entry("b", 2), entry("c", 3))
    inner.hand_over(outer)
    outer.add(entry("d", 4))
    assert names(outer) == ["d", "c", "b", "a"]
    assert len(inner) == 0


def test_plans_and_reports_come_back_as_they_were():
    """They are all that a replay has."""
    plan = Plan(reason=REASON, undo=[PlannedUndo("i", "hotel")])
    assert decode_plan(encode_plan(plan, 10_000)) == plan
    report = RollbackReport(
        reason=REASON,
        items=[
            UndoRecord(id="a", name="x", status="failed", error=REASON),
            UndoRecord(id="b", name="y", status="not attempted"),
            UndoRecord(id="c", name="z", status="succeeded"),
        ],
    )
    assert decode_report(encode_report(report, 10_000)) == report
    assert not report.all_succeeded


def test_a_plan_that_is_too_large_loses_the_reasons_text_and_never_a_line():
    """What is to be undone is kept, whatever the reason weighs."""
    reason = ErrorObject(error_type="ValueError", error_message='"' * 50_000, error_data='"' * 900_000)
    plan = Plan(reason=reason, undo=[PlannedUndo(f"{i}", "x" * 256) for i in range(1_500)], cancelled=True)
    encoded = encode_plan(plan, 700_000)
    assert len(encoded) <= 700_000
    again = decode_plan(encoded)
    assert (again.undo, again.cancelled) == (plan.undo, True)
    assert again.reason.error_type == "ValueError"


def test_a_report_that_is_too_large_loses_text_and_never_an_item():
    """What became of each compensation is kept, whatever their errors weigh."""
    error = ErrorObject(error_type="ValueError", error_message="x" * 50_000, error_data="y" * 50_000)
    items = [UndoRecord(id=f"{i}", name=f"n{i}", status="failed", error=error) for i in range(100)]
    encoded = encode_report(RollbackReport(reason=error, items=items), 700_000)
    assert len(encoded) <= 700_000
    again = decode_report(encoded)
    assert [item.name for item in again.items] == [f"n{i}" for i in range(100)]
    assert all(item.error is not None and item.error.error_type == "ValueError" for item in again.items)


RETRIED = Retry(attempts=2)


@pytest.mark.parametrize(
    ("policy", "own", "operations"),
    [
        (Policy(), 0, 2 + 3),
        (Policy(), 2, 2 + 3 + 2),
        (Policy(retry=RETRIED), 0, 2 + 3 + 3),
        (Policy(retry=RETRIED), 2, 2 + 3 + 3),
        (Policy(on_error="park"), 0, 2 + 3 + 3),
        (Policy(on_error="stop"), 0, 2 + 3),
        (Policy(rollback_timeout=5), 0, 2 + 2 + 3),
        (Policy(on_error="park", retry=RETRIED, rollback_timeout=5), 1, 2 + 2 + 3 + 3 + 3),
    ],
)
def test_how_many_operations_a_rollback_may_take(policy: Policy, own: int, operations: int):
    """Saga and plan, a time limit's two, a context each; steps where they are retried, callbacks where one asks."""
    ledger = Ledger()
    assert policy.operations_to_undo(ledger) == 0
    for number in range(3):
        one = entry("x", number)
        ledger.add(msgspec.structs.replace(one, retry=RETRIED) if number < own else one)
    assert ledger.retried == own
    assert policy.operations_to_undo(ledger) == operations


def test_a_cleared_ledger_has_nothing_to_undo():
    """Nor has it anything to hand over."""
    ledger = ledger_of(entry("a", 1))
    ledger.clear()
    assert (len(ledger), names(ledger)) == (0, [])
