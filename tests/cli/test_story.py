"""What a watcher is told of events; and the same told from operations, as a tree."""

from __future__ import annotations

import io
from typing import Any

import pytest

from durable import DurableContext, DurableFunction, Retry, current_context, durable_execution, saga
from durable._wire import ErrorObject, Operation, OperationStatus, OperationType, Timestamp
from durable._wire.events import (
    CallbackStartedDetails,
    Event,
    EventError,
    EventType,
    FailureDetails,
    InvocationCompletedDetails,
)
from durable.cli.outcome import print_rollbacks
from durable.cli.story import Moment, Story
from durable.cli.terminal import console_for
from durable.cli.tree import Node, Tree, Undo, walk
from durable.cli.tree_view import print_tree
from durable.local import open_engine
from durable.testing import SkippingClock
from tests.cli.helpers import said
from tests.harness import CrashError, Harness

NOW = 1_764_000_000_000

pytestmark = pytest.mark.anyio


async def book(what: str) -> str:
    return what


async def refuse(what: str) -> str:
    raise ValueError(what)


async def cancel(what: str) -> None:
    pass


async def told(harness: Harness) -> tuple[Story, list[Moment]]:
    """The whole story of an execution that is over."""
    story = Story()
    moments: list[Moment] = []
    for event in await harness.service.history(harness.record.id):
        moments += story.tell(event)
    return story, moments


def brief(moments: list[Moment]) -> list[str]:
    return [
        f"{moment.thing.depth if moment.thing else '-'} {moment.kind} {moment.thing.name if moment.thing else ''}"
        f"{f' #{moment.attempt}' if moment.attempt > 1 else ''}"
        for moment in moments
    ]


def drawn(harness: Harness) -> list[str]:
    """The tree, a line each."""
    lines = []
    for levels, entry in walk(Tree(harness.operations()).roots):
        if isinstance(entry, Undo):
            name = f"undo {entry.number}/{entry.total}" + ("" if entry.node else " not begun")
        else:
            name = entry.operation.name or entry.operation.type
        lines.append("  " * (len(levels) - 1) + name)
    return lines


async def test_steps_waits_and_children():
    """Each begins and ends at its depth; a wait says until when."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def inner(child: DurableContext) -> str:
            await child.wait(5)
            return await child.step(book, "in")

        await ctx.step(book, "a", name="a")
        await ctx.child(inner, name="sub")

    harness = Harness(work)
    await harness.result()
    story, moments = await told(harness)
    assert brief(moments) == [
        "0 begun a", "0 succeeded a", "0 begun sub", "1 begun Wait", "1 succeeded Wait", "1 begun book",
        "1 succeeded book", "0 succeeded sub",
    ]  # fmt: skip
    wait = next(moment for moment in moments if moment.kind == "begun" and moment.until)
    assert wait.until == wait.time + 5000
    assert [moment.elapsed for moment in moments if moment.kind == "succeeded"] == [0, 5000, 0, 5000]
    assert moments[1].payload == '"a"'
    assert story.active == {}
    assert drawn(harness) == ["a", "sub", "  WAIT", "  book"]


async def test_retries_count():
    """Failed attempts say when the next one follows; the end says which it was."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(refuse, "no", retry=Retry(attempts=3, initial_delay=7, jitter="none", backoff_rate=1))

    harness = Harness(work)
    await harness.error()
    _, moments = await told(harness)
    assert brief(moments) == [
        "0 begun refuse", "0 retry refuse", "0 begun refuse #2", "0 retry refuse #2", "0 begun refuse #3",
        "0 failed refuse #3",
    ]  # fmt: skip
    assert moments[1].until == moments[1].time + 7000
    assert (moments[-1].elapsed, moments[-1].error and moments[-1].error.error_message) == (14_000, "no")


