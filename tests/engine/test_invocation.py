"""One invocation, from the event to the answer."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from durable import DurableContext, SerializationError, current_context, durable_execution, saga
from durable._wire import InvocationInput, InvocationStatus
from durable._wire.invocation import InitialExecutionState
from durable._wire.limits import MAX_ANSWER_BYTES
from durable.exceptions import MalformedPayloadError, NotDurableError
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio


class Order(msgspec.Struct):
    number: int


async def book(n: int = 0) -> int:
    return n


async def test_input_and_result_are_typed_by_annotation():
    """The function gets what its annotation says, and so does whoever asked for the result."""

    @durable_execution
    async def work(order: Order, ctx: DurableContext) -> tuple[Order, ...]:
        assert isinstance(order, Order)
        return (order, Order(order.number + 1))

    assert await Harness(work, Order(1)).result() == (Order(1), Order(2))


async def test_an_input_that_does_not_fit_fails_the_execution_before_any_code_runs():
    """The error names the path inside the input."""
    runs = []

    @durable_execution
    async def work(order: Order, ctx: DurableContext) -> None:
        runs.append(order)

    harness = Harness(work, Order(1))
    harness.record = msgspec.structs.replace(harness.record, input='{"number": "many"}')
    error = await harness.error()
    assert isinstance(error, SerializationError)
    assert "the input of work does not fit its annotation Order" in str(error)
    assert "$.number" in str(error)
    assert runs == []


async def test_a_result_that_cannot_be_encoded_fails_the_execution():
    """With an error that says what it is the result of."""

    @durable_execution
    async def work(event: None, ctx: DurableContext):
        return object()

    error = await Harness(work).error()
    assert isinstance(error, SerializationError)
    assert "the result of work cannot be encoded" in str(error)


async def test_a_result_over_the_answers_limit_is_recorded_first():
    """As an EXECUTION update, last in its call; the answer's result is empty, the execution's is whole."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        await ctx.step(book)
        return "x" * (MAX_ANSWER_BYTES + 1)

    harness = Harness(work)
    output = await harness.invoke()
    assert output.status is InvocationStatus.SUCCEEDED
    assert output.result == ""
    assert harness.calls[-1] == ["EXECUTION SUCCEED None"]
    ended = await harness.ended()
    assert work.decode_result(ended.result) == "x" * (MAX_ANSWER_BYTES + 1)


async def test_history_in_pages_is_read_before_user_code_runs():
    """However small the pages, a replay sees everything."""
    runs = []

    async def count(n: int) -> int:
        runs.append(n)
        return n

    async def subflow(ctx: DurableContext) -> int:
        return await ctx.step(count, 100)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        total = sum([await ctx.step(count, n) for n in range(7)])
        total += await ctx.child(subflow)
        await ctx.wait(1)
        return total

    harness = Harness(work, page_size=2)
    assert await harness.result() == 121
    assert runs == [*range(7), 100]
    assert harness.invocations == 2


async def test_an_event_without_its_execution_is_malformed():
    """It says which operation is missing."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None: ...

    harness = Harness(work)
    event = InvocationInput(
        durable_execution_arn="arn:x/durable-execution/n/abc",
        checkpoint_token="t",
        initial_execution_state=InitialExecutionState(),
    )
    with pytest.raises(MalformedPayloadError, match="no EXECUTION operation 'abc'"):
        await work.invoke(event, harness.service, clock=harness.clock)


async def test_an_abandoned_invocation_records_nothing_and_rolls_nothing_back():
    """Whoever runs it went away, by Ctrl-C for example: that is not the user's own cancellation."""
    undone: list[object] = []
    ended: list[int] = []

    async def cancel(n: int) -> None:
        undone.append(n)

    async def slow() -> None:
        await harness.crash_now()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            async with saga(ctx) as s:
                await s.step(book, 1, compensate=cancel)
                if not ended:
                    await s.step(slow)
        except Exception:
            undone.append("caught")
        finally:
            ended.append(1)
        return "done"

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert ended == [1]
    assert undone == []
    assert not any("rollback" in update for call in harness.calls for update in call)


async def test_an_invocation_abandoned_under_the_users_shield_still_ends():
    """The shield is respected as long as its block runs; nothing is recorded after it."""
    after: list[int] = []

    async def slow() -> None:
        with anyio.CancelScope(shield=True):
            harness._scope.cancel()
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            after.append(1)
        await anyio.lowlevel.checkpoint()
        after.append(2)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(slow)

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    assert after == [1]


@pytest.mark.parametrize("bad", ["plain", "one parameter", "not a function"])
def test_what_cannot_be_durable_is_refused_where_it_is_decorated(bad: str):
    """With what it is and how it should be."""

    def plain(event: None, ctx: DurableContext) -> None: ...

    async def one(event: None) -> None: ...

    things = {"plain": plain, "one parameter": one, "not a function": 3}
    with pytest.raises(NotDurableError, match=r"is not a durable function: .*async def"):
        durable_execution(things[bad])  # type: ignore[call-overload]


async def test_the_decorator_takes_a_name():
    """Keyword options on the decorator are the same function."""

    @durable_execution(name="booking")
    async def work(event: int, ctx: DurableContext) -> int:
        """Book."""
        return event + 1

    assert (work.name, work.__doc__, work.__wrapped__.__name__) == ("booking", "Book.", "work")  # type: ignore[attr-defined]
    assert await Harness(work, 1).result() == 2


async def test_what_is_current_outside_of_an_execution_is_an_error():
    """It says what it is for."""
    with pytest.raises(LookupError, match="inside of a durable function"):
        current_context()
