"""Crashes everywhere: what a sweep tries, what it finds, and what it says of it."""

from __future__ import annotations

import pytest

from durable import DurableContext, Retry, current_step, durable_execution, saga
from durable.testing import Crash, CrashSweepError, DurableTest, TestRun, crash_everywhere, durable_test, sweep

pytestmark = pytest.mark.anyio


class Ledger:
    """Money, and who moved it; a careful one takes each key once."""

    def __init__(self) -> None:
        self.open()

    def open(self, *, careful: bool = True) -> None:
        self.careful = careful
        self.balance = 100
        self._keys: set[str] = set()

    def move(self, amount: int) -> None:
        key = current_step().idempotency_key
        if not (self.careful and key in self._keys):
            self.balance += amount
            self._keys.add(key)


ledger = Ledger()


async def pay(amount: int) -> int:
    ledger.move(-amount)
    return amount


async def pay_back(amount: int) -> None:
    ledger.move(amount)


async def ship(_amount: int) -> str:
    return "shipped"


@durable_execution
async def order(amount: int, ctx: DurableContext) -> str:
    async with saga(ctx, name="order") as s:
        await s.step(pay, amount, name="pay", compensate=pay_back)
        await ctx.wait(3600, name="pick")
        return await s.step(ship, amount, name="ship", retry=Retry(attempts=2))


async def balance_is_90(run: TestRun[str]) -> None:
    assert await run.result() == "shipped"
    assert ledger.balance == 90


async def test_a_careful_function_survives():
    report = await crash_everywhere(order, 10, prepare=lambda _: ledger.open(), check=balance_is_90)
    # STEP pay and WAIT in one call, or in two; then STEP ship; each before and after.
    assert report.singles == 2 * report.calls
    assert report.calls == 3
    # After a crash at a call there is the rest of the calls, and if that call was lost, it once more.
    assert report.pairs + report.skipped_pairs > report.singles
    assert str(report).startswith("3 calls, 6 runs with one crash,")


async def test_a_careless_one_is_caught_at_the_earliest_place():
    with pytest.raises(CrashSweepError) as caught:
        await crash_everywhere(order, 10, prepare=lambda _: ledger.open(careful=False), check=balance_is_90)
    assert caught.value.crashes == (Crash(1, "before"),)
    assert isinstance(caught.value.__cause__, AssertionError)
    told = str(caught.value)
    assert told.startswith("with a crash before call 1: AssertionError: ")
    assert "Step 'pay' SUCCEED" in told
    assert "Wait 'pick' START" in told


async def test_what_only_two_crashes_find():
    runs: list[int] = []

    @durable_execution
    async def fragile(_event: None, ctx: DurableContext) -> int:
        await ctx.step(one, name="one")
        return await ctx.step(two, name="two")

    async def one() -> int:
        runs.append(1)
        return 1

    async def two() -> int:
        runs.append(2)
        return min(len(runs), 3) if len(runs) < 4 else -1

    def prepare(t: DurableTest[None, int]) -> None:
        runs.clear()

    async def check(run: TestRun[int]) -> None:
        assert await run.result() > 0

    # Without a check an outcome that differs is enough; here one crash does that.
    with pytest.raises(CrashSweepError, match=r"it ended as SUCCEEDED with 3; without a crash it ends as .* 2"):
        await crash_everywhere(fragile, None, prepare=prepare)

    async def test() -> None:
        runs.clear()
        async with durable_test(fragile) as t:
            await check(await t.start(None))

    with pytest.raises(CrashSweepError) as caught:
        await sweep(test)
    assert len(caught.value.crashes) == 2


async def test_rollbacks_are_swept_as_well():
    def prepare(t: DurableTest[int, str]) -> None:
        ledger.open()
        t.fail_step("ship", RuntimeError("no van"), times=None)

    async def check(run: TestRun[str]) -> None:
        assert str(await run.error()) == "no van"
        assert ledger.balance == 100

    report = await crash_everywhere(order, 10, prepare=prepare, check=check, pairs=20)
    assert report.pairs == 20
    assert report.skipped_pairs > 0


async def test_what_fails_without_a_crash_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        await crash_everywhere(order, 10, check=lambda _: 1 // 0)


async def test_a_sweep_wants_one_test():
    async def none() -> None:
        pass

    with pytest.raises(ValueError, match="opens one durable_test, not 0"):
        await sweep(none)


async def test_a_run_that_does_not_come_to_its_end():
    seen: list[int] = []

    async def ask(_callback_id: str) -> None:
        seen.append(1)

    @durable_execution
    async def waits(_event: None, ctx: DurableContext) -> str:
        return await ctx.wait_for_callback(ask, str, name="answer")

    async def test() -> None:
        seen.clear()
        async with durable_test(waits, patience=0.05) as t:
            run = await t.start(None)
            callback = await run.callback("answer")
            await t.clock.sleep(1)
            if len(seen) < 2:  # whoever is asked twice does not answer
                await callback.succeed("yes")
            await run.result()

    with pytest.raises(CrashSweepError, match=r"StuckError: execution .* waits for callback"):
        await sweep(test)
