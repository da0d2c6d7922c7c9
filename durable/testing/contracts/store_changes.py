"""Rules for stores: what is committed is there, as a whole, and stays."""

from __future__ import annotations

import anyio

from ..._wire import ErrorObject, ExecutionStatus, OperationStatus
from ..._wire.events import EventType
from ...abc import Change, EventRecord, OperationExtra, Store
from ...exceptions import ExecutionExistsError, ExecutionNotFoundError, StoreError
from ..clock import START
from .log import OOPS, Log, step
from .rules import expect, expect_refused, expect_same
from .store_bench import StoreBench, StoreRules

rule = StoreRules()


@rule
async def what_is_committed_is_there(bench: StoreBench) -> None:
    """When `create` or `commit` has returned, `load`, `events` and `find` give what was committed, and no more."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        await log.check(store)
        await store.commit(log.id, log.change(step("a"), step("b")))
        await store.commit(log.id, log.change(step("c")))
        await log.check(store)
        await store.commit(log.id, log.end(result="1"))
        await log.check(store)


@rule
async def what_is_committed_stays(bench: StoreBench) -> None:
    """Whatever `create` or `commit` has returned from is there when the store is opened again, and goes on."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(step("a"), step("b")))
    async with bench.reopened() as store:
        await log.check(store)
        await store.commit(log.id, log.change(step("c")))
        await store.commit(log.id, log.end(result="1"))
        await log.check(store)
    async with bench.reopened() as store:
        await log.check(store)


@rule
async def an_operation_is_replaced_as_a_whole_and_keeps_its_place(bench: StoreBench) -> None:
    """The last word on an operation counts, nothing of the one before stays; the order is that of the first."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        started = step("b", None, status=OperationStatus.STARTED, step_details=None, end_timestamp=None)
        await store.commit(log.id, log.change(started, step("a")))
        await store.commit(log.id, log.change(step("c"), step("b", name=None)))
        await log.check(store)
    await bench.check_again(log)


@rule
async def extras_are_kept_for_each_operation(bench: StoreBench) -> None:
    """The last extras of an operation count, whole; a change without any leaves them as they are."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        first = {"a": OperationExtra(timeout=5, heartbeat=2), "b": OperationExtra(function="g", known=True)}
        await store.commit(log.id, log.change(step("a"), step("b"), extras=first))
        await store.commit(log.id, log.change(step("a", "2")))
        await log.check(store)
        await store.commit(log.id, log.change(extras={"a": OperationExtra(heartbeat_at=START)}))
        await log.check(store)
    await bench.check_again(log)


@rule
async def a_name_is_taken_once(bench: StoreBench) -> None:
    """`create` with a taken name raises ExecutionExistsError and leaves nothing; the first one stays as it is."""
    log, second, other = Log("t-1"), Log("t-1", id="other"), Log("t-2")
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(step("a")))
        for _ in range(2):
            with expect_refused(ExecutionExistsError, "`create` with a taken name") as refusal:
                await store.create(Log("t-1", id="other").begin())
            expect("'t-1'" in str(refusal.error), "an error that says which name is taken", str(refusal.error))
        expect_same("load() of the refused execution", await store.load(second.id), None)
        await log.check(store)
        await store.create(other.begin())
        names = [record.name for record in await store.executions()]
        expect_same("the names of executions()", names, ["t-1", "t-2"])
        await other.check(store)
    await bench.check_again(log, other)


@rule
async def a_name_stays_taken(bench: StoreBench) -> None:
    """A name stands for one execution forever: also when that is over, and when the store is opened again."""
    log = Log("t-1")

    async def take_again(store: Store) -> None:
        with expect_refused(ExecutionExistsError, "`create` with the name of an execution that is over"):
            await store.create(Log("t-1", id="other").begin())
        await log.check(store)

    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.end(ExecutionStatus.FAILED, error=OOPS))
        await take_again(store)
    if bench.can_reopen:
        async with bench.reopened() as store:
            await take_again(store)


@rule
async def a_name_that_many_want_at_once(bench: StoreBench) -> None:
    """Of many that `create` at once with one name exactly one gets it; the others get ExecutionExistsError."""
    logs = [Log("t-1", id=f"id-{number}") for number in range(20)]
    winners: list[Log] = []

    async def want(log: Log, store: Store) -> None:
        try:
            await store.create(log.begin())
        except ExecutionExistsError:
            return
        winners.append(log)

    async with bench.opened() as store:
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(want, log, store)
        expect_same("the number of those who got the name", len(winners), 1)
        await winners[0].check(store)
        kept = [record.id for record in await store.executions()]
        expect_same("the ids of executions()", kept, [winners[0].id])


