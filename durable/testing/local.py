"""Executions of a test on the embedded engine, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import anyio
import msgspec

from .._engine.probe import probe_var
from .._wire import ErrorObject, Operation, OperationUpdate
from .._wire.events import Event, EventType
from ..abc import Change, EventRecord, ExecutionRecord, Store
from ..function import DurableFunction
from ..local.engine import Engine, open_engine
from ..local.machine.execution import name_of, new_record
from ..local.run import Run
from ..local.stores.memory import MemoryStore
from ..local.targets import target_of
from .clock import SkippingClock
from .history import History
from .probe import KitProbe
from .target import Started, StuckError, Target, open_ends

T = TypeVar("T")


@asynccontextmanager
async def open_local(
    probe: KitProbe, clock: SkippingClock, *, max_operations: int | None, patience: float
) -> AsyncGenerator[LocalTarget]:
    """Open an engine in memory.

    Args:
        probe: What looks at its invocations.
        clock: The time it goes by.
        max_operations: How many operations an execution may have.
        patience: See `LocalTarget`.
    """
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        unset = probe_var.set(probe)
        try:  # the engine's tasks inherit it, the test does not
            opened = open_engine(store=store, clock=clock, max_operations=max_operations)
            engine = await stack.enter_async_context(opened)
        finally:
            probe_var.reset(unset)

        def cut_off(arn: str | None) -> None:
            engine.cut_off(None if arn is None else name_of(arn))

        probe.cut_off = cut_off
        yield LocalTarget(engine, store, clock, probe, patience)


class LocalTarget(Target):
    """The embedded engine.

    Args:
        engine: It.
        store: Where it keeps executions.
        clock: The time it goes by.
        probe: What looks at its invocations.
        patience: Seconds, of real time, that an execution may wait for the outside before it counts as stuck.
    """

    def __init__(
        self, engine: Engine, store: Store, clock: SkippingClock, probe: KitProbe, patience: float
    ) -> None:
        self.engine = engine
        self._store = store
        self.clock = clock
        self.probe = probe
        self.patience = patience

    def __str__(self) -> str:
        return "local"

    async def start(
        self, function: DurableFunction[Any, Any], event: Any, name: str | None, history: History | None
    ) -> Started:
        """Start an execution (see `Engine.start`), or take up one that has a history."""
        if history is not None:
            now = self.clock.now()
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
                raise StuckError(name, open_ends(await self.engine.operations(name)))


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
