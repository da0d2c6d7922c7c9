"""The durable task group: anyio's shape, with tasks that can be gone over again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    TaskGroup,
    TaskHandle,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from durable._kernel.ids import operation_id
from durable._wire import InvocationStatus
from tests.harness import crash_points
from tests.sweep import World, ending, one_history, outcome_with_crashes, shape

pytestmark = pytest.mark.anyio

world = World()


async def work_for(ctx: DurableContext, seconds: int) -> int:
    await ctx.step(world.do, f"{seconds}", float(seconds), name="do")
    return seconds


async def wait_for(ctx: DurableContext, seconds: int) -> int:
    await ctx.wait(seconds)
    return seconds


async def fail_after(ctx: DurableContext, seconds: int) -> int:
    await ctx.wait(seconds)
    raise ValueError(seconds)


# --- Tasks and handles -------------------------------------------------------------------------------------------


async def test_tasks_run_side_by_side_and_handles_have_their_results():
    """After the block at the latest; the block's end waits for all of them."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        async with ctx.task_group() as tg:
            handles = [tg.start_soon(work_for, seconds) for seconds in (3, 1, 2)]
            assert [handle.is_done for handle in handles] == [False] * 3
        assert all(handle.is_done for handle in handles)
        await ctx.wait(1)
        return [handle.result() for handle in handles]

    assert await world.harness(work).result() == [3, 1, 2]
    assert world.effects == ["1", "2", "3"]
    assert world.seconds == 4


async def test_what_is_recorded_of_it():
    """A child context a task, in the order of the starts; nothing of the group itself, unless it is stopped."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            tg.start_soon(work_for, 2, name="first")
            tg.start_soon(work_for, 1)
            await ctx.step(world.do, "block", name="do")

    harness = world.harness(work)
    await harness.result()
    contexts = [operation for operation in harness.operations() if operation.type == "CONTEXT"]
    assert [(operation.name, operation.sub_type, operation.parent_id) for operation in contexts] == [
        ("first", "RunInChildContext", None),
        ("work_for", "RunInChildContext", None),
    ]
    steps = [operation for operation in harness.operations() if operation.name == "do"]
    assert {step.id for step in steps} >= {operation_id(context.id, 1) for context in contexts}


async def test_an_empty_group():
    """Nothing happens, and nothing is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.task_group():
            pass
        return await ctx.step(world.do, "after", name="do")

    harness = world.harness(work)
    assert await harness.result() == "after"
    assert [operation.id for operation in harness.operations()] == [operation_id(None, 1)]


async def test_positions_are_taken_where_tasks_are_started():
    """In a loop, between operations of the block, and whatever is started has its arguments."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        handles = []
        async with ctx.task_group() as tg:
            for number in range(5):
                handles.append(tg.start_soon(wait_for, number + 1, name=f"task {number}"))
                await ctx.step(world.do, f"block {number}", name=f"block {number}")
        await ctx.step(world.do, "after", name="after")
        return [handle.result() for handle in handles]

    harness = world.harness(work)
    assert await harness.result() == [1, 2, 3, 4, 5]
    names = [operation.name for operation in harness.operations() if operation.name and operation.parent_id is None]
    assert names[:-1] == [f"{what} {number}" for number in range(5) for what in ("task", "block")]
    assert world.effects == [*(f"block {number}" for number in range(5)), "after"]


async def test_a_handle_has_no_result_before_the_end():
    """It says so; as a task that was cancelled never has one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        seen = []
        async with ctx.task_group() as tg:
            handle = tg.start_soon(wait_for, 5, name="t")
            with pytest.raises(RuntimeError, match="task 't' has no result: it has not ended"):
                handle.result()
            seen.append(repr(handle))
            await ctx.step(world.do, "x", name="do")
            tg.cancel()
        with pytest.raises(RuntimeError, match="task 't' has no result: it was cancelled"):
            handle.result()
        with pytest.raises(RuntimeError, match="it was cancelled"):
            await handle.wait()
        return [*seen, repr(handle)]

    assert await world.harness(work).result() == ["<TaskHandle 't' pending>", "<TaskHandle 't' pending>"]


