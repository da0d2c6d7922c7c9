"""One execution, two invocations of it at once: the older one was thought dead, and goes on.

Every call to the service takes its time before it is applied, and after; and whoever drives the execution loses
patience at any moment and begins another invocation, while those before run on, user code and all. What must hold:

* from the moment at which an invocation has begun, none before it writes anything;
* outcome and history are the same as without, and each operation ends once;
* what is recorded of a step has happened; a step that is to happen at most once never happens twice.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from durable import (
    DurableContext,
    DurableFunction,
    Retry,
    StepInterruptedError,
    current_step,
    durable_execution,
    saga,
)
from durable._engine import journal
from durable._kernel.errors import encode_error
from durable._wire import InvocationInput, InvocationOutput, InvocationStatus, Operation, OperationUpdate
from durable._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from durable.abc import ServiceClient
from durable.exceptions import ServiceError
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock, trio_schedule
from durable.testing.contracts.log import record_of
from tests.sweep import ending, order, shape

MOST_TAKEOVERS = 6
"""How often somebody loses patience with one execution."""

BACKENDS = ("asyncio", "trio")


class Outcome:
    """What is known of one run from outside of the library."""

    def __init__(self) -> None:
        self.ending: tuple[str, str, str] = ("", "", "")
        self.operations: list[Operation] = []
        self.events: Counter[tuple[str, str | None]] = Counter()
        # Each time that a step's body came to its end.
        self.effects: Counter[str] = Counter()
        self.invocations = 0
        self.takeovers = 0
        # How those ended that were not the last to begin, and how many calls they were refused.
        self.older: Counter[str] = Counter()
        self.refused = 0
        self.wrong: list[str] = []


class SlowClient(ServiceClient):
    """One holder's way to the service: each call takes its time on the way there, and on the way back."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        run = self._run
        await run.pause()
        try:
            answer = await run.service.checkpoint(arn, token, updates, client_token)
        except ServiceError:
            run.outcome.refused += self._number < run.outcome.invocations
            raise
        if self._number < run.outcome.invocations:
            run.outcome.wrong.append(f"invocation {self._number} wrote after another one had begun")
        await run.pause()
        return answer

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        await self._run.pause()
        return await self._run.service.get_state(arn, token, marker, max_items)


class Run:
    """One execution, and everybody who holds it."""

    def __init__(
        self, make: Callable[[Run], DurableFunction[Any, Any]], rng: random.Random, takeovers: int
    ) -> None:
        self.clock = SkippingClock()
        self.store = MemoryStore()
        self.service = LocalService(self.store, self.clock, page_size=3)
        self.outcome = Outcome()
        self._function = make(self)
        self._rng = rng
        self._takeovers = takeovers
        self._record = record_of()

    async def pause(self) -> None:
        """Some turns of the event loop, or some time."""
        for _ in range(self._rng.randrange(5)):
            await anyio.lowlevel.checkpoint()
        if self._takeovers and self._rng.random() < 0.4:
            await self.take(self._rng.choice([10, 100, 700]))

    async def take(self, milliseconds: int) -> None:
        await self.clock.sleep_until(self.clock.now() + milliseconds)

    async def to_the_end(self) -> Outcome:
        """Drive the execution; everybody has ended when this returns."""
        outcome = self.outcome
        await self.service.create(self._record)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as holders:
                while not outcome.ending[0]:
                    await self._one(holders.start_soon)
        loaded = await self.store.load(self._record.id)
        assert loaded is not None
        outcome.operations = list(loaded.operations)
        outcome.events = Counter(
            (event.type, event.operation_id) for _, event in await self.store.events(self._record.id)
        )
        return outcome

    async def _one(self, start: Callable[..., Any]) -> None:
        """One invocation, until it answers or patience is lost with it."""
        event = await self.service.begin_invocation(self._record.id)
        self.outcome.invocations += 1
        done = anyio.Event()
        answers: list[InvocationOutput | Exception] = []
        start(self._hold, event, self.outcome.invocations, answers, done)
        if self.outcome.takeovers < self._takeovers and self._rng.random() < 0.8:
            turns, time = self._rng.choice([(self._rng.randrange(40), 0), (0, self._rng.randrange(3000))])
            if not await self._patient(done, turns, time):
                self.outcome.takeovers += 1
                return
        await done.wait()
        (answer,) = answers
        await self._take(answer)

    async def _patient(self, done: anyio.Event, turns: int, time: int) -> bool:
        """Whether it ends in so many turns of the event loop, or in that time."""
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        if time:
            async with anyio.create_task_group() as race:

                async def wait() -> None:
                    await done.wait()
                    race.cancel_scope.cancel()

                race.start_soon(wait)
                await self.take(time)
                race.cancel_scope.cancel()
        return done.is_set()

    async def _hold(self, event: InvocationInput, number: int, answers: list[Any], done: anyio.Event) -> None:
        try:
            answers.append(await self._function.invoke(event, SlowClient(self, number), clock=self.clock))
        except Exception as error:
            answers.append(error)
        done.set()
        if number < self.outcome.invocations:
            (answer,) = answers
            how = type(answer).__name__ if isinstance(answer, Exception) else str(answer.status)
            self.outcome.older[how] += 1

    async def _take(self, answer: InvocationOutput | Exception) -> None:
        service, key = self.service, self._record.id
        if isinstance(answer, Exception):
            self.outcome.wrong.append(f"the newest invocation raised {answer!r}")
            await service.end_invocation(key, encode_error(answer))
        else:
            if not await service.end_invocation(key, answer):
                self.outcome.wrong.append("PENDING was answered with nothing pending")
            if answer.status is not InvocationStatus.PENDING:
                self.outcome.ending = ending(answer)
                return
        due = await self.service.next_due(self._record.id)
        if due is not None:
            await self.clock.sleep_until(due)


