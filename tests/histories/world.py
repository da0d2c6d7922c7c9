"""What the programs whose histories are kept are made of, and what the world does meanwhile.

What has histories is never changed, only added to: executions of it are in flight, so to speak.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import anyio
import msgspec

from durable import (
    DurableContext,
    DurableFunction,
    Retry,
    current_step,
)
from durable.local import Engine

Act = Callable[[Engine, str], Awaitable[object]]
"""What the world does with a callback of that id."""


@dataclass(frozen=True)
class Program:
    """One program, and its world.

    Attributes:
        function: What is executed.
        input: With what.
        answers: By the name of a callback: what becomes of it, the first time and after that.
        crash: After an event of this type and name the process is gone, once.
        stop: After an event of this type and name somebody stops the execution.
        pause: After an event of this type and name somebody pauses it, and resumes it when it is paused.
        timeout: Seconds that the execution may take.
        callees: What it invokes.
    """

    function: DurableFunction[Any, Any]
    input: Any = None
    answers: Mapping[str, Sequence[Act]] = field(default_factory=dict)
    crash: tuple[str, str] | None = None
    stop: tuple[str, str] | None = None
    pause: tuple[str, str] | None = None
    timeout: int | None = None
    callees: Mapping[str, Any] = field(default_factory=dict)


def succeed(value: Any = None) -> Act:
    return lambda engine, callback_id: engine.complete_callback(callback_id, value)


def fail(error: Exception | str) -> Act:
    return lambda engine, callback_id: engine.fail_callback(callback_id, error)


PROGRAMS: dict[str, Program] = {}

QUICKLY = Retry(attempts=3, initial_delay=2, jitter="none")


# --- What steps and branches do --------------------


class Colour(Enum):
    RED = "red"


class Parcel(msgspec.Struct, frozen=True):
    number: int
    price: Decimal
    key: UUID
    sent: datetime
    colour: Colour
    sizes: tuple[int, ...] = ()


class Refused(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


async def pack(number: int) -> Parcel:
    sent = datetime(2025, 11, 25, 8, tzinfo=UTC)
    return Parcel(number, Decimal("9.90"), UUID(int=number), sent, Colour.RED, (1, 2))


def weigh(parcel: Parcel) -> float:
    return parcel.number * 0.5


async def nothing() -> None: ...


async def refuse(message: str = "no") -> None:
    raise Refused(message, 7)


hung: set[str] = set()
"""What has hung once; a program has a key of its own."""


async def fail_twice(key: str) -> str:
    if current_step().attempt < 3:
        raise ConnectionError(f"attempt {current_step().attempt}")
    return key


async def hang_once(key: str) -> str:
    if key not in hung:
        hung.add(key)
        await anyio.sleep_forever()
    return key


async def count(number: int) -> int:
    return number + 1


async def waiting(ctx: DurableContext) -> None:
    await ctx.wait(5, name="beside it")


async def counting(ctx: DurableContext) -> int:
    await ctx.wait(1)
    return await ctx.step(count, 40)


async def item(ctx: DurableContext, number: int) -> int:
    found = await ctx.step(count, number)
    if number < 0:
        await ctx.step(refuse, f"item {number}")
    await ctx.wait(abs(number))
    return found


async def family(ctx: DurableContext, depth: int) -> int:
    await ctx.step(count, depth)
    return depth if not depth else 1 + await ctx.child(family, depth - 1, name=f"child {depth}")