async def test_a_handle_of_a_task_that_failed_raises():
    """What the task raised, as often as it is asked."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(ExceptionGroup):
            async with ctx.task_group() as tg:
                handle = tg.start_soon(fail_after, 1)
        assert handle.is_done
        for _ in range(2):
            with pytest.raises(ValueError, match="1"):
                handle.result()
            with pytest.raises(ValueError, match="1"):
                await handle.wait()
        return "raised"

    assert await world.harness(work).result() == "raised"


async def test_waiting_for_a_task_from_the_block_and_from_siblings():
    """Suspended when all wait; everybody gets the same result."""

    async def second(ctx: DurableContext, handle: TaskHandle[int]) -> int:
        return await handle.wait() * 10

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        async with ctx.task_group() as tg:
            first = tg.start_soon(wait_for, 5)
            others = [tg.start_soon(second, first, name=f"{number}") for number in range(3)]
            got = [await first.wait(), await others[1].wait()]
            got.append(await first.wait())
        return [*got, *(other.result() for other in others)]

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == [5, 50, 5, 50, 50, 50]
    assert world.seconds == 5


async def test_a_task_that_waits_while_another_runs_goes_on_in_the_same_invocation():
    """As soon as what it waits for has ended."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> float:
        seen = []
        async with ctx.task_group() as tg:
            first = tg.start_soon(work_for, 2)
            tg.start_soon(work_for, 9)
            await first.wait()
            seen.append(world.seconds)
        return seen[0]

    harness = world.harness(work)
    assert await harness.result() == 2
    assert harness.invocations == 1


# --- Failures ----------------------------------------------------------------------------------------------------


async def test_a_failure_cancels_the_others_and_comes_out_in_a_group():
    """The others have no further effect; what had ended has."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        with pytest.raises(ExceptionGroup) as caught:
            async with ctx.task_group() as tg:
                tg.start_soon(work_for, 1)
                tg.start_soon(work_for, 5)
                tg.start_soon(fail_after, 3)
                await ctx.wait(60)
        assert caught.value.message == "unhandled errors in a durable task group"
        await ctx.wait(60)
        return [repr(error) for error in caught.value.exceptions]

    assert await world.harness(work).result() == ["ValueError(3)"]
    assert world.effects == ["1"]


async def test_errors_are_in_the_order_of_the_starts_and_the_blocks_own_is_last():
    """Whoever was first: the order does not depend on scheduling."""

    async def stubborn(ctx: DurableContext, name: str) -> None:
        async with saga(ctx) as scope:
            await scope.step(world.do, name, name="do", compensate=broken_undo)
            await ctx.wait(60)

    async def broken_undo(what: str) -> None:
        raise KeyError(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        with pytest.raises(ExceptionGroup) as caught:
            async with ctx.task_group() as tg:
                async with ctx.move_on_after(60):
                    tg.start_soon(stubborn, "a", name="a")
                tg.start_soon(stubborn, "b", name="b")
                await ctx.step(world.do, "block", 1.0, name="do")
                raise ValueError("block")
        return [f"{type(error).__name__}: {error}" for error in caught.value.exceptions]

    seen = await world.harness(work).result()
    # A task that was cancelled has no outcome, whatever its rollback came to.
    assert seen == ["ValueError: block"]


async def test_what_the_block_raises_cancels_the_tasks():
    """And comes out in a group, alone if nothing else failed."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        with pytest.raises(ExceptionGroup) as caught:
            async with ctx.task_group() as tg:
                tg.start_soon(work_for, 5)
                await ctx.wait(1)
                raise KeyError("block")
        return [repr(error) for error in caught.value.exceptions]

    assert await world.harness(work).result() == ["KeyError('block')"]
    assert not world.effects


