"""Of the suites `step` and `child`: what ends its process, as a crash does. Each needs a process of its own."""

from __future__ import annotations

import os
import time
from pathlib import Path

from durable import DurableContext, current_step

from .helpers import LOG_FILE, SOON, requirement

CRASHED = 1
"""The exit code."""


@requirement("1-17", exits=True)
async def at_most_once(event: str, ctx: DurableContext) -> None:
    async def crash() -> None:
        ctx.logger.info("about to crash: %s", event)
        os._exit(CRASHED)

    await ctx.step(crash, name="at_most_once_flaky_step", semantics="at-most-once")


@requirement("1-18", exits=True)
async def at_most_once_retried(event: str, ctx: DurableContext) -> str:
    async def crash_once() -> str:
        ctx.logger.info("this may crash: %s", event)
        if current_step().attempt == 1:
            os._exit(CRASHED)
        return "succeeded on second attempt"

    return await ctx.step(crash_once, semantics="at-most-once", retry=SOON)


@requirement("3-12", exits=True)
async def child_interrupted(event: str, ctx: DurableContext) -> str:
    def crash_once() -> str:
        # An attempt that was interrupted does not count: that there was one is only known outside.
        crashed = Path(f"{os.environ[LOG_FILE]}.{event}")
        if not crashed.exists():
            crashed.touch()
            time.sleep(0.5)  # it is recorded that it began, which nobody waits for
            os._exit(CRASHED)
        return event

    async def body(child: DurableContext) -> str:
        return await child.step(crash_once)

    return await ctx.child(body)
