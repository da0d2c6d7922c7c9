"""Chained invokes on the embedded engine: whom they call, how that ends, and what a crash at any commit leaves."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from durable import (
    DurableContext,
    DurableFunction,
    InvalidNameError,
    InvokeFailedError,
    InvokeStoppedError,
    NotDurableError,
    SerializationError,
    current_context,
    durable_execution,
    saga,
)
from durable._wire import ErrorObject, OperationStatus
from durable._wire.events import EventType
from durable._wire.limits import MAX_PAYLOAD_BYTES
from durable.abc import Caller, Change, Store
from durable.exceptions import FunctionExistsError, StoreError
from durable.local import Engine, open_engine
from durable.local.machine.invoke import callee_record
from durable.local.outside import Outside
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from durable.testing import SkippingClock
from tests.local.fakes import FakeStore, fail, nothing

pytestmark = pytest.mark.anyio

EFFECTS: Counter[str] = Counter()
"""What the functions here have done, and how often."""


@pytest.fixture(autouse=True)
def no_effects() -> None:
    EFFECTS.clear()


class Order(msgspec.Struct):
    item: str
    amount: int


@durable_execution
async def ship(order: Order, ctx: DurableContext) -> str:
    """A durable callee that takes its time."""

    def pack() -> str:
        EFFECTS["packed"] += 1
        return f"{order.amount} {order.item}"

    packed = await ctx.step(pack)
    await ctx.wait(60, name="delivery")
    return f"shipped {packed}"


@durable_execution(name="refuse")
async def refuse(order: Order, ctx: DurableContext) -> None:
    raise OutOfStockError(order.item)


class OutOfStockError(Exception):
    def __init__(self, item: str) -> None:
        super().__init__(f"no {item} left")
        self.item = item


async def charge(order: Order) -> dict[str, int]:
    """A plain callee."""
    EFFECTS["charged"] += 1
    return {"charged": order.amount}


@durable_execution
async def sell(order: Order, ctx: DurableContext) -> list[Any]:
    """A caller of both kinds."""
    charged = await ctx.invoke("charge", order, name="charging")
    shipped = await ctx.invoke(ship, order, name="shipping")
    return [charged, shipped]


ORDER = Order("tea", 3)
SOLD = [{"charged": 3}, "shipped 3 tea"]


def call(function: str | DurableFunction[Any, Any], **options: Any) -> DurableFunction[Any, Any]:
    """A durable function that invokes one function."""

    @durable_execution(name="caller")
    async def caller(payload: Any, ctx: DurableContext) -> Any:
        return await ctx.invoke(function, payload, **options)

    return caller


@asynccontextmanager
async def engine_of(*functions: Any, **options: Any) -> AsyncGenerator[Engine]:
    """An engine in virtual time that knows these functions; a hang is a failure."""
    with anyio.fail_after(20):
        async with open_engine(**{"clock": SkippingClock(), **options}) as engine:
            for function in functions:
                name = None if isinstance(function, DurableFunction) else function.__name__
                engine.register(function, name)
            yield engine


async def result_of(*functions: Any, caller: DurableFunction[Any, Any], payload: Any = None) -> Any:
    async with engine_of(*functions) as engine:
        run = await engine.start(caller, payload)
        return await run.result()


async def error_of(*functions: Any, caller: DurableFunction[Any, Any], payload: Any = None) -> InvokeFailedError:
    async with engine_of(*functions) as engine:
        run = await engine.start(caller, payload)
        with pytest.raises(Exception, match="caller") as caught:
            await run.result()
        assert isinstance(caught.value.__cause__, InvokeFailedError)
        return caught.value.__cause__


# --- Whom it calls -----------------------------------------------------------------------------------------------


async def test_a_durable_callee_is_an_execution_of_its_own():
    """With a history and a result of its own, and it says who called it; the caller suspends meanwhile."""
    async with engine_of() as engine:
        run = await engine.start(call(ship), ORDER)
        assert await run.result() == "shipped 3 tea"
        caller, callee = await engine.executions()
        (operation,) = await engine.operations(caller.name)
        assert callee.caller == Caller(caller.id, operation.id)
        assert callee.name.startswith("ship-")
        assert [operation.name for operation in await engine.operations(callee.name)] == ["pack", "delivery"]
        started, ended = (
            event
            for event in await engine.history(caller.name)
            if event.event_type in {EventType.CHAINED_INVOKE_STARTED, EventType.CHAINED_INVOKE_SUCCEEDED}
        )
        assert started.chained_invoke_started_details is not None
        assert started.chained_invoke_started_details.durable_execution_arn == callee.arn
        assert ended.event_timestamp - started.event_timestamp == 60_000
        assert caller.invocations == 2


async def test_a_plain_function_takes_and_gives_typed_values():
    """By its annotations, on the event loop."""
    assert await result_of(charge, caller=call("charge"), payload=ORDER) == {"charged": 3}


async def test_a_sync_function_runs_in_a_thread():
    """The loop goes on meanwhile; what it returns may be awaitable."""
    threads = []

    def where(payload: int) -> Any:
        threads.append(threading.current_thread())
        return charge(Order("tea", payload))

    assert await result_of(where, caller=call("where"), payload=7) == {"charged": 7}
    assert threads
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    "callee",
    [
        lambda payload: payload,
        Counter,
        type("Echo", (), {"__call__": lambda self, payload: payload})(),
        len,
    ],
)
async def test_any_callable_of_one_parameter_is_a_function(callee: Callable[[Any], Any]):
    """A lambda, a class, an object, something in C."""
    async with engine_of() as engine:
        engine.register(callee, "callee")
        run = await engine.start(call("callee"), "aab")
        assert await run.result() in ("aab", {"a": 2, "b": 1}, 3)


@pytest.mark.parametrize(
    "name",
    [
        "charge",
        "charge:7",
        "charge:$LATEST",
        "arn:aws:lambda:eu-central-1:123456789012:function:charge",
        "arn:aws:lambda:eu-central-1:123456789012:function:charge:prod",
    ],
)
async def test_names_as_aws_wants_them_find_the_same_function(name: str):
    """A caller that runs there runs here."""
    assert await result_of(charge, caller=call(name), payload=ORDER) == {"charged": 3}


async def test_the_whole_name_comes_before_the_part():
    """Who registers a version means it."""

    async def seven(_: Any) -> str:
        return "version 7"

    async with engine_of(charge) as engine:
        engine.register(seven, "charge:7")
        run = await engine.start(call("charge:7"), ORDER)
        assert await run.result() == "version 7"


async def test_a_durable_function_of_the_callers_module_need_not_be_registered():
    """By its own name, which need not be that of the variable; a registered one comes first."""

    @durable_execution(name="ship")
    async def faster(order: Order, ctx: DurableContext) -> str:
        return "by air"

    assert await result_of(charge, caller=sell, payload=ORDER) == SOLD
    assert await result_of(charge, faster, caller=sell, payload=ORDER) == [{"charged": 3}, "by air"]


async def test_a_caller_that_was_loaded_by_its_target_finds_what_its_module_has():
    """Nobody registered either of them with the engine that resumes."""
    store = MemoryStore()
    async with engine_of(store=store) as engine:
        await engine.start(sell, ORDER)
    async with engine_of(charge, store=store) as engine:
        (run,) = await engine.resume()
        assert await run.result() == SOLD


async def test_an_unknown_function_fails_the_invoke_and_says_what_is_known():
    """As Lambda names it; at once."""
    error = await error_of(charge, ship, caller=call("chrage"), payload=ORDER)
    assert error.error_type == "ResourceNotFoundException"
    assert "'chrage'" in str(error)
    assert "registered are: 'charge', 'ship'" in str(error)
    assert "engine.register" in str(error)


async def test_a_function_may_invoke_itself():
    """Each call is an execution; five deep."""

    @durable_execution(name="factorial")
    async def factorial(number: int, ctx: DurableContext) -> int:
        return 1 if number < 2 else number * await ctx.invoke("factorial", number - 1)

    async with engine_of(factorial) as engine:
        run = await engine.start(factorial, 5)
        assert await run.result() == 120
        assert len(await engine.executions()) == 5


async def test_many_at_once():
    """Two hundred durable callees and as many plain ones, of one caller; each is called once."""

    @durable_execution(name="caller")
    async def caller(count: int, ctx: DurableContext) -> int:
        async with ctx.task_group() as tasks:
            for number in range(count):
                tasks.start_soon(one, number)
        return sum(EFFECTS.values())

    async def one(ctx: DurableContext, number: int) -> None:
        await ctx.invoke("charge", Order("tea", number))
        await ctx.invoke(ship, Order("tea", number))

    async with engine_of(charge, ship) as engine:
        run = await engine.start(caller, 200)
        assert await run.result() == 400
        assert len(await engine.executions()) == 201
        assert engine._invoker._busy == set()


async def test_the_tenant_is_in_the_history():
    """Whoever reads it knows on whose behalf the function was called."""
    async with engine_of(charge) as engine:
        run = await engine.start(call("charge", tenant_id="acme"), ORDER)
        await run.result()
        started = next(
            event.chained_invoke_started_details
            for event in await engine.history(run.name)
            if event.chained_invoke_started_details is not None
        )
        assert (started.function_name, started.tenant_id) == ("charge", "acme")
        assert started.input is not None
        assert started.input.payload == '{"item":"tea","amount":3}'


# --- Registering -------------------------------------------------------------------------------------------------


async def test_what_cannot_be_registered_is_refused():
    """A plain function without a name, nothing callable, a name out of range, a type that cannot be decoded."""

    class Foreign:
        pass

    async def of_foreign(payload: Foreign) -> None: ...

    async with engine_of() as engine:
        for nothing in (charge, 3, None):
            with pytest.raises(NotDurableError, match="is given no name"):
                engine.register(nothing)  # type: ignore[arg-type]
        with pytest.raises(NotDurableError):
            engine.register(3, "three")  # type: ignore[arg-type]
        for name in ("", "x" * 257):
            with pytest.raises(InvalidNameError, match="1 to 256 characters"):
                engine.register(charge, name)
        with pytest.raises(SerializationError, match="the payload of of_foreign"):
            engine.register(of_foreign, "of_foreign")


async def test_a_name_stands_for_one_function():
    """The same one again is no harm; another one would be called by whoever is under way."""

    async def other(payload: Any) -> None: ...

    async with engine_of(charge, ship) as engine:
        engine.register(charge, "charge")
        engine.register(ship)
        engine.register(ship, "ship:7")
        for function, name in ((other, "charge"), (refuse, "ship"), (ship, "charge")):
            with pytest.raises(FunctionExistsError, match=f"registered as '{name}'"):
                engine.register(function, name)


# --- How it ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True])
async def test_an_error_keeps_type_message_data_and_stack(durable: bool):
    """It is the cause of what the caller sees, as its own type."""

    async def plain(order: Order) -> None:
        raise OutOfStockError(order.item)

    error = await error_of(plain, refuse, caller=call("refuse" if durable else "plain"), payload=ORDER)
    assert isinstance(error.__cause__, OutOfStockError)
    assert (str(error.__cause__), error.__cause__.item) == ("no tea left", "tea")
    assert error.message == "no tea left"
    assert "test_invoker" in error.stack_trace[-1]


async def test_a_payload_that_does_not_fit_fails_the_callee():
    """The caller did not know better; the callee's body never ran."""
    error = await error_of(charge, caller=call("charge"), payload="tea")
    assert error.error_type == "durable.exceptions.SerializationError"
    assert "the payload of charge" in str(error)
    error = await error_of(ship, caller=call("ship"), payload="tea")
    assert "the input of ship" in str(error)
    assert not EFFECTS


