"""In an SQLite file: WAL, synchronous=FULL, one thread that writes.

An execution is a row, with what of it is looked for, and a log: each call to the service appends one row that holds
the operations it changed, whole, and the events. Reading an execution is reading its log, where the last word on an
operation counts. So a durable step costs one row at the end of a table, and an entry in its index: the logs of all
executions are in the order in which they were written, so that those of a commit are on few pages together.

Whatever several executions have queued while the last commit was under way goes out in one transaction: one `fsync`
for all of them (group commit). Reads go through the same thread, so that they see what was queued before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ..._wire import ExecutionStatus, Operation
from ..._wire.codec import Codec
from ...abc import Change, EventRecord, ExecutionRecord, Listing, Loaded, OperationExtra, Page, Store
from ...exceptions import ExecutionExistsError, ExecutionNotFoundError, MalformedPayloadError, StoreError
from .file import EngineLock, open_file
from .inbox import SqliteInbox
from .thread import DatabaseThread, Statement

T = TypeVar("T")


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One row of a log.

    Attributes:
        operations: What changed, whole.
        events: What happened.
        extras: What the wire does not carry of an operation, where that changed; rows of old have none.
    """

    operations: Sequence[Operation]
    events: Sequence[EventRecord]
    extras: Mapping[str, OperationExtra] = {}


_ENTRY = Codec(Entry, "event")
_RECORD = Codec(ExecutionRecord, "event")

_CREATE = "INSERT INTO executions (key, id, name, status, data, function) VALUES (?, ?, ?, ?, ?, ?)"
_INPUT = "INSERT INTO inputs (execution, input) VALUES (?, ?)"
_UPDATE = "UPDATE executions SET status = ?, data = ? WHERE key = ?"
_APPEND = "INSERT INTO changes (execution, last_event, number, data) VALUES (?, ?, ?, ?)"
_EXECUTIONS = "SELECT data, input, key FROM executions LEFT JOIN inputs ON execution = key"
_DELETE = (
    "DELETE FROM changes WHERE execution = ?",
    "DELETE FROM inputs WHERE execution = ?",
    "DELETE FROM executions WHERE key = ?",
)
_LOG = (
    "SELECT last_event, number, data FROM changes WHERE execution = ? AND last_event > ? "
    "ORDER BY last_event, number"
)


