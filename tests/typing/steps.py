"""Checked by mypy and pyright, never run: what a user's editor knows of the types."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import assert_type

from durable import (
    DurableContext,
    DurableFunction,
    Retry,
    StepOutcome,
    current_saga,
    durable_execution,
    saga,
)


async def reserve(city: str, nights: int) -> list[str]:
    return [city] * nights


def plain(nights: int) -> float:
    return nights * 80.0


async def cancel(names: list[str]) -> None: ...
async def cancel_in_doubt(outcome: StepOutcome[list[str]]) -> None: ...
def refund(amount: float) -> None: ...


async def subflow(ctx: DurableContext, city: str) -> int:
    return len(await ctx.step(reserve, city, 1))


@durable_execution
async def trip(city: str, ctx: DurableContext) -> int:
    assert_type(await ctx.step(reserve, city, 2), list[str])
    assert_type(await ctx.step(plain, 2), float)
    assert_type(await ctx.step(functools.partial(reserve, nights=2), city, retry=Retry(), timeout=3), list[str])
    assert_type(await ctx.wait(timedelta(hours=1), name="cooling-off"), None)
    assert_type(await ctx.child(subflow, city, name="sub"), int)
    async with saga(ctx, "trip") as s:
        assert_type(await s.step(reserve, city, 2, compensate=cancel), list[str])
        assert_type(await s.step(plain, 2, compensate=refund), float)
        assert_type(await s.step(reserve, city, 2, compensate=cancel_in_doubt, compensate_on="start"), list[str])
        assert_type(await current_saga().step(plain, 1), float)
        s.compensate(refund, 1.0, name="by hand")

        await s.step(reserve, city, 2, compensate=refund)  # type: ignore[call-arg, misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
        await s.step(reserve, city, compensate=cancel)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await ctx.step(reserve, 3, 2)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ctx.step(reserve, city, 2)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    await ctx.child(subflow)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return 1


assert_type(trip, DurableFunction[str, int])
assert_type(trip.encode_input("x"), str)
assert_type(trip.decode_result("1"), int)


@durable_execution(name="other")
async def other(nights: int, ctx: DurableContext) -> None: ...


assert_type(other, DurableFunction[int, None])
