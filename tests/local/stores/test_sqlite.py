"""The SQLite store: who may have the file, what is no store, one transaction for many, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from durable._wire import ExecutionStatus
from durable.exceptions import (
    ExecutionExistsError,
    StoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreSchemaError,
)
from durable.local.stores.file import APPLICATION_ID, SCHEMA_VERSION
from durable.local.stores.sqlite import SqliteStore, open_store
from tests.local.stores.log import Log, step

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "store.db")


@asynccontextmanager
async def opened(path: str, *, read_only: bool = False) -> AsyncGenerator[SqliteStore]:
    store = open_store(path, read_only=read_only)
    try:
        yield store
    finally:
        await store.aclose()


async def filled(path: str, changes: int = 3) -> Log:
    """A store with one execution, closed."""
    log = Log()
    async with opened(path) as store:
        await store.create(log.begin())
        for number in range(changes):
            await store.commit(log.id, log.change(step(f"s-{number}")))
    return log


async def check(store: SqliteStore, log: Log) -> None:
    loaded = await store.load(log.id)
    assert loaded is not None
    assert list(loaded.operations) == list(log.operations.values())
    assert (loaded.events, loaded.changes) == (len(log.events), log.changes)


def elsewhere(code: str, *arguments: str, **options: Any) -> str:
    """What another process prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, **options)
    assert done.returncode == 0, done.stderr
    printed: str = done.stdout
    return printed.strip()


async def on_the_thread(store: SqliteStore, query: str) -> Any:
    """What the store's own connection answers."""
    return await store._thread.read(lambda connection: connection.execute(query).fetchone())


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def listing(directory: Path) -> set[str]:
    return {found.name for found in directory.iterdir()}


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


# --- Who may have it -----------------------------------------------------------------------------------------


async def test_a_second_engine_is_told_who_has_the_store(path: str):
    """In this process and in another one; whoever has it does not notice. When it is closed the next one has it."""
    log = await filled(path)
    async with opened(path) as store:
        holder = rf"in use by another engine \(process {os.getpid()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
        for _ in range(2):
            with pytest.raises(StoreLockedError, match=holder):
                open_store(path)
            await store.commit(log.id, log.change(step(f"t-{log.changes}")))
        code = """
import sys
from durable.exceptions import StoreLockedError
from durable.local.stores.sqlite import open_store
try:
    open_store(sys.argv[1])
except StoreLockedError as error:
    print(error)
"""
        assert f"(process {os.getpid()}, since" in elsewhere(code, path)
        await store.commit(log.id, log.change(step("u")))
        await check(store, log)
    async with opened(path) as store:
        await check(store, log)


def test_many_who_want_a_new_store_at_once(path: str):
    """One of them has it; the others are told, and it is a store."""
    outcomes: list[SqliteStore | Exception] = []
    barrier = threading.Barrier(8)

    def want() -> None:
        barrier.wait()
        try:
            outcomes.append(open_store(path))
        except StoreError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (store,) = [outcome for outcome in outcomes if isinstance(outcome, SqliteStore)]
    assert all(isinstance(outcome, StoreLockedError) for outcome in outcomes if outcome is not store), outcomes
    anyio.run(store.create, Log().begin())
    anyio.run(store.aclose)


@pytest.mark.process
def test_a_killed_engine_lets_go_of_the_store(path: str):
    """Its name is in the error as long as it lives; after that the next one has the store at once."""
    with writer(path, "asyncio") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreLockedError, match=f"process {process.pid},"):
            open_store(path)
        process.kill()
        process.wait()
        store = open_store(path)
    anyio.run(store.aclose)


def test_a_lock_file_that_cannot_be_one(path: str):
    """A problem with the file is told as what it is, not as another engine."""
    Path(f"{path}-engine").mkdir()
    with pytest.raises(StoreError, match="cannot be opened: unable to open database file") as raised:
        open_store(path)
    assert not isinstance(raised.value, StoreLockedError)
    Path(f"{path}-engine").rmdir()
    Path(f"{path}-engine").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="cannot be opened: file is not a database") as raised:
        open_store(path)
    assert not isinstance(raised.value, StoreLockedError)
    Path(f"{path}-engine").unlink()
    anyio.run(open_store(path).aclose)


