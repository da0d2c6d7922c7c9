"""`race`: the first to end wins, and the others are cancelled."""

from __future__ import annotations

from typing import Any

import pytest

from durable import DurableContext, durable_execution, saga
from tests.sweep import World, ending, outcome_with_crashes, shape

pytestmark = pytest.mark.anyio

world = World()


async def slow(ctx: DurableContext) -> str:
    await ctx.wait(50)
    return await ctx.step(world.do, "slow", name="slow")


async def fast(ctx: DurableContext) -> str:
    await ctx.wait(3)
    return await ctx.step(world.do, "fast", name="fast")


async def failing(ctx: DurableContext) -> str:
    await ctx.wait(2)
    return await ctx.step(world.do, "failing", 0, "lost", name="failing")


async def test_the_first_to_end_wins_and_the_others_do_nothing_more():
    """Its number and its result are told; the loser's step never runs."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        winner = await ctx.race(slow, fast)
        await ctx.wait(100)
        return [winner.index, winner.result]

    harness = world.harness(work)
    assert await harness.result() == [1, "fast"]
    assert world.effects == ["fast"]


async def test_the_first_to_end_may_fail():
    """What it raised is raised."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return (await ctx.race(slow, failing, fast)).result

    error = await world.harness(work).error()
    assert repr(error) == "ValueError('lost')"
    assert world.effects == ["failing"]


async def test_a_race_has_a_branch():
    """Nobody could win otherwise."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.race()

    assert "at least one branch" in str(await world.harness(work).error())


async def test_what_a_loser_registered_is_undone_with_the_rest():
    """A saga around the race knows what the loser did before it was cancelled."""

    async def books_then_waits(ctx: DurableContext) -> str:
        await s_step(ctx, "booked")
        await ctx.wait(50)
        return "never"

    async def s_step(ctx: DurableContext, what: str) -> None:
        from durable import current_saga

        await current_saga().step(world.do, what, compensate=world.undo, name=what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await ctx.race(books_then_waits, fast)
            raise RuntimeError("no")

    error = await world.harness(work).error()
    assert str(error) == "no"
    assert world.effects == ["booked", "fast", "undo booked"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_every_call(when):
    """The choice is recorded: whoever won, won for good."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        winner = await ctx.race(slow, fast)
        last = await ctx.step(world.do, "after", name="after")
        return [winner.index, winner.result, last]

    whole = world.harness(work)
    expected, history = ending(await whole.outcome()), shape(whole.operations())
    for number in range(1, 100):
        harness = world.harness(work)
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        if not crashed:
            assert number > 3
            break
        assert ending(output) == expected, number
        found = shape(harness.operations())
        # The loser's timer may have fallen due since: nobody cancels it.
        assert {key for key, one in found.items() if one[0] != "WAIT"} == {
            key for key, one in history.items() if one[0] != "WAIT"
        }, number
        assert "slow" not in world.effects, number
