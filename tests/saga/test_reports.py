"""What a rollback came to, for programs and for people: the same live and on replay, to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from durable import (
    CompensationError,
    CompensationItem,
    CompensationResult,
    DurableContext,
    SagaScope,
    durable_execution,
    saga,
)
from durable._wire import OperationStatus
from tests.saga.world import Full, answer, book, callbacks, cancel, cannot_cancel, crash_everywhere, run, sweep

pytestmark = pytest.mark.anyio


class Busy(Exception):
    """Carries data."""

    code: int = 0


async def busy(what: str) -> None:
    error = Busy(what)
    error.code = 503
    error.add_note("call again")
    raise error


def told(result: CompensationResult | None) -> str:
    """All of a report."""
    assert result is not None
    items: list[tuple[Any, ...]] = []
    for item in result.items:
        carried = (
            {} if item.error is None else {name: v for name, v in vars(item.error).items() if "trace" not in name}
        )
        items.append((item.name, item.status, repr(item.error), carried))
    return repr((items, result.all_succeeded, result.is_settled))


@pytest.mark.parametrize("on_error", ["continue", "stop", "park"])
async def test_a_report_is_the_same_live_and_on_every_replay(on_error: Any):
    """Names, statuses, errors with all they carry; live, after each crash, and in each later invocation."""
    reports: set[str] = set()
    errors: set[str] = set()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip", on_error=on_error) as s:
                await s.step(book, "a", compensate=cancel, name="a")
                await s.step(book, "b", compensate=busy, name="b")
                await s.step(book, "c", compensate=cancel, name="c")
                raise KeyError("why")
        except CompensationError as error:
            reports.add(told(error.result))
            errors.add(f"{error!r} {error.__cause__!r} {error.exceptions[0].__notes__}")
        except KeyError as error:
            errors.add(f"{error!r} {error.__notes__}")
        reports.add(told(s.result))
        await ctx.wait(5)
        await ctx.wait(5)

    async def world(harness: Any) -> None:
        for callback in callbacks(harness):
            await answer(harness, callback.name or "", '"skip"')

    await crash_everywhere(work, world=world)
    assert len(errors) == 1, errors
    assert len(reports) == 1, reports
    (error,) = errors
    if on_error == "park":
        assert error == "KeyError('why') [\"saga 'trip' was rolled back; undone: c, a; skipped: b\"]"
    else:
        assert "KeyError('why') ['call again', \"raised by the compensation of 'b'\"]" in error


async def test_results_are_equal_and_printable():
    """Two of the same are equal; the names say what they are."""
    results: list[CompensationResult | None] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=cancel, name="a")
                await s.step(book, "b", compensate=cancel, name="b")
                raise Full("c")
        except Full:
            results.append(s.result)
            await ctx.wait(5)

    await sweep(work)
    expected = CompensationResult(
        (CompensationItem("b", "succeeded"), CompensationItem("a", "succeeded")), all_succeeded=True
    )
    assert len(results) > 10
    assert all(result == expected for result in results)
    assert repr(expected).startswith("CompensationResult(items=(CompensationItem(name='b', status='succeeded'")


async def test_there_is_no_result_before_there_is_a_rollback():
    """And none if all goes well."""
    seen: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            seen.append(s.result)
            await s.step(book, "a", compensate=cancel)
            await s.rollback_to(s.savepoint(), "nothing")
            seen.append(s.result)
        seen.append(s.result)

    await run(work)
    assert seen == [None, None, None]


@pytest.mark.parametrize("where", ["a child", "a branch", "a task", "the caller"])
async def test_the_report_of_a_compensation_error_that_comes_from_further_in(where: str):
    """It crosses records as any error: what failed is inside, and the whole report is still there."""
    seen: set[str] = set()

    async def inner(ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=busy, name="b")
            raise KeyError("why")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            if where == "a child":
                await ctx.child(inner)
            elif where == "a branch":
                (await ctx.parallel([inner])).results()
            elif where == "a task":
                async with ctx.task_group() as tasks:
                    tasks.start_soon(inner)
            else:
                await inner(ctx)
        except CompensationError as error:
            seen.add(shown(error))
        except ExceptionGroup as group:
            seen.add(shown(group.exceptions[0]))
        await ctx.wait(5)

    def shown(error: Exception) -> str:
        assert isinstance(error, CompensationError)
        items = [(item.name, item.status, repr(item.error)) for item in error.result.items]
        return f"{error!s} {error.exceptions!r} {items} {error.result.all_succeeded}"

    await sweep(work)
    items = [("b", "failed", "Busy('b')"), ("a", "succeeded", "None")]
    assert seen == {f"saga 'trip' could not undo b (1 sub-exception) (Busy('b'),) {items} False"}


async def test_what_is_recorded_for_those_who_look_from_outside():
    """The saga's record holds the whole report, whether it succeeded or not; each compensation its own outcome."""

    @durable_execution
    async def work(event: bool, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cannot_cancel if event else cancel, name="a")
            raise KeyError("why")

    import json

    ran = await run(work, False)
    record = ran.harness.operation("trip")
    assert record.status is OperationStatus.SUCCEEDED
    report = json.loads(record.result or "")
    assert report["reason"]["ErrorMessage"] == "'why'"
    assert [(item["name"], item["status"]) for item in report["items"]] == [("a", "succeeded")]

    ran = await run(work, True)
    record = ran.harness.operation("trip")
    assert record.status is OperationStatus.FAILED
    assert record.error is not None
    assert record.error.error_type == "durable.exceptions.CompensationError"
    assert record.error.error_message == "could not undo a"
    report = json.loads(record.error.error_data or "")
    assert [(item["name"], item["status"]) for item in report["items"]] == [("a", "failed")]
    assert report["items"][0]["error"]["ErrorType"].endswith("Full")


async def test_scopes_that_are_kept_keep_their_result():
    """It can be looked at after the block."""
    kept: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        s = saga(ctx)
        kept.append(s)
        async with s:
            await s.step(book, "a", compensate=cancel, name="a")
            raise Full("x")

    await run(work)
    assert kept[0].result == CompensationResult((CompensationItem("a", "succeeded"),), all_succeeded=True)
