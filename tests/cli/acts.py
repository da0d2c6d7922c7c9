"""Durable functions that wait for somebody outside, for the tests of those who act on them."""

from __future__ import annotations

import os

import anyio

from durable import CallbackFailedError, DurableContext, durable_execution, saga
from durable._operations.fanout import Nesting


async def book(what: str) -> str:
    return what


async def unbook(what: str) -> None:
    pass


async def unbook_when_open(what: str) -> None:
    """Fail, unless ACTS_OPEN is set."""
    if not os.environ.get("ACTS_OPEN"):
        raise RuntimeError(f"the office is closed: {what}")


@durable_execution
async def asks(event: None, ctx: DurableContext) -> int:
    callback = await ctx.create_callback(int, name="number", heartbeat_timeout=24 * 3600)
    try:
        return await callback.result()
    except CallbackFailedError as error:
        return -len(f"{error.error_type} {error.message} {error.data}")


@durable_execution
async def asks_for_text(event: None, ctx: DurableContext) -> str:
    text = await (await ctx.create_callback()).result()
    return f"it is {text}"


async def _submit(callback_id: str) -> None:
    pass


@durable_execution
async def asks_inside(event: None, ctx: DurableContext) -> int:
    return await ctx.wait_for_callback(_submit, int, name="approval")


@durable_execution
async def parks(event: None, ctx: DurableContext) -> None:
    """Two of three steps cannot be undone by themselves."""
    async with saga(ctx, "trip", on_error="park") as s:
        await s.step(book, "a", compensate=unbook_when_open, name="hotel")
        await s.step(book, "b", compensate=unbook, name="car")
        await s.step(book, "c", compensate=unbook_when_open, name="flight")
        raise ValueError("too bad")


@durable_execution
async def parks_twice(event: None, ctx: DurableContext) -> list[str]:
    """Side by side, under the same name."""

    async def travel(child: DurableContext, who: str) -> None:
        async with saga(child, f"trip of {who}", on_error="park") as s:
            await s.step(book, who, compensate=unbook_when_open, name="hotel")
            raise ValueError("too bad")

    async def left(child: DurableContext) -> None:
        await travel(child, "Ada")

    async def right(child: DurableContext) -> None:
        await travel(child, "Mary")

    batch = await ctx.parallel([left, right])
    return [str(one.error) for one in batch.items]


@durable_execution
async def cancellable(event: None, ctx: DurableContext) -> int:
    """One saga in another."""
    async with saga(ctx, "outer", cancellable=True) as s:
        await s.step(book, "a", compensate=unbook, name="hotel")
        async with saga(ctx, "inner", cancellable=True) as t:
            await t.step(book, "b", compensate=unbook, name="car")
            return await (await ctx.create_callback(int, name="number")).result()


@durable_execution
async def cancellable_side_by_side(nesting: Nesting, ctx: DurableContext) -> list[str]:
    async def travel(child: DurableContext, who: str) -> int:
        async with saga(child, who, cancellable=True) as s:
            await s.step(book, who, compensate=unbook, name=f"hotel of {who}")
            return await (await child.create_callback(int, name=f"number of {who}")).result()

    batch = await ctx.map(travel, ["Ada", "Mary"], nesting=nesting)
    return [str(one.error or one.result) for one in batch.items]


@durable_execution
async def cancellable_once(event: None, ctx: DurableContext) -> int:
    """A saga that is over, and one without a name."""
    async with saga(ctx, "first", cancellable=True) as s:
        await s.step(book, "a", compensate=unbook, name="hotel")
    async with saga(ctx, cancellable=True) as s:
        await s.step(book, "b", compensate=unbook, name="car")
        return await (await ctx.create_callback(int, name="number")).result()


@durable_execution
async def stuck_in_a_step(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "trip", cancellable=True) as s:
        await s.step(book, "a", compensate=unbook, name="hotel")
        await ctx.step(_hang)


@durable_execution
async def hangs(event: None, ctx: DurableContext) -> None:
    await ctx.step(_hang)


async def _hang() -> None:
    await anyio.sleep_forever()
