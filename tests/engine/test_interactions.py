"""Where concurrency, cancellation, suspension and the user's own code meet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable import (
    Completion,
    DurableContext,
    DurableFunction,
    FrameMisuseError,
    Retry,
    ServiceError,
    SuspendedError,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import InvocationOutput, InvocationStatus
from durable.testing import trio_schedule
from tests.harness import CrashError, Harness, crash_points
from tests.scripted import ScriptedService
from tests.sweep import World, crash_at, ending, shape

pytestmark = pytest.mark.anyio

world = World()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_plain_cancellation_around_branches_is_no_suspension(backend):
    """Whichever of them hears of it first: that the others are parked, for the moment, does not count."""

    async def parked(ctx: DurableContext) -> None:
        await ctx.wait(100)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        begun = anyio.Event()

        async def body() -> None:
            begun.set()
            await anyio.sleep_forever()

        async def running(ctx: DurableContext) -> None:
            await ctx.step(body, name="body")

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await begun.wait()
                    scope.cancel()

                tasks.start_soon(cancel)
                await ctx.parallel([parked, parked, running, parked])
        return await ctx.step(world.do, "went on", name="do")

    async def run() -> None:
        harness = world.harness(work)
        output = await harness.invoke()
        assert output.status is InvocationStatus.SUCCEEDED
        assert world.seconds == 0

    for seed in range(30):
        with trio_schedule(seed):
            anyio.run(run, backend=backend)


@pytest.mark.parametrize("around", ["a wait", "a group", "a map", "a race"])
async def test_a_plain_cancellation_reaches_what_is_parked(around):
    """While something else runs: the code goes on after the scope, in the same invocation."""

    async def parked(ctx: DurableContext, n: int = 0) -> None:
        await ctx.wait(100)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        scope = anyio.CancelScope()

        async def cancels(ctx: DurableContext) -> None:
            await ctx.step(world.do, "runs", 1.0, name="do")
            scope.cancel()
            await ctx.step(world.do, "still runs", 1.0, name="do")

        async def waits(ctx: DurableContext) -> str:
            with scope:
                if around == "a wait":
                    await ctx.wait(100)
                elif around == "a group":
                    async with ctx.task_group() as tg:
                        tg.start_soon(parked)
                        await ctx.wait(200)
                elif around == "a map":
                    await ctx.map(parked, [1, 2], nesting="flat")
                else:
                    await ctx.race(parked, parked)
            return await ctx.step(world.do, "went on", name="do")

        return str((await ctx.parallel([cancels, waits])).items[1].result)

    harness = world.harness(work)
    output = await harness.invoke()
    assert output.status is InvocationStatus.SUCCEEDED
    assert output.result == '"went on"'
    assert world.seconds == 2


async def test_a_branch_that_is_parked_under_a_shield_is_loud():
    """A suspension that cannot get through is an error at the wait, not a hang; the execution is not lost."""
    seen = []

    async def shielded(ctx: DurableContext) -> str:
        with anyio.CancelScope(shield=True):
            try:
                await ctx.wait(5)
            except SuspendedError as error:
                seen.append(error)
        return "waited"

    async def parked(ctx: DurableContext) -> str:
        await ctx.wait(4)
        return "waited"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async with ctx.task_group() as tg:
            handle = tg.start_soon(shielded)
            batch = await ctx.parallel([shielded, parked])
        return [*batch.results(), handle.result()]

    harness = world.harness(work)
    with anyio.fail_after(10):
        assert (await harness.invoke()).status is InvocationStatus.PENDING
        assert len(seen) == 2
        assert await harness.result() == ["waited"] * 3


@pytest.mark.parametrize(
    "where", ["a branch", "a flat branch", "a child", "a task", "the block of a task", "the function"]
)
async def test_pending_is_answered_whatever_is_made_of_the_cancellation(where):
    """Swallowed at any place, and followed by anything."""

    async def swallows(ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException:
            try:
                await ctx.step(world.do, "no", name="do")
            except BaseException:
                return "swallowed"
        return "waited"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        if where == "a branch":
            return (await ctx.parallel([swallows])).results()[0]
        if where == "a flat branch":
            return (await ctx.parallel([swallows], nesting="flat")).results()[0]
        if where == "a child":
            return await ctx.child(swallows)
        if where == "the function":
            return await swallows(ctx)
        async with ctx.task_group() as tg:
            if where == "the block of a task":
                return await swallows(ctx)
            handle = tg.start_soon(swallows)
        return handle.result()

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == "waited"
    assert not world.effects


async def test_what_comes_from_outside_is_noticed_while_others_run(monkeypatch):
    """In the same invocation: the service is asked now and then."""
    monkeypatch.setattr("durable._engine.parking.LOOK_AGAIN", (0.001,))
    done = anyio.Event()

    async def waits(ctx: DurableContext) -> str | None:
        result = await (await ctx.create_callback(name="approval")).result()
        done.set()
        return result

    async def runs(ctx: DurableContext) -> str:
        async def body() -> str:
            service.end("approval", result='"yes"')
            await done.wait()
            return "ran"

        return await ctx.step(body)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | None]:
        return (await ctx.parallel([waits, runs])).results()

    service = ScriptedService(work)
    with anyio.fail_after(10):
        output = await service.invoke()
    assert output.result == '["\\"yes\\"","ran"]'
    assert service.invocations == 1


async def test_nested_fan_outs_suspend_once():
    """Not once a level, nor once a branch."""

    async def leaf(ctx: DurableContext, n: int) -> int:
        await ctx.wait(5)
        return n

    async def inner(ctx: DurableContext, n: int) -> int:
        async with ctx.task_group() as tg:
            handles = [tg.start_soon(leaf, number) for number in range(3)]
            total = sum((await ctx.map(leaf, range(3), nesting="flat")).results())
        return total + sum(handle.result() for handle in handles)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return sum((await ctx.map(inner, range(4))).results())

    harness = world.harness(work)
    assert await harness.result() == 24
    assert harness.invocations == 2


# --- Misuse ------------------------------------------------------------------------------------------------------


async def two_tasks_with_one_context(ctx: DurableContext) -> None:
    async def use() -> None:
        await ctx.step(world.do, "x", name="do")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use)


async def two_contexts_in_one_task(ctx: DurableContext) -> None:
    async def child(inner: DurableContext) -> None:
        await ctx.wait(1)

    await ctx.child(child)


async def an_operation_inside_a_step(ctx: DurableContext) -> None:
    async def body() -> None:
        await current_context().wait(1)

    await ctx.step(body)


async def a_map_inside_a_step_of_a_branch(ctx: DurableContext) -> None:
    async def item(ctx: DurableContext, n: int) -> None:
        async def body() -> None:
            await ctx.map(item, [1])

        await ctx.step(body)

    (await ctx.map(item, [1])).results()


async def a_limit_inside_a_step(ctx: DurableContext) -> None:
    async def body() -> None:
        async with ctx.move_on_after(5):
            pass

    await ctx.step(body)


async def a_task_group_inside_a_step(ctx: DurableContext) -> None:
    async def body() -> None:
        async with ctx.task_group():
            pass

    await ctx.step(body)


async def a_block_of_another_task(ctx: DurableContext) -> None:
    async def use(ctx: DurableContext) -> None:
        async with outer.move_on_after(5):
            pass

    outer = ctx
    (await ctx.parallel([use])).results()


@pytest.mark.parametrize(
    "misuse",
    [
        two_tasks_with_one_context,
        two_contexts_in_one_task,
        an_operation_inside_a_step,
        a_map_inside_a_step_of_a_branch,
        a_limit_inside_a_step,
        a_task_group_inside_a_step,
        a_block_of_another_task,
    ],
    ids=lambda misuse: misuse.__name__,
)
async def test_misuse_is_an_error_that_tells(misuse: Callable[[DurableContext], Awaitable[None]]):
    """What, where, and what to use instead; nothing is recorded by it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await misuse(ctx)

    error: BaseException = await world.harness(work).error()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, FrameMisuseError)
    assert "test_interactions.py" in str(error)
    assert "ctx.task_group()" in str(error)
    assert not world.effects


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("where", ["a branch", "a task"])
async def test_a_cancellation_that_nobody_asked_for_is_no_outcome(where):
    """What awaits a task of asyncio that was cancelled raises like that: the invocation fails, loudly."""

    async def stray(ctx: DurableContext) -> None:
        raise asyncio.CancelledError

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        if where == "a task":
            async with ctx.task_group() as tg:
                tg.start_soon(stray)
        else:
            await ctx.parallel([stray])
        return "went on"

    with pytest.raises(ServiceError, match="nobody here has cancelled"):
        await world.harness(work).invoke()


