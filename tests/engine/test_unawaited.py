"""Operations that are called without `await`: an error that names them, not a silent loss."""

# mypy: disable-error-code="unused-coroutine"
# It is what these tests are about.

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from durable import (
    DurableContext,
    FrameMisuseError,
    RecordedError,
    Retry,
    UnawaitedOperationError,
    current_context,
    durable_execution,
    saga,
)
from durable._wire import InvocationStatus
from tests.harness import Harness

pytestmark = pytest.mark.anyio

RUNS: list[str] = []


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    RUNS.clear()


async def book(what: str = "book") -> str:
    RUNS.append(what)
    return what


async def branch(ctx: DurableContext, _: object = None) -> None:
    await ctx.step(book, "branch")


async def submit(callback_id: str) -> None:
    RUNS.append("submit")


async def check(state: int) -> int:
    RUNS.append("check")
    return state


VERBS: list[tuple[str, Callable[[DurableContext], object]]] = [
    ("Step 'book'", lambda ctx: ctx.step(book)),
    ("Step 'other'", lambda ctx: ctx.step(book, name="other")),
    ("Wait", lambda ctx: ctx.wait(5)),
    ("Wait 'cool'", lambda ctx: ctx.wait(5, name="cool")),
    ("Callback 'approval'", lambda ctx: ctx.create_callback(int, name="approval")),
    ("WaitForCallback 'submit'", lambda ctx: ctx.wait_for_callback(submit)),
    ("ChainedInvoke 'pay'", lambda ctx: ctx.invoke("pay")),
    ("WaitForCondition 'check'", lambda ctx: ctx.wait_for_condition(check, 1, until=bool)),
    ("RunInChildContext 'branch'", lambda ctx: ctx.child(branch)),
    ("Parallel 'parallel'", lambda ctx: ctx.parallel([branch])),
    ("Parallel 'race'", lambda ctx: ctx.race(branch)),
    ("Map 'branch'", lambda ctx: ctx.map(branch, [1])),
]


def line_of(text: str) -> str:
    """Where in this file a line is, as errors tell it."""
    lines, begin = inspect.getsourcelines(inspect.getmodule(line_of))  # type: ignore[arg-type]
    found = [number for number, line in enumerate(lines, max(begin, 1)) if line.rstrip().endswith(text)]
    assert len(found) == 1
    return f"{__file__}:{found[0]} in "


@pytest.mark.parametrize(("what", "call"), VERBS, ids=[verb[0] for verb in VERBS])
async def test_a_verb_that_is_not_awaited_is_told_by_the_next_one(what, call):
    """The error names the operation, where it was called, and what came next; nothing of either has run."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        call(ctx)
        await ctx.step(book, "next", name="next")

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == what
    assert str(error).startswith(f"{what} was called without `await` at {__file__}:")
    assert "has not run when Step 'next' came" in str(error)
    assert RUNS == []
    assert harness.calls == []


@pytest.mark.parametrize(("what", "call"), VERBS, ids=[verb[0] for verb in VERBS])
async def test_a_verb_that_is_not_awaited_is_told_by_the_end_of_the_function(what, call):
    """There is no next one: the execution does not succeed without it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        call(ctx)
        return "done"

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert (error.operation, RUNS) == (what, [])
    assert "the end of work" in str(error)


async def test_the_place_is_the_users_line():
    """Also that of a helper, and also when the line is far down in its function."""

    async def helper(ctx: DurableContext) -> None:
        numbers = {
            "a": 1,
            "b": 2,
        }
        ctx.step(book, name=str(numbers))  # the helper's line
        await ctx.wait(5)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await helper(ctx)

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.where == line_of("# the helper's line") + "helper"


async def test_the_user_can_catch_it_and_it_is_told_once():
    """It is an ordinary error in the code, of the kind that a wrong task is; what comes after it runs."""
    told: list[Exception] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        ctx.step(book, "lost")
        try:
            await ctx.step(book, "refused")
        except FrameMisuseError as error:
            told.append(error)
        return await ctx.step(book, "after")

    assert await Harness(work).result() == "after"
    assert [type(error) for error in told] == [UnawaitedOperationError]
    assert RUNS == ["after"]


