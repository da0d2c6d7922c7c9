"""The one thread that has the database, and how others wait for it.

Jobs queue up. Those that write and are queued together go out in one transaction; each is told when it is durable.
If one of them fails, all are undone and done again one by one, so that only the one that fails does.

Waiters are woken by the event loop's own thread-safe call, once for all whose writes were in one transaction: this
is the hot path of every durable step, and going through a pool of threads would cost as much as the commit.
"""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from ...exceptions import StoreError

T = TypeVar("T")

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL and its parameters."""

_MOST_AT_ONCE = 1000
"""Writes in one transaction."""

_VALUES = " VALUES "
"""Comes before the parameters of a row, in what several rows can be given."""

_MOST_PARAMETERS = 999
"""Of one statement: what every build of SQLite takes."""


class _Job:
    """Something to do on the connection, and who waits for it."""

    __slots__ = ("done", "loop")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.done = anyio.Event()


class _Read(_Job):
    """One read, and what came of it."""

    __slots__ = ("error", "result", "work")

    def __init__(self, loop: Any, work: Callable[[sqlite3.Connection], Any]) -> None:
        super().__init__(loop)
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None


class _Batch(_Job):
    """Writes that go out in one transaction: what each of them is, and why it could not be done."""

    __slots__ = ("errors", "writes")

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self.writes: list[Sequence[Statement]] = []
        self.errors: dict[int, Exception] = {}


class DatabaseThread:
    """Runs what it is given, in order, on a connection that only it uses."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # The last job, as long as writes can be added to it. The lock is held for moments only, by either thread.
        self._open: _Batch | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"durable store {path}", daemon=True)
        self._thread.start()

    async def write(self, statements: Sequence[Statement]) -> None:
        """Execute statements, all or none; it is durable when this returns.

        Statements of others that are queued as well go into the same transaction, those of the same SQL together:
        only the order among executions may change, never that within the log of one.

        If the caller is cancelled meanwhile it is done all the same, and nobody is told.

        Raises:
            StoreError: It could not be done, and nothing of it was; the cause says why.
        """
        self._check_open()
        loop = _running_loop()
        with self._lock:
            batch = self._open
            if batch is None or batch.loop is not loop or len(batch.writes) == _MOST_AT_ONCE:
                batch = self._open = _Batch(loop)
                self._jobs.put(batch)
            number = len(batch.writes)
            batch.writes.append(statements)
        await batch.done.wait()
        if batch.errors and number in batch.errors:
            raise self._failure(batch.errors[number])

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` after all that was queued before.

        Raises:
            StoreError: It could not be done.
        """
        self._check_open()
        job = _Read(_running_loop(), work)
        self._put(job)
        await job.done.wait()
        if job.error is not None:
            raise self._failure(job.error)
        result: T = job.result
        return result

    async def aclose(self) -> None:
        """Do what is queued, then close the connection."""
        if self._closed:
            return
        with anyio.CancelScope(shield=True):
            job = _Read(_running_loop(), lambda connection: connection.close())
            self._put(job)
            self._closed = True
            await job.done.wait()
        self._jobs.put(None)
        self._thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._path} is closed")

    def _failure(self, error: Exception) -> StoreError:
        failure = StoreError(f"{self._path} could not be used: {error}")
        failure.__cause__ = error
        return failure

    def _put(self, job: _Job) -> None:
        with self._lock:
            self._open = None
            self._jobs.put(job)

    # --- On the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, _Batch):
                with self._lock:
                    if self._open is job:
                        self._open = None
                self._write(job)
            elif isinstance(job, _Read):
                self._read(job)
            # trio's token and asyncio's loop have the same thing under two names.
            call_soon = getattr(job.loop, "run_sync_soon", None) or job.loop.call_soon_threadsafe
            with suppress(RuntimeError):  # the loop is gone, and so is whoever waited
                call_soon(job.done.set)

    def _write(self, batch: _Batch) -> None:
        error = self._transact(batch.writes)
        if error is None:
            return
        for number, statements in enumerate(batch.writes):
            if len(batch.writes) > 1 and not _is_locked(error):
                # One of them is to blame, or it was too much together.
                own = self._transact([statements])
                if own is not None:
                    batch.errors[number] = own
            else:
                batch.errors[number] = error

    def _transact(self, writes: Sequence[Sequence[Statement]]) -> Exception | None:
        """Write all, or none and say why."""
        statements = _merged(writes)
        try:
            if len(statements) == 1:  # is a transaction by itself
                self._connection.execute(*statements[0])
                return None
            self._connection.execute("BEGIN IMMEDIATE")
            for sql, parameters in statements:
                self._connection.execute(sql, parameters)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            return error
        return None

    def _read(self, job: _Read) -> None:
        try:
            job.result = job.work(self._connection)
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            job.error = error


def _running_loop() -> Any:
    return anyio.lowlevel.current_token().native_token


def _merged(writes: Sequence[Sequence[Statement]]) -> Sequence[Statement]:
    """What is to be written, in few statements: rows of the same INSERT go into one.

    Each call into SQLite hands over the GIL, and has to wait for the event loop's thread to have it back.
    """
    if len(writes) == 1:
        return writes[0]
    found: dict[str, list[tuple[Any, ...]]] = {}
    for write in writes:
        for sql, row in write:
            found.setdefault(sql, []).append(row)
    statements: list[Statement] = []
    for sql, rows in found.items():
        most = _MOST_PARAMETERS // len(rows[0]) if _VALUES in sql else 1
        for begin in range(0, len(rows), most):
            some = rows[begin : begin + most]
            statements.append((_insert(sql, len(some)), tuple(itertools.chain.from_iterable(some))))
    return statements


@lru_cache(maxsize=_MOST_AT_ONCE)
def _insert(sql: str, count: int) -> str:
    """The same statement for so many rows."""
    head, _, row = sql.partition(_VALUES)
    return sql if count == 1 else f"{head}{_VALUES}{', '.join([row] * count)}"


def _is_locked(error: Exception) -> bool:
    """Whether another program has the file, which is no job's fault: it is not waited for once for each."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_BUSY
