"""Suite `child`."""

from __future__ import annotations

import msgspec

from durable import DurableContext, current_step
from durable.serde import JsonSerde

from .helpers import LOGGER, SOON, PermanentError, TransientError, always_fail, echo, requirement
from .serdes import BareUppercase


async def with_a_step(ctx: DurableContext, value: str) -> str:
    return await ctx.step(echo, value)


async def with_a_failing_step(ctx: DurableContext) -> None:
    await ctx.step(always_fail)


@requirement("3-1")
async def basic(event: str, ctx: DurableContext) -> str:
    return await ctx.child(with_a_step, event)


class Named(msgspec.Struct):
    """A name for the child, and a value."""

    name: str
    value: str


@requirement("3-2")
async def named(event: Named, ctx: DurableContext) -> str:
    return await ctx.child(with_a_step, event.value, name=event.name)


@requirement("3-3")
async def sequential_steps(event: str, ctx: DurableContext) -> str:
    async def two_steps(child: DurableContext, value: str) -> str:
        first = await child.step(echo, value)
        return await child.step(echo, first)

    return await ctx.child(two_steps, event)


@requirement("3-4")
async def failing(_: None, ctx: DurableContext) -> None:
    await ctx.child(with_a_failing_step)


@requirement("3-5")
async def failure_handled(event: str, ctx: DurableContext) -> str:
    try:
        await ctx.child(with_a_failing_step)
    except PermanentError:
        return await ctx.step(echo, event)
    return "it did not fail"


@requirement("3-6")
async def nested(event: str, ctx: DurableContext) -> str:
    async def outer(child: DurableContext, value: str) -> str:
        return await child.child(with_a_step, await child.step(echo, value), name="inner")

    return await ctx.child(outer, event)


# --- Retries -------------------------------------------------------------------------------------------------


@requirement("3-7")
async def retried(event: str, ctx: DurableContext) -> str:
    async def second_time(value: str) -> str:
        if current_step().attempt == 1:
            raise TransientError("not yet")
        return value

    async def body(child: DurableContext, value: str) -> str:
        return await child.step(second_time, value, retry=SOON)

    return await ctx.child(body, event)


@requirement("3-8")
async def retries_exhausted(_: None, ctx: DurableContext) -> None:
    async def body(child: DurableContext) -> None:
        await child.step(always_fail, retry=SOON)

    await ctx.child(body)


# --- Replay --------------------------------------------------------------------------------------------------


async def with_a_step_and_a_wait(ctx: DurableContext, value: str) -> str:
    result = await ctx.step(echo, value)
    await ctx.wait(1)
    return result


@requirement("3-9")
async def replayed(event: str, ctx: DurableContext) -> str:
    result = await ctx.child(with_a_step, event)
    await ctx.wait(1)
    return result


@requirement("3-10")
async def step_and_wait(event: str, ctx: DurableContext) -> str:
    return await ctx.child(with_a_step_and_a_wait, event)


@requirement(
    "3-11",
    note="`ctx.logger` is silent on every replay, there is no switch: the child logs by a logger of its own",
)
async def large(event: str, ctx: DurableContext) -> int:
    async def body(child: DurableContext, value: str) -> str:
        LOGGER.info("the child runs with %s", value, extra={"execution_arn": child.execution_arn})
        return await child.step(echo, value) * 40_000

    result = await ctx.child(body, event)
    await ctx.wait(1)
    return len(result)


@requirement("3-13")
async def wait_inside(event: str, ctx: DurableContext) -> str:
    async def body(child: DurableContext, value: str) -> str:
        await child.wait(1)
        return value

    return await ctx.step(echo, await ctx.child(body, event))


@requirement("3-17")
async def logging_child(event: str, ctx: DurableContext) -> str:
    async def body(child: DurableContext, value: str) -> str:
        child.logger.info("the child got %s", value)
        return value

    result = await ctx.child(body, event)
    await ctx.wait(1)
    return result


@requirement("3-18")
async def inside_and_after(event: str, ctx: DurableContext) -> str:
    result = await ctx.step(echo, await ctx.child(with_a_step_and_a_wait, event))
    await ctx.wait(1)
    return result


# --- Values --------------------------------------------------------------------------------------------------


@requirement(
    "3-14",
    serde=BareUppercase(),
    note="a child has no serde of its own: the function's, with JSON for the step",
)
async def custom_serde(event: str, ctx: DurableContext) -> str:
    async def body(child: DurableContext, value: str) -> str:
        return await child.step(echo, value, serde=JsonSerde())

    return await ctx.child(body, event)


@requirement("3-15")
async def failing_without_a_step(_: None, ctx: DurableContext) -> None:
    async def body(_: DurableContext) -> None:
        raise PermanentError("no operation was called")

    await ctx.child(body)


@requirement("3-16")
async def null_result(_: None, ctx: DurableContext) -> None:
    async def body(_: DurableContext) -> None:
        return None

    await ctx.child(body)
