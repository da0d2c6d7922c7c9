"""The deadline of a saga, and requests to cancel it: undone from inside the workflow (DESIGN section 4, 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from durable import (
    CompensationError,
    DurableContext,
    InvalidDurationError,
    Retry,
    SagaCancelledError,
    current_context,
    current_saga,
    durable_execution,
    saga,
)
from durable._wire import ErrorObject, OperationStatus, OperationUpdate
from durable._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from durable.abc import ServiceClient
from durable.exceptions import SagaDeadlineError, SagaRolledBackError
from durable.local.outside import Outside
from tests.harness import CrashError, Harness
from tests.saga.world import (
    LOG,
    Full,
    answer,
    begin,
    book,
    book_slowly,
    callbacks,
    cancel,
    cancel_slowly,
    cannot_cancel,
    crash_everywhere,
    note,
    refuse,
    run,
    sweep,
    tidy,
)

pytestmark = pytest.mark.anyio

LONG = Retry(attempts=9, initial_delay=300, max_delay=300, jitter="none")


async def forever() -> None:
    await anyio.sleep_forever()


async def requested(harness: Harness) -> None:
    """Somebody asks for whatever can be cancelled to be cancelled."""
    for callback in callbacks(harness):
        if callback.name == "cancel trip":
            await answer(harness, "cancel trip", '"not wanted any more"')


def options(how: str) -> dict[str, Any]:
    return {"deadline": 60} if how == "deadline" else {"cancellable": True}


TEXT = {
    "deadline": "the saga was rolled back: it took longer than its deadline of 60 s",
    "request": "the saga was rolled back: its cancellation was requested: not wanted any more",
}
KIND: dict[str, type[Exception]] = {"deadline": SagaDeadlineError, "request": SagaCancelledError}


# --- During the block ----------------------------------------------------------------------------------------


async def in_a_step(ctx: DurableContext) -> None:
    await ctx.step(forever)


async def in_a_wait(ctx: DurableContext) -> None:
    await ctx.wait(3600)


async def in_a_retry(ctx: DurableContext) -> None:
    await ctx.step(refuse, "again", retry=LONG)


async def in_a_callback(ctx: DurableContext) -> None:
    await (await ctx.create_callback(name="cb")).result()


async def in_a_child(ctx: DurableContext) -> None:
    async def subflow(ctx: DurableContext) -> None:
        await current_saga().step(book, "in a child", compensate=cancel)
        await ctx.wait(3600)

    await ctx.child(subflow)


async def in_a_task_group(ctx: DurableContext) -> None:
    async def task(ctx: DurableContext, name: str) -> None:
        await current_saga().step(book, name, compensate=cancel)
        await ctx.wait(3600)

    async with ctx.task_group() as tasks:
        tasks.start_soon(task, "task 1")
        tasks.start_soon(task, "task 2")


async def in_branches(ctx: DurableContext) -> None:
    async def item(ctx: DurableContext, number: int) -> None:
        await current_saga().step(book, f"item {number}", compensate=cancel)
        await ctx.wait(3600 if number else 1)

    await ctx.map(item, range(2), nesting="flat")


async def in_an_inner_saga(ctx: DurableContext) -> None:
    async with saga(ctx, "inner") as s:
        await s.step(book, "inner", compensate=cancel)
        await ctx.wait(3600)


async def in_a_longer_time_limit(ctx: DurableContext) -> None:
    async with ctx.fail_after(3600):
        await ctx.wait(36_000)


PLACES: dict[Any, list[str]] = {
    in_a_step: [],
    in_a_wait: [],
    in_a_retry: [],
    in_a_callback: [],
    in_a_child: ["in a child"],
    in_a_task_group: ["task 2", "task 1"],
    in_branches: ["item 1", "item 0"],
    in_an_inner_saga: ["inner"],
    in_a_longer_time_limit: [],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_it_is_rolled_back_wherever_it_is(how: str, place: Any):
    """What the block does is cancelled, what it did is undone; the way out is the same with a crash anywhere."""
    seen: set[str] = set()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx, "trip", **options(how)) as s:
                s.cleanup(tidy, "up")
                await s.step(book, "a", compensate=cancel)
                await place(ctx)
                await s.step(book, "never", compensate=cancel)
        except SagaCancelledError as error:
            seen.add(f"{type(error).__name__}: {error}")
            await ctx.step(note, "and on")
            await ctx.wait(60)
            return str(error)
        return "?"

    if how == "request" and place is in_a_step:
        pytest.skip("nobody asks the world while a step runs; see below")
    # Who is first among tasks is a matter of chance; and whether the START of what never ended was recorded.
    chance = place in {in_a_task_group, in_branches}
    for where, ran in await crash_everywhere(
        work, world=requested, same_shape=place is not in_a_step, compare=not chance
    ):
        assert ran.result() == TEXT[how], where
        assert ran.undone == [f"cancel {what}" for what in [*PLACES[place], "a"]], where
    ran = await run(work, world=requested)
    assert ran.result() == TEXT[how]
    assert seen == {f"{KIND[how].__name__}: {TEXT[how]}"}
    expected = [*(f"cancel {what}" for what in [*PLACES[place], "a"]), "tidy up", "and on"]
    assert ran.happened[-len(expected) :] == expected


async def test_the_errors_types():
    """A deadline is one of Python's timeouts; both are sagas that were rolled back."""
    assert issubclass(SagaDeadlineError, (TimeoutError, SagaCancelledError))
    assert issubclass(SagaCancelledError, SagaRolledBackError)
    assert not issubclass(SagaCancelledError, TimeoutError)


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_two_crashes(how: str):
    """Anywhere on the way."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", **options(how)) as s:
            await s.step(book, "a", compensate=cancel)
            await s.step(book, "b", compensate=cancel)
            await ctx.wait(3600)

    ran = await sweep(work, world=requested, twice=True)
    assert isinstance(ran.error(), KIND[how])
    assert ran.undone == ["cancel b", "cancel a"]


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_with_nothing_to_undo(how: str):
    """It is raised all the same, and no rollback is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", **options(how)):
            await ctx.wait(3600)

    ran = await sweep(work, world=requested)
    assert str(ran.error()) == TEXT[how]
    assert not any(o.sub_type == "Saga" for o in ran.harness.operations())


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_what_cannot_be_undone_then(how: str):
    """The interruption is the cause of the `CompensationError`."""
    causes: set[str] = set()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            async with saga(ctx, "trip", **options(how)) as s:
                await s.step(book, "a", compensate=cannot_cancel)
                await ctx.wait(3600)
        except CompensationError as error:
            causes.add(repr(error.__cause__))
            raise

    ran = await sweep(work, world=requested)
    assert isinstance(ran.error(), CompensationError)
    assert causes == {f"{KIND[how].__name__}({TEXT[how]!r})"}


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_an_inner_saga_is_interrupted_and_the_outer_one_goes_on(how: str):
    """Or is rolled back as by any error, live and on replay: also inside a time limit that is far away."""

    @durable_execution
    async def work(event: bool, ctx: DurableContext) -> None:
        with anyio.move_on_after(3600):
            async with saga(ctx, "outer") as outer:
                await outer.step(book, "a", compensate=cancel)
                try:
                    async with saga(ctx, "trip", **options(how)) as s:
                        await s.step(book, "b", compensate=cancel)
                        await ctx.wait(3600)
                except SagaCancelledError:
                    if not event:
                        raise
                await outer.step(book, "c", compensate=cancel)

    ran = await sweep(work, True, world=requested)
    assert ran.happened == ["book a", "book b", "cancel b", "book c"]
    ran = await sweep(work, False, world=requested)
    assert ran.happened == ["book a", "book b", "cancel b", "cancel a"]
    assert str(ran.error()) == TEXT[how]


