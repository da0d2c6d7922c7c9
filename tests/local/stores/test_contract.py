"""What every store does, whatever it keeps executions in."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable._wire import (
    ErrorObject,
    ExecutionStatus,
    Operation,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from durable._wire.events import EventType
from durable._wire.limits import MAX_EXECUTION_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES
from durable._wire.operations import ContextDetails, ExecutionDetails, StepDetails, WaitDetails
from durable.abc import Change, EventRecord, ExecutionRecord, Listing, Store
from durable.exceptions import ExecutionExistsError, StoreError
from durable.local.machine.rules import RefusedUpdateError
from durable.local.machine.state import ExecutionState, Transition
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from durable.testing.clock import START
from tests.local.fakes import record_of
from tests.local.machine.bench import OOPS, Bench, execution
from tests.local.machine.model import scripts
from tests.local.stores.log import Log, step

pytestmark = pytest.mark.anyio

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]


def opener(kind: str, directory: Path) -> Open:
    """What opens a store, each time the same one."""
    memory = MemoryStore()

    @asynccontextmanager
    async def reopen() -> AsyncGenerator[Store]:
        store = memory if kind == "memory" else open_store(str(directory / "store.db"))
        try:
            yield store
        finally:
            await store.aclose()

    return reopen


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Each kind of store."""
    return opener(request.param, tmp_path)


async def check(store: Store, log: Log) -> None:
    """That the store has exactly what was committed."""
    loaded = await store.load(log.id)
    assert loaded is not None
    assert loaded.execution == log.record == await store.find(log.record.name)
    assert list(loaded.operations) == list(log.operations.values())
    assert (loaded.events, loaded.changes) == (len(log.events), log.changes)
    assert await store.events(log.id) == list(enumerate(log.events, 1))


async def test_what_is_committed_is_there_and_stays(reopen: Open):
    """At once, and after the store was closed and opened again."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        await check(store, log)
        await store.commit(log.id, log.change(step("a"), step("b")))
        await store.commit(log.id, log.change(step("c")))
        await check(store, log)
    async with reopen() as store:
        await check(store, log)
        await store.commit(log.id, log.change(step("d")))
        await store.commit(log.id, log.end(result="1"))
        await check(store, log)
    async with reopen() as store:
        await check(store, log)


async def test_an_operation_is_replaced_as_a_whole_and_keeps_its_place(reopen: Open):
    """The last word counts; the order is that of the first."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        started = step("b", None, status=OperationStatus.STARTED, step_details=None, end_timestamp=None)
        await store.commit(log.id, log.change(started, step("a")))
        await store.commit(log.id, log.change(step("c"), step("b", name=None)))
        await check(store, log)
    async with reopen() as store:
        loaded = await store.load(log.id)
        assert loaded is not None
        assert [operation.id for operation in loaded.operations] == ["b", "a", "c"]


async def test_a_name_is_taken_once(reopen: Open):
    """The second one is refused, the first stays as it is, and the store is as good as before."""
    log = Log("t-1")
    async with reopen() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(step("a")))
        for _ in range(2):
            with pytest.raises(ExecutionExistsError, match="'t-1'"):
                await store.create(Log("t-1", id="other").begin())
        assert await store.load("other") is None
        await check(store, log)
        other = Log("t-2")
        await store.create(other.begin())
        assert [record.name for record in await store.executions()] == ["t-1", "t-2"]
        await check(store, other)


async def test_a_name_that_many_want_at_once(reopen: Open):
    """Exactly one of them gets it."""
    outcomes: list[str] = []

    async def want(number: int, store: Store) -> None:
        try:
            await store.create(Log("t-1", id=f"id-{number}").begin())
        except ExecutionExistsError:
            outcomes.append("taken")
        else:
            outcomes.append(f"id-{number}")

    async with reopen() as store:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(want, number, store)
        (winner,) = [outcome for outcome in outcomes if outcome != "taken"]
        record = await store.find("t-1")
        assert record is not None
        assert record.id == winner
        assert len(outcomes) == 20


