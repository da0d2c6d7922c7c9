"""`parallel`: different functions side by side."""

from __future__ import annotations

from typing import Any

import pytest

from durable import BatchError, Completion, DurableContext, InvalidNameError, durable_execution
from tests.sweep import World, ending, one_history, outcome_with_crashes, shape

pytestmark = pytest.mark.anyio

world = World()


async def hotel(ctx: DurableContext) -> str:
    return await ctx.step(world.do, "hotel", 3.0, name="hotel")


async def flight(ctx: DurableContext) -> int:
    await ctx.wait(5)
    await ctx.step(world.do, "flight", 1.0, name="flight")
    return 240


async def no_car(ctx: DurableContext) -> None:
    await ctx.step(world.do, "car", 1.0, "none left", name="car")


async def test_branches_have_their_names_and_results_in_the_order_given():
    """By number in a sequence; by key in a mapping."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        numbered = await ctx.parallel([hotel, flight])
        named = await ctx.parallel({"h": hotel, "f": flight}, name="named")
        return [[item.name, item.result] for item in (*numbered, *named)]

    harness = world.harness(work)
    assert await harness.result() == [
        ["parallel-branch-0", "hotel"],
        ["parallel-branch-1", 240],
        ["h", "hotel"],
        ["f", 240],
    ]
    branches = [one.name for one in harness.operations() if one.sub_type == "ParallelBranch"]
    assert sorted(branches, key=str) == ["f", "h", "parallel-branch-0", "parallel-branch-1"]


async def test_a_failure_is_the_branchs_own_until_somebody_asks_for_the_results():
    """The others run to their end; `results()` raises what failed."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        batch = await ctx.parallel([hotel, no_car])
        assert [item.status for item in batch] == ["succeeded", "failed"]
        assert (batch.completion_reason, batch.is_successful) == ("ALL_COMPLETED", False)
        return batch.results()

    error = await world.harness(work).error()
    assert isinstance(error, BatchError)
    assert [repr(member) for member in error.exceptions] == ["ValueError('none left')"]
    assert "parallel-branch-1" in str(error)


async def test_all_successful_gives_up_at_the_first_failure():
    """What still runs is cancelled, and says so."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.parallel([flight, no_car], completion=Completion.all_successful())
        return [batch.completion_reason, *(item.status for item in batch)]

    harness = world.harness(work)
    assert await harness.result() == ["FAILURE_TOLERANCE_EXCEEDED", "cancelled", "failed"]
    assert world.effects == ["car"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nesting", ["nested", "flat"])
async def test_a_crash_at_every_call(nesting, when):
    """It ends the same, with the same records; what had completed is not done again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        batch = await ctx.parallel([hotel, flight, no_car], nesting=nesting)
        await ctx.step(world.do, "after", name="after")
        return [batch.completion_reason, *(item.status for item in batch)]

    whole = world.harness(work)
    expected = ending(await whole.outcome())
    history, effects = shape(whole.operations()), list(world.effects)
    for number in range(1, 100):
        harness = world.harness(work)
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        if not crashed:
            assert number > 3
            break
        assert ending(output) == expected, number
        assert shape(harness.operations()) == history, number
        assert set(world.effects) == set(effects), number
        assert len(world.effects) <= len(effects) + (2 if when == "before" else 1), number


def test_one_history_whatever_the_scheduling():
    """trio shuffles who runs next."""

    def make():
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[Any]:
            batch = await ctx.parallel([hotel, flight, no_car, hotel])
            return [item.result for item in batch]

        return work

    one_history(make, world)


@pytest.mark.parametrize(
    ("options", "error"), [({"name": ""}, InvalidNameError), ({"max_concurrency": 0}, ValueError)], ids=str
)
async def test_what_makes_no_sense_is_refused_before_anything_is_recorded(options, error):
    """At the call, with nothing sent."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([hotel], **options)

    harness = world.harness(work)
    assert isinstance(await harness.error(), error)
    assert harness.calls == []