async def test_a_rollback_is_told_as_one():
    """Not how it is recorded, but: it begins, and why; what is undone; what could not be; that it has ended."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=refuse, name="b")
            s.compensate(cancel, "c", name="by hand")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    story, moments = await told(harness)
    assert brief(moments)[4:] == [
        "0 rollback trip", "1 begun by hand", "1 succeeded by hand", "1 begun b", "1 failed b", "1 begun a",
        "1 succeeded a", "0 rolled back trip",
    ]  # fmt: skip
    assert moments[4].names == ("by hand", "b", "a")
    (rollback,) = story.rollbacks.values()
    assert (rollback.undone, [one.name for one in rollback.failed]) == (["by hand", "a"], ["b"])
    assert (rollback.skipped, rollback.not_attempted) == ([], [])
    assert rollback.reason is not None
    assert rollback.reason.error_type == "KeyError"
    # Made by hand, there is nothing it could hang below.
    assert drawn(harness) == ["a", "  undo 3/3", "b", "  undo 2/3", "trip", "  by hand"]


async def test_what_was_not_attempted_is_told():
    """Under `on_error="stop"` the rest is left."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error="stop") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=refuse, name="b")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    story, moments = await told(harness)
    assert brief(moments)[-2:] == ["0 skipped trip", "0 rolled back trip"]
    assert moments[-2].names == ("a",)
    assert next(iter(story.rollbacks.values())).not_attempted == ["a"]
    assert drawn(harness) == ["a", "  undo 2/2 not begun", "b", "  undo 1/2", "trip"]


async def test_a_compensation_with_retries_is_one_thing():
    """The step that counts its attempts is how it is recorded; what it does inside is its own."""
    failures = [True]

    async def stubborn(what: str) -> None:
        await current_context().step(book, "inside", name="inside")
        if failures:
            failures.pop()
            raise ValueError("not yet")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", retry=Retry(attempts=2, initial_delay=9, jitter="none")) as s:
            await s.step(book, "a", compensate=stubborn, name="a")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    _, moments = await told(harness)
    assert brief(moments)[2:] == [
        "0 rollback trip", "1 begun a", "2 begun inside", "2 succeeded inside", "1 retry a", "2 begun inside",
        "2 succeeded inside", "1 succeeded a #2", "0 rolled back trip",
    ]  # fmt: skip
    assert moments[6].thing is not None
    assert moments[6].thing.role == "undo"
    assert drawn(harness) == ["a", "  undo 1/1", "    inside", "    inside", "trip"]


async def test_the_first_step_in_a_compensation_without_retries_is_the_users_own():
    """It has the place, but not the name, of what counts attempts where there are retries."""

    async def polite(what: str) -> None:
        await current_context().step(book, "b", name="other")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "a", compensate=polite, name="a")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    _, moments = await told(harness)
    assert "2 succeeded other" in brief(moments)
    assert drawn(harness) == ["a", "  undo 1/1", "    other", "CONTEXT"]


async def decided(function: DurableFunction[None, Any], *decisions: str) -> tuple[Story, Tree]:
    """An execution in which an operator is asked, and answers so."""
    answers = list(decisions)
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(function, None, name="t-1")
        story = Story()
        async for event in run.events():
            for moment in story.tell(event):
                if moment.kind == "begun" and moment.thing is not None and moment.thing.callback is not None:
                    await engine.complete_callback(moment.thing.callback, answers.pop(0))
        return story, Tree(await engine.operations("t-1"))


def printed(story: Story, tree: Tree) -> str:
    """The tree and the rollbacks, as people see them."""
    stream = io.StringIO()
    console = console_for(stream)
    print_tree(console, tree, NOW, is_over=True)
    print_rollbacks(console, story.rollbacks.values())
    return stream.getvalue()


def undos(tree: Tree) -> list[str]:
    """What hangs below what, in a word each."""
    found = []
    for _, entry in walk(tree.roots):
        if isinstance(entry, Node):
            found.append(entry.operation.name or entry.operation.type)
        else:
            status = "-" if entry.node is None else entry.node.operation.status
            found.append(f"undo {entry.number}: {status} {'' if entry.outcome is None else entry.outcome.status}")
    return found


