"""The store's file: what makes it one, who may have it, and how it is laid out."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ...exceptions import StoreError, StoreLockedError, StoreNotFoundError, StoreSchemaError

APPLICATION_ID: Final = 0x44555242
"""In the file's header: `DURB`. So a store is told from any other SQLite file."""

SCHEMA_VERSION: Final = 1

_MAGIC: Final = b"SQLite format 3\x00"
_HEADER: Final = 100
"""Bytes. The user version is at 60 and the application id at 68, big-endian (sqlite.org/fileformat)."""

_SCHEMA: Final = f"""
BEGIN;
CREATE TABLE executions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    input TEXT,
    data BLOB NOT NULL
);
CREATE INDEX executions_by_status ON executions (status);
CREATE TABLE changes (
    execution INTEGER NOT NULL REFERENCES executions,
    last_event INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (execution, last_event, number)
) WITHOUT ROWID;
CREATE TABLE holder (engine TEXT NOT NULL);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class EngineLock:
    """Held by the one engine that may write; the operating system lets go of it however the process ends.

    It is a lock of SQLite's own on a file of its own: readers of the store are not in its way.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(
            f"{path}-engine", timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise StoreLockedError(path, _holder(path)) from error

    def release(self) -> None:
        """Let another engine have the store."""
        self._connection.close()


def open_file(path: str, *, read_only: bool) -> tuple[sqlite3.Connection, EngineLock | None]:
    """The file's connection, ready for use from one thread, and the lock that goes with writing.

    Raises:
        StoreNotFoundError, StoreLockedError, StoreSchemaError, StoreError: See `open_store`.
    """
    if read_only and not Path(path).exists():
        raise StoreNotFoundError(path)
    if Path(path).is_dir():
        raise StoreError(f"{path} is a directory: a store is a file")
    if not Path(path).absolute().parent.is_dir():
        raise StoreError(f"{path} cannot be created: there is no directory {Path(path).absolute().parent}")
    lock: EngineLock | None = None
    try:
        fresh = _check_header(path)
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


def _open_for_engine(path: str) -> sqlite3.Connection:
    connection = _connect(path, "rwc")
    try:
        if _is_empty(connection):
            # In the rollback journal, all at once: a crash here leaves an empty file, not half a store.
            connection.executescript(_SCHEMA)
        elif _check_header(path):
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            raise StoreSchemaError(path, f"somebody else's tables ({', '.join(tables[:3])})", _expected())  # noqa: TRY301
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("DELETE FROM holder")
        holder = f"process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        connection.execute("INSERT INTO holder VALUES (?)", (holder,))
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: str, mode: str) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def _check_header(path: str) -> bool:
    """Whether the file is not a store yet, but may become one; decided without opening it as a database.

    Raises:
        StoreSchemaError: It is something else.
    """
    try:
        header = Path(path).open("rb").read(_HEADER)  # noqa: SIM115 - one read, closed by reference
    except FileNotFoundError:
        return True
    if not header:
        return True
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise StoreSchemaError(path, "a file that is not an SQLite database", _expected())
    (version,) = struct.unpack_from(">I", header, 60)
    (application,) = struct.unpack_from(">I", header, 68)
    if application == 0 and version == 0:
        return True  # a database without a mark: empty, or somebody else's; whoever opens it finds out
    if application != APPLICATION_ID:
        raise StoreSchemaError(path, f"the application id {application:#x} of another program", _expected())
    if version != SCHEMA_VERSION:
        raise StoreSchemaError(path, f"the schema version {version}", _expected())
    return False


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