async def test_two_that_fail_at_once_are_both_told():
    """What was being recorded when the group was stopped counts."""

    async def fail(ctx: DurableContext, what: str) -> None:
        raise ValueError(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        with pytest.raises(ExceptionGroup) as caught:
            async with ctx.task_group() as tg:
                tg.start_soon(fail, "a", name="a")
                tg.start_soon(fail, "b", name="b")
        await ctx.wait(1)
        return sorted(str(error) for error in caught.value.exceptions)

    found = await world.harness(work).result()
    assert found in (["a"], ["b"], ["a", "b"])


async def test_an_execution_fails_with_the_group():
    """It is rebuilt with its members from the record."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            tg.start_soon(fail_after, 1)

    error = await world.harness(work).error()
    assert isinstance(error, ExceptionGroup)
    assert [repr(member) for member in error.exceptions] == ["ValueError(1)"]


async def test_nested_groups():
    """A failure inside comes out of the inner group, and cancels what is beside it in the outer one."""

    async def inner(ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            tg.start_soon(work_for, 9)
            tg.start_soon(fail_after, 2)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(ExceptionGroup) as caught:
            async with ctx.task_group() as tg:
                tg.start_soon(work_for, 8)
                tg.start_soon(inner)
        (group,) = caught.value.exceptions
        assert isinstance(group, ExceptionGroup)
        return repr(group.exceptions)

    assert await world.harness(work).result() == "(ValueError(2),)"
    assert not world.effects


# --- Cancelling --------------------------------------------------------------------------------------------------


async def test_cancel_stops_tasks_and_the_block_and_raises_nothing():
    """The code goes on after the group; a task that is started afterwards does nothing."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.task_group() as tg:
            tg.start_soon(work_for, 5)
            await ctx.wait(1)
            tg.cancel()
            tg.start_soon(work_for, 0)
            await ctx.step(world.do, "not reached", name="do")
        return await ctx.step(world.do, "after", name="do")

    assert await world.harness(work).result() == "after"
    assert world.effects == ["after"]


async def test_cancelling_twice_and_after_the_end_does_nothing():
    """As it is with anyio's."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.task_group() as tg:
            tg.cancel()
            tg.cancel()
        tg.cancel()
        return await ctx.step(world.do, "after", name="do")

    assert await world.harness(work).result() == "after"


async def test_the_first_answer_can_cancel_the_rest():
    """From inside of a task: it is cancelled itself, so what it found has to be left somewhere."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        found: list[int] = []

        async def search(ctx: DurableContext, seconds: int) -> None:
            await ctx.wait(seconds)
            found.append(seconds)
            tg.cancel()

        async with ctx.task_group() as tg:
            for seconds in (7, 3, 5):
                tg.start_soon(search, seconds)
        await ctx.wait(20)
        return found

    assert await world.harness(work).result() == [3]


async def test_a_plain_cancellation_around_a_group():
    """Reaches its tasks and its block; the code goes on after the scope."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.CancelScope() as scope:
            async with ctx.task_group() as tg:
                tg.start_soon(wait_for, 60)
                await ctx.step(world.do, "x", name="do")
                scope.cancel()
                await ctx.step(world.do, "not reached", name="do")
        return await ctx.step(world.do, "after", name="do")

    assert await world.harness(work).result() == "after"
    assert world.effects == ["x", "after"]


# --- Going on afterwards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_code_after_a_handled_failure_has_positions_of_its_own(when, monkeypatch):
    """However far the block and the tasks came, steps of the same names after it are other steps: at any crash."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    async def task(ctx: DurableContext, seconds: int) -> None:
        await ctx.wait(seconds)
        await ctx.step(world.do, f"task {seconds}", name="step")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        done: list[str] = []
        for attempt in range(3):
            try:
                async with ctx.task_group() as tg:
                    tg.start_soon(task, 1)
                    tg.start_soon(fail_after, 4)
                    for number in range(3):
                        done.append(await ctx.step(world.do, f"block {attempt} {number}", name="step"))
                        await ctx.wait(3)
            except* ValueError:
                done.append(await ctx.step(world.do, f"after {attempt}", name="step"))
        return done

    # Of each attempt the block comes to its second wait, which is cut off.
    expected = [
        what for attempt in range(3) for what in (f"block {attempt} 0", f"block {attempt} 1", f"after {attempt}")
    ]
    whole = world.harness(work)
    assert await whole.result() == expected
    history = shape(whole.operations())
    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert harness.function.decode_result(output.result) == expected, number
        assert shape(harness.operations()).keys() == history.keys(), number
        assert list(dict.fromkeys(effect for effect in world.effects if "task" not in effect)) == expected, number
        if not crashed:
            break


async def test_what_is_recorded_in_a_block_and_not_asked_for_again_is_found():
    """Code that leaves a block too early does not follow its history."""
    from durable import NonDeterminismError

    runs: list[int] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group():
            await ctx.step(world.do, "a", name="a")
            if not runs:
                runs.append(1)
                await ctx.step(world.do, "b", name="b")
        await ctx.wait(1)

    harness = world.harness(work)
    await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 1_000)
    with pytest.raises(NonDeterminismError, match="end of a task group's block"):
        await harness.invoke()


