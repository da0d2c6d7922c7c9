"""Callbacks of executions that an engine drives: completed at any moment, by anybody, and never missed."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from durable import (
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    DurableContext,
    PayloadTooLargeError,
    RecordedError,
    SerializationError,
    durable_execution,
    saga,
)
from durable._wire import ErrorObject
from durable._wire.events import EventType
from durable._wire.limits import MAX_PAYLOAD_BYTES
from durable.exceptions import CallbackCompletedError, CallbackNotFoundError, EngineClosedError
from durable.local import Engine, Run, open_engine
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from durable.testing import SkippingClock
from tests.local.fakes import FakeStore

pytestmark = pytest.mark.anyio


class Approval(msgspec.Struct):
    by: str
    level: int


@durable_execution
async def ask(limits: dict[str, int], ctx: DurableContext) -> Approval:
    """Wait for somebody."""
    callback = await ctx.create_callback(Approval, name="approval", **limits)
    return await callback.result()


@durable_execution
async def ask_many(count: int, ctx: DurableContext) -> list[int]:
    """Wait for many, one after another."""
    callbacks = [await ctx.create_callback(int, name=f"number {number}") for number in range(count)]
    return [await callback.result() for callback in callbacks]


@asynccontextmanager
async def engine_of(**options: Any) -> AsyncGenerator[Engine]:
    """An engine in virtual time; a hang is a failure."""
    with anyio.fail_after(20):
        async with open_engine(**{"clock": SkippingClock(), **options}) as engine:
            yield engine


async def callback_ids(run: Run[Any], count: int = 1) -> list[str]:
    """The ids of an execution's first callbacks, as soon as it has them."""
    found: list[str] = []
    async with aclosing(run.events()) as events:
        async for event in events:
            if event.callback_started_details is not None:
                found.append(event.callback_started_details.callback_id)
            if len(found) == count:
                break
    return found


# --- What is sent, and what arrives ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [{"value": Approval("ada", 3)}, {"value": {"by": "ada", "level": 3}}, {"text": '{"by":"ada","level":3}'}],
)
async def test_a_value_arrives_as_its_type(sent: dict[str, Any]):
    """A struct, plain data, or text that somebody has encoded already."""
    async with engine_of() as engine:
        run = await engine.start(ask, {})
        (callback_id,) = await callback_ids(run)
        await engine.complete_callback(callback_id, **sent)
        assert await run.result() == Approval("ada", 3)


