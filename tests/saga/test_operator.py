"""`on_error="park"`: an operator decides what follows a compensation that failed (DESIGN section 4, rule 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable import (
    CompensationError,
    DurableContext,
    Retry,
    SagaScope,
    current_context,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import ErrorObject
from durable.local.outside import Outside
from tests.harness import Harness
from tests.saga.world import (
    LOG,
    Full,
    World,
    answer,
    begin,
    book,
    book_slowly,
    callbacks,
    cancel,
    refuse,
    run,
    sweep,
)

pytestmark = pytest.mark.anyio

OPEN = "the office"
"""What must have happened before anything can be cancelled."""


async def open_office() -> None:
    LOG.append(OPEN)


async def cancel_when_open(what: str) -> None:
    """Undoing works when the office is open."""
    if OPEN not in LOG:
        LOG.append(f"try to cancel {what}")
        raise Full(f"{what}: nobody is there")
    LOG.append(f"cancel {what}")


def answers(*decisions: str) -> World:
    """An operator who decides so, one after another; the last one for ever. `open` opens the office and retries."""

    async def operator(harness: Harness) -> None:
        for callback in callbacks(harness):
            given = sum(operation.name == callback.name for operation in harness.operations()) - 1
            decision = decisions[min(given, len(decisions) - 1)]
            if decision == "open":
                await open_office()
                decision = '{"decision": "retry"}'
            await answer(harness, callback.name or "", decision)

    return operator


scopes: list[SagaScope] = []


@durable_execution
async def trip(event: None, ctx: DurableContext) -> None:
    async with saga(ctx, "trip", on_error="park") as s:
        scopes.append(s)
        await s.step(book, "a", compensate=cancel, name="a")
        await s.step(book, "b", compensate=cancel_when_open, name="b")
        await s.step(book, "c", compensate=cancel, name="c")
        await s.step(refuse, "d")


def report() -> list[tuple[str, str]]:
    result = scopes[-1].result
    assert result is not None
    return [(item.name, item.status) for item in result.items]


async def test_retry():
    """It is tried again, now it works, and the rollback goes on; what comes out is what caused it."""
    ran = await sweep(trip, world=answers("open"))
    error = ran.error()
    assert isinstance(error, Full)
    assert error.__notes__ == ["saga 'trip' was rolled back; undone: c, b, a"]
    assert ran.happened[4:] == ["cancel c", "try to cancel b", OPEN, "cancel b", "cancel a"]
    assert report() == [("c", "succeeded"), ("b", "succeeded"), ("a", "succeeded")]


async def test_retry_as_often_as_it_takes():
    """Each time it is asked again what to do."""
    ran = await sweep(trip, world=answers('"retry"', '{"decision": "retry"}', "open"), compare=False)
    assert isinstance(ran.error(), Full)
    assert ran.log[4:] == [
        *("cancel c", "try to cancel b", "try to cancel b", "try to cancel b", OPEN),
        *("cancel b", "cancel a"),
    ]


async def test_skip():
    """As if it had succeeded, but the report says what it was."""
    ran = await sweep(trip, world=answers('{"decision": "skip"}'))
    error = ran.error()
    assert isinstance(error, Full)
    assert error.__notes__ == ["saga 'trip' was rolled back; undone: c, a; skipped: b"]
    assert ran.happened[4:] == ["cancel c", "try to cancel b", "cancel a"]
    assert report() == [("c", "succeeded"), ("b", "skipped"), ("a", "succeeded")]
    result = scopes[-1].result
    assert result is not None
    assert not result.all_succeeded
    assert result.is_settled
    assert repr(result.items[1].error) == "Full('b: nobody is there')"


async def test_abandon():
    """Nothing more is undone, and the error says so."""
    ran = await sweep(trip, world=answers('"abandon"'))
    error = ran.error()
    assert isinstance(error, CompensationError)
    assert str(error) == "saga 'trip' could not undo b; not attempted: a (1 sub-exception)"
    assert ran.happened[4:] == ["cancel c", "try to cancel b"]
    assert report() == [("c", "succeeded"), ("b", "failed"), ("a", "not attempted")]


async def test_two_crashes_anywhere():
    """Between the failure, the question and the answer."""
    ran = await sweep(trip, world=answers("open"), twice=True)
    assert ran.undone == ["cancel c", "try to cancel b", "cancel b", "cancel a"]


NONSENSE = ["yes", '{"decision": "yes"}', "[]", "", "null", '{"answer": "retry"}', "retry"]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_an_answer_that_makes_no_sense_is_asked_for_again(nonsense: str):
    """Nothing is decided by it."""
    ran = await run(trip, world=answers(nonsense, nonsense, '"skip"'))
    assert isinstance(ran.error(), Full)
    assert sum(o.name == "b operator" for o in ran.harness.operations()) == 3


async def test_no_answer_at_all_is_asked_for_again():
    """A callback may be completed without a result."""

    async def world(harness: Harness) -> None:
        for callback in callbacks(harness):
            first = callback.id == next(o.id for o in harness.operations() if o.name == "b operator")
            await answer(harness, callback.name or "", None if first else '"skip"')

    ran = await sweep(trip, world=world)
    assert isinstance(ran.error(), Full)


async def test_a_failure_in_place_of_an_answer_abandons():
    """Whoever was asked cannot decide: nothing more is undone, and it is loud."""

    async def world(harness: Harness) -> None:
        for callback in callbacks(harness):
            assert callback.callback_details is not None
            error = ErrorObject(error_type="OSError", error_message="no operator")
            await Outside(harness.service).fail_callback(callback.callback_details.callback_id or "", error)

    ran = await sweep(trip, world=world)
    assert isinstance(ran.error(), CompensationError)
    assert report() == [("c", "succeeded"), ("b", "failed"), ("a", "not attempted")]


async def test_nobody_answers():
    """The execution waits, as long as it takes; nothing runs meanwhile, and nothing is decided."""
    harness = Harness(trip)
    assert (await harness.invoke()).status == "PENDING"
    assert await harness.service.next_due(harness.record.id) is None
    (callback,) = callbacks(harness)
    assert callback.name == "b operator"
    assert callback.parent_id == harness.operation("trip").id
    assert (await harness.invoke()).status == "PENDING"
    assert LOG[4:] == ["cancel c", "try to cancel b"]


async def test_the_key_is_the_same_when_an_operator_has_it_tried_again():
    """It is the same effect, whoever asked for it; and so is the key of the step that it undoes."""
    keys: set[tuple[str, str | None]] = set()

    async def undo(what: str) -> None:
        keys.add((current_step().idempotency_key, current_step().forward_idempotency_key))
        await cancel_when_open(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park") as s:
            await s.step(book, "a", compensate=undo)
            raise Full("b")

    await sweep(work, world=answers('"retry"', "open"), compare=False)
    assert len(keys) == 1


async def test_retries_come_before_the_question():
    """First what the policy says, then whom it concerns; asked to retry, it has all its attempts again."""
    attempts: list[int] = []

    async def undo(what: str) -> None:
        attempts.append(current_step().attempt)
        if OPEN not in LOG:
            raise Full(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park", retry=Retry(attempts=2)) as s:
            await s.step(book, "a", compensate=undo)
            raise KeyError("b")

    ran = await run(work, world=answers('"retry"', "open"))
    assert isinstance(ran.error(), KeyError)
    assert attempts == [1, 2, 1, 2, 1]


async def test_the_second_try_has_a_namespace_of_its_own():
    """What the first one did durably is not taken for what the second one has to do."""

    async def undo(what: str) -> None:
        ctx = current_context()
        await ctx.step(book, f"call about {what}")
        await ctx.wait(5)
        await ctx.step(cancel_when_open, what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park") as s:
            await s.step(book, "a", compensate=undo)
            raise KeyError("b")

    ran = await sweep(work, world=answers("open"), compare=False)
    assert isinstance(ran.error(), KeyError)
    assert ran.log == [
        *("book a", "book call about a", "try to cancel a", OPEN),
        *("book call about a", "cancel a"),
    ]


async def test_an_answer_while_others_still_run():
    """The invocation is alive, as another branch works: it finds out by itself."""

    async def undoing(ctx: DurableContext) -> None:
        async with saga(ctx, on_error="park") as s:
            await s.step(book, "a", compensate=cancel_when_open)
            raise Full("here")

    async def working(ctx: DurableContext, how: Callable[[], Any]) -> None:
        await ctx.step(how)
        await ctx.step(book_slowly, "slowly", 60)

    async def operator() -> None:
        while not callbacks(harness):
            await harness.clock.sleep_until(harness.clock.now() + 100)
        await answers("open")(harness)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        result = await ctx.parallel([undoing, lambda ctx: working(ctx, operator)])
        return [item.status for item in result.items]

    harness = Harness(work)
    begin(harness)
    assert await harness.result() == ["failed", "succeeded"]
    assert harness.invocations <= 2
    assert "cancel a" in LOG


async def test_rolling_back_to_a_savepoint_parks_as_well():
    """And goes forward when it has been decided."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, on_error="park") as s:
            point = s.savepoint()
            await s.step(book, "a", compensate=cancel_when_open)
            result = await s.rollback_to(point, "try another way")
            await s.step(book, "b", compensate=cancel)
        return result.items[0].status

    for decision, expected in (("open", "succeeded"), ('"skip"', "skipped")):
        ran = await sweep(work, world=answers(decision))
        assert ran.result() == expected
        assert ran.happened[-1] == "book b"


async def test_names_of_any_length_are_asked_about():
    """A step's name may be 256 characters; so may the callback's."""
    name = "x" * 256

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, name, on_error="park") as s:
            await s.step(book, "a", compensate=cancel_when_open, name=name)
            raise KeyError("b")

    ran = await run(work, world=answers("open"))
    assert isinstance(ran.error(), KeyError)
    assert any(o.name == "x" * 247 + " operator" for o in ran.harness.operations())