# --- Who looks at it -----------------------------------------------------------------------------------------


async def test_reading_while_an_engine_writes(path: str):
    """A reader sees what is committed, each time a moment of its own; nobody is in anybody's way."""
    log = await filled(path)
    async with opened(path) as store, opened(path, read_only=True) as reader:
        for number in range(20):
            await check(reader, log)
            assert [record.name for record in await reader.executions()] == ["t-1"]
            await store.commit(log.id, log.change(step(f"t-{number}")))
        await check(reader, log)


async def test_a_reader_writes_nothing(path: str):
    """Not even what it is told to."""
    log = await filled(path)
    before = read(path)
    async with opened(path, read_only=True) as reader:
        with pytest.raises(StoreError, match="attempt to write a readonly database"):
            await reader.commit(log.id, log.change(step("x")))
        with pytest.raises(StoreError, match="attempt to write a readonly database"):
            await reader.create(Log("t-2").begin())
    assert read(path) == before


LOOK = """
import contextlib, sqlite3, sys
with contextlib.closing(sqlite3.connect(sys.argv[1])) as connection:
    print(*connection.execute("SELECT count(*) FROM changes").fetchone())
"""
"""Somebody looks into the store with SQLite's own tools. Whoever closes a database last removes its log."""


@pytest.mark.parametrize("between", ["nothing", "a reader", "a second engine", "a reader that stays"])
async def test_whoever_looks_at_it_takes_nothing_away(path: str, between: str):
    """An engine keeps its hold on the file, whoever opens and closes it meanwhile, in its own process as well."""
    log = await filled(path)
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(path))
        await store.commit(log.id, log.change(step("t")))
        if between == "a reader":
            async with opened(path, read_only=True) as reader:
                await check(reader, log)
        elif between == "a second engine":
            with pytest.raises(StoreLockedError):
                open_store(path)
        elif between == "a reader that stays":
            await stack.enter_async_context(opened(path, read_only=True))
        assert elsewhere(LOOK, path) == f"{log.changes}"
        await store.commit(log.id, log.change(step("u")))
        # It is seen by others: it went to the log that they read, not to one that has been removed.
        assert elsewhere(LOOK, path) == f"{log.changes}"
    async with opened(path) as again:
        await check(again, log)


def test_what_is_not_there_is_not_read(path: str, tmp_path: Path):
    """Nor is it created by looking."""
    with pytest.raises(StoreNotFoundError, match="nothing was ever started there"):
        open_store(path, read_only=True)
    assert list(tmp_path.iterdir()) == []
    Path(path).touch()
    with pytest.raises(StoreNotFoundError):
        open_store(path, read_only=True)
    assert Path(path).read_bytes() == b""


async def test_an_empty_file_becomes_a_store(path: str):
    """Nothing is lost by that."""
    content(b"")(Path(path))
    log = await filled(path)
    async with opened(path) as store:
        await check(store, log)


# --- What is no store ----------------------------------------------------------------------------------------