# --- Sagas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
async def test_compensations_of_cancelled_tasks_are_there_on_replay(when, monkeypatch):
    """A failing task, tasks that registered and were cancelled, and a rollback that suspends: at any crash."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    async def undo(what: str) -> None:
        await current_context().wait(2)
        await current_context().step(world.undo, what, name="undo")

    async def book(ctx: DurableContext, what: str, seconds: int) -> None:
        await current_saga().step(world.do, what, name="do", compensate=undo)
        await ctx.wait(seconds)
        await current_saga().step(world.do, f"{what} again", name="do", compensate=undo)
        await ctx.wait(60)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip"), ctx.task_group() as tg:
            tg.start_soon(book, "hotel", 1, name="hotel")
            tg.start_soon(fail_after, 6)
            tg.start_soon(book, "flight", 20, name="flight")
            await current_saga().step(world.do, "insurance", name="do", compensate=undo)

    done = {"hotel", "hotel again", "flight", "insurance"}
    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert ending(output)[2].endswith("['ValueError: 6']"), number
        undone = [effect[5:] for effect in dict.fromkeys(world.effects) if effect.startswith("undo ")]
        # By position, last first: the block's own step stands after the tasks.
        assert undone == ["insurance", "flight", "hotel again", "hotel"], number
        assert set(world.effects) == done | {f"undo {what}" for what in done}, number
        if not crashed:
            break


async def test_a_task_belongs_to_the_saga_around_the_group():
    """Not to one that is begun in the block and may be over before the task is."""

    async def book(ctx: DurableContext) -> None:
        await ctx.wait(5)
        await current_saga().step(world.do, "x", name="do", compensate=world.undo)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer"):
            async with ctx.task_group() as tg, saga(ctx, "inner"):
                tg.start_soon(book)
            raise KeyError

    harness = world.harness(work)
    assert isinstance(await harness.error(), KeyError)
    assert world.effects == ["x", "undo x"]
    assert harness.operation("outer").sub_type == "Saga"


variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_tasks_inherit_context_variables_where_they_are_started():
    """As anyio's do."""

    async def read(ctx: DurableContext) -> str:
        await anyio.lowlevel.checkpoint()
        return variable.get()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        handles = []
        async with ctx.task_group() as tg:
            for value in ("a", "b"):
                token = variable.set(value)
                handles.append(tg.start_soon(read))
                variable.reset(token)
            handles.append(tg.start_soon(read))
        return [handle.result() for handle in handles]

    assert await world.harness(work).result() == ["a", "b", "unset"]


# --- Misuse ------------------------------------------------------------------------------------------------------