async def test_names_are_told_apart(reopen: Open):
    """By every character."""
    names = ["t", "T", "t-1", "t_1", "t-11", "%", "t%"]
    async with reopen() as store:
        for name in names:
            await store.create(Log(name).begin())
        for name in names:
            record = await store.find(name)
            assert record is not None
            assert record.name == name
        for name in ("", "x", "t-", "t ", "t'; DROP TABLE executions; --"):
            assert await store.find(name) is None


async def test_what_is_not_there(reopen: Open):
    """Nothing is found, and nothing can be added to it."""
    async with reopen() as store:
        assert await store.find("t-1") is None
        assert await store.load("x") is None
        assert await store.executions() == []
        with pytest.raises(StoreError, match="has no execution x"):
            await store.commit("x", Change())
        with pytest.raises(StoreError, match="has no execution x"):
            await store.events("x")
        with pytest.raises(StoreError, match="created with its record"):
            await store.create(Change())


async def test_executions_by_status(reopen: Open):
    """Oldest first, as they stand now."""
    logs = {name: Log(name) for name in ("d", "a", "c", "b")}
    async with reopen() as store:
        for log in logs.values():
            await store.create(log.begin())
        await store.commit(logs["a"].id, logs["a"].end())
        await store.commit(logs["b"].id, logs["b"].end(ExecutionStatus.FAILED, error=OOPS))

        async def names(status: ExecutionStatus | None = None) -> list[str]:
            return [record.name for record in await store.executions(status)]

        assert await names() == ["d", "a", "c", "b"]
        assert await names(ExecutionStatus.RUNNING) == ["d", "c"]
        assert await names(ExecutionStatus.SUCCEEDED) == ["a"]
        assert await names(ExecutionStatus.FAILED) == ["b"]
        assert await names(ExecutionStatus.STOPPED) == []
        assert list(await store.executions()) == [log.record for log in logs.values()]


