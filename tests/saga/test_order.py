"""In what order things are undone (DESIGN section 4, rule 3): the exact reverse of their positions."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from durable import DurableContext, DurableFunction, current_saga, durable_execution, saga
from durable.testing import trio_schedule
from tests.saga.world import (
    LOG,
    Full,
    book_slowly,
    cancel,
    cancel_slowly,
    crash_everywhere,
    note,
    run,
    sweep,
    take,
)

pytestmark = pytest.mark.anyio


async def test_strictly_one_after_another():
    """A compensation begins when the one before has ended."""

    async def undo(what: str) -> None:
        LOG.append(f"begin {what}")
        await take(5)
        LOG.append(f"end {what}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            for what in "abc":
                await s.step(book_slowly, what, 1, compensate=undo)
            raise Full("d")

    for place, ran in await crash_everywhere(work, compare=False):
        assert ran.happened[3:] == ["begin c", "end c", "begin b", "end b", "begin a", "end a"], place


class Shape:
    """A program of steps that run side by side, each as long as chance has it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._seconds: dict[str, float] = {}

    async def step(self, what: str) -> None:
        seconds = self._seconds.setdefault(what, self._chance.randrange(1, 50))
        await current_saga().step(book_slowly, what, seconds, compensate=cancel)

    def steps(self, *names: str) -> Callable[[DurableContext], Awaitable[None]]:
        async def branch(ctx: DurableContext) -> None:
            for name in names:
                await self.step(name)

        return branch


async def branches(shape: Shape, ctx: DurableContext) -> None:
    await shape.step("1")
    await ctx.parallel([shape.steps("2.0a", "2.0b"), shape.steps("2.1a"), shape.steps("2.2a", "2.2b", "2.2c")])
    await shape.step("3")


async def flat_branches(shape: Shape, ctx: DurableContext) -> None:
    await shape.step("1")
    await ctx.parallel([shape.steps("2.0a", "2.0b"), shape.steps("2.1a")], nesting="flat")
    current_saga().compensate(cancel, "2x")
    await shape.step("3")


async def items(shape: Shape, ctx: DurableContext) -> None:
    async def item(ctx: DurableContext, number: int) -> None:
        await shape.step(f"1.{number}a")
        await ctx.child(shape.steps(f"1.{number}b", f"1.{number}c"))
        await shape.step(f"1.{number}d")

    await ctx.map(item, range(3), max_concurrency=2)
    await shape.step("2")


async def tasks(shape: Shape, ctx: DurableContext) -> None:
    await shape.step("1")
    async with ctx.task_group() as group:
        await shape.step("2.1")
        group.start_soon(shape.steps("2.2a", "2.2b"))
        await shape.step("2.3")
        group.start_soon(shape.steps("2.4a"))
        current_saga().compensate(cancel, "2.4x")
        await shape.step("2.5")
    await shape.step("3")


async def inner_sagas(shape: Shape, ctx: DurableContext) -> None:
    async def branch(ctx: DurableContext, number: int) -> None:
        await shape.step(f"1.{number}a")
        async with saga(ctx):
            await shape.step(f"1.{number}b")
            async with saga(ctx):
                await shape.step(f"1.{number}c")
        await shape.step(f"1.{number}d")

    await ctx.map(branch, range(3))


async def groups_in_branches(shape: Shape, ctx: DurableContext) -> None:
    async def branch(ctx: DurableContext, number: int) -> None:
        async with ctx.move_on_after(3600), ctx.task_group() as group:
            group.start_soon(shape.steps(f"1.{number}a1", f"1.{number}a2"))
            group.start_soon(shape.steps(f"1.{number}b1"))

    await ctx.map(branch, range(2))
    async with ctx.move_on_after(3600):
        await shape.step("2")


def failing(program: Any, shape: Shape) -> DurableFunction[None, None]:
    """The program in a saga that fails at the end."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await program(shape, ctx)
            raise Full("at the end")

    return work


PROGRAMS = [branches, flat_branches, items, tasks, inner_sagas, groups_in_branches]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_by_position_whatever_the_scheduling_was(program: Any, anyio_backend_name: str):
    """What branches have done side by side is undone branch by branch: last branch first, each last first.

    How long steps take, and so in which order they are done, is another thing with each seed; on trio also who is
    next. The names are such that their order is that of the positions.
    """
    for seed in range(30 if anyio_backend_name == "trio" else 10):
        work = failing(program, Shape(seed))
        with trio_schedule(seed):
            ran = await run(work)
        done = [entry.removeprefix("book ") for entry in ran.log if entry.startswith("book ")]
        undone = [entry.removeprefix("cancel ") for entry in ran.log if entry.startswith("cancel ")]
        assert isinstance(ran.error(), Full), f"seed {seed}"
        assert undone == sorted(undone, reverse=True), f"seed {seed}"
        assert sorted(done) == sorted(name for name in undone if not name.endswith("x")), f"seed {seed}"


@pytest.mark.parametrize("program", PROGRAMS)
async def test_the_same_order_after_a_crash_anywhere(program: Any):
    """What a crash lets be done again may take another time; the order of undoing does not change."""
    work = failing(program, Shape(1))
    whole = await run(work)
    checked = 0
    for place, ran in await crash_everywhere(work, compare=False):
        assert ran.ending == whole.ending, place
        assert ran.undone == whole.undone, place
        assert set(ran.log) == set(whole.log), place
        checked += 1
    assert checked > 5


async def test_before_the_first_compensation_everything_inside_has_ended():
    """Cancelled, and awaited: also what takes its time to leave."""

    async def leaves_slowly() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await take(30)
                LOG.append("left")

    async def stays(ctx: DurableContext) -> None:
        await current_saga().step(book_slowly, "b", 1, compensate=cancel)
        await ctx.step(leaves_slowly)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book_slowly, "a", 1, compensate=cancel)
            async with ctx.task_group() as tasks:
                tasks.start_soon(stays)
                await ctx.step(take, 5)
                raise Full("in the block")

    ran = await run(work)
    assert ran.log == ["book a", "book b", "left", "cancel b", "cancel a"]


async def test_what_is_undone_is_undone_before_what_comes_after_the_saga():
    """The block is not left before."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx) as s:
                await s.step(book_slowly, "a", 1, compensate=cancel_slowly)
                raise Full("b")
        except Full:
            await ctx.step(note, "afterwards")

    ran = await sweep(work)
    assert ran.happened == ["book a", "cancel a", "afterwards"]
