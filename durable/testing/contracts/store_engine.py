"""Rules for stores: an engine, and what is left in its inbox."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from ..._saga.scope import saga
from ..._wire.events import EventType
from ...abc import Inbox, Store
from ...context import DurableContext
from ...function import DurableFunction, durable_execution
from ...local.engine import Engine, open_engine
from ...local.stores.memory import MemoryStore
from ..clock import SkippingClock
from .rules import RuleSkippedError, expect, expect_same
from .store_bench import StoreBench, StoreRules

rule = StoreRules()

_NAME: Final = "contract-1"


class _FullError(Exception):
    pass


class _Trip:
    """A saga that fails at its end, and what it did outside."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.function: DurableFunction[str, str] = durable_execution(name="trip")(self._flow)

    async def book(self, what: str) -> str:
        self.done.append(f"book {what}")
        return f"{what} ✈"

    async def cancel(self, what: str) -> None:
        self.done.append(f"cancel {what}")

    async def fail(self) -> None:
        raise _FullError("no seat left")

    async def _flow(self, guest: str, ctx: DurableContext) -> str:
        answer = ""
        try:
            async with saga(ctx, "trip") as s:
                await s.step(self.book, "hotel", compensate=self.cancel, name="hotel")
                answer = await ctx.wait_for_callback(self._submit, str, name="approval")
                await s.step(self.book, "car", compensate=self.cancel, name="car")
                await s.step(self.fail, name="seat")
        except _FullError:
            return f"{guest}: {answer}"
        return "booked"

    async def _submit(self, callback_id: str) -> None:
        self.done.append(f"ask {bool(callback_id)}")


@rule
async def an_engine_goes_on_where_it_was(bench: StoreBench) -> None:
    """An engine that has the store, and the next one, record for a saga with a callback what they do in memory."""
    expected, found = _Trip(), _Trip()
    memory = MemoryStore()
    await _begin(memory, expected)
    recorded = await _end(memory, expected)
    async with bench.opened() as store:
        await _begin(store, found)
        if not bench.can_reopen:
            expect_same("what an engine has recorded", await _end(store, found), recorded)
    if bench.can_reopen:
        async with bench.reopened() as store:
            expect_same("what two engines have recorded", await _end(store, found), recorded)
    expect_same("what was done outside", found.done, expected.done)


async def _begin(store: Store, trip: _Trip) -> None:
    """Run until the saga waits for its callback."""
    async with open_engine(store=store, clock=SkippingClock()) as engine:
        run = await engine.start(trip.function, "Ada", name=_NAME)
        async with aclosing(run.events()) as events:
            async for event in events:
                if event.event_type is EventType.INVOCATION_COMPLETED:
                    break


async def _end(store: Store, trip: _Trip) -> list[str]:
    """Complete the callback with another engine, and tell what there is then."""
    async with open_engine(store=store, clock=SkippingClock()) as engine:
        engine.register(trip.function)
        await engine.complete_callback(await _callback_id(engine), text='"yes"')
        (run,) = await engine.resume()
        record = await run.wait()
        lines = [f"{record.status} {record.result} after {record.invocations} invocations"]
        lines += [
            f"{operation.type} {operation.sub_type} {operation.name!r} {operation.id} in {operation.parent_id} "
            f"{operation.status} {operation.result}"
            for operation in await engine.operations(_NAME)
        ]
        lines += [
            f"{event.event_id} {event.event_type} {event.name!r} of {event.sub_type}"
            for event in await engine.history(_NAME)
        ]
        return lines


async def _callback_id(engine: Engine) -> str:
    for operation in await engine.operations(_NAME):
        if operation.callback_details is not None:
            return operation.callback_details.callback_id or ""
    return ""


def _inbox_of(store: Store) -> Inbox:
    if store.inbox is None:
        raise RuleSkippedError("the store has no inbox")
    return store.inbox


@rule
async def an_inbox_begins_empty(bench: StoreBench) -> None:
    """There are no requests in the inbox of a fresh store, however often somebody looks, whatever is committed."""
    async with bench.opened() as store:
        inbox = _inbox_of(store)
        for _ in range(3):
            expect_same("requests()", list(await inbox.requests()), [])


@rule
async def requests_stay_until_there_is_a_reply(bench: StoreBench) -> None:
    """`requests` gives those without a reply, oldest first, each under its number; also after the next opening."""
    texts = ["first", '{"é": "\u2028🚀"}', "third", "first"]
    async with bench.opened() as store:
        inbox = _inbox_of(store)
        await inbox.requests()
        for text in texts:
            await bench.post(text)
        found = list(await inbox.requests())
        expect_same("the texts of requests()", [text for _, text in found], texts)
        expect(len({number for number, _ in found}) == len(texts), "a number for each", found)
        expect_same("requests(), once more", list(await inbox.requests()), found)
        await inbox.reply(found[1][0], "done")
        del found[1]
        expect_same("requests() after a reply to the second", list(await inbox.requests()), found)
    if bench.can_reopen:
        async with bench.reopened() as store:
            expect_same("requests(), opened again", list(await _inbox_of(store).requests()), found)


@rule
async def a_request_is_found_whenever_it_comes(bench: StoreBench) -> None:
    """What is left after the inbox was found empty, or after a reply, is found; what has a reply is not."""
    async with bench.opened() as store:
        inbox = _inbox_of(store)
        for turn in range(3):
            await inbox.requests()
            await bench.post(f"{turn}")
            found = list(await inbox.requests())
            expect_same("the texts of requests()", [text for _, text in found], [f"{turn}"])
            await inbox.reply(found[0][0], "done")
        expect_same("requests() after all replies", list(await inbox.requests()), [])
