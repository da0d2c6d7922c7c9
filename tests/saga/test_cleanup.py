"""Cleaning up: once, at the logical end of the block, whatever the outcome (DESIGN section 4, rule 9)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from durable import (
    CleanupError,
    CompensationError,
    DurableContext,
    Retry,
    SagaCancelledError,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import OperationStatus
from tests.harness import Harness
from tests.saga.world import (
    LOG,
    Full,
    answer,
    book,
    cancel,
    cannot_cancel,
    note,
    refuse,
    run,
    sweep,
    tidy,
)

pytestmark = pytest.mark.anyio


async def cannot_tidy(what: str) -> None:
    LOG.append(f"try to tidy {what}")
    raise Full(f"cannot tidy {what}")


HOW = [
    "normally",
    "by an exception",
    "by hand",
    "with an error",
    "by a time limit",
    "by a request",
    "by its deadline",
]


@pytest.mark.parametrize("how", HOW)
async def test_cleanups_are_run_last_first_after_any_compensations(how: str):
    """However the block ends; a crash makes at most one of them run again, and none a second time to its end."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        interruptible: dict[str, Any] = {"by a request": {"cancellable": True}, "by its deadline": {"deadline": 60}}
        async with ctx.move_on_after(60), saga(ctx, "trip", **interruptible.get(how, {})) as s:
            s.cleanup(tidy, "1")
            await s.step(book, "a", compensate=cancel)
            s.cleanup(tidy, "2")
            await s.step(book, "b", compensate=cannot_cancel if how == "with an error" else cancel)
            s.cleanup(tidy, "3")
            if how in {"by an exception", "with an error"}:
                await s.step(refuse, "c")
            if how == "by hand":
                await s.rollback("no")
                await ctx.step(note, "after it")
            if how.startswith("by a "):
                await ctx.wait(3600)
            if how == "by its deadline":
                await ctx.wait(59)
                await ctx.wait(59)

    async def world(harness: Harness) -> None:
        if how == "by a request":
            await answer(harness, "cancel trip", None)

    ran = await sweep(work, world=world, same_shape=False, twice=how in {"normally", "by an exception"})
    tidied = ["tidy 3", "tidy 2", "tidy 1"]
    assert ran.happened[-3:] == tidied
    undone = ["try to cancel b", "cancel a"] if how == "with an error" else ["cancel b", "cancel a"]
    assert ran.undone == ([] if how == "normally" else undone)
    ends = [o for o in ran.harness.operations() if o.sub_type == "Cleanup"]
    assert [o.status for o in ends] == [OperationStatus.SUCCEEDED] * 3


async def test_the_records_of_cleanups():
    """Each is a context of its own, named after its function or as one likes, beside the other operations."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            s.cleanup(tidy, "1")
            s.cleanup(tidy, "2", name="second")

    ran = await run(work)
    assert ran.harness.calls == [
        ["CONTEXT START second"],
        ["CONTEXT SUCCEED second", "CONTEXT START tidy"],
        ["CONTEXT SUCCEED tidy"],
    ]
    assert {o.parent_id for o in ran.harness.operations()} == {None}


# --- Cleanups that fail --------------------------------------------------------------------------------------


async def test_after_a_success_what_cleanups_raise_comes_out():
    """All of it; each is run, whatever became of the others; what the saga did stands."""
    seen: set[str] = set()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=cancel)
                s.cleanup(tidy, "1")
                s.cleanup(cannot_tidy, "2")
                s.cleanup(cannot_tidy, "3")
        except CleanupError as error:
            seen.add(f"{error} {error.exceptions!r}")
            await ctx.wait(5)
            raise

    ran = await sweep(work)
    assert isinstance(ran.error(), CleanupError)
    assert ran.log == ["book a", "try to tidy 3", "try to tidy 2", "tidy 1"]
    assert seen == {
        "cleaning up after saga 'trip' failed (2 sub-exceptions) (Full('cannot tidy 3'), Full('cannot tidy 2'))"
    }


@pytest.mark.parametrize("undone", [True, False])
async def test_after_a_failure_what_cleanups_raise_is_noted(undone: bool):
    """The error that matters stays the one that comes out."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel if undone else cannot_cancel, name="a")
            s.cleanup(cannot_tidy, "1")
            raise Full("b")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, Full if undone else CompensationError)
    noted = "cleaning up after saga 'trip' failed: Full: cannot tidy 1"
    assert error.__notes__ == [*(["saga 'trip' was rolled back; undone: a"] if undone else []), noted]


