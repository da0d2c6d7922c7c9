"""The time limit of an execution: it ends by it whatever it is doing, and pauses put it off."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from durable import (
    DurableContext,
    ExecutionFailedError,
    InvalidDurationError,
    InvokeTimedOutError,
    RecordedError,
    durable_execution,
)
from durable._wire import ErrorObject
from durable._wire.events import EventType, ExecutionStartedDetails, FailureDetails
from durable._wire.limits import MAX_DELAY_SECONDS
from durable.exceptions import CallbackCompletedError, StaleTokenError, StoreError
from durable.local import Engine, Run, open_engine
from durable.local.outside import Outside
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from durable.testing.contracts.log import record_of
from tests.local.fakes import Caller, FakeStore, ManualClock, clock_of, engine_over, nothing, settled
from tests.local.flows import add, hang, happened, wait_for
from tests.local.machine.bench import START, step, wait

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    happened.clear()
    yield
    happened.clear()


def seconds(run: Run[Any], record: Any) -> float:
    """How long an execution took."""
    assert record.end_timestamp is not None
    return float(record.end_timestamp - record.start_timestamp) / 1000


async def test_an_execution_that_waits_ends_at_its_limit():
    """To the millisecond, with an error and an event that say so; it is not called again."""
    async with engine_over() as engine:
        run = await engine.start(wait_for, 60.0, name="t-1", timeout=timedelta(seconds=20))
        record = await run.wait()
        assert (record.status, seconds(run, record)) == ("TIMED_OUT", 20)
        assert happened == ["before 60"]
        with pytest.raises(
            ExecutionFailedError, match=r"'t-1' ended TIMED_OUT: Execution\.Timeout: .* 20 s"
        ) as ended:
            await run.result()
        assert ended.value.status == "TIMED_OUT"
        assert isinstance(ended.value.__cause__, RecordedError)
        first, *_, last = await engine.history("t-1")
        assert isinstance(first.details, ExecutionStartedDetails)
        assert first.details.execution_timeout == 20
        assert last.event_type is EventType.EXECUTION_TIMED_OUT
        assert isinstance(last.details, FailureDetails)
        assert last.details.error is not None
        assert last.details.error.payload == record.error


async def test_an_execution_in_the_middle_of_a_step_ends_at_its_limit():
    """Its invocation is cancelled; no saga of it rolls back."""
    async with engine_over() as engine:
        run = await engine.start(hang, "x", name="t-1", timeout=7)
        record = await run.wait()
        assert (record.status, seconds(run, record)) == ("TIMED_OUT", 7)
        assert happened == ["x reserved", "x hangs", "x left"]


async def test_what_is_over_in_time_is_not_touched():
    """And nobody waits for its limit any more."""
    clock = ManualClock()
    async with engine_over(clock=clock) as engine:
        run = await engine.start(wait_for, 5.0, timeout=10**6)
        await settled()
        assert clock.next == 5
        await clock.move(5)
        assert await run.result() == "after 5"
        await settled()
        assert clock.next is None


async def test_a_limit_that_is_looked_at_too_early():
    """A clock was set back at that moment: it is looked at again."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 60.0, timeout=20)
        await settled()
        run.limit = None
        await engine._driver._time_out(run)
        await clock_of(engine).move(20)
        assert (await run.wait()).status == "TIMED_OUT"


@pytest.mark.parametrize(("own", "expected"), [(None, 10), (3, 3), (30, 30)])
async def test_the_engine_has_a_limit_for_all(own: int | None, expected: int):
    """Unless an execution is started with another one."""
    async with open_engine(clock=SkippingClock(), execution_timeout=10) as engine:
        run = await engine.start(wait_for, 60.0, name="t-1", timeout=own)
        assert seconds(run, await run.wait()) == expected
        # It exists, and has its own limit.
        again = await engine.start(wait_for, 60.0, name="t-1", timeout=500)
        assert (await again.wait()).timeout == expected
        engine.register(wait_for)
        third = await engine.start_registered("wait_for", "60", timeout=own)
        assert seconds(third, await third.wait()) == expected


