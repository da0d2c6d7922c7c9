"""`move_on_after` and `fail_after`: durable time limits, which end on replay as they ended first."""

from __future__ import annotations

from typing import Any

import pytest

from durable import DurableContext, InvalidDurationError, TimeLimitError, durable_execution
from durable._wire import InvocationStatus
from tests.sweep import World, ending, outcome_with_crashes

pytestmark = pytest.mark.anyio

world = World()


async def test_a_block_that_is_in_time_is_not_touched():
    """It costs a timer and the record of how it ended."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        async with ctx.move_on_after(60) as limit:
            await ctx.step(world.do, "a", 5.0, name="a")
            await ctx.wait(10)
        await ctx.wait(100)
        return [limit.expired, await ctx.step(world.do, "b", name="b")]

    harness = world.harness(work)
    assert await harness.result() == [False, "b"]
    assert world.effects == ["a", "b"]
    assert [f"{one.type} {one.name}" for one in harness.operations()] == [
        "WAIT move_on_after",
        "STEP a",
        "WAIT None",
        "STEP move_on_after outcome",
        "WAIT None",
        "STEP b",
    ]


@pytest.mark.parametrize("parked", [True, False], ids=["parked", "running"])
async def test_a_block_that_is_not_in_time_is_cancelled(parked: bool):
    """Whether it waits, or works; the code goes on after it, at its own positions."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        async with ctx.move_on_after(60) as limit:
            await ctx.step(world.do, "a", name="a")
            if parked:
                await ctx.wait(100)
            else:
                await ctx.step(world.do, "late", 100.0, name="late")
            await ctx.step(world.do, "never", name="never")
        return [limit.expired, await ctx.step(world.do, "b", name="b")]

    harness = world.harness(work)
    assert await harness.result() == [True, "b"]
    assert world.effects == ["a", "b"]
    assert world.seconds == 60


async def test_fail_after_raises_a_timeout():
    """A `TimeoutError` that says which limit, and how long."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.fail_after(5, name="patience"):
                await ctx.wait(50)
        except TimeoutError as error:
            assert isinstance(error, TimeLimitError)
            return str(error)
        return ""

    assert await world.harness(work).result() == "patience took longer than its time limit of 5 s"


async def test_a_limit_that_passes_during_a_downtime():
    """Nobody ran when it fell due, nor when what the block waited for did: the limit counts."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(60) as limit:
            await ctx.wait(70)
        return limit.expired

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    await harness.clock.sleep_until(harness.clock.now() + 3_600_000)
    assert await harness.result() is True


async def test_the_inner_of_two_limits_comes_first():
    """The outer one goes on, and is asked for its own outcome."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[bool]:
        async with ctx.move_on_after(60) as outer:
            async with ctx.move_on_after(5) as inner:
                await ctx.wait(50)
            await ctx.step(world.do, "between", name="between")
        return [outer.expired, inner.expired]

    assert await world.harness(work).result() == [False, True]
    assert world.effects == ["between"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("seconds", [10, 100], ids=["in time", "expired"])
async def test_a_crash_at_every_call(seconds: int, when):
    """How it ended is recorded before anything follows from it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        async with ctx.move_on_after(60) as limit:
            await ctx.step(world.do, "a", name="a")
            await ctx.wait(seconds)
            await ctx.step(world.do, "in time", name="in time")
        await ctx.wait(500)
        return [limit.expired, await ctx.step(world.do, "b", name="b")]

    expected = ending(await world.harness(work).outcome())
    effects = list(world.effects)
    for number in range(1, 100):
        harness = world.harness(work)
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        if not crashed:
            assert number > 3
            break
        assert ending(output) == expected, number
        assert list(dict.fromkeys(world.effects)) == effects, number
        assert len(world.effects) <= len(effects) + 1, number


@pytest.mark.parametrize("duration", [0, 0.5, -1, 367 * 24 * 3600])
async def test_a_duration_that_no_timer_takes_is_refused(duration: float):
    """As for a wait."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.move_on_after(duration)

    assert isinstance(await world.harness(work).error(), InvalidDurationError)


async def test_a_limit_is_entered_once():
    """It stands for one timer."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        limit = ctx.move_on_after(5)
        async with limit:
            pass
        async with limit:
            pass

    assert "entered once" in str(await world.harness(work).error())
