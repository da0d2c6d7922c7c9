"""When a saga rolls back, and when it does nothing at all (DESIGN section 4, rule 2)."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable import (
    CompensationError,
    DurableContext,
    NonDeterminismError,
    Retry,
    SagaCancelledError,
    SagaRolledBackError,
    ServiceError,
    durable_execution,
    saga,
)
from durable._wire import InvocationStatus
from tests.harness import CrashError, Harness
from tests.saga.world import LOG, Full, answer, book, cancel, cannot_cancel, note, refuse, run, sweep, tidy

pytestmark = pytest.mark.anyio


async def forever() -> None:
    await anyio.sleep_forever()


async def slow_cancel(what: str) -> None:
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    LOG.append(f"cancel {what}")


# --- By an exception -----------------------------------------------------------------------------------------


async def test_a_failure_undoes_what_was_done_last_first_and_is_raised_again():
    """The error that caused it all comes out, with a note."""
    seen: list[Exception] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=cancel)
                await s.step(book, "b", compensate=cancel, name="second")
                await s.step(refuse, "c", compensate=cancel)
        except Full as error:
            seen.append(error)
            raise

    ran = await sweep(work, twice=True)
    assert isinstance(ran.error(), Full)
    assert ran.log == ["book a", "book b", "refuse c", "cancel b", "cancel a"]
    assert {repr(error) for error in seen} == {"Full('c')"}
    assert {tuple(error.__notes__) for error in seen} == {("saga 'trip' was rolled back; undone: second, book",)}


async def test_an_exception_that_is_handled_inside_does_not_roll_back():
    """It is how the block is left that counts."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            try:
                await s.step(refuse, "b", compensate=cancel)
            except Full:
                await s.step(book, "c", compensate=cancel)
        return "done"

    ran = await sweep(work)
    assert ran.result() == "done"
    assert ran.undone == []


# --- By hand -------------------------------------------------------------------------------------------------


async def test_rollback_by_hand():
    """It undoes now, the block goes on, and the saga takes no more; also after crashes, and over suspensions."""
    results: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=cancel)
            results.append(await s.rollback("not wanted"))
            assert s.result is results[-1]
            for call in (
                lambda: s.step(book, "late", compensate=cancel),
                lambda: s.rollback("again"),
                lambda: s.compensate(cancel, "late"),
                s.savepoint,
                s.pivot,
            ):
                with pytest.raises(SagaRolledBackError, match="it goes no further"):
                    await call()  # type: ignore[misc]
            after = await ctx.step(book, "c")
            await ctx.wait(1)
        return after

    ran = await sweep(work, twice=True)
    assert ran.result() == "c"
    assert ran.log == ["book a", "book b", "cancel b", "cancel a", "book c"]
    assert {repr(result) for result in results} == {repr(results[0])}
    assert results[0].all_succeeded
    assert "not wanted" in (ran.harness.operation("rollback").result or "")


async def test_rollback_by_hand_with_nothing_to_undo():
    """Says so, and records nothing."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async with saga(ctx) as s:
            result = await s.rollback("not wanted")
        return [item.name for item in result.items]

    ran = await sweep(work)
    assert ran.result() == []
    assert ran.harness.calls == []


async def test_rollback_by_hand_that_fails_is_loud():
    """A report that nobody looks at does not hide what could not be undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cannot_cancel)
            try:
                await s.rollback("not wanted")
            except CompensationError as error:
                return f"{error.result.all_succeeded} {error.__cause__!r}"
        return "?"

    ran = await sweep(work)
    assert ran.result() == "False SagaRolledBackError('the saga was rolled back: not wanted')"


async def test_rollback_by_hand_takes_an_exception_as_its_reason():
    """It is the cause of what could not be undone; an error that leaves the block afterwards is just that."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.rollback(Full("sold out"))
            raise KeyError("later")

    ran = await sweep(work)
    assert repr(ran.error()) == "KeyError('later')"
    assert not hasattr(ran.error(), "__notes__")
    assert ran.undone == ["cancel a"]
    assert "sold out" in (ran.harness.operation("rollback").result or "")


# --- By cancellation -----------------------------------------------------------------------------------------


@pytest.mark.in_process("its real 10 ms are less than calls over HTTP may take")
async def test_the_users_own_cancellation_rolls_back_under_a_shield():
    """A time limit around the saga undoes it, then takes effect; also after a crash during the rollback."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        with anyio.move_on_after(0.01) as scope:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=slow_cancel)
                await s.step(book, "b", compensate=slow_cancel)
                await s.step(forever)
        await ctx.step(book, "afterwards")
        return scope.cancelled_caught

    ran = await sweep(work)
    assert ran.result() is True
    assert ran.log == ["book a", "book b", "cancel b", "cancel a", "book afterwards"]


