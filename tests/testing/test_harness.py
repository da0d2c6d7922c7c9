"""`durable_test`: started, watched and answered, in virtual time."""

from __future__ import annotations

from datetime import timedelta

import anyio
import anyio.lowlevel
import pytest

from durable import (
    CallbackFailedError,
    DurableContext,
    ExecutionFailedError,
    InvokeFailedError,
    Retry,
    durable_execution,
    saga,
)
from durable.testing import StuckError, UnusedStandInError, durable_test

pytestmark = pytest.mark.anyio

world: list[str] = []


@pytest.fixture(autouse=True)
def _empty_world():
    world.clear()


class CardDeclinedError(Exception):
    pass


async def reserve(what: str) -> str:
    world.append(f"reserve {what}")
    return f"{what}-1"


async def cancel(what: str) -> None:
    world.append(f"cancel {what}")


async def charge(amount: int) -> str:
    world.append(f"charge {amount}")
    return "paid"


@durable_execution
async def book(amount: int, ctx: DurableContext) -> str:
    async with saga(ctx, name="trip") as s:
        await s.step(reserve, "hotel", name="hotel", compensate=cancel)
        await ctx.wait(timedelta(days=30), name="cooldown")
        return await s.step(charge, amount, name="charge", retry=Retry(attempts=3))


@durable_execution
async def approve(_event: None, ctx: DurableContext) -> str:
    callback = await ctx.create_callback(str, name="approval", timeout=timedelta(days=3))
    return str(await callback.result())


@durable_execution
async def approve_by_letter(_event: None, ctx: DurableContext) -> str:
    async def send(callback_id: str) -> None:
        world.append("letter")

    return str(await ctx.wait_for_callback(send, str, name="approval"))


@durable_execution
async def ask_bank(amount: int, ctx: DurableContext) -> str:
    return str(await ctx.invoke("bank", amount, name="ask"))


async def test_thirty_days_take_no_time():
    async with durable_test(book) as t:
        began = t.clock.now()
        run = await t.start(7)
        with anyio.fail_after(5):
            assert await run.result() == "paid"
        assert t.clock.now() - began >= 30 * 86_400_000
    assert world == ["reserve hotel", "charge 7"]
    run.assert_operations(["step:hotel", "wait:cooldown", "step:charge"])
    run.assert_operation_names(["hotel", "cooldown", "charge"])
    run.assert_operation_count(3)


async def test_assertions_say_what_differs():
    async with durable_test(book) as t:
        run = await t.start(7, name="b-1")
        await run.result()
    with pytest.raises(AssertionError, match=r"first at 1:\n  recorded: \['step:hotel', 'wait:cooldown'"):
        run.assert_operations(["step:hotel", "step:charge"])
    with pytest.raises(AssertionError, match="first at 3"):
        run.assert_operation_names(["hotel", "cooldown", "charge", "more"])
    with pytest.raises(AssertionError, match="has recorded 3"):
        run.assert_operation_count(4)
    with pytest.raises(AssertionError, match="was to make 1 calls"):
        run.assert_call_count(1)
    with pytest.raises(AssertionError, match="first at 0"):
        run.assert_no_records()


async def test_a_step_fails_as_often_as_it_is_to():
    async with durable_test(book) as t:
        t.fail_step("charge", CardDeclinedError("no"), times=2)
        run = await t.start(7)
        assert await run.result() == "paid"
        details = (await run.operation("charge")).step_details
        assert details is not None
        assert details.attempt == 3
    assert world == ["reserve hotel", "charge 7"]


async def test_a_step_fails_for_good():
    async with durable_test(book) as t:
        t.fail_step("charge", CardDeclinedError("no"), times=None)
        run = await t.start(7)
        with pytest.raises(ExecutionFailedError) as failed:
            await run.result()
        assert isinstance(failed.value.__cause__, CardDeclinedError)
        assert isinstance(await run.error(), CardDeclinedError)
    assert world == ["reserve hotel", "cancel hotel-1"]
    assert "compensation:hotel" in run.recorded


async def test_a_compensation_fails():
    async with durable_test(book) as t:
        t.fail_step("charge", CardDeclinedError, times=None)
        t.fail_compensation("hotel", RuntimeError("closed"))
        run = await t.start(7)
        error = await run.error()
    assert isinstance(error, ExceptionGroup)
    assert [str(one) for one in error.exceptions] == ["closed"]
    assert world == ["reserve hotel"]


async def test_a_step_is_replaced():
    async def pay(amount: int) -> str:
        world.append(f"pay {amount}")
        return "by hand"

    async with durable_test(book) as t:
        t.stub_step("hotel", "a hotel")
        t.replace_step("charge", pay)
        run = await t.start(7)
        assert await run.result() == "by hand"
        assert (await run.operation("hotel")).result == '"a hotel"'
    assert world == ["pay 7"]


async def test_what_was_replaced_in_vain_is_told():
    with pytest.raises(UnusedStandInError, match=r"never used: fail_step\('chrage'\).* 'hotel', 'charge'"):
        async with durable_test(book) as t:
            t.fail_step("chrage", CardDeclinedError)
            await (await t.start(7)).result()


async def test_what_the_test_raises_comes_out_as_it_is():
    with pytest.raises(KeyError, match="mine"):
        async with durable_test(book) as t:
            t.stub_step("nobody")
            raise KeyError("mine")


async def test_a_callback_is_answered_by_the_test():
    async with durable_test(approve) as t:
        run = await t.start(None)
        callback = await run.callback("approval")
        await callback.heartbeat()
        await callback.succeed("yes")
        assert await run.result() == "yes"


async def test_a_callback_of_wait_for_callback():
    async with durable_test(approve_by_letter) as t:
        run = await t.start(None)
        await (await run.callback("approval")).fail(ValueError("too late"))
        error = await run.error()
    assert isinstance(error, CallbackFailedError)


