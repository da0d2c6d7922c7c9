"""Suite `map`."""

from __future__ import annotations

from typing import Any

from durable import Completion, DurableContext

from .helpers import PermanentError, echo, greet, outcome_of, requirement
from .serdes import Joined, Prefix


async def step_of(ctx: DurableContext, item: str) -> str:
    return await ctx.step(echo, item)


async def same(_: DurableContext, item: str) -> str:
    return item


async def upper(_: DurableContext, item: str) -> str:
    return item.upper()


async def unless_fail(_: DurableContext, item: str) -> str:
    if item == "fail":
        raise PermanentError("this item fails")
    return item


# --- Values --------------------------------------------------------------------------------------------------


@requirement("9-1")
async def basic(event: list[str], ctx: DurableContext) -> list[str]:
    async def greeting(item_ctx: DurableContext, item: str) -> str:
        return await item_ctx.step(greet, item)

    return (await ctx.map(greeting, event, name="map", max_concurrency=1)).results()


@requirement("9-2", note="what has no name of its own is called by its function's")
async def without_name(event: list[int], ctx: DurableContext) -> list[int]:
    async def double(_: DurableContext, item: int) -> int:
        return 2 * item

    return (await ctx.map(double, event, max_concurrency=1)).results()


@requirement("9-3", note="a function is given its item alone: items are numbered by `enumerate`")
async def indexed(event: list[int], ctx: DurableContext) -> list[int]:
    async def with_index(_: DurableContext, numbered: tuple[int, int]) -> int:
        index, item = numbered
        return item + index

    return (await ctx.map(with_index, enumerate(event), name="indexed", max_concurrency=1)).results()


@requirement("9-4")
async def empty(event: list[str], ctx: DurableContext) -> list[str]:
    return (await ctx.map(same, event, name="empty")).results()


@requirement("9-13")
async def named_items(event: list[int], ctx: DurableContext) -> list[int]:
    async def times_ten(_: DurableContext, item: int) -> int:
        return 10 * item

    batch = await ctx.map(
        times_ten, event, name="named-items", item_name=lambda _, item: f"item-{item}", max_concurrency=1
    )
    return batch.results()


@requirement("9-14", serde=Prefix(), note="items have no serde of their own: the function's")
async def custom_serde(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.map(upper, ["x", "y"], name="serdes", max_concurrency=1)).results()


@requirement("9-16")
async def large(_: None, ctx: DurableContext) -> dict[str, Any]:
    async def produce(_: DurableContext, item: int) -> str:
        return str(item) * 70_000

    batch = await ctx.map(produce, range(4), name="large", max_concurrency=1)
    return outcome_of(batch, "successCount", "totalCount")


# --- Completion ----------------------------------------------------------------------------------------------


@requirement("9-5")
async def fail_fast(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failures=0)
    items = ["ok", "fail", "never"]
    return outcome_of(await ctx.map(unless_fail, items, name="failfast", max_concurrency=1, completion=completion))


@requirement("9-6")
async def rethrown(_: None, ctx: DurableContext) -> list[str]:
    completion = Completion(tolerated_failures=0)
    batch = await ctx.map(unless_fail, ["fail", "never"], name="throwing", max_concurrency=1, completion=completion)
    return batch.results()


@requirement("9-7")
async def min_successful(_: None, ctx: DurableContext) -> dict[str, Any]:
    items = ["r0", "r1", "r2", "r3"]
    completion = Completion(min_successful=2)
    batch = await ctx.map(same, items, name="min-successful", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "totalCount")


@requirement("9-8")
async def tolerated(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failures=1)
    items = ["ok", "fail", "ok"]
    return outcome_of(await ctx.map(unless_fail, items, name="tolerated", max_concurrency=1, completion=completion))


@requirement("9-9")
async def tolerance_exceeded(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failures=1)
    items = ["fail", "fail", "never"]
    batch = await ctx.map(unless_fail, items, name="tolerated-exceeded", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("9-10")
async def percentage_exceeded(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failure_percentage=25)
    items = ["fail", "fail", "never", "never"]
    batch = await ctx.map(unless_fail, items, name="tolerated-pct", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "failureCount", "totalCount")


# --- How items run -------------------------------------------------------------------------------------------


@requirement("9-11")
async def concurrent(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.map(same, ["r0", "r1", "r2"], name="concurrent", max_concurrency=2)).results()


@requirement("9-12")
async def flat(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.map(step_of, ["fa", "fb"], name="flat", max_concurrency=1, nesting="flat")).results()


@requirement("9-15")
async def suspended(_: None, ctx: DurableContext) -> list[str]:
    async def second_waits(item_ctx: DurableContext, item: str) -> str:
        if item == "r1":
            await item_ctx.wait(1)
        return await item_ctx.step(echo, item)

    return (await ctx.map(second_waits, ["r0", "r1"], name="suspend", max_concurrency=1)).results()


@requirement("9-17")
async def then_wait(_: None, ctx: DurableContext) -> list[str]:
    batch = await ctx.map(upper, ["a", "b"], name="then-wait", max_concurrency=1)
    await ctx.wait(1)
    return batch.results()


@requirement("9-18")
async def failure_then_wait(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failures=1)
    batch = await ctx.map(
        unless_fail, ["ok", "fail"], name="fail-then-wait", max_concurrency=1, completion=completion
    )
    await ctx.wait(1)
    return outcome_of(batch)


@requirement("9-19")
async def whole(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.map(upper, ["x", "y"], name="op-serde", max_concurrency=1, serde=Joined())).results()


@requirement("9-20")
async def whole_then_wait(_: None, ctx: DurableContext) -> list[str]:
    batch = await ctx.map(upper, ["x", "y"], name="op-serde-replay", max_concurrency=1, serde=Joined())
    await ctx.wait(1)
    return batch.results()
