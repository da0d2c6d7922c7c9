"""A serde for the whole result of a map or parallel."""

from __future__ import annotations

import re
from typing import Any

import anyio.lowlevel
import pytest

from durable import BatchItem, BatchResult, DurableContext, SerializationError, durable_execution, saga
from durable._wire import InvocationStatus
from durable.abc import Serde
from durable.testing import durable_test
from tests.harness import Harness

pytestmark = pytest.mark.anyio

calls: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


class Joined(Serde):
    """`OK:a,b`, and the items that failed as `!`."""

    def encode(self, value: Any) -> str:
        calls.append("encode")
        return "OK:" + ",".join(item.result if item.status == "succeeded" else "!" for item in value.items)

    def decode(self, text: str, annotation: Any) -> Any:
        calls.append("decode")
        assert annotation is BatchResult
        items = [
            BatchItem(
                index=index, name=f"joined-{index}", status="failed" if one == "!" else "succeeded", result=one
            )
            for index, one in enumerate(text.removeprefix("OK:").split(","))
        ]
        return BatchResult(items=items, completion_reason="ALL_COMPLETED", is_successful="!" not in text)


class JoinedSlowly(Joined):
    async def encode(self, value: Any) -> str:  # type: ignore[override]
        await anyio.lowlevel.checkpoint()
        return super().encode(value)

    async def decode(self, text: str, annotation: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return super().decode(text, annotation)


async def capitals(_ctx: DurableContext, item: str) -> str:
    if item == "fails":
        raise ValueError(item)
    return item.upper()


async def x(_ctx: DurableContext) -> str:
    return "X"


@pytest.mark.parametrize("serde", [Joined(), JoinedSlowly()], ids=["at once", "slowly"])
@pytest.mark.parametrize("kind", ["map", "parallel"])
async def test_the_whole_is_recorded_and_read_by_it(kind: str, serde: Serde):
    """What the first run gets is what it has decoded, as every replay does."""

    @durable_execution
    async def work(_event: None, ctx: DurableContext) -> list[str]:
        if kind == "map":
            batch = await ctx.map(capitals, ["x", "x"], name="batch", serde=serde)
        else:
            batch = await ctx.parallel([x, x], name="batch", serde=serde)
        first = [f"{item.name}={item.result}" for item in batch.items]
        await ctx.wait(1)
        return first

    harness = Harness(work)
    assert (await harness.invoke()).status is InvocationStatus.PENDING
    assert calls == ["encode", "decode"]
    assert harness.operation("batch").result == "OK:X,X"
    assert await harness.result() == ["joined-0=X", "joined-1=X"]
    assert set(calls[2:]) == {"decode"}


async def test_failures_are_as_the_serde_has_them():
    @durable_execution
    async def work(_event: None, ctx: DurableContext) -> list[str]:
        batch = await ctx.map(capitals, ["x", "fails"], serde=Joined())
        return [item.status for item in batch.items]

    async with durable_test(work) as t:
        assert await (await t.start(None)).result() == ["succeeded", "failed"]


async def test_what_is_too_large_is_rebuilt_without_it():
    """As otherwise: the record says how it ended, and the items' own records what they are."""

    async def large(_ctx: DurableContext, item: int) -> str:
        return "x" * 200_000

    @durable_execution
    async def work(_event: None, ctx: DurableContext) -> list[int]:
        batch = await ctx.map(large, [1, 2], serde=Joined())
        await ctx.wait(1)
        return [len(one) for one in batch.results()]

    async with durable_test(work) as t:
        run = await t.start(None)
        assert await run.result() == [200_000, 200_000]
        details = (await run.operation("large")).context_details
        assert details is not None
        assert details.replay_children
    assert calls == ["encode"]


async def test_with_compensations_it_is_rebuilt_without_it():
    undone: list[str] = []

    async def undo(what: str) -> None:
        undone.append(what)

    async def reserve(what: str) -> str:
        return what

    @durable_execution
    async def work(_event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "s") as s:

            async def item(ctx: DurableContext, name: str) -> str:
                return await s.step(reserve, name, name=name, compensate=undo)

            await ctx.map(item, ["a", "b"], serde=Joined())
            await ctx.wait(1)
            raise ValueError("no")

    async with durable_test(work) as t:
        assert str(await (await t.start(None)).error()) == "no"
    assert undone == ["b", "a"]
    assert calls == []


class CannotEncode(Joined):
    def encode(self, value: Any) -> str:
        raise KeyError("mine")


class GivesSomethingElse(Joined):
    def decode(self, text: str, annotation: Any) -> Any:
        return [text]


@pytest.mark.parametrize(
    ("serde", "complaint"),
    [
        (CannotEncode(), "the result of map 'capitals' cannot be encoded by .*: 'mine'"),
        (GivesSomethingElse(), "was decoded to list: the serde of a whole batch gives a BatchResult"),
    ],
)
async def test_a_serde_that_does_not_do_it(serde: Serde, complaint: str):
    """The map has failed with what says so, now and on every replay."""

    @durable_execution
    async def work(_event: None, ctx: DurableContext) -> str:
        try:
            await ctx.map(capitals, ["x"], serde=serde)
        except SerializationError as error:
            await ctx.wait(1)
            return str(error)
        return "nothing"

    async with durable_test(work, always_replay=True) as t:
        assert re.search(complaint, await (await t.start(None)).result())
