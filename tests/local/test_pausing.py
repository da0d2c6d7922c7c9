"""Pausing and resuming: what becomes of an invocation that is under way, and of what completes meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable import DurableContext, durable_execution, saga
from durable._wire import (
    ExecutionStatus,
    InvocationOutput,
    InvocationStatus,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from durable._wire.events import EventType, ExecutionPausedDetails, ExecutionResumedDetails
from durable.exceptions import ExecutionConflictError, ExecutionNotFoundError, StaleTokenError, StoreError
from durable.local import Engine
from durable.local.machine.pausing import REMEMBERED
from durable.local.outside import Outside
from durable.local.service import PausedError
from durable.local.stores.memory import MemoryStore
from tests.local.fakes import (
    PENDING,
    SUCCEEDED,
    Caller,
    FakeStore,
    ManualClock,
    clock_of,
    engine_over,
    nothing,
    settled,
)
from tests.local.flows import add, echo, hang, happened, note, wait_for
from tests.local.machine.bench import OOPS, START, SUCCEED, step, wait

pytestmark = pytest.mark.anyio

FAILED = InvocationOutput(status=InvocationStatus.FAILED, error=OOPS)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    happened.clear()
    yield
    happened.clear()


async def begun() -> tuple[Caller, Outside]:
    """An execution in its first invocation, and who acts on it."""
    caller = Caller()
    await caller.create()
    return caller, Outside(caller.service)


async def status_of(caller: Caller) -> str:
    """What the store has."""
    loaded = await caller.store.load(caller.id)
    assert loaded is not None
    return loaded.execution.status


async def kinds(caller: Caller) -> list[str]:
    """What has happened, as far as the store has it."""
    return [str(event.type) for _, event in await caller.store.events(caller.id)]


# --- An invocation that is under way -------------------------------------------------------------------------


@pytest.mark.parametrize("is_poll", [False, True])
async def test_the_next_call_of_an_invocation_is_its_last(is_poll: bool):
    """It is applied and answered without a token; nothing can be written after it, and its repeat is answered."""
    caller, outside = await begun()
    assert (await outside.pause(caller.id, reason="lunch")).status == "PAUSING"
    assert await status_of(caller) == "PAUSING"
    caller.clock.move(5)
    updates = [] if is_poll else [step(START), wait(START, "w", seconds=10)]
    token = caller.token
    answer = await caller.call(*updates, client_token="last")
    assert answer.checkpoint_token is None
    assert await status_of(caller) == "PAUSED"
    assert [operation.id for operation in await caller.recorded()] == [update.id for update in updates]
    for stale in (token, caller.token):
        with pytest.raises(StaleTokenError, match="the execution was paused"):
            await caller.call(step(SUCCEED), token=stale, client_token="another")
    with pytest.raises(StaleTokenError, match="the execution was paused"):
        await caller.service.get_state(caller.arn, token, "", 10)
    assert await caller.call(*updates, token=token, client_token="last") == answer
    *_, event = await caller.service.history(caller.id)
    assert event.event_type is EventType.EXECUTION_PAUSED
    details = event.details
    assert isinstance(details, ExecutionPausedDetails)
    assert details.pause_request_timestamp == event.event_timestamp - 5000
    assert details.reason is not None
    assert (details.reason.payload, details.execution_timeout_paused) == ("lunch", True)


@pytest.mark.parametrize("outcome", [PENDING, SUCCEEDED, FAILED, OOPS])
async def test_what_an_invocation_answers_without_its_token_does_not_count(outcome: Any):
    """It is to be invoked again, whatever it says: once it is resumed, and not before."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    await caller.call(step(START))
    assert await caller.end(outcome) == (outcome is not OOPS)
    assert await status_of(caller) == "PAUSED"
    assert await caller.service.next_due(caller.id) is None
    with pytest.raises(PausedError):
        await caller.begin()
    await outside.resume(caller.id)
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    event = await caller.begin()
    assert [operation.id for operation in event.initial_execution_state.operations] == [caller.id, "a"]
    await caller.call(step(SUCCEED))


