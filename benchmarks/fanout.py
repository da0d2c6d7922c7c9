"""Fan-outs on the in-memory service: what a branch costs in time and in memory.

python benchmarks/fanout.py
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from uuid import uuid4

import anyio
from report import figure, heading, middle

from durable import DurableContext, DurableFunction, durable_execution
from durable._engine.clock import SystemClock
from durable._wire import ExecutionStatus, InvocationStatus
from durable.abc import ExecutionRecord
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore

ROUNDS = 5


async def book(number: int) -> int:
    """The smallest step there is."""
    return number


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


class Execution:
    """One execution on a service of its own."""

    def __init__(self, function: DurableFunction[int, int], count: int) -> None:
        self.function = function
        self.clock = SystemClock()
        self.service = LocalService(MemoryStore(), self.clock)
        execution_id = uuid4().hex
        self.record = ExecutionRecord(
            id=execution_id,
            name="bench",
            arn=f"arn:aws:lambda:local:0:function:f:1/durable-execution/bench/{execution_id}",
            function="bench:f",
            status=ExecutionStatus.RUNNING,
            start_timestamp=self.clock.now(),
            input=function.encode_input(count),
        )

    async def invoke(self) -> None:
        """One invocation, from the event to the answer."""
        event = await self.service.begin_invocation(self.record.id)
        output = await self.function.invoke(event, self.service, clock=self.clock)
        assert output.status is InvocationStatus.SUCCEEDED, output

    async def seconds(self) -> tuple[float, float]:
        """What an invocation takes that does everything, and one that replays it."""
        await self.service.create(self.record)
        times: list[float] = []
        for _ in range(2):
            gc.collect()
            began = time.perf_counter()
            await self.invoke()
            times.append(time.perf_counter() - began)
        return times[0], times[1]

    async def weight(self) -> int:
        """Bytes at the peak of an invocation, without what is kept of it afterwards."""
        await self.service.create(self.record)
        gc.collect()
        tracemalloc.start()
        await self.invoke()
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak - kept


def speed(function: DurableFunction[int, int], count: int, backend: str = "asyncio") -> float:
    """Milliseconds that an invocation takes."""

    async def measure() -> float:
        return (await Execution(function, count).seconds())[0]

    return middle([anyio.run(measure, backend=backend) * 1e3 for _ in range(ROUNDS)])


def weight(function: DurableFunction[int, int], count: int, backend: str) -> float:
    """Bytes an item, at the peak."""
    return anyio.run(Execution(function, count).weight, backend=backend) / count


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
