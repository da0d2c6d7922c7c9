"""Fan-outs on the in-memory service: what a branch costs in time and in memory.

python benchmarks/fanout.py
"""

from __future__ import annotations

import gc
import tracemalloc

import anyio
from engine import Execution, book
from report import figure, heading, middle

from durable import DurableContext, DurableFunction, durable_execution

ROUNDS = 5


async def item(ctx: DurableContext, number: int) -> int:
    """One branch: one step."""
    return await ctx.step(book, number)


@durable_execution
async def nested(count: int, ctx: DurableContext) -> int:
    """A context an item."""
    return len(await ctx.map(item, range(count)))


@durable_execution
async def flat(count: int, ctx: DurableContext) -> int:
    """No context an item."""
    return len(await ctx.map(item, range(count), nesting="flat"))


@durable_execution
async def nested_few_at_once(count: int, ctx: DurableContext) -> int:
    """Ten at once."""
    return len(await ctx.map(item, range(count), max_concurrency=10))


@durable_execution
async def flat_few_at_once(count: int, ctx: DurableContext) -> int:
    """Ten at once, no context an item."""
    return len(await ctx.map(item, range(count), max_concurrency=10, nesting="flat"))


@durable_execution
async def task_group(count: int, ctx: DurableContext) -> int:
    """A task an item."""
    async with ctx.task_group() as tg:
        handles = [tg.start_soon(item, number) for number in range(count)]
    return sum(handle.result() for handle in handles)


def speed(function: DurableFunction[int, int], count: int, backend: str = "asyncio") -> float:
    """Milliseconds that an invocation takes."""

    async def measure() -> float:
        execution = Execution(function, count)
        await execution.service.create(execution.record)
        event = await execution.begin()
        gc.collect()
        return await execution.invoke(event) * 1e3

    return middle([anyio.run(measure, backend=backend) for _ in range(ROUNDS)])


def weight(function: DurableFunction[int, int], count: int, backend: str) -> float:
    """Bytes an item at the peak of an invocation, with all that the service keeps of it."""

    async def measure() -> int:
        execution = Execution(function, count)
        await execution.service.create(execution.record)
        event = await execution.begin()
        gc.collect()
        tracemalloc.start()
        await execution.invoke(event)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    return anyio.run(measure, backend=backend) / count


WEIGHED = {
    "nested": nested,
    "flat": flat,
    "nested, ten at once": nested_few_at_once,
    "flat, ten at once": flat_few_at_once,
}


def main() -> None:
    """Measure on both event loops."""
    heading("Fan-outs on the in-memory service, one step a branch (median of 5)")
    for backend in ("asyncio", "trio"):
        thousand = speed(nested, 1_000, backend)
        figure(f"{backend}: map of 1,000", thousand, "ms", budget=250)
        figure(f"{backend}: map of 1,000, flat", speed(flat, 1_000, backend), "ms")
        figure(f"{backend}: map of 1,000, ten at once", speed(nested_few_at_once, 1_000, backend), "ms")
        figure(f"{backend}: task group of 1,000", speed(task_group, 1_000, backend), "ms")
        figure(f"{backend}: map of 10,000, ratio", speed(nested, 10_000, backend) / thousand / 10, "x", budget=1.5)
        for shown, function in WEIGHED.items():
            figure(f"{backend}: memory an item, {shown}", weight(function, 10_000, backend), "bytes", budget=3_000)


if __name__ == "__main__":
    main()
