"""When a saga rolls back, in what order, and what is recorded of it (DESIGN section 4, rules 1 to 6)."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from durable import (
    CompensationError,
    CompensationItem,
    DurableContext,
    Retry,
    SagaCancelledError,
    SagaRolledBackError,
    SagaScope,
    StepInterruptedError,
    StepOutcome,
    current_context,
    current_saga,
    current_step,
    durable_execution,
    saga,
)
from durable._kernel.ids import compensation_id, operation_id, reserved_id
from durable._wire import OperationStatus
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


class Full(Exception):
    """No room."""


async def book(what: str) -> str:
    LOG.append(f"book {what}")
    return what


async def cancel(what: str) -> None:
    LOG.append(f"cancel {what}")


async def cannot_cancel(what: str) -> None:
    LOG.append(f"try to cancel {what}")
    raise Full(what)


async def refuse(what: str) -> str:
    LOG.append(f"refuse {what}")
    raise Full(what)


async def test_a_saga_that_succeeds_records_nothing_of_its_own():
    """No operation, no call, no compensation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip") as s:
            result = await s.step(book, "a", compensate=cancel)
            assert s.result is None
        return result

    harness = Harness(work)
    assert await harness.result() == "a"
    assert harness.calls == [["STEP START book", "STEP SUCCEED book"]]
    assert LOG == ["book a"]


async def test_a_failure_undoes_what_was_done_last_first_and_is_raised_again():
    """Compensations get the steps' results; the error that caused it all comes out with a note."""
    seen: list[Exception] = []
    scopes: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip") as s:
                scopes.append(s)
                await s.step(book, "a", compensate=cancel)
                await s.step(book, "b", compensate=cancel, name="second")
                await s.step(book, "no undo")
                await s.step(refuse, "c", compensate=cancel)
        except Full as error:
            seen.append(error)
            raise

    harness = Harness(work)
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book a", "book b", "book no undo", "refuse c", "cancel b", "cancel a"]
    assert seen[0].__notes__ == ["saga 'trip' was rolled back; undone: second, book"]
    assert scopes[0].result is not None
    assert scopes[0].result.all_succeeded
    assert scopes[0].result.items == (
        CompensationItem("second", "succeeded"),
        CompensationItem("book", "succeeded"),
    )


async def test_the_records_of_a_rollback_and_its_calls():
    """It begins with the decision; each compensation is a context named after its step; n cost n + 1 calls."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            for what in "abc":
                await s.step(book, what, compensate=cancel, name=what)
            raise Full("d")

    harness = Harness(work)
    await harness.error()
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
    assert plan["reason"]["error_type"].endswith("Full") if "error_type" in plan["reason"] else plan["reason"]
    assert [undo["name"] for undo in plan["undo"]] == ["c", "b", "a"]


async def test_without_anything_to_undo_nothing_is_recorded():
    """A saga that fails before its first compensation has nothing to say."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await ctx.step(refuse, "a")

    harness = Harness(work)
    assert isinstance(await harness.error(), Full)
    assert len(harness.calls) == 1


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
                [str(one) for one in error.exceptions],
                repr(error.__cause__),
                [(item.name, item.status, str(item.error)) for item in error.result.items],
                error.result.all_succeeded,
            ]
        return []

    harness = Harness(work)
    assert await harness.result() == [
        "saga 'trip' could not undo c, b (2 sub-exceptions)",
        ["c", "b"],
        "KeyError('why')",
        [["c", "failed", "c"], ["b", "failed", "b"], ["a", "succeeded", "None"]],
        False,
    ]
    assert LOG == ["book a", "book b", "book c", "try to cancel c", "try to cancel b", "cancel a"]
    assert harness.operation("trip").status is OperationStatus.FAILED
    failed = [o for o in harness.operations() if o.sub_type == "Compensation" and o.name == "b"]
    assert failed[0].error is not None
    assert failed[0].error.error_message == "b"


async def test_on_error_stop_leaves_the_rest_and_says_so():
    """What was not attempted is in the report."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error="stop") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=cannot_cancel, name="b")
            raise KeyError("why")

    error = await Harness(work).error()
    assert isinstance(error, CompensationError)
    assert str(error) == "saga 'trip' could not undo b; not attempted: a (1 sub-exception)"
    assert LOG == ["book a", "book b", "try to cancel b"]


async def test_an_unknown_on_error_is_refused():
    """Where it is written."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, on_error="ignore"):  # type: ignore[arg-type]
            pass

    assert isinstance(await Harness(work).error(), ValueError)


