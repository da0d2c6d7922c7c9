"""Callbacks, invokes and conditions from end to end, with the embedded engine as the service."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from durable import (
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    ConditionNotMetError,
    DurableContext,
    ExecutionFailedError,
    InvokeFailedError,
    InvokeStoppedError,
    Retry,
    current_step,
    durable_execution,
    saga,
)
from durable._wire import InvocationStatus, OperationStatus, Timestamp
from durable.exceptions import CallbackCompletedError
from durable.local import Engine, open_engine
from durable.local.outside import Outside
from durable.testing import SkippingClock
from tests.harness import CrashError, Harness, crash_points

pytestmark = pytest.mark.anyio

LOG: list[Any] = []
"""What has happened in the world."""


@pytest.fixture(autouse=True)
def _nothing_happened() -> None:
    LOG.clear()


@dataclass
class Order:
    id: int
    price: Decimal


@dataclass
class Approval:
    by: str
    limit: Decimal


class Declined(Exception):
    reason: str = ""


async def note(what: Any) -> None:
    LOG.append(what)


async def until_noted(count: int) -> None:
    while len(LOG) < count:
        await anyio.lowlevel.checkpoint()


@durable_execution
async def purchase(order: Order, ctx: DurableContext) -> str:
    """Reserve, have it approved, have it charged; undo what was done if that fails."""
    async with saga(ctx) as s:
        await s.step(note, f"reserve {order.id}", compensate=cancel)
        approval = await ctx.wait_for_callback(note, Approval, name="approval", timeout=3600)
        if approval.limit < order.price:
            raise Declined(f"limit {approval.limit}")
        return await ctx.invoke(charge, order)


async def cancel(_: None) -> None:
    LOG.append("cancel")


@durable_execution
async def charge(order: Order, ctx: DurableContext) -> str:
    if order.price > 100:
        error = Declined("too much")
        error.reason = f"{order.price} > 100"
        raise error
    await ctx.wait(30)
    await ctx.step(note, f"charge {order.price}")
    return f"paid {order.price}"


async def approve(engine: Engine, limit: int) -> None:
    await until_noted(2)
    await engine.complete_callback(LOG.pop(), Approval("Ann", Decimal(limit)))


async def test_an_approval_and_a_charge_by_another_function():
    """The callback's value comes typed; the callee is an execution of its own, which waits and goes on."""
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(purchase, Order(1, Decimal("9.50")), name="p-1")
        await approve(engine, 10)
        assert await run.result() == "paid 9.50"
        assert LOG == ["reserve 1", "charge 9.50"]
        assert len(await engine.executions()) == 2


async def test_a_callee_that_fails_rolls_its_caller_back():
    """The callee's error is inside, as its own type with what it carries."""
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(purchase, Order(1, Decimal(200)))
        await approve(engine, 1000)
        with pytest.raises(ExecutionFailedError) as caught:
            await run.result()
    error = caught.value.__cause__
    assert isinstance(error, InvokeFailedError)
    assert str(error).startswith(f"function 'charge' failed: {__name__}.Declined: too much")
    assert isinstance(error.__cause__, Declined)
    assert error.__cause__.reason == "200 > 100"
    assert LOG == ["reserve 1", "cancel"]


async def test_a_callback_that_is_failed_rolls_back():
    """With the sender's own exception as the cause."""
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(purchase, Order(1, Decimal(200)))
        await until_noted(2)
        await engine.fail_callback(LOG.pop(), Declined("no budget"))
        with pytest.raises(ExecutionFailedError) as caught:
            await run.result()
    error = caught.value.__cause__
    assert isinstance(error, CallbackFailedError)
    assert error.name == "approval"
    assert isinstance(error.__cause__, Declined)
    assert str(error.__cause__) == "no budget"
    assert LOG == ["reserve 1", "cancel"]


@durable_execution
async def limited(which: str, ctx: DurableContext) -> str:
    limits: dict[str, Any] = {which: 60}
    if which == "heartbeat_timeout":
        limits["timeout"] = 3600
    callback = await ctx.create_callback(str, name="c", **limits)
    await ctx.step(note, callback.id)
    try:
        return await callback.result()
    except CallbackHeartbeatError as error:
        return f"heartbeat: {error}"
    except CallbackTimeoutError as error:
        return f"timeout: {error}"