class SqliteStore(Store):
    """Executions in a file. See `open_store`."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: EngineLock | None) -> None:
        self.path = path
        (highest,) = connection.execute("SELECT coalesce(max(key), 0) FROM executions").fetchone()
        self._thread = DatabaseThread(connection, path)
        self._lock = lock
        self.inbox = None if lock is None else SqliteInbox(self._thread)
        # The file's own number of each execution that is under way, by its id; and the highest one there is: nobody
        # else gives them out.
        self._keys: dict[str, int] = {}
        self._highest_key: int = highest

    async def create(self, change: Change) -> None:
        """Add an execution."""
        record = change.execution
        if record is None:
            raise StoreError("an execution is created with its record")
        self._highest_key += 1
        key = self._highest_key
        row = (key, record.id, record.name, record.status, _record_data(record), record.function)
        statements: list[Statement] = [(_CREATE, row), (_APPEND, _row(key, change))]
        if record.input is not None:
            statements.append((_INPUT, (key, record.input)))
        try:
            await self._thread.write(statements)
        except StoreError as error:
            if isinstance(error.__cause__, sqlite3.IntegrityError):
                raise ExecutionExistsError(record.name, "another id") from error
            raise
        self._keys[record.id] = key

    async def commit(self, execution_id: str, change: Change) -> None:
        """Apply a change."""
        key = self._keys.get(execution_id) or await self._key(execution_id)
        # Encoded here, so that the thread only executes.
        statements: list[Statement] = [(_APPEND, _row(key, change))]
        if change.execution is not None:
            statements.append((_UPDATE, (change.execution.status, _record_data(change.execution), key)))
        await self._thread.write(statements)
        if change.execution is not None and change.execution.status.is_over:
            self._keys.pop(execution_id, None)

    async def find(self, name: str) -> ExecutionRecord | None:
        """The execution of this name."""
        rows = await self._rows(f"{_EXECUTIONS} WHERE name = ?", (name,))
        return _record(rows[0]) if rows else None

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """All executions, or those of one status."""
        if status is None:
            rows = await self._rows(f"{_EXECUTIONS} ORDER BY key")
        else:
            rows = await self._rows(f"{_EXECUTIONS} WHERE status = ? ORDER BY key", (status,))
        return [_record(row) for row in rows]

    async def listing(self, wanted: Listing) -> Page:
        """A page of the executions of one function."""
        where, values = ["function = ?"], [wanted.function]
        if wanted.statuses:
            where.append(f"status IN ({', '.join('?' * len(wanted.statuses))})")
            values += wanted.statuses
        if wanted.name is not None:
            where.append("name = ?")
            values.append(wanted.name)
        if wanted.position:
            where.append(f"key {'>' if wanted.oldest_first else '<'} {wanted.position:d}")
        order = "ASC" if wanted.oldest_first else "DESC"
        # Only numbers of ours and question marks are put into it.
        query = f"SELECT data, NULL, key FROM executions WHERE {' AND '.join(where)} ORDER BY key {order}"  # noqa: S608

        def read(connection: sqlite3.Connection) -> Page:
            found: list[ExecutionRecord] = []
            last = 0
            for row in connection.execute(query, values):
                record = _record(row)
                if wanted.fits(record):
                    if len(found) == wanted.limit:
                        return Page(found, last)
                    found.append(record)
                    last = row[2]
            return Page(found, None)

        return await self._thread.read(read)

    async def load(self, execution_id: str) -> Loaded | None:
        """An execution with its operations."""

        def read(connection: sqlite3.Connection) -> tuple[Any, list[Any]] | None:
            connection.execute("BEGIN")  # one moment for both
            try:
                found = connection.execute(f"{_EXECUTIONS} WHERE id = ?", (execution_id,)).fetchone()
                return None if found is None else (found, connection.execute(_LOG, (found[2], -1)).fetchall())
            finally:
                connection.execute("ROLLBACK")

        found = await self._thread.read(read)
        if found is None:
            return None
        row, log = found
        record = _record(row)
        if not record.status.is_over:
            self._keys[execution_id] = row[2]
        operations: dict[str, Operation] = {}
        extras: dict[str, OperationExtra] = {}
        for _, _, data in log:
            entry = _decode(_ENTRY, data)
            for operation in entry.operations:
                operations[operation.id] = operation
            extras.update(entry.extras)
        last_event, last_number = (log[-1][0], log[-1][1]) if log else (0, 0)
        return Loaded(
            execution=record,
            operations=list(operations.values()),
            events=last_event,
            changes=last_number,
            extras=extras,
        )

    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        """An execution's history."""
        key = self._keys.get(execution_id) or await self._find_key(execution_id)
        if key is None:
            raise ExecutionNotFoundError(execution_id)
        found: list[tuple[int, EventRecord]] = []
        for last_event, _, data in await self._rows(_LOG, (key, after)):
            events = _decode(_ENTRY, data).events
            found.extend(enumerate(events, last_event - len(events) + 1))
        return [pair for pair in found if pair[0] > after]

    async def delete(self, execution_id: str) -> None:
        """Remove an execution."""

        def remove(connection: sqlite3.Connection) -> None:
            found = connection.execute("SELECT key FROM executions WHERE id = ?", (execution_id,)).fetchone()
            if found is None:
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in _DELETE:
                    connection.execute(statement, found)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

        self._keys.pop(execution_id, None)
        # By itself, and not together with what others write: nothing of its log may come after it. The number of
        # the newest execution may be given out again by the next to open the file.
        await self._thread.read(remove)

    async def aclose(self) -> None:
        """Write what is queued, close the file and let another engine have it."""
        await self._thread.aclose()
        if self._lock is not None:
            self._lock.release()

    async def _key(self, execution_id: str) -> int:
        key = await self._find_key(execution_id)
        if key is None:
            raise StoreError(f"{self.path} has no execution {execution_id}")
        return key

    async def _find_key(self, execution_id: str) -> int | None:
        rows = await self._rows("SELECT key FROM executions WHERE id = ?", (execution_id,))
        return rows[0][0] if rows else None

    async def _rows(self, query: str, row: tuple[Any, ...] = ()) -> list[Any]:
        return await self._thread.read(lambda connection: connection.execute(query, row).fetchall())


def open_store(path: str, *, read_only: bool = False) -> SqliteStore:
    """Open a store file; create it if it is not there.

    Args:
        path: The file. Beside it SQLite keeps `-wal` and `-shm`, and an engine keeps `-engine`.
        read_only: Only look, also while an engine has it. It must be there then.

    Raises:
        StoreNotFoundError: It is only to be looked at, and is not there.
        StoreLockedError: Another engine has it.
        StoreSchemaError: It is not a store, or of a version this library does not know; it was not touched.
        StoreError: It cannot be opened.
    """
    connection, lock = open_file(path, read_only=read_only)
    try:
        return SqliteStore(path, connection, lock)
    except sqlite3.Error as error:
        connection.close()
        if lock is not None:
            lock.release()
        raise StoreError(f"{path} cannot be opened: {error}") from error


def _row(key: int, change: Change) -> tuple[int, int, int, bytes]:
    last_event = change.first_event + len(change.events) - 1
    return key, last_event, change.number, _ENTRY.encode(Entry(change.operations, change.events, change.extras))


def _record_data(record: ExecutionRecord) -> bytes:
    # The input never changes and may be large: it has a table of its own, as an update writes the whole row anew.
    return _RECORD.encode(msgspec.structs.replace(record, input=None))


def _record(row: Any) -> ExecutionRecord:
    data, input_payload, _ = row
    return msgspec.structs.replace(_decode(_RECORD, data), input=input_payload)


def _decode(codec: Codec[T], data: bytes) -> T:
    try:
        return codec.decode(data)
    except MalformedPayloadError as error:
        raise StoreError(f"the store has a row that cannot be read: {error}") from error
