"""What the tests serve."""

from __future__ import annotations

from typing import Any

import msgspec

from durable import DurableContext, durable_execution


class Order(msgspec.Struct):
    article: str
    amount: int = 1


@durable_execution
async def order(event: Order, ctx: DurableContext) -> str:
    async def pack(article: str) -> str:
        return f"{event.amount} x {article}"

    return await ctx.step(pack, event.article, name="pack")


@durable_execution
async def steps(event: int, ctx: DurableContext) -> int:
    async def number(value: int) -> int:
        return value

    return sum([await ctx.step(number, value, name=f"s-{value}") for value in range(event)])


@durable_execution
async def refuse(event: Any, ctx: DurableContext) -> None:
    raise ValueError(f"not {event}")


@durable_execution
async def approve(event: Any, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name="approval")
    return await callback.result()


@durable_execution
async def sleep(event: Any, ctx: DurableContext) -> str:
    await ctx.wait(3600, name="an hour")
    return "awake"


def double(event: int) -> int:
    return 2 * event


def fail(event: Any) -> None:
    raise LookupError(f"no {event}")


DURABLE = (order, steps, refuse, approve, sleep)
