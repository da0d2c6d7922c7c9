"""Durable timers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable import DurableContext, InvalidDurationError, InvalidNameError, durable_execution
from tests.harness import Harness

pytestmark = pytest.mark.anyio


async def test_a_wait_suspends_and_goes_on_when_its_time_has_come():
    """Nothing runs in between, and it is over no earlier than asked."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        await ctx.wait(timedelta(days=300), name="a year or so")
        return "done"

    harness = Harness(work)
    began = harness.clock.now()
    assert await harness.result() == "done"
    assert harness.clock.now() - began >= 300 * 86_400_000
    assert harness.invocations == 2
    assert harness.calls == [["WAIT START a year or so"]]


async def test_a_wait_that_was_interrupted_waits_for_the_rest_only():
    """A crash in the middle does not begin it anew."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait(100)

    harness = Harness(work)
    began = harness.clock.now()
    await harness.invoke()
    await harness.clock.sleep_until(began + 60_000)
    await harness.invoke()
    await harness.result()
    assert 100_000 <= harness.clock.now() - began < 101_000
    assert harness.calls == [["WAIT START None"]]


@pytest.mark.parametrize("duration", [0, 0.5, -3, timedelta(days=367)])
async def test_a_duration_the_service_would_refuse_is_an_error_at_the_call(duration):
    """It says which wait, how long and what is allowed; nothing is sent."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait(duration, name="cooling-off")

    harness = Harness(work)
    error = await harness.error()
    assert isinstance(error, InvalidDurationError)
    assert "for wait 'cooling-off': a d" in str(error)
    assert harness.calls == []


async def test_a_name_the_service_would_refuse_is_an_error_at_the_call():
    """Before anything is sent."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait(1, name="")

    assert isinstance(await Harness(work).error(), InvalidNameError)
