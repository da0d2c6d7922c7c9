"""Sagas and branches: what registers with whom, whoever fails or is cancelled (DESIGN section 4, rules 3 and 7)."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from durable import (
    BatchError,
    Completion,
    DurableContext,
    FrameMisuseError,
    SagaScope,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from durable.testing import trio_schedule
from tests.saga.world import (
    Full,
    book,
    book_slowly,
    cancel,
    cancel_slowly,
    crash_everywhere,
    note,
    refuse_slowly,
    run,
    sweep,
)

pytestmark = pytest.mark.anyio

Branch = Callable[[DurableContext], Awaitable[Any]]


async def ends(ctx: DurableContext) -> None:
    """Registers, and has ended before anything fails."""
    await current_saga().step(book, "ended 1", compensate=cancel)
    await current_saga().step(book, "ended 2", compensate=cancel)


async def waits(ctx: DurableContext) -> None:
    """Registers, and waits until it is cancelled."""
    await current_saga().step(book, "waiting 1", compensate=cancel)
    await ctx.child(waits_deeper)


async def waits_deeper(ctx: DurableContext) -> None:
    await current_saga().step(book, "waiting 2", compensate=cancel)
    await ctx.wait(3600)
    await current_saga().step(book, "never", compensate=cancel)


async def fails(ctx: DurableContext) -> None:
    """Registers nothing, and fails after some time."""
    await ctx.step(refuse_slowly, "there", 10)


async def registers_and_fails(ctx: DurableContext) -> None:
    """Registers, and fails after some time: its own record stays open, so that it is known again what it did."""
    await current_saga().step(book, "failing 1", compensate=cancel)
    await ctx.child(registers_and_fails_deeper)


async def registers_and_fails_deeper(ctx: DurableContext) -> None:
    await current_saga().step(book, "failing 2", compensate=cancel)
    await ctx.wait(10)
    raise Full("there")


async def in_a_group(ctx: DurableContext, branches: list[Branch]) -> None:
    async with ctx.task_group() as tasks:
        for branch in branches:
            tasks.start_soon(branch)


async def in_its_block(ctx: DurableContext, branches: list[Branch]) -> None:
    """The last branch is the group's own block."""
    async with ctx.task_group() as tasks:
        for branch in branches[:-1]:
            tasks.start_soon(branch)
        await branches[-1](ctx)


async def in_parallel(ctx: DurableContext, branches: list[Branch]) -> None:
    result = await ctx.parallel(branches, completion=Completion(tolerated_failures=0))
    result.results()


async def in_flat_branches(ctx: DurableContext, branches: list[Branch]) -> None:
    result = await ctx.parallel(branches, completion=Completion(tolerated_failures=0), nesting="flat")
    result.results()


async def in_a_map(ctx: DurableContext, branches: list[Branch]) -> None:
    async def item(ctx: DurableContext, number: int) -> None:
        await branches[number](ctx)

    (await ctx.map(item, range(len(branches)), completion=Completion(tolerated_failures=0))).results()


HOW = [in_a_group, in_its_block, in_parallel, in_flat_branches, in_a_map]


@pytest.mark.in_process("a call that takes time carries the ends of several branches: one crash repeats them all")
@pytest.mark.parametrize("failing", [fails, registers_and_fails])
@pytest.mark.parametrize("how", HOW)
async def test_one_fails_one_is_cancelled_one_has_ended(how: Any, failing: Branch):
    """All that they registered is undone, in any order of branches, with a crash anywhere, and it ends the same."""
    for number, order in enumerate(itertools.permutations([ends, waits, failing])):
        work = of(how, list(order))
        with trio_schedule(number):
            whole = await run(work)
        names = [branch.__name__ for branch in order]
        undone = [what for name in reversed(names) for what in UNDONE[name]]
        assert whole.undone == [f"cancel {what}" for what in undone], names
        error = whole.error()
        assert isinstance(error, (ExceptionGroup, BatchError)), names
        assert [repr(one) for one in error.exceptions] == ["Full('there')"], names
        assert any("was rolled back" in note for note in error.__notes__), names
        if number not in {0, 3}:
            continue  # a sweep of two orders will do: in one the failing branch is last, in the other in the middle
        for place, ran in await crash_everywhere(work, compare=False, when="before" if number else "after"):
            assert ran.ending == whole.ending, (names, place)
            assert ran.undone == whole.undone, (names, place)
            assert ran.repeats <= ran.crashes, (names, place, ran.log)
            assert "book never" not in ran.log, (names, place)


