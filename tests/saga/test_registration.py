"""What is registered to be undone, and when (DESIGN section 4, rule 1)."""

from __future__ import annotations

import functools
import gc
import weakref
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from durable import (
    CompensationError,
    DurableContext,
    FrameMisuseError,
    InvalidNameError,
    Retry,
    SagaScope,
    SerializationError,
    StepOutcome,
    current_context,
    current_saga,
    durable_execution,
    saga,
    step,
)
from tests.harness import Harness
from tests.saga.world import LOG, Full, book, cancel, refuse, run, sweep

pytestmark = pytest.mark.anyio


@dataclass
class Room:
    number: int
    price: Decimal


async def test_a_saga_that_succeeds_records_nothing_of_its_own():
    """No operation, no call, no compensation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip") as s:
            result = await s.step(book, "a", compensate=cancel)
            s.compensate(cancel, "by hand")
            s.savepoint()
            async with saga(ctx) as inner:
                inner.compensate(cancel, "inside")
            assert s.result is None
        return result

    ran = await sweep(work)
    assert ran.result() == "a"
    assert ran.harness.calls == [["STEP START book", "STEP SUCCEED book"]]
    assert ran.log == ["book a"]


async def test_a_step_is_undone_with_what_it_returned_decoded_as_recorded():
    """The same value live and after a crash: of the annotated type, and not the object that the step made."""
    made: list[Room] = []
    given: list[Room] = []

    async def reserve() -> Room:
        LOG.append("book")
        made.append(Room(7, Decimal("80.50")))
        return made[-1]

    async def release(room: Room) -> None:
        LOG.append("cancel")
        given.append(room)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(reserve, compensate=release)
            raise Full("later")

    await sweep(work)
    assert len(given) > 3
    assert all(room == Room(7, Decimal("80.50")) for room in given)
    assert not any(room is other for room in given for other in made)


async def test_what_failed_and_what_has_no_undo_is_not_undone():
    """A failed step, a step of the saga without `compensate`, a step of the context."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "no undo")
            await ctx.step(book, "not the saga's")
            await s.step(refuse, "c", compensate=cancel)

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == ["book a", "book no undo", "book not the saga's", "refuse c", "cancel a"]


async def test_a_result_that_cannot_be_recorded_is_a_failed_step():
    """What its compensation would be called with is nowhere: for such effects there is `compensate_on="start"`."""

    async def wrong() -> int:
        LOG.append("book wrong")
        return "text"  # type: ignore[return-value]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(wrong, compensate=cancel)  # type: ignore[call-arg, misc]

    ran = await sweep(work)
    assert isinstance(ran.error(), SerializationError)
    assert ran.undone == ["cancel a"]


