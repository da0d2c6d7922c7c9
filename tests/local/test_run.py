"""A run as whoever started it sees it: its result, its end, and its events, followed by any number at once."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable import DurableContext, DurableFunction, durable_execution
from durable._wire import ExecutionStatus
from durable._wire.events import Event, EventType
from durable.exceptions import EngineClosedError, ExecutionFailedError, SerializationError
from durable.local import Run, open_engine
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from tests.local.fakes import FakeStore, ManualClock, clock_of, engine_over, settled
from tests.local.flows import add, echo, fail, hang, happened, wait_for

pytestmark = pytest.mark.anyio

STEPS = 20


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    happened.clear()
    yield
    happened.clear()


@durable_execution
async def steps(event: int, ctx: DurableContext) -> int:
    """Many steps, and a wait in the middle."""
    for number in range(event):
        await ctx.step(_step, number, name=f"s-{number}")
        if number == event // 2:
            await ctx.wait(60)
    return event


async def _step(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return number


# --- The end -------------------------------------------------------------------------------------------------


async def test_whoever_waits_is_told_how_it_ended():
    """Any number of them, before and after."""
    records = []

    async def wait(run: Run[int]) -> None:
        records.append(await run.wait())

    async with engine_over() as engine, anyio.create_task_group() as tasks:
        run = await engine.start(add, {"a": 1}, name="t-1")
        assert not run.is_over
        assert repr(run) == "<Run 't-1' running>"
        for _ in range(5):
            tasks.start_soon(wait, run)
        await run.wait()
        assert run.is_over
        assert repr(run) == "<Run 't-1' SUCCEEDED>"
        tasks.start_soon(wait, run)
    assert [record.status for record in records] == [ExecutionStatus.SUCCEEDED] * 6
    assert await run.result() == 1
    assert run.function is add


async def test_what_it_failed_with_is_the_cause():
    """Of its own type, each time it is asked for."""
    async with engine_over() as engine:
        run = await engine.start(fail, "nothing there", name="t-1")
        for _ in range(3):
            with pytest.raises(
                ExecutionFailedError, match="'t-1' ended FAILED: LookupError: nothing there"
            ) as raised:
                await run.result()
            assert type(raised.value.__cause__) is LookupError
            assert raised.value.__cause__.args == ("nothing there",)
            assert (raised.value.name, raised.value.status) == ("t-1", "FAILED")
        assert (await run.wait()).status is ExecutionStatus.FAILED


@dataclass
class Point:
    x: int


@durable_execution
async def point(event: int, ctx: DurableContext) -> Point:
    """A result that is not plain JSON."""
    return Point(event)


async def test_a_result_has_the_type_of_the_annotation():
    """Decoded from what is recorded."""
    async with engine_over() as engine:
        run = await engine.start(point, 7)
        assert await run.result() == Point(7)


def returning(kind: type) -> DurableFunction[int, Any]:
    """A version of a function, with another annotation of its result."""

    async def work(event: int, ctx: DurableContext) -> Any:
        return event

    work.__annotations__["return"] = kind
    return durable_execution(work)


async def test_a_result_that_no_longer_fits():
    """The function's annotation has changed since: the record is there, the result cannot be had."""
    store = MemoryStore()
    async with engine_over(store) as engine:
        assert await (await engine.start(returning(int), 7, name="t-1")).result() == 7
    async with engine_over(store) as engine:
        run = await engine.start(returning(str), 7, name="t-1")
        assert (await run.wait()).result == "7"
        with pytest.raises(SerializationError, match="the result of work does not fit its annotation str"):
            await run.result()


