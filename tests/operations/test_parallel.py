"""`parallel`: different branches side by side."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from durable import (
    Completion,
    DurableContext,
    FrameMisuseError,
    InvalidNameError,
    SerializationError,
    ServiceError,
    current_context,
    durable_execution,
    saga,
)
from durable._kernel.ids import branch_id, operation_id
from durable._wire import InvocationStatus
from tests.sweep import World, ending, one_history, outcome_with_crashes, shape

pytestmark = pytest.mark.anyio

world = World()
both = pytest.mark.parametrize("nesting", ["nested", "flat"])


async def one(ctx: DurableContext) -> int:
    await ctx.step(world.do, "one", 1.0, name="do")
    return 1


async def two(ctx: DurableContext) -> str:
    await ctx.wait(2)
    return await ctx.step(world.do, "two", name="do")


async def fails(ctx: DurableContext) -> None:
    await ctx.step(world.do, "fails", 3.0, name="do")
    raise KeyError("three")


@both
async def test_branches_of_different_types(nesting):
    """Each has its own result, in the order given, and a name by its number."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[tuple[str, str, str]]:
        batch = await ctx.parallel([two, fails, one], nesting=nesting)
        return [(item.name, item.status, repr(item.result or item.error)) for item in batch]

    assert await world.harness(work).result() == [
        ("parallel-branch-0", "succeeded", "'two'"),
        ("parallel-branch-1", "failed", "KeyError('three')"),
        ("parallel-branch-2", "succeeded", "1"),
    ]


@both
async def test_a_mapping_names_its_branches(nesting):
    """In history too, if they are nested."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.parallel({"uno": one, "due": two}, name="numbers", nesting=nesting)
        return [item.name for item in batch]

    harness = world.harness(work)
    assert await harness.result() == ["uno", "due"]
    names = {operation.name for operation in harness.operations() if operation.sub_type == "ParallelBranch"}
    assert names == ({"uno", "due"} if nesting == "nested" else set())
    assert harness.operation("numbers").sub_type == "Parallel"


async def test_what_is_recorded_of_it():
    """Branches count from 0 under the operation, what is in them from 1 under the branch."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(world.do, "before", name="do")
        await ctx.parallel([one, two])

    harness = world.harness(work)
    await harness.result()
    whole = operation_id(None, 2)
    branches = [branch_id(whole, 0), branch_id(whole, 1)]
    parents = {operation.id: operation.parent_id for operation in harness.operations()}
    assert parents == {
        operation_id(None, 1): None,
        whole: None,
        branches[0]: whole,
        branches[1]: whole,
        operation_id(branches[0], 1): branches[0],
        operation_id(branches[1], 1): branches[1],
        operation_id(branches[1], 2): branches[1],
    }


@both
@pytest.mark.parametrize("branches", [[], {}])
async def test_no_branch(branches, nesting):
    """It is complete at once, also when it is gone over again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> tuple[int, str, bool]:
        batch = await ctx.parallel(branches, nesting=nesting, completion=Completion.first_successful())
        await ctx.wait(1)
        return len(batch), batch.completion_reason, batch.is_successful

    # No success is fewer than one, but there was nothing to fail either.
    assert await world.harness(work).result() == (0, "ALL_COMPLETED", False)


@pytest.mark.parametrize(
    ("options", "error"),
    [({"max_concurrency": -1}, ValueError), ({"nesting": ""}, ValueError), ({"name": ""}, InvalidNameError)],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_recorded(options, error):
    """Each by name."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with pytest.raises(error):
            await ctx.parallel([one], **options)

    harness = world.harness(work)
    await harness.result()
    assert not harness.operations()


async def test_an_annotation_that_cannot_be_decoded_is_found_before_any_branch_runs():
    """Also that of the last one."""

    async def broken(ctx: DurableContext) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError("it runs")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with pytest.raises(SerializationError, match="Nowhere"):
            await ctx.parallel([one, broken])

    harness = world.harness(work)
    await harness.result()
    assert not harness.operations()
    assert not world.effects


# --- Nesting -----------------------------------------------------------------------------------------------------


@both
async def test_five_levels_deep(nesting):
    """Two branches a level, a wait at the bottom of each: suspended once."""

    async def level(ctx: DurableContext, depth: int) -> int:
        if not depth:
            await ctx.wait(3)
            await ctx.step(world.do, "leaf", name="do")
            return 1

        async def left(ctx: DurableContext) -> int:
            return await level(ctx, depth - 1)

        async def right(ctx: DurableContext) -> int:
            return await ctx.child(level, depth - 1)

        return sum((await ctx.parallel([left, right], nesting=nesting)).results())

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await level(ctx, 5)

    harness = world.harness(work)
    assert await harness.result() == 32
    assert len(world.effects) == 32
    assert harness.invocations == 2


