"""A store around another one, for faults."""

from __future__ import annotations

from collections.abc import Sequence

from durable._wire import ExecutionStatus
from durable.abc import Change, EventRecord, ExecutionRecord, Listing, Loaded, Page, Store


class OverStore(Store):
    """Passes everything on."""

    def __init__(self, store: Store) -> None:
        self.store = store

    async def create(self, change: Change) -> None:
        await self.store.create(change)

    async def commit(self, execution_id: str, change: Change) -> None:
        await self.store.commit(execution_id, change)

    async def find(self, name: str) -> ExecutionRecord | None:
        return await self.store.find(name)

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        return await self.store.executions(status)

    async def listing(self, wanted: Listing) -> Page:
        return await self.store.listing(wanted)

    async def load(self, execution_id: str) -> Loaded | None:
        return await self.store.load(execution_id)

    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        return await self.store.events(execution_id, after)

    async def delete(self, execution_id: str) -> None:
        await self.store.delete(execution_id)

    async def aclose(self) -> None:
        await self.store.aclose()