async def test_an_invocation_that_still_winds_down_after_the_resumption():
    """Its answer does not count either, and it is invoked again at once."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    await caller.call(step(START))
    await outside.resume(caller.id)
    assert await caller.end(SUCCEEDED)
    assert await status_of(caller) == "RUNNING"
    assert await caller.service.next_due(caller.id) == caller.clock.now()


@pytest.mark.parametrize(
    ("outcome", "status"), [(PENDING, "PAUSED"), (OOPS, "PAUSED"), (SUCCEEDED, "SUCCEEDED"), (FAILED, "FAILED")]
)
async def test_an_invocation_that_ends_without_another_call(outcome: Any, status: str):
    """One that has come to its end has done so; else the pause takes effect."""
    caller, outside = await begun()
    await caller.call(wait(START, seconds=100))
    await outside.pause(caller.id)
    await caller.end(outcome)
    assert await status_of(caller) == status
    assert (await kinds(caller))[-2:] == ["InvocationCompleted", f"Execution{status.title()}"]


async def test_a_call_that_ends_the_execution_ends_it():
    """It is over, and not paused."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    await caller.call(OperationUpdate(id="end", type=OperationType.EXECUTION, action=SUCCEED, payload="1"))
    assert await status_of(caller) == "SUCCEEDED"
    assert (await caller.service.record(caller.id)).pause is None
    assert "ExecutionPaused" not in await kinds(caller)


async def test_a_refused_call_takes_nothing_away():
    """The invocation still has its turn."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    with pytest.raises(Exception, match="is not a CONTEXT"):
        await caller.call(step(START, parent_id="nobody"))
    assert await status_of(caller) == "PAUSING"
    assert (await caller.call(step(START))).checkpoint_token is None


async def test_a_pause_that_is_taken_back_before_it_took_effect():
    """The invocation goes on, and history has nothing of it."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    assert (await outside.resume(caller.id)).status == "RUNNING"
    assert (await caller.call(step(START))).checkpoint_token is not None
    await caller.call(step(SUCCEED))
    await caller.end(SUCCEEDED)
    assert await status_of(caller) == "SUCCEEDED"
    assert not {"ExecutionPaused", "ExecutionResumed"} & set(await kinds(caller))


# --- While it is paused --------------------------------------------------------------------------------------


async def test_an_execution_that_is_not_being_invoked_is_paused_at_once():
    """What time brings is recorded when it does; the function is told after the resumption."""
    caller, outside = await begun()
    await caller.call(wait(START, "w", seconds=5), wait(START, "x", seconds=50))
    await caller.end()
    assert (await outside.pause(caller.id)).status == "PAUSED"
    caller.clock.move(5)
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    with pytest.raises(PausedError):
        await caller.begin()
    assert [operation.status for operation in await caller.recorded()] == ["SUCCEEDED", "STARTED"]
    assert await caller.service.next_due(caller.id) == caller.clock.now() + 45_000
    caller.clock.move(10)
    await outside.resume(caller.id, reason="back")
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    assert (await caller.begin()).updated_operation_ids == ("w",)
    events = await caller.service.history(caller.id)
    assert [
        (str(event.event_type), event.event_timestamp - events[0].event_timestamp) for event in events[-3:]
    ] == [
        ("ExecutionPaused", 0),
        ("WaitSucceeded", 5000),
        ("ExecutionResumed", 15_000),
    ]
    resumed = events[-1].details
    assert isinstance(resumed, ExecutionResumedDetails)
    assert resumed.reason is not None
    assert (resumed.reason.payload, resumed.resume_request_timestamp) == ("back", events[-1].event_timestamp)


async def test_a_resumption_when_nothing_has_happened_invokes_nobody():
    """It goes on waiting for what it waited for."""
    caller, outside = await begun()
    await caller.call(wait(START, "w", seconds=50))
    await caller.end()
    await outside.pause(caller.id)
    caller.clock.move(10)
    await outside.resume(caller.id)
    assert await caller.service.next_due(caller.id) == caller.clock.now() + 40_000


