"""The decision to roll back is recorded, and holds (DESIGN section 4, rule 4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable import (
    DurableContext,
    NonDeterminismError,
    Retry,
    SagaRolledBackError,
    current_saga,
    durable_execution,
    saga,
)
from durable._kernel.ids import compensation_id, operation_id, reserved_id
from durable._wire import InvocationStatus, Operation
from durable._wire.limits import MAX_PAYLOAD_BYTES
from tests.harness import CrashError, Harness
from tests.saga.world import LOG, Full, Ran, book, cancel, refuse, run, sweep

pytestmark = pytest.mark.anyio


async def test_the_records_of_a_rollback_and_its_calls():
    """It begins with the decision; each compensation is a context named after its step; n cost n + 1 calls."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            for what in "abc":
                await s.step(book, what, compensate=cancel, name=what)
            raise Full("d")

    harness = (await sweep(work)).harness
    assert harness.calls[3:] == [
        ["CONTEXT START trip", "STEP START rollback", "STEP SUCCEED rollback", "CONTEXT START c"],
        ["CONTEXT SUCCEED c", "CONTEXT START b"],
        ["CONTEXT SUCCEED b", "CONTEXT START a"],
        ["CONTEXT SUCCEED a", "CONTEXT SUCCEED trip"],
    ]
    scope = harness.operation("trip")
    assert (scope.id, scope.sub_type, scope.parent_id) == (reserved_id(None, "saga", 1), "Saga", None)
    for position, what in enumerate("abc", 1):
        compensation = next(o for o in harness.operations() if o.name == what and o.sub_type == "Compensation")
        assert compensation.id == compensation_id(scope.id, operation_id(None, position))
        assert compensation.parent_id == scope.id
    plan = json.loads(harness.operation("rollback").result or "")
    assert plan["reason"]["ErrorType"].endswith("Full")
    assert plan["reason"]["ErrorMessage"] == "d"
    assert plan["undo"] == [{"id": operation_id(None, 3 - i), "name": what} for i, what in enumerate("cba")]


@pytest.mark.parametrize("retry", [None, Retry(attempts=3)], ids=["no retry", "retry"])
@pytest.mark.parametrize("count", [1, 2, 7])
async def test_a_rollback_of_n_costs_at_most_n_and_two_calls(count: int, retry: Retry | None):
    """Also where compensations may be tried again, and are not."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=retry) as s:
            for _ in range(count):
                await s.step(book, "a", compensate=cancel)
            raise Full("d")

    ran = await run(work)
    assert len(ran.harness.calls) - count <= count + 2


async def test_without_anything_to_undo_nothing_is_recorded():
    """A saga that fails before its first compensation has nothing to say."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await ctx.step(refuse, "a")

    ran = await sweep(work)
    assert isinstance(ran.error(), Full)
    assert len(ran.harness.calls) == 1


async def test_where_it_failed_does_not_shift_what_comes_after():
    """A saga takes no position: an operation after it has the same id however many compensations there were."""

    @durable_execution
    async def work(event: int, ctx: DurableContext) -> None:
        try:
            async with saga(ctx) as s:
                for what in "abc"[:event]:
                    s.compensate(cancel, what)
                raise Full("d")
        except Full:
            await ctx.step(book, "after")

    ids = {(await run(work, count)).harness.operation("book").id for count in range(4)}
    assert ids == {operation_id(None, 1)}


# --- From then on it can only roll back ----------------------------------------------------------------------


class Chance:
    """Fails the first time, and not again: what code must not do, and sometimes does."""

    def __init__(self) -> None:
        self.failing = True

    def fail(self) -> None:
        if self.failing:
            raise Full("by chance")


async def interrupted(work: Any, chance: Chance, call: int) -> Harness:
    """An execution that died after that call, and runs on more luckily."""
    harness = Harness(work)
    harness.client.after = _crash_at(call)
    with pytest.raises(CrashError):
        await harness.result()
    chance.failing = False
    harness.client.after = lambda _: None
    return harness


@pytest.mark.parametrize("then", ["a step", "a wait", "a child", "a saga's step", "a callback", "branches", "now"])
async def test_the_next_new_operation_raises_the_recorded_error(then: str):
    """On replay, although nothing fails this time; nothing new begins."""
    chance = Chance()
    went_on: list[str] = []

    async def subflow(ctx: DurableContext) -> None:
        await ctx.step(book, "in a child")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            chance.fail()
            if then == "a step":
                await ctx.step(book, "b")
            elif then == "a wait":
                await ctx.wait(5)
            elif then == "a child":
                await ctx.child(subflow)
            elif then == "a saga's step":
                await s.step(book, "b", compensate=cancel)
            elif then == "a callback":
                await ctx.create_callback()
            elif then == "branches":
                await ctx.parallel([subflow, subflow])
            else:
                ctx.now()
            went_on.append(then)

    harness = await interrupted(work, chance, 2)
    error = await harness.error()
    assert repr(error) == "Full('by chance')"
    assert error.__notes__ == ["the saga was rolled back; undone: book"]
    assert LOG == ["book a", "cancel a"]
    assert went_on == []


