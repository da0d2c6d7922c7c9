"""The engine: starting, finding and resuming executions, and what becomes of them when it is closed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable import DurableFunction, durable_execution
from durable._wire import ExecutionStatus
from durable._wire.events import EventType
from durable._wire.limits import MAX_EXECUTION_PAYLOAD_BYTES
from durable.exceptions import (
    EngineClosedError,
    ExecutionExistsError,
    ExecutionNotFoundError,
    InvalidNameError,
    NonDeterminismError,
    NotDurableError,
    PayloadTooLargeError,
    SerializationError,
    StoreError,
    StoreLockedError,
    TargetNotFoundError,
)
from durable.local import Engine, Run, open_engine
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from tests.local import flows
from tests.local.fakes import FakeStore, ManualClock, clock_of, engine_over, settled
from tests.local.flows import add, echo, hang, happened, multiply, unique, variant, wait_for

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    happened.clear()
    yield
    happened.clear()


# --- Starting ------------------------------------------------------------------------------------------------


async def test_an_execution_runs_to_its_end():
    """And is on record with its input and its result."""
    async with engine_over() as engine:
        run = await engine.start(add, {"a": 1, "b": 2}, name="t-1")
        assert await run.result() == 3
        record = await engine.execution("t-1")
        assert (record.status, record.input, record.result) == (ExecutionStatus.SUCCEEDED, '{"a":1,"b":2}', "3")
        assert record.function == "tests.local.flows:add"
        assert happened == ["a=1", "b=2"]
        assert [operation.name for operation in await engine.operations("t-1")] == ["note", "note"]


async def test_starting_the_same_again_finds_it():
    """While it runs it is the same run; when it is over it is told how it ended. Nothing happens twice."""
    async with engine_over(clock=ManualClock()) as engine:
        one = await engine.start(wait_for, 5.0, name="t-1")
        assert await engine.start(wait_for, 5.0, name="t-1") is one
        await settled()
        assert await engine.start(wait_for, 5.0, name="t-1") is one
        assert (await engine.resume("t-1"))[0] is one
        await clock_of(engine).move(5)
        assert await one.result() == "after 5"
        again = await engine.start(wait_for, 5.0, name="t-1")
        assert again.is_over
        assert await again.result() == "after 5"
        assert happened == ["before 5", "after 5"]
        assert len(await engine.executions()) == 1


async def test_an_input_is_the_same_if_its_values_are():
    """By the function's annotation, whatever their order or spelling."""
    async with engine_over() as engine:
        run = await engine.start(unique, {3, 1, 2}, name="t-1")
        assert await run.result() == 3
        assert await (await engine.start(unique, {1, 2, 3}, name="t-1")).result() == 3
        await engine.start(add, {"a": 1, "b": 2}, name="t-2")
        await engine.start(add, {"b": 2, "a": 1}, name="t-2")


async def test_a_name_stands_for_one_execution_forever():
    """Another input or another function is an error that says which; the first execution does not notice."""
    async with engine_over() as engine:
        run = await engine.start(add, {"a": 1}, name="t-1")
        for _ in range(2):
            with pytest.raises(ExecutionExistsError, match="named 't-1' exists with another input"):
                await engine.start(add, {"a": 2}, name="t-1")
            with pytest.raises(ExecutionExistsError, match=r"with another function, tests\.local\.flows:add"):
                await engine.start(multiply, {"a": 1}, name="t-1")
            assert await run.result() == 1
        assert happened == ["a=1"]
        assert len(await engine.executions()) == 1


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_many_who_start_the_same_at_once(kind: str, tmp_path: Path):
    """There is one execution, and all of them have its result."""
    results: list[int] = []

    async def start(engine: Engine) -> None:
        run = await engine.start(add, {"a": 1}, name="t-1")
        results.append(await run.result())

    path = str(tmp_path / "store.db") if kind == "sqlite" else None
    async with open_engine(path, clock=SkippingClock()) as engine, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(start, engine)
    assert results == [1] * 20
    assert happened == ["a=1"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_many_who_start_different_things_under_one_name(kind: str, tmp_path: Path):
    """One of them gets it; the others are told."""
    outcomes: list[int | str] = []

    async def start(engine: Engine, number: int) -> None:
        try:
            run = await engine.start(add, {"a": number}, name="t-1")
        except ExecutionExistsError:
            outcomes.append("taken")
        else:
            outcomes.append(await run.result())

    path = str(tmp_path / "store.db") if kind == "sqlite" else None
    async with open_engine(path, clock=SkippingClock()) as engine, anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(start, engine, number)
    assert outcomes.count("taken") == 9
    (winner,) = [outcome for outcome in outcomes if outcome != "taken"]
    assert happened == [f"a={winner}"]


@pytest.mark.parametrize("name", ["a", "A-_9", "-", "x" * 64])
async def test_a_name_that_may_be(name: str):
    """It is the name it has."""
    async with engine_over() as engine:
        run = await engine.start(echo, 1, name=name)
        assert run.name == name
        assert run.arn == f"arn:aws:lambda:us-east-1:000000000000:function:echo:1/durable-execution/{name}/{run.id}"


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "ä", "a\n", "\n", "a.b", "\udcff", "\x00"])
async def test_a_name_that_may_not_be(name: str):
    """It is refused before anything is recorded."""
    async with engine_over() as engine:
        with pytest.raises(InvalidNameError, match="1 to 64 characters of"):
            await engine.start(echo, 1, name=name)
        assert await engine.executions() == []


