"""Code that changed under a running execution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from durable import DurableContext, NonDeterminismError, current_context, durable_execution, saga
from durable._wire import InvocationStatus
from tests.harness import Harness

pytestmark = pytest.mark.anyio

RUNS: list[str] = []


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


async def hotel() -> str:
    RUNS.append("hotel")
    return "hotel"


async def flight() -> str:
    RUNS.append("flight")
    return "flight"


async def original(ctx: DurableContext) -> list[str]:
    results = [await ctx.step(hotel), await ctx.step(flight)]
    await ctx.wait(5, name="cool")
    return results


async def swapped(ctx: DurableContext) -> list[str]:
    return [await ctx.step(flight), await ctx.step(hotel)]


async def renamed(ctx: DurableContext) -> list[str]:
    return [await ctx.step(hotel), await ctx.step(flight, name="plane")]


async def replaced_by_a_wait(ctx: DurableContext) -> list[str]:
    await ctx.wait(5, name="hotel")
    return []


async def replaced_by_a_child(ctx: DurableContext) -> list[str]:
    async def sub(ctx: DurableContext) -> None: ...

    await ctx.child(sub, name="hotel")
    return []


async def moved_into_a_child(ctx: DurableContext) -> list[str]:
    async def sub(ctx: DurableContext) -> str:
        return await ctx.step(flight)

    return [await ctx.step(hotel), await ctx.child(sub, name="flight")]


async def cut_short(ctx: DurableContext) -> list[str]:
    return [await ctx.step(hotel)]


CHANGES: list[tuple[Callable[[DurableContext], Awaitable[list[str]]], str, str]] = [
    (swapped, "Step 'hotel'", "Step 'flight'"),
    (renamed, "Step 'flight'", "Step 'plane'"),
    (replaced_by_a_wait, "Step 'hotel'", "Wait 'hotel'"),
    (replaced_by_a_child, "Step 'hotel'", "RunInChildContext 'hotel'"),
    (moved_into_a_child, "Step 'flight'", "RunInChildContext 'flight'"),
    (cut_short, "Step 'flight'", "the end of work"),
]


@pytest.mark.parametrize(("change", "expected", "found"), CHANGES, ids=[change[0].__name__ for change in CHANGES])
async def test_changed_code_is_told_what_was_recorded_and_what_it_asks_for(change, expected, found):
    """Nothing is run, nothing is recorded, no handler of the user's sees it, and the old code can still go on."""
    code = [original]
    caught = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        try:
            return await code[0](ctx)
        except Exception as error:
            caught.append(error)
            raise

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert RUNS == ["hotel", "flight"]
    calls = list(harness.calls)
    code[0] = change
    with pytest.raises(NonDeterminismError) as raised:
        await harness.invoke()
    assert raised.value.expected == expected
    assert raised.value.found == found
    assert "test_determinism.py" in raised.value.where or change is cut_short
    assert f"expected {expected} (recorded), found {found}, at operation" in str(raised.value)
    assert RUNS == ["hotel", "flight"]
    assert harness.calls == calls
    assert caught == []
    code[0] = original
    assert await harness.result() == ["hotel", "flight"]


async def test_a_saga_is_not_rolled_back_because_of_a_deploy():
    """Broken code is not a business failure: nothing is undone, and fixed code goes on."""
    undone = []
    step = [flight]

    async def cancel(what: str) -> None:
        undone.append(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(hotel, compensate=cancel)
            result = await s.step(step[0])
            await ctx.wait(5)
        return result

    harness = Harness(work)
    await harness.invoke()
    step[0] = hotel
    with pytest.raises(NonDeterminismError):
        await harness.invoke()
    assert undone == []
    step[0] = flight
    assert await harness.result() == "flight"


async def test_new_operations_after_the_recorded_ones_are_fine():
    """That is how a workflow may grow."""
    longer = [False]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        results = await original(ctx)
        if longer[0]:
            results.append(await ctx.step(hotel))
        return results

    harness = Harness(work)
    await harness.invoke()
    longer[0] = True
    assert await harness.result() == ["hotel", "flight", "hotel"]


async def test_a_child_that_is_rebuilt_may_not_do_anything_new():
    """Nothing is accepted under a finished context."""
    longer = [False]

    async def large(ctx: DurableContext) -> str:
        await ctx.step(hotel)
        if longer[0]:
            await ctx.step(flight)
        return "x" * 300_000

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result = await ctx.child(large)
        await ctx.wait(5)
        return len(result)

    harness = Harness(work)
    await harness.invoke()
    longer[0] = True
    with pytest.raises(NonDeterminismError, match="expected nothing more in this finished context"):
        await harness.invoke()
    longer[0] = False
    assert await harness.result() == 300_000


async def test_a_saga_can_be_put_around_what_is_recorded():
    """It takes no position, so that running executions follow code that has one more."""
    log = []

    async def cancel(what: str) -> None:
        log.append(f"cancel {what}")

    async def with_saga(ctx: DurableContext) -> list[str]:
        async with saga(ctx) as s:
            await s.step(hotel, compensate=cancel)
            await ctx.wait(5)
            raise RuntimeError("too late")

    async def without(ctx: DurableContext) -> list[str]:
        await ctx.step(hotel)
        await ctx.wait(5)
        return []

    code = [without]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        return await code[0](ctx)

    harness = Harness(work)
    await harness.invoke()
    code[0] = with_saga
    assert str(await harness.error()) == "too late"
    assert len(log) == 1


async def test_a_saga_that_is_gone_while_it_rolls_back_is_noticed():
    """What is recorded of its rollback is not passed over in silence."""

    async def cancel(what: str) -> None:
        await current_context().wait(5)

    async def with_saga(ctx: DurableContext) -> list[str]:
        async with saga(ctx, "trip") as s:
            await s.step(hotel, compensate=cancel)
            raise RuntimeError("no")

    async def without(ctx: DurableContext) -> list[str]:
        await ctx.step(hotel)
        return []

    code = [with_saga]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        return await code[0](ctx)

    harness = Harness(work)
    await harness.invoke()
    code[0] = without
    with pytest.raises(NonDeterminismError, match=r"expected Saga 'trip' .*found the end of work"):
        await harness.invoke()
