"""An engine at work in this process, followed until all is over or somebody says stop."""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import Any, Final

import anyio
import anyio.abc
import msgspec

from .._wire import ExecutionStatus
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..exceptions import DurableError, EngineClosedError, StoreNotFoundError
from ..local import Engine, Run, open_engine
from .exits import ExitCode, code_of, exit_in, worst
from .options import Backend, CommandError
from .story import Moment, Story

PATIENCE: Final = 1.0
"""Seconds after which it is said what an engine that was told to stop still waits for."""

_CODES: Final = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}


class Followed:
    """One execution that is followed.

    Attributes:
        record: The execution, as it was when it began to be followed.
        run: What runs here, if it does.
        past: What had happened before, if it was there before.
        story: What has happened.
    """

    def __init__(self, record: ExecutionRecord, run: Run[Any] | None, past: Sequence[Event] = ()) -> None:
        self.record = record
        self.run = run
        self.past = past
        self.story = Story()

    @property
    def name(self) -> str:
        """The execution's name."""
        return self.record.name

    @property
    def existed(self) -> bool:
        """Whether it was there before: every execution has its first event as soon as it is there."""
        return bool(self.past)

    @property
    def was_over(self) -> bool:
        """Whether it had ended before."""
        return self.existed and self.record.status.is_over


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How following an execution ended.

    Attributes:
        code: What the process ends with, on account of this execution.
        record: The execution, if it is over.
        error: Why it does not go on here, if it is not.
    """

    code: ExitCode
    record: ExecutionRecord | None = None
    error: DurableError | None = None


class View(ABC):
    """Tells what happens, in its own way."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[object]:
        """What has to be around the telling."""

    @abstractmethod
    def begin(self, followed: Followed) -> None:
        """An execution is followed from now on. Called for each before anything is told."""

    @abstractmethod
    def tell(self, followed: Followed, event: Event, moments: Sequence[Moment]) -> None:
        """An event, and what it means."""

    @abstractmethod
    def resumed(self, followed: Followed, moments: Sequence[Moment]) -> None:
        """What is run again, and what is awaited still, now that all that happened before has been told."""

    @abstractmethod
    def end(self, followed: Followed, ending: Ending) -> None:
        """An execution has ended, or does not go on here."""

    @abstractmethod
    def stopping(self) -> None:
        """Told to stop; something takes its time."""

    @abstractmethod
    def close(self) -> None:
        """Leave everything as it was found; also when the process is about to end at once."""


Pick = Callable[[Engine], Awaitable[list[Followed]]]
"""Starts or resumes what is to be followed."""


class Session:
    """One engine at work.

    Args:
        path: The store.
        view: Who tells.
        pick: What to follow.
    """

    def __init__(self, path: str, view: View, pick: Pick) -> None:
        self._path = path
        self._view = view
        self._pick = pick
        # Cancelled when a signal says stop.
        self._scope = anyio.CancelScope()
        self._signal: signal.Signals | None = None
        self._codes: list[ExitCode] = []
        # What has begun to be followed and has not been told the end of.
        self._open: dict[str, Followed] = {}
        self._failure: Exception | None = None

    async def run(self) -> ExitCode:
        """Follow all to their ends.

        Raises:
            DurableError: Nothing could be followed.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch_signals, tasks)
            try:
                with self._view.opened(), self._scope:
                    await self._work()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group and its wrapping
                self._failure = error
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        return worst([*self._codes, *([] if self._signal is None else [_CODES[self._signal]])])

    async def _work(self) -> None:
        try:
            async with open_engine(self._path) as engine:
                followed = await self._pick(engine)
                await self._follow_all(followed)
        finally:
            # Those that go on some other time; told once the engine has been closed.
            self._end_open()

    async def _follow_all(self, followed: Sequence[Followed]) -> None:
        self._open = {one.name: one for one in followed}
        for one in followed:
            self._view.begin(one)
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:

            async def follow(one: Followed) -> None:
                nonlocal failure
                try:
                    await self._follow(one)
                except Exception as error:  # noqa: BLE001 - raised below, as above
                    failure = error
                    tasks.cancel_scope.cancel()

            for one in followed:
                tasks.start_soon(follow, one)
        if failure is not None:
            raise failure

    async def _follow(self, followed: Followed) -> None:
        story, view, run = followed.story, self._view, followed.run
        if run is None:
            raise AssertionError("what a session follows runs here")
        for event in followed.past:
            view.tell(followed, event, story.recall([event]))
        if not followed.was_over:
            view.resumed(followed, story.resume(round(time.time() * 1000)))
        try:
            async with aclosing(run.events(story.last_event)) as events:
                async for event in events:
                    view.tell(followed, event, story.tell(event))
            record = await run.wait()
        except DurableError as error:
            self._end(followed, Ending(code=max(code_of(error), ExitCode.UNFINISHED), error=error))
        else:
            succeeded = record.status is ExecutionStatus.SUCCEEDED
            self._end(followed, Ending(code=ExitCode.SUCCEEDED if succeeded else ExitCode.FAILED, record=record))

    def _end(self, followed: Followed, ending: Ending) -> None:
        del self._open[followed.name]
        self._codes.append(ending.code)
        self._view.end(followed, ending)

    def _end_open(self) -> None:
        """Tell of those that go on some other time."""
        if self._signal is not None:
            for one in self._open.values():
                self._view.end(one, Ending(code=_CODES[self._signal], error=EngineClosedError()))

    async def _watch_signals(self, tasks: anyio.abc.TaskGroup) -> None:
        with anyio.open_signal_receiver(*_CODES) as signals:
            async for number in signals:
                if self._signal is None:
                    self._signal = number
                    self._scope.cancel()
                    tasks.start_soon(self._say_what_takes_time)
                else:
                    # A thread of the user's cannot be stopped. The store is made for a process that just ends.
                    self._view.close()
                    self._end_open()
                    os._exit(_CODES[number])

    async def _say_what_takes_time(self) -> None:
        await anyio.sleep(PATIENCE)
        self._view.stopping()


def run_session(path: str, view: View, pick: Pick, backend: Backend) -> ExitCode:
    """Run an engine on an event loop, and follow what is picked.

    Raises:
        CommandError: The event loop is not installed.
        DurableError: Nothing could be followed.
    """
    if backend is Backend.TRIO:
        try:
            import trio as trio
        except ImportError as error:
            raise CommandError("trio is not installed: pip install 'durable[trio]'") from error
    exits: list[SystemExit] = []
    code = ExitCode.UNFINISHED
    try:
        code = anyio.run(_run, path, view, pick, exits, backend=backend.value)
    except SystemExit as error:  # asyncio ends the whole loop by it
        exits.append(error)
    if exits:
        raise CommandError(
            f"the code that was run called for the end of the process ({exits[0]!r}): "
            "what was not over stays as it is",
            code=ExitCode.UNFINISHED,
        ) from exits[0]
    return code


def check_store(path: str) -> None:
    """Refuse a store that is not there, where none is to be made.

    Raises:
        StoreNotFoundError: There is none.
    """
    if not os.path.exists(path):  # noqa: PTH110 - a path as it was typed
        raise StoreNotFoundError(path)


async def _run(path: str, view: View, pick: Pick, exits: list[SystemExit]) -> ExitCode:
    try:
        return await Session(path, view, pick).run()
    except BaseExceptionGroup as group:
        found = exit_in(group)
        if found is None:
            raise
        exits.append(found)
        return ExitCode.UNFINISHED
