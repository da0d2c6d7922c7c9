"""A tour for a whole group: a saga for each traveller, side by side, inside a saga for the tour.

    durable run examples/tour.py:book_tour --input @examples/tour.json --name tour

Each traveller's seat and room are booked in a saga of their own. If one of the two is not to be had, that traveller
is undone at once, and stays at home. If too few are left, or the coach is not to be had, everything is undone: the
travellers who were booked already as well, in reverse of their order, although they were booked side by side.
"""

from __future__ import annotations

import ledger
import msgspec

from durable import Completion, DurableContext, current_saga, current_step, durable_execution, saga


class Tour(msgspec.Struct, frozen=True, kw_only=True):
    """A tour.

    Attributes:
        name: What it is called.
        travellers: Who would like to come.
        fewest: With fewer it does not take place.
        no_room: For whom no room is left.
        no_coach: Whether no coach is left.
    """

    name: str
    travellers: list[str]
    fewest: int = 1
    no_room: list[str] = []
    no_coach: bool = False


class FullError(Exception):
    """Nothing is left."""


class TooFewError(Exception):
    """It does not pay."""


async def book_seat(traveller: str) -> str:
    """Book a seat."""
    note("book", "seat", traveller)
    return traveller


async def book_room(traveller: str, tour: Tour) -> str:
    """Book a room."""
    if traveller in tour.no_room:
        raise FullError(f"no room is left for {traveller}")
    note("book", "room", traveller)
    return traveller


async def cancel_seat(traveller: str) -> None:
    """Give the seat back."""
    note("cancel", "seat", traveller)


async def cancel_room(traveller: str) -> None:
    """Give the room back."""
    note("cancel", "room", traveller)


async def rent_coach(tour: Tour) -> str:
    """Rent the coach."""
    if tour.no_coach:
        raise FullError("no coach is left")
    note("rent", "coach", tour.name)
    return tour.name


async def book_traveller(ctx: DurableContext, traveller: str, tour: Tour) -> str:
    """Seat and room, or neither. It need not know that a saga for the whole tour is around it."""
    async with saga(ctx, f"trip of {traveller}"):
        await current_saga().step(book_seat, traveller, compensate=cancel_seat)
        await current_saga().step(book_room, traveller, tour, compensate=cancel_room)
    return traveller


@durable_execution
async def book_tour(tour: Tour, ctx: DurableContext) -> list[str]:
    """All who can come, and the coach; or nobody."""

    async def one(branch: DurableContext, traveller: str) -> str:
        return await book_traveller(branch, traveller, tour)

    async with saga(ctx, "tour") as s:
        booked = await ctx.map(
            one,
            tour.travellers,
            name="travellers",
            item_name=lambda _, traveller: traveller,
            completion=Completion.all(),
        )
        if len(booked.succeeded) < tour.fewest:
            raise TooFewError(f"{len(booked.succeeded)} of at least {tour.fewest} can come")
        await s.step(rent_coach, tour)
    return [item.name for item in booked.succeeded]


def note(action: str, what: str, reference: str) -> None:
    """Enter in the ledger what has happened."""
    info = current_step()
    ledger.add(action, what, reference, key=info.idempotency_key, attempt=info.attempt)
