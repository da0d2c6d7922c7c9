"""Invokes: other functions, called durably."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from durable import (
    DurableContext,
    InvalidNameError,
    InvokeError,
    InvokeFailedError,
    InvokeStoppedError,
    InvokeTimedOutError,
    NonDeterminismError,
    NotDurableError,
    PayloadTooLargeError,
    RecordedError,
    SerializationError,
    durable_execution,
    saga,
)
from durable._wire import ErrorObject
from durable._wire import OperationStatus as S
from tests.harness import CrashError
from tests.scripted import ScriptedService

pytestmark = pytest.mark.anyio

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


@dataclass
class Order:
    id: int
    price: Decimal


@dataclass
class Receipt:
    paid: Decimal


class Declined(Exception):
    reason: str = ""


@durable_execution
async def charge(order: Order, ctx: DurableContext) -> Receipt:
    raise AssertionError("the test plays the callee")


@durable_execution
async def shop(event: None, ctx: DurableContext) -> Receipt:
    return await ctx.invoke(charge, Order(7, Decimal("9.50")))


async def test_a_durable_function_is_called_by_its_name_and_its_types():
    """Its START is awaited, then nothing runs until it has ended; the result is decoded by its annotation."""
    service = ScriptedService(shop)
    await service.suspended()
    assert service.calls == [["CHAINED_INVOKE START charge"]]
    update = service.updates[0][0]
    assert (update.sub_type, update.payload) == ("ChainedInvoke", '{"id":7,"price":"9.50"}')
    assert update.chained_invoke_options is not None
    assert update.chained_invoke_options.function_name == "charge"
    assert update.chained_invoke_options.tenant_id is None
    service.end("charge", result='{"paid":"9.50"}')
    assert await service.result() == Receipt(Decimal("9.50"))
    assert len(service.calls) == 1


@pytest.mark.parametrize(
    ("options", "text", "value"),
    [
        ({}, '{"paid": 1}', {"paid": 1}),
        ({}, None, None),
        ({"result_type": Receipt}, '{"paid": 1}', Receipt(Decimal(1))),
        ({"result_type": list[int] | None}, None, None),
        ({"result_type": int}, "7", 7),
    ],
)
async def test_a_function_is_called_by_name_and_its_result_decoded_by_the_given_type(options, text, value):
    """Plain JSON data without one."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        SEEN.append(await ctx.invoke("pay", [1, {"a": Decimal("1.5")}], **options))
        await ctx.wait(1)

    service = ScriptedService(work)
    await service.suspended()
    assert service.updates[0][0].payload == '[1,{"a":"1.5"}]'
    service.end("pay", result=text)
    await service.suspended()
    await service.suspended()
    assert [value, value] == SEEN
    assert all(type(one) is type(value) for one in SEEN)


async def test_a_type_that_is_given_counts_also_for_a_durable_function():
    """When its annotation is not what the caller wants, or when it has none."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        function: Any = charge
        SEEN.append(await ctx.invoke(function, Order(1, Decimal(1)), result_type=dict[str, int]))

    service = ScriptedService(work)
    await service.suspended()
    service.end("charge", result='{"paid":1}')
    await service.result()
    assert SEEN == [{"paid": 1}]


async def test_the_tenant_goes_along():
    """For functions that keep tenants apart."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.invoke("pay", tenant_id="acme")

    service = ScriptedService(work)
    await service.suspended()
    options = service.updates[0][0].chained_invoke_options
    assert options is not None
    assert (options.function_name, options.tenant_id) == ("pay", "acme")
    assert service.updates[0][0].payload == "null"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("pay", "pay"),
        ("pay:prod", "pay"),
        ("123456789012:function:pay", "pay"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:pay", "pay"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:pay:$LATEST", "pay"),
        ("a:b:c", "a:b:c"),
        (charge, "charge"),
    ],
)
async def test_an_invoke_is_called_as_its_function_whatever_the_version(function, name):
    """So that a new version does not make another operation of it; the function is called as given."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.invoke(function, Order(1, Decimal(1)))

    service = ScriptedService(work)
    await service.suspended()
    update = service.updates[0][0]
    assert update.name == name
    assert update.chained_invoke_options is not None
    assert update.chained_invoke_options.function_name == (function if isinstance(function, str) else name)


async def test_a_name_may_be_given():
    """And is checked on replay, as every name."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.invoke("pay", name="first try")

    @durable_execution
    async def deployed(event: None, ctx: DurableContext) -> None:
        await ctx.invoke("pay")

    service = ScriptedService(work)
    await service.suspended()
    assert service.calls == [["CHAINED_INVOKE START first try"]]
    service.function = deployed
    with pytest.raises(NonDeterminismError, match="expected ChainedInvoke 'first try'"):
        await service.invoke()


