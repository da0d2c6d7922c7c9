"""Histories made by hand: what each entry is to the code that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from durable import (
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    CompensationError,
    ConditionNotMetError,
    DurableContext,
    InvokeFailedError,
    InvokeStoppedError,
    InvokeTimedOutError,
    NonDeterminismError,
    Retry,
    StepInterruptedError,
    durable_execution,
    saga,
)
from durable.testing import History, durable_test

pytestmark = pytest.mark.anyio

world: list[str] = []


@pytest.fixture(autouse=True)
def _empty_world():
    world.clear()


class CardDeclinedError(Exception):
    pass


async def work(what: str) -> str:
    world.append(what)
    return what


async def undo(what: str) -> None:
    world.append(f"undo {what}")


async def no_one(_callback_id: str) -> None:
    world.append("asked")


def is_done(state: int) -> bool:
    return state > 2


async def look(state: int) -> int:
    world.append("looked")
    return state + 1


Call = Callable[[DurableContext], Any]

SUCCEEDED: dict[str, tuple[History, Call, Any]] = {
    "step": (History().step("s", "kept"), lambda ctx: ctx.step(work, "x", name="s"), "kept"),
    "condition": (
        History().condition("c", 7, attempt=4),
        lambda ctx: ctx.wait_for_condition(look, 0, until=is_done, name="c"),
        7,
    ),
    "wait": (History().wait("w"), lambda ctx: ctx.wait(86_400, name="w"), None),
    "wait without a name": (History().wait(), lambda ctx: ctx.wait(86_400), None),
    "wait_for_callback": (
        History().wait_for_callback("a", {"by": "Ada"}),
        lambda ctx: ctx.wait_for_callback(no_one, dict, name="a"),
        {"by": "Ada"},
    ),
    "invoke": (History().invoke("i", [1, 2]), lambda ctx: ctx.invoke("bank", 5, name="i"), [1, 2]),
    "child": (History().child("k", 5), lambda ctx: ctx.child(_child, name="k"), 5),
    "map": (
        History().map("m", ["a", "b"]),
        lambda ctx: _results(ctx.map(_item, ["x", "y"], name="m")),
        ["a", "b"],
    ),
    "parallel": (
        History().parallel("p", [1, "two"]),
        lambda ctx: _results(ctx.parallel([_child, _child], name="p")),
        [1, "two"],
    ),
}


async def _child(ctx: DurableContext) -> Any:
    return await ctx.step(work, "inside", name="inside")


async def _item(ctx: DurableContext, item: str) -> str:
    return await ctx.step(work, item, name="item")


async def _results(batch: Any) -> list[Any]:
    return [item.result for item in (await batch).items]


@pytest.mark.parametrize("kind", SUCCEEDED)
async def test_what_has_succeeded_is_not_done_again(kind: str):
    history, call, expected = SUCCEEDED[kind]

    @durable_execution
    async def asks(_event: None, ctx: DurableContext) -> Any:
        result = await call(ctx)
        await ctx.step(work, "next", name="next")
        return result

    async with durable_test(asks) as t:
        run = await t.start(None, history=history)
        assert await run.result() == expected
    run.assert_operations(["step:next"])
    assert world == ["next"]


async def _callback(ctx: DurableContext) -> str:
    return await (await ctx.create_callback(str, name="a")).result()


FAILED: dict[str, tuple[History, Call, type[Exception]]] = {
    "step": (
        History().failed_step("s", CardDeclinedError("no"), attempt=3),
        lambda ctx: ctx.step(work, "x", name="s", retry=Retry(attempts=3)),
        CardDeclinedError,
    ),
    "condition": (
        History().failed_condition("c", ConditionNotMetError("c", 3, 1)),
        lambda ctx: ctx.wait_for_condition(look, 0, until=is_done, name="c"),
        ConditionNotMetError,
    ),
    "wait_for_callback": (
        History().failed_wait_for_callback("a", "no"),
        lambda ctx: ctx.wait_for_callback(no_one, str, name="a"),
        CallbackFailedError,
    ),
    "wait_for_callback timed out": (
        History().timed_out_wait_for_callback("a"),
        lambda ctx: ctx.wait_for_callback(no_one, str, name="a"),
        CallbackTimeoutError,
    ),
    "invoke": (
        History().failed_invoke("i", CardDeclinedError("no")),
        lambda ctx: ctx.invoke("bank", 5, name="i"),
        InvokeFailedError,
    ),
    "invoke timed out": (
        History().timed_out_invoke("i"),
        lambda ctx: ctx.invoke("bank", 5, name="i"),
        InvokeTimedOutError,
    ),
    "invoke stopped": (
        History().stopped_invoke("i", "enough"),
        lambda ctx: ctx.invoke("bank", 5, name="i"),
        InvokeStoppedError,
    ),
    "child": (
        History().failed_child("k", CardDeclinedError("no")),
        lambda ctx: ctx.child(_child, name="k"),
        CardDeclinedError,
    ),
    "callback": (
        History().failed_callback("a", "no"),
        _callback,
        CallbackFailedError,
    ),
    "callback timed out": (
        History().timed_out_callback("a"),
        _callback,
        CallbackTimeoutError,
    ),
    "callback without a sign of life": (
        History().timed_out_callback("a", heartbeat=True),
        _callback,
        CallbackHeartbeatError,
    ),
    "at-most-once step": (
        History().started_step("s"),
        lambda ctx: ctx.step(work, "x", name="s", semantics="at-most-once"),
        StepInterruptedError,
    ),
}


@pytest.mark.parametrize("kind", FAILED)
async def test_what_has_failed_fails_again(kind: str):
    history, call, expected = FAILED[kind]

    @durable_execution
    async def asks(_event: None, ctx: DurableContext) -> Any:
        return await call(ctx)

    async with durable_test(asks) as t:
        run = await t.start(None, history=history)
        error = await run.error()
    assert isinstance(error, expected)
    assert world == []


async def test_a_callback_that_was_completed():
    @durable_execution
    async def asks(_event: None, ctx: DurableContext) -> str:
        return await _callback(ctx)

    async with durable_test(asks) as t:
        run = await t.start(None, history=History().callback("a", "yes"))
        assert await run.result() == "yes"
        run.assert_no_records()
        run = await t.start(None, history=History().open_callback("a"))
        await (await run.callback("a")).succeed("later")
        assert await run.result() == "later"
        run.assert_no_records()


async def test_what_is_open_goes_on():
    @durable_execution
    async def goes_on(_event: None, ctx: DurableContext) -> list[Any]:
        first = await ctx.child(_child, name="k")
        await ctx.wait(86_400, name="w")
        return [first, ctx.now()]

    then = datetime(2025, 3, 1, tzinfo=UTC)
    history = History().open_child("k", History().step("inside", "kept")).open_wait("w", seconds=60).now(then)
    async with durable_test(goes_on) as t:
        began = t.clock.now()
        run = await t.start(None, history=history)
        first, now = await run.result()
        assert t.clock.now() - began == 60_000
    assert first == "kept"
    assert datetime.fromisoformat(now) == then
    assert world == []
    run.assert_operations(["child:k"])  # its end


async def test_steps_that_are_not_over():
    @durable_execution
    async def goes_on(_event: None, ctx: DurableContext) -> list[str]:
        return [
            await ctx.step(work, "a", name="a"),
            await ctx.step(work, "b", name="b", retry=Retry(attempts=3)),
        ]

    history = History().started_step("a").retrying_step("b", CardDeclinedError("no"), attempt=2, delay=100)
    async with durable_test(goes_on) as t:
        began = t.clock.now()
        run = await t.start(None, history=history)
        assert await run.result() == ["a", "b"]
        assert t.clock.now() - began == 100_000
        details = (await run.operation("b")).step_details
        assert details is not None
        assert details.attempt == 3
    assert world == ["a", "b"]


async def test_another_operation_than_the_code_asks_for():
    @durable_execution
    async def asks(_event: None, ctx: DurableContext) -> str:
        return await ctx.step(work, "x", name="s")

    async with durable_test(asks) as t:
        run = await t.start(None, history=History().step("another"))
        with pytest.raises(NonDeterminismError, match=r"expected Step 'another' .*, found Step 's'"):
            await run.wait()


# --- Sagas -------------------------------------------------------------------------------------------------------


@durable_execution
async def book(_event: None, ctx: DurableContext) -> str:
    async with saga(ctx, name="trip") as s:
        await s.step(work, "hotel", name="hotel", compensate=undo)
        await s.step(work, "flight", name="flight", compensate=undo)
        return await s.step(work, "charge", name="charge")


def declined() -> History:
    return History().step("hotel", "H").step("flight", "F").failed_step("charge", CardDeclinedError("no"))


async def test_a_rollback_that_has_not_begun():
    async with durable_test(book) as t:
        run = await t.start(None, history=declined())
        assert isinstance(await run.error(), CardDeclinedError)
    assert world == ["undo F", "undo H"]
    run.assert_operations(["saga:trip", "step:rollback", "compensation:flight", "compensation:hotel"])


async def test_a_rollback_that_is_half_done():
    history = declined().rollback("trip", CardDeclinedError("no"), ["flight", "hotel"], undone=1)
    async with durable_test(book) as t:
        run = await t.start(None, history=history)
        assert isinstance(await run.error(), CardDeclinedError)
    assert world == ["undo H"]
    run.assert_operations(["compensation:hotel", "saga:trip"])


async def test_a_rollback_that_is_over():
    history = declined().rollback("trip", CardDeclinedError("no"), ["flight", "hotel"])
    async with durable_test(book) as t:
        run = await t.start(None, history=history)
        assert isinstance(await run.error(), CardDeclinedError)
    assert world == []
    run.assert_no_records()


async def test_a_rollback_of_which_a_part_has_failed():
    failed = {"flight": RuntimeError("closed")}
    history = declined().rollback("trip", CardDeclinedError("no"), ["flight", "hotel"], failed=failed)
    async with durable_test(book) as t:
        run = await t.start(None, history=history)
        error = await run.error()
    assert isinstance(error, CompensationError)
    assert [(item.name, item.status) for item in error.result.items] == [
        ("flight", "failed"),
        ("hotel", "succeeded"),
    ]
    assert world == []
    run.assert_no_records()


async def test_a_rollback_of_what_is_not_there():
    async with durable_test(book) as t:
        with pytest.raises(ValueError, match="undoes 'train', which this history does not have"):
            await t.start(None, history=declined().rollback("trip", "no", ["train"]))


async def test_a_history_may_be_used_again():
    history = History().step("hotel", "H").step("flight", "F").step("charge", "paid")
    async with durable_test(book) as t:
        for _ in range(2):
            run = await t.start(None, history=history)
            assert await run.result() == "paid"
            run.assert_no_records()
