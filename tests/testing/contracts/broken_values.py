"""More stores that are wrong on purpose: in listings, in values, in inboxes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from durable._wire import ExecutionStatus, OperationType
from durable._wire.codec import Codec
from durable.abc import Change, ExecutionRecord, Listing, Page, Store
from durable.exceptions import StoreError
from tests.testing.contracts.broken_stores import GoodStore, ListInbox

replace = msgspec.structs.replace
CHANGE = Codec(Change, "event")


# --- Listings ------------------------------------------------------------------------------------------------


class SortsById(GoodStore):
    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        return sorted(await super().executions(status), key=lambda record: record.id)


class ListsWithInputs(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        page = await super().listing(wanted)
        records = [await self.find(record.name) for record in page.records]
        return replace(page, records=[record for record in records if record is not None])


class ListsEveryStatus(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        return await super().listing(replace(wanted, statuses=()))


class IncludesTheLimit(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        after = wanted.started_after
        return await super().listing(replace(wanted, started_after=None if after is None else after - 1))


class HasAlwaysANextPage(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        page = await super().listing(wanted)
        full = len(page.records) == wanted.limit
        return replace(page, position=len(self._kept) if full and page.position is None else page.position)


class PagesAreTooLong(GoodStore):
    async def listing(self, wanted: Listing) -> Page:
        return await super().listing(replace(wanted, limit=max(wanted.limit, 2)))


class CountsFromTheBeginning(GoodStore):
    """A page begins after as many as have been given."""

    async def listing(self, wanted: Listing) -> Page:
        everything = await super().listing(replace(wanted, position=0, limit=1000))
        end = wanted.position + wanted.limit
        more = end < len(everything.records)
        return Page(everything.records[wanted.position : end], end if more else None)


# --- Values --------------------------------------------------------------------------------------------------


class Rewriting(GoodStore):
    """Changes are rewritten as JSON."""

    async def commit(self, execution_id: str, change: Change) -> None:
        try:
            text = CHANGE.encode(change).decode()
        except UnicodeEncodeError as error:
            raise StoreError("it cannot be written") from error
        rewritten = CHANGE.decode(self.rewrite(text).encode())
        if change.execution is not None:
            rewritten = replace(rewritten, execution=replace(change.execution))
        await super().commit(execution_id, replace(rewritten, events=tuple(rewritten.events)))

    def rewrite(self, text: str) -> str:
        raise NotImplementedError


class DropsNul(Rewriting):
    def rewrite(self, text: str) -> str:
        return text.replace('"\\u0000"', '""')


class Composes(Rewriting):
    def rewrite(self, text: str) -> str:
        return unicodedata.normalize("NFC", text)


class Truncates(GoodStore):
    async def commit(self, execution_id: str, change: Change) -> None:
        record = change.execution
        if record is not None and record.result is not None:
            change = replace(change, execution=replace(record, result=record.result[:65_535]))
        await super().commit(execution_id, change)


class ForgetsFields(GoodStore):
    """Of some structure, some fields."""

    def operation(self, operation: Any) -> Any:
        return operation

    def event(self, event: Any) -> Any:
        return event

    def record(self, record: Any) -> Any:
        return record

    def extra(self, extra: Any) -> Any:
        return extra

    async def commit(self, execution_id: str, change: Change) -> None:
        changed = replace(
            change,
            operations=tuple(map(self.operation, change.operations)),
            events=tuple(map(self.event, change.events)),
            execution=change.execution and self.record(change.execution),
            extras={key: self.extra(extra) for key, extra in change.extras.items()},
        )
        await super().commit(execution_id, changed)


class ForgetsCallees(ForgetsFields):
    def operation(self, operation: Any) -> Any:
        return replace(operation, chained_invoke_details=None)


class RoundsTimes(ForgetsFields):
    def operation(self, operation: Any) -> Any:
        details = operation.wait_details
        if details is None:
            return operation
        return replace(
            operation,
            wait_details=replace(details, scheduled_end_timestamp=details.scheduled_end_timestamp // 1000 * 1000),
        )


class ForgetsWhenInvocationsBegan(ForgetsFields):
    def event(self, event: Any) -> Any:
        return replace(event, start=None)


class ForgetsCallers(ForgetsFields):
    def record(self, record: Any) -> Any:
        return replace(record, caller=None)


class TakesEmptyForNothing(ForgetsFields):
    def extra(self, extra: Any) -> Any:
        return replace(extra, target=extra.target if extra.function != "f" else None)


class ForgetsParentsOfCallbacks(ForgetsFields):
    def operation(self, operation: Any) -> Any:
        return replace(operation, parent_id=None) if operation.type is OperationType.CALLBACK else operation


# --- Inboxes -------------------------------------------------------------------------------------------------


class PhantomInbox(ListInbox):
    async def requests(self) -> Sequence[tuple[int, str]]:
        return list(self.kept) or ([(1, "")] if not self.count else [])


class NewestFirstInbox(ListInbox):
    async def requests(self) -> Sequence[tuple[int, str]]:
        return self.kept[::-1]


class OnceInbox(ListInbox):
    async def requests(self) -> Sequence[tuple[int, str]]:
        found, self.kept = self.kept, []
        return found


class DeafInbox(ListInbox):
    """It looks no more once it has found something and then nothing."""

    done = False

    async def requests(self) -> Sequence[tuple[int, str]]:
        if self.count and not self.kept:
            self.done = True
        return [] if self.done else list(self.kept)


def with_inbox(kind: type[ListInbox]) -> type[Store]:
    """A good store with such an inbox."""
    return type(f"With{kind.__name__}", (GoodStore,), {"make_inbox": lambda _: kind()})