@both
async def test_parallel_in_a_child_in_parallel(nesting):
    """Ids nest, results come up, and a replay finds all of it again."""

    async def inner(ctx: DurableContext) -> int:
        batch = await ctx.parallel([one, one], nesting=nesting)
        return sum(batch.results())

    async def middle(ctx: DurableContext) -> int:
        return await ctx.child(inner)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        batch = await ctx.parallel([middle, middle], nesting=nesting)
        await ctx.wait(1)
        return sum(batch.results())

    harness = world.harness(work)
    assert await harness.result() == 4
    assert world.effects == ["one"] * 4
    assert len({operation.id for operation in harness.operations()}) == len(harness.operations())


@both
async def test_a_flat_branch_may_hold_what_a_nested_one_may(nesting):
    """Children, sagas, task groups, limits and further fan-outs count in the branch's own namespace."""

    async def branch(ctx: DurableContext) -> int:
        total = await ctx.child(one)
        async with saga(ctx):
            total += await ctx.child(one, name="in a saga")
        async with ctx.task_group() as tg:
            handle = tg.start_soon(one)
        async with ctx.move_on_after(60):
            total += await ctx.child(one, name="in a limit")
        total += sum((await ctx.map(double, [1, 2], nesting=nesting)).results())
        return total + handle.result()

    async def double(ctx: DurableContext, n: int) -> int:
        await ctx.wait(n)
        return n * 2

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        batch = await ctx.parallel([branch, branch], nesting=nesting)
        await ctx.wait(1)
        return batch.results()

    harness = world.harness(work)
    assert await harness.result() == [10, 10]
    assert world.effects == ["one"] * 8


# --- Suspension --------------------------------------------------------------------------------------------------


@both
async def test_a_branch_that_parks_does_not_lose_a_siblings_running_step(nesting):
    """The step ends in the same invocation, once."""

    async def long(ctx: DurableContext) -> str:
        return await ctx.step(world.do, "long", 5.0, name="do")

    async def parks(ctx: DurableContext) -> None:
        await ctx.wait(60)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        return (await ctx.parallel([parks, long], nesting=nesting)).is_successful

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert world.effects == ["long"]
    assert world.seconds == 5
    assert await harness.result() is True
    assert world.effects == ["long"]


@both
async def test_a_suspended_branch_is_not_a_failed_one(nesting):
    """No policy hears of it, and no handler."""
    seen: list[object] = []

    async def parks(ctx: DurableContext) -> int:
        try:
            await ctx.wait(5)
        except Exception as error:
            seen.append(error)
        return 1

    def when(progress):
        seen.extend(["failed"] * progress.failed)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        batch = await ctx.parallel([parks, parks], completion=Completion(when=when), nesting=nesting)
        return batch.results()

    harness = world.harness(work)
    assert await harness.result() == [1, 1]
    assert not seen
    assert harness.invocations == 2


