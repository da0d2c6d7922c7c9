"""Operations rebuilt from history events are those that the service holds, whatever the program, at any moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, note

from durable import Backoff, CallbackFailedError, DurableContext, DurableError, Retry, durable_execution
from durable._kernel.rebuild import operations_of
from durable._wire import InvocationStatus, Operation, OperationStatus, OperationType
from durable._wire.events import Event, EventType
from durable.local import Reader, open_engine
from durable.local.machine.history import event_of
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock, trio_schedule
from tests.harness import CrashError, Harness
from tests.properties.examples import EXAMPLES
from tests.properties.programs import Run, Saga, programs
from tests.saga.world import answer, callbacks

crashes = st.sets(st.integers(1, 30), max_size=3)


def tellable(operation: Operation) -> Operation:
    """What events can tell of an operation."""
    context, step = operation.context_details, operation.step_details
    if context is not None:
        context = msgspec.structs.replace(context, replay_children=None)
    status = operation.status
    if status is OperationStatus.READY:
        status = OperationStatus.PENDING
    if status is OperationStatus.PENDING and step is not None:
        step = msgspec.structs.replace(step, next_attempt_timestamp=None)
    return msgspec.structs.replace(operation, status=status, context_details=context, step_details=step)


def check(held: Sequence[Operation], events: Sequence[Event]) -> None:
    rebuilt = operations_of(events)
    assert list(map(tellable, rebuilt)) == list(map(tellable, held))
    due = {one.id: one.step_details for one in rebuilt if one.status is OperationStatus.PENDING}
    for operation in held:
        if operation.status is OperationStatus.PENDING:
            assert due[operation.id] == operation.step_details  # with the instant, as long as it is not READY


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_random_saga_has_recorded_can_be_rebuilt(backend: str) -> None:
    """After each call and at the end, with crashes in between."""

    @EXAMPLES
    @given(program=programs, crashes=crashes, seed=st.integers(0, 2**32))
    def check_one(program: Saga, crashes: set[int], seed: int) -> None:
        note(f"{backend}, seed {seed}")
        with trio_schedule(seed):
            anyio.run(execute, program, crashes, backend=backend)

    check_one()


async def execute(program: Saga, crashes: set[int]) -> None:
    """Run a program to its end, and look at it after each call."""
    run = Run(program)
    harness = Harness(run.function())
    run.harness = harness
    harness.client.after = _look(harness, crashes)
    while True:
        run.begin()
        try:
            output = await harness.invoke()
        except CrashError:
            run.crash()
            continue
        if output.status is not InvocationStatus.PENDING:
            break
        for callback in callbacks(harness):
            await answer(harness, callback.name or "", '"skip"')
        instant = await harness.service.next_due(harness.record.id)
        if instant is not None:
            await harness.clock.sleep_until(instant)
    _look(harness, set())(0)


def _look(harness: Harness, crashes: set[int]) -> Callable[[int], None]:
    def look(number: int) -> None:
        kept = harness.store._kept[harness.record.id]
        events = [
            event_of(place, event, kept.record, kept.operations, kept.extras)
            for place, event in enumerate(kept.events, 1)
        ]
        check(list(kept.operations.values()), events)
        if number in crashes:
            raise CrashError

    return look


# --- What is not in random programs ------------------------------------------------------------------------------


async def _count(number: int) -> int:
    return number + 1


async def _refuse() -> None:
    raise ValueError("no")


async def _submit(callback_id: str) -> None:
    pass


@durable_execution
async def refuses(event: Any, ctx: DurableContext) -> None:
    await ctx.step(_refuse)


@durable_execution
async def callee(event: int, ctx: DurableContext) -> int:
    await ctx.wait(5)
    return event + 1


async def plain(event: int) -> int:
    return event * 2


@durable_execution
async def everything(event: None, ctx: DurableContext) -> str:
    """Each type of operation, and each way in which one can end that one program can see."""

    async def tolerated(call: Callable[[], Any]) -> None:
        with suppress(DurableError, ValueError):
            await call()

    await ctx.wait(3, name="pause")
    await ctx.wait_for_condition(
        _count, 0, until=lambda n: n == 3, delay=Backoff(initial_delay=2, jitter="none"), name="three"
    )
    await tolerated(lambda: ctx.step(_refuse, retry=Retry(attempts=3, initial_delay=2, jitter="none")))
    for callback in (
        await ctx.create_callback(int, name="slow", timeout=7),
        await ctx.create_callback(int, name="silent", heartbeat_timeout=4, timeout=600),
    ):
        await tolerated(callback.result)
    answered = await ctx.create_callback(int, name="answered")
    failed = await ctx.create_callback(int, name="failed")
    assert await answered.result() == 7
    with pytest.raises(CallbackFailedError):
        await failed.result()
    await ctx.wait_for_callback(_submit, int, name="approval")
    await ctx.invoke(callee, 1, name="durable callee")
    await ctx.invoke("plain", 1, name="plain callee")
    await tolerated(lambda: ctx.invoke(refuses, 1, name="refusing callee"))
    await tolerated(lambda: ctx.invoke("stopped", 1, name="stopped callee"))
    await tolerated(lambda: ctx.invoke("nobody", 1, name="no callee"))
    await ctx.map(_item, [1, 2, 3])
    await tolerated(lambda: ctx.child(_failing_child))
    await ctx.child(_large)
    return "done"


async def _item(ctx: DurableContext, item: int) -> str:
    return await ctx.step(str, item)


async def _large(ctx: DurableContext) -> str:
    return await ctx.step(str, "small") + "x" * 300_000


async def _failing_child(ctx: DurableContext) -> None:
    await ctx.step(_refuse)


@durable_execution(name="stopped")
async def never_ends(event: int, ctx: DurableContext) -> None:
    await (await ctx.create_callback(int, name="never")).result()


@pytest.mark.anyio
async def test_every_kind_of_operation_can_be_rebuilt():
    """Conditions, callbacks with time limits, chained invokes in each of their ends; whenever something happens."""
    store = MemoryStore()
    reader = Reader(store)
    async with open_engine(store=store, clock=SkippingClock()) as engine:
        for function in (callee, refuses, never_ends):
            engine.register(function)
        engine.register(plain, "plain")
        run = await engine.start(everything, None, name="t-1")
        done = set[str]()
        with anyio.fail_after(30):
            async for _ in run.events():
                kept = await reader.operations("t-1")
                check(kept, await reader.history("t-1"))
                for operation in kept:
                    if operation.id not in done and not operation.is_final:
                        done.add(operation.id)
                        await _act(engine, operation)
            assert await run.result() == "done"
    kept, events = await reader.operations("t-1"), await reader.history("t-1")
    check(kept, events)
    happened = {event.event_type for event in events}
    assert {EventType.CALLBACK_TIMED_OUT, EventType.CHAINED_INVOKE_STOPPED, EventType.CALLBACK_FAILED} <= happened
    assert {operation.type for operation in kept} == set(OperationType) - {OperationType.EXECUTION}
    assert [
        one for one in kept if one.context_details and one.context_details.replay_children
    ]  # or it is not tried


async def _act(engine: Any, operation: Operation) -> None:
    """What the world does as an operation begins."""
    details = operation.callback_details
    if details is not None and operation.name in {"answered", "approval create callback id"}:
        await engine.complete_callback(details.callback_id, 7)
    elif details is not None and operation.name == "failed":
        await engine.fail_callback(details.callback_id, "it cannot be")
    elif operation.name == "stopped callee":
        while not (found := [one for one in await engine.executions() if ":stopped:" in one.arn]):
            await anyio.lowlevel.checkpoint()  # it is about to be started
        await engine.stop(found[0].name)