async def test_what_cannot_be_paused_or_resumed():
    """What is paused, what is not, what is over, and what is not there; nothing changes."""
    caller, outside = await begun()
    with pytest.raises(ExecutionConflictError, match="'t-1' is RUNNING: only one that is paused can be resumed"):
        await outside.resume(caller.id)
    await outside.pause(caller.id)
    for status in ("PAUSING", "PAUSED"):
        with pytest.raises(ExecutionConflictError, match=f"is {status}: only one that is RUNNING") as conflict:
            await outside.pause(caller.id)
        assert (conflict.value.name, conflict.value.status) == ("t-1", status)
        if status == "PAUSING":
            await caller.call()
    await outside.resume(caller.id)
    await outside.stop(caller.id, None)
    for attempt in (outside.pause, outside.resume):
        with pytest.raises(ExecutionConflictError, match="is STOPPED"):
            await attempt(caller.id)
        with pytest.raises(ExecutionNotFoundError):
            await attempt("nobody")


async def test_a_request_that_is_repeated_is_carried_out_once():
    """By its token, for a quarter of an hour, over a restart, and whatever has happened since."""
    caller, outside = await begun()
    await caller.end(PENDING)
    for _ in range(2):
        assert (await outside.pause(caller.id, token="x")).status == "PAUSED"
        caller.restart()
        outside = Outside(caller.service)
    for _ in range(2):
        assert (await outside.resume(caller.id, token="x")).status == "RUNNING"
    assert (await outside.pause(caller.id, token="x")).status == "RUNNING"
    caller.clock.move((REMEMBERED - 1) / 1000)
    assert (await outside.pause(caller.id, token="x")).status == "RUNNING"
    caller.clock.move(1 / 1000)
    assert (await outside.pause(caller.id, token="x")).status == "PAUSED"
    assert set((await caller.service.record(caller.id)).accepted) == {"pause x"}


async def test_it_can_be_stopped():
    """Nothing is left of the pause."""
    caller, outside = await begun()
    await outside.pause(caller.id)
    await caller.call()
    stopped = await outside.stop(caller.id, OOPS)
    assert (stopped.status, stopped.pause) == (ExecutionStatus.STOPPED, None)
    assert await status_of(caller) == "STOPPED"


# --- On the engine -------------------------------------------------------------------------------------------


class Gate:
    """A step that does not end before a test lets it."""

    def __init__(self) -> None:
        self.entered = anyio.Event()
        self.open = anyio.Event()

    async def reached(self, engine: Engine, name: str) -> None:
        """Return when it is being run, and that is recorded: only then it is not run again after a pause."""
        await self.entered.wait()
        while OperationStatus.STARTED not in {operation.status for operation in await engine.operations(name)}:
            await clock_of(engine).move(0.1)

    async def step(self) -> str:
        self.entered.set()
        await self.open.wait()
        return await note("through the gate")


async def test_a_step_that_is_under_way_is_finished_and_nothing_after_it_begins():
    """The execution stays where it is for as long as it is paused; then it goes on, and nothing is done twice."""
    gate = Gate()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            await s.step(note, "before", compensate=note)
            await s.step(gate.step, compensate=note)
            return await s.step(note, "after")

    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(work, None, name="t-1")
        await gate.reached(engine, "t-1")
        assert (await engine.pause("t-1", "lunch")).status == "PAUSING"
        gate.open.set()
        await settled()
        assert (await engine.execution("t-1")).status == "PAUSED"
        await clock_of(engine).move(10**6)
        assert happened == ["before", "through the gate"]
        assert not run.is_over
        assert await engine.resume("t-1") == [run]
        assert await run.result() == "after"
        assert happened == ["before", "through the gate", "after"]
        kinds = [event.event_type for event in await engine.history("t-1")]
        assert kinds.index(EventType.EXECUTION_PAUSED) < kinds.index(EventType.EXECUTION_RESUMED)


