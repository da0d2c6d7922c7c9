"""The one thread that has the database, and how others wait for it.

Jobs queue up. Those that write and are queued together go out in one transaction; each is told when it is durable.
If one of them fails, all are undone and done again one by one, so that only the one that fails does.

A waiter is woken by the event loop's own thread-safe call, once for all whose jobs were in one transaction: this
is the hot path of every durable step, and going through a pool of threads would cost as much as the commit.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.lowlevel

from ...exceptions import StoreError

T = TypeVar("T")

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
"""SQL and its parameters."""

_MOST_AT_ONCE = 1000
"""Jobs in one transaction."""


class _Job:
    """Something to do, and who waits for it."""

    __slots__ = ("done", "error", "loop", "result", "statements", "work")

    def __init__(
        self,
        loop: Any,
        *,
        statements: Sequence[Statement] = (),
        work: Callable[[sqlite3.Connection], Any] | None = None,
    ) -> None:
        # One of the two: what to write, or how to read.
        self.statements = statements
        self.work = work
        self.done = anyio.Event()
        self.loop = loop
        self.result: Any = None
        self.error: BaseException | None = None


class DatabaseThread:
    """Runs what it is given, in order, on a connection that only it uses."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
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
        await self._do(_Job(self._loop(), statements=statements))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` after all that was queued before.

        Raises:
            StoreError: It could not be done.
        """
        result: T = await self._do(_Job(self._loop(), work=work))
        return result

    async def aclose(self) -> None:
        """Do what is queued, then close the connection."""
        if self._closed:
            return
        with anyio.CancelScope(shield=True):
            job = _Job(self._loop(), work=lambda connection: connection.close())
            self._jobs.put(job)
            self._closed = True
            await job.done.wait()
        self._jobs.put(None)
        self._thread.join()

    @staticmethod
    def _loop() -> Any:
        return anyio.lowlevel.current_token().native_token

    async def _do(self, job: _Job) -> Any:
        if self._closed:
            raise StoreError(f"{self._path} is closed")
        self._jobs.put(job)
        await job.done.wait()
        if job.error is None:
            return job.result
        raise StoreError(f"{self._path} could not be used: {job.error}") from job.error

    def _run(self) -> None:
        pending: _Job | None = None
        while True:
            job = pending or self._jobs.get()
            pending = None
            if job is None:
                return
            if job.work is not None:
                self._attempt(job)
                _wake([job])
                continue
            together = [job]
            while len(together) < _MOST_AT_ONCE and pending is None:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None or following.work is not None:
                    pending = following
                    if following is None:
                        self._jobs.put(None)
                    break
                together.append(following)
            self._transact(together)
            _wake(together)

    def _transact(self, jobs: list[_Job]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            # Nobody's fault in particular, such as another program's lock: not waited for once for each of them.
            for job in jobs:
                job.error = error
            return
        try:
            for sql, rows in _by_statement(jobs).items():
                self._connection.executemany(sql, rows)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if len(jobs) == 1:
                jobs[0].error = error
                return
            for job in jobs:
                self._transact([job])

    def _attempt(self, job: _Job) -> None:
        try:
            job.result = job.work(self._connection) if job.work is not None else None
        except Exception as error:  # noqa: BLE001 - told to whoever waits
            job.error = error


def _by_statement(jobs: list[_Job]) -> dict[str, list[tuple[Any, ...]]]:
    """The parameters of all jobs by their SQL: few calls into SQLite, each of which would hand over the GIL."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for job in jobs:
        for sql, row in job.statements:
            found.setdefault(sql, []).append(row)
    return found


def _wake(jobs: list[_Job]) -> None:
    """Wake those who wait, each on its own event loop; nearly always it is one."""
    for loop in {job.loop for job in jobs}:
        events = [job.done for job in jobs if job.loop is loop]
        # trio's token and asyncio's loop have the same thing under two names.
        call_soon = getattr(loop, "run_sync_soon", None) or loop.call_soon_threadsafe
        with suppress(RuntimeError):  # the loop is gone, and so is whoever waited
            call_soon(_set_all, events)


def _set_all(events: list[anyio.Event]) -> None:
    for event in events:
        event.set()
