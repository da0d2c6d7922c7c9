"""Durable functions that the tests of AWS run."""

from __future__ import annotations

from durable import DurableContext, durable_execution, saga


class NoSeatError(Exception):
    """Nothing is left."""


class World:
    """What was done outside, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def book(self, what: str) -> str:
        self.done.append(f"book {what}")
        return what

    async def cancel(self, what: str) -> None:
        self.done.append(f"cancel {what}")

    async def fail(self) -> None:
        raise NoSeatError("no seat")


def small_saga(world: World, *, fails: bool):
    """Two steps, a wait, and one more step; it fails at the end if it is to."""

    @durable_execution
    async def flow(event: None, ctx: DurableContext) -> list[str]:
        async with saga(ctx, "trip") as s:
            hotel = await s.step(world.book, "hotel", compensate=world.cancel, name="hotel")
            await ctx.wait(5, name="cooling-off")
            car = await s.step(world.book, "car", compensate=world.cancel, name="car")
            if fails:
                await s.step(world.fail, name="seat")
        return [hotel, car]

    return flow