@rule
async def names_are_told_apart(bench: StoreBench) -> None:
    """Names are compared character by character: case counts, and no character stands for another one."""
    names = ["t", "T", "t-1", "t_1", "t-11", "%", "t%"]
    async with bench.opened() as store:
        for name in names:
            await store.create(Log(name).begin())
        for name in names:
            record = await store.find(name)
            expect_same(f"the name of find({name!r})", record and record.name, name)
        for name in ("", "x", "t-", "t ", "t'; DROP TABLE executions; --"):
            expect_same(f"find({name!r})", await store.find(name), None)


@rule
async def what_is_not_there(bench: StoreBench) -> None:
    """Nothing is found of what is not there; to commit to it, and to ask for its events, raises what says so."""
    async with bench.opened() as store:
        expect_same("find() in an empty store", await store.find("t-1"), None)
        expect_same("load() in an empty store", await store.load("x"), None)
        expect_same("executions() of an empty store", list(await store.executions()), [])
        with expect_refused(StoreError, "`commit` for an execution that is not there"):
            await store.commit("x", Change())
        with expect_refused(ExecutionNotFoundError, "`events` of an execution that is not there"):
            await store.events("x")
        with expect_refused(StoreError, "`create` without the execution's record"):
            await store.create(Change())
        expect_same("executions() after that", list(await store.executions()), [])


@rule
async def events_after_a_number(bench: StoreBench) -> None:
    """`events` begins after any number, also within a change; changes may have many events, or none."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        for count in (0, 3, 0, 0, 1, 5, 0):
            events = [EventRecord(EventType.STEP_STARTED, START, f"{count}-{number}") for number in range(count)]
            await store.commit(log.id, log.change(step(f"s-{log.changes}"), events=events))
        everything = list(enumerate(log.events, 1))
        for after in range(len(everything) + 3):
            found = list(await store.events(log.id, after))
            expect_same(f"events(after={after})", found, everything[after:])
        await log.check(store)


@rule
async def what_has_been_read_does_not_change(bench: StoreBench) -> None:
    """What a method gave is how things were when it was asked for, whatever is committed afterwards."""
    log = Log()
    begun = log.record
    async with bench.opened() as store:
        await store.create(log.begin())
        loaded, events, found = await store.load(log.id), await store.events(log.id), await store.find("t-1")
        listed = await store.executions()
        await store.commit(log.id, log.change(step("a"), extras={"a": OperationExtra(timeout=1)}))
        await store.commit(log.id, log.end())
        expect(loaded is not None, "load() gives the execution", "None")
        if loaded is not None:
            expect_same("loaded.operations, read before", list(loaded.operations), [])
            expect_same("loaded.extras, read before", dict(loaded.extras), {})
            expect_same("loaded.execution, read before", loaded.execution, begun)
        expect_same("the number of events, read before", len(events), 1)
        expect_same("find(), read before", found, begun)
        expect_same("executions(), read before", list(listed), [begun])


@rule
async def a_change_that_cannot_be_kept_leaves_nothing(bench: StoreBench) -> None:
    """A change that `commit` raises for is not there, not a part of it, and the store is as good as before."""
    log, other = Log("t-1"), Log("t-2")
    lone = "\ud800"  # half of a pair: no UTF-8 has it
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.create(other.begin())
        await store.commit(log.id, log.change(step("a")))
        change = log.change(
            step("a", "2"), step("b", lone), events=[EventRecord(EventType.STEP_FAILED, START, "b", error=OOPS)]
        )
        await _commit_or_take_back(store, log, change)
        record = log.record
        change = log.end(result=lone, error=ErrorObject(error_message=lone))
        if not await _commit_or_take_back(store, log, change):
            expect_same("find() after a commit that raised", await store.find("t-1"), record)
        await store.commit(log.id, log.change(step("c")))
        await log.check(store)
        await other.check(store)
    await bench.check_again(log, other)


async def _commit_or_take_back(store: Store, log: Log, change: Change) -> bool:
    try:
        await store.commit(log.id, change)
    except Exception:  # noqa: BLE001 - how it says so is not what the rule is about
        log.take_back()
        await log.check(store)
        return False
    await log.check(store)
    return True