@both
async def test_a_branch_that_swallows_the_suspension_does_not_end(nesting):
    """Its return value does not count; the answer is PENDING, and what it wrote down is only what it did."""

    async def swallows(ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException:
            return "swallowed"
        return "waited"

    async def converts(ctx: DurableContext) -> str:
        try:
            await ctx.wait(5)
        except BaseException as error:
            raise RuntimeError("converted") from error
        return "waited"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        return (await ctx.parallel([swallows, converts], nesting=nesting)).results()

    harness = world.harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert await harness.result() == ["waited", "waited"]


# --- Failures of the service -------------------------------------------------------------------------------------


@both
async def test_a_service_error_is_no_branchs_outcome(nesting):
    """It ends the invocation past every handler, and all tasks with it."""
    seen: list[object] = []

    async def branch(ctx: DurableContext) -> str:
        try:
            return await ctx.step(world.do, "step", name="do")
        except Exception as error:
            seen.append(error)
            return "handled"

    async def sleeps(ctx: DurableContext) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("ended")

    def fail(call: int) -> None:
        if call == 1:
            raise ServiceError("no", retryable=False)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.parallel([branch, sleeps, branch], nesting=nesting)
        except Exception as error:
            seen.append(error)

    harness = world.harness(work)
    harness.client.before = fail
    error = await harness.error()
    assert isinstance(error, ServiceError)
    assert seen in ([], ["ended"])  # whether it had begun
    assert not harness.operations()


# --- Context variables and places --------------------------------------------------------------------------------


@both
async def test_the_current_context_is_the_branchs(nesting):
    """And after it, the outer one again."""
    seen = []

    async def branch(ctx: DurableContext) -> None:
        await anyio.lowlevel.checkpoint()
        assert current_context()._frame is ctx._frame
        seen.append(ctx)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([branch, branch], nesting=nesting)
        assert current_context()._frame is ctx._frame

    await world.harness(work).result()
    assert len({id(ctx) for ctx in seen}) == 2


@both
async def test_a_branchs_context_is_refused_in_another_branch(nesting):
    """And when the branch has ended."""
    contexts: list[DurableContext] = []

    async def lends(ctx: DurableContext) -> None:
        contexts.append(ctx)
        await ctx.wait(5)

    async def borrows(ctx: DurableContext) -> None:
        await ctx.wait(1)
        await contexts[-1].step(world.do, "x", name="do")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        batch = await ctx.parallel([lends, borrows], nesting=nesting)
        with pytest.raises(FrameMisuseError, match=r"has ended|another task"):
            await contexts[-1].wait(1)
        return f"{batch.items[1].error}"

    # A flat branch has no record of its failure, and fails again when the other one has ended.
    told = "from another task than the one its context belongs to" if nesting == "nested" else "has ended"
    assert told in await world.harness(work).result()
    assert not world.effects


@both
async def test_the_tasks_of_an_invocation_have_ended_when_it_is_over(nesting):
    """Nothing of a branch runs on in the next invocation, however it was left."""
    running = 0

    async def branch(ctx: DurableContext) -> None:
        nonlocal running
        running += 1
        try:
            await ctx.wait(5)
            await ctx.step(world.do, "x", 1.0, name="do")
        finally:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            running -= 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.parallel([branch] * 5, nesting=nesting)

    harness = world.harness(work)
    while (await harness.invoke()).status is InvocationStatus.PENDING:
        assert running == 0
        await harness.clock.sleep_until(harness.clock.now() + 5_000)
    assert running == 0


# --- Crashes and schedules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("policy", ["all", "all_successful", "first_successful"])
@both
async def test_a_crash_at_every_call(nesting, policy, when, monkeypatch):
    """Waits, steps and failures under each policy: the same end and the same history; what was completed, once."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)

    async def later(ctx: DurableContext) -> str:
        await ctx.wait(8)
        return await ctx.step(world.do, "later", name="do")

    async def fails_soon(ctx: DurableContext) -> None:
        await ctx.wait(1)
        await ctx.step(world.do, "fails", name="do")
        raise KeyError("soon")

    async def nests(ctx: DurableContext) -> int:
        await ctx.wait(4)
        return len(await ctx.parallel([two, fails_soon], nesting=nesting, completion=getattr(Completion, policy)()))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.parallel(
            [later, nests, fails_soon], nesting=nesting, completion=getattr(Completion, policy)()
        )
        await ctx.wait(30)
        return [f"{item.status} {item.result!r} {item.error!r}" for item in batch]

    whole = world.harness(work)
    expected = ending(await whole.outcome())
    effects = sorted(world.effects)
    number = 1
    while True:
        harness = world.harness(work, name=f"t-{number}")
        output, crashed = await outcome_with_crashes(harness, **{when: number})
        assert ending(output) == expected, number
        assert completed(harness) == completed(whole), number
        assert set(world.effects) == set(effects), number
        assert len(world.effects) <= len(effects) + 2, number  # what ran at the moment of the crash
        if not crashed:
            break
        number += 1


def completed(harness):
    """History without the timers that nobody waits for."""
    return {key: rest for key, (kind, *rest) in shape(harness.operations()).items() if kind != "WAIT"}


@both
def test_thirty_schedules_give_one_history(nesting):
    """Of a saga whose block runs branches, some of which fail."""

    def make():
        async def books(ctx: DurableContext) -> None:
            async with saga(ctx, "inner") as inner:
                await inner.step(world.do, "x", 1.0, name="do", compensate=world.undo)
                await ctx.wait(2)
                raise KeyError

        @durable_execution
        async def work(event: None, ctx: DurableContext) -> None:
            async with saga(ctx, "outer") as outer:
                await outer.step(world.do, "y", name="do", compensate=world.undo)
                batch = await ctx.parallel([books, two, one, fails], nesting=nesting)
                batch.results()

        return work

    one_history(make, world)
