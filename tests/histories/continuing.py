"""Goes on with an execution that an earlier version has begun, from what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec

from durable import DurableFunction
from durable._kernel.rebuild import operations_of
from durable._wire import ExecutionStatus, Operation, OperationType, Timestamp
from durable._wire.codec import HISTORY_RESPONSE
from durable._wire.events import CallbackStartedDetails, ChainedInvokeStartedDetails, Event
from durable.abc import Change, EventRecord, ExecutionRecord, OperationExtra
from durable.local import Engine, open_engine
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from durable.testing.history_files import RecordedHistory, read_history
from tests.histories.index import Kept
from tests.histories.recording import World
from tests.histories.world import Program


class Continued(msgspec.Struct, frozen=True):
    """How it ended, and what there is of it then.

    Attributes:
        record: The execution.
        operations: By id; what is inside of contexts that had ended before is not among them.
        hidden: The ids of that.
    """

    record: ExecutionRecord
    operations: Mapping[str, Operation]
    hidden: frozenset[str]


async def go_on(one: Kept, program: Program, cut: int) -> Continued:
    """Go on with an execution from where its first events end."""
    document = json.loads(one.path.read_bytes())
    document["Events"] = document["Events"][:cut]
    history = read_history(document)
    events = HISTORY_RESPONSE.convert(document).events
    store = MemoryStore()
    async with open_engine(store=store, clock=SkippingClock(history.recorded)) as engine:
        for callee, function in program.callees.items():
            engine.register(function, None if isinstance(function, DurableFunction) else callee)
        target = engine.functions.add(program.function)
        await store.create(_change(history, events, document["DurableExecutionArn"], target))
        with anyio.fail_after(60):
            run = await engine.start(program.function, program.input, name=history.name)
            world = World(engine, history.name, program)
            await _answer_what_is_awaited(engine, world, history.operations, events)
            async for event in run.events(after=len(events)):
                await world.see(event)
            record = await run.wait()
            there = {operation.id for operation in history.operations}
            hidden = frozenset(operation.id for operation in operations_of(events)) - there
            return Continued(record, dict(store._kept[record.id].operations), hidden)


def _change(history: RecordedHistory, events: Sequence[Event], arn: str, target: str) -> Change:
    record = ExecutionRecord(
        id=history.execution_id,
        name=history.name,
        arn=arn,
        function=target,
        status=ExecutionStatus.RUNNING,
        start_timestamp=history.started,
        input=history.input,
        invocations=1,
    )
    kept = [
        EventRecord(event.event_type, event.event_timestamp, None if event.id == history.execution_id else event.id)
        for event in events
    ]
    there = {operation.id for operation in history.operations}
    extras = {event.id: extra for event in events if event.id in there and (extra := _extra(event)) is not None}
    return Change(execution=record, operations=history.operations, events=kept, extras=extras)


def _extra(event: Event) -> OperationExtra | None:
    """What the service knows of an operation, and no operation tells."""
    details = event.details
    if isinstance(details, CallbackStartedDetails):
        return OperationExtra(
            timeout=details.timeout,
            heartbeat=details.heartbeat_timeout,
            timeout_at=_after(event, details.timeout),
            heartbeat_at=_after(event, details.heartbeat_timeout),
        )
    if isinstance(details, ChainedInvokeStartedDetails):
        payload = details.input.payload if details.input is not None else None
        return OperationExtra(function=details.function_name, payload=payload)
    return None


def _after(event: Event, seconds: int | None) -> Timestamp | None:
    return None if seconds is None else Timestamp(event.event_timestamp + seconds * 1000)


async def _answer_what_is_awaited(
    engine: Engine, world: World, operations: Sequence[Operation], events: Sequence[Event]
) -> None:
    """What was done before is not done again; what was about to be done is."""
    now = {operation.id: operation for operation in operations}
    for event in events:
        if isinstance(event.details, CallbackStartedDetails):
            operation: Any = now.get(event.id or "")
            is_awaited = operation is not None and operation.type is OperationType.CALLBACK
            if is_awaited and not operation.is_final:
                await world.see(event)
            else:
                world.skip(event.name or "")