def database(*statements: str) -> Callable[[Path], None]:
    """Another SQLite file."""

    def make(path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    return make


def content(data: bytes) -> Callable[[Path], None]:
    """A file of anybody's."""

    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def changed(*statements: str) -> Callable[[Path], None]:
    """A store that somebody has tampered with."""

    def make(path: Path) -> None:
        anyio.run(filled, str(path))
        database(*statements)(path)

    return make


def cut(size: int) -> Callable[[Path], None]:
    """A store of which only the beginning is left."""

    def make(path: Path) -> None:
        anyio.run(filled, str(path))
        os.truncate(path, size)

    return make


NO_STORE: dict[str, tuple[Callable[[Path], None], str]] = {
    "text": (content(b"Dear diary,\n" * 500), "a file that is not an SQLite database"),
    "a line": (content(b"x\n"), "a file that is not an SQLite database"),
    "one byte": (content(b"\0"), "a file that is not an SQLite database"),
    "zeros": (content(b"\0" * 4096), "a file that is not an SQLite database"),
    "SQLite's first words": (content(b"SQLite format 3\0"), "a file that is not an SQLite database"),
    "SQLite's first words only": (content(b"SQLite format 3\0" * 300), "a file that is not an SQLite database"),
    "another program's database": (
        database("PRAGMA application_id = 0x47503130", "CREATE TABLE t (x)"),
        "the application id 0x47503130 of another program",
    ),
    "a negative application id": (
        database("PRAGMA application_id = -2", "CREATE TABLE t (x)"),
        "the application id 0xfffffffe of another program",
    ),
    "a database without a mark": (
        database("CREATE TABLE users (x)", "CREATE TABLE orders (x)"),
        "somebody else's tables (users, orders)",
    ),
    "somebody else's log": (
        database("PRAGMA journal_mode = WAL", "CREATE TABLE users (x)"),
        "somebody else's tables (users)",
    ),
    "a later version": (changed("PRAGMA user_version = 2"), "the schema version 2"),
    "no version": (changed("PRAGMA user_version = 0"), "the schema version 0"),
    "an absurd version": (changed("PRAGMA user_version = -1"), "the schema version -1"),
    "an empty database of another version": (database("PRAGMA user_version = 7"), "the schema version 7"),
}


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", NO_STORE)
def test_what_is_no_store_is_left_alone(kind: str, path: str, *, read_only: bool):
    """It is said what it is; no byte of it changes, and it can be used as what it is."""
    make, found = NO_STORE[kind]
    make(Path(path))
    before = Path(path).read_bytes()
    for _ in range(2):
        with pytest.raises(StoreSchemaError) as raised:
            open_store(path, read_only=read_only)
        expected = f"{path} has {found}, this library reads stores of schema version 1. Nothing in it was changed."
        assert str(raised.value) == expected
    assert Path(path).read_bytes() == before
    Path(path).unlink()
    for rest in Path(path).parent.iterdir():
        rest.unlink()
    anyio.run(open_store(path).aclose)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("size", [100, 1000, 4095, 4096, 5000, 8192, 12288, 16384])
def test_a_store_that_was_cut_off(size: int, path: str, *, read_only: bool):
    """What cannot be whole is not opened, and stays as it is for whoever can repair it; nobody holds it then."""
    cut(size)(Path(path))
    before = Path(path).read_bytes()
    for _ in range(2):
        with pytest.raises(
            StoreError, match=r"cannot be opened: (database disk image is malformed|disk I/O error)"
        ):
            open_store(path, read_only=read_only)
    assert Path(path).read_bytes() == before


def overwrite(path: Path, page: int) -> None:
    """Break one page of a store, the first being 1."""
    assert path.stat().st_size >= 8 * 4096
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)


@pytest.mark.parametrize("page", [2, 3, 4, 5, 6, 7, 8])
async def test_a_store_with_a_broken_page(path: str, page: int):
    """Whenever it is come across, it is a store error and not something else; never wrong data."""
    log = await filled(path, 40)
    overwrite(Path(path), page)
    errors: list[StoreError] = []
    for _ in range(2):
        try:
            # The second time it is not locked by what is left of the first.
            async with opened(path) as store:
                await check(store, log)
                await store.executions()
                await store.executions(ExecutionStatus.RUNNING)
                await store.find("t-1")
                await store.commit(log.id, log.change(step("x")))
                await check(store, log)
        except StoreError as error:
            assert "malformed" in str(error)
            errors.append(error)


async def test_a_store_with_a_broken_row(path: str):
    """JSON that is none is a store error as well."""
    log = await filled(path)
    database("UPDATE changes SET data = x'7b' WHERE number = 2", "UPDATE executions SET data = '[]'")(Path(path))
    async with opened(path) as store:
        for attempt in (store.load(log.id), store.events(log.id), store.find("t-1"), store.executions()):
            with pytest.raises(StoreError, match="a row that cannot be read: malformed"):
                await attempt


def test_a_directory(tmp_path: Path):
    """It is told from a file."""
    for read_only in (False, True):
        with pytest.raises(StoreError, match="is a directory: a store is a file"):
            open_store(str(tmp_path), read_only=read_only)


def test_a_directory_that_is_missing(tmp_path: Path):
    """It is named, and not made."""
    path = tmp_path / "missing" / "store.db"
    with pytest.raises(StoreError, match=f"cannot be created: there is no directory {path.parent}"):
        open_store(str(path))
    assert not path.parent.exists()


