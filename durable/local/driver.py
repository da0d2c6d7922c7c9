"""What keeps executions going: invoke, wait, invoke again.

An execution is driven by one task as long as it does something. When it waits, its task ends; only an entry in one
heap of timers stays, and one task for all of them sleeps until the earliest. So ten thousand that wait cost ten
thousand entries.

How an invocation ends says what comes next:

  the execution is over                         its run ends
  PENDING, something falls due at T             invoke again at T
  PENDING, nothing is pending                   invoke again at once; the fourth time in a row the execution fails
  it raised, or the store did                   invoke again after 1, 2, 4, ... up to 60 seconds
  its code does not follow its history          its run ends with that; the execution waits for other code
  it was cancelled, as the engine is closed     nothing: the execution stays as it is, and can be resumed
"""

from __future__ import annotations

import heapq
import itertools
import logging
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._kernel.errors import encode_error
from .._wire import ErrorObject, ExecutionStatus, InvocationOutput, Timestamp
from ..abc import Clock, ExecutionRecord
from ..exceptions import EngineClosedError, NonDeterminismError
from .run import Run
from .service import LocalService

_log = logging.getLogger("durable.local")

IDLE_ANSWERS: Final = 3
"""How often PENDING with nothing pending is let pass (the official runner's number)."""

FIRST_DELAY: Final = 1_000
LAST_DELAY: Final = 60_000
"""Milliseconds before an invocation that raised is repeated: doubled each time, from the first to the last."""

KEPT_IN_MEMORY: Final = 10_000
"""Milliseconds: what waits longer than that is read from the store again."""


class Driver:
    """Drives the executions of one engine.

    Args:
        service: Where they are.
        clock: What time it is.
        tasks: The engine's task group.
    """

    def __init__(self, service: LocalService, clock: Clock, tasks: TaskGroup) -> None:
        self._service = service
        self._clock = clock
        self._tasks = tasks
        # Those that are driven now, invoked or waiting, by name: at most one run an execution.
        self._runs: dict[str, Run[Any]] = {}
        self._numbers = itertools.count()
        # Who is to be invoked when; numbered, as those of one instant go in the order in which they came.
        self._timers: list[tuple[int, int, Run[Any]]] = []
        # What the timekeeper sleeps under; cancelled when there is an earlier timer than the one it sleeps for.
        self._sleep = anyio.CancelScope()

    def find(self, name: str) -> Run[Any] | None:
        """The run of an execution that is driven now."""
        return self._runs.get(name)

    def drive(self, run: Run[Any]) -> None:
        """Keep an execution going until it is over."""
        self._runs[run.name] = run
        self._start(run)

    def close(self) -> None:
        """Tell those who wait for executions that are not over: this engine does not go on with them."""
        for run in list(self._runs.values()):
            self._end(run, EngineClosedError())

    async def keep_time(self) -> None:
        """Invoke again what has waited long enough; runs as long as the engine."""
        while True:
            with anyio.CancelScope() as self._sleep:
                if not self._timers:
                    await anyio.sleep_forever()
                await self._clock.sleep_until(self._timers[0][0])
            now = self._clock.now()
            while self._timers and self._timers[0][0] <= now:
                self._start(heapq.heappop(self._timers)[2])

    def _start(self, run: Run[Any]) -> None:
        self._tasks.start_soon(self._drive, run, name=f"durable execution {run.name}")

    def _end(self, run: Run[Any], outcome: ExecutionRecord | Exception) -> None:
        self._runs.pop(run.name, None)
        run.end(outcome)

    async def _drive(self, run: Run[Any]) -> None:
        while True:
            try:
                due = await self._invoke(run)
            except Exception:  # noqa: BLE001 - logged, and tried again for as long as the engine lives
                # The store could not be read or written. Its disk may be full, for a while.
                _log.exception("execution %r could not be driven, it will be tried again", run.name)
                due = self._after_failure(run)
            if due is None:
                return
            if due > self._clock.now():
                self._wait(run, due)
                return
            await anyio.lowlevel.checkpoint()

    async def _invoke(self, run: Run[Any]) -> int | None:
        """One invocation. Returns when the next one is due, or `None`: there is none."""
        # Recorded as over by a call whose invocation did not live to answer: there is nothing more to do.
        if await self._ended(run):
            return None
        event = await self._service.begin_invocation(run.id)
        raised: Exception | None = None
        outcome: InvocationOutput | ErrorObject
        try:
            outcome = await run.function.invoke(event, self._service, clock=self._clock)
        except Exception as error:  # noqa: BLE001 - whatever it is, the execution is invoked again
            raised = error
            outcome = encode_error(error)
        made_sense = await self._service.end_invocation(run.id, outcome, accept_idle=run.idle < IDLE_ANSWERS)
        if await self._ended(run):
            return None
        if isinstance(raised, NonDeterminismError):
            self._service.forget(run.id)
            self._end(run, raised)
            return None
        if raised is not None:
            _log.warning("an invocation of execution %r raised, it will be repeated", run.name, exc_info=raised)
            return self._after_failure(run)
        run.raised = 0
        if not made_sense:
            run.idle += 1
            return self._clock.now()
        run.idle = 0
        return await self._service.next_due(run.id)

    async def _ended(self, run: Run[Any]) -> bool:
        record = await self._service.record(run.id)
        if record.status is ExecutionStatus.RUNNING:
            return False
        self._service.forget(run.id)
        self._end(run, record)
        return True

    def _after_failure(self, run: Run[Any]) -> Timestamp:
        delay = min(FIRST_DELAY << min(run.raised, 16), LAST_DELAY)
        run.raised += 1
        return Timestamp(self._clock.now() + delay)

    def _wait(self, run: Run[Any], due: int) -> None:
        if due - self._clock.now() > KEPT_IN_MEMORY:
            self._service.forget(run.id)
        entry = (due, next(self._numbers), run)
        heapq.heappush(self._timers, entry)
        if self._timers[0] is entry:
            self._sleep.cancel()
