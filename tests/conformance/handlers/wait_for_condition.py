"""Suite `wait_for_condition`."""

from __future__ import annotations

from typing import Literal

import msgspec

from durable import DurableContext

from .helpers import PermanentError, requirement
from .serdes import Trail, TrailSerde


async def count_up(state: int) -> int:
    return state + 1


@requirement("6-1")
async def basic(event: int, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(count_up, 0, until=lambda state: state >= event, delay=1)


@requirement("6-2")
async def immediate(event: int, ctx: DurableContext) -> int:
    async def look(state: int) -> int:
        return state

    return await ctx.wait_for_condition(look, 5, until=lambda state: state >= event)


@requirement("6-3")
async def named(event: int, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(
        count_up, 0, until=lambda state: state >= event, delay=1, name="poll-status"
    )


@requirement("6-4")
async def initial_state(event: int, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(count_up, 5, until=lambda state: state >= event, delay=1)


@requirement("6-5")
async def fixed_delay(event: int, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(count_up, 0, until=lambda state: state >= event, delay=2)


# --- Failures ------------------------------------------------------------------------------------------------


@requirement("6-6")
async def attempts_exhausted(_: int, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(count_up, 0, until=lambda _: False, delay=1, max_attempts=3)


async def fail_to_look(_: int) -> int:
    raise PermanentError("there is nothing to be seen")


@requirement("6-7")
async def failing(_: None, ctx: DurableContext) -> int:
    return await ctx.wait_for_condition(fail_to_look, 0, until=lambda state: state > 0)


@requirement("6-8")
async def failure_handled(_: None, ctx: DurableContext) -> str:
    try:
        await ctx.wait_for_condition(fail_to_look, 0, until=lambda state: state > 0)
    except PermanentError:
        return "recovered"
    return "it did not fail"


# --- States --------------------------------------------------------------------------------------------------


class Job(msgspec.Struct, frozen=True):
    """Where a job stands."""

    status: Literal["PENDING", "DONE"]
    attempts: int


@requirement("6-9")
async def structured(_: None, ctx: DurableContext) -> Job:
    async def look(job: Job) -> Job:
        attempts = job.attempts + 1
        return Job("DONE" if attempts == 2 else "PENDING", attempts)

    return await ctx.wait_for_condition(look, Job("PENDING", 0), until=lambda job: job.status == "DONE", delay=1)


@requirement("6-10")
async def null_state(_: None, ctx: DurableContext) -> None:
    async def look(_: None) -> None:
        return None

    return await ctx.wait_for_condition(look, None, until=lambda _: True)


@requirement("6-11", serde=TrailSerde(), note="a condition has no serde of its own: the function's")
async def custom_serde(_: None, ctx: DurableContext) -> str:
    async def look(trail: Trail) -> Trail:
        return Trail(f"{trail}x")

    def has_two(trail: Trail) -> bool:
        return len(trail) == 2

    trail = await ctx.wait_for_condition(look, Trail(), until=has_two, delay=1)
    return str(trail)


# --- With others ---------------------------------------------------------------------------------------------


@requirement("6-12")
async def then_step(event: int, ctx: DurableContext) -> int:
    async def times_ten(state: int) -> int:
        return 10 * state

    state = await ctx.wait_for_condition(count_up, 0, until=lambda state: state >= event, delay=1)
    return await ctx.step(times_ten, state)


@requirement("6-13")
async def one_after_another(_: None, ctx: DurableContext) -> int:
    state = await ctx.wait_for_condition(count_up, 0, until=lambda state: state >= 2, delay=1)
    return await ctx.wait_for_condition(count_up, state, until=lambda state: state >= 4, delay=1)
