"""Durable functions that tests of the engine start, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from durable import DurableContext, DurableFunction, durable_execution, saga
from durable._wire import InvocationInput, InvocationOutput
from durable.abc import Clock, ServiceClient

# What happened, in order; emptied before each test.
happened: list[str] = []


async def note(what: str) -> str:
    """A step with an effect."""
    happened.append(what)
    return what


@durable_execution
async def add(event: dict[str, int], ctx: DurableContext) -> int:
    """Two steps and a sum."""
    for name, value in sorted(event.items()):
        await ctx.step(note, f"{name}={value}")
    return sum(event.values())


@durable_execution
async def multiply(event: dict[str, int], ctx: DurableContext) -> int:
    """Another function with the same input."""
    return 0


@durable_execution
async def unique(event: set[int], ctx: DurableContext) -> int:
    """A function whose inputs may be equal without having the same text."""
    return len(event)


@durable_execution
async def echo(event: Any, ctx: DurableContext) -> Any:
    """A function without a step."""
    return event


@durable_execution
async def wait_for(event: float, ctx: DurableContext) -> str:
    """A wait between two steps."""
    await ctx.step(note, f"before {event:g}")
    await ctx.wait(event)
    return await ctx.step(note, f"after {event:g}")


@durable_execution
async def fail(event: str, ctx: DurableContext) -> None:
    """An execution that fails."""
    raise LookupError(event)


@durable_execution
async def hang(event: str, ctx: DurableContext) -> str:
    """A saga in the middle of a step that does not end."""
    async with saga(ctx) as s:
        await s.step(note, f"{event} reserved", compensate=_undo)
        try:
            await s.step(_hang, event)
        finally:
            happened.append(f"{event} left")
    return event


async def _undo(what: str) -> None:
    happened.append(f"undone {what}")


async def _hang(event: str) -> None:
    happened.append(f"{event} hangs")
    if happened.count(f"{event} hangs") == 1:
        await anyio.sleep_forever()


def variant(steps: list[str], name: str = "variant") -> DurableFunction[None, str]:
    """One of several versions of the same function: all have the same target."""

    @durable_execution(name=name)
    async def work(event: None, ctx: DurableContext) -> str:
        for step in steps:
            if step == "wait":
                await ctx.wait(60)
            else:
                await ctx.step(note, step, name=step)
        return " ".join(steps)

    return work


class Scripted(DurableFunction[Any, Any]):
    """A function whose invocations go as a test says before they go as they should."""

    def __init__(self, function: DurableFunction[Any, Any], *script: Callable[[], InvocationOutput]) -> None:
        super().__init__(function.function, name=function.name)
        self.script = list(script)
        self.invocations = 0

    async def invoke(self, event: InvocationInput, client: ServiceClient, *, clock: Clock) -> InvocationOutput:
        self.invocations += 1
        if self.script:
            return self.script.pop(0)()
        return await super().invoke(event, client, clock=clock)
