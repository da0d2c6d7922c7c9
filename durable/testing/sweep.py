"""Crashes everywhere: a test is run again and again, and each time its process dies somewhere else.

Every call that records something is a place to die at: before anything of it is recorded, and after all of it is,
but before anybody has heard. First each place alone, in order, then pairs of places, the earliest first: what fails
first is the smallest.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import anyio
import msgspec

from .._kernel.history import describe
from .._wire import OperationUpdate
from ..abc import ExecutionRecord
from ..exceptions import DurableError
from ..function import DurableFunction
from ..local.machine.execution import name_of
from .conditions import conditions, under
from .harness import DurableTest, durable_test
from .probe import Crash, KitProbe
from .run import TestRun

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

MOST_PAIRS = 100
"""Pairs of crashes that are tried, if nobody says otherwise."""

LIMIT = 60.0
"""Seconds, of real time, that one run may take."""


class CrashSweepReport(msgspec.Struct, frozen=True):
    """What a sweep has tried; nothing went wrong.

    Attributes:
        calls: How many calls the test makes if nothing crashes.
        singles: Runs with one crash.
        pairs: Runs with two.
        skipped_pairs: Pairs that were not tried, as there are too many.
    """

    calls: int
    singles: int
    pairs: int
    skipped_pairs: int

    def __str__(self) -> str:
        return (
            f"{self.calls} calls, {self.singles} runs with one crash, {self.pairs} with two "
            f"({self.skipped_pairs} pairs were not tried)"
        )


class CrashSweepError(DurableError, AssertionError):
    """A test that passes fails when its process dies. What it failed with is the cause.

    Attributes:
        crashes: Where the process died.
        calls: What had been recorded by then, call by call, by execution.
    """

    def __init__(self, crashes: Sequence[Crash], calls: Sequence[str], error: BaseException) -> None:
        where = " and ".join(map(str, crashes))
        history = "\n  ".join(calls) or "nothing"
        super().__init__(
            f"with a crash {where}: {type(error).__name__}: {error}\nwhat was recorded, call by call:\n  {history}"
        )
        self.crashes = tuple(crashes)
        self.calls = tuple(calls)


async def sweep(
    test: Callable[[], Awaitable[object]], *, pairs: int = MOST_PAIRS, limit: float = LIMIT
) -> CrashSweepReport:
    """Run a test that passes again and again, with a crash at every place, and with pairs of them.

    Args:
        test: Opens a `durable_test`, once, and whatever else it needs, anew each time.
        pairs: How many pairs of crashes are tried, at most.
        limit: Seconds, of real time, that one run may take.

    Raises:
        CrashSweepError: A run failed: the first one, with the fewest and earliest crashes.
        Exception: What the test fails with although nothing crashes.
        ValueError: The test opens none, or more than one.
    """
    calls = await _run(test, (), limit)
    reach: dict[Crash, int] = {}
    for crash in _crashes(1, calls):
        reach[crash] = await _run(test, (crash,), limit)
    chosen = sorted(
        ((first, second) for first, last in reach.items() for second in _crashes(first.call + 1, last)),
        key=lambda pair: (pair[1].call, pair),
    )
    for pair in chosen[:pairs]:
        await _run(test, pair, limit)
    tried = min(pairs, len(chosen))
    return CrashSweepReport(calls, len(reach), tried, len(chosen) - tried)


async def crash_everywhere(
    function: DurableFunction[InputT, ResultT],
    event: InputT,
    *,
    check: Callable[[TestRun[ResultT]], object] | None = None,
    prepare: Callable[[DurableTest[InputT, ResultT]], object] | None = None,
    pairs: int = MOST_PAIRS,
    limit: float = LIMIT,
) -> CrashSweepReport:
    """Run a durable function to its end, with a crash before and after every record, and with pairs of crashes.

    However often it crashes it has to end as it does without: with the same status and the same result or error.

    Args:
        function: Made by `@durable_execution`.
        event: Its input.
        check: Called after each run, with it; async or not. It raises if something is not as it should be.
        prepare: Called before each run with the `DurableTest`; async or not. It sets up anew what steps act upon,
            and what the execution needs from outside: `t.on_callback`, `t.stub_invoke`, `t.fail_step`.
        pairs: How many pairs of crashes are tried, at most.
        limit: Seconds, of real time, that one run may take.

    Raises:
        CrashSweepError: The first violation, with the fewest and earliest crashes.
        Exception: What `check` raises although nothing crashed.
    """
    expected: list[tuple[Any, ...]] = []

    async def test() -> None:
        async with durable_test(function) as t:
            await _called(prepare, t)
            run = await t.start(event, name="sweep")
            ended = _ending(await run.wait())
            if not expected:
                expected.append(ended)
            if ended != expected[0]:
                raise AssertionError(f"it ended as {_told(ended)}; without a crash it ends as {_told(expected[0])}")
            await _called(check, run)

    return await sweep(test, pairs=pairs, limit=limit)


async def _run(test: Callable[[], Awaitable[object]], crashes: Sequence[Crash], limit: float) -> int:
    """One run; how many calls it made."""
    probes: list[KitProbe] = []
    changed = msgspec.structs.replace(conditions(), crashes=crashes, on_probe=probes.append)
    try:
        with under(changed), anyio.fail_after(limit):
            await test()
    except Exception as error:
        if not crashes:
            raise
        raise CrashSweepError(crashes, [line for probe in probes for line in _lines(probe)], error) from error
    if len(probes) != 1:
        raise ValueError(f"what is swept opens one durable_test, not {len(probes)}")
    return probes[0].calls


def _crashes(first: int, last: int) -> Iterator[Crash]:
    for call in range(first, last + 1):
        yield Crash(call, "before")
        yield Crash(call, "after")


def _lines(probe: KitProbe) -> Iterator[str]:
    many = len(probe.recorded) > 1
    for arn, calls in probe.recorded.items():
        name = name_of(arn)
        for call in calls:
            told = ", ".join(_line(update) for update in call)
            yield f"{name}: {told}" if many else told


def _line(update: OperationUpdate) -> str:
    error = f" ({update.error.error_type}: {update.error.error_message})" if update.error is not None else ""
    return f"{describe(update.sub_type or update.type, update.name)} {update.action}{error}"


def _ending(record: ExecutionRecord) -> tuple[Any, ...]:
    error = record.error
    return (record.status, record.result, error and error.error_type, error and error.error_message)


def _told(ending: tuple[Any, ...]) -> str:
    status, result, kind, message = ending
    return f"{status} with {result}" if kind is None else f"{status} with {kind}: {message}"


async def _called(function: Callable[..., object] | None, argument: object) -> None:
    if function is None:
        return
    outcome = function(argument)
    if inspect.isawaitable(outcome):
        await outcome
