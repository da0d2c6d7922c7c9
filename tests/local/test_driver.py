"""What keeps executions going: when they are invoked again, in whatever goes wrong, by whatever clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable import DurableContext, ServiceError, durable_execution
from durable._wire import ExecutionStatus, InvocationOutput, InvocationStatus
from durable.abc import Store
from durable.exceptions import ExecutionFailedError, StoreError
from durable.local import Engine, Run
from durable.local.stores.sqlite import open_store
from tests.local.fakes import PENDING, FakeStore, ManualClock, clock_of, engine_over, fail, nothing, settled
from tests.local.flows import Scripted, add, echo, happened, note, wait_for
from tests.local.stores.files import use_up_room

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def forgetful(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL, "durable.local")
    happened.clear()
    yield
    happened.clear()


def by_hand(store: Store | None = None) -> AbstractAsyncContextManager[Engine]:
    """An engine by a clock that the test moves."""
    return engine_over(store, ManualClock())


def raising(error: Exception) -> Callable[[], InvocationOutput]:
    """An invocation that raises."""

    def invoke() -> InvocationOutput:
        raise error

    return invoke


def idle() -> InvocationOutput:
    """An invocation that waits for nothing."""
    return PENDING


# --- Raising -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [ServiceError("lost", retryable=True), RuntimeError("x"), OSError(28, "full"), ExceptionGroup("", [OSError()])],
)
async def test_an_invocation_that_raises_is_repeated_later_and_later(error: Exception):
    """After 1, 2, 4, ... up to 60 seconds, and not a moment before; for as long as it takes."""
    function = Scripted(add, *[raising(error)] * 9)
    async with by_hand() as engine:
        clock = clock_of(engine)
        run = await engine.start(function, {"a": 1})
        await settled()
        for number, seconds in enumerate([1, 2, 4, 8, 16, 32, 60, 60, 60], 1):
            assert function.invocations == number
            assert clock.next == seconds
            await clock.move(seconds - 0.001)
            assert function.invocations == number
            await clock.move(0.001)
        assert await run.result() == 1
        assert happened == ["a=1"]
        details = [event.invocation_completed_details for event in await engine.history(run.name)]
        raised = [found.error is not None for found in details if found is not None]
        assert raised == [True] * 9 + [False]


async def test_an_invocation_that_does_not_raise_makes_good_for_those_that_did():
    """The next one that raises is repeated after a second again."""
    error = raising(RuntimeError("x"))
    function = Scripted(wait_for, error, error, error)
    async with by_hand() as engine:
        clock = clock_of(engine)
        run = await engine.start(function, 100.0)
        await settled()
        for seconds in (1, 2, 4):
            assert clock.next == seconds
            await clock.move(seconds)
        assert clock.next == 100
        function.script = [error]
        await clock.move(100)
        assert clock.next == 1
        await clock.move(1)
        assert await run.result() == "after 100"


async def test_what_raises_is_in_nobodys_way():
    """Others run as if it were not there."""
    function = Scripted(echo, *[raising(RuntimeError("x"))] * 1000)
    async with engine_over() as engine:
        await engine.start(function, 1)
        assert [await (await engine.start(wait_for, float(n))).result() for n in (5, 50)] == ["after 5", "after 50"]
        assert function.invocations > 3


async def test_what_raises_is_logged(caplog: pytest.LogCaptureFixture):
    """With its traceback: it is nobody's result."""
    caplog.set_level(logging.WARNING, "durable.local")
    async with engine_over() as engine:
        await (await engine.start(Scripted(echo, raising(RuntimeError("what it was"))), 1, name="t-1")).result()
    (record,) = caplog.records
    assert record.getMessage() == "an invocation of execution 't-1' raised, it will be repeated"
    assert "what it was" in (record.exc_text or "")


# --- Idling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_idle_answers_are_let_pass(times: int):
    """Three times in a row, at once."""
    function = Scripted(add, *[idle] * times)
    async with by_hand() as engine:
        run = await engine.start(function, {"a": 1})
        assert await run.result() == 1
        assert function.invocations == times + 1


