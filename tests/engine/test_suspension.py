"""Suspension parks: it is not an exception, not a failure, and records nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from durable import DurableContext, Retry, SuspendedError, durable_execution, saga
from durable._wire import InvocationStatus
from tests.harness import Harness

pytestmark = pytest.mark.anyio


async def book() -> str:
    return "b"


async def test_users_exception_handlers_do_not_see_a_suspension():
    """`except Exception` is for failures."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except Exception as error:
            seen.append(error)
        return "done"

    harness = Harness(work)
    assert await harness.result() == "done"
    assert seen == []


async def test_finally_and_async_with_run_at_every_suspension_and_record_nothing():
    """They release what belongs to this invocation; a durable operation there is cancelled, not recorded."""
    log = []

    @asynccontextmanager
    async def connection(name: str) -> AsyncIterator[None]:
        log.append(f"open {name}")
        try:
            yield
        finally:
            log.append(f"close {name}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with connection("outer"), connection("inner"):
            try:
                await ctx.wait(5, name="w")
            finally:
                log.append("finally")
                await ctx.step(book)
                log.append("recorded")
        return "done"

    harness = Harness(work)
    output = await harness.invoke()
    assert output.status is InvocationStatus.PENDING
    assert log == ["open outer", "open inner", "finally", "close inner", "close outer"]
    assert harness.calls == [["WAIT START w"]]
    assert await harness.result() == "done"
    assert log[-3:] == ["recorded", "close inner", "close outer"]


async def test_a_saga_that_is_left_by_a_suspension_does_nothing():
    """No compensation, no record; and it is still there to roll back later."""
    log = []

    async def cancel(what: str) -> None:
        log.append(f"cancel {what}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, compensate=cancel)
            try:
                async with saga(ctx):
                    await ctx.wait(5)
                    raise KeyError("x")
            except KeyError:
                log.append("caught")
            await ctx.wait(6)
            raise ValueError("no")

    harness = Harness(work)
    await harness.invoke()
    assert log == []
    assert len(harness.calls) == 2
    assert isinstance(await harness.error(), ValueError)
    assert log == ["caught", "caught", "cancel b"]


async def test_swallowing_the_cancellation_does_not_turn_a_suspension_into_a_success():
    """Whatever user code makes of it, the answer is PENDING."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException:
            return "swallowed"
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == "done"


async def test_turning_the_cancellation_into_an_error_does_not_fail_the_execution():
    """A broken `except BaseException` is nobody's business outcome."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException:
            raise RuntimeError("broken handler") from None
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == "done"


@pytest.mark.parametrize("operation", ["step", "wait", "child", "saga"])
async def test_a_durable_operation_under_a_shield_while_suspending_is_loud(operation):
    """It neither hangs nor records."""
    seen: list[str] = []

    async def subflow(ctx: DurableContext) -> None: ...

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        finally:
            if not seen:
                with anyio.CancelScope(shield=True):
                    try:
                        if operation == "step":
                            await ctx.step(book)
                        elif operation == "wait":
                            await ctx.wait(1)
                        elif operation == "child":
                            await ctx.child(subflow)
                        else:
                            async with saga(ctx):
                                pass
                    except SuspendedError as error:
                        seen.append(str(error))
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert "while the execution is being suspended. Nothing was recorded" in seen[0]
    assert len(harness.calls) == 1
    assert await harness.result() == "done"


async def test_a_wait_under_a_shield_is_loud_instead_of_hanging():
    """A suspension that cannot get through is an error at the wait, and the execution is not lost."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.CancelScope(shield=True):
            try:
                await ctx.wait(5)
            except SuspendedError as error:
                seen.append(str(error))
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert len(seen) == 1
    assert await harness.result() == "done"


async def test_tasks_of_the_users_own_end_with_the_invocation():
    """A background task of one invocation does not run on in the next."""
    log = []

    async def heartbeat() -> None:
        log.append("begin")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("end")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heartbeat)
            await anyio.lowlevel.checkpoint()
            await ctx.step(book)
            while not log:
                await anyio.lowlevel.checkpoint()
            await ctx.wait(5)
            tasks.cancel_scope.cancel()
        return "done"

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert log == ["begin", "end"]
    assert await harness.result() == "done"


async def test_a_retry_suspends_like_a_wait():
    """The delay is the service's; `finally` runs, nothing else does."""
    log = []

    async def flaky() -> str:
        log.append("try")
        if len(log) < 3:
            raise OSError
        return "ok"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            return await ctx.step(flaky, retry=Retry())
        finally:
            log.append("finally")

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert log == ["try", "finally"]
    assert await harness.result() == "ok"
