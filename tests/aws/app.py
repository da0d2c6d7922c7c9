"""What the runtimes load: durable functions whose effects are lines in a file."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import msgspec

from durable import DurableContext, current_step, durable_execution, saga


class Order(msgspec.Struct):
    """What is ordered."""

    what: str
    fails: bool = False
    dies: bool = False


class SoldOutError(Exception):
    """Nothing is left."""


def note(text: str) -> None:
    """Write a line."""
    with Path(os.environ["APP_LOG"]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


async def reserve(order: Order) -> dict[str, str | bool | None]:
    """Reserve it, and say what can be known of the invocation."""
    note(f"reserve {order.what} {os.getpid()}")
    if order.dies and current_step().attempt == 1 and lines()[:-1] == []:
        os.kill(os.getpid(), signal.SIGKILL)  # as Lambda does at its timeout
    info = current_step()
    assert info.remaining_time is not None
    return {
        "request": info.request_id,
        "in time": 0 < info.remaining_time <= 30,
        "thread": threading.current_thread().name,
        "backend": backend(),
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }


async def release(_: object) -> None:
    """Undo it."""
    note("release")


async def pay(order: Order) -> None:
    """Pay, if there is something left."""
    if order.fails:
        raise SoldOutError(order.what)
    note("pay")


def backend() -> str:
    """Which event loop this is."""
    import sniffio

    return sniffio.current_async_library()


def lines() -> list[str]:
    """Everything that was written."""
    path = Path(os.environ["APP_LOG"])
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


async def _order(order: Order, ctx: DurableContext) -> dict[str, str | bool | None]:
    async with saga(ctx) as s:
        told = await s.step(reserve, order, compensate=release)
        await ctx.wait(1, name="cooling-off")
        await s.step(pay, order)
    return told


@durable_execution
async def on_asyncio(order: Order, ctx: DurableContext) -> dict[str, str | bool | None]:
    """A saga on asyncio."""
    return await _order(order, ctx)


@durable_execution(backend="trio")
async def on_trio(order: Order, ctx: DurableContext) -> dict[str, str | bool | None]:
    """The same on trio."""
    return await _order(order, ctx)


FUNCTIONS = {"asyncio": on_asyncio, "trio": on_trio}
