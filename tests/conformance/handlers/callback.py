"""Suite `callback`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from durable import CallbackFailedError, CallbackTimeoutError, DurableContext

from .helpers import echo, requirement


@requirement("4-1")
async def basic(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    return await callback.result()


@requirement("4-2")
async def named(_: None, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name="approval")
    return await callback.result()


@requirement("4-3")
async def timing_out(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, timeout=5)
    return await callback.result()


@requirement("4-4")
async def without_heartbeat(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, heartbeat_timeout=5)
    return await callback.result()


@requirement("4-5")
async def with_heartbeat(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, heartbeat_timeout=10)
    return await callback.result()


@requirement("4-6")
async def failing(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    return await callback.result()


# --- Other operations in between -----------------------------------------------------------------------------


@requirement("4-7")
async def step_then_failure(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    await ctx.step(echo, "in between")
    return await callback.result()


@requirement("4-8")
async def step_then_timeout(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, timeout=5)
    await ctx.step(echo, "in between")
    return await callback.result()


@requirement("4-9")
async def completed_during_wait(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    await ctx.wait(5)
    return await callback.result()


@requirement("4-10")
async def failed_during_wait(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    await ctx.wait(5)
    return await callback.result()


@requirement("4-11")
async def timed_out_during_wait(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, timeout=3)
    await ctx.wait(6)
    return await callback.result()


@requirement("4-12")
async def then_wait(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    result = await callback.result()
    await ctx.wait(2)
    return result


@requirement("4-13")
async def failure_handled(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event)
    try:
        message = await callback.result()
    except CallbackFailedError as error:
        message = f"handled: {error.message}"
    await ctx.wait(2)
    return message


@requirement("4-14")
async def timeout_handled(event: str, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name=event, timeout=3)
    try:
        message = await callback.result()
    except CallbackTimeoutError as error:
        message = f"handled: {error}"
    await ctx.wait(2)
    return message


# --- Values --------------------------------------------------------------------------------------------------


class Message(msgspec.Struct):
    """What is sent."""

    id: str
    message: str
    timestamp: datetime


@requirement("4-15", note="a callback is decoded by its type, not by a serde")
async def typed(event: str, ctx: DurableContext) -> dict[str, Any]:
    callback = await ctx.create_callback(Message, name=event)
    received = await callback.result()
    return {"received": {**msgspec.structs.asdict(received), "timestamp": int(received.timestamp.timestamp())}}


@requirement("4-16", note="a callback is decoded by its type, not by a serde")
async def number(event: str, ctx: DurableContext) -> dict[str, int]:
    callback = await ctx.create_callback(int, name=event)
    count = await callback.result()
    return {"count": count, "doubled": 2 * count}


# --- Two callbacks -------------------------------------------------------------------------------------------


@requirement("4-17")
async def one_after_another(event: list[str], ctx: DurableContext) -> list[str]:
    results: list[str] = []
    for name in event:
        callback = await ctx.create_callback(str, name=name)
        results.append(await callback.result())
    return results


@requirement("4-18")
async def both_at_once(event: list[str], ctx: DurableContext) -> list[str]:
    first = await ctx.create_callback(str, name=event[0])
    second = await ctx.create_callback(str, name=event[1])
    return [await first.result(), await second.result()]


@requirement("4-19")
async def both_at_once_the_second_first(event: list[str], ctx: DurableContext) -> list[str]:
    first = await ctx.create_callback(str, name=event[0])
    second = await ctx.create_callback(str, name=event[1])
    result = await second.result()
    return [await first.result(), result]
