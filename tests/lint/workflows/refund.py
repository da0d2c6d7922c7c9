"""A refund: small ones at once, large ones after somebody has looked; nobody need look for ever."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from uuid import UUID, uuid4

import anyio
import anyio.lowlevel
import msgspec

from durable import CallbackError, DurableContext, durable_execution, saga


class Reason(Enum):
    BROKEN = "broken"
    LATE = "late"


class Refund(msgspec.Struct, frozen=True):
    order: str
    amount: float
    reason: Reason = Reason.LATE


class Booking(msgspec.Struct, frozen=True):
    id: UUID
    amount: float


class Desk:
    """Where people look at requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def put(self, callback_id: str) -> None:
        await anyio.lowlevel.checkpoint()
        self.requests.append(callback_id)


desk = Desk()


async def book(refund: Refund) -> Booking:
    return Booking(uuid4(), refund.amount)


async def unbook(booking: Booking) -> None:
    print("unbooked", booking.id)


async def pay_out(booking: Booking) -> str:
    return f"{booking.amount:.2f} paid out"


async def decision(ctx: DurableContext, refund: Refund) -> bool:
    callback = await ctx.create_callback(bool, name="decision", timeout=timedelta(days=10))
    await ctx.step(desk.put, callback.id, name="put on the desk")
    try:
        return await callback.result()
    except CallbackError:
        return refund.reason is Reason.BROKEN


@durable_execution
async def give_back(refund: Refund, ctx: DurableContext) -> str:
    reference = ctx.uuid4()
    if refund.amount > 100 and not await decision(ctx, refund):
        return "refused"
    async with ctx.move_on_after(timedelta(hours=2)) as limit, saga(ctx, "refund") as s:
        booking = await s.step(book, refund, compensate=unbook)
        await ctx.wait(60, name="settle")
        paid = await s.step(pay_out, booking)
    if limit.expired:
        return "too late"
    return f"{paid}, reference of {len(str(reference))} characters"
