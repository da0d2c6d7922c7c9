"""Sagas inside sagas, and in contexts that have ended (DESIGN section 4, rule 7)."""

from __future__ import annotations

from typing import Any

import pytest

from durable import (
    CompensationError,
    DurableContext,
    FrameMisuseError,
    SagaScope,
    current_saga,
    durable_execution,
    saga,
)
from tests.saga.world import (
    Full,
    book,
    cancel,
    cannot_cancel,
    crash_everywhere,
    note,
    refuse,
    run,
    sweep,
)

pytestmark = pytest.mark.anyio


async def test_an_inner_saga_that_succeeds_hands_its_compensations_to_the_outer_one():
    """As one unit, in its place; three deep."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            async with saga(ctx, "inner") as inner:
                await inner.step(book, "b", compensate=cancel)
                async with saga(ctx, "innermost") as innermost:
                    await innermost.step(book, "c", compensate=cancel)
                await inner.step(book, "d", compensate=cancel)
            await outer.step(book, "e", compensate=cancel)
            raise Full("f")

    ran = await sweep(work, twice=True)
    assert ran.undone == [f"cancel {what}" for what in "edcba"]
    assert {o.parent_id for o in ran.harness.operations() if o.sub_type == "Compensation"} == {
        ran.harness.operation("outer").id
    }


@pytest.mark.parametrize("handled", [True, False])
async def test_an_inner_saga_that_fails_rolls_itself_back_first(handled: bool):
    """Then the outer one, if the error goes on; if it is caught, the outer one goes on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            try:
                async with saga(ctx, "inner") as inner:
                    await inner.step(book, "b", compensate=cancel)
                    await inner.step(refuse, "c")
            except Full:
                if not handled:
                    raise
            await outer.step(book, "d", compensate=cancel)

    ran = await sweep(work, twice=True)
    assert ran.happened[3:] == (["cancel b", "book d"] if handled else ["cancel b", "cancel a"])
    if not handled:
        assert ran.error().__notes__ == [
            "saga 'inner' was rolled back; undone: book",
            "saga 'outer' was rolled back; undone: book",
        ]


async def test_an_inner_saga_that_failed_is_not_undone_again_by_the_outer_one():
    """Nor is it what it could not undo: that is told, and over."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            try:
                async with saga(ctx, "inner") as inner:
                    await inner.step(book, "b", compensate=cannot_cancel)
                    await inner.step(book, "c", compensate=cancel)
                    raise Full("inside")
            except CompensationError:
                await ctx.step(note, "told")
            raise KeyError("outside")

    ran = await sweep(work)
    assert ran.happened[3:] == ["cancel c", "try to cancel b", "told", "cancel a"]


async def test_the_same_name_twice():
    """Sagas are told apart by their place."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        caught: list[str] = []
        for what in "ab":
            try:
                async with saga(ctx, "trip") as s:
                    await s.step(book, what, compensate=cancel)
                    async with saga(ctx, "trip") as inner:
                        await inner.step(book, f"{what} inside", compensate=cancel)
                        raise Full(what)
            except Full as error:
                caught.append(str(error))
        return caught

    ran = await sweep(work)
    assert ran.result() == ["a", "b"]
    assert ran.undone == ["cancel a inside", "cancel a", "cancel b inside", "cancel b"]


# --- Contexts that have ended --------------------------------------------------------------------------------


async def test_what_a_finished_child_registered_is_known_again_on_replay():
    """Its body runs again, over its records, and does nothing; also through inner sagas, and children in it."""
    runs: list[str] = []

    async def innermost(ctx: DurableContext) -> None:
        await current_saga().step(book, "innermost", compensate=cancel)

    async def subflow(ctx: DurableContext) -> str:
        runs.append("subflow")
        async with saga(ctx, "inner") as s:
            await s.step(book, "inner", compensate=cancel)
            await ctx.child(innermost)
        await ctx.step(note, "not registered")
        return "x" * 10

    async def other(ctx: DurableContext) -> str:
        runs.append("other")
        await ctx.step(note, "has nothing to undo")
        return "other"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer"):
            result = await ctx.child(subflow)
            await ctx.child(other)
            await ctx.wait(60)
            await ctx.step(note, result)
            await ctx.wait(60)
            raise Full("later")

    ran = await run(work)
    assert ran.harness.invocations == 3
    assert runs.count("subflow") == 3
    assert runs.count("other") == 1
    assert ran.happened[-3:] == ["x" * 10, "cancel innermost", "cancel inner"]
    await sweep(work)


