"""What the saga tests share: a world in which effects can be seen, and runs that crash everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from durable import DurableFunction, current_step
from durable._wire import InvocationOutput, InvocationStatus, Operation
from durable.abc import Clock
from durable.local.outside import Outside
from tests.harness import CrashError, Harness, crash_points

LOG: list[Any] = []
"""What has happened in the world, in order. Empty when a test begins (see conftest.py)."""


_SOON = 6
"""How many calls after a crash a second one may come."""

_CLOCKS: list[Clock] = []
"""The clock of the run that goes on."""


def begin(harness: Harness) -> None:
    """Let `take` go by this one's clock."""
    _CLOCKS[:] = [harness.clock]


class Full(Exception):
    """No room."""


async def take(seconds: float) -> None:
    """Let time pass, as work does that somebody waits for."""
    clock = _CLOCKS[-1]
    await clock.sleep_until(clock.now() + round(seconds * 1000))


async def book(what: str) -> str:
    LOG.append(f"book {what}")
    return what


async def book_slowly(what: str, seconds: float) -> str:
    await take(seconds)
    return await book(what)


async def cancel(what: str) -> None:
    LOG.append(f"cancel {what}")


async def cancel_slowly(what: str) -> None:
    await take(5)
    LOG.append(f"cancel {what}")


async def cannot_cancel(what: str) -> None:
    LOG.append(f"try to cancel {what}")
    raise Full(what)


async def refuse(what: str) -> str:
    LOG.append(f"refuse {what}")
    raise Full(what)


async def refuse_slowly(what: str, seconds: float) -> str:
    await take(seconds)
    return await refuse(what)


async def tidy(what: str) -> None:
    LOG.append(f"tidy {what}")


async def note(what: str) -> None:
    LOG.append(what)


# --- Runs ----------------------------------------------------------------------------------------------------

World = Callable[[Harness], Awaitable[None]]
"""The outside world: called whenever an invocation has ended with something pending."""


@dataclass
class Ran:
    """One execution that is over.

    Attributes:
        harness: What it ran on.
        output: How it ended.
        log: What happened in the world.
        crashes: How many crashes there were.
    """

    harness: Harness
    output: InvocationOutput
    log: list[Any]
    crashes: int = 0

    @property
    def ending(self) -> tuple[Any, ...]:
        """How it ended, without the stack trace."""
        error = self.output.error
        shown = None if error is None else (error.error_type, error.error_message, error.error_data)
        return self.output.status, self.output.result, shown

    @property
    def undone(self) -> list[Any]:
        """What was undone, each the first time."""
        return [entry for entry in dict.fromkeys(self.log) if str(entry).startswith(("cancel", "try to cancel"))]

    @property
    def happened(self) -> list[Any]:
        """What happened, each the first time."""
        return list(dict.fromkeys(self.log))

    @property
    def repeats(self) -> int:
        """How often something happened that had happened before."""
        return len(self.log) - len(self.happened)

    @property
    def shape(self) -> list[tuple[Any, ...]]:
        """What is recorded, without times: the same for every run that went the same way."""
        return sorted(map(_shape, self.harness.operations()), key=repr)

    def result(self) -> Any:
        """What it returned."""
        assert self.output.status is InvocationStatus.SUCCEEDED, self.output
        return self.harness.function.decode_result(self.output.result)

    def error(self) -> Exception:
        """What it failed with."""
        assert self.output.status is InvocationStatus.FAILED, self.output
        return self.harness.function.decode_error(self.output.error)


def _shape(operation: Operation) -> tuple[Any, ...]:
    error = operation.error
    shown = None if error is None else (error.error_type, error.error_message, error.error_data)
    attempt = None if operation.step_details is None else operation.step_details.attempt
    return (
        operation.id,
        operation.parent_id,
        operation.type,
        operation.sub_type,
        operation.name,
        operation.status,
        attempt,
        operation.result,
        shown,
    )