# --- Crashes within crashes --------------------------------------------------------------------------------------


async def undo(what: str) -> None:
    await current_context().wait(1)
    await current_context().step(world.undo, what, name="undo")


async def book(ctx: DurableContext, seconds: int) -> int:
    await current_saga().step(world.do, f"{seconds}", name="do", compensate=undo)
    await ctx.wait(seconds)
    if seconds == 2:
        raise KeyError(seconds)
    return seconds


@durable_execution
async def saga_around_tasks(event: None, ctx: DurableContext) -> None:
    async with saga(ctx), ctx.task_group() as tg:
        tg.start_soon(book, 2)
        tg.start_soon(book, 9)


@durable_execution
async def saga_around_a_map(event: None, ctx: DurableContext) -> list[str]:
    async with saga(ctx):
        batch = await ctx.map(book, [2, 9, 1], completion=Completion.first_successful())
        await ctx.wait(1)
        return [item.status for item in batch]


@durable_execution
async def flat_map_with_retries(event: None, ctx: DurableContext) -> list[str]:
    async def item(ctx: DurableContext, n: int) -> str:
        async def body() -> None:
            world.effects.append(f"{n}")
            if current_step().attempt == 1:
                raise OSError

        async with ctx.move_on_after(3) as limit:
            await ctx.step(body, name="body", retry=Retry(initial_delay=n, jitter="none"))
        return f"{n} {limit.expired}"

    return (await ctx.map(item, [1, 5], nesting="flat")).results()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "function",
    [saga_around_tasks, saga_around_a_map, flat_map_with_retries],
    ids=lambda function: function.name,
)
async def test_a_crash_at_every_call_and_another_one_after_it(
    function: DurableFunction[Any, Any], when, monkeypatch
):
    """However often the process dies, the end is the same."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)
    whole = world.harness(function)
    expected = ending(await whole.outcome())
    effects, operations = set(world.effects), shape(whole.operations()).keys()
    for first in crash_points():
        for second in crash_points(first):
            harness = world.harness(function, name=f"t-{first}-{second}")
            output, crashes = await crashed_at(harness, when, first, second)
            assert ending(output) == expected, (first, second)
            assert shape(harness.operations()).keys() == operations, (first, second)
            assert set(world.effects) == effects, (first, second)
            if crashes < 2:
                break
        if not crashes:
            break


async def crashed_at(harness: Harness, when: str, *numbers: int) -> tuple[InvocationOutput, int]:
    """Run to the end through crashes at these calls, and how many of them there were."""
    for crashes, number in enumerate(numbers):
        setattr(harness.client, when, crash_at(number))
        try:
            return await harness.outcome(), crashes
        except CrashError:
            continue
    setattr(harness.client, when, lambda _: None)
    return await harness.outcome(), len(numbers)
