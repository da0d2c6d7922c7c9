"""Checked by mypy and pyright, never run: what a user's editor knows of the test kit's types."""

from __future__ import annotations

from typing import assert_type

from durable import DurableContext, durable_execution
from durable.testing import (
    CrashSweepReport,
    DurableTest,
    Faults,
    History,
    TestCallback,
    TestRun,
    crash_everywhere,
    durable_test,
)


@durable_execution
async def trip(city: str, ctx: DurableContext) -> int:
    return len(city)


@durable_execution
async def other(number: int, ctx: DurableContext) -> list[str]:
    return [""] * number


async def tests() -> None:
    async with durable_test(trip, faults=Faults(1)) as t:
        assert_type(t, DurableTest[str, int])
        run = await t.start("Rome", history=History().step("a", 1).wait())
        assert_type(run, TestRun[int])
        assert_type(await run.result(), int)
        assert_type(await run.error(), Exception)
        assert_type(await run.callback("a"), TestCallback)
        assert_type(await (await t.start_other(other, 3)).result(), list[str])
        await t.start(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await t.start_other(other, "Rome")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]

    def prepare(t: DurableTest[str, int]) -> None: ...
    async def check(run: TestRun[int]) -> None: ...
    async def check_other(run: TestRun[list[str]]) -> None: ...

    assert_type(await crash_everywhere(trip, "Rome", prepare=prepare, check=check), CrashSweepReport)
    await crash_everywhere(trip, 3)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await crash_everywhere(trip, "Rome", check=check_other)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
