"""A trip to book: hotel, flight, car, payment. If one fails, what was booked before is cancelled, in reverse.

    durable run examples/trip.py:book_trip --input @examples/trip.json

See README.md in this directory for how to make it fail, and kill it.
"""

from __future__ import annotations

from typing import Literal

import anyio
import ledger
import msgspec

from durable import DurableContext, Retry, current_step, durable_execution, saga

Part = Literal["hotel", "flight", "car", "payment"]


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer wants.

    Attributes:
        traveller: Who travels.
        hotel: Where to stay.
        flight: Which flight.
        car: Which car.
        nights: How long.
        card: Which card to charge; the one called `declined` is.
        pace: Seconds that each booking takes, so that one can watch it, or kill it.
        cooling_off: Seconds to wait, durably, before the card is charged.
        fail: What cannot be booked, to see what happens then.
        fail_compensation: What cannot be cancelled, to see what happens then.
    """

    traveller: str
    hotel: str
    flight: str
    car: str
    nights: int = 1
    card: str = "visa"
    pace: float = 0.3
    cooling_off: int = 1
    fail: Part | None = None
    fail_compensation: Part | None = None


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was booked, and can be cancelled."""

    part: Part
    reference: str
    price: float
    trip: Trip


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """The whole trip."""

    traveller: str
    references: list[str]
    total: float


class NotAvailableError(Exception):
    """Nothing is left."""

    def __init__(self, part: str, reference: str) -> None:
        super().__init__(f"no {part} is left: {reference}")
        self.part = part


class CardDeclinedError(Exception):
    """The bank says no."""

    def __init__(self, card: str, amount: float) -> None:
        super().__init__(f"card {card!r} was declined for {amount:.2f}")
        self.amount = amount


class CannotCancelError(Exception):
    """Nobody picks up the telephone."""

    def __init__(self, part: str) -> None:
        super().__init__(f"the {part} cannot be cancelled")
        self.part = part


async def reserve_hotel(trip: Trip) -> Reservation:
    """Book the hotel."""
    return await _book("hotel", trip.hotel, 80.0 * trip.nights, trip)


async def reserve_flight(trip: Trip) -> Reservation:
    """Book the flight. Airlines are flaky: this one is worth another attempt or two."""
    return await _book("flight", trip.flight, 240.0, trip)


async def rent_car(trip: Trip) -> Reservation:
    """Rent the car."""
    return await _book("car", trip.car, 35.0 * trip.nights, trip)


async def cancel(reservation: Reservation) -> None:
    """Cancel what was booked."""
    await anyio.sleep(reservation.trip.pace)
    if reservation.part == reservation.trip.fail_compensation:
        raise CannotCancelError(reservation.part)
    await anyio.to_thread.run_sync(_note, "cancel", reservation.part, reservation.reference)


def charge_card(trip: Trip, amount: float) -> Reservation:
    """Charge the card: a plain function, as many payment libraries have it. It is run in a worker thread."""
    if trip.card == "declined" or trip.fail == "payment":
        _note("decline", "card", trip.card)
        raise CardDeclinedError(trip.card, amount)
    # The bank gets the step's idempotency key: should this run twice after a crash, it charges once.
    _note("charge", "card", f"{trip.card} {amount:.2f}")
    return Reservation(part="payment", reference=trip.card, price=amount, trip=trip)


def refund(payment: Reservation) -> None:
    """Give the money back."""
    if payment.trip.fail_compensation == "payment":
        raise CannotCancelError("payment")
    _note("refund", "card", f"{payment.reference} {payment.price:.2f}")


async def send_tickets(booking: Booking) -> str:
    """Tell the traveller."""
    return f"tickets for {booking.traveller}: {', '.join(booking.references)}"


@durable_execution
async def book_trip(trip: Trip, ctx: DurableContext) -> Booking:
    """Book everything, or nothing."""
    async with saga(ctx, "trip") as s:
        hotel = await s.step(reserve_hotel, trip, compensate=cancel)
        flight = await s.step(
            reserve_flight, trip, compensate=cancel, retry=Retry(attempts=2, initial_delay=1, jitter="none")
        )
        car = await s.step(rent_car, trip, compensate=cancel)
        if trip.cooling_off:
            await ctx.wait(trip.cooling_off, name="cooling-off")
        booked = [hotel, flight, car]
        total = sum(reservation.price for reservation in booked)
        await s.step(charge_card, trip, total, compensate=refund)
        booking = Booking(
            traveller=trip.traveller, references=[reservation.reference for reservation in booked], total=total
        )
        await s.step(send_tickets, booking)
    return booking


async def _book(part: Part, reference: str, price: float, trip: Trip) -> Reservation:
    await anyio.sleep(trip.pace)
    if trip.fail == part:
        raise NotAvailableError(part, reference)
    await anyio.to_thread.run_sync(_note, "book", part, reference)
    return Reservation(part=part, reference=reference, price=price, trip=trip)


def _note(action: str, what: str, reference: str) -> None:
    info = current_step()
    ledger.add(action, what, reference, key=info.idempotency_key, attempt=info.attempt)