@pytest.mark.parametrize("inside", ["a step", "a wait", "a retry", "a child"])
async def test_a_durable_time_limit_around_it_rolls_back(inside: str):
    """Whatever the block waits for; the saga is undone before the code after the limit goes on."""

    async def subflow(ctx: DurableContext) -> None:
        await ctx.wait(3600)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(60) as limit, saga(ctx) as s:
            await s.step(book, "a", compensate=slow_cancel)
            if inside == "a step":
                await s.step(forever)
            elif inside == "a wait":
                await ctx.wait(3600)
            elif inside == "a retry":
                await s.step(refuse, "b", retry=Retry(initial_delay=300, max_delay=300, jitter="none"))
            else:
                await ctx.child(subflow)
        await ctx.step(note, "afterwards")
        return limit.expired

    # Whether the START of a step that never ended was recorded before the crash is a matter of chance.
    ran = await sweep(work, twice=inside == "a wait", same_shape=inside != "a step")
    assert ran.result() is True
    assert ran.happened[-2:] == ["cancel a", "afterwards"]


async def test_a_cancelled_sibling_rolls_its_saga_back():
    """One task fails, the other is undone; the group raises what the first one raised, and nothing else."""

    async def fails(ctx: DurableContext) -> None:
        await ctx.wait(10)
        await ctx.step(refuse, "here")

    async def waits(ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=slow_cancel)
            await s.step(book, "b", compensate=slow_cancel)
            await ctx.wait(3600)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.task_group() as tasks:
                tasks.start_soon(waits)
                tasks.start_soon(fails)
        except ExceptionGroup as group:
            return repr(group.exceptions)
        return "?"

    ran = await sweep(work, twice=True, same_shape=False)
    assert ran.result() == "(Full('here'),)"
    assert ran.undone == ["cancel b", "cancel a"]


async def test_a_second_cancellation_does_not_cut_a_rollback_short():
    """The shield is around all of it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def undo(what: str) -> None:
            outer.cancel()
            await slow_cancel(what)

        with anyio.CancelScope() as outer, anyio.CancelScope() as inner:
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=undo)
                await s.step(book, "b", compensate=undo)
                inner.cancel()
                await anyio.lowlevel.checkpoint()
        assert outer.cancelled_caught

    ran = await run(work)
    assert ran.output.status is InvocationStatus.SUCCEEDED
    assert ran.undone == ["cancel b", "cancel a"]


async def test_a_compensation_that_fails_under_a_cancellation_is_told():
    """`CompensationError` comes out in place of the cancellation; its cause is the same live and on replay."""
    causes: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.move_on_after(60):
            try:
                async with saga(ctx) as s:
                    await s.step(book, "a", compensate=cannot_cancel)
                    await ctx.wait(3600)
            except CompensationError as error:
                causes.append(repr(error.__cause__))
        await ctx.wait(5)

    ran = await sweep(work)
    assert ran.output.status is InvocationStatus.SUCCEEDED
    assert set(causes) == {"SagaCancelledError('the saga was rolled back: its block was cancelled')"}


async def test_a_cancelled_saga_without_its_time_limit_on_replay_raises():
    """If the code that cancelled it is not there any more, the recorded decision still holds."""
    cancelling = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.CancelScope() as scope:
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=cancel)
                if cancelling[0]:
                    scope.cancel()
                await anyio.lowlevel.checkpoint()
                await s.step(book, "b")
        return "done"

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    cancelling[0] = False
    harness.client.after = lambda _: None
    assert isinstance(await harness.error(), SagaCancelledError)
    assert LOG == ["book a", "cancel a"]


async def test_exceptions_of_plain_tasks_together_with_a_cancellation(anyio_backend_name: str):
    """On trio both may come in one group; what is left of it when the scope has taken its part is raised."""

    async def fails() -> None:
        await anyio.lowlevel.checkpoint()
        raise Full("in a task")

    async def waits(scope: anyio.CancelScope) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            with anyio.CancelScope() as scope:
                async with saga(ctx) as s:
                    await s.step(book, "a", compensate=cancel)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(waits, scope)
                        tasks.start_soon(fails)
                        await anyio.sleep_forever()
        except ExceptionGroup as group:
            return repr(group.exceptions)
        return "cancelled"

    ran = await run(work)
    assert ran.result() == ("(Full('in a task'),)" if anyio_backend_name == "trio" else ran.result())
    assert ran.undone == ["cancel a"]


@pytest.mark.in_process("its real 10 ms end in a call, which asyncio's own cancellation cuts off: as a crash does")
async def test_asyncios_own_time_limit_rolls_back(anyio_backend_name: str):
    """Its cancellation knows no shields, and comes once."""
    if anyio_backend_name != "asyncio":
        pytest.skip("asyncio's own")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with asyncio.timeout(0.01), saga(ctx) as s:
                await s.step(book, "a", compensate=slow_cancel)
                await s.step(forever)
        except TimeoutError:
            return "timed out"
        return "?"

    ran = await run(work)
    assert ran.result() == "timed out"
    assert ran.undone == ["cancel a"]


# --- Nothing at all ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["a wait", "a retry", "a callback", "branches"])
async def test_a_suspension_does_nothing(inside: str):
    """Nothing is undone, cleaned up or recorded because an execution waits."""

    async def branch(ctx: DurableContext) -> None:
        await ctx.wait(60)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as outer, saga(ctx) as s:
            outer.cleanup(tidy, "outer")
            s.cleanup(tidy, "inner")
            await s.step(book, "a", compensate=cancel)
            if inside == "a wait":
                await ctx.wait(60)
            elif inside == "a retry":
                await s.step(fails_once, "b", retry=Retry(), compensate=cancel)
            elif inside == "a callback":
                await (await ctx.create_callback(name="cb")).result()
            else:
                await ctx.parallel([branch, branch])
        return "done"

    async def fails_once(what: str) -> str:
        LOG.append(f"book {what}")
        if LOG.count(f"book {what}") == 1:
            raise Full(what)
        return what

    seen: list[Any] = []

    async def world(harness: Harness) -> None:
        seen.append((list(LOG), [o.sub_type for o in harness.operations()]))
        if inside == "a callback":
            await answer(harness, "cb", None)

    ran = await run(work, world=world)
    assert ran.result() == "done"
    assert seen
    assert "tidy inner" not in seen[0][0]
    assert not {"Saga", "Compensation", "Cleanup"} & set(seen[0][1])
    assert ran.undone == []
    assert ran.log[-2:] == ["tidy inner", "tidy outer"]


@pytest.mark.parametrize("retryable", [True, False])
async def test_a_service_that_fails_does_nothing(retryable: bool):
    """It is no failure of the workflow: the saga's block never hears of it."""
    seen: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            s.cleanup(tidy, "x")
            await s.step(book, "a", compensate=cancel)
            try:
                await s.step(book, "b", compensate=cancel)
            except Exception as error:
                seen.append(repr(error))
        return "done"

    harness = Harness(work)

    def fail(call: int) -> None:
        if call == 2:
            raise ServiceError("down", retryable=retryable)

    harness.client.before = fail
    if retryable:
        harness.client.before = lambda call: fail(min(call, 2))
        with pytest.raises(ServiceError):
            await harness.invoke()
        harness.client.before = lambda _: None
        assert await harness.result() == "done"
        assert LOG == ["book a", "book b", "book b", "tidy x"]
    else:
        assert (await harness.invoke()).status is InvocationStatus.FAILED
        assert LOG == ["book a", "book b"]
    assert seen == []


