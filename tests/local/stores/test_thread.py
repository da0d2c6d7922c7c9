"""The one thread that has the database: one transaction for many, and failures that hit only whom they concern."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Any

import anyio
import msgspec
import pytest

from durable.exceptions import (
    ExecutionExistsError,
    StoreError,
)
from durable.local.stores.sqlite import SqliteStore, open_store
from durable.local.stores.thread import _Read, _running_loop
from durable.testing.contracts.log import Log, step
from tests.local.stores.files import check, on_the_thread, opened, use_up_room

pytestmark = pytest.mark.anyio


@contextmanager
def held_up(store: SqliteStore) -> Generator[list[str]]:
    """Keep the thread busy: what is committed inside queues up. Gives the statements that it executes then."""
    gate = threading.Event()
    statements: list[str] = []
    store._thread._connection.set_trace_callback(statements.append)
    store._thread._put(_Read(_running_loop(), lambda _: gate.wait(60)))
    try:
        yield statements
    finally:
        gate.set()


async def together(store: SqliteStore, *attempts: Callable[[], Any]) -> tuple[list[Any], list[str]]:
    """Make all attempts in one go. Returns what each returned or raised, and the statements that were executed."""
    outcomes: list[Any] = [None] * len(attempts)

    async def attempt(number: int) -> None:
        try:
            await attempts[number]()
        except Exception as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        with held_up(store) as statements:
            for number in range(len(attempts)):
                tasks.start_soon(attempt, number)
                await anyio.wait_all_tasks_blocked()
    store._thread._connection.set_trace_callback(None)
    return outcomes, statements


async def test_commits_that_wait_go_out_in_one_transaction(path: str):
    """Of any number of executions; a read in between sees what was queued before it, and not what comes after."""
    logs = [Log(f"t-{number}") for number in range(50)]
    async with opened(path) as store:
        for log in logs:
            await store.create(log.begin())
        writes = [lambda log=log: store.commit(log.id, log.change(step("a"))) for log in logs]
        outcomes, statements = await together(store, *writes)
        assert outcomes == [None] * 50
        assert [sql[:19] for sql in statements] == ["INSERT INTO changes"]
        seen: list[int] = []

        async def look() -> None:
            loaded = await store.load(logs[0].id)
            assert loaded is not None
            seen.append(loaded.changes)

        writes = [lambda log=log: store.commit(log.id, log.change(step("b"))) for log in logs[:4]]
        outcomes, statements = await together(store, writes[0], writes[1], look, writes[2], writes[3])
        assert outcomes == [None] * 5
        assert [sql[:19] for sql in statements if sql.startswith("INSERT")] == ["INSERT INTO changes"] * 2
        assert seen == [3]
        for log in logs:
            await check(store, log)


async def test_the_last_word_on_an_execution_counts(path: str):
    """Also when several changes of one are in the same transaction."""
    log = Log()
    async with opened(path) as store:
        await store.create(log.begin())
        records = [msgspec.structs.replace(log.record, invocations=number) for number in range(5)]
        changes = [log.change(step(f"s-{record.invocations}"), record=record) for record in records]
        writes = [lambda change=change: store.commit(log.id, change) for change in changes]
        outcomes, statements = await together(store, *writes)
        assert outcomes == [None] * 5
        assert statements.count("COMMIT") == 1
        assert await store.find("t-1") == records[-1]
        await check(store, log)


def test_several_event_loops_at_once(path: str):
    """Each is woken in its own way, in its own thread, also for what went out in one transaction."""
    store = open_store(path)

    async def work(name: str) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(live, f"{name}-{number}")

    async def live(name: str) -> None:
        log = Log(name)
        with anyio.fail_after(30):
            await store.create(log.begin())
            for number in range(5):
                await store.commit(log.id, log.change(step(f"s-{number}")))
            await check(store, log)

    threads = [
        threading.Thread(target=lambda name=name: anyio.run(work, f"{name}", backend=name.split("-")[0]))
        for name in ("asyncio-1", "trio-1", "asyncio-2", "trio-2")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(anyio.run(store.executions)) == 40
    anyio.run(store.aclose)


async def test_what_fails_fails_alone(path: str):
    """Those who were in the same transaction are done without it, and told that they are."""
    good, taken = [Log(f"t-{number}") for number in range(6)], Log("t-1", id="other")
    async with opened(path) as store:
        await store.create(good[0].begin())
        again = good[0].change(step("a"))
        outcomes, statements = await together(
            store,
            lambda: store.create(good[1].begin()),
            lambda: store.commit(good[0].id, again),
            lambda: store.create(taken.begin()),
            lambda: store.create(good[2].begin()),
            lambda: store.commit(good[0].id, again),
            lambda: store.create(good[3].begin()),
        )
        assert [type(outcome) for outcome in outcomes] == [
            *(type(None),) * 2,
            ExecutionExistsError,
            type(None),
            StoreError,
            type(None),
        ]
        assert statements.count("COMMIT") == 3
        assert sum(sql.startswith("INSERT INTO changes") for sql in statements) == 5
        for log in good[:4]:
            await check(store, log)
        assert await store.load("other") is None


async def test_a_lock_of_another_program_is_waited_for_once(path: str):
    """Not once for each of those that are queued; and everybody is told that nothing was written."""
    logs = [Log(f"t-{number}") for number in range(10)]
    async with opened(path) as store:
        for log in logs:
            await store.create(log.begin())
        await on_the_thread(store, "PRAGMA busy_timeout = 0")
        changes = [log.change(step("a")) for log in logs]
        writes = [
            lambda log=log, change=change: store.commit(log.id, change)
            for log, change in zip(logs, changes, strict=True)
        ]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outcomes, statements = await together(store, *writes)
            assert {str(outcome) for outcome in outcomes} == {f"{path} could not be used: database is locked"}
            assert [type(outcome) for outcome in outcomes] == [StoreError] * 10
            assert [sql[:19] for sql in statements] == ["INSERT INTO changes"]
        for log, change in zip(logs, changes, strict=True):
            await store.commit(log.id, change)
            await check(store, log)


async def test_a_full_disk(path: str):
    """It is a store error; nothing of the call is there, and once there is room the same call gets through."""
    async with opened(path) as store:
        small, large = Log("small"), Log("large")
        await store.create(small.begin())
        await store.create(large.begin())
        await use_up_room(store)
        (pages,) = await on_the_thread(store, "PRAGMA page_count")
        await on_the_thread(store, f"PRAGMA max_page_count = {pages + 10}")
        change = large.change(step("x", "x" * 500_000))
        for _ in range(3):
            with pytest.raises(StoreError, match="database or disk is full"):
                await store.commit(large.id, change)
            await store.commit(small.id, small.change(step(f"s-{small.changes}")))
        outcomes, _ = await together(
            store,
            lambda: store.commit(small.id, small.change(step("t"))),
            lambda: store.commit(large.id, change),
            lambda: store.commit(small.id, small.change(step("u"))),
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), StoreError, type(None)]
        await on_the_thread(store, "PRAGMA max_page_count = 1000000")
        await store.commit(large.id, change)
        await check(store, small)
        await check(store, large)


@contextmanager
def no_file_larger_than(size: int) -> Generator[None]:
    """The operating system writes no file of this process beyond that size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_fails(path: str):
    """A write that the operating system refuses is a store error; nothing that was acknowledged is touched."""
    async with opened(path) as store:
        log = Log()
        await store.create(log.begin())
        await store.commit(log.id, log.change(step("a")))
        change = log.change(step("x", "x" * 1_800_000))
        with no_file_larger_than(1_500_000):
            for _ in range(2):
                with pytest.raises(
                    StoreError, match=r"could not be used: (disk I/O error|database or disk is full)"
                ):
                    await store.commit(log.id, change)
            assert (await store.load(log.id)) is not None
        await store.commit(log.id, change)
        await check(store, log)
    async with opened(path) as store:
        await check(store, log)
