"""Rules for stores: what is deleted is gone, and nothing else is."""

from __future__ import annotations

from functools import partial

import anyio
import msgspec

from ...abc import Change, Listing, Store
from ...exceptions import ExecutionNotFoundError, StoreError
from .log import Log, step
from .rules import expect, expect_refused, expect_same
from .store_bench import StoreBench, StoreRules

rule = StoreRules()


@rule
async def what_is_deleted_is_gone(bench: StoreBench) -> None:
    """`delete` takes all that there was of an execution; what others have is as it was."""
    logs = [Log(f"t-{number}") for number in range(3)]
    async with bench.opened() as store:
        for log in logs:
            await store.create(log.begin())
            await store.commit(log.id, log.change(step("a")))
        await store.commit(logs[1].id, logs[1].end(result="1"))
        for log in logs[1:]:
            await store.delete(log.id)
            await _is_gone(store, log)
        left = [record.name for record in await store.executions()]
        expect_same("executions() after two of three were deleted", left, ["t-0"])
        await logs[0].check(store)
        await store.delete("x")  # what is not there is no error


@rule
async def what_is_deleted_stays_gone(bench: StoreBench) -> None:
    """After the store is opened again it is gone as well, and its name is free."""
    logs = [Log(f"t-{number}") for number in range(2)]
    async with bench.opened() as store:
        for log in logs:
            await store.create(log.begin())
            await store.commit(log.id, log.change(step("a")))
        await store.delete(logs[1].id)
    async with bench.reopened() as store:
        await _is_gone(store, logs[1])
        await logs[0].check(store)
        again = Log("t-1")
        await store.create(again.begin())
        await store.commit(again.id, again.change(step("c")))
        await again.check(store)
        await logs[0].check(store)


@rule
async def pages_go_on_where_they_were_when_something_is_deleted(bench: StoreBench) -> None:
    """Nothing is left out of a listing and nothing is there twice, also if the last one of a page is deleted."""
    for oldest_first in (False, True):
        function = f"tests:{oldest_first}"
        logs = [Log(f"{oldest_first}-{number}", function=function) for number in range(9)]
        async with bench.opened() as store:
            for log in logs:
                await store.create(log.begin())
            wanted = Listing(function=function, oldest_first=oldest_first, limit=3)
            first = await store.listing(wanted)
            expect(first.position is not None, "the position of a page that others follow", "there is none")
            for record in (first.records[0], first.records[-1]):
                await store.delete(record.id)
            position = first.position or 0
            second = await store.listing(msgspec.structs.replace(wanted, position=position))
            names = [log.record.name for log in (logs if oldest_first else logs[::-1])]
            found = [record.name for record in (*first.records, *second.records)]
            expect_same("two pages, between which executions were deleted", found, names[:6])


@rule
async def what_is_written_at_the_moment_of_a_deletion(bench: StoreBench) -> None:
    """Many at once: each is as it should be, and nothing is written for what is gone."""
    logs = [Log(f"t-{number}") for number in range(30)]

    async def work(store: Store, log: Log, *, stays: bool) -> None:
        for number in range(5):
            await store.commit(log.id, log.change(step(f"{number}")))
        if not stays:
            await store.delete(log.id)

    async with bench.opened() as store:
        for log in logs:
            await store.create(log.begin())
        async with anyio.create_task_group() as tasks:
            for number, log in enumerate(logs):
                tasks.start_soon(partial(work, store, log, stays=number % 2 == 0))
        for number, log in enumerate(logs):
            if number % 2 == 0:
                await log.check(store)
            else:
                await _is_gone(store, log)


async def _is_gone(store: Store, log: Log) -> None:
    expect_same("find() of what was deleted", await store.find(log.record.name), None)
    expect_same("load() of what was deleted", await store.load(log.id), None)
    with expect_refused(ExecutionNotFoundError, "`events` of what was deleted"):
        await store.events(log.id)
    with expect_refused(StoreError, "`commit` to what was deleted"):
        await store.commit(log.id, Change())
