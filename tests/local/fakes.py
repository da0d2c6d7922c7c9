"""A store that fails, or is slow, when a test says so; and one execution on a service over it, called by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from durable._wire import (
    ErrorObject,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationUpdate,
    Timestamp,
)
from durable._wire.calls import CheckpointDurableExecutionResponse
from durable.abc import Change, Clock, Loaded, Store
from durable.exceptions import StoreError
from durable.local import Engine, open_engine
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from durable.testing.contracts.log import record_of

PENDING = InvocationOutput(status=InvocationStatus.PENDING)
SUCCEEDED = InvocationOutput(status=InvocationStatus.SUCCEEDED, result="1")


async def nothing() -> None:
    """What a hook does by default."""


async def fail() -> None:
    """What a hook does when the disk is full."""
    raise StoreError("no space left on device")


class FakeStore(MemoryStore):
    """A memory store with hooks around every commit, and a count of them."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.loads = 0
        # Called before a commit is applied, and after it was applied but before anybody is told.
        self.before: Callable[[], Awaitable[None]] = nothing
        self.after: Callable[[], Awaitable[None]] = nothing
        self.before_load: Callable[[], Awaitable[None]] = nothing

    async def commit(self, execution_id: str, change: Change) -> None:
        await self.before()
        await super().commit(execution_id, change)
        self.commits += 1
        await self.after()

    async def load(self, execution_id: str) -> Loaded | None:
        self.loads += 1
        await self.before_load()
        return await super().load(execution_id)


class HandClock(Clock):
    """A clock that stands still until a test sets it, forwards or backwards."""

    def __init__(self) -> None:
        self.time = SkippingClock().now()

    def now(self) -> Timestamp:
        return self.time

    def move(self, seconds: float) -> None:
        """Let time jump."""
        self.time = Timestamp(self.time + round(seconds * 1000))

    async def sleep_until(self, when: int) -> None:
        raise AssertionError("nobody sleeps here")


class Caller:
    """A function's side of one execution, each call by hand."""

    def __init__(self, store: Store | None = None, *, name: str = "t-1", page_size: int = 1000) -> None:
        self.store = store or FakeStore()
        self.clock = HandClock()
        self.page_size = page_size
        self.service = LocalService(self.store, self.clock, page_size=page_size)
        self.record = record_of(name)
        self.arn = self.record.arn
        self.id = self.record.id
        self.token = ""
        self.calls = 0

    async def create(self) -> InvocationInput:
        """Start the execution, and its first invocation."""
        await self.service.create(self.record)
        return await self.begin()

    async def begin(self) -> InvocationInput:
        """The next invocation."""
        event = await self.service.begin_invocation(self.id)
        self.token = event.checkpoint_token
        return event

    def restart(self) -> None:
        """Another process has the store now."""
        self.service = LocalService(self.store, self.clock, page_size=self.page_size)

    async def call(
        self, *updates: OperationUpdate, token: str | None = None, client_token: str | None = None
    ) -> CheckpointDurableExecutionResponse:
        """One checkpoint call, with the current token unless another one is given."""
        self.calls += 1
        answer = await self.service.checkpoint(
            self.arn, self.token if token is None else token, updates, client_token or f"call-{self.calls}"
        )
        if token is None and answer.checkpoint_token is not None:
            self.token = answer.checkpoint_token
        return answer

    async def end(self, outcome: InvocationOutput | ErrorObject = PENDING, *, accept_idle: bool = True) -> bool:
        """The invocation's answer."""
        return await self.service.end_invocation(self.id, outcome, accept_idle=accept_idle)

    async def recorded(self) -> Sequence[Operation]:
        """What the store has."""
        loaded = await self.store.load(self.id)
        assert loaded is not None
        return loaded.operations


class ManualClock(Clock):
    """A clock that a test moves; whoever sleeps is woken when his time has come, or when he is to look again."""

    def __init__(self) -> None:
        self._now = SkippingClock().now()
        self._sleepers: list[tuple[int, anyio.Event]] = []
        self.sleeps = 0

    def now(self) -> Timestamp:
        return self._now

    async def sleep_until(self, when: int) -> None:
        self.sleeps += 1
        turn = anyio.Event()
        entry = (when, turn)
        self._sleepers.append(entry)
        try:
            await turn.wait()
        finally:
            self._sleepers.remove(entry)

    @property
    def next(self) -> float | None:
        """Seconds until somebody wants to wake."""
        return min(((when - self._now) / 1000 for when, _ in self._sleepers), default=None)

    def set(self, seconds: float) -> None:
        """Set the clock without anybody noticing."""
        self._now = Timestamp(self._now + round(seconds * 1000))

    async def move(self, seconds: float = 0, *, everybody: bool = False) -> None:
        """Let time pass, and everything that it brings about happen.

        With `everybody` those wake as well whose time has not come, as when the machine was asleep.
        """
        self.set(seconds)
        for when, turn in self._sleepers:
            if everybody or when <= self._now:
                turn.set()
        await settled()


@asynccontextmanager
async def engine_over(store: Store | None = None, clock: Clock | None = None) -> AsyncGenerator[Engine]:
    """An engine in virtual time, in memory unless told otherwise; nobody waits for ever for what it does not do."""
    with anyio.fail_after(30):
        async with open_engine(store=store or MemoryStore(), clock=clock or SkippingClock()) as engine:
            yield engine


def clock_of(engine: Engine) -> ManualClock:
    """The clock of an engine that goes by hand."""
    clock = engine._clock
    assert isinstance(clock, ManualClock)
    return clock


async def settled() -> None:
    """Return when nothing more happens by itself: everybody has had his turn as often as he may want.

    `wait_all_tasks_blocked` would do, but sleeps a tenth of a second on asyncio.
    """
    for _ in range(150):
        await anyio.lowlevel.checkpoint()