@pytest.mark.parametrize("which", ["timeout", "heartbeat_timeout"])
async def test_nobody_completes_a_callback(which):
    """Each time limit has an exception of its own; it is too late to complete it then."""
    clock = SkippingClock()
    async with open_engine(clock=clock) as engine:
        began = clock.now()
        run = await engine.start(limited, which)
        told = await run.result()
        assert told.startswith(f"{which.split('_')[0]}: callback 'c' (id {LOG[0]}) ")
        assert 60_000 <= clock.now() - began < 3_600_000
        with pytest.raises(CallbackCompletedError):
            await engine.complete_callback(LOG[0], "late")


async def test_a_heartbeat_keeps_a_callback_alive():
    """Each begins the time anew."""
    clock = SkippingClock()
    async with open_engine(clock=clock) as engine:
        run = await engine.start(limited, "heartbeat_timeout")
        await until_noted(1)
        for _ in range(5):
            await clock.sleep_until(clock.now() + 50_000)
            await engine.heartbeat_callback(LOG[0])
        await engine.complete_callback(LOG[0], "alive")
        assert await run.result() == "alive"


@durable_execution
async def calls_plain(name: str, ctx: DurableContext) -> Approval:
    return await ctx.invoke(name, {"by": "Ann"}, result_type=Approval)


async def test_a_plain_function_is_invoked_by_name():
    """Its result is decoded by the given type; what it raises keeps its own."""

    def ordinary(payload: dict[str, str]) -> dict[str, Any]:
        LOG.append(payload)
        return {**payload, "limit": 7}

    async def failing(payload: Any) -> None:
        raise Declined("no")

    async with open_engine(clock=SkippingClock()) as engine:
        engine.register(ordinary, "ordinary")
        engine.register(failing, "failing")
        run = await engine.start(calls_plain, "ordinary:prod")
        assert await run.result() == Approval("Ann", Decimal(7))
        assert LOG == [{"by": "Ann"}]
        with pytest.raises(ExecutionFailedError) as caught:
            await (await engine.start(calls_plain, "failing")).result()
        assert isinstance(caught.value.__cause__, InvokeFailedError)
        assert isinstance(caught.value.__cause__.__cause__, Declined)


@durable_execution
async def forever(event: None, ctx: DurableContext) -> None:
    await ctx.step(note, ctx.execution_name)
    await (await ctx.create_callback()).result()


@durable_execution
async def calls_forever(event: None, ctx: DurableContext) -> str:
    try:
        await ctx.invoke(forever, None)
    except InvokeStoppedError as error:
        return f"{error} / {error.message}"
    return "?"


async def test_a_callee_that_is_stopped_is_told():
    """With why, if anybody said so."""
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(calls_forever, None)
        await until_noted(1)
        await engine.stop(LOG[0], "out of hours")
        assert await run.result() == "function 'forever' was stopped: Error: out of hours / out of hours"


@dataclass
class Job:
    id: int
    polls: int = 0
    history: tuple[int, ...] = ()


async def look(job: Job) -> Job:
    LOG.append(job.polls)
    return Job(job.id, job.polls + 1, (*job.history, job.polls))


@durable_execution
async def polls(enough: int, ctx: DurableContext) -> Job:
    begin = Job(7)
    return await ctx.wait_for_condition(
        look, begin, until=lambda job: job.polls == enough, delay=60, max_attempts=5
    )


async def test_a_condition_is_met_or_given_up():
    """The state is carried over; what is given up tells the last one."""
    async with open_engine(clock=SkippingClock()) as engine:
        assert await (await engine.start(polls, 3)).result() == Job(7, 3, (0, 1, 2))
        with pytest.raises(ExecutionFailedError) as caught:
            await (await engine.start(polls, 9)).result()
    error = caught.value.__cause__
    assert isinstance(error, ConditionNotMetError)
    assert (error.attempts, error.state) == (5, {"id": 7, "polls": 5, "history": [0, 1, 2, 3, 4]})


