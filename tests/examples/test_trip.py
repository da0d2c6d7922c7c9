"""The travel saga: every way it can end, and a crash at every call on the way there."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from durable import CompensationError, DurableFunction
from durable._wire import InvocationOutput, InvocationStatus
from durable.local import load_target
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

BOOKED = ["book hotel", "book flight", "book car"]
UNDONE = ["cancel car", "cancel flight", "cancel hotel"]

# What the input asks for, how it ends, and what is on the ledger then.
SCENARIOS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "success": ({}, "Booking", [*BOOKED, "charge card"]),
    "declined": ({"card": "declined"}, "CardDeclinedError", [*BOOKED, "decline card", *UNDONE]),
    "no hotel": ({"fail": "hotel"}, "NotAvailableError", []),
    "no flight": ({"fail": "flight"}, "NotAvailableError", ["book hotel", "cancel hotel"]),
    "no car": (
        {"fail": "car"},
        "NotAvailableError",
        ["book hotel", "book flight", "cancel flight", "cancel hotel"],
    ),
    "no payment, and the flight cannot be cancelled": (
        {"fail": "payment", "fail_compensation": "flight"},
        "CompensationError",
        [*BOOKED, "decline card", "cancel car", "cancel hotel"],
    ),
    "declined, and the car cannot be cancelled": (
        {"card": "declined", "fail_compensation": "car"},
        "CompensationError",
        [*BOOKED, "decline card", "cancel flight", "cancel hotel"],
    ),
    "declined, and the hotel cannot be cancelled": (
        {"card": "declined", "fail_compensation": "hotel"},
        "CompensationError",
        [*BOOKED, "decline card", "cancel car", "cancel flight"],
    ),
}


@pytest.fixture
def book_trip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DurableFunction[Any, Any]]:
    """The example, with a ledger of its own."""
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "ledger.db"))
    before = list(sys.path)
    yield load_target(f"{EXAMPLES / 'trip.py'}:book_trip")
    sys.path[:] = before


def event(**changes: Any) -> Any:
    import trip

    raw = msgspec.json.decode((EXAMPLES / "trip.json").read_bytes())
    return msgspec.convert({**raw, "pace": 0.0, **changes}, trip.Trip)


def ledger_entries() -> list[Any]:
    import ledger

    return ledger.entries() if Path(os.environ["TRIP_LEDGER"]).exists() else []


def happened() -> list[str]:
    return [f"{entry.action} {entry.what}" for entry in ledger_entries()]


def ending(function: DurableFunction[Any, Any], output: InvocationOutput) -> str:
    if output.status is InvocationStatus.SUCCEEDED:
        return type(function.decode_result(output.result)).__name__
    return type(function.decode_error(output.error)).__name__


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_ending(scenario: str, book_trip: DurableFunction[Any, Any]):
    """The outcome, and exactly what should have happened in the world, in order."""
    changes, outcome, ledger = SCENARIOS[scenario]
    harness = Harness(book_trip, event(**changes))
    output = await harness.outcome()
    assert ending(book_trip, output) == outcome
    assert happened() == ledger


async def test_the_report_names_what_could_not_be_cancelled(book_trip: DurableFunction[Any, Any]):
    """The group holds the compensations' own errors, of their own types."""
    harness = Harness(book_trip, event(card="declined", fail_compensation="flight"))
    error = await harness.error()
    assert isinstance(error, CompensationError)
    assert str(error) == "saga 'trip' could not undo reserve_flight (1 sub-exception)"
    assert [str(member) for member in error.exceptions] == ["the flight cannot be cancelled"]


@pytest.mark.parametrize("when", ["before it is sent", "after it was applied"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_crash_at_every_call(
    scenario: str, when: str, book_trip: DurableFunction[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each run ends the same; completed steps happened once, the one that was interrupted at most twice."""
    changes, outcome, ledger = SCENARIOS[scenario]
    whole = Harness(book_trip, event(**changes))
    await whole.outcome()
    expected_history = shape(whole)
    calls = len(whole.calls)
    assert calls >= 1
    for number in range(1, calls + 1):
        monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / f"ledger-{number}.db"))
        harness = Harness(book_trip, event(**changes), name=f"t-{number}")
        hook = crash_at(number)
        if when == "before it is sent":
            harness.client.before = hook
        else:
            harness.client.after = hook
        with pytest.raises(CrashError):
            await harness.outcome()
        harness.client.before = harness.client.after = lambda _: None
        output = await harness.outcome()

        assert ending(book_trip, output) == outcome, number
        assert shape(harness) == expected_history, number
        entries = ledger_entries()
        keys = {entry.key for entry in entries}
        assert len(keys) == len(ledger), number
        # In order of their first happening it is what happens without a crash; one call carries the outcome of at
        # most one step, so that at most one may happen a second time, and with the same idempotency key.
        assert list(dict.fromkeys(happened())) == ledger, number
        repeated = {key: count for key, count in Counter(entry.key for entry in entries).items() if count > 1}
        assert sum(repeated.values()) - len(repeated) <= (1 if when == "before it is sent" else 0), number


def shape(harness: Harness) -> list[tuple[str, ...]]:
    """What is recorded, without times and the like: the same for every run that ended the same."""
    return [
        (
            operation.id,
            operation.type,
            operation.sub_type or "",
            operation.name or "",
            operation.status,
            operation.result or "",
            (operation.error.error_type or "") if operation.error is not None else "",
            (operation.error.error_message or "") if operation.error is not None else "",
        )
        for operation in harness.operations()
    ]


def crash_at(number: int) -> Callable[[int], None]:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