@pytest.mark.parametrize("durable", [False, True])
async def test_a_result_too_large_for_an_operation_is_an_error(durable: bool):
    """A durable callee may well end with it; its caller cannot have it."""

    @durable_execution(name="large")
    async def large(payload: Any, ctx: DurableContext) -> str:
        return "x" * MAX_PAYLOAD_BYTES

    async def plain(payload: Any) -> str:
        return "x" * MAX_PAYLOAD_BYTES

    error = await error_of(large, plain, caller=call("large" if durable else "plain"))
    assert error.error_type == "PayloadTooLarge"
    assert "1,048,578 bytes" in str(error)


async def test_a_result_that_cannot_be_encoded_is_an_error():
    """Of a plain callee; it says so, and the engine lives."""

    async def plain(payload: Any) -> object:
        return object()

    error = await error_of(plain, caller=call("plain"))
    assert "the result of plain cannot be encoded" in str(error)


async def test_a_stopped_callee_is_stopped_for_its_caller():
    """Whatever the reason; the caller may go on."""

    @durable_execution(name="caller")
    async def caller(payload: Any, ctx: DurableContext) -> str:
        try:
            await ctx.invoke(ship, ORDER)
        except InvokeStoppedError as error:
            return f"{error.message}"
        return "not stopped"

    async with engine_of(ship) as engine:
        run = await engine.start(caller, None)
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
        await engine.stop((await engine.executions())[1].name, "no more tea")
        assert await run.result() == "no more tea"