async def test_everything_survives_the_end_of_the_engine(tmp_path: Path):
    """Closed while it waits for a callback, completed while nothing runs, closed while the callee waits."""
    path = tmp_path / "store.db"
    async with open_engine(path) as engine:
        await engine.start(purchase, Order(1, Decimal(5)), name="p-1")
        await until_noted(2)
        callback_id = LOG.pop()
    async with open_engine(path) as engine:
        await engine.complete_callback(callback_id, Approval("Ann", Decimal(10)))
        assert LOG == ["reserve 1"]
    async with open_engine(path) as engine:
        await engine.resume("p-1")
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
    later = Timestamp(4_000_000_000_000)  # the other engines went by the real time
    async with open_engine(path, clock=SkippingClock(later)) as engine:
        await engine.resume()
        (run,) = await engine.resume("p-1")
        assert await run.result() == "paid 5"
    assert LOG == ["reserve 1", "charge 5"]


@durable_execution
async def delivery(event: None, ctx: DurableContext) -> Job:
    callback = await ctx.create_callback(int, name="address", timeout=100_000)
    await ctx.step(note, callback.id)
    approval = await ctx.wait_for_callback(note, Approval, name="approval", retry=Retry())
    job = Job(await callback.result())
    await ctx.step(note, approval.by)
    return await ctx.wait_for_condition(look, job, until=lambda job: job.polls == 2)


@pytest.mark.parametrize("linger", [0.0, 3600.0], ids=["starts alone", "starts with its end"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_every_call(moment, linger, monkeypatch):
    """On a service that keeps the rules: each run ends the same, with the same history; little is done twice."""
    monkeypatch.setattr("durable._engine.journal.LINGER", linger)
    ended: set[tuple[str, ...]] = set()
    for number in crash_points():
        LOG.clear()
        harness = Harness(delivery, name=f"crash-{number}")
        outside = Outside(harness.service)

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        setattr(harness.client, moment, crash)
        output = None
        crashed = False
        while output is None or output.status is InvocationStatus.PENDING:
            try:
                output = await harness.invoke()
            except CrashError:
                crashed = True
                harness.client.before = harness.client.after = lambda _: None
                continue
            for operation in harness.operations():
                if operation.callback_details is not None and operation.status is OperationStatus.STARTED:
                    answer = "7" if operation.name == "address" else '{"by":"Ann","limit":1}'
                    await outside.succeed_callback(operation.callback_details.callback_id or "", answer)
            due = await harness.service.next_due(harness.record.id)
            if due is not None:
                await harness.clock.sleep_until(due)
        assert harness.function.decode_result(output.result) == Job(7, 2, (0, 1))
        ids = [
            operation.callback_details.callback_id
            for operation in harness.operations()
            if operation.callback_details is not None
        ]
        assert list(dict.fromkeys(LOG)) == [*ids, "Ann", 0, 1]
        assert len(LOG) <= 6
        ended.add(
            tuple(f"{operation.type} {operation.name} {operation.status}" for operation in harness.operations())
        )
        if not crashed:
            break
    assert number >= 7
    assert len(ended) == 1


@durable_execution
async def fans_out(count: int, ctx: DurableContext) -> list[int]:
    async def ask(branch: DurableContext, item: int) -> int:
        answer = await branch.wait_for_callback(submit, int, name=f"ask {item}", retry=Retry(attempts=2))
        await branch.step(note, f"done {item}")
        return answer * 10

    return (await ctx.map(ask, list(range(count)))).results()


async def submit(callback_id: str) -> None:
    LOG.append(callback_id)
    if current_step().attempt == 1 and len(LOG) % 3 == 0:
        raise OSError("busy")


@pytest.mark.parametrize("seed", range(5))
async def test_many_callbacks_in_branches_completed_in_any_order(seed):
    """Each answer goes to whom it was asked of, whatever the order in which they come."""
    count = 8
    random_order = random.Random(seed)
    async with open_engine(clock=SkippingClock()) as engine:
        run = await engine.start(fans_out, count)
        asked: dict[str, int] = {}
        while len(asked) < count:
            await anyio.lowlevel.checkpoint()
            for operation in await engine.operations(run.name):
                details = operation.callback_details
                if details is not None and details.callback_id is not None:
                    asked[details.callback_id] = int((operation.name or "").split()[1])
        order = list(asked)
        random_order.shuffle(order)
        for callback_id in order:
            await engine.complete_callback(callback_id, asked[callback_id])
            if random_order.random() < 0.5:
                await anyio.lowlevel.checkpoint()
        assert await run.result() == [item * 10 for item in range(count)], f"seed {seed}"
    done = [entry for entry in LOG if entry.startswith("done")]
    assert sorted(done) == [f"done {item}" for item in range(count)], f"seed {seed}"
