"""`task_group`: anyio's shape, durable."""

from __future__ import annotations

from typing import Any

import pytest

from durable import DurableContext, FrameMisuseError, TaskHandle, durable_execution
from tests.sweep import World, ending, one_history, outcome_with_crashes, shape

pytestmark = pytest.mark.anyio

world = World()


async def book(ctx: DurableContext, what: str, seconds: int = 0, error: str = "") -> str:
    """Wait so long, do it, and fail if that is asked for."""
    if seconds:
        await ctx.wait(seconds)
    return await ctx.step(world.do, what, 0, error, name=what)


async def test_handles_have_the_results_and_the_block_may_work_too():
    """Each task is a child context at the position where it was started."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async with ctx.task_group() as tg:
            hotel = tg.start_soon(book, "hotel", 5)
            flight = tg.start_soon(book, "flight", name="by air")
            car = await ctx.step(world.do, "car", name="car")
        return [hotel.result(), flight.result(), car]

    harness = world.harness(work)
    assert await harness.result() == ["hotel", "flight", "car"]
    contexts = [one.name for one in harness.operations() if one.sub_type == "RunInChildContext"]
    assert contexts == ["book", "by air"]


async def test_a_failure_cancels_the_others_and_comes_out_in_a_group():
    """In the order of the tasks; the block's own error comes last."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        failed = ""
        try:
            async with ctx.task_group() as tg:
                tg.start_soon(book, "slow", 50)
                tg.start_soon(book, "b", 2, "no b")
                tg.start_soon(book, "a", 2, "no a")
        except* ValueError as group:
            failed = ", ".join(map(str, group.exceptions))
        return failed

    harness = world.harness(work)
    assert await harness.result() in {"no b, no a", "no b", "no a"}
    assert "slow" not in world.effects


async def test_the_blocks_own_error_stops_the_tasks():
    """It is in the group as well, as anyio has it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            tg.start_soon(book, "slow", 50)
            await ctx.wait(1)
            raise KeyError("block")

    error = await world.harness(work).error()
    assert isinstance(error, ExceptionGroup)
    assert [repr(one) for one in error.exceptions] == ["KeyError('block')"]
    assert world.effects == []


async def test_tasks_wait_for_each_other():
    """From the block and from a sibling; also over a suspension."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async def second(own: DurableContext, first: TaskHandle[str]) -> str:
            return await first.wait() + await own.step(world.do, "second", name="second")

        async with ctx.task_group() as tg:
            first = tg.start_soon(book, "first", 30)
            both = tg.start_soon(second, first)
            early = await first.wait()
            assert not both.is_done or both.result()
        return [early, both.result()]

    harness = world.harness(work)
    assert await harness.result() == ["first", "firstsecond"]
    assert harness.invocations == 2


async def test_cancel_ends_tasks_and_block_without_an_error():
    """Whoever has no result says so."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        async with ctx.task_group() as tg:
            slow = tg.start_soon(book, "slow", 50)
            quick = tg.start_soon(book, "quick")
            await quick.wait()
            tg.cancel()
            await ctx.step(world.do, "never", name="never")
        with pytest.raises(RuntimeError, match="was cancelled"):
            slow.result()
        return [quick.result(), slow.is_done, await ctx.step(world.do, "after", name="after")]

    assert await world.harness(work).result() == ["quick", False, "after"]
    assert world.effects == ["quick", "after"]


async def test_misuse_is_told():
    """Starting from a task of the group, waiting for oneself, using it outside of its block, entering it twice."""
    told: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        handles: list[TaskHandle[Any]] = []

        async def starts_another(own: DurableContext) -> None:
            with pytest.raises(FrameMisuseError) as caught:
                tg.start_soon(book, "x")
            told.append(str(caught.value))

        async def waits_for_itself(own: DurableContext) -> None:
            await own.wait(1)
            with pytest.raises(FrameMisuseError) as caught:
                await handles[0].wait()
            told.append(str(caught.value))

        async with ctx.task_group() as tg:
            handles.append(tg.start_soon(waits_for_itself))
            tg.start_soon(starts_another)
            with pytest.raises(RuntimeError, match="has not ended"):
                handles[0].result()
            await ctx.wait(5)
        for misuse in (lambda: tg.start_soon(book, "y"), tg.__aenter__):
            with pytest.raises(RuntimeError) as caught:
                result = misuse()
                if hasattr(result, "__await__"):
                    await result
            told.append(str(caught.value))

    await world.harness(work).result()
    assert any("another task" in text for text in told)
    assert any("neither would ever end" in text for text in told)
    assert any("inside its block" in text for text in told)
    assert any("entered once" in text for text in told)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_every_call_of_a_group_whose_failure_is_handled(when):
    """What comes after it has positions of its own, however far its tasks had come."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        names = []
        try:
            async with ctx.task_group() as tg:
                tg.start_soon(book, "a")
                tg.start_soon(book, "b", 2, "no b")
                tg.start_soon(book, "slow", 50)
                await ctx.wait(100)
        except* ValueError as group:
            names = [str(one) for one in group.exceptions]
        names.append(await ctx.step(world.do, "a", name="a"))
        await ctx.wait(100)
        return [*names, await ctx.step(world.do, "last", name="last")]

    whole = world.harness(work)
    expected, effects = ending(await whole.outcome()), sorted(world.effects)
    contexts = {key for key, one in shape(whole.operations()).items() if one[0] != "WAIT"}
    for number in range(1, 100):
        harness = world.harness(work)
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        if not crashed:
            assert number > 5
            break
        assert ending(output) == expected, number
        found = {key for key, one in shape(harness.operations()).items() if one[0] != "WAIT"}
        assert found == contexts, number
        assert set(world.effects) == set(effects), number
        assert len(world.effects) <= len(effects) + (2 if when == "before" else 1), number


def test_one_history_whatever_the_scheduling():
    """Positions are taken where tasks are started."""

    def make():
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[str]:
            async with ctx.task_group() as tg:
                handles = [tg.start_soon(book, str(number), number % 3) for number in range(8)]
            return [handle.result() for handle in handles]

        return work

    one_history(make, world)