async def test_the_fourth_idle_answer_in_a_row_fails_the_execution():
    """It would go on like that for ever."""
    function = Scripted(add, *[idle] * 10)
    async with by_hand() as engine:
        run = await engine.start(function, {"a": 1}, name="t-1")
        with pytest.raises(ExecutionFailedError, match="PENDING although nothing is pending"):
            await run.result()
        assert function.invocations == 4
        assert (await engine.execution("t-1")).status is ExecutionStatus.FAILED


async def test_idle_answers_count_only_in_a_row():
    """One that makes sense begins anew."""
    function = Scripted(wait_for, idle, idle, idle)
    async with by_hand() as engine:
        run = await engine.start(function, 100.0)
        await settled()
        function.script = [idle] * 3
        await clock_of(engine).move(100)
        assert await run.result() == "after 100"


# --- Time ----------------------------------------------------------------------------------------------------


async def test_a_thousand_that_wait_cost_no_task_each():
    """Nor are they in memory; when their time comes all go on."""
    async with by_hand() as engine:
        before = len(anyio.get_running_tasks())
        runs = [await engine.start(wait_for, 3600.0, name=f"t-{number}") for number in range(1000)]
        await settled()
        assert len(anyio.get_running_tasks()) == before
        assert engine.service._live == {}
        assert happened == ["before 3600"] * 1000
        clock = clock_of(engine)
        await clock.move(3599)
        assert len(happened) == 1000
        await clock.move(1)
        assert [await run.result() for run in runs] == ["after 3600"] * 1000
        assert clock.sleeps < 50


async def test_what_waits_for_a_moment_stays_in_memory():
    """It is not read again for that."""
    store = FakeStore()
    async with by_hand(store) as engine:
        run = await engine.start(wait_for, 5.0)
        await settled()
        loads = store.loads
        await clock_of(engine).move(5)
        assert await run.result() == "after 5"
        assert store.loads == loads


async def test_executions_go_on_in_the_order_of_their_timers():
    """Each at its time to the millisecond, however they were started; a shorter one is not held up by a longer."""
    durations = [50.0, 10.0, 30.0, 20.0, 40.0, 10.0, 3600.0, 1.0]
    order: list[tuple[float, int]] = []

    async def follow(run: Run[str], duration: float) -> None:
        await run.wait()
        order.append((duration, clock.now() - begin))

    async with by_hand() as engine, anyio.create_task_group() as tasks:
        clock = clock_of(engine)
        begin = clock.now()
        for duration in durations:
            tasks.start_soon(follow, await engine.start(wait_for, duration), duration)
            await settled()
        while (seconds := clock.next) is not None and len(order) < len(durations):
            await clock.move(seconds)
    assert order == [(duration, duration * 1000) for duration in sorted(durations)]


async def test_what_falls_due_at_the_same_instant_goes_on_in_the_order_of_coming(monkeypatch: pytest.MonkeyPatch):
    """As far as that is up to the engine."""
    async with by_hand() as engine:
        for number in range(20):
            await engine.start(wait_for, 10.0, name=f"t-{number}")
            await settled()
        driver = engine._driver
        spawned: list[str] = []
        spawn = driver.spawn

        def watch(work: Any, *args: Any, name: str) -> None:
            spawned.append(args[0].name)
            spawn(work, *args, name=name)

        monkeypatch.setattr(driver, "spawn", watch)
        await clock_of(engine).move(10)
        assert spawned == [f"t-{number}" for number in range(20)]


async def test_a_clock_that_is_set_back():
    """What waits, waits until the clock says so; nobody asks it all the time."""
    async with by_hand() as engine:
        clock = clock_of(engine)
        run = await engine.start(wait_for, 100.0)
        await settled()
        await clock.move(60)
        await clock.move(-1000, everybody=True)
        assert clock.next == 1040
        await clock.move(1039.999)
        assert not run.is_over
        sleeps = clock.sleeps
        await clock.move(0.001)
        assert await run.result() == "after 100"
        assert clock.sleeps - sleeps < 5


