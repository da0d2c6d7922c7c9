"""What a compensation is and may do (DESIGN section 4, rule 5)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from durable import (
    CompensationError,
    DurableContext,
    ExecutionFailedError,
    FrameMisuseError,
    Retry,
    StepTimeoutError,
    TimeLimitError,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import OperationStatus
from durable.local import open_engine
from durable.testing import SkippingClock
from tests.harness import Harness
from tests.saga.world import (
    LOG,
    Full,
    answer,
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

AGAIN = Retry(attempts=3, initial_delay=10, jitter="none")


# --- Durable operations inside -------------------------------------------------------------------------------


async def settle(what: str) -> None:
    """Uses what there is, one after another."""

    async def inner(ctx: DurableContext) -> str:
        return await ctx.step(book, f"{what} in a child")

    async def branch(ctx: DurableContext, number: int) -> None:
        await ctx.wait(number)
        await ctx.step(note, f"{what} in branch {number}")

    ctx = current_context()
    await ctx.wait(3600, name="let it settle")
    await ctx.child(inner)
    await ctx.map(branch, [1, 2])
    async with ctx.move_on_after(60):
        await ctx.wait(600)
    await ctx.step(cancel, what)


async def test_compensations_may_use_durable_operations_suspend_and_crash():
    """Through the current context, in a namespace of their own; what they have done inside is not done again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=settle, name="hotel")
            await s.step(book, "b", compensate=cancel)
            raise Full("c")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == [
        *("book a", "book b", "cancel b"),
        *("book a in a child", "a in branch 1", "a in branch 2", "cancel a"),
    ]
    assert ran.harness.invocations == 5
    compensation = next(o for o in ran.harness.operations() if o.sub_type == "Compensation" and o.name == "hotel")
    assert ran.harness.operation("let it settle").parent_id == compensation.id


async def test_two_crashes_in_a_compensation_that_waits():
    """Each is a pause."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def undo(what: str) -> None:
            await current_context().wait(60)
            await current_context().step(cancel, what)

        async with saga(ctx) as s:
            await s.step(book, "a", compensate=undo)
            await s.step(book, "b", compensate=undo)
            raise Full("c")

    ran = await sweep(work, twice=True)
    assert ran.log == ["book a", "book b", "cancel b", "cancel a"]


async def test_a_callback_inside_a_compensation():
    """Somebody has to agree before the money goes back."""

    async def undo(what: str) -> None:
        callback = await current_context().create_callback(str, name="agree")
        LOG.append(f"cancel {what}: {await callback.result()}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=undo)
            raise Full("b")

    async def world(harness: Harness) -> None:
        await answer(harness, "agree", '"yes"')

    ran = await sweep(work, world=world, twice=True)
    assert ran.happened == ["book a", "cancel a: yes"]


@durable_execution
async def refund(event: str, ctx: DurableContext) -> str:
    await ctx.wait(600)
    if event == "bad":
        raise Full("no refund")
    await ctx.step(cancel, event)
    return "refunded"


@durable_execution
async def buy(event: str, ctx: DurableContext) -> None:
    async def undo(what: str) -> None:
        LOG.append(await current_context().invoke(refund, what))

    async with saga(ctx) as s:
        await s.step(book, event, compensate=undo)
        raise Full("later")


async def test_another_function_invoked_by_a_compensation():
    """It takes its time; if it fails, the compensation has failed."""
    async with open_engine(clock=SkippingClock()) as engine:
        for event, expected in (("good", Full), ("bad", CompensationError)):
            run = await engine.start(buy, event)
            with pytest.raises(ExecutionFailedError) as caught:
                await run.result()
            assert isinstance(caught.value.__cause__, expected)
    assert LOG == ["book good", "cancel good", "refunded", "book bad"]


async def test_a_saga_inside_a_compensation_is_its_own():
    """Its steps are not the outer one's, whose rollback has begun; if it fails, the compensation has failed."""

    async def undo(what: str) -> None:
        ctx = current_context()
        with pytest.raises(LookupError):
            current_saga()
        async with saga(ctx, "undoing") as s:
            await s.step(note, f"begin {what}", compensate=lambda _: LOG.append(f"undo {what}"))
            await ctx.wait(10)
            if what == "b":
                raise Full(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=undo)
            await s.step(book, "b", compensate=undo)
            raise KeyError("why")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert [repr(one) for one in error.exceptions] == ["Full('b')"]
    assert ran.happened == ["book a", "book b", "begin b", "undo b", "begin a"]


