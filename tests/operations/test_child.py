"""Child contexts."""

from __future__ import annotations

import pytest

from durable import DurableContext, FrameMisuseError, current_context, durable_execution
from durable._kernel.ids import operation_id
from tests.harness import Harness

pytestmark = pytest.mark.anyio

RUNS: list[object] = []


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


async def book(n: int) -> int:
    RUNS.append(n)
    return n


async def subflow(ctx: DurableContext, n: int) -> int:
    first = await ctx.step(book, n)
    await ctx.wait(1)
    return first + await current_context().step(book, n + 1)


async def test_a_child_has_its_own_namespace_and_ends_with_its_result():
    """Ids hang under the child's, updates name it as their parent, and the order on the wire is the protocol's."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.child(subflow, 1, name="first") + await ctx.child(subflow, 10)

    harness = Harness(work)
    assert await harness.result() == 3 + 21
    assert RUNS == [1, 2, 10, 11]
    child = harness.operation("first")
    assert child.id == operation_id(None, 1)
    assert {operation.id for operation in harness.operations() if operation.parent_id == child.id} == {
        operation_id(child.id, position) for position in (1, 2, 3)
    }
    assert harness.calls == [
        ["CONTEXT START first", "STEP START book", "STEP SUCCEED book"],
        ["WAIT START None"],
        ["STEP START book", "STEP SUCCEED book"],
        ["CONTEXT SUCCEED first"],
        ["CONTEXT START subflow", "STEP START book", "STEP SUCCEED book"],
        ["WAIT START None"],
        ["STEP START book", "STEP SUCCEED book"],
        ["CONTEXT SUCCEED subflow"],
    ]


async def test_a_child_that_has_ended_is_not_run_again():
    """Its record is enough."""
    bodies = []

    async def counted(ctx: DurableContext) -> int:
        bodies.append(1)
        return await ctx.step(book, 1)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result = await ctx.child(counted)
        await ctx.wait(1)
        return result

    assert await Harness(work).result() == 1
    assert len(bodies) == 1


async def test_a_large_result_is_rebuilt_from_the_childs_records():
    """Over 256 KB the context's own record leaves it out; the steps inside are still not run again."""

    async def large(ctx: DurableContext) -> str:
        return "x" * (300_000 + await ctx.step(book, 1))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result = await ctx.child(large)
        await ctx.wait(1)
        return len(result)

    harness = Harness(work)
    assert await harness.result() == 300_001
    assert RUNS == [1]
    details = harness.operation("large").context_details
    assert details is not None
    assert details.replay_children
    assert details.result == ""


async def test_a_childs_failure_comes_out_as_its_own_type_live_and_on_replay():
    """And the workflow can go on after it."""
    seen = []

    async def fails(ctx: DurableContext) -> None:
        await ctx.step(book, 1)
        raise KeyError("room")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.child(fails)
        except KeyError as error:
            seen.append((type(error), error.args, str(error)))
        await ctx.wait(1)
        return "went on"

    assert await Harness(work).result() == "went on"
    assert seen == [(KeyError, ("room",), "'room'")] * 2


async def test_children_nest():
    """Five levels deep, with a suspension at the bottom."""

    async def level(ctx: DurableContext, depth: int) -> int:
        if depth == 0:
            await ctx.wait(1)
            return await ctx.step(book, 0)
        return await ctx.child(level, depth - 1) + 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        return await ctx.child(level, 5)

    harness = Harness(work)
    assert await harness.result() == 5
    assert RUNS == [0]
    assert harness.invocations == 2


async def test_the_outer_context_is_refused_inside_a_child():
    """Its positions would depend on where in the child it was used."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def inner(_: DurableContext) -> None:
            await ctx.step(book, 1)

        try:
            await ctx.child(inner)
        except FrameMisuseError as error:
            return str(error)
        return "?"

    assert "while child 'inner' is running on it" in await Harness(work).result()
    assert RUNS == []
