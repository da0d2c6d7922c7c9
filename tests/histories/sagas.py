"""The sagas whose histories are kept. As `programs.py`, they are never changed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from durable import (
    CompensationError,
    DurableContext,
    DurableFunction,
    Retry,
    SagaCancelledError,
    SagaScope,
    StepOutcome,
    current_context,
    current_step,
    durable_execution,
    saga,
)
from tests.histories.world import PROGRAMS, Program, Refused, fail, hang_once, refuse, succeed

UNDO_RETRY = Retry(attempts=3, initial_delay=2, jitter="none")


async def book(what: str) -> str:
    return f"{what} booked"


async def undo(what: str) -> None: ...


async def undo_slowly(what: str) -> None:
    ctx = current_context()
    await ctx.wait(3, name="settle")
    await ctx.step(book, "refund", name="refund")


async def undo_in_the_end(what: str) -> None:
    await current_context().step(book, "look it up", name="look it up")
    if current_step().attempt < 3:
        raise ConnectionError(f"attempt {current_step().attempt}")


async def undo_in_doubt(outcome: StepOutcome[Any]) -> None: ...


async def cannot_undo(what: str) -> None:
    raise Refused(f"{what} stays", 9)


async def tidy(what: str) -> None: ...


@durable_execution
async def succeeding(event: str, ctx: DurableContext) -> str:
    async with saga(ctx, "trip") as s:
        s.cleanup(tidy, "desk")
        hotel = await s.step(book, event, compensate=undo)
        await ctx.wait(3)
        s.pivot()
        return hotel + await s.step(book, "flight", name="flight", compensate=undo)


@durable_execution
async def rolled_back(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "trip") as s:
        s.cleanup(tidy, "desk")
        await s.step(book, "hotel", name="hotel", compensate=undo)
        await s.step(book, "flight", name="flight", compensate=undo_slowly)
        s.compensate(undo, "by hand", name="by hand")
        await s.step(book, "car", name="car", compensate=undo_in_the_end, compensate_retry=UNDO_RETRY)
        await s.step(refuse, "the card", name="charge")


@durable_execution
async def in_doubt(event: None, ctx: DurableContext) -> None:
    async with saga(ctx) as s:
        await s.step(book, "hotel", name="hotel", compensate=undo_in_doubt, compensate_on="start")
        with suppress(Refused):
            await s.step(refuse, name="refused", compensate=undo_in_doubt, compensate_on="start")
        await s.step(hang_once, "saga in doubt", compensate=undo_in_doubt, compensate_on="start")
        raise Refused("after all", 1)


async def _inner(ctx: DurableContext, name: str, fails: bool) -> str:
    async with saga(ctx, name) as s:
        await s.step(book, name, name=f"{name} step", compensate=undo)
        await ctx.wait(2)
        if fails:
            raise Refused(name, 2)
    return name


@durable_execution
async def nested(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "outer") as s:
        await s.step(book, "first", name="first", compensate=undo)
        await _inner(ctx, "succeeds", fails=False)
        with suppress(Refused):
            await _inner(ctx, "fails", fails=True)
        await ctx.child(_inner, "in a child", False, name="child")
        async with ctx.task_group() as group:
            group.start_soon(_inner, "left", False, name="left")
            group.start_soon(_inner, "right", False, name="right")
        await ctx.map(_each, [1, 2], name="each")
        raise Refused("outer", 3)


async def _each(ctx: DurableContext, number: int) -> str:
    return await _inner(ctx, f"item {number}", fails=False)


@durable_execution
async def savepoints(event: None, ctx: DurableContext) -> str:
    async with saga(ctx, "trip") as s:
        await s.step(book, "a", name="a", compensate=undo)
        point = s.savepoint()
        await s.step(book, "b", name="b", compensate=undo)
        await s.rollback_to(point, "sold out")
        s.pivot()
        await s.step(book, "c", name="c", compensate=undo)
        result = await s.rollback("changed our minds")
        await ctx.wait(1)
    return ", ".join(f"{one.name} {one.status}" for one in result.items)


def broken(**policy: Any) -> DurableFunction[Any, Any]:
    @durable_execution(name="broken")
    async def function(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx, "trip", **policy) as s:
                await s.step(book, "a", name="a", compensate=undo)
                await s.step(book, "b", name="b", compensate=cannot_undo)
                await s.step(book, "c", name="c", compensate=undo)
                raise Refused("no", 4)
        except CompensationError as error:
            await ctx.wait(1)
            return ", ".join(f"{one.name} {one.status}" for one in error.result.items)

    return function


@durable_execution
async def parked(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "trip", on_error="park") as s:
        await s.step(book, "a", name="a", compensate=cannot_undo)
        await s.step(book, "b", name="b", compensate=cannot_undo)
        await s.step(refuse, "at last")


@durable_execution
async def deadlines(event: None, ctx: DurableContext) -> list[str]:
    found: list[str] = []
    for seconds in (100, 5):
        try:
            async with saga(ctx, f"within {seconds}", deadline=seconds) as s:
                await s.step(book, "a", name="a", compensate=undo)
                await ctx.wait(20)
        except SagaCancelledError as error:
            found.append(str(error))
    try:
        async with saga(ctx, "slowly undone", rollback_timeout=2) as s:
            await s.step(book, "b", name="b", compensate=undo)
            await s.step(book, "c", name="c", compensate=undo_slowly)
            raise Refused("too slow", 5)
    except CompensationError as error:
        found.append(str(error))
    return found


async def _booking(ctx: DurableContext, s: SagaScope, seconds: int) -> str:
    found = await s.step(book, f"after {seconds}", name=f"after {seconds}", compensate=undo)
    await ctx.wait(seconds)
    return found


@durable_execution
async def cancelled(event: None, ctx: DurableContext) -> list[str]:
    found: list[str] = []
    try:
        async with saga(ctx, "asked", cancellable=True) as s:
            await s.step(book, "a", name="a", compensate=undo)
            await ctx.wait(50)
    except SagaCancelledError as error:
        found.append(str(error))
    async with ctx.move_on_after(10), saga(ctx, "limited") as s, ctx.task_group() as group:
        group.start_soon(_booking, s, 5)
        group.start_soon(_booking, s, 500)
    found.append(str(s.result is not None and s.result.all_succeeded))
    async with saga(ctx, "raced") as s:
        winner = await ctx.race(lambda own: _booking(own, s, 3), lambda own: _booking(own, s, 300))
        found.append(winner.result)
    return found


PROGRAMS["saga-succeeding"] = Program(succeeding, "hotel")
PROGRAMS["saga-rolled-back"] = Program(rolled_back)
PROGRAMS["saga-rolled-back-crashed"] = Program(rolled_back, crash=("StepSucceeded", "refund"))
PROGRAMS["saga-in-doubt"] = Program(in_doubt, crash=("StepStarted", "hang_once"))
PROGRAMS["saga-nested"] = Program(nested)
PROGRAMS["saga-savepoints"] = Program(savepoints)
PROGRAMS["saga-continues"] = Program(broken())
PROGRAMS["saga-stops"] = Program(broken(on_error="stop"))
PROGRAMS["saga-parked"] = Program(
    parked,
    answers={
        "b operator": [succeed({"decision": "retry"}), succeed({"decision": "skip"})],
        "a operator": [succeed("what?"), fail("whatever")],
    },
)
PROGRAMS["saga-deadlines"] = Program(deadlines)
PROGRAMS["saga-cancelled"] = Program(cancelled, answers={"cancel asked": [succeed("changed our minds")]})