async def test_an_operator_has_it_tried_again():
    """Each try is shown where it belongs, the operator's answer below what it is about."""
    failures = [True]

    async def once(what: str) -> None:
        if failures:
            failures.pop()
            raise ValueError("closed")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error="park") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=once, name="b")
            raise KeyError("why")

    story, tree = await decided(work, "retry")
    (rollback,) = story.rollbacks.values()
    assert (rollback.undone, rollback.failed, rollback.not_attempted) == (["b", "a"], [], [])
    assert undos(tree) == [
        "a", "undo 2: SUCCEEDED succeeded", "b", "undo 1: FAILED ", "b operator", "undo 1: SUCCEEDED succeeded",
        "trip",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "undone", "failed", "skipped", "not_attempted"),
    [("skip", ["a"], [], ["b"], []), ("abandon", [], ["b"], [], ["a"])],
)
async def test_an_operator_lets_it_be(
    decision: str, undone: list[str], failed: list[str], skipped: list[str], not_attempted: list[str]
):
    """What was left by decision is told as that; what nobody tried after it, too."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", on_error="park") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=refuse, name="b")
            raise KeyError("why")

    story, tree = await decided(work, decision)
    (rollback,) = story.rollbacks.values()
    assert rollback.undone == undone
    assert [one.name for one in rollback.failed] == failed
    assert [one.name for one in rollback.skipped] == skipped
    assert rollback.not_attempted == not_attempted
    status = {"skip": "skipped", "abandon": "failed"}[decision]
    assert f"undo 1: FAILED {status}" in undos(tree)
    assert ("skipped by an operator" in printed(story, tree)) == (decision == "skip")


async def test_a_rollback_whose_time_was_over():
    """What was cut off has failed."""

    async def slow(what: str) -> None:
        await current_context().wait(100)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", rollback_timeout=5) as s:
            await s.step(book, "a", compensate=cancel, name="a")
            await s.step(book, "b", compensate=slow, name="b")
            raise KeyError("why")

    story, tree = await decided(work)
    (rollback,) = story.rollbacks.values()
    assert ([one.name for one in rollback.failed], rollback.not_attempted) == (["b"], ["a"])
    assert "durable.exceptions.RollbackTimeoutError" in str(rollback.failed[0].error)
    second, first = tree.roots[0].undos[0], tree.roots[1].undos[0]
    assert second.node is None
    assert first.node is not None
    assert first.node.operation.status is OperationStatus.FAILED
    assert first.outcome is not None
    assert first.outcome.status == "failed"
    assert said(printed(story, tree), "b", "NOT undone", "RollbackTimeoutError")


async def test_savepoints_and_cleanups():
    """A rollback to a savepoint is one of its own; a cleanup is no compensation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            savepoint = s.savepoint()
            await s.step(book, "b", compensate=cancel, name="b")
            s.cleanup(book, "c", name="tidy")
            await s.rollback_to(savepoint, "another way")
            return await s.step(book, "d", compensate=cancel, name="d")

    harness = Harness(work)
    assert await harness.result() == "d"
    story, moments = await told(harness)
    (rollback,) = story.rollbacks.values()
    assert (rollback.name, rollback.undone) == ("trip to savepoint", ["b"])
    assert [moment.thing.role for moment in moments if moment.thing and moment.thing.name == "tidy"] == [
        "cleanup"
    ] * 2
    assert undos(Tree(harness.operations())) == [
        "a", "b", "undo 1: SUCCEEDED succeeded", "trip to savepoint", "d", "tidy"
    ]  # fmt: skip