@pytest.mark.parametrize("limit", [0, 0.5, -1, MAX_DELAY_SECONDS + 1, timedelta(days=367)])
async def test_a_limit_that_is_none(limit: Any):
    """A second to 366 days; fractions are rounded up."""
    async with engine_over() as engine:
        with pytest.raises(InvalidDurationError, match="invalid duration of "):
            await engine.start(add, {}, timeout=limit)
        assert await engine.executions() == []
        run = await engine.start(add, {}, timeout=1.5)
        assert (await run.wait()).timeout == 2
    with pytest.raises(InvalidDurationError, match="open_engine"):
        async with open_engine(execution_timeout=limit):
            raise AssertionError


async def test_a_callee_has_the_limit_of_the_engine_and_its_caller_is_told():
    """As an error of its own kind; the caller goes on."""

    @durable_execution(name="caller")
    async def caller(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.invoke("wait_for", 60.0)
        except InvokeTimedOutError as error:
            return str(error)
        return "in time"

    async with open_engine(clock=SkippingClock(), execution_timeout=10) as engine:
        engine.register(wait_for)
        run = await engine.start(caller, None, timeout=100)
        assert "time limit of 10 s" in await run.result()
        kinds = {event.event_type for event in await engine.history(run.name)}
        assert EventType.CHAINED_INVOKE_TIMED_OUT in kinds


async def test_it_goes_on_over_restarts():
    """A limit that was reached while no engine ran is found by the next one; one that was not is kept."""
    store = MemoryStore()
    clock = ManualClock()
    async with engine_over(store, clock) as engine:
        for number, limit in enumerate((20, 40)):
            await engine.start(wait_for, 60.0, name=f"t-{number}", timeout=limit)
        await settled()
    clock.set(30)
    async with engine_over(store, clock) as engine:
        late, other = await engine.resume()
        assert (await late.wait()).status == "TIMED_OUT"
        await clock.move(9)
        assert not other.is_over
        await clock.move(1)
        assert (await other.wait()).status == "TIMED_OUT"
    assert happened == ["before 60", "before 60"]


async def test_a_clock_that_is_set_back():
    """It is looked again when the limit is reached by what the clock says."""
    clock = ManualClock()
    async with engine_over(clock=clock) as engine:
        run = await engine.start(wait_for, 60.0, timeout=20)
        await settled()
        clock.set(-100)
        await clock.move(0, everybody=True)
        await clock.move(119)
        assert not run.is_over
        await clock.move(1)
        assert (await run.wait()).status == "TIMED_OUT"


# --- Whoever comes when it is over ----------------------------------------------------------------------------


async def begun(timeout: int) -> tuple[Caller, Outside]:
    caller = Caller()
    caller.record = record_of(timeout=timeout)
    await caller.create()
    return caller, Outside(caller.service)


async def test_a_call_that_comes_too_late():
    """It records nothing; what fell due before the limit did, and what would have after it did not."""
    caller, _ = await begun(10)
    await caller.call(wait(START, "w", seconds=5), wait(START, "x", seconds=11))
    caller.clock.move(20)
    with pytest.raises(StaleTokenError, match="the execution is TIMED_OUT"):
        await caller.call(step(START))
    assert [operation.status for operation in await caller.recorded()] == ["SUCCEEDED", "STARTED"]
    with pytest.raises(StaleTokenError, match="the execution is TIMED_OUT"):
        await caller.begin()


async def test_an_invocation_that_would_begin_too_late():
    """There is none."""
    caller, _ = await begun(10)
    caller.clock.move(10)
    with pytest.raises(StaleTokenError, match="the execution is TIMED_OUT"):
        await caller.begin()


async def test_a_callback_and_a_stop_that_come_too_late():
    """Its sender is told, and a stop changes nothing any more; nobody need drive it."""

    @durable_execution
    async def ask(event: None, ctx: DurableContext) -> int:
        return await (await ctx.create_callback(int)).result()

    store, clock = MemoryStore(), ManualClock()
    async with engine_over(store, clock) as engine:
        for name in ("t-1", "t-2"):
            await engine.start(ask, None, name=name, timeout=10)
        await settled()
        details = (await engine.operations("t-1"))[0].callback_details
        assert details is not None
        assert details.callback_id is not None
    clock.set(10)
    async with engine_over(store, clock) as engine:
        with pytest.raises(CallbackCompletedError, match="'t-1' is TIMED_OUT"):
            await engine.complete_callback(details.callback_id, 1)
        assert (await engine.stop("t-2", ErrorObject())).status == "TIMED_OUT"


async def test_a_callee_that_nobody_drives_is_timed_out_for_its_caller():
    """Whoever finds out tells it."""

    @durable_execution(name="caller")
    async def caller(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.invoke("wait_for", 60.0)
        except InvokeTimedOutError:
            return "timed out"
        return "in time"

    store, clock = MemoryStore(), ManualClock()
    async with open_engine(store=store, clock=clock, execution_timeout=10) as engine:
        engine.register(wait_for)
        await engine.start(caller, None, name="t-1", timeout=1000)
        await settled()
    clock.set(10)
    async with engine_over(store, clock) as engine:
        callee = (await engine.executions())[1]
        with pytest.raises(Exception, match="TIMED_OUT"):
            await engine.pause(callee.name)
        operation = (await engine.operations("t-1"))[0]
        assert operation.status == "TIMED_OUT"


@pytest.mark.parametrize("applied", [False, True])
async def test_a_store_that_fails_at_that_moment(applied: bool):
    """The engine tries again, and the execution has ended once."""
    store, failures = FakeStore(), 0

    async def fail_thrice() -> None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise StoreError("no space left on device")

    clock = ManualClock()
    async with engine_over(store, clock) as engine:
        run = await engine.start(wait_for, 60.0, name="t-1", timeout=20)
        await settled()
        setattr(store, "after" if applied else "before", fail_thrice)
        await clock.move(20)
        for _ in range(20):
            await clock.move(1)
        assert (await run.wait()).status == "TIMED_OUT"
        store.before = store.after = nothing
        kinds = [event.event_type for event in await engine.history("t-1")]
        assert kinds.count(EventType.EXECUTION_TIMED_OUT) == 1


# --- Pauses ---------------------------------------------------------------------------------------------------


async def at_the_end(engine: Engine, run: Run[Any], paused: float, *, holds: bool = True) -> float:
    """Seconds that an execution takes which is paused for a while after 10 seconds."""
    clock = clock_of(engine)
    await settled()
    await clock.move(10)
    await engine.pause(run.name, holds_timeout=holds)
    await clock.move(paused)
    if not run.is_over:
        await engine.unpause(run.name)
    while not run.is_over:
        await clock.move(1)
    return seconds(run, await run.wait())


@pytest.mark.parametrize(("holds", "expected"), [(True, 70), (False, 40)])
async def test_a_pause_puts_it_off_or_does_not(holds: bool, expected: int):
    """By the time that the execution was paused; if it does not, it ends while it is paused."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 1000.0, timeout=40)
        assert await at_the_end(engine, run, 30, holds=holds) == expected


async def test_a_pause_that_is_longer_than_the_limit():
    """The rest of it is there afterwards; unless it was not put off."""
    for holds, expected in ((True, 540.0), (False, 40.0)):
        async with engine_over(clock=ManualClock()) as engine:
            run = await engine.start(wait_for, 1000.0, timeout=40)
            if holds:
                assert await at_the_end(engine, run, 500) == expected
            else:
                await settled()
                await engine.pause(run.name, holds_timeout=False)
                await clock_of(engine).move(39)
                assert not run.is_over
                await clock_of(engine).move(1)
                assert (await run.wait()).status == "TIMED_OUT"


async def test_no_pause_puts_it_off_for_ever():
    """366 days after its start it is over."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 1000.0, timeout=40)
        await settled()
        await engine.pause(run.name)
        await clock_of(engine).move(MAX_DELAY_SECONDS - 1)
        assert not run.is_over
        await clock_of(engine).move(1)
        record = await run.wait()
        assert (record.status, seconds(run, record)) == ("TIMED_OUT", MAX_DELAY_SECONDS)


async def test_a_pause_before_it_takes_effect_puts_nothing_off():
    """The invocation is still at work."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(hang, "x", timeout=40)
        while len(await engine.history(run.name)) < 4:  # its step is under way, and that is recorded
            await clock_of(engine).move(0.1)
        await engine.pause(run.name)
        begin = (await engine.execution(run.name)).start_timestamp
        await clock_of(engine).move(39 - (clock_of(engine).now() - begin) / 1000)
        assert (await engine.execution(run.name)).status == "PAUSING"
        await clock_of(engine).move(1)
        assert (await run.wait()).status == "TIMED_OUT"