ENDINGS: dict[str, tuple[S, ErrorObject | None, type[InvokeError], str]] = {
    "failed": (
        S.FAILED,
        ErrorObject(
            error_type=f"{__name__}.Declined",
            error_message="no funds",
            error_data='{"args":["no funds"],"attributes":{"reason":"limit"}}',
            stack_trace=("line 1", "line 2"),
        ),
        InvokeFailedError,
        f"function 'pay:prod' failed: {__name__}.Declined: no funds",
    ),
    "failed in another language": (
        S.FAILED,
        ErrorObject(error_type="Runtime.ExitError", error_message="RequestId: 1 Error: exit status 1"),
        InvokeFailedError,
        "function 'pay:prod' failed: Runtime.ExitError: RequestId: 1 Error: exit status 1",
    ),
    "timed out": (
        S.TIMED_OUT,
        ErrorObject(error_message="Execution timed out"),
        InvokeTimedOutError,
        "function 'pay:prod' timed out: Error: Execution timed out",
    ),
    "stopped": (S.STOPPED, None, InvokeStoppedError, "function 'pay:prod' was stopped"),
    "cancelled": (S.CANCELLED, None, InvokeError, "function 'pay:prod' ended without a result"),
}


def facts(error: BaseException | None) -> Any:
    """What there is to an exception, apart from where it was raised."""
    if error is None:
        return None
    own = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    return type(error), str(error), error.args, own, facts(error.__cause__)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("around", ["nothing", "child", "saga"])
async def test_how_a_callee_ended_is_told(ending, around):
    """Each way as its own type with what was recorded of it, the same live and replayed, whatever is around."""
    status, reported, kind, text = ENDINGS[ending]

    async def inside(ctx: DurableContext) -> None:
        await ctx.invoke("pay:prod", 7)

    async def undo(value: Any) -> None: ...
    async def book() -> None: ...

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            if around == "child":
                await ctx.child(inside)
            elif around == "saga":
                async with saga(ctx) as s:
                    await s.step(book, compensate=undo)
                    await inside(ctx)
            else:
                await inside(ctx)
        except InvokeError as error:
            SEEN.append(error)
        await ctx.wait(1)

    service = ScriptedService(work)
    await service.suspended()
    service.end("pay", status, error=reported)
    await service.suspended()
    await service.suspended()
    assert len(SEEN) == 2
    told = reported or ErrorObject()
    for error in SEEN:
        assert (type(error), str(error), error.function_name) == (kind, text, "pay:prod")
        assert (error.error_type, error.message) == (told.error_type, told.error_message)
        assert (error.data, error.stack_trace) == (told.error_data, told.stack_trace or ())
        assert isinstance(error, TimeoutError) is (status is S.TIMED_OUT)
    live, replayed = SEEN
    assert facts(live) == facts(replayed)


async def test_what_the_callee_raised_is_the_cause_as_its_own_type():
    """Where its class is known here; otherwise what was recorded of it."""
    service = ScriptedService(shop)
    await service.suspended()
    service.end("charge", S.FAILED, error=ENDINGS["failed"][1])
    with pytest.raises(InvokeFailedError, match="function 'charge' failed") as caught:
        await service.result()
    cause = caught.value.__cause__
    assert isinstance(cause, Declined)
    assert (str(cause), cause.reason) == ("no funds", "limit")
    service.end("charge", S.FAILED, error=ENDINGS["failed in another language"][1])
    with pytest.raises(InvokeFailedError) as caught:
        await service.result()
    assert isinstance(caught.value.__cause__, RecordedError)


