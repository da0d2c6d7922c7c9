"""`ctx.uuid4()` and `ctx.random()`: derived from where the code stands, and not recorded."""

from __future__ import annotations

from hashlib import blake2b
from random import Random
from typing import Any
from uuid import RFC_4122, UUID

import anyio
import pytest

from durable import DurableContext, FrameMisuseError, Retry, current_context, durable_execution, saga
from tests.harness import CrashError, Harness

pytestmark = pytest.mark.anyio

LOG: list[Any] = []


@pytest.fixture(autouse=True)
def _no_log() -> None:
    LOG.clear()


async def book(what: str = "book") -> str:
    return what


async def test_a_uuid_is_one_of_version_4_and_records_nothing():
    """It looks as any other; there is no call to the service for it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[UUID]:
        return [ctx.uuid4() for _ in range(100)]

    harness = Harness(work)
    uuids = await harness.result()
    assert {(uuid.version, uuid.variant) for uuid in uuids} == {(4, RFC_4122)}
    assert len(set(uuids)) == 100
    assert harness.calls == []


async def test_both_are_the_same_on_every_replay():
    """Also after a crash at which nothing was recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        drawn: list[Any] = [ctx.uuid4(), ctx.random().random()]
        LOG.append(list(drawn))
        if len(LOG) == 1:
            await harness.crash_now()
        await ctx.wait(5)
        drawn += [ctx.uuid4(), ctx.random().random(), ctx.uuid4()]
        LOG.append(list(drawn))
        await ctx.wait(5)
        return drawn

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.invoke()
    drawn = await harness.result()
    assert len(LOG) >= 5
    assert all(entry == LOG[0] for entry in LOG if len(entry) == 2)
    assert all(entry == LOG[-1] for entry in LOG if len(entry) == 5)
    assert [str(value) for value in LOG[-1]] == [str(value) for value in drawn]
    assert len(set(drawn)) == 5


async def test_they_differ_between_executions():
    """The ARN is part of them, and nothing else of the execution."""

    @durable_execution
    async def work(event: int, ctx: DurableContext) -> tuple[UUID, float]:
        return ctx.uuid4(), ctx.random().random()

    one = await Harness(work, 1, name="one").result()
    two = await Harness(work, 1, name="two").result()
    again = await Harness(work, 2, name="one").result()
    assert one == again
    assert set(one).isdisjoint(two)


async def test_one_more_does_not_change_what_comes_after_the_next_operation():
    """Code may be changed between two operations."""

    def function(more: int) -> Any:
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[Any]:
            for _ in range(more):
                ctx.uuid4()
                ctx.random()
            before = [ctx.uuid4(), ctx.random().random()]
            await ctx.step(book)
            return [*before, ctx.uuid4(), ctx.random().random()]

        return work

    one, two = await Harness(function(0)).result(), await Harness(function(1)).result()
    assert one[2:] == two[2:]
    assert set(one[:2]).isdisjoint(two[:2])


async def test_a_generator_is_one_of_its_own():
    """What is taken from one does not change another."""

    def function(taken: int) -> Any:
        @durable_execution
        async def work(event: None, ctx: DurableContext) -> list[float]:
            first, second = ctx.random(), ctx.random()
            for _ in range(taken):
                first.random()
            return [second.random(), second.randrange(1_000_000), ctx.random().random()]

        return work

    one, two = await Harness(function(0)).result(), await Harness(function(7)).result()
    assert one == two
    assert len(set(one)) == 3


async def test_they_are_unique_wherever_the_code_stands():
    """Frames, flat and nested branches, tasks, blocks, and before and after each of them."""

    async def draw(ctx: DurableContext, depth: int) -> None:
        LOG.append(ctx.uuid4())
        await ctx.step(book)
        LOG.append(ctx.uuid4())
        if depth:
            await both(ctx, depth - 1)

    async def both(ctx: DurableContext, depth: int) -> None:
        LOG.append(ctx.uuid4())
        await ctx.child(draw, depth)
        LOG.append(ctx.uuid4())
        await ctx.map(draw, [depth] * 2)
        LOG.append(ctx.uuid4())
        await ctx.map(draw, [depth] * 2, nesting="flat", name="flat")
        LOG.append(ctx.uuid4())
        async with ctx.move_on_after(60):
            LOG.append(ctx.uuid4())
            async with ctx.fail_after(60):
                LOG.append(ctx.uuid4())
            LOG.append(ctx.uuid4())
        LOG.append(ctx.uuid4())
        async with ctx.task_group() as tg:
            LOG.append(ctx.uuid4())
            tg.start_soon(draw, depth)
            tg.start_soon(draw, depth)
            LOG.append(ctx.uuid4())
        LOG.append(ctx.uuid4())
        async with saga(ctx) as s:
            LOG.append(ctx.uuid4())
            await s.step(book)
            LOG.append(ctx.uuid4())
        LOG.append(ctx.uuid4())

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await both(ctx, 1)
        await ctx.child(both, 1)

    await Harness(work).result()
    assert len(LOG) > 200
    assert len(set(LOG)) == len(LOG)