async def test_whoever_waits_for_it_goes_on_waiting():
    """A pause is no end; its events are told."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 5.0, name="t-1")
        seen: list[str] = []

        async def follow() -> None:
            seen.extend([str(event.event_type) async for event in run.events()])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.wait)
            tasks.start_soon(follow)
            await settled()
            await engine.pause("t-1")
            await clock_of(engine).move(60)
            assert happened == ["before 5"]
            assert [operation.status for operation in await engine.operations("t-1")][-1] == "SUCCEEDED"
            await engine.resume("t-1")
        assert await run.result() == "after 5"
        assert seen[3:8] == [
            "WaitStarted",
            "InvocationCompleted",
            "ExecutionPaused",
            "WaitSucceeded",
            "ExecutionResumed",
        ]


async def test_a_callback_that_is_completed_meanwhile_is_seen_afterwards():
    """It is on record at once."""

    @durable_execution
    async def ask(event: None, ctx: DurableContext) -> int:
        return await (await ctx.create_callback(int, name="number")).result()

    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(ask, None, name="t-1")
        await settled()
        (operation,) = await engine.operations("t-1")
        details = operation.callback_details
        assert details is not None
        assert details.callback_id is not None
        await engine.pause("t-1")
        await engine.complete_callback(details.callback_id, 42)
        await settled()
        assert not run.is_over
        assert (await engine.operations("t-1"))[0].status is OperationStatus.SUCCEEDED
        assert await (await engine.unpause("t-1")).result() == 42


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_callers_and_callees_are_paused_for_themselves(who: str):
    """A callee goes on without its caller, which hears of its end afterwards; a caller waits for its callee."""
    gate = Gate()

    @durable_execution(name="callee")
    async def callee(event: None, ctx: DurableContext) -> str:
        await ctx.step(gate.step)
        return await ctx.step(note, "done")

    @durable_execution(name="caller")
    async def caller(event: None, ctx: DurableContext) -> Any:
        return await ctx.invoke("callee", None)

    async with engine_over(clock=ManualClock()) as engine:
        engine.register(callee)
        run = await engine.start(caller, None, name="t-1")
        await gate.entered.wait()
        await gate.reached(engine, (await engine.executions())[1].name)
        await settled()
        name = (await engine.executions())[who == "callee"].name
        await engine.pause(name)
        gate.open.set()
        await settled()
        assert happened == (["through the gate", "done"] if who == "caller" else ["through the gate"])
        assert not run.is_over
        await engine.resume(name)
        assert await run.result() == "done"
        assert happened == ["through the gate", "done"]


async def test_an_execution_that_was_never_invoked():
    """Paused as soon as it was there; it begins when it is resumed."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(add, {"a": 1}, name="t-1")
        assert (await engine.pause("t-1")).status == "PAUSED"
        await clock_of(engine).move(10)
        assert (happened, run.driven, (await engine.execution("t-1")).invocations) == ([], False, 0)
        await engine.resume("t-1")
        assert await run.result() == 1


async def test_what_hangs_is_stopped_while_it_is_pausing():
    """Nobody has to wait for its step."""
    async with engine_over() as engine:
        run = await engine.start(hang, "x", name="t-1")
        while "x hangs" not in happened:
            await anyio.lowlevel.checkpoint()
        await engine.pause("t-1")
        await engine.stop("t-1")
        assert (await run.wait()).status == "STOPPED"
        assert happened == ["x reserved", "x hangs", "x left"]


async def test_an_invocation_that_raised_is_not_repeated_while_it_is_paused():
    """Nor is it asked every second whether it may be."""
    store = FakeStore()
    fails = True

    async def before() -> None:
        if fails:
            raise StoreError("no space left on device")

    async with engine_over(store, ManualClock()) as engine:
        run = await engine.start(add, {"a": 1}, name="t-1")
        store.before = before
        await settled()
        fails = False
        await engine.pause("t-1")
        await clock_of(engine).move(100)
        assert not run.driven
        loads, sleeps = store.loads, clock_of(engine).sleeps
        await clock_of(engine).move(1000)
        assert (happened, store.loads, clock_of(engine).sleeps) == ([], loads, sleeps)
        await engine.resume("t-1")
        assert await run.result() == 1


# --- Restarts ------------------------------------------------------------------------------------------------


async def test_it_stays_paused_over_a_restart():
    """Neither a resumption of all nor a start takes it up; its timers go on; one by its name does."""
    store = MemoryStore()
    async with engine_over(store, ManualClock()) as engine:
        await engine.start(wait_for, 5.0, name="t-1")
        await settled()
        await engine.pause("t-1")
    async with engine_over(store, ManualClock()) as engine:
        assert await engine.resume() == []
        await clock_of(engine).move(100)
        assert [operation.status for operation in await engine.operations("t-1")] == ["SUCCEEDED", "SUCCEEDED"]
        run = await engine.start(wait_for, 5.0, name="t-1")
        await settled()
        assert not run.is_over
        assert (await engine.execution("t-1")).status == "PAUSED"
        assert happened == ["before 5"]
        assert await engine.resume("t-1") == [run]
        assert await run.result() == "after 5"
        assert happened == ["before 5", "after 5"]


