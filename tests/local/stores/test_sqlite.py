"""The SQLite store: how it is set up and closed, and what was acknowledged survives a kill."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import anyio
import msgspec
import pytest

from durable.exceptions import (
    StoreError,
    StoreLockedError,
)
from durable.local.stores.file import APPLICATION_ID, SCHEMA_VERSION
from durable.local.stores.sqlite import SqliteStore, open_store
from durable.testing.contracts.log import Log, step
from tests.local.stores.files import check, filled, listing, on_the_thread, opened, writer

pytestmark = pytest.mark.anyio


# --- How it is set up ----------------------------------------------------------------------------------------


async def test_durability_is_as_strict_as_it_gets(path: str):
    """A write-ahead log that is synced at every commit; and the marks by which a store is known."""
    async with opened(path) as store:
        assert await on_the_thread(store, "PRAGMA journal_mode") == ("wal",)
        assert await on_the_thread(store, "PRAGMA synchronous") == (2,)
        assert await on_the_thread(store, "PRAGMA application_id") == (APPLICATION_ID,)
        assert await on_the_thread(store, "PRAGMA user_version") == (SCHEMA_VERSION,)


@pytest.mark.parametrize(
    "name", ["a b.db", "ä.db", "a?mode=memory&x#y%20.db", "store", ":memory:", "-x.db", "a'b\"c.db"]
)
async def test_any_file_name(name: str, tmp_path: Path):
    """It is a path, and nothing else."""
    path = str(tmp_path / name)
    log = await filled(path)
    assert listing(tmp_path) == {name, f"{name}-engine"}
    async with opened(path) as store:
        await check(store, log)
        with pytest.raises(StoreLockedError):
            open_store(path)


async def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is taken from the current directory once, when it is opened."""
    monkeypatch.chdir(tmp_path)
    async with opened("store.db") as store:
        monkeypatch.chdir("/")
        await store.create(Log().begin())
    assert (tmp_path / "store.db").exists()


async def test_the_thread_ends_with_the_store(path: str):
    """Nothing is left of it."""
    before = threading.active_count()
    async with opened(path):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


async def test_a_closed_store(path: str):
    """It says so."""
    async with opened(path) as store:
        await store.create(Log().begin())
    for attempt in (store.find("t-1"), store.executions(), store.create(Log("x").begin()), store.load("x")):
        with pytest.raises(StoreError, match="is closed"):
            await attempt


async def test_what_is_queued_is_written_before_it_closes(path: str):
    """Whoever waits is told."""
    logs = [Log(f"t-{number}") for number in range(20)]
    store = open_store(path)
    async with anyio.create_task_group() as tasks:
        for log in logs:
            tasks.start_soon(store.create, log.begin())
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        await store.aclose()
    async with opened(path) as again:
        assert len(await again.executions()) == 20


def test_a_store_outlives_the_event_loop(path: str):
    """What was waited for in one that is gone is committed, and the next one uses the store as if nothing were."""
    store = open_store(path)
    logs = [Log(f"t-{number}") for number in range(4)]

    async def begin(log: Log) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.create(log.begin())

    for log, backend in zip(logs, ["asyncio", "trio", "asyncio", "trio"], strict=True):
        anyio.run(begin, log, backend=backend)
    assert len(anyio.run(store.executions)) == 4
    anyio.run(store.aclose, backend="trio")


async def test_what_is_over_is_not_kept_in_memory(path: str):
    """However many executions a store has seen."""
    async with opened(path) as store:
        for number in range(5):
            log = Log(f"t-{number}")
            await store.create(log.begin())
            await store.commit(log.id, log.end())
            await store.load(log.id)
            await store.events(log.id)
            await store.commit(log.id, log.change(step("late")))
            await check(store, log)
        running = Log("running")
        await store.create(running.begin())
        assert list(store._keys) == [running.id]


async def test_an_input_is_written_once(path: str):
    """However large it is, and however often its execution changes."""
    log = Log(input="x" * 1_000_000)
    async with opened(path) as store:
        await store.create(log.begin())
        (before,) = await on_the_thread(store, "PRAGMA page_count")
        for number in range(20):
            await store.commit(log.id, log.change(record=msgspec.structs.replace(log.record, invocations=number)))
        (after,) = await on_the_thread(store, "PRAGMA page_count")
        assert after - before < 10
        assert await store.find("t-1") == log.record


# --- Kill -9 -------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_a_kill(seed: int, path: str):
    """Every number that the process had printed is there, whole and in order, and at most one more of each."""
    rng = random.Random(seed)
    executions, backend = rng.choice([1, 7, 30]), ["asyncio", "trio"][seed % 2]
    acknowledged: dict[int, int] = {}
    with writer(path, backend, executions) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        for _ in range(rng.randrange(1, 400)):
            number, count = map(int, process.stdout.readline().split())
            acknowledged[number] = count
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.readlines():
            number, count = map(int, line.split())
            acknowledged[number] = count
    store = open_store(path)
    assert acknowledged, seed
    for number in range(executions):
        anyio.run(_check_survivor, store, number, acknowledged.get(number, -1))
    anyio.run(store.aclose)


async def _check_survivor(store: SqliteStore, number: int, acknowledged: int) -> None:
    record = await store.find(f"t-{number}")
    if record is None:
        assert acknowledged < 0
        return
    loaded = await store.load(record.id)
    assert loaded is not None
    steps = [operation for operation in loaded.operations if operation.name != "last"]
    assert [operation.result for operation in steps] == [f'"{count}"' for count in range(len(steps))]
    assert len(steps) - 1 in {acknowledged, acknowledged + 1}
    assert loaded.changes == 1 + len(steps)
    assert [number for number, _ in await store.events(record.id)] == list(range(1, 2 + 2 * len(steps)))
    if steps:
        (last,) = [operation for operation in loaded.operations if operation.name == "last"]
        assert last.result == f"{len(steps) - 1}"