# --- Without effect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_after_the_block_nothing_happens_any_more(how: str):
    """A deadline that passes and a request that comes later are too late; also after a crash."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip", **options(how)) as s:
            await s.step(book, "a", compensate=cancel)
        await ctx.wait(3600)
        await ctx.step(note, "later")
        await ctx.wait(3600)
        return "done"

    ran = await sweep(work, world=requested, twice=True)
    assert ran.result() == "done"
    assert ran.happened == ["book a", "later"]


@pytest.mark.parametrize("how", ["deadline", "request"])
async def test_while_it_rolls_back_nothing_changes(how: str):
    """What caused the rollback stays the cause."""

    async def slowly(what: str) -> None:
        await current_context().wait(3600)
        await current_context().step(cancel, what)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", **options(how)) as s:
            await s.step(book, "a", compensate=slowly)
            await s.step(book, "b", compensate=slowly)
            raise Full("here")

    ran = await sweep(work, world=requested)
    assert repr(ran.error()) == "Full('here')"
    assert ran.undone == ["cancel b", "cancel a"]


async def test_an_error_at_the_same_moment_wins():
    """If the block is left by an exception, that is why: nothing stopped it."""

    async def fails() -> None:
        await requested(harness)
        raise Full("here")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", cancellable=True) as s:
            await s.step(book, "a", compensate=cancel)
            await ctx.step(fails)

    harness = Harness(work)
    assert repr(await harness.error()) == "Full('here')"
    assert LOG == ["book a", "cancel a"]
    assert harness.operation("cancel trip").status is OperationStatus.SUCCEEDED


async def test_a_failure_sent_in_place_of_a_request_is_none():
    """Nobody asked for anything."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "trip", cancellable=True) as s:
            await s.step(book, "a", compensate=cancel)
            await ctx.wait(60)
        return "done"

    async def world(harness: Harness) -> None:
        for callback in callbacks(harness):
            assert callback.callback_details is not None
            callback_id = callback.callback_details.callback_id or ""
            await Outside(harness.service).fail_callback(callback_id, ErrorObject(error_message="no"))

    ran = await sweep(work, world=world)
    assert ran.result() == "done"
    assert ran.undone == []


