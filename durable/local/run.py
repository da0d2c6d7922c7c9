"""One execution as whoever started or resumed it sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Generic, TypeVar

import anyio

from .._wire import ExecutionStatus
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..exceptions import EngineClosedError, ExecutionFailedError
from ..function import DurableFunction
from .service import LocalService

ResultT = TypeVar("ResultT")


class Run(Generic[ResultT]):
    """An execution, running or over. Made by `Engine.start` and `Engine.resume`.

    Attributes:
        name: The execution's name.
        id: Its id.
        arn: What its function knows it by.
    """

    def __init__(
        self, record: ExecutionRecord, function: DurableFunction[Any, ResultT] | Exception, service: LocalService
    ) -> None:
        self.name = record.name
        self.id = record.id
        self.arn = record.arn
        # The function, or why it cannot be loaded.
        self._function = function
        self._service = service
        self._ended = anyio.Event()
        # How the execution ended, or why nothing more is heard of it here. Set once, before `_ended`.
        self._outcome: ExecutionRecord | Exception | None = None
        # What the driver remembers from one invocation to the next: how many in a row raised, and how many in a
        # row answered PENDING with nothing pending.
        self.raised = 0
        self.idle = 0
        # Whether it waits for what the service knows of; if not, it is invoked at `due`, in milliseconds.
        self.parked = False
        self.due = 0
        # Whether the chained invokes that an earlier engine left have been taken up; a new execution has none.
        self.taken_up = record.invocations == 0
        self.is_callee = record.caller is not None
        # Whether a task drives it. If not, it is in the heap of timers with this entry, or the outside wakes it.
        self.driven = False
        self.timer: tuple[int, int, Run[Any]] | None = None
        # The entry there by which it times out, if it does.
        self.limit: tuple[int, int, Run[Any]] | None = None
        # What its invocation runs under, while there is one.
        self.scope: anyio.CancelScope | None = None

    @property
    def function(self) -> DurableFunction[Any, ResultT]:
        """The execution's function.

        Raises:
            TargetNotFoundError, NotDurableError: It cannot be loaded.
        """
        if isinstance(self._function, Exception):
            raise self._function
        return self._function

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens here: the execution has ended, or this engine cannot run it."""
        return self._outcome is not None

    async def wait(self) -> ExecutionRecord:
        """Wait until the execution is over, however it ended; one that is paused is waited for as well.

        Returns:
            The execution as it ended.

        Raises:
            TargetNotFoundError, NotDurableError: Its function cannot be loaded, so it does not run.
            NonDeterminismError: Its function does not follow its history, so it does not go on.
            EngineClosedError: The engine was closed before the execution was over.
        """
        await self._ended.wait()
        if isinstance(self._outcome, ExecutionRecord):
            return self._outcome
        raise self._outcome or AssertionError("a run ends with an outcome")

    async def result(self) -> ResultT:
        """Wait until the execution is over, and return what its function returned.

        Raises:
            ExecutionFailedError: It ended without a result; the error it ended with is the cause.
            SerializationError: The result does not fit the function's annotation.
            DurableError: Nothing more is heard of it (see `wait`).
        """
        record = await self.wait()
        if record.status is ExecutionStatus.SUCCEEDED:
            return await self.function.load_result(record.result)
        error = record.error
        kind, message = (None, None) if error is None else (error.error_type, error.error_message)
        failed = ExecutionFailedError(self.name, record.status, kind, message)
        if error is None or isinstance(self._function, Exception):
            raise failed
        raise failed from self._function.decode_error(error)

    async def events(self, after: int = 0) -> AsyncGenerator[Event]:
        """Follow the execution's history to its end.

        Any number may follow, each at its own pace: events are read from what is recorded, so that none is missed.

        Args:
            after: Begin with the event after the one of this number.

        Raises:
            DurableError: Nothing more is heard of the execution (see `wait`). What was recorded has been told
                before, unless the engine was closed.
        """
        while True:
            # Looked at before reading: what is recorded after that comes with news or with the end.
            outcome = self._outcome
            if isinstance(outcome, EngineClosedError):
                raise outcome
            news = None if outcome is not None else self._service.news(self.id)
            events = await self._service.history(self.id, after)
            if outcome is not None:
                self._service.forget(self.id)
            for event in events:
                after = event.event_id
                yield event
            if news is not None:
                await news.wait()
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                return

    def end(self, outcome: ExecutionRecord | Exception) -> None:
        """The execution is over, or nothing more is heard of it here: tell those who wait. For the engine."""
        if self._outcome is None:
            self._outcome = outcome
            self._ended.set()
            self._service.tell(self.id)

    def __repr__(self) -> str:
        outcome = self._outcome
        if isinstance(outcome, ExecutionRecord):
            return f"<Run {self.name!r} {outcome.status}>"
        return f"<Run {self.name!r} {'running' if outcome is None else type(outcome).__name__}>"
