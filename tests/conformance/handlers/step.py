"""Suite `step`."""

from __future__ import annotations

from typing import Any

from durable import DurableContext, Retry, current_step

from .helpers import (
    SOON,
    PermanentError,
    TransientError,
    always_fail,
    echo,
    greet,
    requirement,
)
from .serdes import Uppercase


@requirement("1-1")
async def basic(event: str, ctx: DurableContext) -> str:
    return await ctx.step(greet, event)


@requirement("1-2")
async def named(event: str, ctx: DurableContext) -> str:
    return await ctx.step(greet, event, name="custom_step_name")


@requirement("1-3")
async def sequential(_: None, ctx: DurableContext) -> str:
    first = await ctx.step(echo, "first")
    return await ctx.step(and_second, first)


async def and_second(first: str) -> str:
    return f"{first}_second"


@requirement("1-4")
async def complex_object(event: dict[str, Any], ctx: DurableContext) -> dict[str, Any]:
    return await ctx.step(build_response, event)


async def build_response(event: dict[str, Any]) -> dict[str, Any]:
    return {"user": {"name": event["name"], "tags": event["tags"]}, "count": len(event["tags"])}


@requirement("1-5")
async def null_result(_: None, ctx: DurableContext) -> None:
    return await ctx.step(do_nothing)


async def do_nothing() -> None:
    return None


@requirement("1-6")
async def custom_serde(event: str, ctx: DurableContext) -> str:
    return await ctx.step(echo, event, serde=Uppercase())


@requirement("1-7")
async def logging_step(event: str, ctx: DurableContext) -> str:
    async def greet_aloud(name: str) -> str:
        ctx.logger.info("Greeting step started for: %s", name)
        greeting = f"Hello, {name}!"
        ctx.logger.info("Greeting step completed with: %s", greeting)
        return greeting

    return await ctx.step(greet_aloud, event)


@requirement("1-8")
async def step_and_wait(_: None, ctx: DurableContext) -> str:
    result = await ctx.step(echo, "computed")
    await ctx.wait(2)
    return result


@requirement("1-9")
async def replay_of_success(_: None, ctx: DurableContext) -> str:
    async def compute() -> str:
        ctx.logger.info("step executed")
        return "cached_value"

    result = await ctx.step(compute)
    await ctx.wait(1)
    return result


@requirement("1-10")
async def replay_of_failure(_: None, ctx: DurableContext) -> str:
    async def fail() -> None:
        ctx.logger.info("step executed")
        raise PermanentError("it failed")

    try:
        await ctx.step(fail)
    except PermanentError as error:
        caught = str(error)
    await ctx.wait(1)
    return caught


# --- Retries -------------------------------------------------------------------------------------------------


async def succeed_the_second_time() -> str:
    if current_step().attempt == 1:
        raise TransientError("not yet")
    return "Operation succeeded"


async def succeed_the_third_time() -> str:
    if current_step().attempt <= 2:
        raise TransientError("not yet")
    return "Operation succeeded"


@requirement("1-11")
async def retried(_: None, ctx: DurableContext) -> str:
    return await ctx.step(succeed_the_second_time, retry=SOON)


@requirement("1-12")
async def retries_exhausted(_: None, ctx: DurableContext) -> None:
    await ctx.step(always_fail, retry=Retry(attempts=4, initial_delay=1, backoff_rate=1, jitter="none"))


@requirement("1-13", note="no step is retried unless it is asked for: `retry=Retry()` has the default numbers")
async def default_retry(_: None, ctx: DurableContext) -> str:
    return await ctx.step(succeed_the_third_time, retry=Retry())


@requirement("1-14")
async def custom_retry(_: None, ctx: DurableContext) -> str:
    retry = Retry(attempts=5, initial_delay=2, backoff_rate=3, jitter="none")
    return await ctx.step(succeed_the_third_time, retry=retry)


@requirement("1-15")
async def retry_of_one_kind(_: None, ctx: DurableContext) -> str:
    retry = Retry(attempts=3, initial_delay=1, jitter="none", retry_if=TransientError)
    return await ctx.step(succeed_the_second_time, retry=retry)


@requirement("1-16")
async def no_retry_of_one_kind(_: None, ctx: DurableContext) -> str:
    retry = Retry(attempts=3, initial_delay=1, retry_if=lambda error: not isinstance(error, TransientError))
    return await ctx.step(succeed_the_second_time, retry=retry)


# --- Failures ------------------------------------------------------------------------------------------------


@requirement("1-19")
async def failing(_: None, ctx: DurableContext) -> None:
    await ctx.step(always_fail)


@requirement("1-20")
async def failure_handled(_: None, ctx: DurableContext) -> str:
    try:
        await ctx.step(always_fail)
    except PermanentError:
        fallback = "fallback_result"
    return await ctx.step(echo, fallback)