async def test_text_is_passed_on_as_it_is():
    """It need not be JSON: a callback without a type hands it out as it came; no value at all is null."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        callbacks = [await ctx.create_callback() for _ in range(3)]
        return [await callback.result() for callback in callbacks]

    async with engine_of() as engine:
        run = await engine.start(work, None)
        one, two, three = await callback_ids(run, 3)
        await engine.complete_callback(one, text="<yes/>")
        await engine.complete_callback(two, text="")
        await engine.complete_callback(three)
        assert await run.result() == ["<yes/>", "", "null"]


@pytest.mark.parametrize(
    ("sent", "kind", "text"),
    [
        (PermissionError("not you"), PermissionError, "not you"),
        ("not today", RecordedError, "Error: not today"),
        (ErrorObject(error_type="Refused", error_message="no", error_data="{}"), RecordedError, "Refused: no"),
    ],
)
async def test_an_error_arrives_as_the_cause(sent: Any, kind: type[Exception], text: str):
    """An exception with its type, a text, or an error object as other languages send it."""
    async with engine_of() as engine:
        run = await engine.start(ask, {})
        (callback_id,) = await callback_ids(run)
        await engine.fail_callback(callback_id, sent)
        with pytest.raises(Exception, match=f"CallbackFailedError: {text.rpartition(': ')[2]}$") as caught:
            await run.result()
        failed = caught.value.__cause__
        assert isinstance(failed, CallbackFailedError)
        assert str(failed).startswith("callback 'approval' (id ")
        cause = failed.__cause__
        if kind is PermissionError:
            assert isinstance(cause, kind)
            assert str(cause) == text
        else:
            assert text in str(failed)


@pytest.mark.parametrize(
    ("limits", "kind", "after"),
    [({"timeout": 60}, CallbackTimeoutError, 60), ({"heartbeat_timeout": 5}, CallbackHeartbeatError, 5)],
)
async def test_a_limit_ends_it_by_itself(limits: dict[str, int], kind: type[Exception], after: int):
    """On time; the two are different exceptions."""
    clock = SkippingClock()
    async with engine_of(clock=clock) as engine:
        began = clock.now()
        run = await engine.start(ask, limits)
        record = await run.wait()
        assert record.error is not None
        assert str(record.error.error_type).endswith(kind.__name__)
        assert record.end_timestamp == began + after * 1000


async def test_heartbeats_keep_it_alive_and_cost_no_invocation():
    """An hour of them; the function is invoked to start it, and to be told."""
    clock = SkippingClock()
    async with engine_of(clock=clock) as engine:
        run = await engine.start(ask, {"heartbeat_timeout": 60})
        (callback_id,) = await callback_ids(run)
        for _ in range(120):
            await clock.sleep_until(clock.now() + 30_000)
            await engine.heartbeat_callback(callback_id)
        await engine.complete_callback(callback_id, Approval("ada", 1))
        assert await run.result() == Approval("ada", 1)
        assert (await engine.execution(run.name)).invocations == 2


async def test_what_cannot_be_sent_is_an_error_of_the_sender():
    """Nothing arrives; the callback waits on."""
    async with engine_of() as engine:
        run = await engine.start(ask, {})
        (callback_id,) = await callback_ids(run)
        with pytest.raises(SerializationError, match="result of a callback"):
            await engine.complete_callback(callback_id, object())
        with pytest.raises(PayloadTooLargeError, match="1,048,578 bytes"):
            await engine.complete_callback(callback_id, "x" * MAX_PAYLOAD_BYTES)
        with pytest.raises(PayloadTooLargeError, match="the error of a callback"):
            await engine.fail_callback(callback_id, ErrorObject(error_data="x" * (MAX_PAYLOAD_BYTES + 1)))
        with pytest.raises(ValueError, match="not both"):
            await engine.complete_callback(callback_id, 1, text="1")
        with pytest.raises(CallbackNotFoundError):
            await engine.complete_callback("nonsense")
        await engine.complete_callback(callback_id, Approval("ada", 1))
        assert await run.result() == Approval("ada", 1)


async def test_a_closed_engine_takes_nothing():
    """Another one has the store, perhaps."""
    async with engine_of() as engine:
        pass
    for attempt in (
        engine.complete_callback("x"),
        engine.fail_callback("x", "no"),
        engine.heartbeat_callback("x"),
        engine.stop("x"),
    ):
        with pytest.raises(EngineClosedError):
            await attempt


# --- When it is sent ---------------------------------------------------------------------------------------------


async def test_one_that_waits_costs_no_task_and_no_timer():
    """However many there are."""
    async with engine_of() as engine:
        runs = [await engine.start(ask, {}, name=f"t-{number}") for number in range(50)]
        for run in runs:
            await callback_ids(run)
        while any(run.driven for run in runs):
            await anyio.lowlevel.checkpoint()
        assert engine._driver._timers == []
        assert engine.service._live == {}
        for run in runs:
            (callback_id,) = await callback_ids(run)
            await engine.complete_callback(callback_id, Approval(run.name, 1))
        assert [(await run.result()).by for run in runs] == [run.name for run in runs]
        assert {(await engine.execution(run.name)).invocations for run in runs} == {2}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_it_is_sent_while_nobody_drives_the_execution(kind: str, tmp_path: Path):
    """To an engine that has not resumed it, and to the next one after that; the answer is there when it goes on."""
    store = MemoryStore() if kind == "memory" else open_store(str(tmp_path / "s.db"))
    try:
        async with engine_of(store=store) as engine:
            run = await engine.start(ask, {}, name="t-1")
            (callback_id,) = await callback_ids(run)
        async with engine_of(store=store) as engine:
            await engine.heartbeat_callback(callback_id)
            await engine.complete_callback(callback_id, Approval("ada", 1))
            with pytest.raises(CallbackCompletedError):
                await engine.complete_callback(callback_id, Approval("bob", 1))
            assert (await engine.execution("t-1")).invocations <= 2
        async with engine_of(store=store) as engine:
            (run,) = await engine.resume()
            assert await run.result() == Approval("ada", 1)
    finally:
        await store.aclose()


class Interrupted(FakeStore):
    """Something happens around one commit: before it is applied, or after, while its caller waits."""

    def __init__(self, number: int, when: str) -> None:
        super().__init__()
        self.seen = 0
        self.number = number
        self.what: Callable[[], Awaitable[None]] | None = None
        setattr(self, when, self._hook)

    async def _hook(self) -> None:
        self.seen += 1
        if self.seen == self.number and self.what is not None:
            await self.what()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(2, 9))
@pytest.mark.parametrize("turns", range(4))
async def test_an_answer_in_the_middle_of_anything_is_not_missed(when: str, number: int, turns: int):
    """Sent by another task during each commit of an execution's life, and each of a few turns of the loop after."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(str)
        await ctx.step(lambda: 1, name="between")
        return await callback.result()

    store = Interrupted(number, when)
    clock = SkippingClock()
    async with engine_of(store=store, clock=clock) as engine, anyio.create_task_group() as tasks:
        run = await engine.start(work, None, name="t-1")
        sent = 0

        async def send() -> None:
            nonlocal sent
            sent += 1
            if sent > 1:
                return
            (callback_id,) = await callback_ids(run)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            await engine.complete_callback(callback_id, "yes")

        async def interrupt() -> None:
            tasks.start_soon(send)
            for _ in range(6):
                await anyio.lowlevel.checkpoint()

        store.what = interrupt
        await clock.sleep_until(clock.now() + 1)  # nothing more happens by itself
        await send()
        assert await run.result() == "yes"
        events = [event.event_type for event in await engine.history("t-1")]
        assert events.count(EventType.CALLBACK_SUCCEEDED) == 1


