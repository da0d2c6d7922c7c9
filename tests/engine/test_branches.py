"""Branches that are stopped: on replay they come exactly as far as they came before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from durable import (
    Completion,
    DurableContext,
    DurableFunction,
    Retry,
    TaskGroup,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from tests.harness import SlowClient, crash_points
from tests.sweep import World, ending, outcome_with_crashes

pytestmark = pytest.mark.anyio

world = World()


async def undo(what: str) -> None:
    """A compensation that suspends: what follows is replayed."""
    world.effects.append(f"undo {what}")
    await current_context().wait(5)


async def reserve(ctx: DurableContext, what: str) -> str:
    return await current_saga().step(world.do, what, compensate=undo, name=what)


# --- Where a branch can stand when it is stopped -----------------------------------------------------------------


async def after_a_time_limit(ctx: DurableContext) -> None:
    async with ctx.move_on_after(100):
        await reserve(ctx, "x")
    await reserve(ctx, "y")


async def after_a_time_limit_that_ends_with_a_wait(ctx: DurableContext) -> None:
    async with ctx.move_on_after(100):
        await reserve(ctx, "x")
        await ctx.wait(1)
    await reserve(ctx, "y")


async def after_a_time_limit_that_expired(ctx: DurableContext) -> None:
    async with ctx.move_on_after(2):
        await reserve(ctx, "x")
        await ctx.wait(100)
    await reserve(ctx, "y")


async def after_a_time_limit_that_expired_in_a_plain_wait(ctx: DurableContext) -> None:
    async with ctx.move_on_after(2):
        await reserve(ctx, "x")
        await ctx.step(world.take, 3.0, name="slow")
        await anyio.sleep_forever()
    await reserve(ctx, "y")


async def in_a_time_limit(ctx: DurableContext) -> None:
    async with ctx.move_on_after(100):
        await reserve(ctx, "x")
        await reserve(ctx, "y")
        await ctx.wait(200)


async def in_two_time_limits(ctx: DurableContext) -> None:
    async with ctx.move_on_after(100), ctx.fail_after(90):
        await reserve(ctx, "x")
        async with ctx.move_on_after(3):
            await reserve(ctx, "y")
            await ctx.wait(200)
        await reserve(ctx, "z")
        await ctx.wait(200)


async def after_a_task_group(ctx: DurableContext) -> None:
    async with ctx.task_group() as tg:
        tg.start_soon(reserve, "x")
    await reserve(ctx, "y")


async def in_a_task_group(ctx: DurableContext) -> None:
    await ctx.wait(1)
    async with ctx.task_group() as tg:
        tg.start_soon(reserve, "x")
        await reserve(ctx, "y")
        tg.start_soon(reserve, "z")
        await ctx.wait(200)


async def in_a_group_in_a_group(ctx: DurableContext) -> None:
    async with ctx.task_group() as outer:
        async with ctx.task_group() as inner:
            inner.start_soon(reserve, "x")
            inner.start_soon(reserve, "y")
        outer.start_soon(reserve, "z")
        await ctx.wait(200)


async def after_a_group_that_failed(ctx: DurableContext) -> None:
    async def fail(ctx: DurableContext) -> None:
        await ctx.wait(1)
        raise KeyError

    try:
        async with ctx.task_group() as tg:
            tg.start_soon(fail)
            tg.start_soon(in_a_time_limit)
            await reserve(ctx, "block")
            await ctx.wait(200)
    except* KeyError:
        await reserve(ctx, "z")


async def after_waiting_for_a_task(ctx: DurableContext) -> None:
    async def reserve_and_wait(ctx: DurableContext) -> str:
        await ctx.wait(1)
        return await reserve(ctx, "x")

    async with ctx.task_group() as tg:
        handle = tg.start_soon(reserve_and_wait)
        await reserve(ctx, await handle.wait() + "y")
        await ctx.wait(200)


async def after_waiting_for_a_sibling(ctx: DurableContext) -> None:
    async def first(ctx: DurableContext) -> str:
        await ctx.wait(1)
        return await reserve(ctx, "x")

    async def second(ctx: DurableContext) -> None:
        await reserve(ctx, await handle.wait() + "y")
        await ctx.wait(200)

    async with ctx.task_group() as tg:
        handle = tg.start_soon(first)
        tg.start_soon(second)


async def after_a_map(ctx: DurableContext) -> None:
    await ctx.map(reserve, ["x", "y"])
    await reserve(ctx, "z")


async def after_a_flat_map(ctx: DurableContext) -> None:
    await ctx.map(reserve, ["x", "y"], nesting="flat")
    await reserve(ctx, "z")


async def reserve_twice(ctx: DurableContext, what: str) -> None:
    await reserve(ctx, what)
    await ctx.wait(1)
    await reserve(ctx, what * 2)
    await ctx.wait(200)


async def in_a_map(ctx: DurableContext) -> None:
    await ctx.map(reserve_twice, ["x", "y"])


async def in_a_flat_map(ctx: DurableContext) -> None:
    await ctx.map(reserve_twice, ["x", "y"], nesting="flat")


async def after_a_race(ctx: DurableContext) -> None:
    async def winner(ctx: DurableContext) -> None:
        await ctx.wait(3)
        await reserve(ctx, "winner")

    await ctx.race(winner, in_a_time_limit)
    await reserve(ctx, "z")


async def after_a_child(ctx: DurableContext) -> None:
    await ctx.child(reserve, "x")
    await reserve(ctx, "y")


async def in_a_child(ctx: DurableContext) -> None:
    await ctx.child(reserve_twice, "x")


async def after_a_saga(ctx: DurableContext) -> None:
    async with saga(ctx, "inner"):
        await reserve(ctx, "x")
    await reserve(ctx, "y")


async def in_a_saga(ctx: DurableContext) -> None:
    async with saga(ctx, "inner"):
        await reserve(ctx, "x")
        await ctx.wait(200)


async def in_the_rollback_of_a_saga(ctx: DurableContext) -> None:
    async def slowly(what: str) -> None:
        world.effects.append(f"undo {what}")
        await current_context().wait(20)

    async with saga(ctx, "inner") as inner:
        await inner.step(world.do, "x", compensate=slowly)
        raise KeyError("inner")


async def after_a_saga_that_failed(ctx: DurableContext) -> None:
    try:
        async with saga(ctx, "inner"):
            await reserve(ctx, "x")
            raise KeyError
    except KeyError:
        await anyio.lowlevel.checkpoint()
    await reserve(ctx, "y")


async def in_a_retry(ctx: DurableContext) -> None:
    await reserve(ctx, "x")
    await ctx.step(world.do, "fails", 0, "again", retry=Retry(attempts=9, initial_delay=3, jitter="none"))


async def in_a_plain_wait(ctx: DurableContext) -> None:
    await reserve(ctx, "x")
    await anyio.lowlevel.checkpoint()
    await anyio.sleep_forever()


async def after_a_callback(ctx: DurableContext) -> None:
    callback = await ctx.create_callback(timeout=3)
    await reserve(ctx, "x")
    try:
        await callback.result()
    except TimeoutError:
        await reserve(ctx, "y")


async def at_a_callback_that_ends_too_late(ctx: DurableContext) -> None:
    callback = await ctx.create_callback(timeout=11)
    await reserve(ctx, "x")
    try:
        await callback.result()
    except TimeoutError:
        await reserve(ctx, "too late")


PLACES: list[Callable[[DurableContext], Awaitable[None]]] = [
    after_a_time_limit,
    after_a_time_limit_that_ends_with_a_wait,
    after_a_time_limit_that_expired,
    after_a_time_limit_that_expired_in_a_plain_wait,
    in_a_time_limit,
    in_two_time_limits,
    after_a_task_group,
    in_a_task_group,
    in_a_group_in_a_group,
    after_a_group_that_failed,
    after_waiting_for_a_task,
    after_waiting_for_a_sibling,
    after_a_map,
    after_a_flat_map,
    in_a_map,
    in_a_flat_map,
    after_a_race,
    after_a_child,
    in_a_child,
    after_a_saga,
    in_a_saga,
    in_the_rollback_of_a_saga,
    after_a_saga_that_failed,
    in_a_retry,
    in_a_plain_wait,
    after_a_callback,
    at_a_callback_that_ends_too_late,
]


def stopped_in_a_saga(
    place: Callable[[DurableContext], Awaitable[None]], *, failure_is_recorded: bool, stopped_first: bool
) -> DurableFunction[None, str]:
    """A saga around two tasks: one comes to `place` and waits there, the other fails after ten seconds."""

    async def stopped(ctx: DurableContext) -> None:
        await place(ctx)
        await ctx.wait(200)

    async def fails(ctx: DurableContext) -> None:
        # A task that has registered something stays open when it fails: its failure is not recorded.
        if not failure_is_recorded:
            await reserve(ctx, "f")
        await ctx.step(world.take, 10.0, name="ten seconds")
        raise ValueError("f")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "outer"), ctx.task_group() as tg:
            for task in (stopped, fails) if stopped_first else (fails, stopped):
                tg.start_soon(task)
        return "no failure"

    return work


def undone_is_done(effects: list[str]) -> None:
    done = {effect for effect in effects if not effect.startswith("undo ") and effect != "fails"}
    undone = {effect[5:] for effect in effects if effect.startswith("undo ")}
    assert undone == done, effects


CASES = [
    pytest.param(place, recorded, id=f"{place.__name__}-{'recorded' if recorded else 'open'}")
    for place in PLACES
    for recorded in (True, False)
]


@pytest.mark.parametrize("stopped_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(("place", "failure_is_recorded"), CASES)
async def test_what_a_stopped_branch_registered_is_undone(place, failure_is_recorded, stopped_first):
    """All of it, and nothing else, whatever the branch stood in; and what is raised is what failed."""
    work = stopped_in_a_saga(place, failure_is_recorded=failure_is_recorded, stopped_first=stopped_first)
    harness = world.harness(work)
    with anyio.fail_after(10):
        error = await harness.error()
    assert repr(error) == "ExceptionGroup('unhandled errors in a durable task group', [ValueError('f')])"
    assert "too late" not in world.effects
    undone_is_done(world.effects)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("place", "failure_is_recorded"), CASES)
async def test_a_crash_at_every_call_while_a_branch_is_stopped(place, failure_is_recorded, when, monkeypatch):
    """The outcome is the same, and what was done is undone."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)
    work = stopped_in_a_saga(place, failure_is_recorded=failure_is_recorded, stopped_first=True)
    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        with anyio.fail_after(10):
            output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert ending(output)[2].endswith("['ValueError: f']"), number
        undone_is_done(world.effects)
        if not crashed:
            break


