"""Programs whose histories are kept, with branches side by side. They are never changed."""

from __future__ import annotations

from typing import Any

from durable import BatchProgress, Completion, DurableContext, DurableFunction, durable_execution
from tests.histories.world import PROGRAMS, Program, Refused, count, counting, family, item, refuse, waiting

# --- Side by side ------------------------------------------------------------------------------------------------


async def large(ctx: DurableContext, number: int) -> str:
    return "x" * 300_000 + str(await ctx.step(count, number))


async def large_alone(ctx: DurableContext) -> str:
    await ctx.wait(1)
    return await large(ctx, 6)


def _two_ended(progress: BatchProgress) -> Any:
    return "succeeded" if progress.completed >= 2 else None


POLICIES = {
    "all": Completion.all(),
    "all-successful": Completion.all_successful(),
    "first-successful": Completion.first_successful(),
    "two-successful": Completion(min_successful=2),
    "one-failure": Completion(tolerated_failures=1),
    "percentage": Completion(tolerated_failure_percentage=40.0, min_successful=3),
    "own": Completion(when=_two_ended),
}


def fan_out(policy: Completion, **options: Any) -> DurableFunction[Any, Any]:
    @durable_execution(name="fan_out")
    async def function(event: list[int], ctx: DurableContext) -> list[Any]:
        result = await ctx.map(item, event, name="items", completion=policy, **options)
        await ctx.wait(1, name="after it")
        told: list[Any] = [[one.status, one.result, str(one.error or "")] for one in result]
        return [*told, result.completion_reason, result.is_successful]

    return function


@durable_execution
async def parallels(event: None, ctx: DurableContext) -> list[Any]:
    both = (await ctx.parallel([counting, waiting], name="both")).results()
    async with ctx.move_on_after(500):
        winner = await ctx.race(waiting, counting)
    return [*both, winner.index, winner.result]


@durable_execution
async def large_results(event: None, ctx: DurableContext) -> list[str]:
    child = await ctx.child(large_alone)
    items = (await ctx.map(large, [1, 2], name="large items")).results()
    flat = (await ctx.map(large, [3, 4], name="flat", nesting="flat")).results()
    await ctx.wait(3)
    return [child[-1], *(found[-1] for found in (*items, *flat))]


async def _failing_child(ctx: DurableContext) -> None:
    await ctx.step(count, 1)
    await ctx.step(refuse, "in a child")


@durable_execution
async def children(event: None, ctx: DurableContext) -> list[Any]:
    found: list[Any] = [await ctx.child(family, 3)]
    try:
        await ctx.child(_failing_child)
    except Refused as error:
        found.append(str(error))
    return found


@durable_execution
async def task_groups(event: None, ctx: DurableContext) -> list[Any]:
    async with ctx.task_group() as group:
        quick, slow = group.start_soon(item, 1), group.start_soon(item, 20)
        await ctx.step(count, await quick.wait(), name="in the block")
    found: list[Any] = [quick.result(), slow.result()]
    try:
        async with ctx.task_group() as group:
            group.start_soon(item, 30)
            group.start_soon(item, -3)
            await ctx.wait(10)
    except ExceptionGroup as error:
        found.append([str(one) for one in error.exceptions])
    async with ctx.task_group() as group:
        group.start_soon(item, 40)
        await ctx.wait(2)
        group.cancel()
    return found


for _name, _policy in POLICIES.items():
    PROGRAMS[f"map-{_name}"] = Program(fan_out(_policy), [5, -2, 1, 7, -4])
PROGRAMS["map-limited"] = Program(fan_out(Completion(min_successful=3), max_concurrency=2), [5, -2, 1, 7, 4])
PROGRAMS["map-flat"] = Program(fan_out(Completion(min_successful=2), nesting="flat"), [5, -2, 1, 7])
PROGRAMS["map-crashed"] = Program(
    fan_out(Completion(min_successful=2), nesting="flat"), [5, -2, 1, 7], crash=("WaitSucceeded", "")
)
PROGRAMS["parallels"] = Program(parallels)
PROGRAMS["large-results"] = Program(large_results)
PROGRAMS["children"] = Program(children)
PROGRAMS["task-groups"] = Program(task_groups)