async def test_a_stopped_callee_that_nobody_drives_is_stopped_for_its_caller():
    """One that this engine cannot load is stopped in the store, and its caller told at once."""

    @durable_execution(name="local")
    async def local(payload: Any, ctx: DurableContext) -> None:
        await ctx.wait(60)

    store = MemoryStore()
    async with engine_of(local, store=store) as engine:
        await engine.start(call("local"), None, name="t-1")
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
    clock = SkippingClock()
    async with engine_of(store=store, clock=clock) as engine:
        run = await engine.start(call("local"), None, name="t-1")
        await clock.sleep_until(clock.now() + 1)  # it has been tried
        await engine.stop((await engine.executions())[1].name, "no more")
        record = await run.wait()
        assert record.error is not None
        assert record.error.error_type == "durable.exceptions.InvokeStoppedError"


async def test_a_callee_goes_on_without_its_caller():
    """It is an execution of its own: that its caller was stopped is no reason to stop it."""
    async with engine_of() as engine:
        run = await engine.start(call(ship), ORDER)
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
        await engine.stop(run.name)
        (callee,) = await engine.resume((await engine.executions())[1].name)
        assert await callee.result() == "shipped 3 tea"
        assert (await engine.execution(run.name)).status == "STOPPED"
        (operation,) = await engine.operations(run.name)
        assert operation.status is OperationStatus.STARTED


