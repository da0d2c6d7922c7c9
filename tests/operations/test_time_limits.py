"""`ctx.move_on_after` and `ctx.fail_after`: time limits that are kept across suspensions and crashes."""

from __future__ import annotations

from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from durable import (
    DurableContext,
    InvalidDurationError,
    InvalidNameError,
    NonDeterminismError,
    Retry,
    TimeLimitError,
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


# --- In time, and too late ---------------------------------------------------------------------------------------


async def test_a_block_that_ends_in_time():
    """Its values stay, and `expired` says no; two operations are recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | bool]:
        async with ctx.move_on_after(5, name="limit") as limit:
            value = await ctx.step(world.do, "x", 4.0, name="do")
        await ctx.wait(60)
        return [value, limit.expired]

    harness = world.harness(work)
    assert await harness.result() == ["x", False]
    assert [operation.name for operation in harness.operations()] == ["limit", "do", "limit outcome", None]
    assert harness.operation("do").id not in {operation_id(None, number) for number in range(9)}


async def test_a_block_that_takes_too_long_is_cancelled():
    """A running step as well, in the same invocation and on time; the code goes on after the block."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[float | bool]:
        async with ctx.move_on_after(5) as limit:
            await ctx.step(world.do, "x", 60.0, name="do")
        seconds = world.seconds
        await ctx.wait(100)
        return [limit.expired, seconds]

    harness = world.harness(work)
    output = await harness.invoke()
    assert output.status is InvocationStatus.PENDING
    assert world.seconds == 5
    assert (await harness.result())[0] is True
    assert not world.effects


@pytest.mark.parametrize("wait", ["timer", "callback", "retry", "child", "nothing"])
async def test_the_time_passes_while_the_execution_is_suspended(wait):
    """Invoked again at the limit, whatever the block waits for."""

    async def always_fails() -> None:
        raise OSError

    async def child(ctx: DurableContext) -> None:
        await ctx.wait(60)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(5) as limit:
            if wait == "timer":
                await ctx.wait(60)
            elif wait == "callback":
                await (await ctx.create_callback()).result()
            elif wait == "retry":
                await ctx.step(always_fails, retry=Retry(initial_delay=30, jitter="none"))
            elif wait == "child":
                await ctx.child(child)
            else:
                await ctx.step(world.take, 60.0, name="take")
        return limit.expired

    harness = world.harness(work)
    assert await harness.result() is True
    assert world.seconds == 5


async def test_fail_after_raises():
    """A `TimeoutError` that names the limit, live and on replay."""
    seen = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.fail_after(timedelta(seconds=5), name="answer"):
                await ctx.wait(60)
        except TimeoutError as error:
            assert isinstance(error, TimeLimitError)
            seen.append(str(error))
        await ctx.wait(60)
        return "went on"

    assert await world.harness(work).result() == "went on"
    assert set(seen) == {"answer took longer than its time limit of 5 s"}


async def test_fail_after_in_time_raises_nothing():
    """And hands on what the block raises."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with ctx.fail_after(5):
            await ctx.wait(1)
        try:
            async with ctx.fail_after(5):
                await ctx.wait(1)
                raise KeyError("own")
        except KeyError as error:
            await ctx.wait(60)
            return repr(error)

    assert await world.harness(work).result() == "KeyError('own')"


async def test_an_execution_fails_with_its_limit():
    """As the error's own type."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.fail_after(5):
            await ctx.wait(60)

    assert isinstance(await world.harness(work).error(), TimeLimitError)


@pytest.mark.parametrize("options", [{}, {"name": "x" * 256}])
async def test_a_limit_of_the_longest_name(options):
    """What is recorded beside it is named after it, as far as that fits."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.move_on_after(1, **options):
            pass

    harness = world.harness(work)
    await harness.result()
    assert all(len(operation.name or "") <= 256 for operation in harness.operations())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((0,), InvalidDurationError),
        ((0.5,), InvalidDurationError),
        ((float("inf"),), InvalidDurationError),
        ((366 * 86400 + 1,), InvalidDurationError),
    ],
)
async def test_a_limit_that_makes_no_sense_is_refused(arguments, error):
    """Before it is entered."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with pytest.raises(error):
            ctx.move_on_after(*arguments)
        with pytest.raises(InvalidNameError):
            ctx.fail_after(1, name="\n")

    harness = world.harness(work)
    await harness.result()
    assert not harness.operations()


async def test_a_limit_can_be_entered_once():
    """Its timer runs from then on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        limit = ctx.move_on_after(5)
        async with limit:
            pass
        with pytest.raises(RuntimeError, match="can be entered once"):
            async with limit:
                pass
        return "refused"

    assert await world.harness(work).result() == "refused"


# --- What belongs to a block -------------------------------------------------------------------------------------


async def test_limits_nest():
    """The earlier one counts, whichever is outside."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[bool]:
        seen = []
        for outer_seconds, inner_seconds in ((3, 5), (5, 3)):
            async with ctx.move_on_after(outer_seconds) as outer:
                async with ctx.move_on_after(inner_seconds) as inner:
                    await ctx.wait(60)
                seen.append(inner.expired)
                await ctx.wait(60)
            seen += [inner.expired, outer.expired]
        return seen

    harness = world.harness(work)
    assert await harness.result() == [False, True, True, True, True]
    assert world.seconds == 8


async def test_positions_after_a_block_do_not_depend_on_how_far_it_came():
    """Steps of the same name after the block are other steps."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        done = []
        for number in range(3):
            async with ctx.move_on_after(5):
                for part in range(number + 1):
                    what = await ctx.step(world.do, f"{number} {part}", name="step")
                    done.append(what)
                await ctx.wait(60)
            done.append(await ctx.step(world.do, f"after {number}", name="step"))
        return done

    harness = world.harness(work)
    expected = ["0 0", "after 0", "1 0", "1 1", "after 1", "2 0", "2 1", "2 2", "after 2"]
    assert await harness.result() == expected
    assert world.effects == expected


async def test_everything_in_a_block_is_cancelled():
    """Children, branches and tasks, with their own cancellations before the code goes on."""
    ended = []

    async def works(ctx: DurableContext, n: int) -> None:
        try:
            await ctx.step(world.do, f"{n}", 50.0 + n, name="do")
        finally:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            ended.append(n)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        async with ctx.move_on_after(5), ctx.task_group() as tg:
            tg.start_soon(works, 1)
            await ctx.map(works, [2, 3], nesting="flat")
        return sorted(ended)

    assert await world.harness(work).result() == [1, 2, 3]
    assert not world.effects


async def test_a_block_that_turns_its_cancellation_into_an_error():
    """The error comes out, on replay as well: the code does not wait for what it was cancelled in."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with ctx.move_on_after(5):
                callback = await ctx.create_callback()
                try:
                    await callback.result()
                except BaseException as error:
                    raise ValueError("converted") from error
        except ValueError as error:
            await ctx.wait(60)
            return str(error)
        return "?"

    harness = world.harness(work)
    with anyio.fail_after(10):
        # Nobody could tell a suspension from a time limit here: it is the former first.
        assert (await harness.invoke()).status is InvocationStatus.PENDING
        assert await harness.result() == "converted"
    assert world.seconds == 65


async def test_a_plain_cancellation_of_a_block_is_not_its_limits():
    """Nothing is recorded of how it ended; the scope around it catches it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        with anyio.CancelScope() as scope:
            async with ctx.move_on_after(5) as limit:
                await ctx.step(world.do, "x", name="do")
                scope.cancel()
                await ctx.wait(60)
        await ctx.step(world.do, "after", name="do")
        return limit.expired

    assert await world.harness(work).result() is False
    assert world.effects == ["x", "after"]


async def test_the_users_own_cancellation_inside_a_block():
    """It is caught by its own scope, and no end of the block."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[bool]:
        async with ctx.move_on_after(5) as limit:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await ctx.wait(60)
            await ctx.wait(1)
        return [limit.expired, scope.cancelled_caught]

    harness = world.harness(work)
    assert await harness.result() == [False, True]


# --- Replay ------------------------------------------------------------------------------------------------------


async def test_a_limit_that_passed_while_nothing_ran():
    """The process was down for longer: what had ended before the limit has been seen, the rest has not."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        seen = []
        async with ctx.move_on_after(10):
            await ctx.wait(4)
            seen.append("four")
            await ctx.wait(4)
            seen.append("eight")
            await ctx.step(world.do, "x", name="do")
            await ctx.wait(4)
            seen.append("twelve")
        await ctx.step(world.do, "after", name="do")
        return seen

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    await harness.clock.sleep_until(harness.clock.now() + 100_000)
    assert await harness.result() == ["four"]
    assert world.effects == ["after"]


async def test_a_timer_inside_that_ended_after_the_limit_was_not_seen():
    """Although it has ended by the time the block is gone over again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        async with ctx.move_on_after(5) as limit:
            await ctx.wait(8)
            await ctx.step(world.do, "too late", name="do")
        for _ in range(3):
            await ctx.wait(5)
        return limit.expired

    assert await world.harness(work).result() is True
    assert not world.effects


@pytest.mark.parametrize("was_stopped", [True, False])
async def test_code_that_leaves_a_block_otherwise_than_before_is_found(was_stopped):
    """What was recorded decides; code that does not follow it is an error."""
    runs = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        runs.append(1)
        async with ctx.move_on_after(5):
            if (len(runs) < 3) == was_stopped:
                await anyio.lowlevel.checkpoint()
                await ctx.wait(60 if was_stopped else 1)
        await ctx.wait(60)

    harness = world.harness(work)
    with pytest.raises(NonDeterminismError):
        while (await harness.invoke()).status is InvocationStatus.PENDING:
            await harness.clock.sleep_until(harness.clock.now() + 5_000)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("seconds", [3, 7, 30])
async def test_a_crash_at_every_call(seconds, when, monkeypatch):
    """A limit that passes in a step, in a wait, or never, with a saga inside: one end, one history."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    async def undo(what: str) -> None:
        await current_context().wait(2)
        await current_context().step(world.undo, what, name="undo")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | bool]:
        async with ctx.move_on_after(seconds) as limit, saga(ctx, "inside"):
            await current_saga().step(world.do, "a", name="a", compensate=undo)
            await ctx.wait(5)
            await current_saga().step(world.do, "b", name="b", compensate=undo)
            await ctx.wait(5)
        await ctx.step(world.do, "after", name="a")
        await ctx.wait(1)
        return ["done", limit.expired]

    whole = world.harness(work)
    expected = ending(await whole.outcome())
    effects = set(world.effects)
    history = timeless(whole)
    assert expected[1] == f'["done",{"false" if seconds == 30 else "true"}]'
    for number in crash_points():
        harness = world.harness(work, name=f"t-{number}")
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert ending(output) == expected, number
        assert timeless(harness) == history, number
        assert set(world.effects) == effects, number
        if not crashed:
            break


def timeless(harness):
    """History; when a timer ended that nobody waits for is nobody's business."""
    return {
        key: (kind, *(rest if kind != "WAIT" else rest[:3]))
        for key, (kind, *rest) in shape(harness.operations()).items()
    }


def test_thirty_schedules_give_one_history():
    """Of limits in branches, some of which pass."""

    def make():
        async def limited(ctx: DurableContext, seconds: int) -> bool:
            async with ctx.move_on_after(seconds) as limit:
                await ctx.step(world.do, f"{seconds}", 4.5, name="do")
                await ctx.wait(3)
            await ctx.step(world.do, f"after {seconds}", name="do")
            return limit.expired

        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[bool]:
            return (await ctx.map(limited, [2, 6, 20])).results()

        return work

    one_history(make, world)


async def test_nobody_asks_about_a_limit_that_has_passed():
    """However long its block takes to be left, here for a rollback, while something else runs."""

    async def undo(what: str) -> None:
        await current_context().wait(100_000)

    async def limited(ctx: DurableContext) -> None:
        async with ctx.move_on_after(10), saga(ctx) as s:
            await s.step(world.do, "x", compensate=undo)
            await ctx.wait(60)

    async def beside(ctx: DurableContext) -> None:
        await ctx.step(world.take, 200_000.0, name="beside")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([limited, beside])

    harness = world.harness(work)
    await harness.outcome()
    assert len([call for call in harness.client.calls if not call]) < 5