async def test_a_clock_that_jumps_back_at_the_moment_of_waking(monkeypatch: pytest.MonkeyPatch):
    """The execution is invoked a little early, finds that it has to wait, and does."""
    async with by_hand() as engine:
        clock = clock_of(engine)
        run = await engine.start(wait_for, 100.0)
        await settled()

        begin_invocation = engine.service.begin_invocation

        async def late(execution_id: str) -> Any:
            monkeypatch.undo()
            clock.set(-50)
            return await begin_invocation(execution_id)

        monkeypatch.setattr(engine.service, "begin_invocation", late)
        await clock.move(100)
        assert clock.next == 50
        assert happened == ["before 100"]
        await clock.move(50)
        assert await run.result() == "after 100"
        assert happened == ["before 100", "after 100"]


async def test_a_clock_that_jumps_far_ahead():
    """After a year asleep everything goes on at once, each once."""
    async with by_hand() as engine:
        clock = clock_of(engine)
        runs = [await engine.start(wait_for, float(10**n)) for n in range(1, 7)]
        await settled()
        await clock.move(366 * 24 * 3600, everybody=True)
        assert [await run.result() for run in runs] == [f"after {10**n:g}" for n in range(1, 7)]
        assert len(happened) == 12


async def test_a_wait_that_is_over_before_its_invocation_is():
    """The execution goes on at once: nobody would wake it later."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            await ctx.wait(1)
        finally:
            if not happened:
                happened.append("late")
                clock_of(engine).set(5)
        return "done"

    async with by_hand() as engine:
        run = await engine.start(work, None)
        await settled()
        assert await run.result() == "done"
        assert happened == ["late"]


async def test_a_step_that_takes_longer_than_a_wait_beside_it():
    """Time passes while others work; whatever is due when all is quiet goes on."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async def slow() -> str:
            clock_of(engine).set(100)
            return await note("slow")

        results = []
        for number in range(3):
            await ctx.wait(1)
            results.append(await ctx.step(slow, name=f"slow-{number}"))
        return results

    async with by_hand() as engine:
        run = await engine.start(work, None)
        for _ in range(3):
            await settled()
            await clock_of(engine).move(1)
        assert await run.result() == ["slow"] * 3


# --- When the store fails ------------------------------------------------------------------------------------


async def commits_of_a_run() -> int:
    store = FakeStore()
    async with engine_over(store) as engine:
        await (await engine.start(wait_for, 100.0, name="t-1")).result()
    happened.clear()
    return store.commits


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_at_any_commit(when: str, times: int):
    """The engine tries again, and the execution ends as ever; what was completed is not done again."""
    total = await commits_of_a_run()
    assert total >= 6
    for number in range(2, total + 1):  # the first one is its creation, which the caller is told of
        store = FakeStore()
        calls = 0

        async def trouble(number: int = number) -> None:
            nonlocal calls
            calls += 1
            if number <= calls < number + times:
                await fail()

        setattr(store, when, trouble)
        async with engine_over(store) as engine:
            run = await engine.start(wait_for, 100.0, name="t-1")
            assert await run.result() == "after 100", number
            await settled()
            history = await engine.history("t-1")
            assert engine.service._live == {}
            assert engine.service._unsure == set()
        assert calls > total - 2
        assert list(dict.fromkeys(happened)) == ["before 100", "after 100"], number
        # Only a step whose outcome was not recorded is done again.
        assert len(happened) <= (2 if when == "after" else 2 + times), (number, happened)
        assert [event.event_id for event in history] == list(range(1, len(history) + 1)), number
        happened.clear()


