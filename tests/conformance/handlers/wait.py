"""Suite `wait`."""

from __future__ import annotations

from datetime import timedelta

from durable import DurableContext

from .helpers import requirement


@requirement("2-1")
async def basic(_: None, ctx: DurableContext) -> None:
    await ctx.wait(2)


@requirement("2-2")
async def named(_: None, ctx: DurableContext) -> None:
    await ctx.wait(2, name="custom_wait_name")


@requirement("2-3")
async def sequential(_: None, ctx: DurableContext) -> dict[str, int]:
    await ctx.wait(2, name="wait-1")
    await ctx.wait(2, name="wait-2")
    return {"completedWaits": 2}


@requirement("2-4")
async def minutes(_: None, ctx: DurableContext) -> None:
    await ctx.wait(timedelta(minutes=1))


@requirement("2-5")
async def hours(_: None, ctx: DurableContext) -> None:
    await ctx.wait(timedelta(hours=1))