async def test_around_a_block_they_go_on_where_they_were():
    """A block takes positions of its own; what was drawn before it is not drawn again after it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[UUID]:
        await ctx.step(book)
        uuids = [ctx.uuid4()]
        async with ctx.task_group() as tg:
            tg.cancel()
            uuids.append(ctx.uuid4())
        uuids.append(ctx.uuid4())
        return uuids

    assert len(set(await Harness(work).result())) == 3


@pytest.mark.parametrize("retry", [None, Retry(attempts=3, jitter="none")])
async def test_each_attempt_of_a_compensation_has_its_own_and_repeats_it_after_a_crash(retry):
    """An attempt is a namespace; one that a crash interrupted comes over the same ground again."""

    async def cancel(what: str) -> None:
        ctx = current_context()
        LOG.append((what, ctx.uuid4()))
        if len(LOG) == 2:
            await harness.crash_now()
        await ctx.wait(5)
        LOG.append((what, ctx.uuid4()))
        if retry is not None and len({entry[1] for entry in LOG if entry[0] == what}) < 4:
            raise ConnectionError("again")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, retry=retry) as s:
            await s.step(book, "hotel", compensate=cancel)
            await s.step(book, "flight", compensate=cancel)
            raise KeyError("no")

    harness = Harness(work)
    with pytest.raises(CrashError):
        await harness.outcome()
    assert isinstance(await harness.error(), KeyError)
    by_step = {what: {uuid for name, uuid in LOG if name == what} for what in ("hotel", "flight")}
    expected = 2 if retry is None else 4
    assert {what: len(uuids) for what, uuids in by_step.items()} == {"hotel": expected, "flight": expected}
    assert by_step["hotel"].isdisjoint(by_step["flight"])


async def test_they_are_for_the_code_between_operations():
    """Inside a step they would be drawn on the first run only, and shift those that follow."""

    async def inside() -> None:
        with pytest.raises(FrameMisuseError, match=r"uuid4\(\) was called on a context while step 'inside'"):
            current_context().uuid4()
        with pytest.raises(FrameMisuseError, match=r"random\(\) was called on a context while step 'inside'"):
            current_context().random()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.step(inside)

        async def elsewhere() -> None:
            with pytest.raises(FrameMisuseError, match=r"uuid4\(\) was called from another task"):
                ctx.uuid4()
            LOG.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(elsewhere)

    await Harness(work).result()
    assert LOG == ["refused"]


async def test_they_are_no_operations():
    """One may be drawn between the call of an operation and its `await`."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        later = ctx.step(book)
        ctx.uuid4()
        return await later

    assert await Harness(work).result() == "book"


async def test_what_they_are_is_part_of_what_is_recorded():
    """Executions that are under way must draw the same after an update of this library."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[Any]:
        drawn = [ctx.uuid4(), ctx.random().getrandbits(32)]
        await ctx.step(book)
        return [*drawn, await ctx.child(child)]

    async def child(ctx: DurableContext) -> UUID:
        return ctx.uuid4()

    harness = Harness(work)

    def derived(kind: str, context: str, position: int, number: int) -> bytes:
        text = f"{harness.record.arn}/{context}/{position}/{kind}/{number}"
        return blake2b(text.encode(), digest_size=32).digest()

    first, bits, in_child = await harness.result()
    assert UUID(first) == UUID(bytes=derived("uuid4", "", 0, 1)[:16], version=4)
    assert bits == Random(int.from_bytes(derived("random", "", 0, 2))).getrandbits(32)
    context = harness.operation("child").id
    assert UUID(in_child) == UUID(bytes=derived("uuid4", context, 0, 1)[:16], version=4)
