"""`ctx.now()`: the time, recorded without a call of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    NonDeterminismError,
    OperationBudgetError,
    Retry,
    SuspendedError,
    current_context,
    durable_execution,
    saga,
)
from durable._kernel.ids import operation_id
from durable._wire import (
    InvocationStatus,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
)
from tests.harness import CrashError, Harness
from tests.scripted import ScriptedService

pytestmark = pytest.mark.anyio

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


async def book(what: str = "book") -> str:
    LOG.append(what)
    return what


async def forever() -> None:
    await anyio.sleep_forever()


def instant(harness: Harness | ScriptedService) -> datetime:
    """What the service's clock says."""
    return datetime.fromtimestamp(harness.clock.now() / 1000, UTC)


async def test_it_is_the_services_time_and_costs_no_call_of_its_own():
    """An aware datetime; START and SUCCEED leave together with the step that follows."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> datetime:
        time = ctx.now()
        await ctx.step(book)
        return time

    harness = Harness(work)
    expected = instant(harness)
    time = await harness.result()
    assert time == expected
    assert time.utcoffset() == timedelta(0)
    assert harness.calls == [["STEP START now", "STEP SUCCEED now", "STEP START book", "STEP SUCCEED book"]]


async def test_it_is_the_same_on_every_replay_and_later_ones_are_later():
    """What is recorded is given again; a new one asks the clock."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[datetime]:
        times = [ctx.now()]
        for _ in range(2):
            await ctx.wait(3600)
            times.append(ctx.now())
        LOG.append(list(times))
        return times

    harness = Harness(work)
    times = await harness.result()
    assert [time - times[0] for time in times] == [timedelta(0), timedelta(hours=1), timedelta(hours=2)]
    assert harness.invocations == 3


async def test_the_last_one_is_recorded_before_the_function_has_ended():
    """There is no next call for it to leave with, so it has one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> datetime:
        return ctx.now()

    harness = Harness(work)
    await harness.result()
    assert harness.calls == [["STEP START now", "STEP SUCCEED now"]]


async def test_a_crash_before_it_was_sent_has_the_clock_asked_again():
    """Nothing that counts depends on the first time: whatever was recorded, it was recorded with it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[datetime]:
        first = ctx.now()
        LOG.append(first)
        if len(LOG) == 1:
            await harness.crash_now()
        await ctx.step(book)
        if len(LOG) == 3:
            await harness.crash_now()
        return [first, ctx.now()]

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 5_000)
    with pytest.raises(CrashError):
        await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 5_000)
    times = await harness.result()
    assert LOG[1] - LOG[0] == timedelta(seconds=5)
    assert LOG[3] == LOG[1] == times[0]
    assert times[1] - times[0] == timedelta(seconds=5)


async def test_one_whose_end_was_cut_off_from_its_start_is_ended():
    """A call can be full between the two; then the clock is asked again, and there is no second START."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> datetime:
        time = ctx.now()
        await ctx.step(book)
        return time

    service = ScriptedService(work)
    service._apply(
        OperationUpdate(
            id=operation_id(None, 1),
            type=OperationType.STEP,
            action=OperationAction.START,
            name="now",
            sub_type=SubType.STEP,
        )
    )
    await service.clock.sleep_until(service.clock.now() + 1_000)
    assert await service.result() == instant(service)
    assert service.calls == [["STEP SUCCEED now", "STEP START book", "STEP SUCCEED book"]]


async def test_a_service_that_repeats_nothing_is_enough():
    """What was assumed stays as it was assumed."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> datetime:
        time = ctx.now()
        await ctx.step(book)
        return time

    service = ScriptedService(work)
    service.repeats = False
    assert await service.result() == instant(service)
    details = service.operation("now").step_details
    assert details is not None
    assert details.attempt == 1


# --- Determinism ---------------------------------------------------------------------------------------------


async def takes_the_time(ctx: DurableContext) -> None:
    ctx.now()


async def takes_a_step(ctx: DurableContext) -> None:
    await ctx.step(book, name="now it is a step")


