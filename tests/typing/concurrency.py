"""Checked by mypy and pyright, never run: the types of fan-outs, races, task groups and time limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_type

from durable import (
    BatchItem,
    BatchProgress,
    BatchResult,
    Completion,
    DurableContext,
    TaskHandle,
    Winner,
    durable_execution,
)


async def length(ctx: DurableContext, city: str) -> int:
    return len(city)


async def cities(ctx: DurableContext) -> list[str]:
    return []


async def more_cities(ctx: DurableContext) -> list[str]:
    return []


async def number(ctx: DurableContext) -> int:
    return 1


async def without_context(city: str) -> int:
    return len(city)


def policy(progress: BatchProgress) -> None: ...


@durable_execution
async def fan_outs(event: None, ctx: DurableContext) -> None:
    batch = await ctx.map(length, ["a", "b"], name="m", max_concurrency=3, nesting="flat")
    assert_type(batch, BatchResult[int])
    assert_type(batch.results(), list[int])
    assert_type(batch.items, Sequence[BatchItem[int]])
    assert_type(batch.items[0].result, int | None)
    assert_type(batch.items[0].error, Exception | None)
    assert_type([item.index for item in batch], list[int])
    await ctx.map(length, {"a", "b"}, item_name=lambda index, city: f"{index} {city.upper()}")
    await ctx.map(length, ["a"], completion=Completion(when=policy))

    assert_type(await ctx.parallel([cities, more_cities]), BatchResult[list[str]])
    assert_type(await ctx.parallel({"a": cities}, completion=Completion.all_successful()), BatchResult[list[str]])
    assert_type(await ctx.parallel([number, number]), BatchResult[int])

    await ctx.map(length, [1, 2])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.map(without_context, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.map(length, ["a"], nesting="deep")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await ctx.parallel([length])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@durable_execution
async def races(event: None, ctx: DurableContext) -> None:
    winner = await ctx.race(cities, more_cities, name="r")
    assert_type(winner, Winner[list[str]])
    assert_type(winner.result, list[str])
    assert_type(winner.index, int)

    await ctx.race(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@durable_execution
async def groups(event: None, ctx: DurableContext) -> None:
    async with ctx.task_group() as tg:
        handle = tg.start_soon(length, "a", name="t")
        assert_type(handle, TaskHandle[int])
        assert_type(handle.name, str)
        assert_type(await handle.wait(), int)
        assert_type(tg.start_soon(cities), TaskHandle[list[str]])

        tg.start_soon(length, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        tg.start_soon(length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(handle.result(), int)
    assert_type(handle.is_done, bool)


@durable_execution
async def limits(event: None, ctx: DurableContext) -> None:
    async with ctx.move_on_after(5, name="l") as limit:
        pass
    assert_type(limit.expired, bool)
    async with ctx.fail_after(timedelta(hours=1)) as other:
        value = await number(ctx)
    assert_type(value, int)  # not possibly unbound: nothing is swallowed
    assert_type(other.expired, bool)

    ctx.move_on_after("1 h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
