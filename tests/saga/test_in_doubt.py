"""`compensate_on="start"`: for effects that may have happened without a success (DESIGN section 4, rule 1)."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    InvalidNameError,
    Retry,
    SerializationError,
    StepInterruptedError,
    StepOutcome,
    StepTimeoutError,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import OperationStatus
from durable.testing import trio_schedule
from tests.harness import CrashError, Harness
from tests.saga.world import (
    LOG,
    Full,
    begin,
    book,
    book_slowly,
    cancel,
    crash_everywhere,
    refuse,
    refuse_slowly,
    run,
    sweep,
    take,
)

pytestmark = pytest.mark.anyio


async def undo(outcome: StepOutcome[Any]) -> None:
    """Tells what it was given."""
    LOG.append(f"cancel: {outcome.status} {outcome.value!r} {outcome.error!r}")


TWICE = Retry(attempts=2, initial_delay=5, jitter="none")


# --- What became of the step ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "options", "expected"),
    [
        (book, {}, "succeeded 'x' None"),
        (refuse, {}, "failed None Full('x')"),
        (refuse, {"retry": TWICE}, "failed None Full('x')"),
        (refuse, {"semantics": "at-most-once"}, "failed None Full('x')"),
    ],
    ids=["succeeds", "fails", "retries are used up", "at most once"],
)
async def test_the_outcome_of_a_step_that_has_one(step: Any, options: Any, expected: str):
    """The same after a crash anywhere; with at-most-once a crash in the middle of it is another outcome."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "first", compensate=cancel)
            await s.step(step, "x", compensate=undo, compensate_on="start", **options)
            raise KeyError("later")

    at_least_once = options.get("semantics") is None
    ran = await sweep(work, twice=not options, compare=at_least_once)
    assert ran.happened[-2:] == [f"cancel: {expected}", "cancel first"]
    if not at_least_once:
        for place, other in await crash_everywhere(work, compare=False):
            outcome = other.happened[-2]
            assert outcome in {f"cancel: {expected}", interrupted("refuse")}, place


def interrupted(step: str) -> str:
    return f"cancel: in doubt None {StepInterruptedError(step)!r}"


async def test_a_step_that_timed_out():
    """It has failed with that; what it was about to do may have happened."""

    async def forever(_: str) -> None:
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(forever, "x", timeout=0.01, compensate=undo, compensate_on="start", name="charge")
            raise KeyError("never")

    ran = await sweep(work)
    assert isinstance(ran.error(), StepTimeoutError)
    assert ran.happened == [f"cancel: failed None {StepTimeoutError('charge', 0.01)!r}"]


@pytest.mark.parametrize("retry", [None, TWICE], ids=["no retry", "retry"])
async def test_a_crash_in_an_at_most_once_step(retry: Retry | None):
    """In doubt, if that is its last attempt; another attempt may clear it up."""

    async def charge(what: str) -> str:
        LOG.append(f"charge {what}")
        if harness.invocations == 1:
            await harness.crash_now()
        return what

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(charge, "x", semantics="at-most-once", retry=retry, compensate=undo, compensate_on="start")
            raise KeyError("later")

    harness = Harness(work)
    begin(harness)
    with pytest.raises(CrashError):
        await harness.invoke()
    error = await harness.error()
    if retry is None:
        assert isinstance(error, StepInterruptedError)
        assert ["charge x", interrupted("charge")] == LOG
    else:
        assert isinstance(error, KeyError)
        assert LOG == ["charge x", "charge x", "cancel: succeeded 'x' None"]


async def test_a_result_that_cannot_be_recorded():
    """The effect has happened: what it is called with says why nothing more is known."""

    async def wrong() -> int:
        return "text"  # type: ignore[return-value]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(wrong, compensate=undo, compensate_on="start")

    ran = await sweep(work)
    assert isinstance(ran.error(), SerializationError)
    assert len(ran.happened) == 1
    assert ran.happened[0].startswith("cancel: failed None SerializationError(")


@dataclass
class Room:
    number: int


async def test_the_value_is_decoded_as_recorded():
    """As what other compensations get."""
    values: list[Any] = []

    async def reserve() -> Room:
        return Room(7)

    async def release(outcome: StepOutcome[Room]) -> None:
        values.append(outcome.value)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(reserve, compensate=release, compensate_on="start")
            raise Full("x")

    await sweep(work)
    assert values[0] == Room(7)
    assert all(value == Room(7) for value in values)


# --- Cancelled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doing", ["running", "waiting for a retry", "waiting in a child"])
async def test_a_step_that_was_cancelled_is_in_doubt(doing: str):
    """By a time limit, a sibling, a deadline: nobody knows; the same after a crash at any later call."""

    async def charge(what: str) -> str:
        if doing == "waiting for a retry":
            raise Full(what)
        await anyio.sleep_forever()
        return what

    async def subflow(ctx: DurableContext) -> None:
        await pay()

    async def pay() -> None:
        retry = Retry(attempts=9, initial_delay=300, max_delay=300, jitter="none")
        await current_saga().step(charge, "x", retry=retry, compensate=undo, compensate_on="start")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(60) as limit, saga(ctx) as s:
            await s.step(book, "first", compensate=cancel)
            await (ctx.child(subflow) if doing == "waiting in a child" else pay())
        return limit.expired

    whole = await run(work)
    assert whole.result() is True
    assert whole.log == ["book first", "cancel: in doubt None None", "cancel first"]
    began = next(i for i, call in enumerate(whole.harness.calls, 1) if "STEP START charge" in call)
    for place, ran in await crash_everywhere(work, compare=False):
        assert ran.result() is True, place
        expected = ["cancel: in doubt None None", "cancel first"]
        if not any(o.name == "charge" for o in ran.harness.operations()):
            expected = expected[1:]  # the time was over before it could begin
            assert int(place.split()[-1]) <= began
        assert [e for e in ran.happened if str(e).startswith("cancel")] == expected, place