async def test_events_after_a_number(reopen: Open):
    """From any number on; also where changes have many events, or none."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        for count in (0, 3, 0, 0, 1, 5, 0):
            events = [EventRecord(EventType.STEP_STARTED, START, f"{count}-{number}") for number in range(count)]
            await store.commit(log.id, log.change(step(f"s-{log.changes}"), events=events))
        everything = list(enumerate(log.events, 1))
        assert len(everything) == 10
        for after in range(13):
            assert list(await store.events(log.id, after)) == everything[after:]
        await check(store, log)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"\\u0000"',
        "\x00",
        "a\x00b",
        '"ä€🚀\u2028\ufeff\uffff"',
        "'; DROP TABLE changes; --",
        "\r\n\t\x7f\x1b",
        "x" * MAX_PAYLOAD_BYTES,
    ],
    ids=["empty", "escaped NUL", "NUL", "NUL within", "Unicode", "SQL", "control", "1 MB"],
)
async def test_texts_come_back_as_they_were(reopen: Open, text: str):
    """Payloads, inputs, results and errors, whatever is in them."""
    error = ErrorObject(error_message=text, error_type=text[:100], error_data=text, stack_trace=(text[:100], ""))
    failed = step("f", None, status=OperationStatus.FAILED, step_details=StepDetails(attempt=2, error=error))
    log = Log(input=text)
    async with reopen() as store:
        await store.create(log.begin())
        kept = EventRecord(EventType.STEP_FAILED, START, "f", 1, 5, error)
        await store.commit(log.id, log.change(step("a", text), failed, events=[kept]))
        await store.commit(log.id, log.end(result=text, error=error))
        await check(store, log)
    async with reopen() as store:
        await check(store, log)


async def test_the_largest_execution(reopen: Open):
    """6 MB in, 6 MB out."""
    log = Log(input="x" * MAX_EXECUTION_PAYLOAD_BYTES)
    async with reopen() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.end(result="é" * (MAX_EXECUTION_PAYLOAD_BYTES // 2)))
        await check(store, log)


async def test_every_type_of_operation_comes_back_as_it_was(reopen: Open):
    """With all its details, to the millisecond."""
    later = Timestamp(START + 31_622_400_001)
    operations = [
        step("retry", step_details=StepDetails(attempt=3, next_attempt_timestamp=later, error=OOPS)),
        step(
            "wait",
            type=OperationType.WAIT,
            step_details=None,
            wait_details=WaitDetails(scheduled_end_timestamp=later),
        ),
        step("failed", type=OperationType.CONTEXT, step_details=None, context_details=ContextDetails(error=OOPS)),
        step(
            "context",
            type=OperationType.CONTEXT,
            parent_id="failed",
            sub_type=None,
            step_details=None,
            context_details=ContextDetails(replay_children=True, result="[]"),
        ),
        step(
            "execution",
            type=OperationType.EXECUTION,
            step_details=None,
            execution_details=ExecutionDetails(input_payload="1"),
        ),
    ]
    events = [
        EventRecord(EventType.INVOCATION_COMPLETED, later, None, None, None, OOPS, START),
        EventRecord(EventType.STEP_FAILED, START, "retry", 3, 31_622_400, OOPS),
        EventRecord(EventType.STEP_SUCCEEDED, START, "retry", 3, 31_622_400, payload='{"polls":1}'),
        *(EventRecord(kind, later, "x") for kind in EventType),
    ]
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(*operations, events=events))
    async with reopen() as store:
        await check(store, log)


@pytest.mark.parametrize("seed", range(3))
async def test_many_executions_at_once(reopen: Open, seed: int):
    """Each has its own changes, in order, whatever the others do meanwhile."""
    rng = random.Random(seed)
    logs = [Log(f"t-{number}") for number in range(30)]

    async def live(log: Log, store: Store) -> None:
        await store.create(log.begin())
        for number in range(10):
            if rng.random() < 0.3:
                await anyio.lowlevel.checkpoint()
            if rng.random() < 0.1:
                await store.executions(ExecutionStatus.RUNNING)
            await store.commit(log.id, log.change(*(step(f"s-{number}-{n}") for n in range(rng.randrange(4)))))
        if rng.random() < 0.5:
            await store.commit(log.id, log.end())

    async with reopen() as store:
        async with anyio.create_task_group() as tasks:
            for log in logs:
                tasks.start_soon(live, log, store)
        for log in logs:
            await check(store, log)
    async with reopen() as store:
        for log in logs:
            await check(store, log)


async def test_changes_of_one_execution_are_applied_in_the_order_of_the_calls(reopen: Open):
    """Also when nobody waits for the one before."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(store.commit, log.id, log.change(step("a", f"{number}"), step(f"s-{number}")))
                await anyio.wait_all_tasks_blocked()
        await check(store, log)
        loaded = await store.load(log.id)
        assert loaded is not None
        assert loaded.operations[0].result == "19"