async def outside_of_its_block(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    ctx.task_group().start_soon(wait_for, 1)


async def entered_twice(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async with tg:
        pass


async def started_from_a_task(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def task(ctx: DurableContext) -> None:
        tg.start_soon(wait_for, 1)

    await tg.start_soon(task).wait()


async def started_from_a_step(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def body() -> None:
        tg.start_soon(wait_for, 1)

    await ctx.step(body)


async def started_from_a_child(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def child(ctx: DurableContext) -> None:
        tg.start_soon(wait_for, 1)

    await ctx.child(child)


async def started_from_a_plain_task(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def start() -> None:
        tg.start_soon(wait_for, 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)


async def waiting_for_itself(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def task(ctx: DurableContext) -> None:
        await handle.wait()

    handle = tg.start_soon(task)
    await handle.wait()


async def waiting_for_each_other(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def task(ctx: DurableContext, number: int) -> None:
        await anyio.lowlevel.checkpoint()
        await handles[number].wait()

    handles = [tg.start_soon(task, 1), tg.start_soon(task, 2), tg.start_soon(task, 0)]


async def waiting_in_a_step(ctx: DurableContext, tg: TaskGroup[DurableContext]) -> None:
    async def body() -> None:
        await handle.wait()

    handle = tg.start_soon(wait_for, 1)
    await ctx.step(body)


@pytest.mark.parametrize(
    ("misuse", "kind", "text"),
    [
        (outside_of_its_block, RuntimeError, "a task group is used inside its block"),
        (entered_twice, RuntimeError, "can be entered once"),
        (started_from_a_task, FrameMisuseError, "from another task"),
        (started_from_a_step, FrameMisuseError, "while step 'body' is running"),
        (started_from_a_child, FrameMisuseError, "while child 'child' is running"),
        (started_from_a_plain_task, FrameMisuseError, "from another task"),
        (waiting_for_itself, FrameMisuseError, "neither would ever end"),
        (waiting_for_each_other, FrameMisuseError, "neither would ever end"),
        (waiting_in_a_step, FrameMisuseError, "while step 'body' is running"),
    ],
    ids=lambda value: value.__name__ if callable(value) and not isinstance(value, type) else "",
)
async def test_misuse_is_an_error_that_tells(
    misuse: Callable[[DurableContext, TaskGroup[DurableContext]], Awaitable[None]], kind: type[Exception], text: str
):
    """Neither a hang nor something that depends on scheduling."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            await misuse(ctx, tg)

    with anyio.fail_after(10):
        error: Exception = await world.harness(work).error()
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, kind)
    assert text in str(error)


async def test_a_group_is_used_inside_its_block_and_not_after_it():
    """Starting something there would be waited for by nobody."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.task_group() as tg:
            pass
        with pytest.raises(RuntimeError, match="inside its block"):
            tg.start_soon(wait_for, 1)
        return "refused"

    assert await world.harness(work).result() == "refused"


# --- Scheduling --------------------------------------------------------------------------------------------------


def test_thirty_schedules_give_one_history():
    """Of a saga whose block starts tasks, waits for some, and fails."""

    def make():
        async def book(ctx: DurableContext, what: str, seconds: int) -> str:
            await ctx.wait(seconds)
            return await current_saga().step(world.do, what, 1.0, name="do", compensate=world.undo)

        async def after(ctx: DurableContext, handle: TaskHandle[str]) -> str:
            await current_saga().step(world.do, f"after {await handle.wait()}", name="do", compensate=world.undo)
            await ctx.wait(90)
            return "late"

        @durable_execution
        async def work(event: None, ctx: DurableContext) -> None:
            async with saga(ctx, "outer"), ctx.task_group() as tg:
                first = tg.start_soon(book, "first", 4)
                tg.start_soon(after, first)
                tg.start_soon(book, "second", 2)
                tg.start_soon(fail_after, 20)
                tg.start_soon(book, "third", 50)
                await current_saga().step(world.do, await first.wait(), name="do", compensate=world.undo)

        return work

    one_history(make, world)
