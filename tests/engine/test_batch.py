"""`ctx.batch()`: successes are recorded later, many in a call; what waits for them, and what a crash does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    Retry,
    ServiceError,
    StepInterruptedError,
    StepOutcome,
    current_context,
    durable_execution,
    saga,
)
from durable._engine import journal as journal_module
from durable._kernel import batch as batch_module
from durable._wire import InvocationStatus, OperationStatus
from durable._wire.calls import CheckpointDurableExecutionResponse
from tests.engine.test_journal import Between, put_between
from tests.harness import CrashError, Harness
from tests.scripted import ScriptedService

pytestmark = pytest.mark.anyio

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


async def book(n: int = 0) -> int:
    LOG.append(n)
    return n


def recorded(harness: Harness) -> set[str | None]:
    """What the service has as done."""
    return {one.name for one in harness.operations() if one.status is OperationStatus.SUCCEEDED}


def flat(calls: list[list[str]]) -> list[str]:
    return [update for call in calls for update in call]


# --- What it is for ------------------------------------------------------------------------------------------


async def test_a_hundred_small_steps_cost_at_most_five_calls():
    """In order, and each recorded as it always is; outside of the block each waits again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            total = sum([await ctx.step(book, n, name=f"s{n}") for n in range(100)])
        calls.append(len(harness.calls))
        return total + await ctx.step(book, 1) + await ctx.step(book, 2)

    calls: list[int] = []
    harness = Harness(work)
    assert await harness.result() == 4953
    assert calls[0] <= 5
    assert len(harness.calls) == calls[0] + 2
    expected = [f"STEP {action} s{n}" for n in range(100) for action in ("START", "SUCCEED")]
    assert flat(harness.calls)[:200] == expected


async def test_what_is_replayed_of_it_is_what_any_replay_is():
    """A batch takes no position and records nothing; it can be put around what is recorded, and be taken away."""
    batched = [False]

    async def steps(ctx: DurableContext) -> list[int]:
        return [await ctx.step(book, n) for n in range(3)]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        if batched[0]:
            async with ctx.batch():
                results = await steps(ctx)
        else:
            results = await steps(ctx)
        await ctx.wait(5)
        batched[0] = not batched[0]
        await ctx.wait(5)
        return results

    harness = Harness(work)
    assert await harness.result() == [0, 1, 2]
    assert LOG == [0, 1, 2]


async def test_children_and_branches_begun_inside_are_part_of_it():
    """Their contexts and steps share the calls."""

    async def item(ctx: DurableContext, n: int) -> int:
        return await ctx.step(book, n) + await ctx.step(book, n)

    async def child(ctx: DurableContext) -> int:
        return sum((await ctx.map(item, range(10))).results())

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            total = await ctx.child(child)
            async with ctx.task_group() as tg:
                tasks = [tg.start_soon(item, n) for n in range(10)]
            total += sum(task.result() for task in tasks)
        assert len(harness.calls) <= 5
        return total

    harness = Harness(work)
    assert await harness.result() == 180
    assert len(harness.operations()) == 2 + 10 * 3 + 10 * 3


async def test_a_task_of_a_group_around_it_is_not_part_of_it():
    """It is begun inside, and goes on after it: it belongs to what is around the group."""

    async def task(ctx: DurableContext) -> set[str | None]:
        await ctx.step(book, 1, name="outer task")
        return recorded(harness)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | None]:
        async with ctx.task_group() as tg, ctx.batch():
            handle = tg.start_soon(task)
            await ctx.step(book, 2)
        return sorted(handle.result(), key=str)

    harness = Harness(work)
    assert "outer task" in await harness.result()


