"""Steps on the in-memory service: executed, replayed, and what they weigh.

python benchmarks/engine.py
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from uuid import uuid4

import anyio
from report import figure, heading, middle

from durable import DurableContext, durable_execution
from durable._engine.clock import SystemClock
from durable._wire import ExecutionStatus, InvocationInput
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


class Execution:
    """One execution on a service of its own."""

    def __init__(self, count: int) -> None:
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
            input=steps.encode_input(count),
        )

    async def begin(self) -> InvocationInput:
        """The event of the next invocation."""
        return await self.service.begin_invocation(self.record.id)

    async def invoke(self, event: InvocationInput) -> float:
        """Seconds that one invocation takes."""
        began = time.perf_counter()
        await steps.invoke(event, self.service, clock=self.clock)
        return time.perf_counter() - began


async def speed(count: int) -> tuple[float, float]:
    """Microseconds a step executed, and a step replayed."""
    execution = Execution(count)
    await execution.service.create(execution.record)
    executed = await execution.invoke(await execution.begin())
    event = await execution.begin()
    replayed = await execution.invoke(event)
    return executed / count * 1e6, replayed / count * 1e6


async def weight(count: int) -> float:
    """Bytes an operation, in the service and its store together, beside a payload of a few bytes."""
    execution = Execution(count)
    await execution.service.create(execution.record)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    await execution.invoke(await execution.begin())
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count


def main() -> None:
    """Measure on both event loops."""
    heading("Steps on the in-memory service (median of 5)")
    for backend in ("asyncio", "trio"):
        executed, replayed = zip(*(anyio.run(speed, 2_000, backend=backend) for _ in range(ROUNDS)), strict=True)
        figure(f"{backend}: a step executed", middle(executed), "µs", budget=40)
        figure(f"{backend}: a step replayed", middle(replayed), "µs", budget=15)
    small = middle([anyio.run(speed, 1_000)[1] for _ in range(ROUNDS)])
    large = middle([anyio.run(speed, 10_000)[1] for _ in range(ROUNDS)])
    figure("a step replayed, of 1,000", small, "µs")
    figure("a step replayed, of 10,000", large, "µs")
    figure("ratio: replay is linear", large / small, "x", budget=1.5)
    figure("memory an operation, service and store", anyio.run(weight, 10_000), "bytes", budget=1_500)


if __name__ == "__main__":
    main()