# --- Requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (None, ""),
        ("null", ""),
        ('""', ""),
        ('"sold out"', ": sold out"),
        ("plain text", ": plain text"),
        ('{"a": 1}', ': {"a": 1}'),
    ],
)
async def test_what_is_sent_is_the_reason(sent: str | None, reason: str):
    """JSON text, or whatever came; nothing is refused, as nobody would see it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, cancellable=True) as s:
            await s.step(book, "a", compensate=cancel)
            await ctx.wait(3600)

    async def world(harness: Harness) -> None:
        for callback in callbacks(harness):
            await answer(harness, callback.name or "", sent)

    ran = await run(work, world=world)
    assert str(ran.error()) == f"the saga was rolled back: its cancellation was requested{reason}"
    assert ran.harness.operation("cancel").sub_type == "Cancellation"


async def test_a_request_while_a_step_runs():
    """What runs is cancelled as soon as the invocation hears of it: with its next call at the latest."""

    async def asks(what: str) -> str:
        LOG.append(f"book {what}")
        await requested(harness)
        return what

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", cancellable=True) as s:
            await s.step(asks, "a", compensate=cancel)
            await s.step(book, "b", compensate=cancel)

    harness = Harness(work)
    assert str(await harness.error()) == TEXT["request"]
    assert harness.invocations == 1
    assert LOG == ["book a", "cancel a"]


async def test_a_request_before_the_block_has_done_anything():
    """It is stopped at its first operation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", cancellable=True) as s:
            if harness.invocations == 1:
                await harness.crash_now()
            await s.step(book, "a", compensate=cancel)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    await requested(harness)
    assert str(await harness.error()) == TEXT["request"]
    assert LOG == []


async def test_a_deadline_that_passed_while_nothing_ran():
    """The engine was down: the block is stopped when it is resumed, at the first thing that is new."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", deadline=60) as s:
            await s.step(book, "a", compensate=cancel)
            if harness.invocations == 1:
                await harness.crash_now()
            await s.step(book, "b", compensate=cancel)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    await harness.clock.sleep_until(harness.clock.now() + 3_600_000)
    assert str(await harness.error()) == TEXT["deadline"]
    assert LOG == ["book a", "cancel a"]


# --- Both, and several ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["deadline", "request"])
async def test_both_at_once(first: str):
    """What comes first is why; both are recorded, and a crash changes nothing about it."""

    async def world(harness: Harness) -> None:
        if first == "request":
            await requested(harness)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip", deadline=60, cancellable=True) as s:
            await s.step(book, "a", compensate=cancel_slowly)
            await ctx.wait(3600)

    ran = await sweep(work, world=world, twice=True)
    assert str(ran.error()) == TEXT[first]
    assert ran.undone == ["cancel a"]


class SlowService(ServiceClient):
    """Each call takes its time, from the third on."""

    def __init__(self, harness: Harness, delay: int) -> None:
        self._harness = harness
        self._service = harness.client.service
        self._delay = delay

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        if len(self._harness.calls) > 2:
            clock = self._harness.clock
            await clock.sleep_until(clock.now() + self._delay)
        return await self._service.checkpoint(arn, token, updates, client_token)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        return await self._service.get_state(arn, token, marker, max_items)


async def test_a_deadline_that_passes_while_a_request_is_being_recorded():
    """Whichever of the two it is then: the block is left properly, and undone."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx, "trip", deadline=60, cancellable=True) as s:
                await s.step(book_slowly, "a", 59, compensate=cancel)
        except SagaDeadlineError as error:
            return str(error)
        return "in time"

    for delay in range(500, 2_000, 100):
        LOG.clear()
        harness = Harness(work, name=f"t-{delay}")

        begin(harness)

        harness.client.service = SlowService(harness, delay)
        result = await harness.result()
        assert result in {"in time", TEXT["deadline"]}
        assert (["book a"] if result == "in time" else ["book a", "cancel a"]) == LOG, delay


async def test_one_of_two_sagas_with_requests():
    """Each has a callback of its own, called after it; without names they are still told apart by their place."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx, "outer", cancellable=True) as outer:
            await outer.step(book, "a", compensate=cancel)
            try:
                async with saga(ctx, "trip", cancellable=True) as s:
                    await s.step(book, "b", compensate=cancel)
                    await ctx.wait(3600)
            except SagaCancelledError:
                await outer.step(book, "c", compensate=cancel)
        return "done"

    ran = await sweep(work, world=requested)
    assert ran.result() == "done"
    assert ran.happened == ["book a", "book b", "cancel b", "book c"]
    assert ran.harness.operation("cancel outer").status is OperationStatus.STARTED


@pytest.mark.parametrize("deadline", [0, 0.5, -1, 31_622_401, float("inf")])
async def test_deadlines_are_checked_where_they_are_written(deadline: float):
    """A durable timer takes 1 second to 366 days."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, deadline=deadline) as s:
            await s.step(book, "a", compensate=cancel)

    ran = await run(work)
    assert isinstance(ran.error(), InvalidDurationError)
    assert ran.log == []