async def waits(ctx: DurableContext) -> None:
    await ctx.wait(5, name="now")


async def retries(ctx: DurableContext) -> None:
    async def fails() -> None:
        raise ValueError

    await ctx.step(fails, name="now", retry=Retry(jitter="none"))


@pytest.mark.parametrize(
    ("before", "after", "expected", "found"),
    [
        (takes_a_step, takes_the_time, "Step 'now it is a step'", "Step 'now'"),
        (takes_the_time, takes_a_step, "Step 'now'", "Step 'now it is a step'"),
        (waits, takes_the_time, "Wait 'now'", "Step 'now'"),
        (retries, takes_the_time, "Step 'now'", "Step 'now'"),
    ],
)
async def test_changed_code_ends_the_invocation_past_the_users_handlers(before, after, expected, found):
    """Nothing is recorded, and what the code does up to its next `await` does not count."""
    code = [before]
    caught: list[Exception] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await code[0](ctx)
            await ctx.wait(60)
            await ctx.step(book, "later")
        except Exception as error:
            caught.append(error)
        return "done"

    harness = Harness(work)
    await harness.invoke()
    calls = list(harness.calls)
    code[0] = after
    with pytest.raises(NonDeterminismError, match=r"test_moment\.py") as raised:
        await harness.invoke()
    assert (raised.value.expected, raised.value.found) == (expected, found)
    assert caught == []
    assert harness.calls == calls


async def test_changed_code_without_another_await_does_not_succeed_either():
    """The function returns, and the answer is not its result."""
    code = [takes_a_step]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        await code[0](ctx)
        if code[0] is takes_a_step:
            await ctx.wait(5)
        return "done"

    harness = Harness(work)
    await harness.invoke()
    code[0] = takes_the_time
    with pytest.raises(NonDeterminismError):
        await harness.invoke()


async def test_a_finished_context_takes_no_new_one():
    """A child that is only rebuilt may not record anything."""
    longer = [False]

    async def large(ctx: DurableContext) -> str:
        await ctx.step(book)
        if longer[0]:
            ctx.now()
        return "x" * 300_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result = await ctx.child(large)
        await ctx.wait(5)
        return len(result)

    harness = Harness(work)
    await harness.invoke()
    longer[0] = True
    with pytest.raises(NonDeterminismError, match="nothing more in this finished context"):
        await harness.invoke()
    longer[0] = False
    assert await harness.result() == 300_000


async def test_one_that_is_gone_at_the_end_is_noticed():
    """It has a position like any operation."""
    code = [takes_the_time]

    async def nothing(ctx: DurableContext) -> None: ...

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait(5)
        await code[0](ctx)
        if code[0] is takes_the_time:
            await ctx.wait(5)

    harness = Harness(work)
    await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 5_000)
    await harness.invoke()
    code[0] = nothing
    with pytest.raises(NonDeterminismError, match="expected Step 'now'"):
        await harness.invoke()


# --- Where the code is being left ----------------------------------------------------------------------------


async def test_in_a_finally_at_a_suspension_it_records_nothing():
    """The clock is asked, for a message perhaps; where the block really ends it is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait(60)
        finally:
            LOG.append(ctx.now())

    harness = Harness(work)
    await harness.invoke()
    assert [instant(harness)] == LOG
    assert harness.calls == [["WAIT START None"]]
    await harness.result()
    assert LOG[-1] - LOG[0] == timedelta(minutes=1)
    assert harness.calls[1:] == [["STEP START now", "STEP SUCCEED now"]]


async def test_under_a_shield_at_a_suspension_it_is_refused():
    """Code that goes on there would go on with a time that nobody will see again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait(60)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                try:
                    ctx.now()
                except SuspendedError as error:
                    LOG.append(error)

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert "Step 'now' was called under a shielded cancel scope" in str(LOG[0])


