"""Suite `invoke`, and the functions that are invoked."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec

from durable import DurableContext, InvokeFailedError, durable_execution

from .helpers import PermanentError, echo, requirement

# --- What is invoked -----------------------------------------------------------------------------------------


async def take_time() -> None:
    """As a callee does on AWS, where it is another function: whoever called it has been suspended by then."""
    await anyio.sleep(0.5)


@durable_execution(name="conformance-echo")
async def echo_target(event: Any, _: DurableContext) -> Any:
    await take_time()
    return event


@durable_execution(name="conformance-length")
async def length_target(event: str, _: DurableContext) -> int:
    await take_time()
    return len(event)


@durable_execution(name="conformance-failing")
async def failing_target(_: Any, ctx: DurableContext) -> None:
    await take_time()
    raise PermanentError("the callee failed")


ECHO = "conformance-echo"
FAILING = "conformance-failing"


# --- Values --------------------------------------------------------------------------------------------------


@requirement("5-1")
async def basic(event: str, ctx: DurableContext) -> str:
    return await ctx.invoke(ECHO, event, result_type=str)


class Named(msgspec.Struct):
    """A name for the call, and what is sent."""

    name: str
    payload: str


@requirement("5-2")
async def named(event: Named, ctx: DurableContext) -> str:
    return await ctx.invoke(ECHO, event.payload, result_type=str, name=event.name)


@requirement("5-3")
async def complex_object(event: dict[str, Any], ctx: DurableContext) -> Any:
    return await ctx.invoke(ECHO, event)


@requirement("5-4")
async def null(event: None, ctx: DurableContext) -> Any:
    return await ctx.invoke(ECHO, event)


@requirement("5-7")
async def large_payload(_: None, ctx: DurableContext) -> int:
    return await ctx.invoke(length_target, "x" * 1_000_000)


class OfTenant(msgspec.Struct, rename="camel"):
    """Whose it is, and what is sent."""

    tenant_id: str
    payload: str


@requirement("5-8")
async def tenant(event: OfTenant, ctx: DurableContext) -> str:
    return await ctx.invoke(ECHO, event.payload, result_type=str, tenant_id=event.tenant_id)


class Shout(msgspec.Struct):
    """What is sent in capitals, whatever it was."""

    data: str

    def __post_init__(self) -> None:
        self.data = self.data.upper()


@requirement("5-15", note="a payload is encoded by its type, not by a serde: this one has capitals only")
async def payload_serde(event: Shout, ctx: DurableContext) -> Any:
    return await ctx.invoke(ECHO, event)


@requirement("5-16", note="a result is decoded by its type, not by a serde: this one is its text as it came")
async def result_serde(event: str, ctx: DurableContext) -> str:
    text = await ctx.invoke(ECHO, event, result_type=msgspec.Raw)
    return bytes(text).decode().upper()


# --- Failures ------------------------------------------------------------------------------------------------


@requirement("5-5")
async def failing(_: None, ctx: DurableContext) -> None:
    await ctx.invoke(FAILING)


@requirement("5-6")
async def failure_handled(_: None, ctx: DurableContext) -> str:
    try:
        await ctx.invoke(FAILING)
    except InvokeFailedError as error:
        return f"handled: {error.message}"
    return "it did not fail"


# --- Replay, and other operations ----------------------------------------------------------------------------


@requirement("5-9")
async def replayed(event: Any, ctx: DurableContext) -> Any:
    result = await ctx.invoke(ECHO, event)
    await ctx.wait(1)
    return result


@requirement("5-10")
async def failure_replayed(_: None, ctx: DurableContext) -> str:
    try:
        await ctx.invoke(FAILING)
    except InvokeFailedError as error:
        caught = f"handled: {error.message}"
    await ctx.wait(1)
    return caught


@requirement("5-11")
async def step_then_invoke(_: None, ctx: DurableContext) -> Any:
    return await ctx.invoke(ECHO, await ctx.step(echo, "from the step"))


@requirement("5-12")
async def invoke_then_step(_: None, ctx: DurableContext) -> str:
    return await ctx.step(echo, await ctx.invoke(ECHO, "from the callee", result_type=str))


@requirement("5-13")
async def inside_child(_: None, ctx: DurableContext) -> Any:
    async def body(child: DurableContext) -> Any:
        return await child.invoke(ECHO, "from the child")

    return await ctx.child(body)


@requirement("5-14")
async def one_after_another(_: None, ctx: DurableContext) -> list[Any]:
    first = await ctx.invoke(ECHO, "first")
    return [first, await ctx.invoke(length_target, "second")]