# --- Contexts that are not its own ---------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["the saga's", "a child's", "a branch's"])
async def test_a_context_from_elsewhere_is_refused(whose: str):
    """Positions taken on it would depend on where a crash came: after one, a compensation could be passed over."""

    async def register(ctx: DurableContext, what: str) -> None:
        async def undo(what: str) -> None:
            await ctx.step(cancel, what)

        await current_saga().step(book, what, compensate=undo)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip"):
            for what in "ab":
                if whose == "the saga's":
                    await register(ctx, what)
                elif whose == "a child's":
                    await ctx.child(register, what)
                else:
                    await ctx.map(register, [what])
            raise Full("c")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert [type(one) for one in error.exceptions] == [FrameMisuseError, FrameMisuseError]
    expected = "while a rollback is running on it" if whose == "the saga's" else "on a context that has ended"
    assert expected in str(error.exceptions[0])
    assert "current_context()" in str(error.exceptions[0])
    assert "test_compensations.py" in str(error.exceptions[0])
    assert ran.undone == []


async def test_the_saga_itself_is_refused_inside_a_compensation():
    """A compensation is no part of the block."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def undo(what: str) -> None:
            await s.step(book, "again", compensate=cancel)

        async with saga(ctx) as s:
            await s.step(book, "a", compensate=undo)
            raise Full("b")

    error = (await sweep(work)).error()
    assert isinstance(error, CompensationError)
    assert "compensations to none" in str(error.exceptions[0])
    assert "book again" not in LOG


# --- Attempts ------------------------------------------------------------------------------------------------


async def test_compensations_are_retried_durably():
    """By the saga's policy, with the service's delay; every attempt has its own namespace."""
    attempts: list[int] = []

    async def flaky(what: str) -> None:
        info = current_step()
        attempts.append(info.attempt)
        ctx = current_context()
        await ctx.step(note, f"{what} 1 of attempt {info.attempt}")
        await ctx.wait(5)
        if info.attempt < 3:
            raise OSError(what)
        await ctx.step(cancel, what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=AGAIN) as s:
            await s.step(book, "a", compensate=flaky)
            raise Full("b")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == ["book a", *(f"a 1 of attempt {number}" for number in (1, 2, 3)), "cancel a"]
    assert ran.harness.clock.now() - ran.harness.record.start_timestamp >= 10_000 + 20_000 + 3 * 5_000
    assert set(attempts) == {1, 2, 3}


async def test_a_compensation_whose_retries_are_used_up_has_failed():
    """With what its last attempt raised; the others are run."""

    async def fails(what: str) -> None:
        LOG.append(f"try to cancel {what} {current_step().attempt}")
        raise Full(f"{what} {current_step().attempt}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=2)) as s:
            await s.step(book, "a", compensate=fails)
            await s.step(book, "b", compensate=fails)
            raise KeyError("c")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert [repr(one) for one in error.exceptions] == ["Full('b 2')", "Full('a 2')"]
    assert ran.undone == [f"try to cancel {what}" for what in ("b 1", "b 2", "a 1", "a 2")]


async def test_what_is_not_worth_another_attempt_is_not_tried_again():
    """As with steps: by the policy's `retry_if`, and never for an error in the code itself."""

    async def misuse(what: str) -> None:
        LOG.append(f"try to cancel {what}")
        raise FrameMisuseError(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=3, retry_if=OSError)) as s:
            await s.step(book, "a", compensate=cannot_cancel)
            await s.step(book, "b", compensate=misuse, compensate_retry=Retry())
            raise KeyError("c")

    ran = await sweep(work)
    assert isinstance(ran.error(), CompensationError)
    assert ran.log[2:] == ["try to cancel b", "try to cancel a"]


async def test_each_compensation_may_have_a_policy_of_its_own():
    """Otherwise it is the saga's; of a step's undo and of one registered by hand."""
    tries: dict[str, int] = {}

    async def fails(what: str) -> None:
        tries[what] = max(tries.get(what, 0), current_step().attempt)
        raise Full(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=2)) as s:
            await s.step(book, "the saga's", compensate=fails)
            await s.step(book, "its own", compensate=fails, compensate_retry=Retry(attempts=4))
            s.compensate(fails, "by hand", retry=Retry(attempts=3))
            raise KeyError("c")

    ran = await sweep(work)
    assert isinstance(ran.error(), CompensationError)
    assert tries == {"the saga's": 2, "its own": 4, "by hand": 3}