async def test_a_failure_of_the_store_loses_no_answer():
    """Whichever commit fails, whoever asked for it: the sender may try again, and the execution goes on."""
    for number in itertools.count(2):
        store = FakeStore()
        seen = 0

        async def before(number: int = number) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                raise OSError("no space left on device")

        store.before = before
        async with engine_of(store=store) as engine:
            run = await engine.start(ask_many, 2)
            first, second = await callback_ids(run, 2)
            for callback_id, value in ((second, 2), (first, 1)):
                try:
                    await engine.complete_callback(callback_id, value)
                except OSError:
                    await engine.complete_callback(callback_id, value)
            assert await run.result() == [1, 2]
        if seen < number:
            assert number > 5
            break


@pytest.mark.parametrize("seed", range(5))
async def test_a_thousand_callbacks_in_any_order(seed: int):
    """Of one execution, sent by ten tasks at once while it is invoked again and again."""
    chance = random.Random(seed)
    async with engine_of() as engine:
        run = await engine.start(ask_many, 1_000)
        ids = await callback_ids(run, 1_000)
        numbered = list(enumerate(ids))
        chance.shuffle(numbered)

        async def send() -> None:
            while numbered:
                number, callback_id = numbered.pop()
                await engine.complete_callback(callback_id, number)
                if chance.random() < 0.05:
                    await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(send)
        assert await run.result() == list(range(1_000))


async def test_a_timer_that_rings_while_its_execution_is_invoked_rings_for_nobody():
    """Woken from outside shortly before: at most one invocation at a time."""
    at_once = 0
    most = 0
    clock = SkippingClock()

    async def slow() -> None:
        await clock.sleep_until(clock.now() + 20_000)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            callback = await ctx.create_callback(str)
            async with ctx.task_group() as tasks:
                tasks.start_soon(waits)
                tasks.start_soon(works, callback)
        finally:
            at_once -= 1

    async def waits(ctx: DurableContext) -> None:
        await ctx.wait(10)

    async def works(ctx: DurableContext, callback: Any) -> None:
        await callback.result()
        await ctx.step(slow)

    async with engine_of(clock=clock) as engine:
        run = await engine.start(work, None)
        (callback_id,) = await callback_ids(run)
        await clock.sleep_until(clock.now() + 5_000)
        await engine.complete_callback(callback_id, "go")
        await run.result()
        assert most == 1
        assert (await engine.execution(run.name)).invocations == 2


