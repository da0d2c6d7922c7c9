"""What a saga costs: entered and left, for each compensation that is registered, and rolled back.

python benchmarks/saga.py
"""

from __future__ import annotations

import gc
import tracemalloc

import anyio
from engine import Execution, book
from report import figure, heading, middle

from durable import DurableContext, durable_execution, saga

COUNT = 1000
ROUNDS = 5

_memory: list[int] = []


async def undo(number: int) -> None:
    """The smallest compensation there is."""


@durable_execution
async def registered(count: int, ctx: DurableContext) -> int:
    """So many steps with a compensation each, and what those weigh before they are needed."""
    async with saga(ctx) as s:
        for number in range(count):
            s.compensate(undo, number)
        gc.collect()
        _memory.append(tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0)
    return count


@durable_execution
async def steps_in_a_saga(count: int, ctx: DurableContext) -> int:
    """Steps with compensations that are not needed."""
    async with saga(ctx) as s:
        for number in range(count):
            await s.step(book, number, compensate=undo)
    return count


@durable_execution
async def plain_steps(count: int, ctx: DurableContext) -> int:
    """The same without."""
    for number in range(count):
        await ctx.step(book, number)
    return count


@durable_execution
async def rolled_back(count: int, ctx: DurableContext) -> int:
    """The same, undone."""
    async with saga(ctx) as s:
        for number in range(count):
            await s.step(book, number, compensate=undo)
        await s.rollback("to measure it")
    return count


async def seconds(function: object, count: int) -> float:
    """Seconds that one execution takes."""
    execution = Execution(function, count)  # type: ignore[arg-type]
    await execution.service.create(execution.record)
    return await execution.invoke(await execution.begin())


async def bytes_a_compensation() -> float:
    """Bytes that each registered compensation weighs."""
    found = []
    for count in (1, COUNT + 1):
        tracemalloc.start()
        await seconds(registered, count)
        tracemalloc.stop()
        found.append(_memory[-1])
    return (found[1] - found[0]) / COUNT


def main() -> None:
    """Measure on both event loops, with and without side by side."""
    heading(f"Sagas of {COUNT:,} steps on the in-memory service (median of {ROUNDS})")
    for backend in ("asyncio", "trio"):
        plain, inside, undone = [], [], []
        for _ in range(ROUNDS):
            plain.append(anyio.run(seconds, plain_steps, COUNT, backend=backend))
            inside.append(anyio.run(seconds, steps_in_a_saga, COUNT, backend=backend))
            undone.append(anyio.run(seconds, rolled_back, COUNT, backend=backend))
        figure(f"{backend}: a step", middle(plain) / COUNT * 1e6, "µs")
        figure(f"{backend}: a step with a compensation", middle(inside) / COUNT * 1e6, "µs")
        figure(f"{backend}: undoing one", (middle(undone) - middle(inside)) / COUNT * 1e6, "µs")
        figure(
            f"{backend}: memory a registered compensation",
            anyio.run(bytes_a_compensation, backend=backend),
            "bytes",
            budget=1000,
        )


if __name__ == "__main__":
    main()
