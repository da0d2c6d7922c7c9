"""Where concurrency, cancellation, suspension and the user's own code meet."""

from __future__ import annotations

import anyio
import pytest

from durable import DurableContext, durable_execution
from durable._wire import InvocationStatus
from tests.sweep import World, trio_seed

pytestmark = pytest.mark.anyio

world = World()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_plain_cancellation_around_branches_is_no_suspension(backend):
    """Whichever of them hears of it first: that the others are parked, for the moment, does not count."""

    async def parked(ctx: DurableContext) -> None:
        await ctx.wait(100)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        begun = anyio.Event()

        async def body() -> None:
            begun.set()
            await anyio.sleep_forever()

        async def running(ctx: DurableContext) -> None:
            await ctx.step(body, name="body")

        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await begun.wait()
                    scope.cancel()

                tasks.start_soon(cancel)
                await ctx.parallel([parked, parked, running, parked])
        return await ctx.step(world.do, "went on", name="do")

    async def run() -> None:
        harness = world.harness(work)
        output = await harness.invoke()
        assert output.status is InvocationStatus.SUCCEEDED
        assert world.seconds == 0

    for seed in range(30):
        with trio_seed(seed):
            anyio.run(run, backend=backend)
