"""Runs a program on the embedded engine, with a clock that skips and ids that are the same each time."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import msgspec

import durable.local.engine
from durable import DurableFunction
from durable._wire.codec import HISTORY_RESPONSE
from durable._wire.events import Event, EventType, GetDurableExecutionHistoryResponse
from durable.abc import Change
from durable.local import Engine, open_engine
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from tests.histories.world import Program, hung

ROOT: Final = Path(__file__).parent.parent.parent


class Recording(msgspec.Struct, frozen=True):
    """What one execution has recorded.

    Attributes:
        arn: The execution's.
        events: All of them.
        cuts: After how many of them something else might have come: what was recorded together is not cut.
    """

    arn: str
    events: Sequence[Event]
    cuts: Sequence[int]

    def document(self) -> bytes:
        """The same as `durable history NAME --json` prints it."""
        page = HISTORY_RESPONSE.encode(GetDurableExecutionHistoryResponse(events=tuple(self.events)))
        fields = msgspec.json.decode(page, type=dict[str, msgspec.Raw])
        whole = msgspec.json.encode({"DurableExecutionArn": self.arn, **fields})
        text = msgspec.json.format(whole, indent=2).replace(f"{ROOT}/".encode(), b"")  # in stack traces
        return text + b"\n"


class _Store(MemoryStore):
    """Remembers what was recorded together."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts: dict[str, list[int]] = {}

    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, change)
        if change.events:
            self.cuts.setdefault(execution_id, [1]).append(change.first_event + len(change.events) - 1)


async def record(name: str, program: Program) -> Recording:
    """Run a program to its end."""
    hung.clear()
    store = _Store()
    with _ids(), anyio.fail_after(60):
        async with open_engine(store=store, clock=SkippingClock()) as engine:
            for callee, function in program.callees.items():
                engine.register(function, None if isinstance(function, DurableFunction) else callee)
            run = await engine.start(program.function, program.input, name=name, timeout=program.timeout)
            world = World(engine, name, program)
            async for event in run.events():
                await world.see(event)
            world.check()
            events = await engine.history(name)
            cuts = sorted({cut for cut in store.cuts[run.id] if cut < len(events)})
            return Recording(run.arn, events, cuts)


class World:
    """What is outside of the execution."""

    def __init__(self, engine: Engine, name: str, program: Program) -> None:
        self._engine = engine
        self._name = name
        self._answers = {key: list(acts) for key, acts in program.answers.items()}
        self._crash = program.crash
        self._stop = program.stop
        self._pause = program.pause

    async def see(self, event: Event) -> None:
        """Do what there is to do after it."""
        seen = (str(event.event_type), event.name or "")
        if self._crash == seen:
            self._crash = None
            self._engine.cut_off(self._name)
        if self._stop == seen:
            self._stop = None
            await self._engine.stop(self._name, "somebody wants it so")
        if self._pause == seen:
            self._pause = None
            await self._engine.pause(self._name, "a moment")
        if event.event_type is EventType.EXECUTION_PAUSED:
            await self._engine.unpause(self._name)
        acts = self._answers.get(event.name or "")
        if event.event_type is EventType.CALLBACK_STARTED and acts and event.callback_started_details is not None:
            await acts.pop(0)(self._engine, event.callback_started_details.callback_id)

    def skip(self, callback: str) -> None:
        """Somebody else has done what there was to do with this one."""
        acts = self._answers.get(callback)
        if acts:
            acts.pop(0)

    def check(self) -> None:
        """Everything was done."""
        assert (self._crash, self._stop, self._pause) == (None, None, None)
        assert not any(self._answers.values()), self._answers


@contextmanager
def _ids() -> Generator[None]:
    numbers = itertools.count(1)
    module: Any = durable.local.engine
    before = module.uuid4
    module.uuid4 = lambda: UUID(int=next(numbers))
    try:
        yield
    finally:
        module.uuid4 = before