@pytest.mark.parametrize("status", ["TIMED_OUT", "SUCCEEDED"])
async def test_an_end_is_told_once(status: str):
    """A second one, of whatever kind, changes nothing; nor one for what is no invoke, or not there."""
    async with engine_of() as engine:
        run = await engine.start(call(ship), ORDER)
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
        (operation,) = await engine.operations(run.name)
        caller = Caller(run.id, operation.id)
        outside = Outside(engine.service)
        await outside.end_invoke(caller, OperationStatus(status), result='"by hand"')
        await outside.end_invoke(caller, OperationStatus.FAILED, error=ErrorObject(error_message="late"))
        await outside.end_invoke(Caller(run.id, "nothing"), OperationStatus.FAILED)
        await outside.end_invoke(Caller("nobody", operation.id), OperationStatus.FAILED)
        await run.wait()
        (callee,) = await engine.resume((await engine.executions())[1].name)
        await callee.wait()
        kinds = [event.event_type for event in await engine.history(run.name)]
        assert [kind for kind in kinds if "Invoke" in kind][1:] == [
            EventType.CHAINED_INVOKE_SUCCEEDED if status == "SUCCEEDED" else EventType.CHAINED_INVOKE_TIMED_OUT
        ]


async def test_a_name_that_somebody_else_has_fails_the_invoke():
    """It is never taken for the callee's result."""
    store = FakeStore()
    taken: list[str] = []

    async def take() -> None:
        for kept in list(store._kept.values()):
            for operation_id, extra in kept.extras.items():
                callee = callee_record(kept.record, operation_id, extra, "x:y", kept.record.start_timestamp)
                if not taken:
                    taken.append(callee.name)
                    await store.create(Change(execution=msgspec.structs.replace(callee, id="another", caller=None)))

    store.after = take
    async with engine_of(ship, store=store) as engine:
        run = await engine.start(call(ship), ORDER)
        record = await run.wait()
        assert record.error is not None
        assert f"an execution named '{taken[0]}'" in str(record.error.error_message)


# --- From where it is called -------------------------------------------------------------------------------------


async def test_a_callee_inherits_nothing_of_what_is_ambient_in_its_caller():
    """Called while a saga rolls back, it has operations and sagas of its own."""

    @durable_execution(name="refund")
    async def refund(payload: Any, ctx: DurableContext) -> None:
        async with saga(ctx) as scope:
            await scope.step(refunding, compensate=lambda _: None)

    async def plain(payload: Any) -> None:
        with pytest.raises(LookupError):
            current_context()
        EFFECTS["plain"] += 1

    async def undo(_: Any) -> None:
        await current_context().invoke("refund", None)
        await current_context().invoke("plain", None)

    def refunding() -> None:
        EFFECTS["refunded"] += 1

    @durable_execution(name="caller")
    async def caller(payload: Any, ctx: DurableContext) -> None:
        async with saga(ctx) as scope:
            await scope.step(lambda: 1, name="pay", compensate=undo)
            raise ValueError("roll back")

    async with engine_of(refund, plain) as engine:
        run = await engine.start(caller, None)
        record = await run.wait()
        assert record.error is not None
        assert record.error.error_type == "ValueError", record.error
        assert EFFECTS == {"refunded": 1, "plain": 1}