async def test_a_child_that_fails_after_registering_is_undone_also_after_a_crash():
    """Its steps stay known to the saga, whatever happens in between; it fails again on every replay."""

    async def subflow(ctx: DurableContext) -> None:
        await current_saga().step(book, "b", compensate=cancel)
        await ctx.wait(5)
        await ctx.step(refuse, "in the child")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            try:
                await ctx.child(subflow)
            except Full as error:
                await ctx.step(note, f"caught {error!r}")
            await ctx.wait(5)
            raise KeyError("later")

    ran = await sweep(work, twice=True)
    assert ran.happened[-3:] == ["caught Full('in the child')", "cancel b", "cancel a"]


async def test_an_error_out_of_such_a_child_is_the_same_object_live_and_on_replay():
    """Type, message, data and notes: not what the code raised, but what a record of it would give."""

    class Local(Exception):
        data: Any = None

    seen: set[str] = set()

    async def subflow(ctx: DurableContext) -> None:
        await current_saga().step(book, "b", compensate=cancel)
        error = Local("x")
        error.data = (1, 2)
        raise error

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            try:
                await ctx.child(subflow)
            except Local as error:
                seen.add(f"{error!r} {error.data!r}")
            await ctx.wait(5)

    await sweep(work)
    assert seen == {"Local('x') [1, 2]"}


async def test_a_saga_that_was_rolled_back_inside_a_finished_child():
    """Is over: its report is read, and nothing of it is done again, when the child's body is."""
    reports: list[str] = []

    async def subflow(ctx: DurableContext) -> str:
        await current_saga().step(book, "outer's", compensate=cancel)
        try:
            async with saga(ctx, "inner") as s:
                await s.step(book, "inner's", compensate=cancel)
                raise Full("inside")
        except Full:
            reports.append(repr(s.result))
        return "done"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer"):
            await ctx.child(subflow)
            await ctx.wait(60)
            raise KeyError("later")

    ran = await sweep(work, twice=True)
    assert ran.happened == ["book outer's", "book inner's", "cancel inner's", "cancel outer's"]
    assert len(set(reports)) == 1


async def test_sagas_in_children_that_fail_and_are_handled():
    """A child whose own saga rolled back has nothing to hand over, and is recorded as any child that failed."""

    async def subflow(ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "b", compensate=cancel)
            raise Full("inside")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            try:
                await ctx.child(subflow)
            except Full:
                await ctx.wait(5)
            raise KeyError("later")

    ran = await sweep(work)
    assert ran.undone == ["cancel b", "cancel a"]
    assert ran.harness.operation("subflow").status == "FAILED"


# --- The outer one from inside -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rollback", "rollback_to", "savepoint", "pivot"])
async def test_the_outer_saga_from_inside_the_inner_one(how: str):
    """What the inner one has done is not the outer one's yet: it would be undone too late, or not at all."""

    async def call(s: SagaScope, point: Any) -> None:
        if how == "rollback":
            await s.rollback("now")
        elif how == "rollback_to":
            await s.rollback_to(point, "now")
        elif how == "savepoint":
            s.savepoint()
        else:
            s.pivot()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            point = outer.savepoint()
            async with saga(ctx, "inner") as inner:
                await inner.step(book, "b", compensate=cancel)
                with pytest.raises(FrameMisuseError, match="of saga 'outer' was called inside of saga 'inner'"):
                    await call(outer, point)
            raise Full("c")

    ran = await run(work)
    assert isinstance(ran.error(), Full)
    assert ran.undone == ["cancel b", "cancel a"]


async def test_a_saga_from_a_child_inside_of_it_is_refused():
    """The context of the saga is not the child's."""

    async def subflow(ctx: DurableContext) -> None:
        s = current_saga()
        await s.step(book, "b", compensate=cancel)
        with pytest.raises(FrameMisuseError, match="while child 'subflow' is running"):
            await s.rollback("now")
        with pytest.raises(FrameMisuseError, match="while child 'subflow' is running"):
            s.pivot()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await ctx.child(subflow)
            raise Full("c")

    for _, ran in await crash_everywhere(work):
        assert ran.undone == ["cancel b"]