UNDONE = {
    "ends": ["ended 2", "ended 1"],
    "waits": ["waiting 2", "waiting 1"],
    "fails": [],
    "registers_and_fails": ["failing 2", "failing 1"],
}


def of(how: Any, branches: list[Branch]) -> Any:
    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await how(ctx, branches)

    return work


async def inner_saga(ctx: DurableContext) -> None:
    """Has a saga of its own, which is rolled back when it is cancelled; also one that is over already."""
    async with saga(ctx, "over"):
        await current_saga().step(book, "over", compensate=cancel)
    async with saga(ctx, "cancelled") as s:
        await s.step(book, "cancelled", compensate=slowly_and_durably)
        await ctx.wait(3600)


async def slowly_and_durably(what: str) -> None:
    await current_context().wait(60)
    await current_context().step(cancel, what)


@pytest.mark.parametrize("failing", [fails, registers_and_fails])
@pytest.mark.parametrize("how", HOW)
async def test_sagas_in_branches_that_are_cancelled(how: Any, failing: Branch):
    """Each rolls itself back first, even if that takes long; then the one around, with what they handed over."""
    for order in itertools.permutations([inner_saga, failing]):
        work = of(how, list(order))
        whole = await run(work)
        error = whole.error()
        assert isinstance(error, ExceptionGroup)
        assert [repr(one) for one in error.exceptions] == ["Full('there')"]
        undone = {"inner_saga": ["over"], "registers_and_fails": ["failing 2", "failing 1"], "fails": []}
        expected = ["cancelled", *(what for branch in reversed(order) for what in undone[branch.__name__])]
        assert whole.undone == [f"cancel {what}" for what in expected]
        for place, ran in await crash_everywhere(work, compare=False, when="after"):
            assert ran.ending == whole.ending, (order, place)
            assert ran.undone == whole.undone, (order, place)
            assert ran.repeats <= ran.crashes, (order, place, ran.log)


async def test_the_loser_of_a_race_has_registered_what_it_did():
    """It is not undone because the race is lost, but when the saga fails."""

    async def fast(ctx: DurableContext) -> str:
        await current_saga().step(book_slowly, "fast", 1, compensate=cancel)
        return "fast"

    async def slow(ctx: DurableContext) -> str:
        await current_saga().step(book, "slow 1", compensate=cancel)
        await current_saga().step(book_slowly, "slow 2", 100, compensate=cancel)
        return "slow"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            winner = await ctx.race(slow, fast)
            await ctx.step(note, f"{winner.result} won")
            raise Full("later")

    ran = await sweep(work, same_shape=False)
    assert ran.happened == ["book slow 1", "book fast", "fast won", "cancel fast", "cancel slow 1"]


async def test_a_batch_that_tolerates_a_failure_goes_on_and_is_undone_as_a_whole_later():
    """What the branch that failed had registered is not lost with it."""

    async def item(ctx: DurableContext, number: int) -> int:
        await current_saga().step(book, str(number), compensate=cancel)
        if number == 1:
            raise Full("this one")
        return number

    @durable_execution
    async def work(event: bool, ctx: DurableContext) -> list[str]:
        async with saga(ctx):
            result = await ctx.map(item, range(3))
            await ctx.wait(5)
            statuses: list[str] = [entry.status for entry in result.items]
            await ctx.step(note, " ".join(statuses))
            if event:
                raise Full("later")
        return statuses

    assert (await run(work, False)).result() == ["succeeded", "failed", "succeeded"]
    for place, ran in await crash_everywhere(work, True, compare=False):
        assert ran.happened[3:] == ["succeeded failed succeeded", "cancel 2", "cancel 1", "cancel 0"], place
        assert isinstance(ran.error(), Full)