# --- Crashes -----------------------------------------------------------------------------------------------------


class CrashingStore(FakeStore):
    """Stops for good around one commit: nothing more is applied, and nobody hears of anything any more."""

    def __init__(self, inner: Store, number: int, *, applied: bool) -> None:
        super().__init__()
        self.inner = inner
        self.number = number
        self.applied = applied
        self.seen = 0
        self.crashed = anyio.Event()
        # What cannot be cancelled waits for this: the process is gone.
        self.gone = anyio.Event()

    async def create(self, change: Change) -> None:
        await self._do(lambda: self.inner.create(change))

    async def commit(self, execution_id: str, change: Change) -> None:
        await self._do(lambda: self.inner.commit(execution_id, change))

    async def find(self, name: str) -> Any:
        return await self.inner.find(name)

    async def executions(self, status: Any = None) -> Any:
        return await self.inner.executions(status)

    async def load(self, execution_id: str) -> Any:
        return await self.inner.load(execution_id)

    async def events(self, execution_id: str, after: int = 0) -> Any:
        return await self.inner.events(execution_id, after)

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        self.seen += 1
        if self.seen < self.number:
            await work()
            return
        if self.seen == self.number and self.applied:
            await work()
        self.crashed.set()
        await self.gone.wait()
        raise StoreError("the process is gone")


async def crash_and_go_on(store: Store, number: int, *, applied: bool, registered: tuple[Any, ...]) -> bool:
    """Run `sell` until a commit, then with another engine to its end. Returns whether there is such a commit."""
    crashing = CrashingStore(store, number, applied=applied)
    async with engine_of(charge, ship, store=crashing) as engine, anyio.create_task_group() as tasks:

        async def sold() -> None:
            with suppress(StoreError):
                run = await engine.start(sell, ORDER, name="t-1")
                assert await run.result() == SOLD
                tasks.cancel_scope.cancel()

        tasks.start_soon(sold)
        await crashing.crashed.wait()
        crashing.gone.set()
        tasks.cancel_scope.cancel()
    async with engine_of(*registered, store=store) as engine:
        await engine.resume()
        run = await engine.start(sell, ORDER, name="t-1")
        assert await run.result() == SOLD
        for other in await engine.resume():
            await other.wait()
        executions = await engine.executions()
        assert [execution.status for execution in executions] == ["SUCCEEDED"] * 2
        assert executions[1].caller is not None
        kinds = Counter(event.event_type for event in await engine.history("t-1"))
        assert kinds[EventType.CHAINED_INVOKE_STARTED] == kinds[EventType.CHAINED_INVOKE_SUCCEEDED] == 2
        assert kinds[EventType.EXECUTION_SUCCEEDED] == 1
        kinds = Counter(event.event_type for event in await engine.history(executions[1].name))
        assert kinds[EventType.EXECUTION_SUCCEEDED] == kinds[EventType.EXECUTION_STARTED] == 1
    return crashing.crashed.is_set()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("applied", [False, True])
async def test_a_crash_at_any_commit_loses_nothing_and_ends_nothing_twice(kind: str, applied: bool, tmp_path: Path):
    """Just before it, or after it while nobody has heard: one callee, one end of each invoke, and the same result.

    What is plain is called again if its end was not recorded. The durable callee is not even registered with the
    second engine.
    """
    for number in range(1, 100):
        EFFECTS.clear()
        store = MemoryStore() if kind == "memory" else open_store(str(tmp_path / f"{number}.db"))
        try:
            crashed = await crash_and_go_on(store, number, applied=applied, registered=(charge,))
        finally:
            await store.aclose()
        assert EFFECTS["charged"] in {1, 2}
        assert EFFECTS["packed"] in {1, 2}
        if not crashed:
            assert number > 12
            assert EFFECTS == {"charged": 1, "packed": 1}
            return
    raise AssertionError("there is no end to the commits")


