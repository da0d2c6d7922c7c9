"""A trip on AWS Lambda: hotel, flight, payment. What was booked is cancelled if a later part cannot be had.

The durable function is the Lambda handler. README.md in this directory says how to deploy and invoke it.
"""

from __future__ import annotations

import msgspec

from durable import DurableContext, Retry, current_step, durable_execution, saga


class Trip(msgspec.Struct, frozen=True):
    """What a customer wants; `card` is what is charged, and the one called `declined` is."""

    traveller: str
    hotel: str
    flight: str
    card: str


class Booking(msgspec.Struct, frozen=True):
    """What was booked."""

    hotel: str
    flight: str
    payment: str


class CardDeclinedError(Exception):
    """The bank says no."""


async def reserve_hotel(trip: Trip) -> str:
    """Book the hotel. The key is the same on every attempt: what books it can tell a repeat by it."""
    return f"hotel {trip.hotel} {current_step().idempotency_key[:8]}"


async def reserve_flight(trip: Trip) -> str:
    """Book the flight."""
    return f"flight {trip.flight} {current_step().idempotency_key[:8]}"


async def cancel(reference: str) -> None:
    """Cancel what was booked."""
    print("cancelled:", reference)


async def charge(trip: Trip) -> str:
    """Charge the card."""
    if trip.card == "declined":
        raise CardDeclinedError(trip.card)
    return f"payment {current_step().idempotency_key[:8]}"


@durable_execution
async def book_trip(trip: Trip, ctx: DurableContext) -> Booking:
    """Book everything, or nothing."""
    # Shorter than the template's ExecutionTimeout: that one ends an execution without calling it again.
    async with saga(ctx, "trip", deadline=23 * 3600) as s:
        hotel = await s.step(reserve_hotel, trip, compensate=cancel, retry=Retry(attempts=3))
        flight = await s.step(reserve_flight, trip, compensate=cancel, retry=Retry(attempts=3))
        await ctx.wait(60, name="cooling-off")
        payment = await s.step(charge, trip)
    return Booking(hotel, flight, payment)
