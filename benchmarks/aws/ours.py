"""The workloads for this library."""

from __future__ import annotations

from durable import DurableContext, durable_execution, saga


async def book(number: int) -> int:
    """The smallest step there is."""
    return number


async def cancel(number: int) -> None:
    """Its compensation."""


class SoldOutError(Exception):
    """What the saga fails with."""


@durable_execution
async def steps(count: int, ctx: DurableContext) -> int:
    """So many steps, one after another."""
    total = 0
    for number in range(count):
        total += await ctx.step(book, number)
    return total


@durable_execution
async def batch(count: int, ctx: DurableContext) -> int:
    """The same, in a batch."""
    total = 0
    async with ctx.batch():
        for number in range(count):
            total += await ctx.step(book, number)
    return total


async def item(ctx: DurableContext, number: int) -> int:
    """One step for each item."""
    return await ctx.step(book, number)


@durable_execution
async def map_items(count: int, ctx: DurableContext) -> int:
    """A fan-out."""
    return len(await ctx.map(item, range(count)))


@durable_execution
async def rolled_back(count: int, ctx: DurableContext) -> int:
    """So many steps, and all of them undone."""
    try:
        async with saga(ctx) as s:
            for number in range(count):
                await s.step(book, number, compensate=cancel)
            raise SoldOutError  # noqa: TRY301 - what went wrong
    except SoldOutError:
        return count


HANDLERS = {"steps": steps, "batch": batch, "map": map_items, "saga": rolled_back}