async def test_an_inner_sagas_steps_are_undone_by_the_outer_one():
    """Undone by whoever has taken them over; each below its step, wherever that is."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "outer") as outer:
            await outer.step(book, "a", compensate=cancel, name="a")
            async with saga(ctx, "inner") as inner:
                await inner.step(book, "b", compensate=cancel, name="b")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    assert drawn(harness) == ["a", "  undo 2/2", "b", "  undo 1/2", "outer"]


async def test_an_interruption_is_told_of_what_was_running():
    """Not of what was waiting, and not of what only encloses what was running."""

    async def crashing(what: str) -> None:
        await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def inner(child: DurableContext) -> None:
            await child.step(crashing, "x", name="x", semantics="at-most-once")

        await ctx.child(inner, name="sub")

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    story, _ = await told(harness)
    before = [thing.name for thing in story.active.values()]
    assert before == ["sub", "x"]
    moments = story.resume(5_000)
    assert brief(moments) == ["1 interrupted x"]
    assert next(reversed(story.active.values())).started == 5_000


async def test_what_happened_before_is_marked():
    """So that it can be shown as what it is."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(book, "a")

    harness = Harness(work)
    await harness.result()
    events = await harness.service.history(harness.record.id)
    story = Story()
    assert {moment.past for moment in story.recall(events)} == {True}
    assert story.last_event == events[-1].event_id


def event(kind: EventType, **fields: Any) -> Event:
    return Event(event_type=kind, event_id=1, event_timestamp=Timestamp(1000), **fields)


def test_kinds_of_operation_that_come_later_are_told_by_the_same_rules():
    """A callback begins and ends like everything else."""
    story = Story()
    started = event(
        EventType.CALLBACK_STARTED, id="c", name="approval", sub_type="Callback",
        callback_started_details=CallbackStartedDetails(callback_id="x"),
    )  # fmt: skip
    assert brief(story.tell(started)) == ["0 begun approval"]
    error = EventError(payload=ErrorObject(error_type="Late"))
    ended = event(EventType.CALLBACK_TIMED_OUT, id="c", callback_timed_out_details=FailureDetails(error=error))
    (moment,) = story.tell(ended)
    assert brief([moment]) == ["0 failed approval"]
    assert moment.error == error.payload
    assert story.tell(event(EventType.EXECUTION_PAUSED)) == []


def test_an_invocation_that_raised_is_told():
    """It is not the execution's failure: it will be repeated."""
    details = InvocationCompletedDetails(
        start_timestamp=Timestamp(0),
        end_timestamp=Timestamp(1),
        request_id="r",
        error=EventError(payload=ErrorObject(error_type="durable.exceptions.ServiceError", error_message="busy")),
    )
    (moment,) = Story().tell(event(EventType.INVOCATION_COMPLETED, invocation_completed_details=details))
    assert brief([moment]) == ["- invocation failed "]


def test_a_history_that_begins_in_the_middle_is_told_as_far_as_it_goes():
    """An end without a beginning: no error, and no invented duration."""
    (moment,) = Story().tell(event(EventType.STEP_FAILED, id="s", name="lost"))
    assert (moment.kind, moment.elapsed, moment.error) == ("failed", 0, None)


@pytest.mark.parametrize("payload", [None, "", "{}", "[", '{"reason":{},"undo":[["a"]]}'])
async def test_a_plan_that_cannot_be_read_hides_nothing_else(payload: str | None):
    """The rollback's own record may be damaged; what was undone is told all the same."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            raise KeyError("why")

    harness = Harness(work)
    await harness.error()
    damaged = [damage(operation, payload) for operation in harness.operations()]
    assert [entry.operation.name for _, entry in walk(Tree(damaged).roots) if isinstance(entry, Node)] == [
        "a", "trip", "a"
    ]  # fmt: skip


def damage(operation: Operation, payload: str | None) -> Operation:
    import msgspec

    if operation.name != "rollback" or operation.step_details is None:
        return operation
    details = msgspec.structs.replace(operation.step_details, result=payload)
    return msgspec.structs.replace(operation, step_details=details)


def test_a_tree_of_nothing():
    """An execution that has not done anything yet."""
    assert list(walk(Tree([]).roots)) == []


def test_an_orphan_is_a_root():
    """Whatever is recorded is shown, also if its parent is not."""
    orphan = Operation(
        id="o", type=OperationType.STEP, start_timestamp=Timestamp(0), status=OperationStatus.STARTED, parent_id="?"
    )
    assert [entry.operation.id for _, entry in walk(Tree([orphan]).roots) if isinstance(entry, Node)] == ["o"]