async def test_a_callback_times_out_in_no_time():
    async with durable_test(approve) as t:
        run = await t.start(None)
        await t.clock.sleep(2 * 86_400)
        assert await run.status() == "RUNNING"
        await t.clock.sleep(86_401)
        assert await run.status() == "FAILED"


async def test_callbacks_are_answered_by_themselves():
    async with durable_test(approve_by_letter) as t:
        t.on_callback("approval", "yes")
        assert await (await t.start(None)).result() == "yes"
        t.on_callback("approval", ValueError("no"))
        assert isinstance(await (await t.start(None)).error(), CallbackFailedError)
        t.on_callback("approval", lambda callback: callback.succeed(callback.name))
        assert await (await t.start(None)).result() == "approval"


async def test_an_execution_that_waits_for_nobody_is_stuck():
    async with durable_test(approve_by_letter, patience=0.05) as t:
        run = await t.start(None, name="stuck-1")
        with pytest.raises(StuckError, match=r"'stuck-1' is not over .* callback 'approval create callback id'"):
            await run.result()
        with pytest.raises(StuckError):
            await run.callback("another")


async def test_a_callback_that_never_comes():
    async with durable_test(book) as t:
        run = await t.start(7, name="b-1")
        with pytest.raises(
            AssertionError, match="'b-1' ended, SUCCEEDED, without waiting for a callback 'approval'"
        ):
            await run.callback("approval")
        with pytest.raises(AssertionError, match='it succeeded with "paid"'):
            await run.error()
        with pytest.raises(AssertionError, match="no operation 'flight'; there are: 'hotel', 'cooldown', 'charge'"):
            await run.operation("flight")


async def test_invokes_are_answered():
    async with durable_test(ask_bank) as t:
        t.stub_invoke("bank", "yes")
        assert await (await t.start(7)).result() == "yes"
    async with durable_test(ask_bank) as t:
        t.stub_invoke("bank", error=CardDeclinedError("no"))
        assert isinstance(await (await t.start(7)).error(), InvokeFailedError)
    async with durable_test(ask_bank) as t:
        t.register(book, "bank")
        assert await (await t.start(7)).result() == "paid"
        run = await t.start_other(book, 8)
        assert await run.result() == "paid"


async def test_a_crash_in_a_step_repeats_it():
    async with durable_test(book) as t:
        crashes = iter([True, False])

        async def crash(amount: int) -> str:
            world.append(f"charge {amount}")
            if next(crashes):
                await t.crash()
            return "paid"

        t.replace_step("charge", crash)
        assert await (await t.start(7)).result() == "paid"
    assert world == ["reserve hotel", "charge 7", "charge 7"]


async def test_always_replay_shows_what_is_done_between_operations():
    passes: list[str] = []

    @durable_execution
    async def careless(_event: None, ctx: DurableContext) -> int:
        for name in ("a", "b", "c"):
            passes.append(name)
            await ctx.step(reserve, name, name=name)
        return len(passes)

    async with durable_test(careless) as t:
        assert await (await t.start(None)).result() == 3
    passes.clear()
    async with durable_test(careless, always_replay=True) as t:
        run = await t.start(None)
        await run.result()
    assert passes == ["a", "b", "a", "b", "c", "a", "b", "c"]
    run.assert_operations(["step:a", "step:b", "step:c"])
    assert world == ["reserve a", "reserve b", "reserve c"] * 2


async def test_always_replay_takes_no_time_and_has_no_end_of_patience():
    """However many operations there are, and although something else is pending all the while."""

    @durable_execution
    async def two_branches(_event: None, ctx: DurableContext) -> None:
        async def waits(ctx: DurableContext) -> None:
            await ctx.wait(3600, name="an hour")

        async def works(ctx: DurableContext) -> None:
            for number in range(8):
                await ctx.step(look_at_clock, name=f"{number}")

        async with ctx.task_group() as tg:
            tg.start_soon(waits)
            tg.start_soon(works)

    async with durable_test(two_branches, always_replay=True) as t:
        began = t.clock.now()
        seen: list[int] = []

        async def look_at_clock() -> None:
            seen.append(t.clock.now() - began)

        await (await t.start(None)).result()
    assert seen == [0] * 8
    assert t.clock.now() - began == 3_600_000


async def test_always_replay_lets_a_rollback_finish_in_a_branch_that_is_stopped():
    @durable_execution
    async def two_branches(_event: None, ctx: DurableContext) -> None:
        async def slow(ctx: DurableContext) -> None:
            await ctx.step(wait_and_fail, name="slow")

        async def rolls_back(ctx: DurableContext) -> None:
            async with saga(ctx, name="inner") as inner:
                await inner.step(reserve, "hotel", name="hotel", compensate=cancel)
                raise KeyError("inner")

        async with ctx.task_group() as tg:
            tg.start_soon(slow)
            tg.start_soon(rolls_back)

    async with durable_test(two_branches, always_replay=True) as t:

        async def wait_and_fail() -> None:
            await t.clock.sleep(10)
            raise CardDeclinedError

        await (await t.start(None)).error()
    assert world == ["reserve hotel", "cancel hotel-1"]


async def test_an_execution_that_times_out_is_not_stuck():
    async with durable_test(approve_by_letter, patience=0.05) as t:
        run = await t.engine.start(approve_by_letter, None, timeout=3600)
        while run.driven:
            await anyio.lowlevel.checkpoint()
        assert t.engine.is_going_on  # it waits for the outside, and for its time limit
        assert (await run.wait()).status == "TIMED_OUT"
        started = await t.start_other(approve_by_letter, None)
        await (await started.callback("approval")).succeed("yes")
        assert await started.result() == "yes"
