"""Checked by mypy and pyright, never run: the styles in which durable functions and steps are written."""

from __future__ import annotations

import logging
import random
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from durable import (
    DurableContext,
    DurableFunction,
    DurableHandler,
    DurableStep,
    Retry,
    StepOutcome,
    durable_execution,
    step,
)
from durable.abc import Serde
from durable.serde import FileSerde, JsonSerde

# --- Durable functions ---------------------------------------------------------------------------------------


async def plain(city: str, ctx: DurableContext) -> int:
    return len(city)


class BookTrip(DurableHandler):
    async def handle(self, event: str, ctx: DurableContext) -> list[int]:
        return [len(event)]


class NeedsClient(DurableHandler):
    def __init__(self, client: object) -> None:
        self.client = client

    async def handle(self, event: int, ctx: DurableContext) -> None: ...


@durable_execution
class Decorated(DurableHandler):
    async def handle(self, event: bytes, ctx: DurableContext) -> UUID:
        return ctx.uuid4()


@durable_execution(name="other", serde=FileSerde("files"), logger=logging.getLogger(__name__))
class DecoratedWithOptions(DurableHandler):
    async def handle(self, event: bytes, ctx: DurableContext) -> float:
        return ctx.random().random()


def hook(error: Exception) -> Exception | None:
    return ValueError() if isinstance(error, KeyError) else None


@durable_execution(on_error=hook, serde=JsonSerde(), backend="trio")
async def with_options(event: int, ctx: DurableContext) -> str:
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid4(), UUID)
    assert_type(ctx.random(), random.Random)
    async with ctx.batch():
        pass
    return ""


assert_type(durable_execution(plain), DurableFunction[str, int])
assert_type(durable_execution(name="x")(plain), DurableFunction[str, int])
assert_type(durable_execution(BookTrip()), DurableFunction[str, list[int]])
assert_type(durable_execution(BookTrip), DurableFunction[str, list[int]])
assert_type(durable_execution(NeedsClient(object())), DurableFunction[int, None])
assert_type(durable_execution(name="x")(BookTrip()), DurableFunction[str, list[int]])
# mypy takes a decorated class for what it was: there a call is the way.
assert_type(Decorated, DurableFunction[bytes, UUID])  # type: ignore[assert-type]
assert_type(DecoratedWithOptions, DurableFunction[bytes, float])  # type: ignore[assert-type]
assert_type(with_options, DurableFunction[int, str])

durable_execution(3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
durable_execution(on_error=len)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]


# --- Steps ---------------------------------------------------------------------------------------------------


async def cancel(names: list[str]) -> None: ...
async def cancel_in_doubt(outcome: StepOutcome[list[str]]) -> None: ...
def refund(amount: float) -> None: ...


@step
async def reserve(city: str, nights: int = 1) -> list[str]:
    return [city] * nights


@step(name="charge", retry=Retry(), timeout=3, semantics="at-most-once", serde=JsonSerde())
def charge(amount: float) -> float:
    return amount


@step(compensate=cancel, compensate_retry=Retry(), compensate_timeout=5)
async def reserve_and_cancel(city: str, *, nights: int) -> list[str]:
    return [city] * nights


@step(compensate=cancel_in_doubt, compensate_on="start")
async def reserve_in_doubt(city: str) -> list[str]:
    return [city]


@step(compensate=refund)
def charge_and_refund(amount: float) -> float:
    return amount


class Hotel:
    @step
    async def book(self, nights: int) -> str:
        return "x" * nights


async def workflow(event: None, ctx: DurableContext) -> None:
    assert_type(await reserve("Rome"), list[str])
    assert_type(await reserve("Rome", nights=2), list[str])
    later: Coroutine[Any, Any, list[str]] = reserve("Rome", 2)
    await later
    assert_type(await charge(1.5), float)
    assert_type(await reserve_and_cancel("Rome", nights=2), list[str])
    assert_type(await reserve_in_doubt("Rome"), list[str])
    assert_type(await charge_and_refund(1.5), float)
    assert_type(await Hotel().book(2), str)
    assert_type(await Hotel().book(nights=2), str)
    assert_type(await Hotel.book.function(Hotel(), 2), Any)

    await reserve(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await reserve("Rome", days=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await reserve_and_cancel("Rome", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Hotel().book("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    reserve("Rome")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


def takes_a_step(declared: DurableStep[[float], float]) -> None: ...


takes_a_step(charge)


@step(compensate=refund)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def reserve_and_refund(city: str) -> list[str]:
    return [city]


# --- Serdes --------------------------------------------------------------------------------------------------


class Own(Serde):
    def encode(self, value: Any) -> str:
        return str(value)

    async def decode(self, text: str, annotation: Any) -> Any:
        return annotation(text)


class OwnLater(Serde):
    async def encode(self, value: Any) -> str:
        return str(value)

    def decode(self, text: str, annotation: Any) -> object:
        return text


async def serdes(event: None, ctx: DurableContext) -> None:
    assert_type(await ctx.step(cancel, [""], serde=Own()), None)
    await ctx.step(cancel, [""], serde=OwnLater())
    await ctx.step(cancel, [""], serde=Own)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert_type(await durable_execution(plain).dump_input("x"), str)
    assert_type(await durable_execution(plain).load_result("1"), int)