async def test_waking_an_execution_often_leaves_one_timer():
    """It still waits for the same time."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callbacks = [await ctx.create_callback(int) for _ in range(50)]
        async with ctx.task_group() as tasks:
            tasks.start_soon(waits)
            for callback in callbacks:
                tasks.start_soon(takes, callback)
        return "done"

    async def waits(ctx: DurableContext) -> None:
        await ctx.wait(3600)

    async def takes(ctx: DurableContext, callback: Any) -> None:
        await callback.result()

    async with engine_of() as engine:
        run = await engine.start(work, None)
        for callback_id in await callback_ids(run, 50):
            while run.driven:
                await anyio.lowlevel.checkpoint()
            await engine.complete_callback(callback_id, 1)
        while run.driven:
            await anyio.lowlevel.checkpoint()
        assert len(engine._driver._timers) == 1
        assert await run.result() == "done"


async def test_timers_of_executions_that_were_stopped_are_thrown_away():
    """Not one by one, but before they are many; those of others stay."""

    @durable_execution
    async def work(seconds: int, ctx: DurableContext) -> str:
        await ctx.wait(seconds)
        return "done"

    async with engine_of() as engine:
        runs = [await engine.start(work, 3600) for _ in range(1_100)]
        while any(run.driven for run in runs):
            await anyio.lowlevel.checkpoint()
        for run in runs:
            await engine.stop(run.name)
        assert len(engine._driver._timers) == 1_100
        last = await engine.start(work, 60)
        while not last.parked or last.driven:
            await anyio.lowlevel.checkpoint()
        assert len(engine._driver._timers) == 1
        assert await last.result() == "done"


async def test_an_answer_does_not_shorten_the_pause_after_a_failure():
    """An execution whose invocations raise is tried again in its own time, and is told then."""
    raised = 0

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        nonlocal raised
        callback = await ctx.create_callback(str)
        return await callback.result()

    class Broken(type(work)):  # type: ignore[misc]
        async def invoke(self, event: Any, client: Any, *, clock: Any) -> Any:
            nonlocal raised
            raised += 1
            if raised == 2:
                raise OSError("out of file descriptors")
            return await super().invoke(event, client, clock=clock)

    broken = Broken(work.function, name="work")
    clock = SkippingClock()
    async with engine_of(clock=clock) as engine:
        run: Run[str] = await engine.start(broken, None)
        (callback_id,) = await callback_ids(run)
        began = clock.now()
        await engine.complete_callback(callback_id, "yes")
        assert await run.result() == "yes"
        assert raised == 3
        assert clock.now() - began == 1_000


# --- From where it is sent ---------------------------------------------------------------------------------------


async def test_whoever_wakes_an_execution_leaves_no_trace_in_it():
    """Sent, or started, from a step inside a saga of another execution: nothing of that is ambient in this one."""
    runs: list[Run[Any]] = []

    @durable_execution
    async def inner(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(str)
        answer = await callback.result()
        async with saga(ctx) as scope:
            return await scope.step(lambda: f"{answer}!", name="shout", compensate=lambda _: None)

    async def undo(callback_id: str) -> None:
        await engine.complete_callback(callback_id, "yes")
        await runs[0].wait()

    async def start() -> str:
        runs.append(await engine.start(inner, None))
        return (await callback_ids(runs[0]))[0]

    @durable_execution
    async def outer(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as scope:
            await scope.step(start, compensate=undo)
            raise ValueError("roll back")

    async with engine_of() as engine:
        run = await engine.start(outer, None)
        await run.wait()
        assert await runs[0].result() == "yes!"


# --- Stopping ----------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


async def test_what_waits_is_stopped_at_once(clock: SkippingClock):
    """Its run raises why; no later answer is taken, and it is never invoked again."""
    async with engine_of(clock=clock) as engine:
        run = await engine.start(ask, {"timeout": 3600})
        (callback_id,) = await callback_ids(run)
        ended = await engine.stop(run.name, "nobody wants it")
        assert (ended.status, ended.error) == ("STOPPED", ErrorObject(error_message="nobody wants it"))
        with pytest.raises(Exception, match=rf"execution '{run.name}' ended STOPPED: Error: nobody wants it"):
            await run.result()
        with pytest.raises(CallbackCompletedError, match="STOPPED"):
            await engine.complete_callback(callback_id, Approval("ada", 1))
        await clock.sleep_until(clock.now() + 7_200_000)
        record = await engine.execution(run.name)
        assert record == ended
        assert record.invocations <= 2
        assert engine._driver._runs == {}


@pytest.mark.parametrize("shielded", [False, True])
async def test_what_runs_is_cancelled_and_records_nothing_more(shielded: bool):
    """Also if its cleanup goes on for a while; and no saga of it rolls back."""
    effects: list[str] = []
    inside = anyio.Event()

    async def reserve() -> None:
        effects.append("reserved")

    async def charge() -> None:
        inside.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=shielded):
                await anyio.lowlevel.checkpoint()
            effects.append("cancelled")

    async def undo(_: None) -> None:
        effects.append("undone")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as scope:
            await scope.step(reserve, compensate=undo)
            await scope.step(charge, compensate=undo)

    async with engine_of() as engine:
        run = await engine.start(work, None)
        await inside.wait()
        before = len(await engine.operations(run.name))
        await engine.stop(run.name)
        with pytest.raises(Exception, match=r"ended STOPPED$"):
            await run.result()
        assert effects in (["reserved"], ["reserved", "cancelled"])
        assert (await engine.history(run.name))[-1].event_type == EventType.EXECUTION_STOPPED
        assert len(await engine.operations(run.name)) == before


@pytest.mark.parametrize("turns", range(12))
async def test_it_is_stopped_at_any_moment_of_its_beginning(turns: int):
    """Before its first invocation, in it, or after: it ends STOPPED or had ended before, and its run is told."""
    async with engine_of() as engine:
        run = await engine.start(ask_many, 0)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        ended = await engine.stop(run.name)
        assert await run.wait() == await engine.execution(run.name)
        assert ended.status in {"STOPPED", "SUCCEEDED"}
        ends = [event.event_type for event in await engine.history(run.name)]
        assert ends.count(EventType.EXECUTION_STOPPED) + ends.count(EventType.EXECUTION_SUCCEEDED) == 1


@pytest.mark.parametrize("turns", range(40))
async def test_it_is_stopped_while_the_store_is_slow(turns: int, caplog: pytest.LogCaptureFixture):
    """Each commit takes some turns of the loop, so that the driver asks for it in the middle of the stop."""

    async def slow() -> None:
        for _ in range(5):
            await anyio.lowlevel.checkpoint()

    store = FakeStore()
    store.before = store.after = slow
    async with engine_of(store=store) as engine:
        run = await engine.start(ask, {})
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await engine.stop(run.name)
        assert (await run.wait()).status == "STOPPED"
        assert "could not be driven" not in caplog.text


async def test_what_is_tried_again_is_stopped_at_once(clock: SkippingClock):
    """Not when its turn comes."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        raise AssertionError

    class Broken(type(work)):  # type: ignore[misc]
        async def invoke(self, event: Any, client: Any, *, clock: Any) -> Any:
            raise OSError("out of file descriptors")

    async with engine_of(clock=clock) as engine:
        run: Run[None] = await engine.start(Broken(work.function, name="work"), None)
        while not run.raised or run.driven:
            await anyio.lowlevel.checkpoint()
        began = clock.now()
        await engine.stop(run.name, OSError("enough"))
        record = await run.wait()
        assert record.error is not None
        assert record.error.error_type == "OSError"
        assert clock.now() == began


async def test_what_nobody_drives_is_stopped_in_the_store():
    """It is not among those that are resumed."""
    store = MemoryStore()
    async with engine_of(store=store) as engine:
        run = await engine.start(ask, {}, name="t-1")
        await callback_ids(run)
    async with engine_of(store=store) as engine:
        await engine.stop("t-1")
        assert await engine.resume() == []
        (run,) = await engine.resume("t-1")
        assert (await run.wait()).status == "STOPPED"
        assert (await engine.stop("t-1", "again")).error is None
