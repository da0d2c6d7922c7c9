"""Looking at a store, also while an engine is at work on it. Never makes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..abc import ExecutionRecord
from ..exceptions import DurableError, ExecutionNotFoundError
from ..local import Reader
from ..local.stores.sqlite import open_store

T = TypeVar("T")


def read_store(path: str, read: Callable[[Reader], Awaitable[T]]) -> T:
    """What `read` finds in a store.

    Raises:
        StoreNotFoundError: There is none.
        StoreError: It cannot be read.
        DurableError: What `read` raises.
    """

    async def run() -> T:
        store = open_store(path, read_only=True)
        try:
            return await read(Reader(store))
        finally:
            await store.aclose()

    return anyio.run(run)


async def find(reader: Reader, name: str) -> ExecutionRecord:
    """One execution.

    Raises:
        ExecutionNotFoundError: There is none of this name; with what may have been meant.
    """
    try:
        return await reader.execution(name)
    except ExecutionNotFoundError as error:
        from difflib import get_close_matches

        similar = get_close_matches(name, [record.name for record in await reader.executions()], n=3)
        if similar:
            error.args = (f"{error}; there is {' and '.join(map(repr, similar))}",)
        raise


def names(path: str, beginning: str) -> list[str]:
    """Names of executions that begin so, newest first; none if the store cannot be read."""

    async def read(reader: Reader) -> list[str]:
        return [record.name for record in await reader.executions() if record.name.startswith(beginning)][::-1]

    try:
        return read_store(path, read)
    except DurableError:
        return []
