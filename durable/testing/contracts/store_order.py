"""Rules for stores: many at once, in order, cancellation, and the end."""

from __future__ import annotations

import random
from functools import partial

import anyio
import anyio.lowlevel
import msgspec

from ..._wire import ExecutionStatus
from ...abc import Change, OperationExtra, Store
from ...exceptions import StoreError
from .log import Log, step
from .rules import expect, expect_same, in_order
from .store_bench import StoreBench, StoreRules

rule = StoreRules()

_TURNS = 6
"""Turns of the event loop after which a commit is cancelled: none, one, two, ..."""


@rule
async def many_executions_at_once(bench: StoreBench) -> None:
    """Each execution has its own changes, in order, whatever the others do meanwhile."""
    rng = random.Random(0)  # noqa: S311 - a mix that is the same each time
    logs = [Log(f"t-{number}") for number in range(40)]

    async def live(log: Log, store: Store) -> None:
        await store.create(log.begin())
        for number in range(10):
            if rng.random() < 0.3:  # noqa: PLR2004 - some of them
                await anyio.lowlevel.checkpoint()
            if number % 7 == 3:  # noqa: PLR2004 - now and then
                await store.executions(ExecutionStatus.RUNNING)
            await store.commit(log.id, log.change(*(step(f"s-{number}-{n}") for n in range(rng.randrange(4)))))
        if len(log.operations) % 2:
            await store.commit(log.id, log.end())

    async with bench.opened() as store:
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(live, log, store)
        for log in logs:
            await log.check(store)
    await bench.check_again(*logs)


@rule
async def changes_of_one_execution_are_applied_in_the_order_of_the_calls(bench: StoreBench) -> None:
    """Changes of one execution are applied in the order of the calls, also when nobody waits for the one before."""
    log = Log()

    async def commit_many(store: Store) -> None:
        changes: list[Change] = []
        for number in range(20):
            record = msgspec.structs.replace(log.record, invocations=number)
            changes.append(log.change(step("a", f"{number}"), step(f"s-{log.changes}"), record=record))
        await in_order(*(partial(store.commit, log.id, change) for change in changes))
        await log.check(store)

    async with bench.opened() as store:
        await store.create(log.begin())
        await commit_many(store)
    if bench.can_reopen:
        async with bench.reopened() as store:
            await log.check(store)  # whoever commits has loaded the execution before
            await commit_many(store)


@rule
async def a_reader_sees_whole_changes(bench: StoreBench) -> None:
    """`load` gives an execution as one change has left it: operations, extras, events and record of one moment."""
    log = Log()
    is_over = False

    async def write(store: Store) -> None:
        nonlocal is_over
        for number in range(1, 41):
            extras = {"a": OperationExtra(timeout=number), "b": OperationExtra(timeout=number)}
            record = msgspec.structs.replace(log.record, invocations=number)
            change = log.change(step("a", f"{number}"), step("b", f"{number}"), record=record, extras=extras)
            await store.commit(log.id, change)
            await anyio.lowlevel.checkpoint()
        is_over = True

    async def read(store: Store) -> None:
        last = 0
        while not is_over:
            found = await store.load(log.id)
            expect(found is not None, "load() gives the execution", "None")
            if found is not None:
                seen = {operation.result for operation in found.operations}
                seen |= {f"{extra.timeout}" for extra in found.extras.values()}
                seen |= {f"{found.changes - 1}", f"{found.execution.invocations}", f"{(found.events - 1) // 3}"}
                expect(seen in ({"0"}, {f"{found.changes - 1}"}), "all of it from one change", f"parts of {seen}")
                expect(found.changes > last, f"a change after {last}, which was seen before", found.changes)
                last = found.changes - 1
            await anyio.lowlevel.checkpoint()

    async with bench.opened() as store:
        await store.create(log.begin())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, store)
            for _ in range(3):
                tasks.start_soon(read, store)
        await log.check(store)


@rule
async def a_commit_that_is_cancelled_is_made_or_not(bench: StoreBench) -> None:
    """Of a cancelled `commit` all is applied or nothing: that is decided, and no later call comes before it."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        for turns in range(_TURNS):
            change = log.change(
                step("a", f"{turns}"), step(f"s-{turns}"), extras={"a": OperationExtra(timeout=turns)}
            )
            await _cancelled(store, log, change, turns)
            await store.commit(log.id, log.change(step(f"t-{turns}")))
            await log.check(store)
    await bench.check_again(log)


@rule
async def an_execution_whose_creation_is_cancelled_exists_or_not(bench: StoreBench) -> None:
    """Of a cancelled `create` all is there or nothing: then its name is free."""
    logs: list[Log] = []
    async with bench.opened() as store:
        for turns in range(_TURNS):
            log = Log(f"t-{turns}")
            await _cancelled(store, log, log.begin(), turns)
            if log.changes == 0:
                await store.create(log.begin())
            await store.commit(log.id, log.change(step("a")))
            await log.check(store)
            logs.append(log)
    await bench.check_again(*logs)


async def _cancelled(store: Store, log: Log, change: Change, turns: int) -> None:
    """Commit a change, or create with it, and cancel that; the log knows afterwards whether it was applied."""
    scope = anyio.CancelScope()

    async def commit() -> None:
        with scope:
            await (store.create(change) if log.changes == 1 else store.commit(log.id, change))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()
    found = await store.load(log.id)
    if (0 if found is None else found.changes) != log.changes:
        log.take_back()
    if log.changes:
        await log.check(store)
    else:
        expect_same("find() of an execution that was not created", await store.find(log.record.name), None)


@rule
async def closing_twice(bench: StoreBench) -> None:
    """A store that is closed can be closed once more."""
    async with bench.opened() as store:
        await store.create(Log().begin())
        await store.aclose()
        await store.aclose()


@rule
async def closing_finishes_what_is_under_way(bench: StoreBench) -> None:
    """A commit under way when the store is closed is kept if it returns, and leaves nothing if it raises."""
    logs = [Log(f"t-{number}") for number in range(20)]
    outcomes: dict[str, str] = {}

    async def commit(log: Log, store: Store) -> None:
        change = log.change(step("a"), step("b"))
        try:
            await store.commit(log.id, change)
        except StoreError:
            log.take_back()
            outcomes[log.id] = "raised"
        else:
            outcomes[log.id] = "returned"

    async with bench.opened() as store:
        for log in logs:
            await store.create(log.begin())
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(commit, log, store)
            await anyio.lowlevel.checkpoint()
            await store.aclose()
        expect_same("the number of commits that came to an end", len(outcomes), len(logs))
    async with bench.reopened() as store:
        for log in logs:
            await log.check(store)