async def test_whoever_waits_may_give_up():
    """The execution goes on."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 5.0)
        for attempt in (run.result, run.wait):
            with anyio.move_on_after(0) as scope:
                await attempt()
            assert scope.cancelled_caught
        await settled()
        await clock_of(engine).move(5)
        assert await run.result() == "after 5"


# --- Events --------------------------------------------------------------------------------------------------


async def numbers(events: AsyncGenerator[Event], pace: random.Random | None = None) -> list[int]:
    """The numbers of all events, at whatever pace."""
    found = []
    async with aclosing(events):
        async for event in events:
            found.append(event.event_id)
            for _ in range(pace.randrange(0, 30) if pace is not None else 0):
                await anyio.lowlevel.checkpoint()
    return found


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(3))
async def test_every_follower_sees_every_event(seed: int, kind: str, tmp_path: Path):
    """Quick and slow, from the start and later on: all of them, once, in order, and then it ends."""
    rng = random.Random(seed)
    found: list[list[int]] = []

    async def follow(run: Run[int], delay: int, pace: random.Random) -> None:
        for _ in range(delay):
            await anyio.lowlevel.checkpoint()
        found.append(await numbers(run.events(), pace))

    path = str(tmp_path / "store.db") if kind == "sqlite" else None
    async with open_engine(path, clock=SkippingClock()) as engine:
        async with anyio.create_task_group() as tasks:
            run = await engine.start(steps, STEPS, name="t-1")
            for _ in range(10):
                tasks.start_soon(follow, run, rng.randrange(300), random.Random(rng.random()))
        whole = [event.event_id for event in await engine.history("t-1")]
        assert len(whole) > 2 * STEPS
        assert found == [whole] * 10, seed
        assert whole == list(range(1, len(whole) + 1))
        assert await numbers(run.events()) == whole
        assert await numbers((await engine.start(steps, STEPS, name="t-1")).events()) == whole


async def test_events_come_as_they_happen():
    """Not when all is over: a follower has seen what is recorded before the execution goes on waiting."""
    seen: list[EventType] = []

    async def follow(run: Run[str]) -> None:
        async with aclosing(run.events()) as events:
            async for event in events:
                seen.append(event.event_type)  # noqa: PERF401 - one at a time is the point

    async with engine_over(clock=ManualClock()) as engine, anyio.create_task_group() as tasks:
        run = await engine.start(wait_for, 5.0)
        tasks.start_soon(follow, run)
        await settled()
        assert seen == [
            EventType.EXECUTION_STARTED,
            EventType.STEP_STARTED,
            EventType.STEP_SUCCEEDED,
            EventType.WAIT_STARTED,
            EventType.INVOCATION_COMPLETED,
        ]
        await clock_of(engine).move(5)
        assert seen[5] is EventType.WAIT_SUCCEEDED
        assert seen[-1] is EventType.EXECUTION_SUCCEEDED


async def test_events_after_a_number():
    """A follower that was interrupted goes on where it was."""
    async with engine_over() as engine:
        run = await engine.start(steps, 3)
        whole = await numbers(run.events())
        for after in range(len(whole) + 2):
            assert await numbers(run.events(after)) == whole[after:]


async def test_a_follower_that_gives_up_is_in_nobodys_way():
    """Neither in that of the others nor in that of the execution."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 5.0)
        async with aclosing(run.events()) as events:
            assert (await anext(events)).event_id == 1
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(numbers, run.events())
                await settled()
                scope.cancel()
        await clock_of(engine).move(5)
        whole = await numbers(run.events())
        assert whole == list(range(1, len(whole) + 1))
        assert await run.result() == "after 5"


async def test_events_of_an_engine_that_is_closed():
    """Whoever follows is told that there will be no more here."""
    outcomes: list[str] = []

    async def follow(run: Run[Any]) -> None:
        try:
            await numbers(run.events())
        except EngineClosedError:
            outcomes.append("closed")

    async with anyio.create_task_group() as tasks, engine_over(clock=ManualClock()) as engine:
        run = await engine.start(hang, "trip")
        for _ in range(3):
            tasks.start_soon(follow, run)
        await settled()
    assert outcomes == ["closed"] * 3
    with pytest.raises(EngineClosedError):
        await anext(run.events())


async def test_following_keeps_nothing_in_memory():
    """Neither what was followed to its end nor what is looked at afterwards."""
    store = FakeStore()
    async with engine_over(store) as engine:
        for number in range(10):
            run = await engine.start(echo, number, name=f"t-{number}")
            await numbers(run.events())
            await numbers(run.events())
            again = (await engine.resume(f"t-{number}"))[0]
            await numbers(again.events(1))
        await settled()
        assert engine.service._live == {}
        assert engine.service._news == {}


@pytest.mark.parametrize("seed", range(5))
async def test_no_event_is_missed_between_looking_and_waiting(seed: int):
    """A store that is slow to tell: what is committed meanwhile is read the next time."""
    rng = random.Random(seed)

    class Slow(MemoryStore):
        async def events(self, execution_id: str, after: int = 0) -> Any:
            for _ in range(rng.randrange(5)):
                await anyio.lowlevel.checkpoint()
            found = await super().events(execution_id, after)
            for _ in range(rng.randrange(5)):
                await anyio.lowlevel.checkpoint()
            return found

        async def commit(self, execution_id: str, change: Any) -> None:
            for _ in range(rng.randrange(3)):
                await anyio.lowlevel.checkpoint()
            await super().commit(execution_id, change)
            for _ in range(rng.randrange(3)):
                await anyio.lowlevel.checkpoint()

    found: list[list[int]] = []

    async def follow(run: Run[int]) -> None:
        with anyio.fail_after(20):
            found.append(await numbers(run.events()))

    async with engine_over(Slow()) as engine:
        async with anyio.create_task_group() as tasks:
            run = await engine.start(steps, STEPS)
            for _ in range(5):
                tasks.start_soon(follow, run)
        whole = [event.event_id for event in await engine.history(run.name)]
    assert found == [whole] * 5
