"""Suite `wait_for_callback`."""

from __future__ import annotations

from durable import CallbackFailedError, CallbackTimeoutError, DurableContext

from .helpers import SOON, TransientError, echo, requirement


async def submit(callback_id: str) -> None:
    """Those who complete the callbacks look them up in the history: nobody is told."""


@requirement("7-1")
async def basic(event: str, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name=event)


@requirement("7-2")
async def named(_: None, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name="approval")


@requirement("7-3", note="what has no name of its own is called by its function's")
async def without_name(_: None, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str)


@requirement("7-4")
async def failing(event: str, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name=event)


@requirement("7-5")
async def timing_out(event: str, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name=event, timeout=3)


@requirement("7-6")
async def failure_handled(event: str, ctx: DurableContext) -> str:
    try:
        return await ctx.wait_for_callback(submit, str, name=event)
    except CallbackFailedError:
        return "recovered"


@requirement("7-7")
async def failing_submitter(event: str, ctx: DurableContext) -> str:
    async def fail(_: str) -> None:
        raise TransientError("nobody takes it")

    return await ctx.wait_for_callback(fail, str, name=event, retry=SOON)


@requirement("7-8")
async def inside_child(event: str, ctx: DurableContext) -> str:
    async def body(child: DurableContext) -> str:
        return await child.wait_for_callback(submit, str, name=event)

    return await ctx.child(body, name="wrapper")


@requirement("7-9")
async def one_after_another(_: None, ctx: DurableContext) -> str:
    await ctx.wait_for_callback(submit, str, name="first")
    return await ctx.wait_for_callback(submit, str, name="second")


@requirement("7-10")
async def after_wait_and_step(event: str, ctx: DurableContext) -> str:
    await ctx.wait(1)
    await ctx.step(echo, "fixed data")
    return await ctx.wait_for_callback(submit, str, name=event)


@requirement("7-11")
async def typed(event: str, ctx: DurableContext) -> str:
    answer = await ctx.wait_for_callback(submit, dict[str, str], name=event)
    return answer["status"]


@requirement("7-12")
async def without_heartbeat(event: str, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name=event, heartbeat_timeout=5)


@requirement("7-13")
async def with_heartbeat(event: str, ctx: DurableContext) -> str:
    return await ctx.wait_for_callback(submit, str, name=event, heartbeat_timeout=10)


@requirement("7-14")
async def timeout_handled(event: str, ctx: DurableContext) -> str:
    try:
        return await ctx.wait_for_callback(submit, str, name=event, timeout=3)
    except CallbackTimeoutError:
        return "timed-out-handled"


@requirement("7-15")
async def without_payload(event: str, ctx: DurableContext) -> str | None:
    return await ctx.wait_for_callback(submit, name=event)