@pytest.mark.parametrize("how", ["rollback", "rollback_to", "savepoint", "pivot"])
async def test_what_is_about_all_so_far_is_refused_while_tasks_run(how: str):
    """What they are doing could not be undone, or would depend on how far they have come."""

    async def call(s: SagaScope) -> None:
        if how == "rollback":
            await s.rollback("now")
        elif how == "rollback_to":
            await s.rollback_to(points[-1], "now")
        elif how == "savepoint":
            s.savepoint()
        else:
            s.pivot()

    async def task(ctx: DurableContext) -> None:
        await current_saga().step(book_slowly, "task", 30, compensate=cancel)

    async def from_a_task(ctx: DurableContext, s: SagaScope) -> None:
        with pytest.raises(FrameMisuseError, match="from another task"):
            await call(s)

    points: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip") as s:
            points.append(s.savepoint())
            async with ctx.task_group() as tasks:
                tasks.start_soon(task)
                with pytest.raises(FrameMisuseError, match="while tasks run inside saga 'trip'"):
                    await call(s)
                await tasks.start_soon(from_a_task, s).wait()
            await call(s)
        return "done"

    ran = await run(work)
    assert ran.result() == "done"
    assert ran.log == (["book task", "cancel task"] if how.startswith("rollback") else ["book task"])


async def test_tasks_that_run_outside_of_a_saga_do_not_keep_it_from_rolling_back():
    """A saga in one task is its own business."""

    async def other(ctx: DurableContext) -> None:
        await ctx.step(book_slowly, "other", 30)

    async def with_saga(ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.rollback("now")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tasks:
            tasks.start_soon(other)
            tasks.start_soon(with_saga)

    ran = await sweep(work, same_shape=False)
    assert ran.happened == ["book a", "cancel a", "book other"]


async def test_what_a_group_made_elsewhere_does_belongs_to_the_saga_around_its_block():
    """Not to where the group was made."""

    async def task(ctx: DurableContext) -> None:
        await current_saga().step(book, "task", compensate=cancel)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        group = ctx.task_group()
        async with saga(ctx):
            async with group as tasks:
                tasks.start_soon(task)
            raise Full("later")

    ran = await sweep(work)
    assert ran.undone == ["cancel task"]


async def test_a_saga_that_was_rolled_back_by_hand_takes_nothing_over():
    """One that begins inside of it later hands what it did to the next one around, which is not over."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "first", compensate=cancel)
            async with saga(ctx, "middle") as middle:
                await middle.step(book, "a", compensate=cancel)
                await middle.rollback("not wanted")
                async with saga(ctx, "inner") as inner:
                    await inner.step(book, "b", compensate=cancel)
            raise Full("later")

    ran = await sweep(work)
    assert ran.happened == ["book first", "book a", "cancel a", "book b", "cancel b", "cancel first"]


async def test_what_tasks_did_in_a_block_that_was_stopped_is_known_again():
    """Also where the block itself has nothing more to do than to start them."""

    async def task(ctx: DurableContext) -> None:
        await current_saga().step(book, "in time", compensate=cancel)
        await ctx.wait(60)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            async with ctx.move_on_after(60), ctx.task_group() as tasks:
                tasks.start_soon(task)
            await ctx.wait(5)
            raise Full("later")

    ran = await sweep(work, compare=False)
    assert ran.happened == ["book in time", "cancel in time"]


async def test_compensations_wait_until_a_branch_has_rolled_itself_back():
    """The saga around the branches begins when they have ended, however long that takes."""

    async def branch(ctx: DurableContext, name: str) -> None:
        async with saga(ctx) as s:
            await s.step(book, name, compensate=cancel_slowly)
            await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "first", compensate=cancel)
            async with ctx.task_group() as tasks:
                for name in "ab":
                    tasks.start_soon(branch, name)
                await ctx.step(refuse_slowly, "there", 10)

    ran = await run(work)
    assert ran.undone[-1] == "cancel first"
    assert set(ran.undone[:-1]) == {"cancel a", "cancel b"}
