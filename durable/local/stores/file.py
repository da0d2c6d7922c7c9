"""The store's file: what makes it one, who may have it, and how it is laid out."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...exceptions import StoreError, StoreLockedError, StoreNotFoundError, StoreSchemaError

APPLICATION_ID: Final = 0x44555242
"""In the file's header: `DURB`. So a store is told from any other SQLite file."""

SCHEMA_VERSION: Final = 2
"""2 knows the function of each execution in a column of its own, so that those of one can be listed."""

_OLDER: Final = frozenset({1})
"""Versions that an engine brings up to date. Whoever only looks reads them as they are."""

_HEADER: Final = 100
"""Bytes that every SQLite file begins with. SQLite takes a much shorter file for an empty database."""

_LOG_PAGES: Final = 256
"""Pages that the write-ahead log has from the beginning, and after which it goes round."""

_NO_DATABASE: Final = "a file that is not an SQLite database"

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE executions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    data BLOB NOT NULL,
    function TEXT NOT NULL DEFAULT ''
);
CREATE INDEX executions_by_status ON executions (status, function);
CREATE INDEX executions_by_function ON executions (function);
CREATE TABLE inputs (
    execution INTEGER PRIMARY KEY REFERENCES executions,
    input TEXT NOT NULL
);
CREATE TABLE changes (
    execution INTEGER NOT NULL REFERENCES executions,
    last_event INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX changes_in_order ON changes (execution, last_event, number);
CREATE TABLE holder (engine TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_FROM_1: Final = """
BEGIN;
ALTER TABLE executions ADD COLUMN function TEXT NOT NULL DEFAULT '';
UPDATE executions SET function = function_of(data);
DROP INDEX executions_by_status;
CREATE INDEX executions_by_status ON executions (status, function);
CREATE INDEX executions_by_function ON executions (function);
PRAGMA user_version = 2;
COMMIT;
"""

_LAY_OUT_LOG: Final = f"""
BEGIN;
CREATE TABLE room (data BLOB);
INSERT INTO room VALUES (zeroblob({_LOG_PAGES} * (SELECT page_size FROM pragma_page_size)));
DROP TABLE room;
COMMIT;
PRAGMA wal_checkpoint(PASSIVE);
"""  # noqa: S608 - a number of ours

_INBOX: Final = """
CREATE TABLE IF NOT EXISTS inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL,
    reply TEXT,
    replied TEXT
)
"""


_INSTANT: Final = 0.1
"""Seconds. Longer than `engine_of` takes to see whether there is an engine."""


class EngineLock:
    """Held by the one engine that may write; the operating system lets go of it however the process ends.

    It is a lock of SQLite's own on a file of its own: readers of the store are not in its way.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(
            f"{path}-engine", timeout=_INSTANT, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._connection.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise StoreLockedError(path, _holder(path)) from error

    def release(self) -> None:
        """Let another engine have the store."""
        self._connection.close()


def engine_of(path: str) -> str | None:
    """The engine that has a store at this moment, for people; `None` if none has."""
    try:
        with closing(_connect(f"{path}-engine", "ro", timeout=0)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            return _holder(path)
        # There has never been one.
    return None


def open_file(path: str, *, read_only: bool) -> tuple[sqlite3.Connection, EngineLock | None]:
    """The file's connection, ready for use from one thread, and the lock that goes with writing.

    Raises:
        StoreNotFoundError, StoreLockedError, StoreSchemaError, StoreError: See `open_store`.
    """
    lock: EngineLock | None = None
    try:
        _check_path(path, read_only=read_only)
        fresh = _is_fresh(path)
        if not read_only:
            lock = EngineLock(path)
            return _open_for_engine(path), lock
        if not fresh:
            return _connect(path, "ro"), None
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, (OSError, sqlite3.Error)) and not isinstance(error, StoreError):
            raise StoreError(f"{path} cannot be opened: {error}") from error
        raise
    raise StoreNotFoundError(path)  # a file with nothing in it is as good as none


def _check_path(path: str, *, read_only: bool) -> None:
    if read_only and not Path(path).exists():
        raise StoreNotFoundError(path)
    if Path(path).is_dir():
        raise StoreError(f"{path} is a directory: a store is a file")
    if not Path(path).absolute().parent.is_dir():
        raise StoreError(f"{path} cannot be created: there is no directory {Path(path).absolute().parent}")


def _open_for_engine(path: str) -> sqlite3.Connection:
    connection = _connect(path, "rwc")
    try:
        if _check_mark(path, connection):
            # In the rollback journal, all at once: a crash here leaves an empty file, not half a store.
            connection.executescript(_SCHEMA)
        elif _version(connection) in _OLDER:
            connection.create_function("function_of", 1, _function_of, deterministic=True)
            connection.executescript(_FROM_1)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _lay_out_log(connection)
        connection.execute(_INBOX)
        connection.execute("DELETE FROM holder")
        holder = f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        connection.execute("INSERT INTO holder VALUES (?)", (holder,))
    except BaseException:
        connection.close()
        raise
    return connection


def _lay_out_log(connection: sqlite3.Connection) -> None:
    """Let the write-ahead log have its size from the beginning, and go round in it.

    A commit that makes a file longer waits for two things, its own bytes and the file system's journal; one that
    writes over what is there, for one of them. This takes a few milliseconds, and a megabyte of free pages.
    """
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.executescript(_LAY_OUT_LOG)


def _connect(path: str, mode: str, *, timeout: float = 10) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _is_fresh(path: str) -> bool:
    """Whether the file is not a store yet, but may become one; nothing is written to find out.

    SQLite is asked, and not the first bytes of the file: a process that closes a file loses all the locks it has on
    it, those of an engine's connection as well (sqlite.org/howtocorrupt, 2.2). Whoever opened the store next would
    take the engine for gone, and the log of its commits away.

    Raises:
        StoreSchemaError: It is something else.
        sqlite3.Error: It cannot be read.
    """
    try:
        size = Path(path).stat().st_size
    except FileNotFoundError:
        return True
    if size == 0:
        return True
    if size < _HEADER:
        raise StoreSchemaError(path, _NO_DATABASE, _expected())
    with closing(_connect(path, "ro")) as connection:
        try:
            return _check_mark(path, connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise StoreSchemaError(path, _NO_DATABASE, _expected()) from error
            if error.sqlite_errorcode == sqlite3.SQLITE_READONLY_ROLLBACK:
                return True  # whoever was laying it out was killed; it is empty again once somebody may write
            raise


def _check_mark(path: str, connection: sqlite3.Connection) -> bool:
    """Whether the database has nothing in it; if it has, it is a store of ours.

    Raises:
        StoreSchemaError: It is not.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = _version(connection)
    if application not in {0, APPLICATION_ID}:
        raise StoreSchemaError(
            path, f"the application id {application & 0xFFFFFFFF:#x} of another program", _expected()
        )
    if application == 0:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if tables:
            raise StoreSchemaError(path, f"somebody else's tables ({', '.join(tables[:3])})", _expected())
    if version not in ({SCHEMA_VERSION, *_OLDER} if application else {0}):
        raise StoreSchemaError(path, f"the schema version {version}", _expected())
    return not application


def _function_of(data: bytes) -> str:
    """What a version without a column for it has in the execution's record."""
    function: str = json.loads(data)["function"]
    return function


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _expected() -> str:
    return f"stores of schema version {SCHEMA_VERSION}"


def _holder(path: str) -> str:
    with suppress(sqlite3.Error, OSError):
        connection = _connect(path, "ro")
        try:
            found = connection.execute("SELECT engine FROM holder").fetchone()
        finally:
            connection.close()
        if found is not None:
            return str(found[0])
    return "which has just opened it"
