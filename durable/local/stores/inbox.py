"""Requests in the store's file: how another process asks the engine that has it.

A request is a row; the engine finds it, carries it out and writes its reply into the same row. It stays until
there is a reply, also over the end of the engine: the next one to open the file carries it out. Who asked deletes
the row; one whose asker is gone is deleted a day after its reply.

Looking costs next to nothing: `PRAGMA data_version` tells whether any other connection has written to the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from ...abc import Inbox
from ...exceptions import StoreError
from .file import _connect
from .thread import DatabaseThread

_NEW: Final = "SELECT number, request FROM inbox WHERE reply IS NULL ORDER BY number"
_REPLY: Final = "UPDATE inbox SET reply = ?, replied = datetime('now') WHERE number = ?"
_FORGET: Final = "DELETE FROM inbox WHERE replied < datetime('now', '-1 day')"

_POLL: Final = 0.02
"""Seconds between two looks for a reply."""


class SqliteInbox(Inbox):
    """The engine's side: what others have left in the file."""

    def __init__(self, thread: DatabaseThread) -> None:
        self._thread = thread
        # The file's version when there was nothing to do; `None` while there is, or nobody has looked.
        self._seen: int | None = None

    async def requests(self) -> Sequence[tuple[int, str]]:
        """Those without a reply."""
        return await self._thread.read(self._look)

    async def reply(self, number: int, text: str) -> None:
        """Write a reply, and let go of those that nobody has fetched."""
        await self._thread.write([(_REPLY, (text, number)), (_FORGET, ())])

    def _look(self, connection: sqlite3.Connection) -> Sequence[tuple[int, str]]:
        # First: what is written after this changes it once more.
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._seen:
            return ()
        found = connection.execute(_NEW).fetchall()
        self._seen = None if found else version
        return found


class PostedRequest:
    """The asker's side: one request that was left in a file. Made by `post`.

    Its methods block; each uses a connection of its own, and only for a moment.
    """

    def __init__(self, path: str, number: int) -> None:
        self._path = path
        self._number = number

    def wait(self, seconds: float) -> str | None:
        """Wait for the reply, and take it out of the file; `None` if there is none so far.

        Raises:
            StoreError: The file cannot be used.
        """
        end = time.monotonic() + seconds
        with _used(self._path) as connection:
            while True:
                found = connection.execute("SELECT reply FROM inbox WHERE number = ?", (self._number,)).fetchone()
                if found is not None and found[0] is not None:
                    self._delete(connection)
                    reply: str = found[0]
                    return reply
                if time.monotonic() >= end:
                    return None
                time.sleep(_POLL)

    def withdraw(self) -> None:
        """Ask no longer. What has been carried out, or just is, stays so.

        Raises:
            StoreError: The file cannot be used.
        """
        with _used(self._path) as connection:
            self._delete(connection)

    def _delete(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM inbox WHERE number = ?", (self._number,))


def post(path: str, text: str) -> PostedRequest:
    """Leave a request for the engine that has a store, or for the next one. It is durable when this returns.

    Args:
        path: The store's file; it must be there, and be a store.
        text: The request.

    Raises:
        StoreError: The file cannot be written, or the engine that has it takes no requests.
    """
    with _used(path) as connection:
        number = connection.execute("INSERT INTO inbox (request) VALUES (?)", (text,)).lastrowid
    return PostedRequest(path, number or 0)


@contextmanager
def _used(path: str) -> Generator[sqlite3.Connection]:
    try:
        connection = _connect(path, "rw")
        try:
            connection.execute("PRAGMA synchronous = FULL")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StoreError(f"{path} takes no requests: {error}") from error