async def forever(_: str) -> None:
    await anyio.sleep_forever()


def plainly_forever(_: str) -> None:
    import time

    time.sleep(0.05)


async def test_a_compensation_that_takes_too_long_has_failed():
    """The saga's `timeout` is a limit for each attempt; each may have its own."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, timeout=0.01) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=forever, name="slow")
            await s.step(book, "b", compensate=forever, compensate_timeout=0.02, name="its own")
            s.compensate(plainly_forever, "by hand", timeout=0.03)
            raise KeyError("b")

    ran = await run(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert all(isinstance(one, StepTimeoutError) for one in error.exceptions)
    assert [str(one).partition("timeout of ")[2] for one in error.exceptions] == ["0.03 s", "0.02 s", "0.01 s"]
    assert ran.log[-1] == "cancel a"


async def test_a_timeout_is_a_reason_to_try_again():
    """Each attempt has the whole of it."""

    async def slow_at_first(what: str) -> None:
        if current_step().attempt == 1:
            await anyio.sleep_forever()
        await cancel(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, timeout=0.01, retry=AGAIN) as s:
            await s.step(book, "a", compensate=slow_at_first)
            raise Full("b")

    ran = await run(work)
    assert isinstance(ran.error(), Full)
    assert ran.undone == ["cancel a"]


async def test_a_durable_time_limit_inside_counts_what_is_waited_for():
    """`timeout` is how long an attempt runs in one invocation; for a wait that suspends there is `fail_after`."""

    async def undo(what: str) -> None:
        ctx = current_context()
        async with ctx.fail_after(60):
            await ctx.wait(3600)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=undo)
            raise Full("c")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert isinstance(error.exceptions[0], TimeLimitError)
    assert ran.undone == ["cancel a"]


# --- Records -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [None, AGAIN], ids=["no retry", "retry"])
async def test_nothing_is_started_twice_or_run_after_it_has_ended(retry: Retry | None):
    """Whatever the crash: one START of each, one end of each, and no body after its recorded end."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=retry) as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=cannot_cancel, compensate_retry=Retry(attempts=1), name="b")
            await s.step(book, "c", compensate=cancel, name="c")
            raise KeyError("d")

    for place, ran in await crash_everywhere(work, twice=True):
        sub_types = {operation.id: operation.sub_type for operation in ran.harness.operations()}
        applied: dict[tuple[str | None, str], int] = {}
        for event in ran.harness.store._kept[ran.harness.record.id].events:
            if sub_types.get(event.operation_id or "") in {"Compensation", "Saga"}:
                key = (event.operation_id, str(event.type))
                applied[key] = applied.get(key, 0) + 1
        assert len(applied) == 8, place
        assert set(applied.values()) == {1}, place


async def test_a_failure_is_recorded_with_the_error_and_comes_out_of_history_as_it_was():
    """Type, message, data and notes."""

    class Busy(Exception):
        code: int = 0

    async def undo(what: str) -> None:
        error = Busy(what, 7)
        error.code = 503
        error.add_note("call again")
        raise error

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        try:
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=undo)
                raise KeyError("why")
        except CompensationError as group:
            (error,) = group.exceptions
            await ctx.wait(5)
            assert isinstance(error, Busy)
            return [type(error).__name__, error.args, error.code, error.__notes__]
        return []

    ran = await sweep(work)
    assert ran.result() == ["Busy", ["a", 7], 503, ["call again", "raised by the compensation of 'book'"]]
    (compensation,) = (o for o in ran.harness.operations() if o.sub_type == "Compensation")
    assert compensation.status is OperationStatus.FAILED
    assert compensation.error is not None
    assert compensation.error.error_message == "('a', 7)"


async def test_a_step_that_fails_inside_a_compensation_fails_it():
    """Unless it is handled there."""

    async def undo(what: str) -> None:
        ctx = current_context()
        try:
            await ctx.step(refuse, what)
        except Full:
            if what == "b":
                raise
        await ctx.step(cancel, what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=undo)
            await s.step(book, "b", compensate=undo)
            raise KeyError("c")

    ran = await sweep(work)
    assert isinstance(ran.error(), CompensationError)
    assert ran.happened[2:] == ["refuse b", "refuse a", "cancel a"]