@pytest.mark.parametrize("called", ["f", "x" * 300, "ä b/c:d", "-"])
async def test_a_name_that_is_made_up(called: str):
    """From the function's, so that people find it; no two are alike."""

    async def work(event: None, ctx: object) -> None: ...

    function = durable_execution(name=called)(work)
    async with engine_over() as engine:
        names = {(await engine.start(function, None)).name for _ in range(20)}
        assert len(names) == 20
        for name in names:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
            assert name.startswith(re.sub(r"[^a-z-]", "-", called)[:55])


@pytest.mark.parametrize(
    ("function", "event", "error"),
    [
        (add, {"a": "x"}, SerializationError),
        (add, {1, 2}, SerializationError),
        (add, object(), SerializationError),
        (echo, "\ud800", SerializationError),
        (echo, "x" * (MAX_EXECUTION_PAYLOAD_BYTES - 1), PayloadTooLargeError),
        (echo, "é" * (MAX_EXECUTION_PAYLOAD_BYTES // 2), PayloadTooLargeError),
    ],
    ids=["another type", "another shape", "an object", "half a character", "too large", "too large in bytes"],
)
async def test_an_input_that_is_refused(function: DurableFunction[Any, Any], event: Any, error: type[Exception]):
    """The function is named, and nothing is recorded."""
    async with engine_over() as engine:
        with pytest.raises(error, match=f"the input of {function.name}"):
            await engine.start(function, event, name="t-1")
        assert await engine.executions() == []


async def test_the_largest_input():
    """6 MB exactly is taken, and given back."""
    value = "x" * (MAX_EXECUTION_PAYLOAD_BYTES - 2)
    async with engine_over() as engine:
        assert await (await engine.start(echo, value, name="t-1")).result() == value


@pytest.mark.parametrize("thing", [flows.note, 7, None, "tests.local.flows:add"])
async def test_what_is_not_durable_is_not_started(thing: Any):
    """It says what to do about it."""
    async with engine_over() as engine:
        with pytest.raises(NotDurableError, match="Decorate"):
            await engine.start(thing, None)
        assert await engine.executions() == []


# --- Resuming ------------------------------------------------------------------------------------------------


async def test_an_execution_goes_on_in_the_next_engine():
    """What was completed is not done again."""
    store = MemoryStore()
    async with engine_over(store, ManualClock()) as engine:
        run = await engine.start(wait_for, 5.0, name="t-1")
        await settled()
        assert happened == ["before 5"]
    with pytest.raises(EngineClosedError):
        await run.result()
    async with engine_over(store) as engine:
        (run,) = await engine.resume()
        assert await run.result() == "after 5"
        assert happened == ["before 5", "after 5"]
        assert await engine.resume() == []
        assert await (await engine.resume("t-1"))[0].result() == "after 5"
        assert (await engine.start(wait_for, 5.0, name="t-1")).is_over


async def test_executions_are_resumed_oldest_first():
    """All that are not over, and no others."""
    store = MemoryStore()
    names = ["d", "a", "c", "b"]
    async with engine_over(store, ManualClock()) as engine:
        for name in names:
            await engine.start(wait_for, 5.0, name=name)
        await (await engine.start(echo, 1, name="over")).result()
        await settled()
        assert [run.name for run in await engine.resume()] == names
    async with engine_over(store) as engine:
        runs = await engine.resume()
        assert [run.name for run in runs] == names
        assert [await run.result() for run in runs] == ["after 5"] * 4
    assert sorted(happened) == ["after 5"] * 4 + ["before 5"] * 4


async def test_resuming_what_nobody_started():
    """The name is in the error."""
    async with engine_over() as engine:
        with pytest.raises(ExecutionNotFoundError, match="no execution is named 'nobody'"):
            await engine.resume("nobody")


async def test_a_function_that_cannot_be_loaded_stops_nobody_else():
    """Its run says why; its execution waits for an engine that can, and the others run."""
    store = MemoryStore()
    work = variant(["a", "wait", "b"])
    async with engine_over(store, ManualClock()) as engine:
        await engine.start(work, None, name="local")
        await engine.start(wait_for, 5.0, name="other")
        await settled()
    happened.clear()
    async with engine_over(store) as engine:
        lost, other = await engine.resume()
        assert await other.result() == "after 5"
        for attempt in (lost.wait(), lost.result()):
            with pytest.raises(TargetNotFoundError, match=r"variant\.<locals>\.work"):
                await attempt
        told = []
        with pytest.raises(TargetNotFoundError):
            async for event in lost.events():
                told.append(event.event_type)  # noqa: PERF401 - it ends with an exception
        assert told[-2:] == [EventType.WAIT_STARTED, EventType.INVOCATION_COMPLETED]
        with pytest.raises(TargetNotFoundError):
            _ = lost.function
        assert (await engine.execution("local")).status is ExecutionStatus.RUNNING
        engine.register(work)
        (found,) = await engine.resume()
        assert await found.result() == "a wait b"
    assert happened == ["after 5", "b"]


@pytest.mark.parametrize("same_engine", [True, False])
async def test_code_that_does_not_follow_its_history(*, same_engine: bool):
    """Its run ends with that; the execution is not touched, and goes on with the right code."""
    store = MemoryStore()
    right, wrong = variant(["a", "wait", "b"]), variant(["x", "wait", "b"])
    async with engine_over(store, ManualClock()) as engine:
        await engine.start(right, None, name="t-1")
        await settled()
    happened.clear()
    async with engine_over(store) as engine:
        for _ in range(3):
            run = await engine.start(wrong, None, name="t-1")
            with pytest.raises(NonDeterminismError, match=r"expected Step 'a' \(recorded\), found Step 'x'"):
                await run.result()
            with pytest.raises(NonDeterminismError):
                await anext(run.events(1000))
        assert (await engine.execution("t-1")).status is ExecutionStatus.RUNNING
        history = await engine.history("t-1")
        assert history[-1].invocation_completed_details is not None
        assert history[-1].invocation_completed_details.error is not None
        assert happened == []
        if same_engine:
            assert await (await engine.start(right, None, name="t-1")).result() == "a wait b"
    if not same_engine:
        async with engine_over(store) as engine:
            engine.register(right)
            (run,) = await engine.resume()
            assert await run.result() == "a wait b"
    assert happened == ["b"]


async def test_following_a_run_that_has_ended_does_not_disturb_the_next_one():
    """Whoever reads what the wrong code did, while the right code runs."""
    store = MemoryStore()
    clock = ManualClock()
    right, wrong = variant(["a", "wait", "b"]), variant(["x"])
    async with engine_over(store, clock) as engine:
        await engine.start(right, None, name="t-1")
        await settled()
    async with engine_over(store, clock) as engine:
        run = await engine.start(wrong, None, name="t-1")
        with pytest.raises(NonDeterminismError):
            await run.result()
        again = await engine.start(right, None, name="t-1")
        for _ in range(3):
            with pytest.raises(NonDeterminismError):
                await anext(run.events(1000))
        await settled()
        await clock.move(60)
        assert await again.result() == "a wait b"
        record = await engine.execution("t-1")
        assert record.invocations == 4


# --- Closing -------------------------------------------------------------------------------------------------


class UnusualError(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyboardInterrupt(),
        SystemExit(3),
        UnusualError(),
        ExceptionGroup("group", [ValueError("x")]),
        BaseExceptionGroup("group", [KeyboardInterrupt()]),
        StopAsyncIteration(),
        EngineClosedError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("busy", [True, False])
async def test_what_the_block_raises_comes_out_as_it_is(error: BaseException, *, busy: bool):
    """Not wrapped, not replaced; whatever runs at that moment."""
    with pytest.raises(BaseException) as raised:
        async with engine_over() as engine:
            if busy:
                await engine.start(hang, "trip")
                await settled()
            raise error
    assert raised.value is error


@pytest.mark.parametrize("busy", [True, False])
async def test_a_cancellation_passes_through(*, busy: bool):
    """It is the caller's own, and reaches his scope."""
    with anyio.move_on_after(0) as scope:
        async with engine_over() as engine:
            if busy:
                with anyio.CancelScope(shield=True):
                    await engine.start(hang, "trip")
                    await settled()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_closed_engine():
    """It starts and resumes nothing; whoever waits is told, and can go on with another engine."""
    outcomes: list[type[BaseException]] = []

    async def follow(run: Run[Any]) -> None:
        for attempt in (run.result, run.wait):
            try:
                await attempt()
            except EngineClosedError as error:
                outcomes.append(type(error))

    async with anyio.create_task_group() as tasks:
        async with engine_over(clock=ManualClock()) as engine:
            run = await engine.start(wait_for, 5.0, name="t-1")
            tasks.start_soon(follow, run)
            await settled()
        await settled()
        assert outcomes == [EngineClosedError] * 2
    for attempt in (engine.start(echo, 1), engine.resume(), engine.resume("t-1")):
        with pytest.raises(EngineClosedError, match="can be resumed by another engine"):
            await attempt
    assert repr(run) == "<Run 't-1' EngineClosedError>"


async def test_closing_while_an_invocation_runs():
    """It unwinds and leaves no trace: nothing is recorded, nothing undone; the next engine does the step again."""
    store = FakeStore()
    async with engine_over(store) as engine:
        await engine.start(hang, "trip", name="t-1")
        await settled()
        assert happened == ["trip reserved", "trip hangs"]
        commits = store.commits
    assert happened == ["trip reserved", "trip hangs", "trip left"]
    assert store.commits == commits
    async with engine_over(store) as engine:
        (run,) = await engine.resume()
        assert await run.result() == "trip"
    assert happened == ["trip reserved", "trip hangs", "trip left", "trip hangs", "trip left"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_closing_while_a_commit_is_under_way(when: str):
    """Whether it got through or not, the next engine goes on from there."""
    store = FakeStore()
    async with engine_over(store) as engine:
        run = await engine.start(echo, 1, name="warm")
        await run.result()
        setattr(store, when, anyio.sleep_forever)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(engine.start, add, {"a": 1})
                await settled()
                scope.cancel()
    setattr(store, when, FakeStore().before)
    async with engine_over(store) as engine:
        runs = await engine.resume()
        for run in runs:
            assert await run.result() == 1
        again = await engine.start(add, {"a": 1}, name="next")
        assert await again.result() == 1


async def test_nothing_is_kept_of_what_is_over():
    """However many executions an engine has run."""
    async with engine_over() as engine:
        for number in range(30):
            await (await engine.start(wait_for, 0.0 + 1, name=f"t-{number}")).result()
            with pytest.raises(Exception, match="LookupError"):
                await (await engine.start(flows.fail, "x", name=f"f-{number}")).result()
        await settled()
        assert engine.service._live == {}
        assert engine.service._news == {}
        assert engine._driver._runs == {}
        assert engine._driver._timers == []


# --- Files ---------------------------------------------------------------------------------------------------


async def test_an_engine_on_a_file(tmp_path: Path):
    """One at a time; what it left is there for the next one."""
    path = tmp_path / "store.db"
    async with open_engine(path, clock=ManualClock()) as engine:
        await engine.start(wait_for, 5.0, name="t-1")
        await settled()
        with pytest.raises(StoreLockedError, match="in use by another engine"):
            async with open_engine(str(path)):
                pass
        while len(await engine.history("t-1")) < 5:
            await anyio.lowlevel.checkpoint()
    async with open_engine(str(path), clock=SkippingClock()) as engine:
        (run,) = await engine.resume()
        assert await run.result() == "after 5"
    assert happened == ["before 5", "after 5"]


async def test_a_file_is_let_go_of_however_the_block_is_left(tmp_path: Path):
    """Otherwise nobody could resume."""
    path = tmp_path / "store.db"
    with pytest.raises(ValueError, match="x"):
        async with open_engine(path):
            raise ValueError("x")
    with anyio.CancelScope() as scope:
        async with open_engine(path):
            scope.cancel()
            await anyio.sleep_forever()
    async with open_engine(path):
        pass


async def test_a_path_and_a_store(tmp_path: Path):
    """There is one of them."""
    with pytest.raises(ValueError, match="a path or a store, not both"):
        async with open_engine(tmp_path / "store.db", store=MemoryStore()):
            pass
    with pytest.raises(StoreError, match="is a directory"):
        async with open_engine(tmp_path):
            pass


async def test_a_store_of_ones_own_stays_open():
    """Whoever opened it closes it."""

    class Watched(MemoryStore):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    store = Watched()
    async with open_engine(store=store):
        pass
    assert not store.closed


# --- Looking -------------------------------------------------------------------------------------------------


async def test_looking_at_executions():
    """By name, by status, with their operations and history."""
    async with engine_over() as engine:
        await (await engine.start(add, {"a": 1}, name="t-1")).result()
        await settled()
        assert [record.name for record in await engine.executions(ExecutionStatus.SUCCEEDED)] == ["t-1"]
        assert await engine.executions(ExecutionStatus.FAILED) == []
        whole = list(await engine.history("t-1"))
        assert [event.event_id for event in whole] == list(range(1, len(whole) + 1))
        assert whole[0].event_type is EventType.EXECUTION_STARTED
        assert list(await engine.history("t-1", 2)) == whole[2:]
        for attempt in (engine.execution("x"), engine.operations("x"), engine.history("x")):
            with pytest.raises(ExecutionNotFoundError, match="'x'"):
                await attempt
