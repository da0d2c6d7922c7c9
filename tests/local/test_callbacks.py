"""Callbacks on the embedded service, called by hand: who is told what, and what of it survives."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from durable._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType
from durable._wire.events import EventType
from durable.abc import Store
from durable.exceptions import CallbackCompletedError, CallbackNotFoundError, StaleTokenError, StoreError
from durable.local.machine.callback import MISSED_HEARTBEAT, TIMED_OUT, callback_id, named_by
from durable.local.outside import Outside
from durable.local.stores.memory import MemoryStore
from durable.local.stores.sqlite import open_store
from tests.local.fakes import SUCCEEDED, Caller, FakeStore, fail
from tests.local.machine.bench import FAIL, OOPS, START, SUCCEED, context, step, update, wait
from tests.local.machine.test_callback import callback

pytestmark = pytest.mark.anyio

ENDED = OperationStatus.SUCCEEDED
ID = callback_id("id-of-t-1", "a")
ALIAS = ID[:-1] + chr(ord(ID[-1]) + 1)
"""Other text, of the same bytes: the last character of 15 has two bits that do not count."""


@asynccontextmanager
async def store_of(kind: str, path: Path) -> AsyncGenerator[Callable[[], Awaitable[Store]]]:
    """A store, and the way to have it again after a restart."""
    store: Store = MemoryStore() if kind == "memory" else open_store(str(path / "s.db"))

    async def again() -> Store:
        nonlocal store
        if kind == "sqlite":
            await store.aclose()
            store = open_store(str(path / "s.db"))
        return store

    try:
        yield again
    finally:
        await store.aclose()


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def waiting(caller: Caller | None = None, **limits: Any) -> tuple[Caller, Outside]:
    """An execution whose function has started a callback, in its first invocation."""
    caller = caller or Caller()
    await caller.create()
    await caller.call(callback(**limits))
    return caller, Outside(caller.service)


def shown(operations: Any) -> dict[str, OperationStatus]:
    return {operation.id: operation.status for operation in operations}


# --- Who is told -------------------------------------------------------------------------------------------------


async def test_the_answer_to_its_start_has_the_id():
    """As nobody else could tell the function."""
    caller = Caller()
    await caller.create()
    answer = await caller.call(callback(name="approval"))
    (operation,) = answer.new_execution_state.operations
    assert operation.callback_details is not None
    assert operation.callback_details.callback_id == ID


async def test_an_invocation_under_way_is_told_with_its_next_call_and_once():
    """A poll will do; what has been told is not told again."""
    caller, outside = await waiting()
    await outside.succeed_callback(ID, '"yes"')
    answer = await caller.call()
    (operation,) = answer.new_execution_state.operations
    assert (operation.id, operation.status, operation.result) == ("a", ENDED, '"yes"')
    assert (await caller.call()).new_execution_state.operations == ()


async def test_it_is_told_beside_what_the_call_itself_changes():
    """Each operation once, and what was first comes first."""
    caller, outside = await waiting()
    await caller.call(callback("b"), wait(START, "w", seconds=5))
    await outside.fail_callback(ID, OOPS)
    caller.clock.move(5)
    await outside.succeed_callback(callback_id("id-of-t-1", "b"), None)
    answer = await caller.call(step(START, "s"))
    assert list(shown(answer.new_execution_state.operations)) == ["a", "w", "b", "s"]


async def test_what_time_did_while_the_outside_looked_is_told_as_well():
    """A timer that fell due, and a callback that timed out, although the call that found it was refused."""
    caller, outside = await waiting(timeout=3)
    await caller.call(wait(START, "w", seconds=2))
    caller.clock.move(10)
    with pytest.raises(CallbackCompletedError):
        await outside.heartbeat_callback(ID)
    answer = await caller.call()
    assert shown(answer.new_execution_state.operations) == {"w": ENDED, "a": OperationStatus.TIMED_OUT}


async def test_a_lost_answer_is_given_again_with_what_it_told():
    """The same ClientToken gets the same answer; nothing falls between the two."""
    caller, outside = await waiting()
    await outside.succeed_callback(ID, "1")
    token = caller.token
    first = await caller.call(client_token="lost")
    again = await caller.call(token=token, client_token="lost")
    assert again is first
    assert shown(again.new_execution_state.operations) == {"a": ENDED}


async def test_the_next_invocation_has_it_in_its_event():
    """Named among what was updated; and it is not told a second time."""
    caller, outside = await waiting()
    await caller.end()
    await outside.succeed_callback(ID, "1")
    event = await caller.begin()
    assert event.updated_operation_ids == ("a",)
    assert shown(event.initial_execution_state.operations)["a"] is ENDED
    assert (await caller.call()).new_execution_state.operations == ()


async def test_nothing_is_due_until_the_outside_answers():
    """No timer for one that waits for a callback alone; and at once when there is an answer."""
    caller, outside = await waiting()
    assert await caller.end()
    assert await caller.service.next_due(caller.id) is None
    await outside.succeed_callback(ID, "1")
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    await caller.begin()
    await caller.call(callback("b"))
    assert await caller.end()
    assert await caller.service.next_due(caller.id) is None


@pytest.mark.parametrize("told", [False, True])
async def test_an_answer_that_came_while_the_invocation_ended_is_not_missed(told: bool):
    """PENDING makes sense although nothing is pending any more, and the next invocation follows at once."""
    caller, outside = await waiting()
    await outside.succeed_callback(ID, "1")
    if told:  # perhaps too late for a function that is suspending
        await caller.call()
    assert await caller.end(accept_idle=False)
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    await caller.begin()
    assert not await caller.end()


async def test_a_heartbeat_is_no_reason_to_invoke():
    """It only moves the limit; when that comes, somebody has to look."""
    caller, outside = await waiting(heartbeat=5)
    await caller.end()
    caller.clock.move(3)
    await outside.heartbeat_callback(ID)
    assert await caller.service.next_due(caller.id) == caller.clock.now() + 5_000


# --- What is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unknown",
    [
        "",
        "nonsense",
        "YQ==",
        callback_id("id-of-another", "a"),
        callback_id("id-of-t-1", "b"),
        callback_id("id-of-t-1", "s"),
        callback_id("id-of-t-1", "id-of-t-1"),
        ID + "=",
        ID[:-1],
        ALIAS,
        "x" * 5_000,
    ],
)
async def test_an_id_of_nothing_is_an_error_that_repeats_it(unknown: str):
    """Malformed, of no execution, of no operation, or of something else than a callback."""
    caller, outside = await waiting()
    await caller.call(step(START, "s"))
    for attempt in (
        outside.succeed_callback(unknown, None),
        outside.fail_callback(unknown, OOPS),
        outside.heartbeat_callback(unknown),
    ):
        with pytest.raises(CallbackNotFoundError) as caught:
            await attempt
        assert f"'{unknown[:200]}" in str(caught.value)
        assert len(str(caught.value)) < 400
    assert shown(await caller.recorded()) == {"a": OperationStatus.STARTED, "s": OperationStatus.STARTED}


def test_the_alias_is_one():
    """What the test above relies on."""
    assert named_by(ALIAS) == named_by(ID) == ("id-of-t-1", "a")


async def test_the_first_answer_counts():
    """Every later one is an error that says how it stands, and changes nothing."""
    caller, outside = await waiting()
    await outside.succeed_callback(ID, "1")
    before = await caller.recorded()
    for attempt in (
        outside.succeed_callback(ID, "2"),
        outside.fail_callback(ID, OOPS),
        outside.heartbeat_callback(ID),
    ):
        with pytest.raises(CallbackCompletedError, match="it is SUCCEEDED") as caught:
            await attempt
        assert (caught.value.callback_id, caught.value.status) == (ID, "SUCCEEDED")
    assert await caller.recorded() == before


@pytest.mark.parametrize(("limits", "error"), [({"timeout": 5}, TIMED_OUT), ({"heartbeat": 5}, MISSED_HEARTBEAT)])
async def test_an_answer_after_the_limit_is_too_late_although_nobody_had_looked(
    limits: dict[str, Any], error: ErrorObject
):
    """On the millisecond; and the timeout is recorded by then, as another engine would find it."""
    caller, outside = await waiting(**limits)
    caller.clock.move(5)
    for attempt in (outside.succeed_callback(ID, "1"), outside.heartbeat_callback(ID)):
        with pytest.raises(CallbackCompletedError, match="it is TIMED_OUT"):
            await attempt
    (operation,) = await caller.recorded()
    assert operation.error == error


async def test_an_answer_on_the_last_millisecond_counts():
    """The limit is not reached before it is."""
    caller, outside = await waiting(timeout=5, heartbeat=5)
    caller.clock.move(4.999)
    await outside.succeed_callback(ID, "1")
    caller.clock.move(10)
    assert shown(await caller.recorded()) == {"a": ENDED}


async def test_nobody_waits_under_a_finished_context_or_in_a_finished_execution():
    """It says what is over; nothing changes."""
    caller = Caller()
    await caller.create()
    await caller.call(context(START, "c"), callback(parent_id="c"), callback("b", timeout=5))
    await caller.call(context(SUCCEED, "c"))
    outside = Outside(caller.service)
    with pytest.raises(
        CallbackCompletedError, match="the part of its execution 't-1' that waited for it has ended"
    ):
        await outside.succeed_callback(ID, "1")
    await caller.end(SUCCEEDED)
    caller.clock.move(10)  # nor does anything time out any more
    for _ in range(2):  # from memory, and from the store
        with pytest.raises(CallbackCompletedError, match="its execution 't-1' is SUCCEEDED") as caught:
            await outside.fail_callback(callback_id("id-of-t-1", "b"), OOPS)
        assert caught.value.status == "STARTED"
    assert shown(await caller.recorded()) == {
        "c": ENDED,
        "a": OperationStatus.STARTED,
        "b": OperationStatus.STARTED,
    }
    assert (await caller.service.record(caller.id)).status is ExecutionStatus.SUCCEEDED


async def test_what_ended_long_ago_is_not_kept_in_memory():
    """However many old ids are sent."""
    caller, outside = await waiting()
    await caller.end(SUCCEEDED)
    for _ in range(3):
        with pytest.raises(CallbackCompletedError):
            await outside.succeed_callback(ID, None)
    assert caller.service._live == {}


# --- What survives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True])
async def test_another_process_finds_the_callback_where_it_was(kind: str, tmp_path: Path, answered: bool):
    """Its limits, the heartbeat before the crash, and the answer."""
    async with store_of(kind, tmp_path) as again:
        caller, outside = await waiting(Caller(await again()), timeout=60, heartbeat=5)
        caller.clock.move(4)
        await outside.heartbeat_callback(ID)
        if answered:
            await outside.succeed_callback(ID, '"yes"')
        caller.store = await again()
        caller.restart()
        outside = Outside(caller.service)
        if answered:
            event = await caller.begin()
            assert shown(event.initial_execution_state.operations)["a"] is ENDED
            return
        assert await caller.service.next_due(caller.id) == caller.clock.now() + 5_000
        caller.clock.move(4)
        await outside.heartbeat_callback(ID)
        await outside.fail_callback(ID, OOPS)
        (operation,) = await caller.recorded()
        assert (operation.status, operation.error) == (OperationStatus.FAILED, OOPS)
        history = await caller.service.history(caller.id)
        started = next(event for event in history if event.event_type == EventType.CALLBACK_STARTED)
        assert started.callback_started_details is not None
        assert (started.callback_started_details.timeout, started.callback_started_details.heartbeat_timeout) == (
            60,
            5,
        )


async def test_what_was_written_before_there_were_callbacks_is_read(tmp_path: Path):
    """Rows of a log that have operations and events alone."""
    async with store_of("sqlite", tmp_path) as again:
        caller = Caller(await again())
        await caller.create()
        await caller.call(step(START, "s"))
        await again()
        with sqlite3.connect(tmp_path / "s.db") as connection:
            rows = connection.execute(
                "SELECT rowid_, data FROM (SELECT number AS rowid_, data FROM changes)"
            ).fetchall()
            for number, data in rows:
                assert data.endswith(b",{}]")
                connection.execute("UPDATE changes SET data = ? WHERE number = ?", (data[:-4] + b"]", number))
        connection.close()
        caller.store = await again()
        caller.restart()
        event = await caller.begin()
        assert shown(event.initial_execution_state.operations)["s"] is OperationStatus.STARTED
        await caller.call(callback())
        await Outside(caller.service).succeed_callback(ID, None)


async def test_an_answer_that_could_not_be_stored_was_not_given():
    """The sender is told; it may try again."""
    store = FakeStore()
    caller, outside = await waiting(Caller(store))
    await caller.end()
    store.before = fail
    with pytest.raises(StoreError, match="no space left"):
        await outside.succeed_callback(ID, "1")
    store.before = fake_nothing
    assert shown(await caller.recorded()) == {"a": OperationStatus.STARTED}
    await outside.succeed_callback(ID, "2")
    (operation,) = await caller.recorded()
    assert operation.result == "2"


async def fake_nothing() -> None:
    """What a hook does by default."""


async def test_a_change_that_is_forgotten_with_the_state_is_looked_for():
    """A failing disk makes the service drop what it has in memory, and with it that somebody must be told."""
    store = FakeStore()
    caller, outside = await waiting(Caller(store))
    await caller.call(callback("b"))
    await outside.succeed_callback(ID, "1")
    store.before = fail
    with pytest.raises(StoreError):
        await outside.succeed_callback(callback_id("id-of-t-1", "b"), "1")
    store.before = fake_nothing
    assert await caller.end(accept_idle=False)
    assert await caller.service.next_due(caller.id) == caller.clock.now()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_sender_that_is_cancelled_does_not_disturb_the_invocation(when: str):
    """Its token stays good: the answer is recorded all the same, and told."""
    store = FakeStore()
    caller, outside = await waiting(Caller(store))
    scope = anyio.CancelScope()

    async def cancel() -> None:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()

    setattr(store, when, cancel)
    with scope:
        await outside.succeed_callback(ID, "1")
    setattr(store, when, fake_nothing)
    assert shown((await caller.call()).new_execution_state.operations) == {"a": ENDED}


# --- Stopping ----------------------------------------------------------------------------------------------------


async def test_a_stopped_execution_takes_nothing_more_from_anybody():
    """Its invocation's token is void, its callbacks are closed, and there is no further invocation."""
    caller, outside = await waiting()
    ended = await outside.stop(caller.id, OOPS)
    assert (ended.status, ended.error, ended.end_timestamp) == (ExecutionStatus.STOPPED, OOPS, caller.clock.now())
    for attempt in (caller.call(step(START, "s")), caller.call(), caller.begin()):
        with pytest.raises(StaleTokenError, match="the execution is STOPPED"):
            await attempt
    with pytest.raises(CallbackCompletedError, match="its execution 't-1' is STOPPED"):
        await outside.succeed_callback(ID, "1")
    await caller.end(SUCCEEDED)
    assert (await caller.service.record(caller.id)).status is ExecutionStatus.STOPPED
    assert shown(await caller.recorded()) == {"a": OperationStatus.STARTED}