async def test_in_a_block_that_was_stopped_it_records_nothing():
    """A cancelled block comes no further than its next `await`, live and on replay."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.move_on_after(5):
            try:
                await ctx.step(forever)
            finally:
                ctx.now()
                await ctx.step(book, "too late")
        await ctx.wait(60)
        return await ctx.step(book)

    harness = Harness(work)
    assert await harness.result() == "book"
    assert LOG == ["book"]
    assert [operation.name for operation in harness.operations()] == [
        "move_on_after",
        "forever",
        "move_on_after outcome",
        None,
        "book",
    ]


async def test_shielded_in_a_block_that_was_stopped_it_is_recorded():
    """As any operation there: what a user shields from his own cancellation goes on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.move_on_after(5):
            try:
                await ctx.step(forever)
            finally:
                with anyio.CancelScope(shield=True):
                    LOG.append(ctx.now())
                    await anyio.lowlevel.checkpoint()
        await ctx.wait(60)
        return "done"

    harness = Harness(work)
    assert await harness.result() == "done"
    assert harness.invocations > 1
    assert len(set(LOG)) == 1
    assert harness.operation("now").status is OperationStatus.SUCCEEDED


async def test_a_compensation_in_a_branch_that_was_cancelled_takes_the_time():
    """A rollback goes on where its branch does not; a crash in the middle gives the same time again."""

    async def cancel(what: str) -> None:
        LOG.append(current_context().now())
        if len(LOG) == 1:
            await current_context().step(book, "noted")
            LOG.append("crash")
            await harness.crash_now()

    async def slow(ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(str, "flight", compensate=cancel)
            await ctx.wait(3600)
        return "slow"

    async def fast(ctx: DurableContext) -> str:
        await ctx.wait(5)
        return "won"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return (await ctx.race(slow, fast)).result

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.outcome()
    await harness.clock.sleep_until(harness.clock.now() + 60_000)
    assert await harness.result() == "won"
    assert LOG[0] == LOG[3]
    assert LOG[1:3] == ["noted", "crash"]


async def test_in_a_saga_that_is_rolling_back_it_raises_what_was_recorded():
    """Code that gets past the point where it failed does nothing new."""

    async def cancel(what: str) -> None:
        LOG.append("cancel")
        if LOG.count("cancel") == 1:
            await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, compensate=cancel)
            if "cancel" not in LOG:
                raise KeyError("first")
            ctx.now()
            LOG.append("went on")

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert isinstance(await harness.error(), KeyError)
    assert LOG == ["book", "cancel", "cancel"]


# --- Where it may be called ----------------------------------------------------------------------------------


async def test_it_is_for_the_code_between_operations():
    """Not for the inside of a step, nor for another task."""

    async def inside() -> None:
        with pytest.raises(FrameMisuseError, match="Step 'now' was called on a context while step 'inside'"):
            current_context().now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(inside)

        async def elsewhere() -> None:
            with pytest.raises(FrameMisuseError, match="Step 'now' was called from another task"):
                ctx.now()
            LOG.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(elsewhere)

    await Harness(work).result()
    assert LOG == ["refused"]


async def test_each_context_has_its_own():
    """Children and branches record theirs under themselves, and replay them."""

    async def child(ctx: DurableContext, number: int) -> list[datetime]:
        first = ctx.now()
        await ctx.wait(10 * number)
        return [first, ctx.now()]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[list[datetime]]:
        nested = await ctx.map(child, [1, 2])
        flat = await ctx.map(child, [1, 2], nesting="flat", name="flat")
        return [item for result in (nested, flat) for item in result.results()]

    harness = Harness(work)
    began = instant(harness)
    times = await harness.result()
    assert [[(time - began).seconds for time in pair] for pair in times] == [[0, 10], [0, 20], [20, 30], [20, 40]]


async def test_it_counts_as_an_operation_of_a_saga():
    """Where there is no room for it beside the rollback, the saga fails while it can be undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, compensate=book)
            for _ in range(20):
                ctx.now()

    harness = Harness(work)
    harness.client.max_operations = 15
    error = await harness.error()
    assert isinstance(error, OperationBudgetError)
    assert LOG == ["book", "book"]
