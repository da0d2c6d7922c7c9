"""What follows a compensation that fails, and what comes out of the saga (DESIGN section 4, rule 6)."""

from __future__ import annotations

from typing import Any

import pytest

from durable import CompensationError, DurableContext, SagaScope, durable_execution, saga
from durable._wire import OperationStatus
from tests.saga.world import LOG, Full, book, cancel, cannot_cancel, refuse, run, sweep

pytestmark = pytest.mark.anyio


async def test_failing_compensations_do_not_keep_the_others_from_running():
    """`on_error="continue"`: each is attempted; what failed comes out as a group, the original as its cause."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        try:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=cancel, name="a")
                await s.step(book, "b", compensate=cannot_cancel, name="b")
                await s.step(book, "c", compensate=cannot_cancel, name="c")
                raise KeyError("why")
        except CompensationError as error:
            await ctx.wait(1)
            return [
                str(error),
                [repr(one) for one in error.exceptions],
                [one.__notes__ for one in error.exceptions],
                repr(error.__cause__),
                [(item.name, item.status, str(item.error)) for item in error.result.items],
                error.result.all_succeeded,
            ]
        return []

    ran = await sweep(work, twice=True)
    assert ran.result() == [
        "saga 'trip' could not undo c, b (2 sub-exceptions)",
        ["Full('c')", "Full('b')"],
        [["raised by the compensation of 'c'"], ["raised by the compensation of 'b'"]],
        "KeyError('why')",
        [["c", "failed", "c"], ["b", "failed", "b"], ["a", "succeeded", "None"]],
        False,
    ]
    assert ran.log == ["book a", "book b", "book c", "try to cancel c", "try to cancel b", "cancel a"]
    assert ran.harness.operation("trip").status is OperationStatus.FAILED


async def test_on_error_stop_leaves_the_rest_and_says_so():
    """What was not attempted is in the report."""
    scopes: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error="stop") as s:
            scopes.append(s)
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=cannot_cancel, name="b")
            await s.step(book, "c", compensate=cancel, name="c")
            raise KeyError("why")

    ran = await sweep(work, twice=True)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert str(error) == "saga 'trip' could not undo b; not attempted: a (1 sub-exception)"
    assert ran.log == ["book a", "book b", "book c", "cancel c", "try to cancel b"]
    assert scopes[-1].result is not None
    statuses = [(item.name, item.status, repr(item.error)) for item in scopes[-1].result.items]
    assert statuses == [
        ("c", "succeeded", "None"),
        ("b", "failed", "Full('b')"),
        ("a", "not attempted", "None"),
    ]


async def test_an_unknown_on_error_is_refused():
    """Where it is written, before anything happens."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="ignore") as s:  # type: ignore[arg-type]
            await s.step(book, "a", compensate=cancel)

    ran = await run(work)
    assert str(ran.error()) == "saga(on_error='ignore'): 'continue', 'stop' or 'park'"
    assert LOG == []


async def test_except_star_takes_a_compensations_error_by_its_type():
    """Groups are split as Python's own are, and stay what they are."""

    class Other(Exception):
        pass

    async def fails_otherwise(what: str) -> None:
        raise Other(what)

    seen: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=fails_otherwise)
                await s.step(book, "b", compensate=cannot_cancel)
                raise KeyError("why")
        except* Full as group:
            assert isinstance(group, CompensationError)
            seen.append(f"{group.exceptions} {group.result.all_succeeded}")
        except* Other as group:
            seen.append(f"{group.exceptions}")

    await run(work)
    assert seen == ["(Full('b'),) False", "(Other('a'),)"]


async def test_the_error_that_could_not_be_undone_reaches_an_outer_saga():
    """The outer one undoes its own, and hands the same error on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            async with saga(ctx, "inner") as inner:
                await inner.step(book, "b", compensate=cannot_cancel, name="b")
                await inner.step(refuse, "c")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert str(error) == "saga 'inner' could not undo b (1 sub-exception)"
    assert error.__notes__ == ["saga 'outer' was rolled back; undone: book"]
    assert ran.undone == ["try to cancel b", "cancel a"]


async def test_two_sagas_that_could_not_be_undone():
    """The outer one's error is caused by the inner one's, which is caused by what went wrong."""
    causes: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "outer") as outer:
                await outer.step(book, "a", compensate=cannot_cancel, name="a")
                async with saga(ctx, "inner") as inner:
                    await inner.step(book, "b", compensate=cannot_cancel, name="b")
                    await inner.step(refuse, "c")
        except CompensationError as error:
            cause = error.__cause__
            assert cause is not None
            causes.append(f"{error} <- {cause} <- {cause.__cause__!r}")
            raise

    await sweep(work)
    assert set(causes) == {
        (
            "saga 'outer' could not undo a (1 sub-exception) <- "
            "saga 'inner' could not undo b (1 sub-exception) <- Full('c')"
        )
    }