async def test_code_that_leaves_its_history_does_nothing():
    """A bad deploy is not a business failure: the execution waits for better code."""
    name = ["b"]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            s.cleanup(tidy, "x")
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=cancel, name=name[0])
            await ctx.wait(5)
        return "done"

    harness = Harness(work)
    await harness.invoke()
    name[0] = "renamed"
    with pytest.raises(NonDeterminismError):
        await harness.invoke()
    assert LOG == ["book a", "book b"]
    name[0] = "b"
    await harness.clock.sleep_until(harness.clock.now() + 5000)
    assert await harness.result() == "done"
    assert LOG == ["book a", "book b", "tidy x"]


class Stop(BaseException):
    """The process is ending."""


async def test_what_is_no_exception_does_nothing():
    """No rollback, no cleanup: what comes next is decided when the execution is resumed."""
    stopping = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            s.cleanup(tidy, "x")
            await s.step(book, "a", compensate=cancel)
            if stopping[0]:
                raise Stop
            await s.step(book, "b", compensate=cancel)
        return "done"

    harness = Harness(work)
    with pytest.raises((Stop, BaseExceptionGroup)):
        await harness.invoke()
    assert LOG == ["book a"]
    stopping[0] = False
    assert await harness.result() == "done"
    assert LOG == ["book a", "book b", "tidy x"]


async def test_an_invocation_that_is_abandoned_does_nothing():
    """Its cancellation comes from outside, and is not the user's."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            s.cleanup(tidy, "x")
            await s.step(book, "a", compensate=cancel)
            if harness.invocations == 1:
                await harness.crash_now()
            await s.step(book, "b", compensate=cancel)
        return "done"

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert LOG == ["book a"]
    assert await harness.result() == "done"
    assert LOG == ["book a", "book b", "tidy x"]


async def test_an_abandoned_rollback_goes_on_in_the_next_invocation():
    """Also when the invocation is given up in the middle of a compensation."""

    async def undo(what: str) -> None:
        LOG.append(f"cancel {what}")
        if what == "b" and harness.invocations == 1:
            await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            for what in "abc":
                await s.step(book, what, compensate=undo)
            raise Full("d")

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert isinstance(await harness.error(), Full)
    assert LOG[3:] == ["cancel c", "cancel b", "cancel b", "cancel a"]


def _crash_at(number: int) -> Any:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