async def test_whoever_does_not_wait_for_a_commit_has_made_it_all_the_same(reopen: Open):
    """A cancellation changes nothing about it; later changes follow it."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        for number in range(5):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await store.commit(log.id, log.change(step(f"s-{number}")))
            await store.commit(log.id, log.change(step(f"t-{number}")))
        other = Log("t-2")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.create(other.begin())
        await store.commit(other.id, other.change(step("a")))
        await check(store, log)
        await check(store, other)


async def test_what_has_been_read_does_not_change(reopen: Open):
    """It is how things were when it was asked for."""
    log = Log()
    async with reopen() as store:
        await store.create(log.begin())
        loaded, events, found = await store.load(log.id), await store.events(log.id), await store.find("t-1")
        assert loaded is not None
        await store.commit(log.id, log.change(step("a")))
        await store.commit(log.id, log.end())
        assert loaded.operations == []
        assert len(events) == 1
        assert found == loaded.execution == record_of()


async def test_closing_twice(reopen: Open):
    """It is closed then."""
    async with reopen() as store:
        await store.create(Log().begin())
        await store.aclose()


# --- Whatever happens, both keep the same --------------------------------------------------------------------


@settings(max_examples=60, deadline=None, print_blob=True)
@given(scripts=st.lists(scripts(most=8), min_size=1, max_size=3))
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_stores_give_the_state_that_was_committed(
    backend: str, scripts: list[list[list[OperationUpdate] | int]], tmp_path_factory: pytest.TempPathFactory
):
    """After any calls at any time, on any number of executions; and the state that is loaded goes on alike."""
    directory = tmp_path_factory.mktemp("store")
    anyio.run(_commit_and_compare, scripts, directory, backend=backend)


async def _commit_and_compare(scripts: list[list[list[OperationUpdate] | int]], directory: Path) -> None:
    reopeners = [opener(kind, directory) for kind in ("memory", "sqlite")]
    benches: list[Bench] = []
    for reopen in reopeners:
        benches = []
        async with reopen() as store:
            for number, script in enumerate(scripts):
                bench = Bench()
                benches.append(bench)
                record = execution(id=f"e-{number}", name=f"t-{number}")
                bench.state.record = record
                started = EventRecord(EventType.EXECUTION_STARTED, START)
                await store.create(Change(execution=record, events=[started]))
                for part in script:
                    already = len(bench.changes)
                    _play(bench, part)
                    for change in bench.changes[already:]:
                        await store.commit(record.id, change)
    for reopen in reopeners:
        async with reopen() as store:
            for bench in benches:
                await _compare(store, bench)


def _play(bench: Bench, part: list[OperationUpdate] | int) -> None:
    if isinstance(part, int):
        bench.wait(part / 1000)
        return
    try:
        bench.call(*part)
    except RefusedUpdateError:
        return


async def _compare(store: Store, bench: Bench) -> None:
    loaded = await store.load(bench.state.record.id)
    assert loaded is not None
    state = ExecutionState(loaded)
    assert state.record == bench.state.record
    assert _in_order(state) == _in_order(bench.state)
    assert state.next_due == bench.state.next_due
    assert [event for _, event in await store.events(state.record.id)][1:] == bench.events
    assert state.change(Transition()) == bench.state.change(Transition())


def _in_order(state: ExecutionState) -> list[Operation]:
    return list(state.operations.values())


LISTED = [
    ("a", "f", ExecutionStatus.SUCCEEDED),
    ("b", "g", ExecutionStatus.SUCCEEDED),
    ("c", "f", ExecutionStatus.RUNNING),
    ("d", "f", ExecutionStatus.FAILED),
    ("e", "f", ExecutionStatus.SUCCEEDED),
]


async def listed(store: Store, **wanted: Any) -> list[list[str]]:
    """The pages of a listing, as names."""
    pages: list[list[str]] = []
    position: int | None = 0
    while position is not None:
        page = await store.listing(Listing(**{"function": "tests:f", **wanted, "position": position}))
        assert all(record.input is None for record in page.records)
        pages.append([record.name for record in page.records])
        position = page.position
    return pages


async def test_the_executions_of_a_function_are_listed(reopen: Open):
    """Newest first or oldest first, by status, name and time, page by page; also after it was opened again."""
    begin = record_of("x").start_timestamp
    async with reopen() as store:
        for seconds, (name, function, status) in enumerate(LISTED):
            record = record_of(
                name, function=f"tests:{function}", start_timestamp=Timestamp(begin + seconds * 1000)
            )
            await store.create(Change(execution=record, events=[]))
            if status is not ExecutionStatus.RUNNING:
                await store.commit(record.id, Change(number=2, execution=ended(record, status)))
    async with reopen() as store:
        assert await listed(store) == [["e", "d", "c", "a"]]
        assert await listed(store, oldest_first=True) == [["a", "c", "d", "e"]]
        assert await listed(store, limit=2) == [["e", "d"], ["c", "a"]]
        assert await listed(store, limit=3, oldest_first=True) == [["a", "c", "d"], ["e"]]
        assert await listed(store, function="tests:nobody") == [[]]
        assert await listed(store, name="c") == [["c"]]
        assert await listed(store, name="b") == [[]]
        succeeded = [ExecutionStatus.SUCCEEDED]
        assert await listed(store, statuses=succeeded, limit=1) == [["e"], ["a"]]
        both = [*succeeded, ExecutionStatus.RUNNING]
        assert await listed(store, statuses=both) == [["e", "c", "a"]]
        after, before = Timestamp(begin + 1999), Timestamp(begin + 4000)
        assert await listed(store, started_after=after, started_before=before) == [["d", "c"]]


def ended(record: ExecutionRecord, status: ExecutionStatus) -> ExecutionRecord:
    """An execution at its end."""
    return msgspec.structs.replace(record, status=status, end_timestamp=record.start_timestamp, result="1")