async def test_a_pause_whose_invocation_did_not_live_to_see_it():
    """The next engine has it take effect before anything else."""
    store = MemoryStore()
    async with engine_over(store) as engine:
        await engine.start(hang, "x", name="t-1")
        while "x hangs" not in happened:
            await anyio.lowlevel.checkpoint()
        assert (await engine.pause("t-1")).status == "PAUSING"
    async with engine_over(store) as engine:
        assert (await engine.execution("t-1")).status == "PAUSED"
        assert (await engine.history("t-1"))[-1].event_type is EventType.EXECUTION_PAUSED
        assert await engine.resume() == []
        (run,) = await engine.resume("t-1")
        assert await run.result() == "x"
    assert "undone x reserved" not in happened


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("number", range(1, 12))
async def test_a_crash_at_any_commit(number: int, applied: bool):
    """Before it or after it: whoever asks again is answered, and the execution ends as it would have."""
    store = FakeStore()
    is_dead = False

    async def crash() -> None:
        nonlocal is_dead
        is_dead = is_dead or store.commits == number - (not applied)
        if is_dead:
            raise StoreError("the process was killed")

    setattr(store, "after" if applied else "before", crash)
    if applied:
        store.before = lambda: crash() if is_dead else nothing()
    async with engine_over(store, ManualClock()) as engine:
        with suppress(StoreError):
            await engine.start(wait_for, 5.0, name="t-1")
            for turn in range(4):
                await settled()
                await (engine.unpause if turn % 2 else engine.pause)("t-1")
            await clock_of(engine).move(5)
    assert is_dead
    store.before = store.after = nothing
    async with engine_over(store) as engine:
        status = (await engine.execution("t-1")).status
        assert len(await engine.resume()) == (status is ExecutionStatus.RUNNING)
        (run,) = await engine.resume("t-1")
        assert await run.result() == "after 5"
        assert list(dict.fromkeys(happened)) == ["before 5", "after 5"]
        kinds = [str(event.event_type) for event in await engine.history("t-1")]
        pauses = [kind for kind in kinds if "Paused" in kind or "Resumed" in kind]
        assert pauses == ["ExecutionPaused", "ExecutionResumed"] * (len(pauses) // 2)


@durable_execution
async def everything(event: int, ctx: DurableContext) -> list[int]:
    """Branches with steps and waits, a callee and a plain sequence around them."""

    async def branch(child: DurableContext, item: int) -> int:
        await child.step(_count, item)
        await child.wait(item + 1)
        return await child.step(_count, item * 10)

    await ctx.step(_count, -1)
    done = await ctx.map(branch, range(event))
    called = await ctx.invoke("echo", 7, result_type=int)
    return [*done.results(), called, await ctx.step(_count, -2)]


async def _count(value: int) -> int:
    await anyio.lowlevel.checkpoint()
    happened.append(f"count {value}")
    return value


@pytest.mark.parametrize("seed", range(40))
async def test_pauses_at_any_moment_change_nothing(seed: int):
    """In memory, over restarts of the engine: the same result, and each operation recorded once."""
    rng = random.Random(seed)
    store = MemoryStore()
    expected = [0, 10, 20, 7, -2]
    for _ in range(60):
        clock = ManualClock()
        async with engine_over(store, clock) as engine:
            engine.register(echo)
            run = await engine.start(everything, 3, name="t-1")
            for _ in range(rng.randrange(12)):
                for _ in range(rng.randrange(30)):
                    await anyio.lowlevel.checkpoint()
                name = rng.choice(await engine.executions()).name
                try:
                    await (engine.pause(name) if rng.randrange(2) else engine.unpause(name))
                except ExecutionConflictError:
                    await clock.move(rng.choice([0, 1, 3]))
            if run.is_over:
                break
    else:
        async with engine_over(store) as engine:
            engine.register(echo)
            for record in await engine.executions():
                await engine.resume(record.name)
            (run,) = await engine.resume("t-1")
            await run.wait()
    assert await run.result() == expected
    async with engine_over(store) as engine:
        operations = await engine.operations("t-1")
        assert {operation.status for operation in operations} == {OperationStatus.SUCCEEDED}
        assert len(operations) == 1 + 1 + 3 * 4 + 1 + 1
