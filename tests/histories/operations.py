"""Programs whose histories are kept, one operation after another. They are never changed."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import anyio

from durable import (
    Backoff,
    CallbackError,
    DurableContext,
    InvokeError,
    Retry,
    StepInterruptedError,
    StepTimeoutError,
    TimeLimitError,
    durable_execution,
    step,
)
from durable.serde import JsonSerde
from tests.histories.world import (
    PROGRAMS,
    QUICKLY,
    Program,
    Refused,
    count,
    counting,
    fail,
    fail_twice,
    family,
    hang_once,
    item,
    nothing,
    pack,
    refuse,
    succeed,
    waiting,
    weigh,
)


@step(name="declared", retry=QUICKLY)
async def declared(word: str) -> bytes:
    return word.encode()


@durable_execution
async def steps(event: dict[str, int], ctx: DurableContext) -> dict[str, Any]:
    parcel = await ctx.step(pack, event["number"])
    weight = await ctx.step(weigh, parcel, name="put it on the scales")
    await ctx.step(nothing)
    return {"parcel": parcel, "weight": weight, "declared": base64.b64encode(await declared("x")).decode()}


@durable_execution
async def retries(event: None, ctx: DurableContext) -> list[str]:
    found = [await ctx.step(fail_twice, "retries", retry=QUICKLY)]
    for retry in (None, Retry(attempts=2, initial_delay=1, jitter="none")):
        try:
            await ctx.step(refuse, "no", retry=retry)
        except Refused as error:
            found.append(f"{error} {error.code}")
    try:
        await ctx.step(anyio.sleep_forever, timeout=0.01, name="too slow")
    except StepTimeoutError as error:
        found.append(str(error))
    return found


@durable_execution
async def interrupted_at_least_once(event: None, ctx: DurableContext) -> list[str]:
    await ctx.wait(1)  # so that the START is recorded before the step ends
    async with ctx.task_group() as group:
        group.start_soon(_hanging, "interrupted_at_least_once")
        group.start_soon(waiting)
    return ["over"]


async def _hanging(ctx: DurableContext, key: str) -> str:
    return await ctx.step(hang_once, key)


@durable_execution
async def interrupted_at_most_once(event: None, ctx: DurableContext) -> list[str]:
    found: list[str] = []
    try:
        await ctx.step(hang_once, "interrupted_at_most_once", semantics="at-most-once")
    except StepInterruptedError as error:
        found.append(str(error))
    retry = Retry(attempts=2, initial_delay=1, jitter="none")
    found.append(await ctx.step(hang_once, "interrupted_at_most_once", semantics="at-most-once", retry=retry))
    return found


async def raise_local() -> None:
    class Unknown(Exception): ...

    raise Unknown("of a function")


async def raise_group() -> None:
    raise ExceptionGroup("two", [ValueError("one"), Refused("two", 2)])


async def raise_from() -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RuntimeError("outer") from error


@durable_execution
async def errors(event: None, ctx: DurableContext) -> list[str]:
    found: list[str] = []
    for function in (raise_local, raise_group, raise_from):
        try:
            await ctx.step(function)
        except ExceptionGroup as error:
            found.append(f"{error} {[str(one) for one in error.exceptions]}")
        except RuntimeError as error:
            found.append(f"{error} {error.__cause__!r}")
        except Exception as error:
            # Its own class in the process that raised it, a RecordedError in others.
            found.append(str(error).rpartition(": ")[2])
    await ctx.step(refuse, "in the end")
    return found


PROGRAMS["steps"] = Program(steps, {"number": 3})
PROGRAMS["retries"] = Program(retries)
PROGRAMS["interrupted-at-least-once"] = Program(interrupted_at_least_once, crash=("WaitStarted", "beside it"))
PROGRAMS["interrupted-at-most-once"] = Program(interrupted_at_most_once, crash=("StepStarted", "hang_once"))
PROGRAMS["errors"] = Program(errors)


# --- What waits --------------------------------------------------------------------------------------------------


async def submit(callback_id: str) -> None: ...


@durable_execution
async def waits(event: int, ctx: DurableContext) -> list[int]:
    await ctx.wait(event, name="pause")
    found = [
        await ctx.wait_for_condition(
            count, 0, until=lambda n: n == 3, delay=Backoff(initial_delay=2, jitter="none"), name="three"
        )
    ]
    with suppress(TimeoutError):
        await ctx.wait_for_condition(count, 7, until=lambda n: n < 0, delay=10, timeout=25, name="never")
    await ctx.wait(30 * 86_400)
    return found


@durable_execution
async def callbacks(event: None, ctx: DurableContext) -> list[str]:
    early = await ctx.create_callback(int, name="early")
    found: list[str] = []
    for name, limits in (
        ("answered", {}),
        ("failed", {}),
        ("late", {"timeout": 7}),
        ("silent", {"timeout": 600, "heartbeat_timeout": 4}),
        ("wrong", {}),
    ):
        callback = await ctx.create_callback(int, name=name, **limits)
        try:
            found.append(str(await callback.result()))
        except (CallbackError, ValueError) as error:
            found.append(type(error).__name__)
    found.append(str(await early.result()))
    found.append(await ctx.wait_for_callback(submit, str, name="approval", timeout=3600))
    with suppress(CallbackError):
        await ctx.wait_for_callback(submit, name="refusal")
    return found


@durable_execution
async def callee(event: int, ctx: DurableContext) -> int:
    await ctx.wait(5)
    return event + 1


@durable_execution
async def failing_callee(event: int, ctx: DurableContext) -> None:
    await ctx.step(refuse, "not today")


async def plain_callee(event: int) -> int:
    return event * 2


@durable_execution
async def invokes(event: int, ctx: DurableContext) -> list[Any]:
    found: list[Any] = [await ctx.invoke(callee, event, name="durable")]
    found.append(await ctx.invoke("plain", event, result_type=int))
    for name in ("failing_callee", "nobody"):
        try:
            await ctx.invoke(name, event)
        except InvokeError as error:
            found.append(type(error).__name__)
    return found


@durable_execution
async def time_limits(event: None, ctx: DurableContext) -> list[Any]:
    found: list[Any] = []
    async with ctx.move_on_after(60, name="in time") as limit:
        await ctx.step(count, 1)
    found.append(limit.expired)
    async with ctx.move_on_after(5, name="too late") as limit:
        await ctx.step(count, 2)
        async with ctx.move_on_after(100, name="inner"):
            await ctx.wait(50)
    found.append(limit.expired)
    try:
        async with ctx.fail_after(3):
            await ctx.parallel([waiting, counting], name="both")
    except TimeLimitError as error:
        found.append(str(error))
    await ctx.wait(2)
    return found


PROGRAMS["waits"] = Program(waits, 3)
PROGRAMS["callbacks"] = Program(
    callbacks,
    answers={
        "answered": [succeed(1)],
        "failed": [fail(Refused("by hand", 3))],
        "wrong": [succeed("no number")],
        "early": [succeed(5)],
        "approval create callback id": [succeed("granted")],
        "refusal create callback id": [fail("no")],
    },
)
PROGRAMS["invokes"] = Program(
    invokes, 4, callees={"callee": callee, "failing_callee": failing_callee, "plain": plain_callee}
)
PROGRAMS["time-limits"] = Program(time_limits)


# --- The rest ----------------------------------------------------------------------------------------------------


@durable_execution
async def batches(event: int, ctx: DurableContext) -> int:
    total = 0
    async with ctx.batch():
        for number in range(event):
            total += await ctx.step(count, number)
    await ctx.wait(1)
    return total


@durable_execution
async def chance(event: None, ctx: DurableContext) -> list[Any]:
    first = [ctx.now(), ctx.uuid4(), ctx.random().random()]
    await ctx.wait(60)
    await ctx.step(count, 1)
    return [*first, ctx.now(), ctx.uuid4(), await ctx.child(_drawn)]


async def _drawn(ctx: DurableContext) -> list[str]:
    return [str(ctx.now()), str(ctx.uuid4())]


class Rot13(JsonSerde):
    async def encode(self, value: Any) -> str:  # type: ignore[override]
        return base64.b64encode(super().encode(value).encode()).decode()

    async def decode(self, text: str, annotation: Any) -> Any:
        return super().decode(base64.b64decode(text).decode(), annotation)


@durable_execution(serde=Rot13())
async def serdes(event: dict[str, int], ctx: DurableContext) -> dict[str, Any]:
    first = await ctx.step(count, event["a"])
    parcel = await ctx.step(pack, first, serde=JsonSerde())
    items = (await ctx.map(item, [1, 2])).results()
    return {"parcel": parcel.number, "items": items, "child": await ctx.child(family, 1)}


@durable_execution
async def stopped(event: None, ctx: DurableContext) -> None:
    await ctx.step(count, 1)
    await ctx.wait(3600, name="long")


@durable_execution
async def bad_input(event: dict[str, int], ctx: DurableContext) -> int:
    return event["nothing of the kind"]


@durable_execution
async def official(event: dict[str, Any], ctx: DurableContext) -> dict[str, Any]:
    """The same as `official.py`, which is written with AWS's own SDK."""
    first = await ctx.step(count, 19, name="first")
    second = await ctx.step(fail_twice, "official", name="second", retry=QUICKLY)
    await ctx.wait(1, name="pause")

    async def inside(child: DurableContext) -> int:
        return await child.step(count, first + event["n"] - 1, name="inside")

    third = await ctx.child(inside, name="child")
    answer = await (await ctx.create_callback(name="answer", timeout=600)).result()

    async def each(child: DurableContext, number: int) -> int:
        doubled = await child.step(count, number * 2 - 1, name=f"item-{number}")
        await child.wait(60 * number, name=f"pause-{number}")
        return doubled

    if event["map"]:
        await ctx.map(each, [1, 2], name="map")
    return {"sum": third, "second": "at last" if second else "", "answer": answer}


PROGRAMS["official"] = Program(official, {"n": 22, "map": False}, answers={"answer": [succeed("yes")]})
PROGRAMS["official-in-flight"] = Program(official, {"n": 22, "map": True}, answers={"answer": [succeed("yes")]})
PROGRAMS["batches"] = Program(batches, 6)
PROGRAMS["chance"] = Program(chance)
PROGRAMS["serdes"] = Program(serdes, {"a": 1})
PROGRAMS["paused"] = Program(waits, 3, pause=("WaitStarted", "pause"))
PROGRAMS["timed-out"] = Program(stopped, timeout=60)
PROGRAMS["stopped"] = Program(stopped, stop=("WaitStarted", "long"))
PROGRAMS["bad-input"] = Program(bad_input, {})
