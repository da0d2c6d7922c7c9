"""The store's file: who may have it, who may look at it, and what is no store."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from durable._wire import ExecutionStatus
from durable.abc import Listing
from durable.exceptions import (
    StoreError,
    StoreLockedError,
    StoreNotFoundError,
    StoreSchemaError,
)
from durable.local.stores.file import SCHEMA_VERSION
from durable.local.stores.sqlite import SqliteStore, open_store
from durable.testing.contracts.log import Log, step
from tests.local.stores.files import check, elsewhere, filled, opened, read, writer

pytestmark = pytest.mark.anyio


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
    "a later version": (changed("PRAGMA user_version = 3"), "the schema version 3"),
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
        expected = f"{path} has {found}, this library reads stores of schema version 2. Nothing in it was changed."
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


TO_VERSION_1 = """
DROP INDEX executions_by_function;
DROP INDEX executions_by_status;
CREATE INDEX executions_by_status ON executions (status);
ALTER TABLE executions DROP COLUMN function;
PRAGMA user_version = 1;
"""


async def listed(path: str) -> list[str]:
    """The executions of a log, as an engine that opens the store lists them."""
    store = open_store(path)
    try:
        return [record.name for record in (await store.listing(Listing(function="tests:f"))).records]
    finally:
        await store.aclose()


def test_a_store_of_version_1_is_brought_up_to_date(path: str):
    """By the first engine that opens it; whoever only looks reads it as it is. Nothing is lost."""
    log = anyio.run(filled, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TO_VERSION_1)
    reader = open_store(path, read_only=True)
    anyio.run(check, reader, log)
    anyio.run(reader.aclose)
    for _ in range(2):
        assert anyio.run(listed, path) == [log.record.name]
    store = open_store(path)
    anyio.run(check, store, log)
    anyio.run(store.aclose)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