async def test_rollback_by_hand():
    """It undoes now, the block goes on, and the saga takes no more."""
    results = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            results.append(await s.rollback("not wanted"))
            with pytest.raises(SagaRolledBackError, match="it goes no further"):
                await s.step(book, "b", compensate=cancel)
            with pytest.raises(SagaRolledBackError, match="it goes no further"):
                await s.rollback("again")
            after = await ctx.step(book, "c")
            await ctx.wait(1)
        return after

    harness = Harness(work)
    assert await harness.result() == "c"
    assert LOG == ["book a", "cancel a", "book c"]
    assert results[0] == results[1]
    assert results[0].all_succeeded
    reason = json.loads(harness.operation("rollback").result or "")["reason"]
    assert "not wanted" in json.dumps(reason)


async def test_rollback_by_hand_that_fails_is_loud():
    """A report that nobody looks at does not hide what could not be undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cannot_cancel)
            try:
                await s.rollback("not wanted")
            except CompensationError as error:
                return f"{error.result.all_succeeded} {error.__cause__}"
        return "?"

    assert await Harness(work).result() == "False the saga was rolled back: not wanted"


async def test_the_users_own_cancellation_rolls_back_under_a_shield():
    """A time limit around the saga undoes it, then takes effect; also after a crash during the rollback."""

    async def forever() -> None:
        await anyio.sleep_forever()

    async def slow_cancel(what: str) -> None:
        await anyio.lowlevel.checkpoint()
        LOG.append(f"cancel {what}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> bool:
        with anyio.move_on_after(0.02) as scope:
            async with saga(ctx, "trip") as s:
                await s.step(book, "a", compensate=slow_cancel)
                await s.step(book, "b", compensate=slow_cancel)
                await s.step(forever)
        await ctx.step(book, "afterwards")
        return scope.cancelled_caught

    harness = Harness(work)
    assert await harness.result() is True
    undone = ["book a", "book b", "cancel b", "cancel a", "book afterwards"]
    assert undone == LOG
    calls = len(harness.calls)

    for crash in range(1, calls + 1):
        LOG.clear()
        harness = Harness(work, name=f"crash-{crash}")
        harness.client.after = _crash_at(crash)
        with pytest.raises(CrashError):
            await harness.result()
        harness.client.after = lambda _: None
        assert await harness.result() is True
        assert sorted(set(LOG)) == sorted(undone), (crash, LOG)
        assert LOG.index("cancel b") < LOG.index("cancel a") < LOG.index("book afterwards")


async def test_a_cancelled_saga_without_its_time_limit_on_replay_raises():
    """If the code that cancelled it is not there any more, the recorded decision still holds."""
    cancelling = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.CancelScope() as scope:
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=cancel)
                if cancelling[0]:
                    scope.cancel()
                await anyio.lowlevel.checkpoint()
                await s.step(book, "b")
        return "done"

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    cancelling[0] = False
    harness.client.after = lambda _: None
    assert isinstance(await harness.error(), SagaCancelledError)
    assert LOG == ["book a", "cancel a"]


async def test_once_begun_it_can_only_roll_back():
    """On replay the next new operation raises the recorded error, although nothing fails this time."""
    failing = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            if failing[0]:
                raise Full("by chance")
            await s.step(book, "b", compensate=cancel)
            LOG.append("went on")

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    failing[0] = False
    harness.client.after = lambda _: None
    error = await harness.error()
    assert isinstance(error, Full)
    assert str(error) == "by chance"
    assert LOG == ["book a", "cancel a"]


async def test_once_begun_a_block_that_ends_normally_is_rolled_back_all_the_same():
    """There was no further operation to be refused."""
    failing = [True]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            if failing[0]:
                raise Full("by chance")

    harness = Harness(work)
    harness.client.after = _crash_at(2)
    with pytest.raises(CrashError):
        await harness.result()
    failing[0] = False
    harness.client.after = lambda _: None
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book a", "cancel a"]


async def test_a_finished_rollback_is_read_from_history():
    """Nothing is undone twice, and the report is the same to the letter."""
    reports = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        for _ in range(2):
            try:
                async with saga(ctx, "trip") as s:
                    await s.step(book, "a", compensate=cancel)
                    await s.step(book, "b", compensate=cannot_cancel)
                    raise KeyError("why")
            except CompensationError as error:
                reports.append((repr(error), repr(error.__cause__), repr(error.result), repr(s.result)))
            await ctx.wait(1)

    harness = Harness(work)
    await harness.result()
    assert LOG.count("cancel a") == LOG.count("try to cancel b") == 2
    assert len(reports) == 5
    assert len(set(reports)) == 1


async def test_compensations_may_use_durable_operations_and_suspend():
    """Through the current context: steps, waits, children, in the compensation's own namespace."""

    async def inner(ctx: DurableContext) -> str:
        return await ctx.step(book, "inside a child")

    async def careful(what: str) -> None:
        ctx = current_context()
        await ctx.wait(3600, name="let it settle")
        await ctx.child(inner)
        await ctx.step(cancel, what)
        LOG.append(current_step().name)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=careful, name="hotel")
            await s.step(book, "b", compensate=cancel)
            raise Full("c")

    harness = Harness(work)
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book a", "book b", "cancel b", "book inside a child", "cancel a", "hotel"]
    assert harness.invocations == 2
    compensation = next(o for o in harness.operations() if o.sub_type == "Compensation" and o.name == "hotel")
    assert harness.operation("let it settle").parent_id == compensation.id


