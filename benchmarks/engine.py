"""Steps on the in-memory service: executed, replayed, and what they weigh.

python benchmarks/engine.py
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any
from uuid import uuid4

import anyio
import msgspec
from report import figure, heading, middle

from durable import DurableContext, DurableFunction, durable_execution
from durable._engine.clock import SystemClock
from durable._wire import ExecutionStatus, InvocationInput, InvocationStatus
from durable.abc import ExecutionRecord
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore

ROUNDS = 5


async def book(number: int) -> int:
    """The smallest step there is."""
    return number


@durable_execution
async def steps(count: int, ctx: DurableContext) -> int:
    """So many steps, one after another."""
    total = 0
    for number in range(count):
        total += await ctx.step(book, number)
    return total


@durable_execution
async def steps_in_a_batch(count: int, ctx: DurableContext) -> int:
    """The same, with many records in one call."""
    async with ctx.batch():
        return await steps.function(count, ctx)


class Load(msgspec.Struct):
    """An input that is as large as it has to be."""

    count: int
    ballast: str


@durable_execution
async def steps_with_ballast(load: Load, ctx: DurableContext) -> int:
    """The same, under an input that has nothing to do with them."""
    return await steps.function(load.count, ctx)


class Execution:
    """One execution on a service of its own."""

    def __init__(self, function: DurableFunction[Any, int], event: Any) -> None:
        self.function = function
        self.clock = SystemClock()
        self.service = LocalService(MemoryStore(), self.clock)
        execution_id = uuid4().hex
        self.record = ExecutionRecord(
            id=execution_id,
            name="bench",
            arn=f"arn:aws:lambda:local:0:function:steps:1/durable-execution/bench/{execution_id}",
            function="bench:steps",
            status=ExecutionStatus.RUNNING,
            start_timestamp=self.clock.now(),
            input=function.encode_input(event),
        )

    async def begin(self) -> InvocationInput:
        """The event of the next invocation."""
        return await self.service.begin_invocation(self.record.id)

    async def invoke(self, event: InvocationInput) -> float:
        """Seconds that one invocation takes."""
        began = time.perf_counter()
        output = await self.function.invoke(event, self.service, clock=self.clock)
        taken = time.perf_counter() - began
        assert output.status is InvocationStatus.SUCCEEDED, output
        return taken


async def speed(count: int) -> tuple[float, float]:
    """Microseconds a step executed, and a step replayed."""
    return await speed_of(steps, count, count)


async def speed_of(function: DurableFunction[Any, int], event: Any, count: int) -> tuple[float, float]:
    """The same, of any function that takes so many steps."""
    execution = Execution(function, event)
    await execution.service.create(execution.record)
    executed = await execution.invoke(await execution.begin())
    event = await execution.begin()
    replayed = await execution.invoke(event)
    return executed / count * 1e6, replayed / count * 1e6


async def weight(count: int) -> float:
    """Bytes an operation, in the service and its store together, beside a payload of a few bytes."""
    execution = Execution(steps, count)
    await execution.service.create(execution.record)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await execution.invoke(await execution.begin())
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count


def ballast_ratio() -> tuple[float, float]:
    """A step executed, and one replayed, under 1 MB of input, against the same with hardly any."""
    count = 2_000
    small, large = (
        anyio.run(speed_of, steps_with_ballast, Load(count, "x" * size), count) for size in (1, 1_000_000)
    )
    return large[0] / small[0], large[1] / small[1]


def main() -> None:
    """Measure on both event loops."""
    heading("Steps on the in-memory service (median of 5)")
    for backend in ("asyncio", "trio"):
        executed, replayed = zip(*(anyio.run(speed, 2_000, backend=backend) for _ in range(ROUNDS)), strict=True)
        figure(f"{backend}: a step executed", middle(executed), "µs", budget=40)
        figure(f"{backend}: a step replayed", middle(replayed), "µs", budget=15)
    ratios = [ballast_ratio() for _ in range(ROUNDS)]
    figure(
        "ratio: a step executed under 1 MB of input", middle([executed for executed, _ in ratios]), "x", budget=1.1
    )
    figure(
        "ratio: a step replayed under 1 MB of input", middle([replayed for _, replayed in ratios]), "x", budget=1.1
    )
    batched = [anyio.run(speed_of, steps_in_a_batch, 2_000, 2_000)[0] for _ in range(ROUNDS)]
    figure("a step executed in a batch", middle(batched), "µs")
    small = middle([anyio.run(speed, 1_000)[1] for _ in range(ROUNDS)])
    large = middle([anyio.run(speed, 10_000)[1] for _ in range(ROUNDS)])
    figure("a step replayed, of 1,000", small, "µs")
    figure("a step replayed, of 10,000", large, "µs")
    figure("ratio: replay is linear", large / small, "x", budget=1.5)
    figure("memory an operation, service and store", anyio.run(weight, 10_000), "bytes", budget=1_500)


if __name__ == "__main__":
    main()
