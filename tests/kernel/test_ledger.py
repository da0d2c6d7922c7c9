"""The saga's bookkeeping."""

from __future__ import annotations

from durable._kernel.ledger import (
    Entry,
    Ledger,
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


def entry(name: str) -> Entry:
    return Entry(f"id-{name}", name, print, ())


def names(ledger: Ledger) -> list[str]:
    return [one.name for one in ledger.in_order_of_undoing()]


def test_undone_in_reverse_of_registration():
    """Last registered first."""
    ledger = Ledger()
    ledger.entries.extend(map(entry, "abc"))
    assert names(ledger) == ["c", "b", "a"]


def test_an_inner_saga_hands_over_as_one_unit():
    """The inner one's entries stay together, between what came before and after."""
    outer, inner = Ledger(), Ledger()
    outer.entries.append(entry("a"))
    inner.entries.extend(map(entry, "bc"))
    inner.hand_over(outer)
    outer.entries.append(entry("d"))
    assert names(outer) == ["d", "c", "b", "a"]
    assert len(inner) == 0


def test_plans_and_reports_come_back_as_they_were():
    """They are all that a replay has."""
    plan = Plan(reason=REASON, undo=[PlannedUndo("i", "hotel")])
    assert decode_plan(encode_plan(plan)) == plan
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


def test_a_report_that_is_too_large_loses_text_and_never_an_item():
    """What became of each compensation is kept, whatever their errors weigh."""
    error = ErrorObject(error_type="ValueError", error_message="x" * 50_000, error_data="y" * 50_000)
    items = [UndoRecord(id=f"{i}", name=f"n{i}", status="failed", error=error) for i in range(100)]
    encoded = encode_report(RollbackReport(reason=error, items=items), 700_000)
    assert len(encoded) <= 700_000
    again = decode_report(encoded)
    assert [item.name for item in again.items] == [f"n{i}" for i in range(100)]
    assert all(item.error is not None and item.error.error_type == "ValueError" for item in again.items)