@pytest.mark.parametrize("applied", [False, True])
async def test_a_crash_at_any_commit_of_a_call_to_nobody(applied: bool):
    """It fails with the same error, also if there is such a function by the time it is taken up again."""
    for number in range(1, 100):
        store = MemoryStore()
        crashing = CrashingStore(store, number, applied=applied)
        crashed = False
        async with engine_of(store=crashing) as engine, anyio.create_task_group() as tasks:

            async def ended(engine: Engine = engine, tasks: Any = tasks) -> None:
                with suppress(StoreError):
                    run = await engine.start(call("nobody"), None, name="t-1")
                    await run.wait()
                    tasks.cancel_scope.cancel()

            tasks.start_soon(ended)
            await crashing.crashed.wait()
            crashed = True
            crashing.gone.set()
            tasks.cancel_scope.cancel()
        async with engine_of(store=store) as engine:
            run = await engine.start(call("nobody"), None, name="t-1")
            record = await run.wait()
            assert record.error is not None
            assert "'nobody'" in str(record.error.error_message)
            kinds = Counter(event.event_type for event in await engine.history("t-1"))
            assert kinds[EventType.CHAINED_INVOKE_FAILED] == 1
        if not crashed:
            assert number > 5
            return


async def test_a_store_that_fails_now_and_then_loses_nothing():
    """Each commit once, whoever asked for it; the engine tries again."""
    for number in range(2, 100):
        EFFECTS.clear()
        store = FakeStore()
        seen = 0

        async def before(number: int = number) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                raise OSError("no space left on device")

        store.before = before
        async with engine_of(charge, ship, store=store) as engine:
            run = await engine.start(sell, ORDER, name="t-1")
            assert await run.result() == SOLD
            assert EFFECTS["charged"] == 1
            kinds = Counter(event.event_type for event in await engine.history("t-1"))
            assert kinds[EventType.CHAINED_INVOKE_STARTED] == kinds[EventType.CHAINED_INVOKE_SUCCEEDED] == 2
        if seen < number:
            assert number > 12
            return


async def test_a_store_that_cannot_be_read_is_asked_again_in_its_own_time():
    """Whoever is resumed is not tried again and again without a pause; and goes on when it can."""
    store = FakeStore()
    async with engine_of(charge, store=store) as engine:
        await engine.start(sell, ORDER, name="t-1")
        while not EFFECTS["charged"]:
            await anyio.lowlevel.checkpoint()
    clock = SkippingClock()
    async with engine_of(charge, store=store, clock=clock) as engine:
        store.before_load = fail
        store.loads = 0
        run = await engine.start(sell, ORDER, name="t-1")
        await clock.sleep_until(clock.now() + 20_000)
        assert 4 <= store.loads <= 6
        store.before_load = nothing
        assert await run.result() == SOLD


async def test_a_plain_function_that_was_interrupted_is_called_again():
    """By the next engine; and once at a time, however often the caller is resumed."""
    at_work = 0
    inside = anyio.Event()

    async def slow(payload: Any) -> str:
        nonlocal at_work
        EFFECTS["begun"] += 1
        at_work += 1
        try:
            inside.set()
            assert at_work == 1
            if EFFECTS["begun"] == 1:
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
            return "done"
        finally:
            at_work -= 1

    store = MemoryStore()
    async with engine_of(slow, store=store) as engine:
        await engine.start(call("slow"), None, name="t-1")
        await inside.wait()
    async with engine_of(slow, store=store) as engine:
        run = await engine.start(call("slow"), None, name="t-1")
        for _ in range(5):
            await engine.resume()
            await engine.service.take_up(run.id)
        assert await run.result() == "done"
        assert EFFECTS["begun"] == 2