async def run(
    function: DurableFunction[Any, Any],
    event: Any = None,
    *,
    world: World | None = None,
    name: str = "t-1",
    before: Sequence[int] = (),
    after: Sequence[int] = (),
    resumed_by: DurableFunction[Any, Any] | None = None,
    invocations: int = 100,
) -> Ran:
    """Run an execution to its end, with crashes on the way.

    Args:
        function: What to run.
        event: Its input.
        world: The outside world.
        name: The execution's name.
        before: Numbers of the calls (from 1, over all invocations) before which the process dies.
        after: The same, after the call was applied, and before anybody is told.
        resumed_by: The code from the first crash on.
        invocations: How many there may be.
    """
    LOG.clear()
    harness = Harness(function, event, name=name)
    begin(harness)
    harness.client.before = _crash_at(before)
    harness.client.after = _crash_at(after)
    crashes = 0
    for _ in range(invocations):
        try:
            output = await harness.invoke(resumed_by if crashes else None)
        except CrashError:
            crashes += 1
            continue
        if output.status is not InvocationStatus.PENDING:
            return Ran(harness, output, list(LOG), crashes)
        if world is not None:
            await world(harness)
        due = await harness.service.next_due(harness.record.id)
        if due is not None:
            await harness.clock.sleep_until(due)
    raise AssertionError(f"not over after {invocations} invocations: {harness.calls[-5:]}")


def _crash_at(numbers: Sequence[int]) -> Callable[[int], None]:
    def crash(number: int) -> None:
        if number in numbers:
            raise CrashError

    return crash


async def crash_everywhere(
    function: DurableFunction[Any, Any],
    event: Any = None,
    *,
    world: World | None = None,
    twice: bool = False,
    same_shape: bool = True,
    compare: bool = True,
    when: str | None = None,
    resumed_by: DurableFunction[Any, Any] | None = None,
) -> list[tuple[str, Ran]]:
    """Run an execution again and again, with a crash before or after each call; or with two.

    Checks of each run what holds for every one: it ends the same, the same things have happened in the same order,
    a crash makes at most one of them happen a second time, and what is recorded is the same.

    Args:
        function: What to run.
        event: Its input.
        world: The outside world.
        twice: Whether there is a second crash, at each of the next calls, after each first one.
        same_shape: Whether what is recorded must be the same: of what is cancelled the START may be missing.
        compare: Whether to check anything.
        when: Only `"before"` or only `"after"`.
        resumed_by: The code from the first crash on; then nothing is checked.

    Returns:
        Each run, and where it crashed, for people.
    """
    whole = await run(function, event, world=world)
    every: list[tuple[str, Ran]] = []
    for place in ("before", "after") if when is None else (when,):

        async def crashing(*numbers: int, when: str = place) -> tuple[str, Ran]:
            hooks = {"before": numbers if when == "before" else (), "after": numbers if when == "after" else ()}
            ran = await run(
                function, event, world=world, before=hooks["before"], after=hooks["after"], resumed_by=resumed_by
            )
            return f"{when} call {' and '.join(map(str, numbers))}", ran

        for number in crash_points():
            runs = [await crashing(number)]
            if not runs[0][1].crashes:
                assert number > len(runs[0][1].harness.calls)
                break
            if twice:
                soon = range(number + 1, min(number + _SOON, len(runs[0][1].harness.calls)) + 1)
                others = itertools.islice(crash_points(number), len(soon))
                runs += [await crashing(number, other) for other in others if other in soon]
            for where, ran in runs:
                if compare and resumed_by is None:
                    _check(whole, ran, where, same_shape=same_shape)
            every += runs
    return every


def _check(whole: Ran, ran: Ran, place: str, *, same_shape: bool) -> None:
    assert ran.ending == whole.ending, place
    assert ran.happened == whole.happened, place
    assert ran.repeats <= whole.repeats + ran.crashes, (place, ran.log)
    if same_shape:
        assert ran.shape == whole.shape, place


async def sweep(function: DurableFunction[Any, Any], event: Any = None, **options: Any) -> Ran:
    """The run without a crash, after all those with one have been checked against it."""
    await crash_everywhere(function, event, **options)
    return await run(function, event, world=options.get("world"))


# --- The outside world ---------------------------------------------------------------------------------------


def callbacks(harness: Harness) -> list[Operation]:
    """The callbacks that wait for somebody, oldest first."""
    return [
        operation
        for operation in harness.operations()
        if operation.callback_details is not None and operation.status == "STARTED"
    ]


async def answer(harness: Harness, name: str, result: str | None) -> None:
    """Complete the callback of that name."""
    (callback,) = (operation for operation in callbacks(harness) if operation.name == name)
    assert callback.callback_details is not None
    await Outside(harness.service).succeed_callback(callback.callback_details.callback_id or "", result)


def key_of() -> str:
    """The idempotency key of what runs."""
    return current_step().idempotency_key
