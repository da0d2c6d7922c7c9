"""The travel saga: every way it can end, and a crash at every call on the way there."""

from __future__ import annotations

import itertools
import os
import sys
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


@pytest.mark.parametrize("linger", [0.0, 3600.0], ids=["starts alone", "starts with its end"])
@pytest.mark.parametrize("when", ["before it is sent", "after it was applied"])
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_a_crash_at_every_call(
    scenario: str,
    when: str,
    linger: float,
    book_trip: DurableFunction[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Each run ends the same; completed steps happened once, the one that was interrupted at most twice."""
    monkeypatch.setattr("durable._engine.journal.LINGER", linger)
    changes, outcome, ledger = SCENARIOS[scenario]
    whole = Harness(book_trip, event(**changes))
    await whole.outcome()
    expected_history = shape(whole)
    for number in itertools.count(1):
        monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / f"ledger-{number}.db"))
        harness = Harness(book_trip, event(**changes), name=f"t-{number}")
        hook = crash_at(number)
        if when == "before it is sent":
            harness.client.before = hook
        else:
            harness.client.after = hook
        try:
            output = await harness.outcome()
        except CrashError:
            harness.client.before = harness.client.after = lambda _: None
            output = await harness.outcome()
        else:
            # There was no such call. When a START goes out alone is a matter of time, otherwise it is not.
            assert number >= 2
            assert linger == 0 or number == len(whole.calls) + 1
            break

        assert ending(book_trip, output) == outcome, number
        assert shape(harness) == expected_history, number
        entries = ledger_entries()
        assert len({entry.key for entry in entries}) == len(ledger), number
        # In order of their first happening it is what happens without a crash; a call carries the outcome of at
        # most one step, so that at most one may happen a second time, and with the same idempotency key.
        assert list(dict.fromkeys(happened())) == ledger, number
        repeats = len(entries) - len(ledger)
        assert repeats <= (0 if linger and when == "after it was applied" else 1), number


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