async def test_a_block_that_ends_normally_is_rolled_back_all_the_same():
    """There was no further operation to be refused."""
    chance = Chance()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            chance.fail()

    harness = await interrupted(work, chance, 2)
    assert repr(await harness.error()) == "Full('by chance')"
    assert LOG == ["book a", "cancel a"]


async def test_code_that_catches_the_refusal_is_refused_again():
    """However often it tries; and the saga ends as it was decided."""
    chance = Chance()
    caught: list[str] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            chance.fail()
            for _ in range(3):
                try:
                    await ctx.step(book, "b")
                except Full as error:
                    caught.append(str(error))

    harness = await interrupted(work, chance, 2)
    assert repr(await harness.error()) == "Full('by chance')"
    assert caught == ["by chance"] * 3
    assert LOG == ["book a", "cancel a"]


async def test_an_inner_block_is_refused_when_the_outer_saga_rolls_back():
    """The innermost one whose rollback has begun counts; one that succeeded hands over what it did."""
    chance = Chance()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer"):
            async with saga(ctx, "first"):
                await current_saga().step(book, "a", compensate=cancel)
            chance.fail()
            async with saga(ctx, "second"):
                await current_saga().step(book, "b", compensate=cancel)

    harness = await interrupted(work, chance, 2)
    assert repr(await harness.error()) == "Full('by chance')"
    assert LOG == ["book a", "cancel a"]


async def test_another_error_on_replay_does_not_change_what_is_recorded():
    """What comes out is what the code raises; what is recorded is the first reason."""
    first = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            raise Full("first") if first.pop() else KeyError("second")

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    first.append(False)
    harness.client.after = lambda _: None
    assert repr(await harness.error()) == "KeyError('second')"
    plan = json.loads(harness.operation("rollback").result or "")
    report = json.loads(harness.operation("book").result or "null")
    assert plan["reason"]["ErrorMessage"] == "first"
    assert report is not None


# --- Odd histories -------------------------------------------------------------------------------------------


async def test_something_else_at_the_sagas_place_is_no_rollback():
    """A saga that was renamed while it rolls back: the code has left its history, and nothing is taken for done."""
    name = ["trip"]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, name[0]) as s:
            await s.step(book, "a", compensate=cancel)
            raise Full("b")

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    harness.client.after = lambda _: None
    name[0] = "journey"
    with pytest.raises(NonDeterminismError, match=r"expected Saga 'trip' .* found Saga 'journey'"):
        await harness.invoke()
    name[0] = "trip"
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book a", "cancel a"]


async def test_a_crash_between_the_beginning_and_the_plan():
    """A call takes 250 updates. If one holds the saga's START alone, it has begun, and why is found out again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            for _ in range(124):  # two updates each that nobody waits for
                ctx.now()
            chance.fail()
            await s.step(book, "b", compensate=cancel)

    async def split(call: int) -> Ran:
        LOG.clear()
        chance.failing = True
        harness = Harness(work, name=f"t-{call}")
        harness.client.after = _crash_at(call)
        with pytest.raises(CrashError):
            await harness.outcome()
        harness.client.after = lambda _: None
        return Ran(harness, await harness.outcome(), list(LOG), 1)

    chance = Chance()
    ran = await split(2)
    updates = ran.harness.calls[1]
    assert (len(updates), updates[-2:]) == (250, ["CONTEXT START None", "STEP START rollback"])
    assert repr(ran.error()) == "Full('by chance')"
    assert ran.log == ["book a", "cancel a"]
    assert "by chance" in (ran.harness.operation("rollback").result or "")

    # And if it does not fail by itself this time, it is undone all the same.
    LOG.clear()
    chance.failing = True
    harness = await interrupted(work, chance, 2)
    error = await harness.error()
    assert isinstance(error, SagaRolledBackError)
    assert "a crash has come before it was recorded why" in str(error)
    assert LOG == ["book a", "cancel a"]


@pytest.mark.parametrize("character", ["x", '"', "\\", "\x01", "ä"])
async def test_a_reason_of_any_size_can_be_recorded(character: str):
    """An error may carry half a megabyte; within JSON within JSON that would be more than an operation takes."""

    class Large(Exception):
        data: str = ""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="stop") as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=fails)
            raise large("reason")

    def large(what: str) -> Large:
        error = Large(character * 90_000)
        error.data = character * 160_000
        error.add_note(what)
        return error

    async def fails(_: str) -> None:
        raise large("compensation")

    for ran in (await run(work), await run(work, after=[3])):
        assert ran.output.status is InvocationStatus.FAILED
        assert ran.log == ["book a", "book b"]
        assert ran.harness.operation("rollback").status == "SUCCEEDED"
        assert max(_size(operation) for operation in ran.harness.operations()) <= MAX_PAYLOAD_BYTES


def _size(operation: Operation) -> int:
    error = operation.error
    parts = [operation.result] if error is None else [error.error_message, error.error_data, error.error_type]
    return sum(len((part or "").encode()) for part in parts)


def _crash_at(number: int) -> Any:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