async def test_stopping_what_is_over_changes_nothing():
    """How it ended stays, and no event is added."""
    caller, outside = await waiting()
    await caller.call(update(OperationType.EXECUTION, FAIL, "x"))
    before = await caller.service.history(caller.id)
    ended = await outside.stop(caller.id, ErrorObject(error_message="too late"))
    assert (ended.status, ended.error) == (ExecutionStatus.FAILED, OOPS)
    assert await caller.service.history(caller.id) == before


# --- Any order of everything -------------------------------------------------------------------------------------


class Function:
    """A function's side that believes only what it was told, over a store that fails now and then."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.store = FakeStore()
        self.caller = Caller(self.store)
        self.known: dict[str, Operation] = {}
        self.started = 0
        self.running = False
        self.answers: dict[str, str] = {}

    async def begin(self) -> None:
        event = await self.caller.begin()
        operations = event.initial_execution_state.operations
        self.known = {operation.id: operation for operation in operations}
        self.running = True

    async def call(self) -> None:
        updates = []
        if self.started < 12 and self.chance.random() < 0.5:
            self.started += 1
            updates = [callback(f"a-{self.started}", heartbeat=self.chance.choice([None, 2]))]
        try:
            answer = await self.caller.call(*updates)
        except (StoreError, StaleTokenError):
            self.started -= len(updates)
            await self.lose()
            return
        self.known.update({operation.id: operation for operation in answer.new_execution_state.operations})

    async def lose(self) -> None:
        """The invocation raised; another one follows."""
        self.store.before = fake_nothing
        await self.caller.end(OOPS)
        await self.begin()

    async def outside(self) -> None:
        outside = Outside(self.caller.service)
        number = self.chance.randint(1, max(1, self.started))
        name = callback_id("id-of-t-1", f"a-{number}")
        if self.chance.random() < 0.1:
            self.store.before = fail
        try:
            if self.chance.random() < 0.3:
                await outside.heartbeat_callback(name)
            else:
                result = str(self.chance.randrange(10**6))
                await outside.succeed_callback(name, result)
                assert f"a-{number}" not in self.answers
                self.answers[f"a-{number}"] = result
        except (CallbackCompletedError, CallbackNotFoundError, StoreError):
            pass
        self.store.before = fake_nothing

    async def suspend(self) -> None:
        """PENDING, and then what a driver does: invoke again as long as there is a reason."""
        await self.caller.end()
        self.running = False
        if self.chance.random() < 0.5:
            self.caller.service.forget(self.caller.id)


@pytest.mark.parametrize("seed", range(60))
async def test_at_rest_the_function_knows_everything(seed: int):
    """Whatever the order of calls, answers from outside, time, suspensions and failures of the store.

    When a driver would let it rest until something happens, what the last invocation was told is what is recorded.
    """
    function = Function(random.Random(seed))
    await function.caller.create()
    await function.begin()
    for _ in range(80):
        actions = [function.outside, function.call, function.suspend] if function.running else [function.outside]
        await function.chance.choice(actions)()
        function.caller.clock.move(function.chance.choice([0, 0, 0.5, 1]))
        if function.running:
            continue
        due = await function.caller.service.next_due(function.caller.id)
        if due is not None and due <= function.caller.clock.now():
            await function.begin()
            continue
        recorded = {operation.id: operation for operation in await function.caller.recorded()}
        assert {key: known for key, known in function.known.items() if key in recorded} == recorded
        if function.chance.random() < 0.5:
            await function.begin()
    recorded = {operation.id: operation for operation in await function.caller.recorded()}
    for key, result in function.answers.items():
        assert (recorded[key].status, recorded[key].result) == (ENDED, result)