async def test_one_that_is_kept_and_awaited_later_is_fine():
    """Its position is that of the `await`, as of any coroutine."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        later = ctx.step(book, "a")
        RUNS.append("between")
        results = [await later]
        await ctx.wait(5)
        later = ctx.step(book, "b")
        results.append(await later)
        return results

    harness = Harness(work)
    assert await harness.result() == ["a", "b"]
    assert RUNS == ["between", "a", "between", "b"]
    assert [operation.name for operation in harness.operations()] == ["book", None, "book"]


async def test_two_that_are_kept_are_refused_where_the_second_one_is_called():
    """Which of them would come first is not for whoever awaits them to decide."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        first = ctx.step(book, "a", name="a")
        try:
            second = ctx.step(book, "b", name="b")
        finally:
            first.close()  # or Python warns of it, as it does of any
        await second

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "Step 'a'"
    assert "when Step 'b' came" in str(error)
    assert RUNS == []


async def test_one_that_is_closed_is_not_lost():
    """Whoever closes a coroutine has decided against it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        ctx.step(book, "closed").close()
        return await ctx.step(book, "a")

    assert await Harness(work).result() == "a"


async def test_one_that_another_task_takes_over_is_refused_there():
    """It has begun, so it is not lost; it is in the wrong task."""
    refused: list[Exception] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def elsewhere(coroutine: Coroutine[Any, Any, str]) -> None:
            try:
                await coroutine
            except FrameMisuseError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(elsewhere, ctx.step(book, "wrong"))
        return await ctx.step(book, "a")

    assert await Harness(work).result() == "a"
    assert [type(error) for error in refused] == [FrameMisuseError]
    assert RUNS == ["a"]


async def test_things_at_once_are_refused_and_told_how():
    """A user's own task group, or gather, is the common way to come here."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.step, book, "a")
            tasks.start_soon(ctx.step, book, "b")

    output = await Harness(work).invoke()
    assert output.status is InvocationStatus.FAILED
    assert output.error is not None
    assert "ctx.parallel()" in (output.error.error_data or "")
    assert RUNS == []


async def test_in_a_child_its_end_tells():
    """The child fails, with the error; whoever called it goes on."""

    async def forgetful(ctx: DurableContext) -> None:
        await ctx.step(book, "a")
        ctx.step(book, "lost")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(UnawaitedOperationError, match="the end of child 'forgetful'"):
            await ctx.child(forgetful)
        return await ctx.step(book, "b")

    assert await Harness(work).result() == "b"
    assert RUNS == ["a", "b"]


@pytest.mark.parametrize("nesting", ["nested", "flat"])
async def test_in_a_branch_its_end_tells(nesting):
    """The branch fails, and the fan-out says so; its siblings are not touched."""

    async def item(ctx: DurableContext, number: int) -> int:
        if number:
            ctx.step(book, "lost")
        else:
            await ctx.step(book, "a")
        return number

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        result = await ctx.map(item, range(2), nesting=nesting)
        return [type(item.error).__name__ for item in result.items]

    assert await Harness(work).result() == ["NoneType", "UnawaitedOperationError"]
    assert RUNS == ["a"]


async def test_on_an_outer_context_the_outer_code_is_told():
    """A child that uses its parent's context by mistake, and forgets to await, is found out after it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async def child(inner: DurableContext) -> None:
            ctx.step(book, "lost")

        await ctx.child(child)
        return await ctx.step(book, "a")

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert "in child" in error.where


async def test_inside_a_step_it_is_told_after_the_step():
    """Nothing durable may run there; called without `await` it would not even be refused."""

    async def body() -> str:
        current_context().step(book, "lost")
        return "body"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return await ctx.step(body)

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert "in body" in error.where


async def test_the_result_of_a_callback_is_one_too():
    """It takes no position, but whoever does not await it has not got it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        callback = await ctx.create_callback(name="approval")
        callback.result()

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "the result of callback 'approval'"


