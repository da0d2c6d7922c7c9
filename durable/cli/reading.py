"""Looking at a store, also while an engine is at work on it. Never makes one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .._wire import ExecutionStatus
from ..abc import ExecutionRecord
from ..exceptions import DurableError, ExecutionNotFoundError
from ..local import Reader
from ..local.stores.sqlite import open_store
from .awaited import Kind, Lookout

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


def awaited(path: str, name: str) -> tuple[ExecutionRecord, Lookout]:
    """One execution, and what it waits for.

    Raises:
        StoreNotFoundError: There is no such store.
        ExecutionNotFoundError: There is none of this name.
    """

    async def read(reader: Reader) -> tuple[ExecutionRecord, Lookout]:
        record = await find(reader, name)
        is_over = record.status is not ExecutionStatus.RUNNING
        return record, Lookout(await reader.operations(record.name), is_over=is_over)

    return read_store(path, read)


def awaited_names(path: str, name: str | None, kind: Kind) -> list[str]:
    """Ids of callbacks, or names of steps, that executions wait for; none if the store cannot be read.

    Args:
        path: The store.
        name: The execution; `None` for all that are not over.
        kind: What for: an answer is known by its callback's id, a decision by the step's name.
    """

    async def read(reader: Reader) -> list[str]:
        records = await reader.executions(ExecutionStatus.RUNNING)
        return [
            one.callback_id if kind == "answer" else one.name or ""
            for record in records
            if name in {None, record.name}
            for one in Lookout(await reader.operations(record.name)).all()
            if one.kind == kind
        ]

    try:
        return read_store(path, read)
    except DurableError:
        return []


def names(path: str, beginning: str) -> list[str]:
    """Names of executions that begin so, newest first; none if the store cannot be read."""

    async def read(reader: Reader) -> list[str]:
        return [record.name for record in await reader.executions() if record.name.startswith(beginning)][::-1]

    try:
        return read_store(path, read)
    except DurableError:
        return []