async def test_a_store_that_fails_for_an_hour():
    """The engine asks once a minute, and goes on when the store does."""
    store = FakeStore()
    async with by_hand(store) as engine:
        clock = clock_of(engine)
        run = await engine.start(wait_for, 100.0)
        await settled()
        store.before = fail
        await clock.move(100)
        begin = clock.now()
        attempts = 0
        while clock.now() < begin + 3_600_000:
            assert clock.next is not None
            assert 1 <= clock.next <= 60
            await clock.move(clock.next)
            attempts += 1
        assert attempts < 70
        store.before = nothing
        await clock.move(60)
        assert await run.result() == "after 100"
        assert happened == ["before 100", "after 100"]


async def test_a_store_that_cannot_be_read():
    """The same: an execution that waited is read again until that works."""
    store = FakeStore()
    async with by_hand(store) as engine:
        clock = clock_of(engine)
        run = await engine.start(wait_for, 100.0)
        await settled()
        store.before_load = fail
        await clock.move(100)
        for seconds in (1, 2, 4):
            assert clock.next == seconds
            await clock.move(seconds)
        store.before_load = nothing
        await clock.move(8)
        assert await run.result() == "after 100"


async def test_a_disk_that_is_full_for_a_while(tmp_path: Path):
    """What cannot be recorded is done again until it can, and the execution ends as ever."""
    store = open_store(str(tmp_path / "store.db"))

    async def large(size: int) -> str:
        happened.append("large")
        room = 1_000_000 if happened.count("large") == 3 else 1
        await store._thread.read(
            lambda connection: connection.execute(f"PRAGMA max_page_count = {room}").fetchone()
        )
        return "x" * size

    @durable_execution
    async def work(event: int, ctx: DurableContext) -> int:
        await ctx.step(note, "first")
        return len(await ctx.step(large, event))

    try:
        await use_up_room(store)
        async with engine_over(store) as engine:
            run = await engine.start(work, 500_000)
            assert await run.result() == 500_000
            events = [event.event_id for event in await engine.history(run.name)]
    finally:
        await store.aclose()
    assert happened == ["first", "large", "large", "large"]
    assert events == list(range(1, len(events) + 1))


async def test_a_store_that_fails_is_logged(caplog: pytest.LogCaptureFixture):
    """Which execution, and why."""
    caplog.set_level(logging.WARNING, "durable.local")
    store = FakeStore()
    async with by_hand(store) as engine:
        await engine.start(wait_for, 100.0, name="t-1")
        await settled()
        store.before = fail
        await clock_of(engine).move(100)
    (record,) = caplog.records
    assert record.getMessage() == "execution 't-1' could not be driven, it will be tried again"
    assert "no space left on device" in (record.exc_text or "")


async def test_whoever_starts_an_execution_is_told_that_it_could_not_be_kept():
    """It does not exist then, and can be started again."""
    store = FakeStore()
    async with engine_over(store) as engine:
        store.before = fail
        for _ in range(2):
            with pytest.raises(StoreError, match="no space left"):
                await engine.start(echo, 1)
        store.before = nothing
        assert await (await engine.start(echo, 1)).result() == 1


# --- Answers -------------------------------------------------------------------------------------------------


async def test_an_answer_that_was_not_recorded_is_asked_for_again():
    """An execution that ended by an update, and whose process died before the answer, is over."""
    large = "x" * (6 * 1024 * 1024)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        happened.append("invoked")
        return large

    store = FakeStore()
    async with by_hand(store) as engine:
        run = await engine.start(work, None, name="t-1")
        calls = 0

        async def trouble() -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                await fail()

        store.after = trouble
        assert await run.result() == large
    assert happened == ["invoked"]


async def test_a_function_that_answers_with_an_error_and_nothing_else():
    """FAILED is FAILED."""
    output = InvocationOutput(status=InvocationStatus.FAILED)
    async with by_hand() as engine:
        run = await engine.start(Scripted(echo, lambda: output), 1, name="t-1")
        with pytest.raises(ExecutionFailedError, match="execution 't-1' ended FAILED"):
            await run.result()