async def test_under_a_cancellation_what_cleanups_raise_is_in_the_records():
    """The cancellation goes on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(60) as limit, saga(ctx) as s:
            s.cleanup(cannot_tidy, "1")
            await ctx.wait(3600)
        return limit.expired

    ran = await sweep(work)
    assert ran.result() is True
    (cleanup,) = (o for o in ran.harness.operations() if o.sub_type == "Cleanup")
    assert cleanup.error is not None
    assert cleanup.error.error_message == "cannot tidy 1"


# --- What they may do ----------------------------------------------------------------------------------------


async def test_cleanups_may_use_durable_operations_and_are_retried():
    """As compensations: by the saga's policy, or their own; an idempotency key tells their repeats."""
    keys: set[str] = set()

    async def carefully(what: str) -> None:
        info = current_step()
        keys.add(info.idempotency_key)
        await current_context().wait(5)
        await current_context().step(note, f"{what}, attempt {info.attempt}")
        if info.attempt < 3:
            raise OSError(what)

    async def forever() -> None:
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=2), timeout=60) as s:
            s.cleanup(tidy, "1")
            s.cleanup(forever, timeout=0.01, retry=Retry(attempts=1))
            s.cleanup(carefully, "2", retry=Retry(attempts=3))

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CleanupError)
    assert isinstance(error.exceptions[0], TimeoutError)
    assert ran.log == ["2, attempt 1", "2, attempt 2", "2, attempt 3", "tidy 1"]
    assert len(keys) == 1


async def test_a_cleanup_has_a_context_of_its_own_and_no_saga():
    """What it calls on the saga's, or registers, would be lost."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def with_the_sagas_context() -> None:
            await ctx.step(book, "late")

        async def with_the_saga() -> None:
            with pytest.raises(LookupError):
                current_saga()
            s.cleanup(tidy, "late")

        async with saga(ctx) as s:
            s.cleanup(with_the_sagas_context)
            s.cleanup(with_the_saga)

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CleanupError)
    assert [type(one).__name__ for one in error.exceptions] == ["RuntimeError", "FrameMisuseError"]
    assert ran.log == []


async def test_cleanups_from_children_and_branches():
    """Known again on replay, as what they registered to be undone; run in reverse of their positions."""

    async def subflow(ctx: DurableContext) -> None:
        await current_saga().step(book, "child", compensate=cancel)
        current_saga().cleanup(tidy, "child")

    async def item(ctx: DurableContext, number: int) -> None:
        current_saga().cleanup(tidy, f"item {number}")
        await ctx.wait(10 - number)

    @durable_execution
    async def work(event: bool, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            s.cleanup(tidy, "first")
            await ctx.child(subflow)
            await ctx.map(item, range(2))
            await ctx.wait(60)
            s.cleanup(tidy, "last")
            if event:
                raise Full("x")

    expected = ["tidy last", "tidy item 1", "tidy item 0", "tidy child", "tidy first"]
    assert (await sweep(work, False)).happened == ["book child", *expected]
    assert (await sweep(work, True)).happened == ["book child", "cancel child", *expected]


async def test_an_inner_sagas_cleanups_are_run_at_its_own_end():
    """Its compensations go to the outer one, and may be run long after that."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as outer:
            outer.cleanup(tidy, "outer")
            async with saga(ctx) as inner:
                inner.cleanup(tidy, "inner")
                await inner.step(book, "a", compensate=cancel)
            await ctx.step(note, "between")
            raise Full("x")

    ran = await sweep(work, twice=True)
    assert ran.happened == ["book a", "tidy inner", "between", "cancel a", "tidy outer"]


async def test_a_saga_that_was_cancelled_is_cleaned_up_on_its_replay_too():
    """A crash between the rollback and the cleanup; the code that cancelled it is gone, the decision is not."""
    cancelling = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with anyio.CancelScope() as scope:
            async with saga(ctx) as s:
                s.cleanup(tidy, "x")
                await s.step(book, "a", compensate=cancel)
                if cancelling[0]:
                    scope.cancel()
                await ctx.step(book, "b")

    harness = Harness(work)

    def crash(number: int) -> None:
        if number == 3:
            cancelling[0] = False
            raise RuntimeError("crash")

    harness.client.after = crash
    with pytest.raises(RuntimeError, match="crash"):
        await harness.invoke()
    harness.client.after = lambda _: None
    assert isinstance(await harness.error(), SagaCancelledError)
    assert LOG == ["book a", "cancel a", "tidy x"]
