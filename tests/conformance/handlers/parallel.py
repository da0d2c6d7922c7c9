"""Suite `parallel`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from durable import Completion, DurableContext

from .helpers import PermanentError, echo, outcome_of, requirement
from .serdes import Envelope

T = TypeVar("T")

Branch: TypeAlias = Callable[[DurableContext], Awaitable[T]]


def with_step(value: str) -> Branch[str]:
    """A branch with one step."""

    async def branch(ctx: DurableContext) -> str:
        return await ctx.step(echo, value)

    return branch


def returning(value: str) -> Branch[str]:
    """A branch without any operation."""

    async def branch(_: DurableContext) -> str:
        return value

    return branch


async def failing(_: DurableContext) -> str:
    raise PermanentError("this branch fails")


# --- Values --------------------------------------------------------------------------------------------------


@requirement("8-1")
async def basic(_: None, ctx: DurableContext) -> list[str]:
    branches = [with_step("task-1"), with_step("task-2")]
    return (await ctx.parallel(branches, name="parallel", max_concurrency=1)).results()


@requirement("8-2")
async def without_name(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.parallel([returning("alpha"), returning("beta")], max_concurrency=1)).results()


@requirement("8-3")
async def named_branches(_: None, ctx: DurableContext) -> list[str]:
    branches = {"first": returning("one"), "second": returning("two")}
    return (await ctx.parallel(branches, name="named", max_concurrency=1)).results()


@requirement("8-4")
async def different_types(_: None, ctx: DurableContext) -> list[Any]:
    async def number(_: DurableContext) -> int:
        return 42

    async def mapping(_: DurableContext) -> dict[str, str]:
        return {"k": "v"}

    branches: list[Branch[Any]] = [returning("hello"), number, mapping]
    return (await ctx.parallel(branches, name="hetero", max_concurrency=1)).results()


@requirement("8-5")
async def empty(_: None, ctx: DurableContext) -> list[str]:
    branches: list[Branch[str]] = []
    return (await ctx.parallel(branches, name="empty")).results()


@requirement("8-15", serde=Envelope(), note="branches have no serde of their own: the function's")
async def custom_serde(_: None, ctx: DurableContext) -> list[str]:
    return (await ctx.parallel([returning("x"), returning("y")], name="serde", max_concurrency=1)).results()


# --- Completion ----------------------------------------------------------------------------------------------


@requirement("8-6")
async def fail_fast(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [returning("ok"), failing, returning("never")]
    completion = Completion(tolerated_failures=0)
    return outcome_of(await ctx.parallel(branches, name="failfast", max_concurrency=1, completion=completion))


@requirement("8-7")
async def rethrown(_: None, ctx: DurableContext) -> list[str]:
    completion = Completion(tolerated_failures=0)
    batch = await ctx.parallel(
        [failing, returning("never")], name="throwing", max_concurrency=1, completion=completion
    )
    return batch.results()


@requirement("8-8")
async def min_successful(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [returning(f"r{number}") for number in range(4)]
    batch = await ctx.parallel(
        branches, name="min-successful", max_concurrency=1, completion=Completion(min_successful=2)
    )
    return outcome_of(batch, "completionReason", "successCount", "totalCount")


@requirement("8-9")
async def tolerated(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [returning("ok"), failing, returning("ok")]
    completion = Completion(tolerated_failures=1)
    return outcome_of(await ctx.parallel(branches, name="tolerated", max_concurrency=1, completion=completion))


@requirement("8-10")
async def tolerance_exceeded(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [failing, failing, returning("never")]
    completion = Completion(tolerated_failures=1)
    batch = await ctx.parallel(branches, name="tolerated-exceeded", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("8-13")
async def percentage_exceeded(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [failing, failing, returning("never"), returning("never")]
    completion = Completion(tolerated_failure_percentage=25)
    batch = await ctx.parallel(branches, name="tolerated-pct", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("8-22")
async def percentage_just_tolerated(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [failing, *(returning("ok") for _ in range(3))]
    completion = Completion(tolerated_failure_percentage=25)
    return outcome_of(await ctx.parallel(branches, name="pct-boundary", max_concurrency=1, completion=completion))


@requirement("8-16")
async def all_fail(_: None, ctx: DurableContext) -> dict[str, Any]:
    completion = Completion(tolerated_failures=3)
    return outcome_of(await ctx.parallel([failing] * 3, name="all-fail", max_concurrency=1, completion=completion))


@requirement("8-17")
async def min_not_reached(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [returning("ok"), failing, returning("ok")]
    completion = Completion(min_successful=3)
    return outcome_of(
        await ctx.parallel(branches, name="min-not-reached", max_concurrency=1, completion=completion)
    )


@requirement("8-18")
async def both_conditions(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [failing, failing, returning("never"), returning("never")]
    completion = Completion(min_successful=3, tolerated_failures=1)
    batch = await ctx.parallel(branches, name="combined", max_concurrency=1, completion=completion)
    return outcome_of(batch, "completionReason", "successCount", "failureCount", "totalCount")


@requirement("8-20")
async def accessors(_: None, ctx: DurableContext) -> dict[str, Any]:
    branches = [returning("ok"), failing, returning("ok")]
    completion = Completion(tolerated_failures=1)
    batch = await ctx.parallel(branches, name="accessors", max_concurrency=1, completion=completion)
    return {
        "hasFailure": bool(batch.failed),
        "successCount": len(batch.succeeded),
        "failureCount": len(batch.failed),
        "errorCount": len([item.error for item in batch if item.error is not None]),
    }


# --- How branches run ----------------------------------------------------------------------------------------


@requirement("8-11")
async def concurrent(_: None, ctx: DurableContext) -> list[str]:
    branches = [returning(f"r{number}") for number in range(3)]
    return (await ctx.parallel(branches, name="concurrent", max_concurrency=2)).results()


@requirement("8-12")
async def flat(_: None, ctx: DurableContext) -> list[str]:
    branches = [with_step("fa"), with_step("fb")]
    return (await ctx.parallel(branches, name="flat", max_concurrency=1, nesting="flat")).results()


@requirement("8-14")
async def suspended(_: None, ctx: DurableContext) -> list[str]:
    async def waiting(branch: DurableContext) -> str:
        await branch.wait(2)
        return "b1"

    return (await ctx.parallel([with_step("b0"), waiting], name="replay", max_concurrency=1)).results()


@requirement("8-19")
async def no_concurrency(_: None, ctx: DurableContext) -> list[str]:
    branches = [returning("never"), returning("never")]
    return (await ctx.parallel(branches, name="bad-concurrency", max_concurrency=0)).results()


@requirement("8-21")
async def nested(_: None, ctx: DurableContext) -> list[list[str]]:
    async def outer(branch: DurableContext) -> list[str]:
        inner = [with_step("i1"), with_step("i2")]
        return (await branch.parallel(inner, name="inner", max_concurrency=1)).results()

    return (await ctx.parallel([outer], name="outer", max_concurrency=1)).results()
