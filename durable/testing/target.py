"""Where a test's executions run: the embedded engine in virtual time, or a function that is deployed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import msgspec

from .._wire import ErrorObject, Operation, OperationStatus, OperationUpdate
from .._wire.events import Event, EventType
from ..abc import Change, Clock, EventRecord, ExecutionRecord, Store
from ..exceptions import DurableError
from ..function import DurableFunction
from ..local.engine import Engine
from ..local.machine.execution import new_record
from ..local.run import Run
from ..local.targets import target_of
from .history import History
from .probe import KitProbe

T = TypeVar("T")


class StuckError(DurableError, AssertionError):
    """Nothing goes on any more, and the execution is not over: it waits for what the test does not do."""

    def __init__(self, name: str, waits_for: Sequence[str]) -> None:
        what = "; ".join(waits_for) or "the outside"
        super().__init__(
            f"execution {name!r} is not over and nothing goes on: it waits for {what}. Complete a callback with "
            "`await (await run.callback(NAME)).succeed(...)` or t.on_callback(NAME, ...); a function that it "
            "invokes is known by t.register(...) or t.stub_invoke(NAME, ...)"
        )


class Started(ABC):
    """One execution, as a test has it.

    Attributes:
        name: Its name.
        arn: What its function knows it by.
        function: Its function.
    """

    name: str
    arn: str
    function: DurableFunction[Any, Any]

    @abstractmethod
    async def wait(self) -> ExecutionRecord:
        """The execution as it ended.

        Raises:
            StuckError: It does not go on by itself.
            DurableError: Nothing more is heard of it.
        """

    @abstractmethod
    async def record(self) -> ExecutionRecord:
        """The execution as it stands."""

    @abstractmethod
    async def operations(self) -> Sequence[Operation]:
        """What is recorded, in the order of the first record; without the EXECUTION itself."""

    @abstractmethod
    async def history(self) -> Sequence[Event]:
        """What has happened, in order."""

    @abstractmethod
    def changes(self) -> AsyncGenerator[None]:
        """Yields at once, and then whenever something may have changed, until the execution is over.

        Raises:
            StuckError: It does not go on by itself.
        """

    @property
    @abstractmethod
    def calls(self) -> Sequence[Sequence[OperationUpdate]]:
        """The calls by which it recorded something, as the updates that each carried.

        Raises:
            NotOnTargetError: It runs where nobody sees them.
        """


class Target(ABC):
    """Where executions run."""

    @abstractmethod
    async def start(
        self, function: DurableFunction[Any, Any], event: Any, name: str | None, history: History | None
    ) -> Started:
        """Start an execution.

        Args:
            function: Its function.
            event: Its input.
            name: Its name; made up if not given.
            history: What it has recorded already.
        """

    @abstractmethod
    async def succeed_callback(self, callback_id: str, result: str) -> None:
        """Complete a callback with text."""

    @abstractmethod
    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Fail a callback."""

    @abstractmethod
    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is alive."""


class NotOnTargetError(DurableError, RuntimeError):
    """A test wants something that the place where its executions run does not offer."""

    def __init__(self, what: str, target: str) -> None:
        super().__init__(
            f"{what} is not possible with executions that run on {target}: it needs the embedded engine. "
            "Leave the test out there, as with `@pytest.mark.skipif`, or run it without --durable-target"
        )


class LocalTarget(Target):
    """The embedded engine.

    Args:
        engine: It.
        store: Where it keeps executions.
        clock: The time it goes by.
        probe: What looks at its invocations.
        patience: Seconds, of real time, that an execution may wait for the outside before it counts as stuck.
    """

    def __init__(self, engine: Engine, store: Store, clock: Clock, probe: KitProbe, patience: float) -> None:
        self.engine = engine
        self._store = store
        self._clock = clock
        self.probe = probe
        self.patience = patience

    async def start(
        self, function: DurableFunction[Any, Any], event: Any, name: str | None, history: History | None
    ) -> Started:
        """Start an execution (see `Engine.start`), or take up one that has a history."""
        if history is not None:
            now = self._clock.now()
            payload = await function.dump_input(event)
            record = new_record(uuid4().hex, function.name, target_of(function), payload, now, name=name)
            records = history.records(record.id, now)
            name = record.name
            await self._store.create(
                Change(
                    execution=msgspec.structs.replace(record, invocations=1),
                    operations=records.operations,
                    events=[EventRecord(EventType.EXECUTION_STARTED, now)],
                    extras=records.extras,
                )
            )
        return LocalStarted(self, await self.engine.start(function, event, name=name))

    async def succeed_callback(self, callback_id: str, result: str) -> None:
        """Complete a callback with text."""
        await self.engine.complete_callback(callback_id, text=result)

    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Fail a callback."""
        await self.engine.fail_callback(callback_id, error)

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is alive."""
        await self.engine.heartbeat_callback(callback_id)

    async def watched(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Await something that an execution is to bring about, as long as anything goes on.

        Raises:
            StuckError: Nothing does.
        """
        while True:
            with anyio.move_on_after(self.patience):
                return await work()
            if not self.engine.is_going_on:
                raise StuckError(name, _open_ends(await self.engine.operations(name)))


class LocalStarted(Started):
    """One execution of the embedded engine."""

    def __init__(self, target: LocalTarget, run: Run[Any]) -> None:
        self._target = target
        self._run = run
        self.name = run.name
        self.arn = run.arn
        self.function = run.function

    async def wait(self) -> ExecutionRecord:
        """The execution as it ended."""
        return await self._target.watched(self.name, self._run.wait)

    async def record(self) -> ExecutionRecord:
        """The execution as it stands."""
        return await self._target.engine.execution(self.name)

    async def operations(self) -> Sequence[Operation]:
        """What is recorded."""
        return await self._target.engine.operations(self.name)

    async def history(self) -> Sequence[Event]:
        """What has happened."""
        return await self._target.engine.history(self.name)

    async def changes(self) -> AsyncGenerator[None]:
        """Whenever something may have changed."""
        while True:
            # Asked for before it is looked: what comes in between is not missed.
            is_over = self._run.is_over
            news = self._target.engine.service.news(self._run.id)
            yield
            if is_over:
                return
            await self._target.watched(self.name, news.wait)

    @property
    def calls(self) -> Sequence[Sequence[OperationUpdate]]:
        """The calls by which it recorded something."""
        return self._target.probe.recorded.get(self.arn, ())


def _open_ends(operations: Sequence[Operation]) -> list[str]:
    kinds = {"CALLBACK": "callback", "CHAINED_INVOKE": "invoke"}
    return [
        f"{kinds[operation.type]} {operation.name!r}"
        for operation in operations
        if operation.type in kinds and operation.status is OperationStatus.STARTED
    ]