async def test_a_large_batch_is_sent_in_full_calls():
    """No more is queued than fills one, and no call is sent half empty."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            for n in range(1_000):
                await ctx.step(book, n, name=f"s{n}")
        return len(LOG)

    harness = Harness(work)
    assert await harness.result() == 1_000
    assert [len(call) for call in harness.calls] == [250] * 8


async def test_large_results_fill_a_call_sooner():
    """By bytes: what is held back is bounded."""

    async def large(n: int) -> str:
        LOG.append(len(harness.calls))
        return "x" * 300_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch():
            for n in range(9):
                await ctx.step(large, n)

    harness = Harness(work)
    await harness.result()
    assert max(LOG) >= 3
    assert all(sum(len(update.payload or "") for update in call) <= 750_000 for call in harness.client.calls)


async def test_what_lags_does_not_linger_for_ever(monkeypatch):
    """A long step inside the block: what came before it is recorded meanwhile."""
    monkeypatch.setattr(journal_module, "BATCH_LINGER", 0)

    async def long() -> int:
        while "s0" not in recorded(harness):
            await anyio.lowlevel.checkpoint()
        return 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            return await ctx.step(book, 0, name="s0") + await ctx.step(long)

    harness = Harness(work)
    with anyio.fail_after(30):
        assert await harness.result() == 1


async def test_after_it_things_linger_as_short_as_before(monkeypatch):
    """The block's end wakes whoever waits for company: the START of a long step after it is seen soon."""
    monkeypatch.setattr(journal_module, "BATCH_LINGER", 3600)
    monkeypatch.setattr(journal_module, "LINGER", 0)

    async def long() -> None:
        while all(one.name != "long" for one in harness.operations()):
            await anyio.lowlevel.checkpoint()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch():
            await ctx.step(book)
            await anyio.wait_all_tasks_blocked()
        await ctx.step(long)

    harness = Harness(work)
    with anyio.fail_after(30):
        await harness.result()


async def test_what_is_recorded_is_what_is_recorded_without_it():
    """The same operations, with the same outcomes and attempts, below the same contexts; only in fewer calls."""

    async def item(ctx: DurableContext, n: int) -> int:
        ctx.now()
        return await ctx.step(book, n) + (await ctx.child(child, n))

    async def child(ctx: DurableContext, n: int) -> int:
        async with ctx.move_on_after(60):
            n += await ctx.step(book, n)
        return n

    async def program(ctx: DurableContext) -> list[int]:
        async with saga(ctx) as s:
            first = await s.step(book, 1, compensate=book)
            results = (await ctx.map(item, range(3))).results()
            results += (await ctx.map(item, range(3), nesting="flat", name="flat")).results()
            await ctx.wait(5)
            results.append(await ctx.wait_for_condition(book, 3, until=bool))
        return [first, *results]

    @durable_execution
    async def plain(event: None, ctx: DurableContext) -> list[int]:
        return await program(ctx)

    @durable_execution
    async def batched(event: None, ctx: DurableContext) -> list[int]:
        async with ctx.batch():
            return await program(ctx)

    def told(harness: Harness) -> dict[str, tuple[Any, ...]]:
        return {
            one.id: (
                one.name,
                one.sub_type,
                one.parent_id,
                one.status,
                one.name == "now" or one.result,
                one.step_details and one.step_details.attempt,
            )
            for one in harness.operations()
        }

    one, other = Harness(plain), Harness(batched)
    assert await one.result() == await other.result()
    assert told(one) == told(other)
    assert len(other.calls) < len(one.calls)


# --- What waits ----------------------------------------------------------------------------------------------


async def seen(*_: object) -> list[str]:
    """What is recorded when this runs."""
    LOG.append(recorded(current_harness[0]))
    return []


current_harness: list[Harness] = []


def seen_plainly(outcome: object) -> None:
    LOG.append(recorded(current_harness[0]))


async def fails() -> None:
    raise ValueError("no")


async def at_most_once(ctx: DurableContext) -> None:
    await ctx.step(seen, semantics="at-most-once")


async def after_at_most_once(ctx: DurableContext) -> None:
    await ctx.step(book, name="s0 too", semantics="at-most-once")
    assert "s0 too" in recorded(current_harness[0])
    await seen()


async def in_doubt(ctx: DurableContext) -> None:
    async with saga(ctx) as s:
        await s.step(seen, compensate=seen_plainly, compensate_on="start")


async def waiting(ctx: DurableContext) -> None:
    await ctx.wait(5)
    await seen()


async def creating_a_callback(ctx: DurableContext) -> None:
    await ctx.create_callback()
    await seen()


