"""Going back to a savepoint and forward again; the point of no return (DESIGN section 4, rule 8)."""

from __future__ import annotations

from typing import Any

import pytest

from durable import (
    CompensationError,
    CompensationItem,
    DurableContext,
    Retry,
    SagaRolledBackError,
    SagaScope,
    StepOutcome,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from tests.saga.world import LOG, Full, book, cancel, cannot_cancel, note, refuse, run, sweep

pytestmark = pytest.mark.anyio


async def book_all(s: SagaScope, names: str) -> None:
    for name in names.split():
        await s.step(book, name, compensate=cancel, name=name)


# --- Savepoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [True, False])
async def test_back_to_a_savepoint_and_forward_again(fails: bool):
    """What was done after it is undone, then the block goes on; a later failure undoes what still stands."""
    results: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip") as s:
            await book_all(s, "a b")
            point = s.savepoint()
            await book_all(s, "c d")
            results.append(await s.rollback_to(point, "sold out"))
            assert s.result is None
            await book_all(s, "c d e")
            if fails:
                raise Full("f")
        return "done"

    ran = await sweep(work, twice=True)
    done = ["book a", "book b", "book c", "book d", "cancel d", "cancel c", "book c", "book d", "book e"]
    assert ran.log == [*done, *(f"cancel {what}" for what in "edcba" if fails)]
    assert {repr(result) for result in results} == {
        repr(type(results[0])((CompensationItem("d", "succeeded"), CompensationItem("c", "succeeded")), True))
    }
    assert [o.name for o in ran.harness.operations() if o.sub_type == "Saga"] == [
        "trip to savepoint",
        *(["trip"] if fails else []),
    ]
    assert "sold out" in (ran.harness.operation("rollback").result or "")


async def test_repeatedly_to_the_same_savepoint():
    """As often as one likes: each time what was done since is undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await book_all(s, "a")
            point = s.savepoint()
            for attempt in range(3):
                await book_all(s, f"b{attempt} c{attempt}")
                await s.rollback_to(point, "again")
            raise Full("given up")

    ran = await sweep(work)
    assert ran.undone == ["cancel c0", "cancel b0", "cancel c1", "cancel b1", "cancel c2", "cancel b2", "cancel a"]


async def test_nested_savepoints():
    """To the inner one, then to the outer one; what an inner one undid is not undone again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            outer = s.savepoint()
            await book_all(s, "a")
            inner = s.savepoint()
            await book_all(s, "b")
            await s.rollback_to(inner, "one")
            await book_all(s, "c")
            await s.rollback_to(outer, "two")
            await book_all(s, "d")
            raise Full("three")

    ran = await sweep(work)
    assert ran.undone == ["cancel b", "cancel c", "cancel a", "cancel d"]


async def test_to_a_savepoint_where_nothing_was_done_since():
    """Says so, and records nothing."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with saga(ctx) as s:
            await book_all(s, "a")
            result = await s.rollback_to(s.savepoint(), "nothing")
        return len(result.items)

    ran = await sweep(work)
    assert ran.result() == 0
    assert len(ran.harness.calls) == 1


async def test_a_savepoint_that_is_gone():
    """It was undone itself, a pivot was passed, or it is another saga's: refused, and nothing is undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            first = s.savepoint()
            await book_all(s, "a")
            second = s.savepoint()
            await book_all(s, "b")
            await s.rollback_to(first, "both")
            await book_all(s, "c d e")
            with pytest.raises(ValueError, match="it was undone"):
                await s.rollback_to(second, "gone")
            s.pivot()
            with pytest.raises(ValueError, match="a pivot was passed"):
                await s.rollback_to(first, "gone")
            third = s.savepoint()
            await book_all(s, "f")
            async with saga(ctx) as inner:
                with pytest.raises(ValueError, match="another saga"):
                    await inner.rollback_to(third, "not mine")
        return "done"

    ran = await sweep(work)
    assert ran.result() == "done"
    assert ran.undone == ["cancel b", "cancel a"]


async def test_what_could_not_be_undone_on_the_way_back():
    """It is told, and not tried again; what was not attempted, as one stopped, still stands and is undone later."""
    seen: list[str] = []

    @durable_execution
    async def work(event: Any, ctx: DurableContext) -> None:
        async with saga(ctx, on_error=event) as s:
            await book_all(s, "a")
            point = s.savepoint()
            await book_all(s, "b")
            await s.step(book, "c", compensate=cannot_cancel, name="c")
            await book_all(s, "d")
            try:
                await s.rollback_to(point, "sold out")
            except CompensationError as error:
                statuses = [f"{item.name} {item.status}" for item in error.result.items]
                seen.append(f"{error} {error.__cause__!r} {statuses}")
            await book_all(s, "e")
            raise Full("f")

    ran = await sweep(work, "continue")
    assert ran.undone == ["cancel d", "try to cancel c", "cancel b", "cancel e", "cancel a"]
    ran = await sweep(work, "stop")
    assert ran.undone == ["cancel d", "try to cancel c", "cancel e", "cancel b", "cancel a"]
    reason = "SagaRolledBackError('the saga was rolled back: sold out')"
    assert set(seen) == {
        f"the saga could not undo c (1 sub-exception) {reason} ['d succeeded', 'c failed', 'b succeeded']",
        (
            "the saga could not undo c; not attempted: b (1 sub-exception) "
            f"{reason} ['d succeeded', 'c failed', 'b not attempted']"
        ),
    }


async def test_an_error_on_the_way_back_that_is_not_handled_rolls_the_rest_back():
    """It leaves the block as any error."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await book_all(s, "a")
            point = s.savepoint()
            await s.step(book, "b", compensate=cannot_cancel, name="b")
            await s.rollback_to(point, "sold out")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert str(error) == "the saga could not undo b (1 sub-exception)"
    assert ran.undone == ["try to cancel b", "cancel a"]


async def test_what_is_undone_on_the_way_back_may_wait():
    """The execution suspends, and goes on from there."""

    async def slowly(what: str) -> None:
        await current_context().wait(60)
        await current_context().step(cancel, what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            point = s.savepoint()
            await s.step(book, "a", compensate=slowly)
            await s.step(book, "b", compensate=slowly)
            await s.rollback_to(point, "sold out")
            await book_all(s, "c")
            await ctx.wait(60)

    ran = await sweep(work, twice=True)
    assert ran.log == ["book a", "book b", "cancel b", "cancel a", "book c"]


async def test_back_over_children_branches_inner_sagas_and_by_hand():
    """All that was registered since, in reverse of its position."""

    async def subflow(ctx: DurableContext) -> None:
        await book_all(current_saga(), "b1 b2")

    async def item(ctx: DurableContext, number: int) -> None:
        await book_all(current_saga(), f"c{number}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await book_all(s, "a")
            point = s.savepoint()
            await ctx.child(subflow)
            await ctx.map(item, range(2))
            async with saga(ctx) as inner:
                await book_all(inner, "d")
            s.compensate(cancel, "e")
            await s.rollback_to(point, "sold out")
            await ctx.step(note, "and on")
            raise Full("f")

    ran = await sweep(work)
    undone = [f"cancel {what}" for what in ["e", "d", "c1", "c0", "b2", "b1"]]
    assert ran.happened[6:] == [*undone, "and on", "cancel a"]


async def test_steps_in_doubt_are_undone_on_the_way_back():
    """With their outcome."""

    async def undo(outcome: StepOutcome[str]) -> None:
        LOG.append(f"cancel {outcome.status}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            point = s.savepoint()
            await s.step(book, "a", compensate=undo, compensate_on="start")
            try:
                await s.step(refuse, "b", compensate=undo, compensate_on="start")
            except Full:
                await s.rollback_to(point, "no")

    ran = await sweep(work)
    assert ran.undone == ["cancel failed", "cancel succeeded"]


# --- Pivot ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["an exception", "by hand", "a time limit"])
async def test_nothing_before_a_pivot_is_undone(how: str):
    """However the saga is rolled back; what comes after it is undone as ever."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.move_on_after(60), saga(ctx) as s:
            await book_all(s, "a")
            s.compensate(cancel, "by hand")
            async with saga(ctx) as inner:
                await book_all(inner, "inside")
            s.pivot()
            await book_all(s, "b c")
            if how == "an exception":
                raise Full("d")
            if how == "by hand":
                await s.rollback("no")
            await ctx.wait(3600)

    ran = await sweep(work, same_shape=False)
    assert ran.undone == ["cancel c", "cancel b"]


async def test_after_a_pivot_one_goes_on_until_it_succeeds():
    """Forward recovery: a step with a retry policy."""

    async def flaky(what: str) -> str:
        LOG.append(f"try {what}")
        if len(LOG) < 5:
            raise OSError(what)
        return what

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await book_all(s, "a")
            s.pivot()
            return await s.step(flaky, "to ship", retry=Retry(attempts=10))

    ran = await run(work)
    assert ran.result() == "to ship"
    assert ran.undone == []


async def test_a_pivot_in_an_inner_saga_is_the_inner_ones():
    """The outer one undoes what it has done itself, and what the inner one did after its pivot."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as outer:
            await book_all(outer, "a")
            async with saga(ctx) as inner:
                await book_all(inner, "b")
                inner.pivot()
                await book_all(inner, "c")
            raise Full("d")

    ran = await sweep(work)
    assert ran.undone == ["cancel c", "cancel a"]


async def test_a_pivot_with_nothing_after_it_leaves_nothing_to_roll_back():
    """No rollback is recorded; the error goes on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await book_all(s, "a")
            s.pivot()
            raise Full("b")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert len(ran.harness.calls) == 1


async def test_after_a_rollback_by_hand_there_are_no_savepoints():
    """The saga is over."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            point = s.savepoint()
            await book_all(s, "a")
            await s.rollback("no")
            with pytest.raises(SagaRolledBackError):
                await s.rollback_to(point, "no")
        return "done"

    assert (await sweep(work)).result() == "done"
