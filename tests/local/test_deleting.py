"""Deleting executions: which ones, what is left of them, and who still had to do with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable import DurableContext, durable_execution
from durable.abc import Store
from durable.exceptions import (
    CallbackNotFoundError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    StoreError,
)
from durable.local import Engine, open_engine
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock
from tests.local.fakes import FakeStore, ManualClock, clock_of, engine_over, fail, settled
from tests.local.flows import add, hang, happened, wait_for

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    happened.clear()
    yield
    happened.clear()


async def is_gone(engine: Engine, name: str) -> bool:
    """Whether nobody finds anything of an execution."""
    for look in (engine.execution, engine.operations, engine.history, engine.delete, engine.stop, engine.resume):
        with pytest.raises(ExecutionNotFoundError):
            await look(name)
    return name not in {record.name for record in await engine.executions()}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_an_execution_that_is_over_is_deleted(kind: str, tmp_path: Path):
    """Its name is free: another one begins from nothing. Whoever has its run still has how it ended."""
    path = str(tmp_path / "store.db") if kind == "sqlite" else None
    async with open_engine(path, clock=SkippingClock()) as engine:
        run = await engine.start(add, {"a": 1}, name="t-1")
        assert await run.result() == 1
        assert (await engine.delete("t-1")).status == "SUCCEEDED"
        assert await is_gone(engine, "t-1")
        assert await run.result() == 1
        with pytest.raises(ExecutionNotFoundError):
            assert [event async for event in run.events()] == []
        again = await engine.start(wait_for, 5.0, name="t-1")
        assert await again.result() == "after 5"
        assert happened == ["a=1", "before 5", "after 5"]
        assert len(await engine.operations("t-1")) == 3


async def test_nothing_of_it_is_left_in_the_file(tmp_path: Path):
    """Neither its records nor its input; and other executions have theirs after the file is opened again."""
    path = str(tmp_path / "store.db")
    async with open_engine(path, clock=SkippingClock()) as engine:
        for name in ("t-1", "t-2"):
            await (await engine.start(add, {"a": 1}, name=name)).wait()
        await engine.delete("t-2")
    async with open_engine(path, clock=SkippingClock()) as engine:
        await (await engine.start(add, {"b": 2}, name="t-3")).wait()
        assert [operation.result for operation in await engine.operations("t-3")] == ['"b=2"']
        assert [operation.result for operation in await engine.operations("t-1")] == ['"a=1"']
        await engine.delete("t-1")
        await engine.delete("t-3")
    with closing(sqlite3.connect(path)) as connection:
        for table in ("executions", "inputs", "changes"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_what_is_not_over_is_not_deleted():
    """While it runs, waits or is paused: it says what to do first, and nothing is lost."""
    async with engine_over(clock=ManualClock()) as engine:
        run = await engine.start(wait_for, 5.0, name="t-1")
        for status in ("RUNNING", "PAUSED"):
            await settled()
            with pytest.raises(ExecutionConflictError, match=f"'t-1' is {status}: stop it first"):
                await engine.delete("t-1")
            await (engine.pause if status == "RUNNING" else engine.unpause)("t-1")
        await clock_of(engine).move(5)
        assert await run.result() == "after 5"


async def test_an_execution_whose_invocation_still_winds_down():
    """It was stopped, and deleted at once: its run ends, and a new one of its name is another."""
    async with engine_over() as engine:
        run = await engine.start(hang, "x", name="t-1")
        while "x hangs" not in happened:
            await anyio.lowlevel.checkpoint()
        await engine.stop("t-1")
        await engine.delete("t-1")
        assert (await run.wait()).status == "STOPPED"
        happened.clear()
        again = await engine.start(hang, "x", name="t-1")
        assert (again is not run, again.id != run.id) == (True, True)
        await settled()
        # The old one may have left before, or still do so.
        assert [what for what in happened if what != "x left"] == ["x reserved", "x hangs"]
        assert await engine.resume("t-1") == [again]
        await engine.stop("t-1")
        assert (await again.wait()).id == again.id


async def test_a_callback_of_what_was_deleted_is_not_there():
    """Its sender is told so."""

    @durable_execution
    async def ask(event: None, ctx: DurableContext) -> int:
        return await (await ctx.create_callback(int)).result()

    async with engine_over() as engine:
        run = await engine.start(ask, None, name="t-1")
        while not await engine.operations("t-1"):
            await anyio.lowlevel.checkpoint()
        details = (await engine.operations("t-1"))[0].callback_details
        assert details is not None
        assert details.callback_id is not None
        await engine.stop("t-1")
        await engine.delete("t-1")
        with pytest.raises(CallbackNotFoundError):
            await engine.complete_callback(details.callback_id, 1)
        assert (await run.wait()).status == "STOPPED"


def make_caller() -> Any:
    @durable_execution(name="caller")
    async def caller(event: None, ctx: DurableContext) -> Any:
        try:
            return await ctx.invoke("add", {"a": 1})
        finally:
            await ctx.wait(60)

    return caller


async def test_what_was_invoked_stays_for_as_long_as_its_caller():
    """A caller that is taken up again may ask for it once more: it would be invoked anew."""
    caller = make_caller()
    store = MemoryStore()
    async with engine_over(store, ManualClock()) as engine:
        engine.register(add)
        run = await engine.start(caller, None, name="t-1")
        await settled()
        callee = (await engine.executions())[1].name
        assert (await engine.execution(callee)).status == "SUCCEEDED"
        with pytest.raises(
            ExecutionConflictError, match=r"is SUCCEEDED: it was invoked by 't-1', which is RUNNING"
        ):
            await engine.delete(callee)
        await clock_of(engine).move(60)
        await run.result()
        await engine.delete(callee)
        assert await is_gone(engine, callee)
        await engine.delete("t-1")
    assert happened == ["a=1"]


async def test_a_callee_outlives_its_caller():
    """That its caller is gone makes no difference to it, nor to who deletes it."""
    caller = make_caller()

    async with engine_over(clock=ManualClock()) as engine:
        engine.register(wait_for, "add")
        await engine.start(caller, None, name="t-1")
        await settled()
        callee = (await engine.executions())[1].name
        await engine.stop("t-1")
        await engine.delete("t-1")
        (run,) = await engine.resume(callee)
        await clock_of(engine).move(5)
        assert (await run.wait()).status in {"SUCCEEDED", "FAILED"}
        await engine.delete(callee)
        assert await engine.executions() == []


class Stubborn(FakeStore):
    """A store that does not delete, or does and does not say so, until a test lets it."""

    fails = ""

    async def delete(self, execution_id: str) -> None:
        if self.fails == "before":
            await fail()
        await super().delete(execution_id)
        if self.fails == "after":
            await fail()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_store_that_fails_at_it(when: str):
    """Whoever asked is told; what is in memory does not count, only what the store has."""
    store = Stubborn()
    async with engine_over(store) as engine:
        await (await engine.start(add, {"a": 1}, name="t-1")).wait()
        store.fails = when
        with pytest.raises(StoreError, match="no space left"):
            await engine.delete("t-1")
        store.fails = ""
        if when == "before":
            assert (await engine.execution("t-1")).status == "SUCCEEDED"
            await engine.delete("t-1")
        assert await is_gone(engine, "t-1")
        assert await (await engine.start(add, {"a": 1}, name="t-1")).result() == 1
    assert happened == ["a=1", "a=1"]


async def test_two_who_delete_it_at_once():
    """One of them has done it."""
    store: Store = MemoryStore()
    outcomes: list[str] = []
    async with engine_over(store) as engine:
        await (await engine.start(add, {"a": 1}, name="t-1")).wait()

        async def delete() -> None:
            try:
                await engine.delete("t-1")
            except ExecutionNotFoundError:
                outcomes.append("not there")
            else:
                outcomes.append("deleted")

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(delete)
        assert sorted(outcomes) == ["deleted", *["not there"] * 4]