@pytest.mark.parametrize(("place", "failure_is_recorded"), CASES)
async def test_a_crash_while_calls_take_time(place, failure_is_recorded):
    """Between the record of what stops the others and their stop, none of them begins what no replay would find."""
    work = stopped_in_a_saga(place, failure_is_recorded=failure_is_recorded, stopped_first=True)
    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        harness.client.service = SlowClient(harness.client.service, turns=2)
        with anyio.fail_after(10):
            output, crashed = await outcome_with_crashes(harness, after=number)
        assert ending(output)[2].endswith("['ValueError: f']"), number
        undone_is_done(world.effects)
        if not crashed:
            break


# --- What a block had when it was stopped ------------------------------------------------------------------------


async def worker(ctx: DurableContext, seconds: int) -> int:
    await ctx.wait(seconds)
    return seconds


async def fail_at_five(ctx: DurableContext) -> None:
    await ctx.wait(5)
    raise ValueError


async def fail_at_five_and_stay_open(ctx: DurableContext) -> None:
    await ctx.wait(5)
    await reserve(ctx, "x")
    raise ValueError


async def cancel_at_five(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    await ctx.wait(5)
    tg.cancel()


async def collect(ctx: DurableContext, tg: TaskGroup[DurableContext], got: list[int | str]) -> None:
    """Until 4 seconds have passed it gets something now and then; at 5 seconds it waits."""
    handles = [tg.start_soon(worker, seconds) for seconds in (1, 4, 30, 60)]
    await ctx.wait(2)
    got.append("waited")
    callback = await ctx.create_callback(timeout=1)
    try:
        await callback.result()
    except TimeoutError:
        got.append("timed out")
    for handle in handles:
        got.append(await handle.wait())
        await anyio.lowlevel.checkpoint()
    got.append("too late")


async def under_a_time_limit(ctx: DurableContext, got: list[int | str]) -> None:
    async with ctx.task_group() as tg:
        async with ctx.move_on_after(5):
            await collect(ctx, tg, got)
        tg.cancel()


async def under_a_time_limit_around_the_group(ctx: DurableContext, got: list[int | str]) -> None:
    async with ctx.move_on_after(5), ctx.task_group() as tg:
        await collect(ctx, tg, got)


async def beside_a_failure(ctx: DurableContext, got: list[int | str]) -> None:
    async with ctx.task_group() as tg:
        tg.start_soon(fail_at_five)
        await collect(ctx, tg, got)


async def beside_a_failure_that_stays_open(ctx: DurableContext, got: list[int | str]) -> None:
    async with ctx.task_group() as tg:
        tg.start_soon(fail_at_five_and_stay_open)
        await collect(ctx, tg, got)


async def in_a_group_that_is_cancelled(ctx: DurableContext, got: list[int | str]) -> None:
    async with ctx.task_group() as tg:
        tg.start_soon(cancel_at_five, tg)
        await collect(ctx, tg, got)


@pytest.mark.parametrize(
    "block",
    [
        under_a_time_limit,
        under_a_time_limit_around_the_group,
        beside_a_failure,
        beside_a_failure_that_stays_open,
        in_a_group_that_is_cancelled,
    ],
    ids=lambda block: block.__name__,
)
async def test_a_block_that_was_stopped_has_on_replay_what_it_had(block):
    """No record tells that it saw the ends of others; but it is known how many, and on replay it sees no more."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int | str]:
        got: list[int | str] = []
        async with saga(ctx):
            try:
                await block(ctx, got)
            except* ValueError:
                got.append("failed")
            seen.append(list(got))
            await ctx.wait(25)
            await ctx.wait(40)
        return got

    expected: list[int | str] = ["waited", "timed out", 1, 4]
    if "failure" in block.__name__:
        expected.append("failed")
    assert await world.harness(work).result() == expected
    assert len(seen) >= 3
    assert all(got == expected for got in seen)


async def test_a_block_that_was_left_before_its_group_was_stopped_is_not_cancelled_on_replay():
    """What it did after its last operation, it does again."""
    seen = []

    async def fail(ctx: DurableContext) -> None:
        await ctx.wait(5)
        raise ValueError

    async def succeed(ctx: DurableContext) -> int:
        await ctx.wait(1)
        return 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int | str]:
        got: list[int | str] = []
        try:
            async with ctx.task_group() as tg:
                tg.start_soon(fail)
                handle = tg.start_soon(succeed)
                await ctx.step(world.do, "x", name="do")
                await anyio.lowlevel.checkpoint()
                got.append(await handle.wait())
                await anyio.lowlevel.checkpoint()
                got.append("left")
        except* ValueError:
            got.append("failed")
        seen.append(list(got))
        await ctx.wait(1)
        return got

    assert await world.harness(work).result() == [1, "left", "failed"]
    assert seen == [[1, "left", "failed"]] * 2


async def by_a_task(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    tg.start_soon(cancel_at_five, tg)


async def by_the_block(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    await ctx.wait(6)
    tg.cancel()


async def by_the_blocks_error(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    await ctx.wait(6)
    raise ValueError


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(
    "cancel", [by_a_task, by_the_block, by_the_blocks_error], ids=lambda cancel: cancel.__name__
)
async def test_nothing_goes_on_after_a_group_was_cancelled(cancel, last):
    """Not even later, when what it waited for has ended, and the group is gone over again."""

    async def goes_on(ctx: DurableContext) -> None:
        await ctx.wait(50)
        await ctx.step(world.do, "went on", name="do")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.task_group() as tg:
                if not last:
                    tg.start_soon(goes_on)
                await cancel(ctx, tg)
                if last:
                    tg.start_soon(goes_on)
        except* ValueError:
            pass
        for _ in range(4):
            await ctx.wait(20)
        return await ctx.step(world.do, "after", name="do")

    harness = world.harness(work)
    await harness.result()
    assert world.effects == ["after"]


@pytest.mark.parametrize("failing_first", [True, False])
@pytest.mark.parametrize("way", ["task group", "nested", "flat"])
async def test_what_was_stopped_does_nothing_new_while_it_is_undone(way, failing_first):
    """A branch that was rolling back when it was stopped goes no further, although its rollback takes a while."""

    async def fails(ctx: DurableContext) -> None:
        await ctx.wait(10)
        await reserve(ctx, "f")  # so that its failure is not recorded
        raise ValueError("f")

    async def slowly(what: str) -> None:
        world.effects.append(f"undo {what}")
        await current_context().wait(20)

    async def goes_on(ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "inner") as inner:
                await inner.step(world.do, "x", compensate=slowly)
                raise KeyError("inner")
        except KeyError:
            await ctx.step(world.do, "went on", name="do")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        branches = (fails, goes_on) if failing_first else (goes_on, fails)
        async with saga(ctx):
            if way == "task group":
                with pytest.raises(ExceptionGroup) as caught:
                    async with ctx.task_group() as tg:
                        for branch in branches:
                            tg.start_soon(branch)
                return [repr(error) for error in caught.value.exceptions]
            batch = await ctx.parallel(
                branches, completion=Completion.all_successful(), nesting="flat" if way == "flat" else "nested"
            )
            await ctx.wait(1)
            return sorted(item.status for item in batch)

    expected = ["ValueError('f')"] if way == "task group" else ["cancelled", "failed"]
    assert await world.harness(work).result() == expected
    assert "went on" not in world.effects


@pytest.mark.parametrize("stop", [fail_at_five, fail_at_five_and_stay_open], ids=lambda stop: stop.__name__)
async def test_plain_waits_are_cancelled_on_replay_too(stop):
    """In the block and in tasks, wherever they begin: before the first operation, or after the last."""
    inside = []

    async def sleep_at_once(ctx: DurableContext) -> None:
        inside.append("at once")
        await anyio.sleep_forever()

    async def sleep_later(ctx: DurableContext) -> None:
        await ctx.wait(1)
        inside.append("later")
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx):
            try:
                async with ctx.task_group() as tg:
                    for task in (sleep_at_once, sleep_later, stop, sleep_later, sleep_at_once):
                        tg.start_soon(task)
                    await anyio.sleep_forever()
            except* ValueError:
                await ctx.wait(1)
            await ctx.wait(1)
        return "went on"

    with anyio.fail_after(10):
        assert await world.harness(work).result() == "went on"
    assert inside.count("later") >= 2
