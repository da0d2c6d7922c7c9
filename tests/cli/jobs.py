"""Durable functions that the tests of the command line run. What they do is steered by environment variables."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import date

import anyio

from durable import DurableContext, Retry, durable_execution, saga

not_durable = 42


async def add(left: int, right: int) -> int:
    return left + right


async def fail(text: str) -> int:
    raise ValueError(text)


async def block_if_told() -> str:
    """Hang, as long as JOBS_BLOCK is set."""
    if os.environ.get("JOBS_BLOCK"):
        await anyio.sleep_forever()
    return "went on"


async def undo(value: int) -> None:
    pass


async def cannot_undo(value: int) -> None:
    raise RuntimeError(f"{value} cannot be undone")


def sleep_in_a_thread() -> None:
    time.sleep(60)


@durable_execution
async def double(number: int, ctx: DurableContext) -> int:
    return await ctx.step(add, number, number)


@durable_execution
async def nothing(event: None, ctx: DurableContext) -> None:
    pass


@durable_execution
async def birthday(born: date, ctx: DurableContext) -> date:
    return born.replace(year=2030)


@durable_execution
async def doomed(text: str, ctx: DurableContext) -> int:
    async with saga(ctx, "order") as s:
        await s.step(add, 1, 1, compensate=undo, name="first")
        await s.step(add, 2, 2, compensate=cannot_undo, name="second")
        await s.step(add, 3, 3, compensate=undo, name="third")
        return await s.step(fail, text)


@durable_execution
async def stops(text: str, ctx: DurableContext) -> int:
    async with saga(ctx, "order", on_error="stop") as s:
        await s.step(add, 1, 1, compensate=undo, name="first")
        await s.step(add, 2, 2, compensate=cannot_undo, name="second")
        return await s.step(fail, text)


@durable_execution
async def blocks(event: None, ctx: DurableContext) -> str:
    await ctx.step(add, 1, 2, name="before")
    said = await ctx.step(block_if_told, name="the long one")
    await ctx.step(add, 3, 4, name="after")
    return said


@durable_execution
async def waits(seconds: int, ctx: DurableContext) -> str:
    await ctx.wait(seconds, name="patience")
    return "waited"


@durable_execution
async def thread(event: None, ctx: DurableContext) -> None:
    await ctx.step(sleep_in_a_thread)


@durable_execution
async def changed(event: None, ctx: DurableContext) -> None:
    """Code that is another one when JOBS_CHANGED is set."""
    await ctx.step(add, 1, 1, name="new" if os.environ.get("JOBS_CHANGED") else "old")
    await ctx.step(block_if_told)


@durable_execution
async def talks(event: None, ctx: DurableContext) -> None:
    print("printed by the function")  # noqa: T201 - as users do
    logging.getLogger("library").info("a library's info")
    logging.getLogger("library").warning("a library's warning")
    ctx.logger.debug("the workflow's debug")
    ctx.logger.info("the workflow's info\n\x1b[31min two lines")


@durable_execution
async def leaves(event: None, ctx: DurableContext) -> None:
    if not os.environ.get("JOBS_STAY"):
        sys.exit(0)


@durable_execution
async def retries(event: None, ctx: DurableContext) -> None:
    await ctx.step(fail, "no luck", retry=Retry(attempts=2, initial_delay=1, jitter="none"))


@durable_execution
async def fails_later(text: str, ctx: DurableContext) -> int:
    await ctx.step(add, 1, 1)
    await ctx.step(block_if_told)
    return await ctx.step(fail, text)


async def undo_if_told(value: int) -> None:
    """Hang at the second one, as long as JOBS_BLOCK is set."""
    if value == 4:
        await block_if_told()


@durable_execution
async def half_undone(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "order") as s:
        await s.step(add, 1, 1, compensate=undo_if_told, name="first")
        await s.step(add, 2, 2, compensate=undo_if_told, name="second")
        await s.step(add, 3, 3, compensate=undo_if_told, name="third")
        raise ValueError("too bad")


@durable_execution
async def asks(event: None, ctx: DurableContext) -> int:
    return await (await ctx.create_callback(int, name="approval")).result()