async def failing(ctx: DurableContext) -> None:
    with pytest.raises(ValueError, match="no"):
        await ctx.step(fails)
    await seen()


async def failing_in_a_child(ctx: DurableContext) -> None:
    async def child(ctx: DurableContext) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await ctx.child(child)
    await seen()


async def rolling_back(ctx: DurableContext) -> None:
    async def undo(n: int) -> None:
        await seen()

    with pytest.raises(ValueError, match="no"):
        async with saga(ctx) as s:
            await s.step(book, name="s0 again", compensate=undo)
            raise ValueError("no")
    assert "s0 again" in LOG[-1]


async def rolling_back_by_hand(ctx: DurableContext) -> None:
    async def undo(n: int) -> None:
        await seen()

    async with saga(ctx) as s:
        await s.step(book, compensate=undo)
        await s.rollback("no")


async def a_time_limit(ctx: DurableContext) -> None:
    async with ctx.move_on_after(60):
        await seen()


async def the_end_of_an_inner_one(ctx: DurableContext) -> None:
    async with ctx.batch():
        pass
    await seen()


async def the_users_cancellation(ctx: DurableContext) -> None:
    with anyio.CancelScope() as scope:
        async with ctx.batch():
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    await seen()


BARRIERS: list[Callable[[DurableContext], Awaitable[None]]] = [
    at_most_once,
    after_at_most_once,
    in_doubt,
    waiting,
    creating_a_callback,
    failing,
    failing_in_a_child,
    rolling_back,
    rolling_back_by_hand,
    a_time_limit,
    the_end_of_an_inner_one,
    the_users_cancellation,
]


@pytest.mark.parametrize("barrier", BARRIERS, ids=[barrier.__name__ for barrier in BARRIERS])
async def test_what_waits_for_all_that_came_before(barrier):
    """When it takes effect, or the code goes on after it, all that was done before is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch():
            await ctx.step(book, 0, name="s0")
            LOG.clear()
            await barrier(ctx)
            await ctx.step(book, 1, name="s1")

    harness = Harness(work)
    current_harness[:] = [harness]
    await harness.result()
    told = [entry for entry in LOG if isinstance(entry, set)]
    assert told
    assert all("s0" in entry for entry in told)


async def test_an_ordinary_step_does_not_wait():
    """Or none of these tests would say anything."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch():
            await ctx.step(book, 0, name="s0")
            await ctx.step(seen)

    harness = Harness(work)
    current_harness[:] = [harness]
    await harness.result()
    assert [0, set()] == LOG


@pytest.mark.parametrize("how", ["returns", "raises"])
async def test_the_functions_end_waits(how: str):
    """Nothing is answered before everything is recorded, also where the code is left from inside of the block."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.batch():
            await ctx.step(book, 0, name="s0")
            if how == "raises":
                raise KeyError(how)
            return how

    harness = Harness(work)
    output = await harness.invoke()
    assert output.status is (InvocationStatus.SUCCEEDED if how == "returns" else InvocationStatus.FAILED)
    assert recorded(harness) == {"s0"}


async def test_a_branch_that_parks_while_others_run_waits_as_well():
    """What its batch has done is recorded before it waits, however long the others take."""

    async def parks(ctx: DurableContext) -> None:
        callback = await ctx.create_callback(name="c")
        async with ctx.batch():
            await ctx.step(book, 0, name="s0")
            LOG.append("parks")
            await callback.result()

    async def looks(ctx: DurableContext) -> None:
        while "parks" not in LOG:
            await anyio.lowlevel.checkpoint()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        LOG.append(service.operation("s0").status)
        service.end("c")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([parks, looks])

    service = ScriptedService(work)
    await service.result()
    assert LOG[:3] == [0, "parks", OperationStatus.SUCCEEDED]


async def test_an_attempt_that_failed_is_recorded_with_all_before_it():
    """Its delay is the service's business, and counts from then."""

    async def flaky() -> None:
        if harness.invocations == 1:
            raise ValueError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch():
            await ctx.step(book, name="s0")
            await ctx.step(flaky, retry=Retry(jitter="none"))

    harness = Harness(work)
    await harness.invoke()
    assert harness.calls == [["STEP START s0", "STEP SUCCEED s0", "STEP START flaky", "STEP RETRY flaky"]]
    await harness.result()


