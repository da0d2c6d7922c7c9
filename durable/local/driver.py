"""What keeps executions going: invoke, wait, invoke again.

An execution is driven by one task as long as it does something. When it waits, its task ends; only an entry in one
heap of timers stays, and one task for all of them sleeps until the earliest. So ten thousand that wait cost ten
thousand entries; and one that waits for the outside alone, not even that.

How an invocation ends says what comes next:

  the execution is over                         its run ends
  PENDING, something falls due at T             invoke again at T, or when something changes from outside
  PENDING, something is pending without a time  invoke again when something changes from outside
  PENDING, nothing is pending                   invoke again at once; the fourth time in a row the execution fails
  it raised, or the store did                   invoke again after 1, 2, 4, ... up to 60 seconds
  its code does not follow its history          its run ends with that; the execution waits for other code
  it is paused                                  only what time brings is recorded, until somebody resumes it
  it was stopped from outside, or timed out     its run ends
  it was cancelled, as the engine is closed     nothing: the execution stays as it is, and can be resumed

No change from outside is missed: the service is asked, after the end of an invocation, whether there is one that
the invocation has not seen; and whoever makes one afterwards finds a run that waits, and wakes it. Between the two
there is no point at which anything else could run.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._kernel.errors import encode_error
from .._wire import InvocationOutput, Timestamp
from ..abc import Clock, ExecutionRecord
from ..exceptions import EngineClosedError, ExecutionNotFoundError, NonDeterminismError, StaleTokenError
from ..function import DurableFunction
from .machine.pausing import expires_at
from .outside import Outside
from .run import Run
from .service import LocalService, PausedError

_log = logging.getLogger("durable.local")

IDLE_ANSWERS: Final = 3
"""How often PENDING with nothing pending is let pass (the official runner's number)."""

FIRST_DELAY: Final = 1_000
LAST_DELAY: Final = 60_000
"""Milliseconds before an invocation that raised is repeated: doubled each time, from the first to the last."""

KEPT_IN_MEMORY: Final = 10_000
"""Milliseconds: what waits longer than that is read from the store again."""

_STALE_TIMERS: Final = 1_000
"""Timers beyond four for each run: then those of runs that were woken before are thrown away."""

Timer: TypeAlias = "tuple[int, int, Run[Any]]"
"""When, a number, and whose it is: of its run's `timer`, or of its `limit`."""


class Driver:
    """Drives the executions of one engine.

    Args:
        service: Where they are.
        clock: What time it is.
        tasks: The engine's task group.
    """

    def __init__(self, service: LocalService, clock: Clock, tasks: TaskGroup) -> None:
        self._service = service
        self._outside = Outside(service)
        self._clock = clock
        self._tasks = tasks
        # What is ambient where the engine was opened. Executions are started and woken from anywhere, from inside
        # of other executions as well: they inherit nothing from there.
        self._context = contextvars.copy_context()
        # Those that are driven now, invoked or waiting, by name: at most one run an execution.
        self._runs: dict[str, Run[Any]] = {}
        self._numbers = itertools.count()
        # Who is to be invoked when; numbered, as those of one instant go in the order in which they came. An entry
        # counts only as long as its run says that it is its own.
        self._timers: list[Timer] = []
        # What the timekeeper sleeps under; cancelled when there is an earlier timer than the one it sleeps for.
        self._sleep = anyio.CancelScope()

    def find(self, name: str) -> Run[Any] | None:
        """The run of an execution that is driven now."""
        return self._runs.get(name)

    def run(self, record: ExecutionRecord, function: DurableFunction[Any, Any] | Exception) -> Run[Any]:
        """Keep an execution going until it is over, unless it is already, or its function could not be loaded."""
        run = self._runs.get(record.name)
        if run is not None:
            return run
        run = Run(record, function, self._service)
        if record.status.is_over:
            run.end(record)
        elif isinstance(function, Exception):
            self._give_up(run, function)
        else:
            self._runs[run.name] = run
            self._start(run)
            when = expires_at(record)
            if when is not None:
                self.limit(run.name, when)
        return run

    def nudge(self, name: str) -> None:
        """Something changed from outside: have an execution that waits look at it. For the service."""
        run = self._runs.get(name)
        if run is not None and not run.driven:
            self._start(run)

    def cut(self, name: str) -> None:
        """An execution was stopped: cancel its invocation, or have its run end. For the service."""
        run = self._runs.get(name)
        if run is None:
            return
        if run.scope is not None:
            run.scope.cancel()
        elif not run.driven:
            run.parked, run.due = False, 0
            self._start(run)

    @property
    def is_going_on(self) -> bool:
        """Whether an execution does something, or will by itself when its time has come."""
        return any(run.driven or run.timer is not None or run.limit is not None for run in self._runs.values())

    def cut_off(self, name: str | None = None) -> None:
        """Abandon the invocations that are under way, or that of one execution, as if their process had died.

        Each of the executions is invoked again.
        """
        for run in self._runs.values():
            if run.scope is not None and name in {None, run.name}:
                run.scope.cancel()

    def drop(self, record: ExecutionRecord) -> None:
        """An execution was deleted: let go of its run, also if its invocation still winds down. For the service."""
        run = self._runs.get(record.name)
        if run is not None and run.id == record.id:
            self._end(run, record)

    def limit(self, name: str, when: Timestamp) -> None:
        """An execution times out then, and not when it was to before. For the service."""
        run = self._runs.get(name)
        if run is not None and (run.limit is None or run.limit[0] != when):
            run.limit = (when, next(self._numbers), run)
            self._push(run.limit)

    def close(self) -> None:
        """Tell those who wait for executions that are not over: this engine does not go on with them."""
        for run in list(self._runs.values()):
            self._end(run, EngineClosedError())

    def spawn(self, work: Callable[..., Coroutine[Any, Any, None]], *args: object, name: str) -> None:
        """Run something in the engine's task group, with what is ambient where the engine was opened."""

        def start() -> None:
            self._tasks.start_soon(work, *args, name=name)

        # A copy, as the task changes it, and as one context cannot be entered twice.
        self._context.copy().run(start)

    async def keep_time(self) -> None:
        """Invoke again what has waited long enough; runs as long as the engine."""
        while True:
            while self._timers and not _counts(self._timers[0]):
                heapq.heappop(self._timers)
            with anyio.CancelScope() as self._sleep:
                if not self._timers:
                    await anyio.sleep_forever()
                await self._clock.sleep_until(self._timers[0][0])
            now = self._clock.now()
            while self._timers and self._timers[0][0] <= now:
                entry = heapq.heappop(self._timers)
                run = entry[2]
                if run.limit is entry:
                    run.limit = None
                    self.spawn(self._time_out, run, name=f"durable time limit of {run.name}")
                elif run.timer is entry:
                    run.timer = None
                    if not run.driven:
                        self._start(run)

    def _start(self, run: Run[Any]) -> None:
        run.driven = True
        self.spawn(self._drive, run, name=f"durable execution {run.name}")

    def _end(self, run: Run[Any], outcome: ExecutionRecord | Exception) -> None:
        if self._runs.get(run.name) is run:  # one that was deleted is gone, and there may be another of its name
            del self._runs[run.name]
        run.timer = None
        if run.limit is not None:
            # A time limit is far away, as a rule: nobody is to be woken by one that does not count any more.
            is_first = self._timers[0] is run.limit
            run.limit = None
            if is_first:
                self._sleep.cancel()
        run.end(outcome)

    async def _time_out(self, run: Run[Any]) -> None:
        """End an execution whose time is over, whatever it is doing."""
        delay = FIRST_DELAY
        while not run.is_over:
            try:
                later = await self._outside.time_out(run.id)
            except Exception:  # noqa: BLE001 - logged, and tried again for as long as the engine lives
                _log.exception("execution %r could not be timed out, it will be tried again", run.name)
                await self._clock.sleep_until(self._clock.now() + delay)
                delay = min(delay * 2, LAST_DELAY)
            else:
                if later is not None:
                    self.limit(run.name, later)
                else:  # it is over; and that was not told, if whoever ended it had no answer from the store
                    self.cut(run.name)
                return

    async def _drive(self, run: Run[Any]) -> None:
        while not run.is_over:
            try:
                due = await self._service.next_due(run.id) if run.parked else run.due
                if due is None or due > self._clock.now():
                    self._wait(run, due)
                    return
                if not run.taken_up:
                    await self._service.take_up(run.id)
                    run.taken_up = True
                await self._invoke(run)
            except PausedError:
                run.parked = True  # until something falls due, or somebody resumes it
            except ExecutionNotFoundError as error:
                self._end(run, error)  # somebody has deleted it
            except Exception:  # noqa: BLE001 - logged, and tried again for as long as the engine lives
                # The store could not be read or written. Its disk may be full, for a while.
                _log.exception("execution %r could not be driven, it will be tried again", run.name)
                self._fail(run)
            await anyio.lowlevel.checkpoint()

    async def _invoke(self, run: Run[Any]) -> None:
        """One invocation. What comes next is left in the run."""
        answer = await self._answer(run)
        if answer is None:
            run.parked, run.due = False, 0  # if it is not over it was cut off, and begins anew
            await self._ended(run)
            return
        raised = answer if isinstance(answer, Exception) else None
        outcome = encode_error(answer) if isinstance(answer, Exception) else answer
        made_sense = await self._service.end_invocation(run.id, outcome, accept_idle=run.idle < IDLE_ANSWERS)
        if await self._ended(run):
            return
        if isinstance(raised, NonDeterminismError):
            self._give_up(run, raised)
        elif raised is not None:
            _log.warning("an invocation of execution %r raised, it will be repeated", run.name, exc_info=raised)
            self._fail(run)
        else:
            run.raised = 0
            run.idle = 0 if made_sense else run.idle + 1
            run.parked = made_sense
            run.due = self._clock.now()

    async def _answer(self, run: Run[Any]) -> InvocationOutput | Exception | None:
        """What an invocation answers or raises; `None` if the execution is over."""
        try:
            event = await self._service.begin_invocation(run.id)
        except StaleTokenError:
            # Somebody has stopped it; or a call has ended it whose invocation did not live to answer.
            return None
        with anyio.CancelScope() as scope:
            run.scope = scope
            try:
                return await run.function.invoke(event, self._service, clock=self._clock)
            except Exception as error:  # noqa: BLE001 - whatever it is, the execution is invoked again
                return error
            finally:
                run.scope = None
        return None

    async def _ended(self, run: Run[Any]) -> bool:
        record = await self._service.record(run.id)
        if not record.status.is_over:
            return False
        await self._outside.tell_caller(record)
        self._service.forget(run.id)
        self._end(run, record)
        return True

    def _give_up(self, run: Run[Any], why: Exception) -> None:
        if run.is_callee:  # whoever waits for it is not here to be told
            _log.error("execution %r does not go on, and whoever invoked it waits", run.name, exc_info=why)
        self._service.forget(run.id)
        self._end(run, why)

    def _fail(self, run: Run[Any]) -> None:
        """Have it invoked again, later each time."""
        run.parked = False
        run.due = self._clock.now() + min(FIRST_DELAY << min(run.raised, 16), LAST_DELAY)
        run.raised += 1

    def _wait(self, run: Run[Any], due: int | None) -> None:
        run.driven = False
        if due is None or due - self._clock.now() > KEPT_IN_MEMORY:
            self._service.forget(run.id)
        if due is None:
            run.timer = None
        elif run.timer is None or run.timer[0] != due:
            run.timer = (due, next(self._numbers), run)
            self._push(run.timer)

    def _push(self, entry: Timer) -> None:
        heapq.heappush(self._timers, entry)
        if self._timers[0] is entry:
            self._sleep.cancel()
        if len(self._timers) > 4 * len(self._runs) + _STALE_TIMERS:
            self._timers = [entry for entry in self._timers if _counts(entry)]
            heapq.heapify(self._timers)


def _counts(entry: Timer) -> bool:
    """Whether a timer is still one: those that are put off or not needed any more stay where they are."""
    run = entry[2]
    return run.timer is entry or run.limit is entry
