"""Looking at executions: at a store, also while an engine is at work on it, or over an API. Never makes a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import anyio

from .._wire import ExecutionStatus, Operation
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..exceptions import DurableError, ExecutionNotFoundError
from ..local import Reader
from ..local.stores.sqlite import open_store
from .awaited import Kind, Lookout
from .place import Place, Store

T = TypeVar("T")

_NOT_OVER: Final = tuple(status for status in ExecutionStatus if not status.is_over)


class Source(Protocol):
    """What tells of executions: the reader of a store, or of an API."""

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """All executions, or those of one status; oldest first."""
        ...

    async def execution(self, name: str) -> ExecutionRecord:
        """One execution."""
        ...

    async def operations(self, name: str) -> Sequence[Operation]:
        """An execution's operations, in the order of their first record."""
        ...

    async def history(self, name: str, after: int = 0) -> Sequence[Event]:
        """An execution's history events, from the one after number `after`."""
        ...


def look(place: Place, read: Callable[[Source], Awaitable[T]]) -> T:
    """What `read` finds in a place.

    Raises:
        StoreNotFoundError: There is no such store.
        DurableError: It cannot be read, or reached; or what `read` raises.
    """
    if isinstance(place, Store):
        return read_store(place.path, read)
    from .remote import RemoteReader, connected

    async def run() -> T:
        async with connected(place) as client:
            return await read(RemoteReader(client, place.function))

    return anyio.run(run)


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


async def find(reader: Source, name: str) -> ExecutionRecord:
    """One execution.

    Raises:
        ExecutionNotFoundError: There is none of this name; with what may have been meant.
    """
    try:
        return await reader.execution(name)
    except ExecutionNotFoundError as error:
        if not isinstance(reader, Reader):
            raise  # an API has its executions by functions, and perhaps many thousands of them
        from difflib import get_close_matches

        similar = get_close_matches(name, [record.name for record in await reader.executions()], n=3)
        if similar:
            error.args = (f"{error}; there is {' and '.join(map(repr, similar))}",)
        raise


def awaited(place: Place, name: str) -> tuple[ExecutionRecord, Lookout]:
    """One execution, and what it waits for.

    Raises:
        StoreNotFoundError: There is no such store.
        ExecutionNotFoundError: There is none of this name.
    """

    async def read(reader: Source) -> tuple[ExecutionRecord, Lookout]:
        record = await find(reader, name)
        return record, Lookout(await reader.operations(name), is_over=record.status.is_over)

    return look(place, read)


def awaited_names(path: str, name: str | None, kind: Kind) -> list[str]:
    """Ids of callbacks, or names of steps, that executions wait for; none if the store cannot be read.

    Args:
        path: The store.
        name: The execution; `None` for all that are not over.
        kind: What for: an answer is known by its callback's id, a decision by the step's name.
    """

    async def read(reader: Reader) -> list[str]:
        records = [record for status in _NOT_OVER for record in await reader.executions(status)]
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