async def test_compensations_registered_by_hand():
    """In their place among the others, with the arguments they were given."""

    async def undo(what: str, times: int) -> None:
        LOG.append(f"cancel {what} {times}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            s.compensate(undo, "first", 1)
            await s.step(book, "a", compensate=cancel)
            s.compensate(undo, "by hand", 2, name="manual")
            s.compensate(undo, "by hand", 3)
            await s.step(book, "b", compensate=cancel)
            raise Full("c")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert ran.undone == ["cancel b", "cancel by hand 3", "cancel by hand 2", "cancel a", "cancel first 1"]
    names = [o.name for o in ran.harness.operations() if o.sub_type == "Compensation"]
    assert names == ["book", "undo", "manual", "book", "undo"]


class Booking:
    """Something whose methods undo."""

    async def undo(self, what: str) -> None:
        LOG.append(f"cancel {what} by a method")

    async def __call__(self, what: str) -> None:
        LOG.append(f"cancel {what} by an object")


def cancel_plainly(what: str) -> object:
    LOG.append(f"cancel {what} in a thread")
    return object()


async def cancel_with(what: str, *, reason: str) -> None:
    LOG.append(f"cancel {what}: {reason}")


@pytest.mark.parametrize(
    ("undo", "expected"),
    [
        (cancel_plainly, "cancel a in a thread"),
        (functools.partial(cancel_with, reason="no"), "cancel a: no"),
        (Booking().undo, "cancel a by a method"),
        (Booking(), "cancel a by an object"),
        (lambda what: cancel(f"{what} by a lambda"), "cancel a by a lambda"),
    ],
    ids=["plain", "partial", "method", "object", "lambda"],
)
async def test_anything_that_can_be_called_may_undo(undo, expected):
    """A plain function in a worker thread; what it returns does not matter, whatever its annotation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=undo)
            raise Full("b")

    ran = await run(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == ["book a", expected]


async def test_what_cannot_be_called_is_refused_before_anything_happens():
    """Not at the time of the rollback."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            with pytest.raises(TypeError, match="expected a function, got 5"):
                await s.step(book, "a", compensate=5)  # type: ignore[call-overload]
            with pytest.raises(TypeError, match="expected a function, got 'x'"):
                s.compensate("x")  # type: ignore[arg-type]
            with pytest.raises(InvalidNameError):
                s.compensate(cancel, "a", name="ö")

    await run(work)
    assert LOG == []


# --- Which saga ----------------------------------------------------------------------------------------------


async def helper(what: str) -> None:
    await deeper(what)


async def deeper(what: str) -> None:
    await current_saga().step(book, what, compensate=cancel)


async def test_helpers_reach_the_saga_through_the_context_variable():
    """Three calls deep, without passing it; also from inside child contexts, which then run again on replay."""

    async def inner(ctx: DurableContext) -> None:
        await helper("two children deep")

    async def subflow(ctx: DurableContext) -> str:
        await helper("in a child")
        await ctx.child(inner)
        await current_context().wait(5)
        return "x"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await helper("directly")
            await ctx.child(subflow)
            await ctx.wait(5)
            raise Full("x")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert ran.undone == ["cancel two children deep", "cancel in a child", "cancel directly"]
    for name in ("subflow", "inner"):
        details = ran.harness.operation(name).context_details
        assert details is not None
        assert details.replay_children
    with pytest.raises(LookupError, match="there is none"):
        current_saga()


async def take_back(outcome: StepOutcome[str]) -> None:
    LOG.append(f"cancel {outcome.status} {outcome.error!r}")


@step(compensate=cancel)
async def declared(what: str) -> str:
    return await book(what)


@step(compensate=take_back, compensate_on="start", retry=Retry(attempts=2))
async def declared_in_doubt(what: str) -> str:
    return await refuse(what)


async def calls_declared_steps(what: str) -> None:
    await declared(what)
    await declared_in_doubt(what)


async def test_declared_steps_register_with_the_saga_that_encloses_their_call():
    """However deep that is, in a child or a branch; outside of any saga they are steps, and no more."""

    async def subflow(ctx: DurableContext) -> None:
        await declared("in a child")

    async def item(ctx: DurableContext, number: int) -> None:
        await declared(f"item {number}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await declared("outside")
        async with saga(ctx):
            await ctx.child(subflow)
            await ctx.map(item, range(2))
            await calls_declared_steps("in a helper")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    expected = ["failed Full('in a helper')", "in a helper", "item 1", "item 0", "in a child"]
    assert [e for e in ran.happened if e.startswith("cancel")] == [f"cancel {what}" for what in expected]


async def test_the_innermost_saga_registers_and_an_outer_one_if_it_is_named():
    """Each undoes its own."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            try:
                async with saga(ctx, "inner") as inner:
                    assert current_saga() is inner
                    await current_saga().step(book, "inner", compensate=cancel)
                    await outer.step(book, "outer", compensate=cancel)
                    raise Full("inside")
            except Full:
                assert current_saga() is outer
            raise KeyError("outside")

    ran = await sweep(work)
    assert ran.happened == ["book inner", "book outer", "cancel inner", "cancel outer"]


async def test_nothing_is_registered_where_nobody_would_undo_it():
    """Before and after the block, and inside of a compensation: refused, and nothing has happened."""

    async def undo(what: str) -> None:
        with pytest.raises(LookupError):
            current_saga()
        with pytest.raises(RuntimeError, match="compensations to none"):
            await scopes[-1].step(book, "late", compensate=cancel)
        with pytest.raises(RuntimeError, match="compensations to none"):
            scopes[-1].pivot()
        LOG.append(f"cancel {what}")

    scopes: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        scope = saga(ctx)
        for call in (
            lambda: scope.compensate(cancel, "x"),
            lambda: scope.cleanup(cancel, "x"),
            scope.savepoint,
            scope.pivot,
        ):
            with pytest.raises(RuntimeError, match="inside its block"):
                call()
        with pytest.raises(RuntimeError, match="inside its block"):
            await scope.step(book, "early", compensate=cancel)
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            async with scope:
                pass
        with pytest.raises(RuntimeError, match="inside its block"):
            await scope.step(book, "late", compensate=cancel)
        with pytest.raises(RuntimeError, match="inside its block"):
            scope.compensate(cancel, "x")
        with pytest.raises(RuntimeError, match="inside its block"):
            await scope.rollback("late")
        async with saga(ctx) as s:
            scopes.append(s)
            await s.step(book, "a", compensate=undo)
            raise Full("b")

    ran = await run(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == ["book a", "cancel a"]


async def test_a_task_that_is_not_inside_cannot_register():
    """A saga begun inside of a group's block may end before the group's tasks do."""
    refusals: list[str] = []

    async def task(ctx: DurableContext, s: SagaScope) -> None:
        with pytest.raises(LookupError):
            current_saga()
        try:
            await s.step(book, "in the task", compensate=cancel)
        except RuntimeError as error:
            refusals.append(str(error))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tasks, saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await tasks.start_soon(task, s).wait()

    await run(work)
    assert LOG == ["book a"]
    assert "around its task group" in refusals[0]


async def test_a_step_that_is_refused_registers_nothing():
    """From inside a step nothing durable can be done."""

    async def a_step(s: SagaScope) -> None:
        await s.step(book, "inside", compensate=cancel)

    async def by_hand(s: SagaScope) -> None:
        s.compensate(cancel, "inside")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            for body in (a_step, by_hand):
                with pytest.raises(FrameMisuseError, match="while step"):
                    await ctx.step(body, s)
            raise Full("x")

    ran = await run(work)
    assert isinstance(ran.error(), Full)
    assert ran.log == []


async def test_a_scope_keeps_nothing_alive_that_users_gave_it():
    """Compensations may refer to the scope that they are registered with, however the saga ends."""

    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []

    def work_of(s: SagaScope) -> Any:
        thing = Thing()
        things.append(weakref.ref(thing))

        async def undo(*_: Any) -> None:
            assert s.result is None
            assert thing is not None

        return undo

    @durable_execution
    async def work(fails: bool, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=work_of(s))
            s.compensate(work_of(s))
            s.cleanup(work_of(s))
            await ctx.wait(5)
            if fails:
                raise Full("x")

    for fails in (False, True):
        ran = await run(work, fails)
        assert (ran.output.error is not None) == fails
    gc.collect()
    assert len(things) == 12
    assert not any(thing() for thing in things)


async def test_a_compensation_that_takes_other_arguments_has_failed():
    """As any other error of it; the others are run."""

    async def nothing() -> None:
        LOG.append("cancel nothing")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=nothing)  # type: ignore[arg-type]
            raise Full("c")

    error = await Harness(work).error()
    assert isinstance(error, CompensationError)
    assert isinstance(error.exceptions[0], TypeError)
    assert LOG[-1] == "cancel a"