async def test_a_sibling_that_fails_leaves_the_others_in_doubt(anyio_backend_name: str):
    """Each with its own outcome, undone in reverse of position, whoever was first; on trio in 30 ways."""

    async def succeeds(ctx: DurableContext) -> None:
        await current_saga().step(book, "ok", compensate=undo, compensate_on="start")

    async def hangs(ctx: DurableContext) -> None:
        await current_saga().step(book_slowly, "hangs", 3600, compensate=undo, compensate_on="start")

    async def fails(ctx: DurableContext) -> None:
        await current_saga().step(refuse_slowly, "there", 5, compensate=undo, compensate_on="start")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx), ctx.task_group() as tasks:
            for task in (fails, hangs, succeeds):
                tasks.start_soon(task)

    expected = ["cancel: succeeded 'ok' None", "cancel: in doubt None None", "cancel: failed None Full('there')"]
    for seed in range(30 if anyio_backend_name == "trio" else 1):
        with trio_schedule(seed):
            ran = await run(work)
        assert [e for e in ran.log if e.startswith("cancel")] == expected, f"seed {seed}"
    for place, ran in await crash_everywhere(work, compare=False):
        undone = [e for e in ran.happened if e.startswith("cancel")]
        assert set(undone) <= set(expected), place
        assert undone == [e for e in expected if e in undone], place
        assert expected[2] in undone, place


# --- Not registered, not run ---------------------------------------------------------------------------------


async def test_a_step_that_never_began_is_not_undone():
    """Refused, or stopped before it was recorded to have begun."""

    async def from_inside(s: Any) -> None:
        await s.step(book, "inside", compensate=undo, compensate_on="start")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with anyio.CancelScope() as scope:
            async with saga(ctx) as s:
                await s.step(book, "first", compensate=cancel)
                with pytest.raises(FrameMisuseError):
                    await ctx.step(from_inside, s)
                with pytest.raises(InvalidNameError):
                    await s.step(book, "x", compensate=undo, compensate_on="start", name="ö")
                scope.cancel()
                await s.step(book, "cancelled", compensate=undo, compensate_on="start")

    ran = await sweep(work)
    assert ran.log == ["book first", "cancel first"]


async def test_its_start_is_recorded_before_its_body_runs():
    """So that it is known after any crash that it may have begun."""

    async def charge() -> None:
        LOG.append(harness.calls[-1][-1])
        LOG.append(harness.operation("charge").status)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(charge, compensate=undo, compensate_on="start")

    harness = Harness(work)
    await harness.result()
    assert LOG == ["STEP START charge", OperationStatus.STARTED]


async def test_a_crash_in_the_middle_of_an_at_least_once_step_runs_it_again():
    """It is the attempt that counts then, with the same key; the compensation gets that one's outcome."""
    keys: list[tuple[str, int]] = []

    async def charge() -> str:
        keys.append((current_step().idempotency_key, current_step().attempt))
        if harness.invocations == 1:
            await harness.crash_now()
        return "charged"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(charge, compensate=undo, compensate_on="start")
            raise Full("later")

    harness = Harness(work)
    begin(harness)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert isinstance(await harness.error(), Full)
    assert keys == [keys[0], keys[0]]
    assert LOG == ["cancel: succeeded 'charged' None"]


async def test_a_late_result_of_a_step_that_was_undone_is_refused():
    """A thread cannot be stopped: what it comes back with is not recorded, and changes nothing."""
    go_on, came_back = threading.Event(), threading.Event()

    def charge(what: str) -> str:
        go_on.wait(10)
        came_back.set()
        return what

    async def undo_and_let_it_come(outcome: StepOutcome[str]) -> None:
        await undo(outcome)
        go_on.set()
        await anyio.to_thread.run_sync(came_back.wait, 10)
        await take(5)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(charge, "x", timeout=0.01, compensate=undo_and_let_it_come, compensate_on="start")

    ran = await run(work)
    assert isinstance(ran.error(), StepTimeoutError)
    assert ran.log == [f"cancel: failed None {StepTimeoutError('charge', 0.01)!r}"]
    assert ran.harness.operation("charge").status is OperationStatus.FAILED
    assert [call for call in ran.harness.calls if "STEP SUCCEED charge" in call] == []


async def test_an_outer_sagas_step_refused_by_an_inner_rollback_is_in_doubt():
    """It is not that it failed with what the inner saga failed with: on replay it was not even tried."""

    async def hangs() -> None:
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            async with ctx.move_on_after(60), saga(ctx, "inner") as inner:
                await inner.step(book, "a", compensate=cancel)
                await outer.step(hangs, compensate=undo, compensate_on="start")
            raise Full("later")

    whole = await run(work)
    assert whole.log == ["book a", "cancel a", "cancel: in doubt None None"]
    for place, ran in await crash_everywhere(work, compare=False):
        assert "cancel: failed" not in str(ran.log), place
        assert isinstance(ran.error(), Full)
