"""Time that passes when nothing else can happen."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from durable.testing import SkippingClock

pytestmark = pytest.mark.anyio


async def test_it_jumps_to_the_first_sleeper_again_and_again():
    clock = SkippingClock()
    began = clock.now()
    woken: list[tuple[str, int]] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now() - began))

    async with anyio.create_task_group() as tasks:
        for name, seconds in (("c", 30 * 86_400), ("a", 1), ("b", 2.5), ("also a", 1)):
            tasks.start_soon(sleep, name, seconds)
    assert sorted(woken[:2]) == [("a", 1_000), ("also a", 1_000)]
    assert woken[2:] == [("b", 2_500), ("c", 30 * 86_400_000)]


async def test_it_stands_still_while_somebody_works():
    clock = SkippingClock()
    began = clock.now()
    seen: list[int] = []

    async def work() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
            seen.append(clock.now() - began)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 1)
        tasks.start_soon(work)
    assert set(seen) == {0}
    assert clock.now() - began == 1_000


@pytest.mark.parametrize("turns", range(8))
async def test_whoever_looks_out_may_be_cancelled(turns: int):
    """The others wake all the same."""
    clock = SkippingClock()
    began = clock.now()
    scope = anyio.CancelScope()

    async def cancelled() -> None:
        with scope:
            await clock.sleep(10)

    async def cancel() -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(clock.sleep, 20)
            tasks.start_soon(cancel)
    assert clock.now() - began == 20_000


async def test_time_never_goes_backwards():
    clock = SkippingClock()
    await clock.sleep(10)
    now = clock.now()
    await clock.sleep_until(now - 5_000)
    assert clock.now() == now
