"""Where the number of operations is limited, a saga fails while its rollback still fits (DESIGN section 4, 10)."""

from __future__ import annotations

from typing import Any

import pytest

from durable import DurableContext, ExecutionFailedError, OperationBudgetError, Retry, durable_execution, saga
from durable.local import open_engine
from durable.testing import SkippingClock
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio


async def book(number: int) -> int:
    return number


async def cancel(number: int) -> None:
    CANCELLED.append(number)


async def look_up(number: int) -> int:
    return number


CANCELLED: list[int] = []


@pytest.fixture(autouse=True)
def nothing_cancelled():
    CANCELLED.clear()


def limited(function: Any, limit: int, name: str = "t-1") -> Harness:
    harness = Harness(function, name=name)
    harness.client.max_operations = limit
    return harness


OPTIONS: list[dict[str, Any]] = [
    {},
    {"retry": Retry(attempts=2)},
    {"rollback_timeout": 60},
    {"on_error": "park"},
]


@pytest.mark.parametrize("limit", [12, 13, 14, 15, 40])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "retried", "in time", "parked"])
async def test_it_fails_early_enough_and_is_rolled_back_within_the_limit(options: dict[str, Any], limit: int):
    """Everything that was booked is cancelled, and there are never more operations than there may be."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, **options) as s:
            for number in range(limit):
                await s.step(book, number, compensate=cancel)

    harness = limited(work, limit)
    error = await harness.error()
    assert isinstance(error, OperationBudgetError)
    assert error.limit == limit
    booked = [
        operation for operation in harness.operations() if operation.name == "book" and not operation.parent_id
    ]
    assert list(range(len(booked)))[::-1] == CANCELLED
    assert len(booked) >= 2
    assert len(harness.operations()) + 1 <= limit  # the EXECUTION itself counts


async def test_operations_without_an_undo_count_as_well():
    """What takes up the room is not only what has to be undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, 1, compensate=cancel)
            for number in range(100):
                await ctx.step(look_up, number)

    harness = limited(work, 20)
    assert isinstance(await harness.error(), OperationBudgetError)
    assert CANCELLED == [1]
    assert len(harness.operations()) + 1 <= 20


async def test_nested_sagas_need_room_for_all_of_them():
    """The inner one gives up for the sake of the outer one as well."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            for number in range(3):
                await outer.step(book, number, compensate=cancel)
            async with saga(ctx, "inner") as inner:
                for number in range(3, 100):
                    await inner.step(book, number, compensate=cancel)

    harness = limited(work, 30)
    assert isinstance(await harness.error(), OperationBudgetError)
    assert sorted(CANCELLED, reverse=True) == CANCELLED
    assert CANCELLED[-1] == 0
    assert len(harness.operations()) + 1 <= 30


async def test_a_saga_with_nothing_to_undo_goes_on_to_the_limit_and_so_does_what_is_outside():
    """Only a rollback needs room."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with saga(ctx) as s:
            for number in range(9):
                await s.step(look_up, number)
        for number in range(9):
            await ctx.step(look_up, number)
        return 1

    harness = limited(work, 19)
    assert await harness.result() == 1
    assert len(harness.operations()) + 1 == 19


async def test_the_operations_inside_of_finished_maps_count_in_later_invocations():
    """The service does not give them any more; the map's own record says how many there are."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def one(child: DurableContext, number: int) -> int:
            return await child.step(look_up, number)

        async with saga(ctx) as s:
            await s.step(book, 1, compensate=cancel)
            await ctx.map(one, range(10))
            await ctx.wait(5)
            for number in range(100):
                await ctx.step(look_up, number)

    harness = limited(work, 40)
    assert isinstance(await harness.error(), OperationBudgetError)
    assert harness.invocations == 2
    assert CANCELLED == [1]
    assert 30 <= len(harness.operations()) + 1 <= 40


async def test_a_crash_at_any_call_changes_nothing():
    """The same saga fails at the same place, and the rollback still fits."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            for number in range(100):
                await s.step(book, number, compensate=cancel)

    whole = limited(work, 14)
    await whole.error()
    calls, booked = len(whole.calls), list(CANCELLED)
    for number in range(1, calls + 1):
        CANCELLED.clear()
        harness = limited(work, 14, name=f"t-{number}")

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        harness.client.after = crash
        with pytest.raises(CrashError):
            await harness.error()
        harness.client.after = lambda _: None
        assert isinstance(await harness.error(), OperationBudgetError), number
        assert list(dict.fromkeys(CANCELLED)) == booked, number
        assert len(harness.operations()) + 1 <= 14, number


async def test_the_embedded_engine_can_have_the_limit_and_refuses_what_is_beyond_it():
    """Outside of sagas nothing holds back: the service refuses the call, and the execution fails."""

    @durable_execution
    async def work(saga_around: bool, ctx: DurableContext) -> None:
        if saga_around:
            async with saga(ctx) as s:
                for number in range(100):
                    await s.step(book, number, compensate=cancel)
        for number in range(100):
            await ctx.step(look_up, number)

    async with open_engine(clock=SkippingClock(), max_operations=20) as engine:
        engine.register(work)
        inside = await engine.start(work, True)
        with pytest.raises(ExecutionFailedError) as caught:
            await inside.result()
        assert isinstance(caught.value.__cause__, OperationBudgetError)
        assert len(CANCELLED) > 2
        outside = await engine.start(work, False)
        with pytest.raises(ExecutionFailedError, match="at most 20 operations"):
            await outside.result()
        assert len(await engine.operations(outside.name)) + 1 == 20
