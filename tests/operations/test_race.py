"""`race`: the first to end wins, and the others are cancelled."""

from __future__ import annotations

import contextlib

import anyio
import anyio.lowlevel
import pytest

from durable import DurableContext, Winner, current_context, current_saga, durable_execution, saga
from durable._wire import InvocationStatus
from tests.harness import crash_points
from tests.sweep import World, ending, one_history, outcome_with_crashes

pytestmark = pytest.mark.anyio

world = World()


async def fast(ctx: DurableContext) -> str:
    await ctx.wait(2)
    return await ctx.step(world.do, "fast", name="do")


async def slow(ctx: DurableContext) -> str:
    await ctx.wait(3)
    return await ctx.step(world.do, "slow", name="do")


async def fails(ctx: DurableContext) -> str:
    await ctx.wait(1)
    raise KeyError("first")


async def forever(ctx: DurableContext) -> str | None:
    return await (await ctx.create_callback()).result()


async def test_the_first_to_end_wins():
    """Its number and its result; the others have no effect any more, now or later."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> Winner[str]:
        winner = await ctx.race(slow, fast)
        await ctx.wait(60)
        return winner

    harness = world.harness(work)
    assert await harness.result() == Winner(index=1, result="fast")
    assert world.effects == ["fast"]
    race = harness.operation("race")
    assert (race.sub_type, race.status) == ("Parallel", "SUCCEEDED")


async def test_whoever_fails_first_has_won_as_well():
    """The race raises what it raised, live and on replay."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.race(slow, fails, name="run")
        except KeyError as error:
            seen.append(error.args)
        await ctx.wait(60)
        return "went on"

    assert await world.harness(work).result() == "went on"
    assert set(seen) == {("first",)}
    assert not world.effects


async def test_a_race_of_one():
    """It wins."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> Winner[str]:
        return await ctx.race(fast)

    assert await world.harness(work).result() == Winner(index=0, result="fast")


async def test_a_race_of_none_is_refused():
    """Nobody could win it. Nothing is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with pytest.raises(ValueError, match="at least one branch"):
            await ctx.race()

    harness = world.harness(work)
    await harness.result()
    assert not harness.operations()


async def test_a_branch_that_waits_for_the_outside_loses_without_a_further_invocation():
    """What it waits for need not come: not even when it waits inside of a task group of its own."""

    async def waits(ctx: DurableContext) -> str:
        async with ctx.task_group() as tg:
            tg.start_soon(forever)
            await forever(ctx)
        return "never"

    async def runs(ctx: DurableContext) -> str:
        return await ctx.step(world.do, "ran", 5.0, name="do")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return (await ctx.race(waits, runs)).result

    harness = world.harness(work)
    output = await harness.invoke()
    assert output.status is InvocationStatus.SUCCEEDED
    assert output.result == '"ran"'


@pytest.mark.parametrize("order", [1, -1])
async def test_a_loser_undoes_what_it_did(order):
    """Before the race is over, durably, and although that takes longer than everything else."""

    async def undo(what: str) -> None:
        await current_context().wait(30)
        await current_context().step(world.undo, what, name="undo")

    async def loses(ctx: DurableContext) -> str:
        async with saga(ctx, "loser") as scope:
            await scope.step(world.do, "booked", name="do", compensate=undo)
            await ctx.wait(10)
            await scope.step(world.do, "paid", name="do")
        return "never"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        winner = await ctx.race(*[loses, fast][::order])
        world.effects.append(f"won by {winner.result}")
        await ctx.wait(1)
        return winner.index

    harness = world.harness(work)
    assert await harness.result() == (1 if order == 1 else 0)
    assert list(dict.fromkeys(world.effects)) == ["booked", "fast", "undo booked", "won by fast"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_every_call(when, monkeypatch):
    """One winner, whatever happens; losers and winner register for a saga outside, and all of it is undone."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    async def undo(what: str) -> None:
        world.effects.append(f"undo {what}")
        await current_context().wait(1)

    async def runner(ctx: DurableContext, seconds: int) -> int:
        await ctx.wait(seconds)
        await current_saga().step(world.do, f"{seconds}", compensate=undo, name="do")
        await ctx.wait(4)
        return seconds

    async def first(ctx: DurableContext) -> int:
        return await runner(ctx, 3)

    async def second(ctx: DurableContext) -> int:
        return await runner(ctx, 1)

    async def third(ctx: DurableContext) -> int:
        return await runner(ctx, 10)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            winner = await ctx.race(first, second, third)
            await ctx.wait(60)
            raise ValueError(winner.index)

    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert ending(output)[1:] == ("ValueError", "1"), number
        undone = [effect for effect in dict.fromkeys(world.effects) if effect.startswith("undo ")]
        assert undone == ["undo 1", "undo 3"], number
        assert set(world.effects) == {"1", "3", "undo 1", "undo 3"}, number
        if not crashed:
            break


def test_thirty_schedules_give_one_history():
    """Whoever is asked first."""

    def make():
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> str:
            winner = await ctx.race(slow, forever, fast)
            with contextlib.suppress(KeyError):
                await ctx.race(slow, fails, fast)
            return winner.result or ""

        return work

    one_history(make, world)


async def test_plain_work_of_a_loser_is_cancelled():
    """As any code is that a cancellation reaches."""
    seen = []

    async def sleeps(ctx: DurableContext) -> str:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cancelled")
        return "never"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async def wins(ctx: DurableContext) -> str:
            return await ctx.step(world.do, "won", 1.0, name="do")

        return (await ctx.race(sleeps, wins)).index

    assert await world.harness(work).result() == 1
    assert seen == ["cancelled"]
