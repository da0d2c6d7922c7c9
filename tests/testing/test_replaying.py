"""`replay`: whether code follows what was recorded, what it would do next, and that nothing happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from durable import (
    Completion,
    DurableContext,
    DurableFunction,
    NonDeterminismError,
    Retry,
    current_context,
    durable_execution,
    saga,
)
from durable._wire import InvocationStatus
from durable._wire.events import Event
from durable.exceptions import NotDurableError
from durable.serde import JsonSerde
from durable.testing import ReplayResult, replay
from tests.harness import CrashError, Harness
from tests.recorded import events_of
from tests.sweep import crash_at

pytestmark = pytest.mark.anyio

called: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_is_called() -> None:
    called.clear()


async def one() -> int:
    called.append("one")
    return 1


async def add(left: int, right: int) -> int:
    called.append("add")
    return left + right


async def refuse() -> int:
    called.append("refuse")
    raise ValueError("no")


async def undo(value: object) -> None:
    called.append("undo")


async def recorded(
    function: DurableFunction[Any, Any], event: Any = None, *, invocations: int = 0, crash: int = 0
) -> Sequence[Event]:
    """The history of an execution: whole, after so many invocations, or when it crashed before that call."""
    harness = Harness(function, event)
    harness.client.before = crash_at(crash)
    try:
        for _ in range(invocations):
            await harness.invoke()
        if not invocations:
            await harness.outcome()
    except CrashError:
        pass
    called.clear()
    return events_of(harness)


async def replayed(function: DurableFunction[Any, Any], events: Sequence[Event]) -> ReplayResult:
    result = await replay(function, events)
    assert called == []
    return result


@durable_execution
async def sums(event: int, ctx: DurableContext) -> int:
    left = await ctx.step(one)
    await ctx.wait(60, name="pause")
    return await ctx.step(add, left, event)


async def test_code_follows_a_history_that_has_ended():
    """It ends as it did."""
    result = await replayed(sums, await recorded(sums, 3))
    assert (result.compatible, result.replayed, result.ended) == (True, 3, InvocationStatus.SUCCEEDED)
    assert (result.result, result.status, result.name) == ("4", "SUCCEEDED", "t-1")
    assert result.check() is result
    assert str(result) == "follows 3 operations, then succeeds with 4"


async def test_code_follows_a_history_in_flight():
    """What it waits for is told."""
    result = await replayed(sums, await recorded(sums, 3, invocations=1))
    assert result.compatible
    assert (result.waits_for, result.goes_on_with, result.ended) == (("Wait 'pause'",), (), None)
    assert str(result) == "follows 2 operations, then waits for Wait 'pause'"


@pytest.mark.parametrize(
    ("crash", "replayed_", "then"),
    [
        (1, 0, "goes on with Step 'one'"),
        (2, 1, "goes on with Wait 'pause'"),
        (3, 2, "goes on with Step 'add'"),
    ],
)
async def test_what_is_new_is_not_done(crash: int, replayed_: int, then: str):
    """It stops before the first thing that is new, whatever that is, and tells it."""
    harness = Harness(sums, 3)
    harness.client.before = crash_at(crash)
    with pytest.raises(CrashError):
        await harness.outcome()
    called.clear()
    result = await replayed(sums, events_of(harness))
    assert (result.replayed, result.then) == (replayed_, then)


async def test_a_child_or_a_branch_that_is_new_is_not_entered():
    """It is what the code would go on with."""

    async def child(ctx: DurableContext) -> int:
        called.append("child")
        return await ctx.step(one)

    @durable_execution
    async def nests(event: None, ctx: DurableContext) -> None:
        await ctx.step(one)
        await ctx.child(child)

    @durable_execution
    async def branches(event: None, ctx: DurableContext) -> None:
        await ctx.step(one)
        async with ctx.task_group() as group:
            group.start_soon(child)

    for function in (nests, branches):
        result = await replayed(function, await recorded(function, crash=2))
        assert (result.replayed, result.goes_on_with) == (1, ("RunInChildContext 'child'",))


async def test_a_history_that_ended_must_end_the_same_way():
    """Another result, another error, no error, or something more to do."""
    events = await recorded(sums, 3)

    @durable_execution
    async def doubles(event: int, ctx: DurableContext) -> int:
        return 2 * await sums.function(event, ctx)

    @durable_execution
    async def raises(event: int, ctx: DurableContext) -> int:
        await sums.function(event, ctx)
        raise ValueError("too late")

    @durable_execution
    async def goes_on(event: int, ctx: DurableContext) -> int:
        found = await sums.function(event, ctx)
        await ctx.step(one, name="more")
        return found

    for function, found in (
        (doubles, "that it succeeds with 8"),
        (raises, "that it fails with ValueError: too late"),
        (goes_on, "that it goes on with Step 'more'"),
    ):
        result = await replayed(function, events)
        assert result.divergence is not None
        assert result.divergence.expected == "that it succeeds with 4"
        assert result.divergence.found == found
        assert result.divergence.where == "the end of the execution"
        with pytest.raises(NonDeterminismError, match="found that it"):
            result.check()


async def test_errors_are_compared_by_type_and_message():
    """Not by where they were raised."""

    @durable_execution
    async def fails(event: None, ctx: DurableContext) -> None:
        await ctx.step(refuse)

    @durable_execution
    async def fails_elsewhere(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.step(refuse)
        except ValueError as error:
            raise ValueError(str(error)) from None

    @durable_execution
    async def fails_otherwise(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.step(refuse)
        except ValueError as error:
            raise ValueError(f"{error}!") from None

    events = await recorded(fails)
    for function in (fails, fails_elsewhere):
        result = await replayed(function, events)
        assert result.compatible
        assert result.then == "fails with ValueError: no"
        assert isinstance(result.error, ValueError)
    result = await replayed(fails_otherwise, events)
    assert result.divergence is not None
    assert result.divergence.expected == "that it fails with ValueError: no"


async def test_operations_are_compared():
    """Another name, kind or order of operations is told with the place in the code."""

    @durable_execution
    async def in_another_order(event: int, ctx: DurableContext) -> int:
        await ctx.wait(60, name="pause")
        return await ctx.step(one)

    @durable_execution
    async def without_the_last(event: int, ctx: DurableContext) -> int:
        await ctx.step(one)
        await ctx.wait(60, name="pause")
        return 4

    events = await recorded(sums, 3)
    first = (await replayed(in_another_order, events)).divergence
    assert first is not None
    assert (first.expected, first.found) == ("Step 'one'", "Wait 'pause'")
    assert "in in_another_order" in first.where
    second = (await replayed(without_the_last, events)).divergence
    assert second is not None
    assert (second.expected, second.found) == ("Step 'add'", "the end of without_the_last")


async def test_a_timeout_of_the_execution_or_a_stop_is_nobody_s_code():
    """The code of an execution that somebody ended is compared as far as it came."""
    harness = Harness(sums, 3)
    await harness.invoke()
    called.clear()
    document = [
        {"EventId": event.event_id, "EventTimestamp": 1, "EventType": str(event.event_type)}
        | {"Id": event.id, "Name": event.name, "SubType": event.sub_type}
        for event in events_of(harness)
    ]
    document[0]["ExecutionStartedDetails"] = {"Input": {"Payload": "3"}, "ExecutionTimeout": 5}
    document[2]["StepSucceededDetails"] = {"Result": {"Payload": "1"}, "RetryDetails": {}}
    document[4]["InvocationCompletedDetails"] = {"StartTimestamp": 1, "EndTimestamp": 1, "RequestId": "r"}
    end = {"EventId": 6, "EventTimestamp": 1, "EventType": "ExecutionTimedOut", "ExecutionTimedOutDetails": {}}
    result = await replay(sums, {"Events": [*document, end]})
    assert (result.compatible, result.status) == (True, "TIMED_OUT")
    assert result.waits_for == ("Wait 'pause'",)


# --- What is in doubt --------------------------------------------------------------------------------------------


async def test_an_attempt_that_had_begun_is_not_repeated():
    """At least once it would run again, at most once it would not; neither happens in a replay."""
    tries = []

    async def interrupted() -> None:
        called.append("interrupted")
        tries.append(1)
        await harness.crash_now()

    @durable_execution
    async def risky(event: None, ctx: DurableContext) -> None:
        await ctx.step(interrupted, name="pay", semantics="at-most-once")

    harness = Harness(risky)
    with pytest.raises(CrashError):
        await harness.outcome()
    called.clear()
    result = await replayed(risky, events_of(harness))
    assert result.goes_on_with == ("Step 'pay', which was interrupted (at most once)",)

    @durable_execution
    async def in_doubt(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(interrupted, name="pay", compensate=undo, compensate_on="start")

    harness = Harness(in_doubt)
    with pytest.raises(CrashError):
        await harness.outcome()
    called.clear()
    result = await replayed(in_doubt, events_of(harness))
    assert result.goes_on_with == ("Step 'pay' once more, as its end is not recorded",)
    assert len(tries) == 2


async def test_a_retry_is_waited_for():
    """Also when its time has come, as the clock stands at the last event."""

    @durable_execution
    async def patient(event: None, ctx: DurableContext) -> None:
        await ctx.step(refuse, retry=Retry(attempts=3, jitter="none"))

    result = await replayed(patient, await recorded(patient, invocations=1))
    assert (result.waits_for, result.replayed) == (("Step 'refuse'",), 1)


async def test_conditions_and_submitters_are_not_called():
    """What looks, and what hands on a callback's id, are steps."""

    async def look(state: int) -> int:
        called.append("look")
        return state + 1

    async def submit(callback_id: str) -> None:
        called.append("submit")

    @durable_execution
    async def asks(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_condition(look, 0, until=lambda n: n > 2, delay=3, name="three")
        await ctx.wait_for_callback(submit, name="approval")

    assert (await replayed(asks, await recorded(asks, invocations=1))).then == "waits for WaitForCondition 'three'"
    harness = Harness(asks)
    for _ in range(3):
        await harness.invoke()
        await harness.clock.sleep_until(harness.clock.now() + 3000)
    called.clear()
    result = await replayed(asks, events_of(harness))
    assert result.then == "waits for Callback 'approval create callback id'"


# --- Side by side ------------------------------------------------------------------------------------------------


async def test_each_branch_tells_where_it_stands():
    """What is new in one does not keep another from going over what is recorded of it."""

    async def quick(ctx: DurableContext) -> int:
        first = await ctx.step(one, name="quick one")
        return await ctx.step(add, first, 1, name="quick two")

    async def slow(ctx: DurableContext) -> int:
        await ctx.wait(60, name="slow pause")
        return await ctx.step(one, name="slow one")

    @durable_execution
    async def both(event: None, ctx: DurableContext) -> list[int]:
        return (await ctx.parallel([quick, slow], name="both")).results()

    events = [event for event in await recorded(both, invocations=1) if event.name != "quick two"]
    ends = {"ContextSucceeded", "InvocationCompleted"}
    cut = [event for event in events if event.event_type not in ends]
    result = await replayed(both, [replace(event, event_id=n) for n, event in enumerate(cut, 1)])
    assert (result.goes_on_with, result.waits_for) == (("Step 'quick two'",), ("Wait 'slow pause'",))
    assert (await replayed(both, await recorded(both))).result == "[2,1]"


async def test_losers_and_what_is_cancelled_follow_as_far_as_they_came():
    """A race, a time limit, a map that is over after its first success."""

    async def fast(ctx: DurableContext) -> str:
        await ctx.wait(2)
        return "fast"

    async def slow(ctx: DurableContext) -> str:
        await ctx.step(one, name="before")
        await ctx.wait(500, name="long")
        return "slow"

    async def item(ctx: DurableContext, number: int) -> int:
        await ctx.step(one, name=f"item {number}")
        await ctx.wait(number * 10)
        return number

    @durable_execution
    async def impatient(event: None, ctx: DurableContext) -> list[Any]:
        winner = await ctx.race(fast, slow, name="race")
        async with ctx.move_on_after(5, name="limit") as limit:
            await ctx.step(one, name="in the block")
            await ctx.wait(100, name="too long")
        some = await ctx.map(item, [3, 1, 2], completion=Completion.first_successful())
        await ctx.wait(7, name="last")
        return [winner.result, limit.expired, some.results()]

    harness = Harness(impatient)
    results: list[ReplayResult] = []
    while True:
        output = await harness.invoke()
        results.append(await replay(impatient, events_of(harness)))
        if output.status is not InvocationStatus.PENDING:
            break
        await harness.clock.sleep_until(await harness.service.next_due(harness.record.id) or 0)
    assert [str(result.divergence) for result in results if result.divergence] == []
    assert results[-1].result == '["fast",true,[1]]'
    assert len(results) > 4


async def test_what_the_code_never_comes_to_is_named():
    """Here as it waits where it did not wait before: nobody can know whether it would come to that."""

    @durable_execution
    async def asks_first(event: None, ctx: DurableContext) -> None:
        answer = await ctx.create_callback(name="answer")
        await ctx.step(one)
        await answer.result()

    @durable_execution
    async def waits_first(event: None, ctx: DurableContext) -> None:
        answer = await ctx.create_callback(name="answer")
        await answer.result()
        await ctx.step(one)

    found = (await replayed(waits_first, await recorded(asks_first, invocations=1))).divergence
    assert found is not None
    assert (found.expected, found.found) == ("Step 'one'", "that the code waits for Callback 'answer' without it")
    assert found.where == "event 3 of the history"


async def test_large_results_are_rebuilt_from_what_is_inside():
    """Of a child, a map and one of its items, which their own records leave out."""

    async def large(ctx: DurableContext) -> str:
        return "x" * 300_000 + str(await ctx.step(one))

    async def item(ctx: DurableContext, number: int) -> str:
        return "y" * 300_000 + str(await ctx.step(add, number, 1))

    @durable_execution
    async def wide(event: None, ctx: DurableContext) -> list[str]:
        child = await ctx.child(large)
        items = (await ctx.map(item, [1, 2])).results()
        await ctx.wait(3)
        return [child[-1], *(found[-1] for found in items)]

    result = await replayed(wide, await recorded(wide))
    assert (result.compatible, result.result, result.replayed) == (True, '["1","2","3"]', 8)


async def test_a_child_that_raises_on_the_way_to_its_result_does_not_follow():
    """It had succeeded."""

    async def large(ctx: DurableContext) -> str:
        return "x" * 300_000 + str(await ctx.step(one))

    async def broken(ctx: DurableContext) -> str:
        await ctx.step(one)
        raise KeyError("gone")

    def make(child: Any) -> DurableFunction[Any, Any]:
        @durable_execution
        async def outer(event: None, ctx: DurableContext) -> None:
            try:
                await ctx.child(child, name="large")
            finally:
                await ctx.wait(3)

        return outer

    found = (await replayed(make(broken), await recorded(make(large)))).divergence
    assert found is not None
    assert found.expected == "RunInChildContext 'large'"
    assert found.found == "that it raises KeyError, although it had succeeded: 'gone'"


# --- Values ------------------------------------------------------------------------------------------------------


async def test_a_result_that_does_not_fit_any_more_is_told():
    """Although the code might take the error for its own."""

    async def word() -> str:
        return "one"

    @durable_execution
    async def reads(event: int, ctx: DurableContext) -> int:
        try:
            await ctx.step(word, name="one")
        except ValueError:
            return -1
        return 0

    found = (await replayed(reads, await recorded(sums, 3, invocations=1))).divergence
    assert found is not None
    assert found.expected == "Step 'one'"
    assert "does not fit its annotation str" in found.found


async def test_an_input_that_does_not_fit_any_more_is_told():
    """At once; unless that is what the execution failed with."""

    @durable_execution
    async def reads(event: list[str], ctx: DurableContext) -> None: ...

    found = (await replayed(reads, await recorded(sums, 3))).divergence
    assert found is not None
    assert (found.expected, found.where) == ("its input", "the beginning of the execution")


async def test_what_others_send_need_not_fit():
    """An answer that does not fit is an ordinary error, then as now."""

    @durable_execution
    async def asks(event: None, ctx: DurableContext) -> str:
        answer = await ctx.create_callback(int, name="answer")
        try:
            return str(await answer.result())
        except ValueError:
            return "no number"

    harness = Harness(asks)
    await harness.invoke()
    details = harness.operation("answer").callback_details
    assert details is not None
    from tests.saga.world import answer

    await answer(harness, "answer", '"seven"')
    await harness.invoke()
    result = await replayed(asks, events_of(harness))
    assert (result.compatible, result.result) == (True, '"no number"')


async def test_a_serde_reads_what_it_has_written():
    """Asynchronous ones too; results that are no JSON are compared as text."""

    class Reversing(JsonSerde):
        async def encode(self, value: Any) -> str:  # type: ignore[override]
            return super().encode(value)[::-1]

        async def decode(self, text: str, annotation: Any) -> Any:
            return super().decode(text[::-1], annotation)

    @durable_execution(serde=Reversing())
    async def backwards(event: dict[str, int], ctx: DurableContext) -> dict[str, int]:
        return {"sum": await ctx.step(add, event["a"], 40)}

    result = await replayed(backwards, await recorded(backwards, {"a": 2}))
    assert (result.compatible, result.result) == (True, '}24:"mus"{')


async def test_what_a_serde_cannot_reach_is_no_divergence():
    """Nobody knows then whether the code follows."""

    class Remote(JsonSerde):
        is_down = False

        def decode(self, text: str, annotation: Any) -> Any:
            if self.is_down:
                raise ConnectionError("the storage is down")
            return super().decode(text, annotation)

    serde = Remote()

    @durable_execution
    async def reads(event: None, ctx: DurableContext) -> int:
        return await ctx.step(one, serde=serde)

    events = await recorded(reads)
    assert (await replayed(reads, events)).compatible
    serde.is_down = True
    with pytest.raises(ConnectionError, match="the storage is down"):
        await replay(reads, events)


async def test_time_and_chance_are_what_they_were():
    """Chance depends on the ARN: without it, it is said that this may be the difference."""

    @durable_execution
    async def lucky(event: None, ctx: DurableContext) -> list[str]:
        await ctx.step(one)
        return [str(ctx.uuid4()), ctx.now().isoformat(), str(ctx.random().random())]

    harness = Harness(lucky)
    await harness.outcome()
    called.clear()
    events = events_of(harness)
    assert (await replay(lucky, events, arn=harness.record.arn)).compatible
    found = (await replay(lucky, events)).divergence
    assert found is not None
    assert "Give the ARN" in found.__notes__[0]


# --- Sagas -------------------------------------------------------------------------------------------------------


def booking(undoing: Any, *, first: str = "first") -> DurableFunction[Any, Any]:
    @durable_execution(name="booking")
    async def function(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(one, name=first, compensate=undoing)
            await s.step(one, name="second", compensate=undoing)
            s.cleanup(undo, 1, name="tidy")
            await s.step(refuse)

    return function


async def test_a_rollback_is_followed_and_not_continued():
    """At each call: no compensation and no cleanup is called, and it is told which would be."""
    told: list[str] = []
    for crash in range(1, 20):
        events = await recorded(booking(undo), crash=crash)
        result = await replayed(booking(undo), events)
        assert result.compatible, str(result)
        told.append(result.then)
    assert "goes on with Compensation 'second' once more, as its end is not recorded" in told
    assert "goes on with Compensation 'first' once more, as its end is not recorded" in told
    assert "goes on with Cleanup 'tidy' once more, as its end is not recorded" in told
    assert told[-1] == "fails with ValueError: no"


async def test_what_compensations_do_inside_is_not_gone_over():
    """They are users' functions, and may do more than durable operations."""

    async def undo_slowly(value: int) -> None:
        called.append("undo")
        await current_context().wait(60, name="settle")

    result = await replayed(booking(undo_slowly), await recorded(booking(undo_slowly), invocations=1))
    assert result.compatible
    assert result.then == "goes on with Compensation 'second' once more, as its end is not recorded"


async def test_a_compensation_that_is_missing_is_told():
    """What is recorded is to be undone, and the code has nothing that does."""

    @durable_execution(name="booking")
    async def careless(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(one, name="first")
            await s.step(one, name="second", compensate=undo)
            await s.step(refuse)

    events = await recorded(booking(undo), crash=6)
    found = (await replayed(careless, events)).divergence
    assert found is not None
    assert (found.expected, found.found) == ("Compensation 'first'", "no compensation of that name and step")
    assert "the rollback of Saga 'trip'" in found.where


# --- What it is given --------------------------------------------------------------------------------------------


async def test_only_durable_functions_are_replayed():
    """The function itself is none."""
    with pytest.raises(NotDurableError, match="replay"):
        await replay(sums.function, "{}")  # type: ignore[arg-type]


async def test_user_code_that_waits_for_something_else_can_be_cancelled():
    """Whoever replays may set a limit to it."""

    @durable_execution
    async def sleeps(event: int, ctx: DurableContext) -> int:
        import anyio

        await anyio.sleep_forever()
        return 1

    import anyio

    with anyio.move_on_after(0.05) as scope:
        await replay(sleeps, await recorded(sums, 3))
    assert scope.cancelled_caught


def test_it_runs_without_a_test_framework():
    """In a plain program too."""
    events = asyncio.run(recorded(sums, 3))
    assert asyncio.run(replay(sums, events)).compatible