async def test_compensations_are_not_batched():
    """The saga's rollback is recorded one after another, whatever is around it."""

    async def undo(n: int) -> None:
        ctx = current_context()
        await ctx.step(book, 10 + n, name=f"undo {n}")
        LOG.append(f"undo {n}" in recorded(harness))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch(), saga(ctx) as s:
            for n in range(2):
                await s.step(book, n, compensate=undo)
            raise KeyError("no")

    harness = Harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert LOG == [0, 1, 11, True, 10, True]


# --- A crash -------------------------------------------------------------------------------------------------


async def test_what_was_not_recorded_runs_again_and_what_was_does_not():
    """A crash loses an end of what has happened, never something out of the middle."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        await ctx.step(book, 0)
        async with ctx.batch():
            for n in range(1, 5):
                await ctx.step(book, n)
            if harness.invocations == 1:
                await harness.crash_now()
        return len(LOG)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert await harness.result() == 9
    assert LOG == [0, 1, 2, 3, 4, 1, 2, 3, 4]


async def charge(n: int) -> int:
    LOG.append(f"charge {n}")
    return n


@durable_execution
async def booking(event: None, ctx: DurableContext) -> None:
    """A saga of everything, in one batch, that fails at its end."""

    async def item(ctx: DurableContext, n: int) -> int:
        return await step(n)

    async with ctx.batch(), saga(ctx, "booking") as s:

        def step(n: int) -> Awaitable[int]:
            return s.step(do, n, name=f"s{n}", compensate=undo)

        for n in range(3):
            await step(n)
        await ctx.map(item, [3, 4], max_concurrency=1)
        try:
            await ctx.step(do_fail)
        except ValueError:
            await step(5)
        await s.step(do, 6, name="s6", compensate=undo_in_doubt, compensate_on="start", semantics="at-most-once")
        await ctx.wait(5)
        await step(7)
        ctx.now()
        await step(8)
        raise KeyError("no")


async def do(n: int) -> int:
    await crash_point(f"do {n}")
    return n


async def do_fail() -> None:
    await crash_point("do fail")
    raise ValueError


async def undo(n: int) -> None:
    assert f"s{n}" in recorded(current_harness[0]), f"s{n} is undone, and it is not recorded that it was done"
    await crash_point(f"undo {n}")


async def undo_in_doubt(outcome: StepOutcome[int]) -> None:
    await crash_point("undo 6")


points: list[int] = []


async def crash_point(what: str) -> None:
    LOG.append(what)
    points[0] -= 1
    if not points[0]:
        LOG.append("crash")
        LOG.append(recorded(current_harness[0]))
        await current_harness[0].crash_now()


WHOLE = [*(f"do {n}" for n in range(5)), "do fail", *(f"do {n}" for n in range(5, 9))]


@pytest.mark.parametrize("at", ["before a call", "after a call", "between calls"])
async def test_a_saga_in_a_batch_survives_a_crash_anywhere(at, monkeypatch):
    """What is recorded is not done again; what is undone was recorded to be done; all is undone, in order."""
    monkeypatch.setattr(journal_module, "MAX_UPDATES_PER_CALL", 6)  # so that calls are sent inside of the batch too
    number = 0
    crashes = 0
    while True:
        number += 1
        LOG.clear()
        harness = Harness(booking, name=f"crash-{number}")
        current_harness[:] = [harness]
        points[:] = [number if at == "between calls" else 0]

        def crash(call: int, number: int = number, harness: Harness = harness) -> None:
            if call == number:
                LOG.extend(["crash", recorded(harness)])
                harness._scope.cancel()
                raise ServiceError("the process is gone", retryable=True)

        if at == "before a call":
            harness.client.before = crash
        elif at == "after a call":
            harness.client.after = crash
        try:
            error = await harness.error()
        except (CrashError, ServiceError):
            error = await harness.error()
        if "crash" not in LOG:
            break
        crashes += 1
        where = LOG.index("crash")
        before, done, after = LOG[:where], LOG[where + 1], LOG[where + 2 :]
        interrupted = isinstance(error, StepInterruptedError)
        assert interrupted or isinstance(error, KeyError), (number, error)
        again = [entry for entry in after if entry.startswith("do ")]
        assert all(f"s{entry[3:]}" not in done for entry in again), (number, LOG)
        lost = [entry for entry in before if entry.startswith("do ") and f"s{entry[3:]}" not in done]
        if not interrupted:
            assert set(lost) - {"do fail"} <= set(again), (number, LOG)
            assert list(dict.fromkeys(entry for entry in before + after if entry.startswith("do "))) == WHOLE
        undone = list(dict.fromkeys(entry for entry in before + after if entry.startswith("undo ")))
        last = 6 if interrupted else 8
        assert undone == [f"undo {n}" for n in range(last, -1, -1)], (number, LOG)
    assert [*WHOLE, *(f"undo {n}" for n in range(8, -1, -1))] == LOG
    assert crashes >= 12


# --- The service ---------------------------------------------------------------------------------------------


async def test_an_answer_that_is_behind_does_not_make_a_step_run_again(monkeypatch):
    """A call carries a START, its SUCCEED is still queued: what the service says of the step is old news."""
    # An odd number: STARTs travel without their ends.
    monkeypatch.setattr(journal_module, "MAX_UPDATES_PER_CALL", 3)
    monkeypatch.setattr(batch_module, "MAX_UPDATES_PER_CALL", 3)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            for n in range(20):
                await ctx.step(book, n)
        return len(LOG)

    harness = Harness(work)
    assert await harness.result() == 20
    assert list(range(20)) == LOG
    assert any("START" in call[-1] for call in harness.calls)


async def test_a_service_that_repeats_nothing_is_enough():
    """What was assumed stays so."""

    async def child(ctx: DurableContext, n: int) -> int:
        return await ctx.step(book, n)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            total = sum([await ctx.step(book, n) for n in range(5)])
            total += sum((await ctx.map(child, range(5))).results())
        await ctx.wait(5)
        return total

    service = ScriptedService(work)
    service.repeats = False
    await service.suspended()
    assert sorted(LOG) == sorted([*range(5), *range(5)])
    steps = [one for one in service.operations if one.step_details is not None]
    assert {one.step_details.attempt for one in steps if one.step_details is not None} == {1}


async def test_a_service_that_fails_in_the_middle_ends_the_invocation_past_the_users_handlers():
    """As ever; the code may have come further than what is recorded, and comes there again."""
    seen_errors: list[Exception] = []

    class Down(Between):
        async def checkpoint(self, *args: Any) -> CheckpointDurableExecutionResponse:
            if harness.invocations == 1:
                raise ServiceError("no such key", code="KMSNotFoundException", retryable=False)
            return await super().checkpoint(*args)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.batch():
                for n in range(300):
                    await ctx.step(book, n)
        except Exception as error:
            seen_errors.append(error)
        return "done"

    harness = Harness(work)
    put_between(harness, Down)
    output = await harness.invoke()
    assert output.status is InvocationStatus.FAILED
    assert len(LOG) == 125
    assert seen_errors == []


# --- Where it may be used ------------------------------------------------------------------------------------


async def test_it_is_entered_once_and_in_its_own_task():
    """As every block of a context."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        batch = ctx.batch()
        async with batch:
            pass
        with pytest.raises(RuntimeError, match="a batch can be entered once"):
            async with batch:
                pass

        async def elsewhere() -> None:
            with pytest.raises(FrameMisuseError, match="a batch was called from another task"):
                async with ctx.batch():
                    pass
            LOG.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(elsewhere)

    await Harness(work).result()
    assert LOG == ["refused"]


async def test_left_by_a_suspension_it_does_nothing():
    """The invocation's end records what is queued; the block goes on in the next one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with ctx.batch():
            await ctx.step(book, 1)
            await ctx.wait(5)
            await ctx.step(book, 2)
        return len(LOG)

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == 2
    assert LOG == [1, 2]
