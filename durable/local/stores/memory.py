"""In memory: for tests, and for executions that need not outlive their process."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from ..._wire import ExecutionStatus, Operation
from ...abc import Change, EventRecord, ExecutionRecord, Listing, Loaded, OperationExtra, Page, Store
from ...exceptions import ExecutionExistsError, ExecutionNotFoundError, StoreError


class _Kept:
    __slots__ = ("changes", "events", "extras", "number", "operations", "record")

    def __init__(self, number: int, record: ExecutionRecord) -> None:
        self.number = number
        self.record = record
        self.operations: dict[str, Operation] = {}
        self.extras: dict[str, OperationExtra] = {}
        self.events: list[EventRecord] = []
        self.changes = 0


class MemoryStore(Store):
    """A store without a file. Several engines may use it one after another: that is how tests restart one."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._ids: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def create(self, change: Change) -> None:
        """Add an execution."""
        record = change.execution
        if record is None:
            raise StoreError("an execution is created with its record")
        if record.name in self._ids:
            raise ExecutionExistsError(record.name, "another id")
        self._ids[record.name] = record.id
        self._kept[record.id] = _Kept(next(self._numbers), record)
        await self.commit(record.id, change)

    async def commit(self, execution_id: str, change: Change) -> None:
        """Apply a change."""
        kept = self._find(execution_id)
        kept.changes += 1
        if change.execution is not None:
            kept.record = change.execution
        for operation in change.operations:
            kept.operations[operation.id] = operation
        if change.extras:
            kept.extras.update(change.extras)
        kept.events.extend(change.events)

    async def find(self, name: str) -> ExecutionRecord | None:
        """The execution of this name."""
        execution_id = self._ids.get(name)
        return None if execution_id is None else self._kept[execution_id].record

    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """All executions, or those of one status."""
        return [kept.record for kept in self._kept.values() if status is None or kept.record.status is status]

    async def listing(self, wanted: Listing) -> Page:
        """A page of the executions of one function."""
        numbered = [(kept.number, kept.record) for kept in self._kept.values()]
        if not wanted.oldest_first:
            numbered.reverse()
        found: list[ExecutionRecord] = []
        last = 0
        for number, record in numbered:
            is_before = number <= wanted.position if wanted.oldest_first else number >= wanted.position
            if not (wanted.position and is_before) and wanted.fits(record):
                if len(found) == wanted.limit:
                    return Page(found, last)
                found.append(msgspec.structs.replace(record, input=None))
                last = number
        return Page(found, None)

    async def load(self, execution_id: str) -> Loaded | None:
        """An execution with its operations."""
        kept = self._kept.get(execution_id)
        if kept is None:
            return None
        return Loaded(
            execution=kept.record,
            operations=list(kept.operations.values()),
            events=len(kept.events),
            changes=kept.changes,
            extras=dict(kept.extras),
        )

    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        """An execution's history."""
        kept = self._kept.get(execution_id)
        if kept is None:
            raise ExecutionNotFoundError(execution_id)
        return list(enumerate(kept.events[after:], after + 1))

    async def delete(self, execution_id: str) -> None:
        """Remove an execution."""
        kept = self._kept.pop(execution_id, None)
        if kept is not None:
            del self._ids[kept.record.name]

    async def aclose(self) -> None:
        """Nothing to let go of; what is kept stays as long as the store itself."""

    def _find(self, execution_id: str) -> _Kept:
        kept = self._kept.get(execution_id)
        if kept is None:
            raise StoreError(f"the store has no execution {execution_id}")
        return kept