@pytest.mark.parametrize(
    ("options", "error"),
    [({}, "the result of charge"), ({"result_type": int}, "the result of charge")],
)
async def test_a_result_that_does_not_fit_is_told(options, error):
    """It names the function and the type."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.invoke("charge" if options else charge, Order(1, Decimal(1)), **options)

    service = ScriptedService(work)
    await service.suspended()
    service.end("charge", result='"paid"')
    with pytest.raises(SerializationError, match=f"{error} does not fit its annotation"):
        await service.result()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        (("pay", object()), {}, SerializationError, "the payload for pay cannot be encoded"),
        (("pay", "x" * 1_048_577), {}, PayloadTooLargeError, "the payload for pay is 1,048,579 bytes encoded"),
        (("pay", "é" * 600_000), {}, PayloadTooLargeError, "the payload for pay is 1,200,002 bytes encoded"),
        ((charge, 7), {}, SerializationError, "the input of charge does not fit its annotation Order"),
        (("pay", 7), {"result_type": threading.Thread}, SerializationError, "annotated with Thread"),
        (("",), {}, InvalidNameError, "for the function of an invoke: it has 1 to 256 characters"),
        (("x" * 257,), {}, InvalidNameError, "for the function of an invoke"),
        (("pay",), {"tenant_id": ""}, InvalidNameError, "for the tenant id of an invoke"),
        (("pay",), {"tenant_id": "x" * 257}, InvalidNameError, "for the tenant id of an invoke"),
        (("pay",), {"name": "\n"}, InvalidNameError, "for an invoke: a name has printable"),
        (("höchst",), {}, InvalidNameError, "for an invoke: a name has printable"),
        ((test_the_tenant_goes_along, 7), {}, NotDurableError, "invoke takes one, or the name of a function"),
        ((None,), {}, NotDurableError, "None is not a durable function"),
    ],
)
async def test_senseless_arguments_are_errors_at_the_call(arguments, options, error, text):
    """Before anything is sent, and without taking the function's history apart."""

    async def book() -> str:
        return "booked"

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        with pytest.raises(error) as caught:
            await ctx.invoke(*arguments, **options)
        assert text in str(caught.value)
        return await ctx.step(book)

    service = ScriptedService(work)
    assert await service.result() == "booked"
    assert service.calls == [["STEP START book", "STEP SUCCEED book"]]
    assert await service.result() == "booked"


async def test_a_payload_of_the_very_limit_is_sent():
    """1 MB, quotes included."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.invoke("pay", "x" * (1_048_576 - 2))

    service = ScriptedService(work)
    await service.suspended()
    assert len(service.updates[0][0].payload or "") == 1_048_576


async def test_a_callee_that_has_ended_by_the_time_of_the_answer_does_not_suspend():
    """A plain function is called while its caller waits, perhaps."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        result: int = await ctx.invoke("pay", result_type=int)
        return result

    service = ScriptedService(work)
    service.after = lambda _: service.end("pay", result="7")
    assert await service.result() == 7
    assert service.invocations == 1


@pytest.mark.parametrize("status", [S.PENDING, S.STARTED])
async def test_a_callee_that_has_not_ended_is_waited_for(status):
    """Whatever the service calls it."""
    service = ScriptedService(shop)
    await service.suspended()
    service._change(service.operation("charge").id, status=status)
    await service.suspended()
    assert len(service.calls) == 1


async def test_a_service_that_does_not_repeat_what_it_was_told_is_enough():
    """What was recorded is known without it."""
    service = ScriptedService(shop)
    service.repeats = False
    await service.suspended()
    service.end("charge", result='{"paid":1}')
    assert await service.result() == Receipt(Decimal(1))


async def test_invokes_in_branches_are_all_under_way_before_anything_suspends():
    """And each result goes to its own branch."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[int]:
        async def call(branch: DurableContext, item: str) -> int:
            result: int = await branch.invoke(item, result_type=int)
            return result

        return (await ctx.map(call, ["one", "two", "three"])).results()

    service = ScriptedService(work)
    await service.suspended()
    assert service.invocations == 1
    service.end("two", result="2")
    await service.suspended()
    service.end("three", result="3")
    service.end("one", result="1")
    assert await service.result() == [1, 2, 3]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_the_call_does_not_call_twice(moment):
    """What was recorded was called; what was not, was not."""

    def crash(_: int) -> None:
        raise CrashError

    service = ScriptedService(shop)
    setattr(service, moment, crash)
    with pytest.raises(CrashError):
        await service.invoke()
    service.before = service.after = lambda _: None
    await service.suspended()
    service.end("charge", result='{"paid":1}')
    assert await service.result() == Receipt(Decimal(1))
    assert [operation.type for operation in service.operations[1:]] == ["CHAINED_INVOKE"]
    assert len(service.calls) == (2 if moment == "before" else 1)
