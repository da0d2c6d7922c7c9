"""Faults by a seed: whatever happens to the calls, the execution ends as it should, nothing recorded twice."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from durable import DurableContext, Retry, durable_execution, saga
from durable.testing import FaultKind, Faults, durable_test, trio_schedule
from durable.testing.faults import KINDS

world: list[str] = []


async def work(what: str) -> str:
    world.append(what)
    return what


async def undo(what: str) -> None:
    world.append(f"undo {what}")


async def refuse() -> None:
    raise RuntimeError("no")


@durable_execution
async def trip(_event: None, ctx: DurableContext) -> str:
    async with saga(ctx, name="trip") as s:
        for name in ("hotel", "flight", "car"):
            await s.step(work, name, name=name, compensate=undo)
            await ctx.wait(60, name=f"after {name}")
        await ctx.map(book, ["a", "b", "c"], name="extras")
        await s.step(refuse, name="charge", retry=Retry(attempts=2))
    return "booked"


async def book(ctx: DurableContext, item: str) -> str:
    return await ctx.step(work, item, name="book")


async def run(faults: Faults | None) -> tuple[list[str], str]:
    world.clear()
    async with durable_test(trip, faults=faults) as t:
        started = await t.start(None)
        error = await started.error()
        events = Counter((event.event_type, event.id) for event in await started.history() if event.id)
    often = {"StepStarted", "StepFailed", "InvocationCompleted"}
    twice = [what for what, times in events.items() if times > 1 and what[0] not in often]
    assert twice == []
    return started.recorded, repr(error)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_each_fault_alone(kind: FaultKind):
    expected = await run(None)
    faults = Faults(3, rate=0.5, kinds=[kind])
    recorded, error = await run(faults)
    assert set(faults.happened) == {kind}
    assert sorted(recorded) == sorted(expected[0])
    assert error == expected[1]
    # What was done may be done again, when an invocation had to end; nothing is left out.
    assert set(world) == {"hotel", "flight", "car", "a", "b", "c", "undo hotel", "undo flight", "undo car"}


@pytest.mark.anyio
async def test_what_is_recorded_is_known_although_no_answer_says_so():
    """An answer that is lost for good is the end of an invocation; the next one finds its records."""
    expected = await run(None)
    for seed in range(10):
        faults = Faults(seed, rate=0.5, kinds=["lost", "twice"])
        recorded, _ = await run(faults)
        assert sorted(recorded) == sorted(expected[0]), f"seed {seed}: {faults.happened}"


@durable_execution
async def two_steps(_event: None, ctx: DurableContext) -> None:
    await ctx.step(work, "one", name="one")
    await ctx.step(work, "two", name="two")


@pytest.mark.anyio
async def test_a_call_that_is_made_twice_records_once():
    """It is one call of those that a run has made."""
    faults = Faults(1, rate=0.9, kinds=["twice"])
    async with durable_test(two_steps, faults=faults) as t:
        started = await t.start(None)
        await started.result()
    assert faults.happened
    assert (started.call_count, started.recorded) == (2, ["step:one", "step:two"])


@pytest.mark.anyio
async def test_all_of_them_for_many_seeds():
    expected = await run(None)
    for seed in range(15):
        recorded, error = await run(Faults(seed))
        assert sorted(recorded) == sorted(expected[0]), f"seed {seed}"
        assert error == expected[1], f"seed {seed}"


@pytest.mark.anyio
async def test_a_seed_gives_the_same_faults_again():
    one, other, third = Faults(5), Faults(5), Faults(6)
    for faults in (one, other, third):
        await run(faults)
    assert one.happened
    assert one.happened == other.happened
    assert one.happened != third.happened


@pytest.mark.parametrize(
    ("rate", "kinds", "complaint"),
    [
        (1.0, KINDS, "nothing would ever succeed"),
        (-0.1, KINDS, "0 or more"),
        (0.1, ["smoke"], "some of throttled,"),
    ],
)
def test_faults_that_there_are_not(rate: float, kinds: list[FaultKind], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Faults(1, rate=rate, kinds=kinds)


def test_a_schedule_can_be_repeated():
    def order(seed: int) -> list[int]:
        found: list[int] = []

        async def say(number: int) -> None:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            found.append(number)

        async def main() -> None:
            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(say, number)

        with trio_schedule(seed):
            anyio.run(main, backend="trio")
        return found

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) > 1
