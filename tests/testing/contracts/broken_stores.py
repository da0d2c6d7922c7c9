"""Stores that are wrong on purpose, each in one way."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import msgspec

from durable._wire import ExecutionStatus
from durable.abc import Change, EventRecord, ExecutionRecord, Inbox, Listing, Loaded, Page
from durable.exceptions import ExecutionExistsError, StoreError
from durable.local.stores.memory import MemoryStore, _Kept

replace = msgspec.structs.replace


class ListInbox(Inbox):
    """Requests in a list."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str]] = []
        self.count = 0

    def post(self, text: str) -> None:
        self.count += 1
        self.kept.append((self.count, text))

    async def requests(self) -> Sequence[tuple[int, str]]:
        return list(self.kept)

    async def reply(self, number: int, text: str) -> None:
        self.kept = [request for request in self.kept if request[0] != number]


class GoodStore(MemoryStore):
    """Nothing is wrong with it; it has an inbox."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = self.make_inbox()

    def make_inbox(self) -> ListInbox:
        return ListInbox()


async def turns(count: int = 1) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


# --- What is committed ---------------------------------------------------------------------------------------


class LosesAnEvent(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, replace(change, events=tuple(change.events)[:1]))


class DoesNotCountChanges(GoodStore):
    async def load(self, execution_id: str) -> Loaded | None:
        loaded = await super().load(execution_id)
        return None if loaded is None else replace(loaded, changes=1)


class FindsTheFirstRecord(GoodStore):
    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, ExecutionRecord] = {}

    async def create(self, change: Change) -> None:
        await super().create(change)
        assert change.execution is not None
        self.first[change.execution.name] = change.execution

    async def find(self, name: str) -> ExecutionRecord | None:
        return self.first.get(name)


class ForgetsWhenClosed(GoodStore):
    async def aclose(self) -> None:
        for kept in self._kept.values():
            if kept.operations:
                kept.operations.popitem()


class MovesWhatChanges(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        for operation in change.operations:
            self._find(execution_id).operations.pop(operation.id, None)
        await super().commit(execution_id, change)


class MergesOperations(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        known = self._find(execution_id).operations
        merged = [
            replace(operation, name=operation.name or known[operation.id].name)
            if operation.id in known
            else operation
            for operation in change.operations
        ]
        await super().commit(execution_id, replace(change, operations=merged))


class ForgetsExtras(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, replace(change, extras={}))


class ReplacesAllExtras(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        if change.extras:
            self._find(execution_id).extras.clear()
        await super().commit(execution_id, change)


# --- Names ---------------------------------------------------------------------------------------------------


class AcceptsATakenName(GoodStore):
    async def create(self, change: Change) -> None:
        assert change.execution is not None
        self._ids.pop(change.execution.name, None)
        await super().create(change)


class RefusesTooLate(GoodStore):
    async def create(self, change: Change) -> None:
        assert change.execution is not None
        if change.execution.name in self._ids:
            self._kept[change.execution.id] = _Kept(0, change.execution)
        await super().create(change)


class AnotherErrorForATakenName(GoodStore):
    async def create(self, change: Change) -> None:
        try:
            await super().create(change)
        except ExecutionExistsError as error:
            raise StoreError("UNIQUE constraint failed") from error


class FreesNames(GoodStore):
    async def create(self, change: Change) -> None:
        record = change.execution
        assert record is not None
        known = await self.find(record.name)
        if known is not None and known.status is not ExecutionStatus.RUNNING:
            del self._ids[record.name]
        await super().create(change)


class LooksBeforeItTakesAName(GoodStore):
    async def create(self, change: Change) -> None:
        record = change.execution
        if record is not None and await self.find(record.name) is None:
            await turns()
            self._ids.pop(record.name, None)
        await super().create(change)


class FoldsNames(GoodStore):
    async def find(self, name: str) -> ExecutionRecord | None:
        return next((kept.record for kept in self._kept.values() if kept.record.name.lower() == name.lower()), None)


class TrimsNames(GoodStore):
    async def find(self, name: str) -> ExecutionRecord | None:
        return await super().find(name.strip())


# --- What is read --------------------------------------------------------------------------------------------


class IgnoresWhatIsNotThere(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        if execution_id in self._kept:
            await super().commit(execution_id, change)


class HasNoEventsOfWhatIsNotThere(GoodStore):
    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        return await super().events(execution_id, after) if execution_id in self._kept else []


class RepeatsAnEvent(GoodStore):
    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        return await super().events(execution_id, max(after - 1, 0))


class NumbersFromOne(GoodStore):
    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        found = await super().events(execution_id, after)
        return [(number, event) for number, (_, event) in enumerate(found, 1)]


class GivesItsOwnState(GoodStore):
    async def load(self, execution_id: str) -> Loaded | None:
        loaded = await super().load(execution_id)
        return None if loaded is None else replace(loaded, extras=self._kept[execution_id].extras)


class AppliesHalf(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        kept = self._find(execution_id)
        for operation in change.operations:
            (operation.result or "").encode()
            kept.operations[operation.id] = operation
        await super().commit(execution_id, change)


class RaisesAfterwards(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, change)
        for operation in change.operations:
            (operation.result or "").encode()


# --- Many at once --------------------------------------------------------------------------------------------


class MixesExecutions(GoodStore):
    current = ""

    async def commit(self, execution_id: str, change: Change) -> None:
        self._find(execution_id)
        self.current = execution_id
        await turns()
        await super().commit(self.current, change)


class Overtakes(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        with anyio.CancelScope(shield=True):
            await turns(3 * (change.number % 2))
        await super().commit(execution_id, change)


class RecordsOvertake(GoodStore):
    """Only records of executions are written out of order."""

    async def commit(self, execution_id: str, change: Change) -> None:
        await super().commit(execution_id, replace(change, execution=None))
        with anyio.CancelScope(shield=True):
            await turns(3 * (change.number % 2 == 0))
        if change.execution is not None:
            self._find(execution_id).record = change.execution


class LockedStore(GoodStore):
    """One change after another."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = anyio.Lock()

    async def commit(self, execution_id: str, change: Change) -> None:
        async with self.lock:
            await super().commit(execution_id, replace(change, events=(), extras={}))
            await turns()
            kept = self._find(execution_id)
            kept.events.extend(change.events)
            kept.extras.update(change.extras)