# --- What is run ---------------------------------------------------------------------------------------------


def trip(run: Run, *, declined: bool) -> DurableFunction[Any, Any]:
    """A saga with a fan-out in it, a step that is tried again, a wait; all at least once."""

    async def do(what: str, *, fails: int = 0) -> str:
        await run.pause()
        run.outcome.effects[what] += 1
        if current_step().attempt <= fails:
            raise ValueError(f"{what} failed")
        return what

    async def undo(what: str) -> None:
        await run.pause()
        run.outcome.effects[f"undo {what}"] += 1

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async def book(ctx: DurableContext, item: str) -> str:
            booked = await ctx.step(do, item, name=item)
            return await ctx.step(do, f"confirm {booked}", name=f"confirm {item}")

        async with saga(ctx) as s:
            hotel = await s.step(do, "hotel", compensate=undo)
            batch = await ctx.map(book, ["flight", "car"], name="book")
            await ctx.wait(1)

            async def shaky() -> str:
                return await do("shaky", fails=1)

            await s.step(shaky, compensate=undo, retry=Retry(attempts=2, initial_delay=1, jitter="none"))

            async def charge() -> str:
                return await do("charge", fails=1 if declined else 0)

            card = await s.step(charge)
        return [hotel, *batch.results(), card]

    return work


def once(run: Run) -> DurableFunction[Any, Any]:
    """Steps at most once, one after another and side by side."""

    async def do(what: str) -> str:
        run.outcome.effects[f"once {what}"] += 1  # before: a body that is left in the middle has begun
        await run.pause()
        return what

    async def at_most_once(ctx: DurableContext, what: str) -> str:
        try:
            return await ctx.step(do, what, name=what, semantics="at-most-once")
        except StepInterruptedError:
            return f"{what} in doubt"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        first = [await at_most_once(ctx, what) for what in ("a", "b", "c")]
        batch = await ctx.map(at_most_once, ["d", "e"], name="both")
        await ctx.wait(1)
        return [*first, *batch.results(), await at_most_once(ctx, "f")]

    return work


def booked(run: Run) -> DurableFunction[Any, Any]:
    return trip(run, declined=False)


def declined(run: Run) -> DurableFunction[Any, Any]:
    return trip(run, declined=True)


PROGRAMS: dict[str, Callable[[Run], DurableFunction[Any, Any]]] = {
    "booked": booked,
    "declined": declined,
    "once": once,
}


# --- What must hold ------------------------------------------------------------------------------------------


def run_once(program: str, backend: str, seed: int, takeovers: int = MOST_TAKEOVERS) -> Outcome:
    """One execution, with so many takeovers at most."""
    rng = random.Random(f"{program} {backend} {seed}")
    # Nothing depends on how fast the machine is: a step's START goes out at once, or with its end.
    linger, journal.LINGER = journal.LINGER, rng.choice([0.0, 3600.0])  # type: ignore[misc]
    try:
        return _run_once(program, backend, seed, rng, takeovers)
    finally:
        journal.LINGER = linger  # type: ignore[misc]


def _run_once(program: str, backend: str, seed: int, rng: random.Random, takeovers: int) -> Outcome:
    with trio_schedule(seed):
        run: Callable[[], Awaitable[Outcome]] = Run(PROGRAMS[program], rng, takeovers).to_the_end
        return anyio.run(run, backend=backend)


def check(program: str, backend: str, seed: int, expected: Outcome) -> Outcome:
    """One execution with takeovers, compared with one without.

    Raises:
        AssertionError: Something does not hold.
    """
    found = run_once(program, backend, seed)
    where = f"{program} on {backend}, seed {seed}"
    assert not found.wrong, (where, found.wrong)
    ends = {
        (kind, key): count
        for (kind, key), count in found.events.items()
        if key is not None and kind.endswith(("Succeeded", "Failed", "Cancelled", "TimedOut"))
    }
    retried = {operation.id for operation in found.operations if operation.name == "shaky"}
    twice = {end: count for end, count in ends.items() if count > 1 and end[1] not in retried}
    assert not twice, (where, twice)
    if program == "once":
        results = [operation for operation in found.operations if operation.name in set("abcdef")]
        assert {operation.name for operation in results} == set("abcdef"), where
        for operation in results:
            happened = found.effects[f"once {operation.name}"]
            assert happened <= 1, (where, operation.name, happened)
            assert happened == 1 or operation.status == "FAILED", (where, operation.name)
        assert found.ending[0] == "SUCCEEDED", (where, found.ending)
        return found
    assert found.ending == expected.ending, where
    assert shape(found.operations) == shape(expected.operations), where
    assert order(found.operations) == order(expected.operations), where
    assert set(found.effects) == set(expected.effects), where
    assert all(found.effects[what] >= count for what, count in expected.effects.items()), where
    return found


def measure(runs: int, seed: int) -> Counter[str]:
    """Run each program so often on each event loop, and count."""
    counts: Counter[str] = Counter()
    for program in PROGRAMS:
        for backend in BACKENDS:
            expected = run_once(program, backend, 0, takeovers=0)
            for number in range(runs):
                found = check(program, backend, seed + number, expected)
                counts["executions"] += 1
                counts["invocations"] += found.invocations
                counts["invocations that went on after another one had begun"] += found.takeovers
                counts["calls of theirs that were refused"] += found.refused
                counts["further runs of steps' bodies"] += sum(
                    max(0, count - expected.effects.get(what, 0)) for what, count in found.effects.items()
                )
    return counts