async def test_compensations_are_retried_durably():
    """By the saga's policy, with the service's delay; every attempt has its own namespace and the same key."""
    attempts: list[tuple[int, str]] = []

    async def flaky(what: str) -> None:
        info = current_step()
        attempts.append((info.attempt, info.idempotency_key))
        await current_context().step(book, f"in attempt {info.attempt}")
        if info.attempt < 3:
            raise OSError(what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=3, initial_delay=10, jitter="none")) as s:
            await s.step(book, "a", compensate=flaky)
            raise Full("b")

    harness = Harness(work)
    began = harness.clock.now()
    assert isinstance(await harness.error(), Full)
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    assert len({key for _, key in attempts}) == 1
    assert ["book a", *(f"book in attempt {n}" for n in (1, 2, 3))] == LOG
    assert harness.clock.now() - began >= 10_000 + 20_000


async def test_a_compensation_whose_retries_are_used_up_has_failed():
    """With what its last attempt raised."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=2)) as s:
            await s.step(book, "a", compensate=cannot_cancel)
            raise KeyError("b")

    error = await Harness(work).error()
    assert isinstance(error, CompensationError)
    assert isinstance(error.exceptions[0], Full)
    assert LOG == ["book a", "try to cancel a", "try to cancel a"]


async def test_a_compensation_that_takes_too_long_has_failed():
    """The saga's `timeout` is a limit for each attempt."""

    async def forever(_: str) -> None:
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, timeout=0.01) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=forever, name="slow")
            raise KeyError("b")

    error = await Harness(work).error()
    assert isinstance(error, CompensationError)
    assert isinstance(error.exceptions[0], TimeoutError)
    assert LOG[-1] == "cancel a"


async def test_plain_functions_compensate_in_a_thread():
    """And what they return does not matter, whatever its annotation."""

    def cancel_plainly(what: str) -> object:
        LOG.append(f"plain {what} {current_step().attempt}")
        return object()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=Retry(attempts=2)) as s:
            await s.step(book, "a", compensate=cancel_plainly)
            raise Full("b")

    assert isinstance(await Harness(work).error(), Full)
    assert LOG == ["book a", "plain a 1"]


async def test_compensations_registered_by_hand():
    """In their place among the others, with the arguments they were given."""

    async def undo(what: str, times: int) -> None:
        LOG.append(f"undo {what} {times}")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            s.compensate(undo, "by hand", 2, name="manual")
            await s.step(book, "b", compensate=cancel)
            raise Full("c")

    harness = Harness(work)
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book a", "book b", "cancel b", "undo by hand 2", "cancel a"]
    assert any(o.sub_type == "Compensation" and o.name == "manual" for o in harness.operations())


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("succeeds", "succeeded x None"),
        ("fails", "failed None Full('x')"),
        ("times out", "failed None StepTimeoutError"),
        ("is interrupted", "in doubt None StepInterruptedError"),
        ("is cancelled", "in doubt None None"),
    ],
)
async def test_a_compensation_on_start_gets_the_outcome_of_its_step(how, expected):
    """For effects that may have happened although the step failed."""

    async def undo(outcome: StepOutcome[str]) -> None:
        error = outcome.error
        shown = type(error).__name__ if isinstance(error, (TimeoutError, StepInterruptedError)) else repr(error)
        LOG.append(f"{outcome.status} {outcome.value} {shown}")

    async def charge(what: str) -> str:
        if how == "fails":
            raise Full(what)
        if how in {"times out", "is cancelled"}:
            await anyio.sleep_forever()
        if how == "is interrupted":
            await harness.crash_now()
        return what

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        with anyio.move_on_after(0.02 if how == "is cancelled" else 60):
            async with saga(ctx) as s:
                await s.step(
                    charge,
                    "x",
                    compensate=undo,
                    compensate_on="start",
                    timeout=0.01 if how == "times out" else None,
                    semantics="at-most-once" if how == "is interrupted" else "at-least-once",
                )
                raise KeyError("later")

    harness = Harness(work)
    if how == "is interrupted":
        with pytest.raises(CrashError):
            await harness.result()
    await harness.outcome()
    assert expected == LOG[0]
    assert len(LOG) == 1