@contextmanager
def without_permission(directory: Path, mode: int) -> Generator[None]:
    """A directory of that mode, in which no file can be written."""
    for file in directory.iterdir():
        file.chmod(0o444)
    directory.chmod(mode)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # root may do anything
        yield
    finally:
        os.seteuid(user)
        directory.chmod(0o755)
        for file in directory.iterdir():
            file.chmod(0o644)


@pytest.mark.parametrize(
    ("mode", "why"), [(0o555, "(unable to open|attempt to write)"), (0o444, ".*Permission denied")]
)
def test_a_directory_without_permission(mode: int, why: str):
    """Nothing can be opened there, which is not another engine's fault; what is there stays as it is."""
    with tempfile.TemporaryDirectory(prefix="durable-") as name:
        directory = Path(name)
        path = directory / "store.db"
        anyio.run(filled, str(path))
        before = path.read_bytes()
        with without_permission(directory, mode):
            for attempt, read_only in ((path, False), (path, True), (directory / "new.db", False)):
                with pytest.raises(StoreError, match=rf"cannot be opened: {why}") as raised:
                    open_store(str(attempt), read_only=read_only)
                assert not isinstance(raised.value, StoreLockedError)
        assert path.read_bytes() == before
        anyio.run(open_store(str(path)).aclose)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_path_that_cannot_be_one(tmp_path: Path, *, read_only: bool):
    """Too long for a file, or below one: a store error like any other."""
    (tmp_path / "file").touch()
    for path in (tmp_path / ("x" * 5000), tmp_path / "file" / "store.db"):
        with pytest.raises(StoreError):
            open_store(str(path), read_only=read_only)


CRASH_WHILE_CREATING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN")
for number in range(200):
    connection.execute(f"CREATE TABLE t{number} (x)")
connection.execute("PRAGMA user_version = 1")
os._exit(0)
"""


def test_a_store_whose_creation_was_killed(path: str):
    """Half a layout is on the disk, and what is needed to undo it: it is as good as new."""
    elsewhere(CRASH_WHILE_CREATING, path)
    assert Path(f"{path}-journal").stat().st_size > 0
    assert Path(path).stat().st_size > 100_000
    with pytest.raises(StoreNotFoundError):
        open_store(path, read_only=True)
    log = anyio.run(filled, path)
    store = open_store(path)
    anyio.run(check, store, log)
    anyio.run(store.aclose)


# --- Many at once, and failures ------------------------------------------------------------------------------


@contextmanager
def held_up(store: SqliteStore) -> Generator[list[str]]:
    """Keep the thread busy: what is committed inside queues up. Gives the statements that it executes then."""
    gate = threading.Event()
    statements: list[str] = []
    store._thread._connection.set_trace_callback(statements.append)
    from durable.local.stores.thread import _Job

    store._thread._jobs.put(_Job(store._thread._loop(), work=lambda _: gate.wait(60)))
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
        assert [sql for sql in statements if not sql.startswith("INSERT")] == ["BEGIN IMMEDIATE", "COMMIT"]
        seen: list[int] = []

        async def look() -> None:
            loaded = await store.load(logs[0].id)
            assert loaded is not None
            seen.append(loaded.changes)

        writes = [lambda log=log: store.commit(log.id, log.change(step("b"))) for log in logs[:4]]
        outcomes, statements = await together(store, writes[0], writes[1], look, writes[2], writes[3])
        assert outcomes == [None] * 5
        assert statements.count("COMMIT") == 2
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
        assert statements.count("COMMIT") == 4
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
            assert statements.count("BEGIN IMMEDIATE") == 1
        for log, change in zip(logs, changes, strict=True):
            await store.commit(log.id, change)
            await check(store, log)


async def test_a_full_disk(path: str):
    """It is a store error; nothing of the call is there, and once there is room the same call gets through."""
    async with opened(path) as store:
        small, large = Log("small"), Log("large")
        await store.create(small.begin())
        await store.create(large.begin())
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
        change = log.change(step("x", "x" * 800_000))
        with no_file_larger_than(500_000):
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


# --- Kill -9 -------------------------------------------------------------------------------------------------


@contextmanager
def writer(path: str, backend: str, executions: int = 1) -> Generator[subprocess.Popen[str]]:
    """A process that writes until it is killed (see writer.py)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = str(Path(__file__).parent / "writer.py")
    command = [sys.executable, script, path, backend, str(executions)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


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