async def test_a_plain_function_that_is_not_registered_any_more_is_waited_for(caplog: pytest.LogCaptureFixture):
    """It was known when it was called: the log says what is missing, and it is called once it is registered."""
    inside = anyio.Event()

    async def slow(payload: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    async def fast(payload: Any) -> str:
        return "done"

    store = MemoryStore()
    async with engine_of(slow, store=store) as engine:
        await engine.start(call("slow"), None, name="t-1")
        await inside.wait()
    clock = SkippingClock()
    async with engine_of(store=store, clock=clock) as engine:
        run = await engine.start(call("slow"), None, name="t-1")
        with caplog.at_level(logging.ERROR, "durable.local"):
            await clock.sleep_until(clock.now() + 3_600_000)
        assert "execution 't-1' waits for function 'slow', which is not registered" in caplog.text
        assert not run.is_over
        engine.register(charge, "charge")
        await clock.sleep_until(clock.now() + 1)
        assert not run.is_over
        engine.register(fast, "slow")
        assert await run.result() == "done"


async def test_nothing_is_called_for_who_has_been_stopped():
    """The function that he waited for is registered too late."""
    inside = anyio.Event()

    async def slow(payload: Any) -> None:
        EFFECTS["begun"] += 1
        inside.set()
        await anyio.sleep_forever()

    store = MemoryStore()
    async with engine_of(slow, store=store) as engine:
        await engine.start(call("slow"), None, name="t-1")
        await inside.wait()
    clock = SkippingClock()
    async with engine_of(store=store, clock=clock) as engine:
        await engine.start(call("slow"), None, name="t-1")
        await clock.sleep_until(clock.now() + 1)
        await engine.stop("t-1")
        engine.register(slow, "slow")
        await clock.sleep_until(clock.now() + 1)
        assert EFFECTS["begun"] == 1
        assert engine._invoker._busy == engine._invoker._missing == set()


async def test_a_plain_function_that_has_become_durable_is_called_as_such():
    """Between two engines; the caller does not notice."""
    inside = anyio.Event()

    async def plain(payload: Any) -> None:
        inside.set()
        await anyio.sleep_forever()

    @durable_execution(name="plain")
    async def durable(payload: Any, ctx: DurableContext) -> str:
        return "durable"

    store = MemoryStore()
    async with engine_of(plain, store=store) as engine:
        await engine.start(call("plain"), None, name="t-1")
        await inside.wait()
    async with engine_of(durable, store=store) as engine:
        run = await engine.start(call("plain"), None, name="t-1")
        assert await run.result() == "durable"
        assert len(await engine.executions()) == 2


@pytest.mark.parametrize("registered", [False, True])
async def test_a_callee_that_cannot_be_loaded_does_not_end_its_caller(
    registered: bool, caplog: pytest.LogCaptureFixture
):
    """The caller waits until it is registered, or for an engine that has it; who runs this one is told."""

    @durable_execution(name="local")
    async def local(payload: Any, ctx: DurableContext) -> str:
        await ctx.wait(60)
        return "done"

    store = MemoryStore()
    async with engine_of(local, store=store) as engine:
        run = await engine.start(call("local"), None, name="t-1")
        while len(await engine.executions()) < 2:
            await anyio.lowlevel.checkpoint()
    clock = SkippingClock()
    async with engine_of(store=store, clock=clock) as engine:
        run = await engine.start(call("local"), None, name="t-1")
        with caplog.at_level(logging.ERROR, "durable.local"):
            await clock.sleep_until(clock.now() + 3_600_000)
        assert not run.is_over
        assert "does not go on, and whoever invoked it waits" in caplog.text
        if registered:
            engine.register(local)
            assert await run.result() == "done"
            return
    async with engine_of(local, store=store) as engine:
        run = await engine.start(call("local"), None, name="t-1")
        assert await run.result() == "done"


async def test_what_is_cut_off_is_not_taken_up_again():
    """A callee whose caller's branch is over is nobody's business after a restart; its end changes nothing."""
    inside = anyio.Event()

    async def slow(payload: Any) -> None:
        EFFECTS["begun"] += 1
        inside.set()
        await anyio.sleep_forever()

    @durable_execution(name="caller")
    async def caller(payload: Any, ctx: DurableContext) -> str:
        await ctx.child(impatient)
        await ctx.wait(60)
        return "done"

    async def impatient(ctx: DurableContext) -> None:
        async with ctx.move_on_after(30):
            await ctx.invoke("slow", None)

    store = MemoryStore()
    clock = SkippingClock()
    async with engine_of(slow, store=store, clock=clock) as engine:
        run = await engine.start(caller, None, name="t-1")
        await inside.wait()
        await clock.sleep_until(clock.now() + 45_000)
        assert not run.is_over
    async with engine_of(slow, store=store, clock=clock) as engine:
        run = await engine.start(caller, None, name="t-1")
        assert await run.result() == "done"
        assert EFFECTS["begun"] == 1
