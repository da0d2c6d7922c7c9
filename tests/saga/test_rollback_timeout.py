"""A time limit for a whole rollback (DESIGN section 4, rule 10)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from durable import (
    CompensationError,
    DurableContext,
    InvalidDurationError,
    Retry,
    SagaScope,
    current_context,
    durable_execution,
    saga,
)
from durable.exceptions import RollbackTimeoutError
from tests.harness import Harness
from tests.saga.world import (
    LOG,
    Full,
    answer,
    book,
    callbacks,
    cancel,
    cannot_cancel,
    note,
    run,
    sweep,
    tidy,
)

pytestmark = pytest.mark.anyio


async def runs_forever(what: str) -> None:
    LOG.append(f"begin {what}")
    await anyio.sleep_forever()


async def waits_long(what: str) -> None:
    ctx = current_context()
    await ctx.step(note, f"begin {what}")
    await ctx.wait(3600)
    await ctx.step(cancel, what)


async def retried_for_long(what: str) -> None:
    await current_context().step(note, f"begin {what}")
    raise Full(what)


LONG = Retry(attempts=9, initial_delay=300, max_delay=300, jitter="none")


@pytest.mark.parametrize("cut_off", [runs_forever, waits_long, retried_for_long])
async def test_what_is_not_undone_by_then_is_cut_off_and_told(cut_off: Any):
    """What was undone before counts as undone, also after a crash at the end; the rest was not attempted."""
    reports: set[str] = set()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        try:
            async with saga(ctx, "trip", rollback_timeout=60) as s:
                s.cleanup(tidy, "up")
                await s.step(book, "a", compensate=cancel, name="a")
                await s.step(book, "b", compensate=cut_off, name="b", compensate_retry=LONG)
                await s.step(book, "c", compensate=cannot_cancel, name="c")
                await s.step(book, "d", compensate=cancel, name="d")
                raise Full("e")
        except CompensationError as error:
            reports.add(f"{error} {error.exceptions!r} {error.__cause__!r}")
            await ctx.wait(5)
            return [f"{item.name} {item.status}" for item in error.result.items]
        return []

    ran = await sweep(work, twice=cut_off is waits_long, compare=cut_off is not runs_forever)
    assert ran.result() == ["d succeeded", "c failed", "b failed", "a not attempted"]
    timeout = RollbackTimeoutError("b", 60)
    text = "saga 'trip' could not undo c, b; not attempted: a (2 sub-exceptions)"
    assert reports == {f"{text} (Full('c'), {timeout!r}) Full('e')"}
    assert ran.happened[4:] == ["cancel d", "try to cancel c", "begin b", "tidy up"]
    began = ran.harness.record.start_timestamp
    assert 60_000 <= ran.harness.clock.now() - began < 80_000
    # The one that was cut off is not left as if it was still running.
    statuses = {o.name: o.status for o in ran.harness.operations() if o.sub_type == "Compensation"}
    assert statuses == {"d": "SUCCEEDED", "c": "FAILED", "b": "FAILED"}


async def test_a_rollback_that_is_fast_enough_is_not_cut_off():
    """The timer is left to itself; nothing is cut off when it ends."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, rollback_timeout=60) as s:
                await s.step(book, "a", compensate=cancel)
                await s.step(book, "b", compensate=cancel)
                raise Full("c")
        except Full:
            await ctx.wait(600)

    ran = await sweep(work, twice=True)
    assert ran.output.error is None
    assert ran.undone == ["cancel b", "cancel a"]


async def test_time_that_passes_while_an_operator_is_asked():
    """What the compensation failed with is not forgotten."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park", rollback_timeout=60) as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=cannot_cancel, name="b")
            raise Full("c")

    ran = await sweep(work)
    error = ran.error()
    assert isinstance(error, CompensationError)
    text = "undoing 'b' was cut off: the rollback took longer than 60 s. Before that it had failed: Full: b"
    assert [str(one) for one in error.exceptions] == [text]
    assert str(error) == "the saga could not undo b; not attempted: a (1 sub-exception)"
    assert ran.undone == ["try to cancel b"]


async def test_an_operator_who_answered_in_time():
    """What he decided counts, and what was undone after it, when the time is over later."""
    scopes: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park", rollback_timeout=60) as s:
            scopes.append(s)
            await s.step(book, "a", compensate=waits_long, name="a")
            await s.step(book, "b", compensate=cancel, name="b")
            await s.step(book, "c", compensate=cannot_cancel, name="c")
            raise Full("d")

    async def world(harness: Harness) -> None:
        for callback in callbacks(harness):
            await answer(harness, callback.name or "", '"skip"')

    ran = await sweep(work, world=world)
    assert isinstance(ran.error(), CompensationError)
    result = scopes[-1].result
    assert result is not None
    assert [f"{item.name} {item.status}" for item in result.items] == ["c skipped", "b succeeded", "a failed"]


async def test_the_time_is_counted_from_its_beginning_whatever_happens_in_between():
    """The engine was down for longer than that: the rest is cut off when it is resumed."""

    async def undo(what: str) -> None:
        LOG.append(f"cancel {what}")
        if what == "b" and harness.invocations == 1:
            await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, rollback_timeout=60) as s:
            for what in "abc":
                await s.step(book, what, compensate=undo, name=what)
            raise Full("d")

    from tests.harness import CrashError

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 3_600_000)
    error = await harness.error()
    assert str(error) == "the saga could not undo b; not attempted: a (1 sub-exception)"
    assert LOG[3:] == ["cancel c", "cancel b"]


async def test_rolling_back_to_a_savepoint_has_the_same_limit():
    """Each rollback has all of it; what was not attempted is undone by the next one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, rollback_timeout=60) as s:
            point = s.savepoint()
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=waits_long, name="b")
            try:
                await s.rollback_to(point, "sold out")
            except CompensationError as error:
                await ctx.step(note, str(error))
            raise Full("c")

    ran = await sweep(work)
    assert ran.happened[2:] == [
        "begin b",
        "the saga could not undo b; not attempted: a (1 sub-exception)",
        "cancel a",
    ]


@pytest.mark.parametrize("seconds", [0, 0.5, -1, float("nan"), 31_622_401])
async def test_it_is_checked_where_it_is_written(seconds: float):
    """Not when something has to be undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, rollback_timeout=seconds) as s:
            await s.step(book, "a", compensate=cancel)

    ran = await run(work)
    assert isinstance(ran.error(), InvalidDurationError)
    assert ran.log == []