class ShowsHalf(LockedStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        with anyio.CancelScope(shield=True):
            await super().commit(execution_id, change)


class StopsHalfway(LockedStore):
    async def load(self, execution_id: str) -> Loaded | None:
        async with self.lock:
            return await super().load(execution_id)


class CommitsLater(GoodStore):
    """Whoever is cancelled has made the change, but only when somebody has read that he had not."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[tuple[str, Change]] = []

    async def commit(self, execution_id: str, change: Change) -> None:
        try:
            await turns()
        except anyio.get_cancelled_exc_class():
            self.late.append((execution_id, change))
            raise
        await super().commit(execution_id, change)

    async def load(self, execution_id: str) -> Loaded | None:
        loaded = await super().load(execution_id)
        while self.late:
            await GoodStore.commit(self, *self.late.pop())
        return loaded


class ReservesNames(GoodStore):
    async def create(self, change: Change) -> None:
        record = change.execution
        if record is None or record.name in self._ids:
            await super().create(change)
            return
        self._ids[record.name] = record.id
        await turns()
        del self._ids[record.name]
        await super().create(change)

    async def find(self, name: str) -> ExecutionRecord | None:
        return await super().find(name) if self._ids.get(name) in self._kept else None


class ClosesOnce(GoodStore):
    closed = False

    async def aclose(self) -> None:
        if self.closed:
            raise StoreError("is closed")
        self.closed = True

    async def load(self, execution_id: str) -> Loaded | None:
        self.closed = False  # it has been opened again
        return await super().load(execution_id)


class DropsWhatIsUnderWay(GoodStore):
    closed = False

    async def commit(self, execution_id: str, change: Change) -> None:
        if change.number > 1:
            with anyio.CancelScope(shield=True):
                await turns(2)
        if not self.closed:
            await super().commit(execution_id, change)

    async def aclose(self) -> None:
        if len(self._kept) == 20:
            self.closed = True


# --- What is deleted -----------------------------------------------------------------------------------------


class KeepsEventsOfWhatIsDeleted(GoodStore):
    deleted = False

    async def delete(self, execution_id: str) -> None:
        await super().delete(execution_id)
        self.deleted = True

    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        if self.deleted and execution_id not in self._kept:
            return []
        return await super().events(execution_id, after)


class TakesOthersAlong(GoodStore):
    async def delete(self, execution_id: str) -> None:
        for kept in [kept for kept in self._kept.values() if kept.record.id >= execution_id]:
            await super().delete(kept.record.id)
        self._kept.pop("id-of-t-0", None)


class BringsBackWhatWasDeleted(GoodStore):
    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[_Kept] = []

    async def delete(self, execution_id: str) -> None:
        if execution_id in self._kept:
            self.deleted.append(self._kept[execution_id])
        await super().delete(execution_id)

    async def aclose(self) -> None:
        for kept in self.deleted:
            self._kept[kept.record.id] = kept
            self._ids[kept.record.name] = kept.record.id


class LosesItsPlace(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        known = {kept.number for kept in self._kept.values()}
        return await super().listing(wanted if wanted.position in known else replace(wanted, position=0))


class DeletesFromWhatItRemembers(GoodStore):
    count = 0

    async def delete(self, execution_id: str) -> None:
        remembered = dict(self._kept)
        await super().delete(execution_id)
        self.count += 1
        await turns(max(1, 20 - self.count))  # the first one comes last
        remembered.pop(execution_id, None)
        self._kept = remembered
