"""What the tests of concurrency share: a world in virtual time, histories to compare, and crashes everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import anyio
import msgspec

from durable import DurableFunction
from durable._wire import InvocationOutput, Operation
from durable.abc import Clock
from durable.testing import SkippingClock, trio_schedule
from tests.harness import CrashError, Harness


class World:
    """What is outside of the execution: what happened there, and how long it takes."""

    def __init__(self) -> None:
        self.clock: Clock = SkippingClock()
        self._began = self.clock.now()
        # What was done, in order; a repeat is there twice.
        self.effects: list[str] = []
        # What is being done now, and the most that there ever was at once.
        self.running = 0
        self.most = 0

    def harness(self, function: DurableFunction[Any, Any], event: Any = None, *, name: str = "t-1") -> Harness:
        """An execution in this world."""
        harness = Harness(function, event, name=name)
        self.clock = harness.clock
        self._began = self.clock.now()
        self.effects.clear()
        return harness

    @property
    def seconds(self) -> float:
        """How much time has passed."""
        return (self.clock.now() - self._began) / 1000

    async def take(self, seconds: float) -> None:
        """Let time pass, as work does that somebody waits for."""
        await self.clock.sleep_until(self.clock.now() + round(seconds * 1000))

    async def do(self, what: str, seconds: float = 0, error: str = "") -> str:
        """A step's body: takes its time, then has its effect, and fails if it is to."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if seconds:
                await self.take(seconds)
        finally:
            self.running -= 1
        self.effects.append(what)
        if error:
            raise ValueError(error)
        return what

    async def undo(self, what: str) -> None:
        """A compensation's body."""
        self.effects.append(f"undo {what}")


def shape(operations: Iterable[Operation]) -> dict[str, tuple[Any, ...]]:
    """What is recorded, without times and the like: the same for every run that ended the same."""
    return {
        operation.id: (
            operation.type,
            operation.sub_type,
            operation.name,
            operation.parent_id,
            operation.status,
            operation.result,
            operation.error and (operation.error.error_type, operation.error.error_message),
        )
        for operation in operations
    }


def order(operations: Iterable[Operation]) -> dict[str | None, list[str]]:
    """In which order the operations of each context were first recorded; branches of one fan-out have none."""
    found: dict[str | None, list[str]] = {}
    unordered = {"MapIteration", "ParallelBranch"}
    for operation in operations:
        if operation.sub_type not in unordered:
            found.setdefault(operation.parent_id, []).append(operation.id)
    return found


def ending(output: InvocationOutput) -> tuple[str, str, str]:
    """How an execution ended, without stack traces."""
    error = output.error
    if error is None:
        return (output.status, output.result or "", "")
    return (output.status, error.error_type or "", _message(error))


def _message(error: Any) -> str:
    """A group's members are told too."""
    data = msgspec.json.decode(error.error_data) if error.error_data else {}
    members = data.get("exceptions") or [] if isinstance(data, dict) else []
    inside = [f"{member.get('ErrorType')}: {member.get('ErrorMessage')}" for member in members]
    return f"{error.error_message} {inside}" if inside else error.error_message or ""


def crash_at(number: int) -> Callable[[int], None]:
    """A hook for a client: the process dies at that call."""

    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash


async def outcome_with_crashes(
    harness: Harness, *, before: int = 0, after: int = 0
) -> tuple[InvocationOutput, bool]:
    """Run to the end, with a crash at that call; and whether there was such a call."""
    harness.client.before = crash_at(before)
    harness.client.after = crash_at(after)
    crashed = False
    while True:
        try:
            return await harness.outcome(), crashed
        except CrashError:
            crashed = True


def one_history(make: Callable[[], DurableFunction[Any, Any]], world: World, *, seeds: int = 30) -> None:
    """Whatever order trio runs tasks in, all that is recorded is the same, and so is how it ends."""
    found: list[Any] = []

    async def run() -> None:
        harness = world.harness(make())
        output = await harness.outcome()
        found.append((ending(output), shape(harness.operations()), order(harness.operations())))

    for seed in range(seeds):
        with trio_schedule(seed):
            anyio.run(run, backend="trio")
        assert found[-1] == found[0], f"seed {seed}"