async def test_an_outcome_in_doubt_is_still_undone_after_a_crash_during_the_rollback():
    """The step is not run again; what the recorded plan names is registered although its step was refused."""

    async def undo(outcome: StepOutcome[None]) -> None:
        LOG.append(outcome.status)

    async def forever() -> None:
        await anyio.sleep_forever()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with anyio.move_on_after(0.02):
            async with saga(ctx) as s:
                await s.step(book, "a", compensate=cancel)
                await s.step(forever, compensate=undo, compensate_on="start")
        return "moved on"

    for crash in range(1, 6):
        LOG.clear()
        harness = Harness(work, name=f"crash-{crash}")
        harness.client.after = _crash_at(crash)
        with pytest.raises(CrashError):
            await harness.result()
        harness.client.after = lambda _: None
        assert await harness.result() == "moved on"
        assert list(dict.fromkeys(LOG)) == ["book a", "in doubt", "cancel a"], crash


async def test_an_inner_saga_that_succeeds_hands_its_compensations_to_the_outer_one():
    """As one unit, in its place."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            async with saga(ctx, "inner") as inner:
                await inner.step(book, "b", compensate=cancel)
                await inner.step(book, "c", compensate=cancel)
            await outer.step(book, "d", compensate=cancel)
            raise Full("e")

    assert isinstance(await Harness(work).error(), Full)
    assert LOG[4:] == ["cancel d", "cancel c", "cancel b", "cancel a"]


async def test_an_inner_saga_that_fails_rolls_itself_back_first():
    """Then the outer one, if the error goes on; if it is caught, the outer one goes on."""

    async def run(ctx: DurableContext, *, catch: bool) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel)
            try:
                async with saga(ctx, "inner") as inner:
                    await inner.step(book, "b", compensate=cancel)
                    raise Full("c")
            except Full:
                if not catch:
                    raise
            await outer.step(book, "d", compensate=cancel)

    @durable_execution
    async def passing(event: None, ctx: DurableContext) -> None:
        await run(ctx, catch=False)

    @durable_execution
    async def catching(event: None, ctx: DurableContext) -> None:
        await run(ctx, catch=True)

    assert isinstance(await Harness(passing).error(), Full)
    assert LOG == ["book a", "book b", "cancel b", "cancel a"]
    LOG.clear()
    await Harness(catching).result()
    assert LOG == ["book a", "book b", "cancel b", "book d"]


async def test_helpers_reach_the_saga_through_the_context_variable():
    """Three calls deep, without passing it; also from inside a child context."""

    async def helper(what: str) -> None:
        await current_saga().step(book, what, compensate=cancel)

    async def subflow(ctx: DurableContext) -> str:
        await helper("in a child")
        await current_context().wait(5)
        return "x"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx):
            await helper("directly")
            await ctx.child(subflow)
            await ctx.wait(5)
            raise Full("x")

    harness = Harness(work)
    assert isinstance(await harness.error(), Full)
    assert LOG == ["book directly", "book in a child", "cancel in a child", "cancel directly"]
    details = harness.operation("subflow").context_details
    assert details is not None
    assert details.replay_children
    with pytest.raises(LookupError, match="there is none"):
        current_saga()


async def test_a_child_that_fails_after_registering_is_undone_also_after_a_crash():
    """Its steps stay known to the saga, whatever happens in between."""

    async def subflow(ctx: DurableContext) -> None:
        await current_saga().step(book, "b", compensate=cancel)
        raise Full("in the child")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=cancel)
            try:
                await ctx.child(subflow)
            except Full:
                LOG.append("caught")
            await ctx.wait(5)
            raise KeyError("later")

    for crash in range(1, 8):
        LOG.clear()
        harness = Harness(work, name=f"crash-{crash}")
        harness.client.after = _crash_at(crash)
        try:
            await harness.outcome()
        except CrashError:
            harness.client.after = lambda _: None
            await harness.outcome()
        undone = [entry for entry in dict.fromkeys(LOG) if entry.startswith("cancel")]
        assert undone == ["cancel b", "cancel a"], crash
        assert LOG.count("book b") == 1


async def test_a_saga_is_entered_once_and_used_inside_its_block():
    """Anything else is an error that says how."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        scope = saga(ctx)
        with pytest.raises(RuntimeError, match="inside its block"):
            await scope.step(book, "a")
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            async with scope:
                pass

    await Harness(work).result()


def _crash_at(number: int) -> Any:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