async def test_waiting_for_a_task_is_one_too():
    """The group waits in the end, but the code has gone on before."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.task_group() as tg:
            handle = tg.start_soon(branch)
            handle.wait()
            await ctx.step(book, "next")

    error = await Harness(work).error()
    assert isinstance(error, ExceptionGroup)
    assert [str(inner).partition(" was called")[0] for inner in error.exceptions] == ["waiting for task 'branch'"]


async def cancel(what: str) -> None:
    RUNS.append(f"cancel {what}")


async def test_a_sagas_step_that_is_not_awaited_is_told_by_the_next_one_and_the_saga_is_undone():
    """What was done before it is undone, as after any error in the block."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            s.step(book, "lost", compensate=cancel)
            await s.step(book, "b", compensate=cancel)

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "Step 'book'"
    assert RUNS == ["a", "cancel a"]


@pytest.mark.parametrize("compensate_on", ["success", "start"])
async def test_the_end_of_a_sagas_block_does_not_let_it_succeed(compensate_on):
    """The saga is not complete: what was done is undone, and nothing of what was not."""

    async def undo(outcome: object) -> None:
        RUNS.append("undo")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel)
            s.step(book, "lost", compensate=undo, compensate_on=compensate_on)

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, UnawaitedOperationError)
    assert "the end of saga 'trip'" in str(error)
    assert RUNS == ["a", "cancel a"]
    assert harness.operation("rollback").result is not None


async def test_a_rollback_that_is_not_awaited_is_told():
    """It would otherwise look as if it had been done."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            s.rollback("changed my mind")

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "rollback()"
    assert RUNS == ["a", "cancel a"]


async def test_rolling_back_to_a_savepoint_is_told_as_well():
    """The next step is told, and does not run."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            savepoint = s.savepoint()
            await s.step(book, "a", compensate=cancel)
            s.rollback_to(savepoint, "try another")
            await s.step(book, "b", compensate=cancel)

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert error.operation == "rollback_to()"
    assert RUNS == ["a", "cancel a"]


@pytest.mark.parametrize("retry", [None, Retry(attempts=2)])
async def test_a_compensation_that_forgets_to_await_has_failed(retry):
    """It is reported, and not tried again: the code is wrong."""

    async def forgetful(what: str) -> None:
        RUNS.append("forgetful")
        current_context().step(book, "lost")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=retry) as s:
            await s.step(book, "a", compensate=forgetful)
            raise KeyError("no")

    error = await Harness(work).error()
    assert isinstance(error, ExceptionGroup)
    (inner,) = error.exceptions
    assert isinstance(inner, UnawaitedOperationError)
    assert "the end of the compensation of 'book'" in str(inner)
    assert RUNS == ["a", "forgetful"]


OPENED: list[tuple[str, Callable[[DurableContext], Any]]] = [
    ("a saga", saga),
    ("a task group", lambda ctx: ctx.task_group()),
    ("Wait 'fail_after'", lambda ctx: ctx.fail_after(60)),
]


@pytest.mark.parametrize(("then", "block"), OPENED, ids=[opened[0] for opened in OPENED])
async def test_a_block_that_is_opened_tells_too(then, block):
    """Whatever comes next in the frame."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        ctx.step(book)
        async with block(ctx):
            RUNS.append("inside")

    error = await Harness(work).error()
    assert isinstance(error, UnawaitedOperationError)
    assert re.search(rf"when {re.escape(then)} came", str(error))
    assert RUNS == []


async def test_what_left_the_code_is_not_covered_up():
    """An error that comes before anybody could await is the outcome."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        lost = ctx.step(book)
        lost.close()
        raise KeyError("first")

    assert isinstance(await Harness(work).error(), KeyError)


async def test_it_comes_out_of_history_as_itself():
    """What was recorded of it is enough to raise it again."""

    async def forgetful(ctx: DurableContext) -> None:
        ctx.wait(5)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        try:
            await ctx.child(forgetful)
        except UnawaitedOperationError as error:
            first = [error.operation, error.where]
        await ctx.wait(5)
        return first

    harness = Harness(work)
    operation, where = await harness.result()
    assert operation == "Wait"
    assert where.endswith("in forgetful")
    assert not isinstance(UnawaitedOperationError, RecordedError)
