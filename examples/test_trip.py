"""Tests of the trip, as whoever writes such a function would have them: `pytest examples/test_trip.py`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ledger
import pytest
from trip import Booking, CardDeclinedError, Trip, book_trip

from durable.testing import History, crash_everywhere, durable_test

if TYPE_CHECKING:
    from durable.testing import DurableTest, TestRun

pytestmark = pytest.mark.anyio

TRIP = Trip(traveller="Ada", hotel="Grand", flight="XY 12", car="Mini", pace=0.0, cooling_off=86_400)


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is booked and charged is written down here."""
    monkeypatch.setenv("TRIP_LEDGER", str(tmp_path / "ledger.db"))


def happened() -> list[str]:
    """What was done in the world, each thing once: a bank that gets the same key again charges once."""
    return list(dict.fromkeys(f"{entry.action} {entry.what}" for entry in ledger.entries()))


async def test_a_trip_is_booked() -> None:
    """A day to think it over takes no time here."""
    async with durable_test(book_trip) as t:
        run = await t.start(TRIP)
        booking = await run.result()
    assert booking.references == ["Grand", "XY 12", "Mini"]
    assert happened() == ["book hotel", "book flight", "book car", "charge card"]
    run.assert_operation_names(
        [
            "reserve_hotel",
            "reserve_flight",
            "rent_car",
            "cooling-off",
            "charge_card",
            "send_tickets",
        ]
    )


async def test_everything_is_undone_if_the_tickets_cannot_be_sent() -> None:
    """The last step fails; what was done before it is undone in reverse."""
    async with durable_test(book_trip) as t:
        t.fail_step("send_tickets", ConnectionError("no mail today"))
        run = await t.start(TRIP)
        assert isinstance(await run.error(), ConnectionError)
    assert happened()[-4:] == ["refund card", "cancel car", "cancel flight", "cancel hotel"]


async def test_a_flight_is_tried_twice() -> None:
    """Airlines are flaky."""
    async with durable_test(book_trip) as t:
        t.fail_step("reserve_flight", TimeoutError("nobody answers"), times=1)
        assert isinstance(await (await t.start(TRIP)).result(), Booking)


async def test_the_card_is_declined_after_a_restart() -> None:
    """The day to think it over is not over when the test begins, and the car's record is the last there is."""
    declined = Trip(traveller="Ada", hotel="Grand", flight="XY 12", car="Mini", pace=0.0, card="declined")
    reserved = {"reference": "made before", "price": 1.0, "trip": declined}
    history = (
        History()
        .step("reserve_hotel", {"part": "hotel", **reserved})
        .step("reserve_flight", {"part": "flight", **reserved})
        .step("rent_car", {"part": "car", **reserved})
    )
    async with durable_test(book_trip) as t:
        run = await t.start(declined, history=history)
        assert isinstance(await run.error(), CardDeclinedError)
    assert happened() == ["decline card", "cancel car", "cancel flight", "cancel hotel"]


async def test_a_crash_anywhere_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after everything that is recorded, and at pairs of places."""
    ledgers = (tmp_path / f"ledger-{number}.db" for number in range(10_000))

    def prepare(t: DurableTest[Trip, Booking]) -> None:
        monkeypatch.setenv("TRIP_LEDGER", str(next(ledgers)))
        t.fail_step("send_tickets", ConnectionError("no mail today"))

    async def check(run: TestRun[Booking]) -> None:
        assert isinstance(await run.error(), ConnectionError)
        assert happened()[-4:] == ["refund card", "cancel car", "cancel flight", "cancel hotel"]
        booked = [entry.key for entry in ledger.entries() if entry.action == "book"]
        assert len(set(booked)) == 3  # however often each was asked for

    report = await crash_everywhere(book_trip, TRIP, prepare=prepare, check=check, pairs=4)
    assert report.singles == 2 * report.calls
