"""The service, called by hand: whose turn it is, all or nothing, pages, and how an invocation begins and ends."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from durable._wire import (
    ExecutionStatus,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationStatus,
    OperationType,
)
from durable._wire.events import EventType
from durable.exceptions import ExecutionNotFoundError, ServiceError, StaleTokenError, StoreError
from durable.local.machine.rules import RefusedUpdateError
from durable.local.tokens import Token
from tests.local.fakes import PENDING, SUCCEEDED, Caller, FakeStore, fail, nothing
from tests.local.machine.bench import FAIL, OOPS, START, SUCCEED, context, retry, step, update, wait

pytestmark = pytest.mark.anyio

ENDED = OperationStatus.SUCCEEDED


async def begun(**options: Any) -> Caller:
    """An execution in its first invocation."""
    caller = Caller(**options)
    await caller.create()
    return caller


async def refused(attempt: Coroutine[Any, Any, Any], because: str) -> None:
    with pytest.raises(
        StaleTokenError, match=f"^InvalidParameterValueException: Invalid checkpoint token: {because}"
    ):
        await attempt


# --- Whose turn it is ----------------------------------------------------------------------------------------


async def test_a_token_is_good_for_one_call():
    """Each answer brings the next one; the one before is used up, whatever comes with it."""
    caller = await begun()
    first = caller.token
    await caller.call(step(START))
    await refused(caller.call(step(SUCCEED), token=first), "it has been used")
    await refused(caller.call(token=first), "it has been used")
    await caller.call(step(SUCCEED))
    assert [operation.status for operation in await caller.recorded()] == [ENDED]


async def test_a_repeat_gets_the_first_answer_again():
    """The lost answer is given once more, and nothing is applied twice; however often it is asked for."""
    caller = await begun()
    token = caller.token
    first = await caller.call(step(START), wait(START, "w"), client_token="same")
    for _ in range(3):
        assert await caller.call(step(START), wait(START, "w"), token=token, client_token="same") == first
    assert len(await caller.recorded()) == 2
    await caller.call(step(SUCCEED))
    await refused(caller.call(step(START), token=token, client_token="same"), "it has been used")


async def test_a_repeat_of_a_poll_gets_what_it_told():
    """What fell due is told again, or it would be lost on the function."""
    caller = await begun()
    await caller.call(wait(START, seconds=5))
    caller.clock.move(5)
    token = caller.token
    first = await caller.call(client_token="poll")
    assert [operation.status for operation in first.new_execution_state.operations] == [ENDED]
    assert await caller.call(token=token, client_token="poll") == first


async def test_a_client_token_alone_repeats_nothing():
    """The same ClientToken with the next checkpoint token is another call."""
    caller = await begun()
    await caller.call(step(START, "a"), client_token="same")
    await caller.call(step(START, "b"), client_token="same")
    assert [operation.id for operation in await caller.recorded()] == ["a", "b"]


async def test_a_refused_call_uses_up_nothing():
    """The token is good for the next try."""
    caller = await begun()
    token = caller.token
    with pytest.raises(RefusedUpdateError):
        await caller.call(step(START), step(START, "b", parent_id="nobody"))
    assert await caller.recorded() == []
    await caller.call(step(START), token=token)


async def test_a_refused_call_takes_no_timer_away():
    """A wait that fell due in it is over in the next call, and the execution is not left waiting for ever."""
    caller = await begun()
    await caller.call(wait(START, "w", seconds=5))
    caller.clock.move(5)
    with pytest.raises(RefusedUpdateError):
        await caller.call(step(START, "b", parent_id="nobody"))
    assert await caller.service.next_due(caller.id) == caller.clock.now()
    answer = await caller.call()
    assert [operation.id for operation in answer.new_execution_state.operations] == ["w"]


async def test_a_new_invocation_makes_every_token_before_stale():
    """Used ones, unused ones, and a repeat with the last ClientToken."""
    caller = await begun()
    used = caller.token
    await caller.call(step(START), client_token="last")
    unused = caller.token
    await caller.begin()
    await refused(caller.call(step(SUCCEED), token=unused), "another invocation has begun")
    await refused(caller.call(step(START), token=used, client_token="last"), "another invocation has begun")
    with pytest.raises(StaleTokenError):
        await caller.service.get_state(caller.arn, unused, "", 10)
    await caller.call(step(SUCCEED))


async def test_a_token_ends_with_its_invocation():
    """Whoever has answered can write nothing more, and not be repeated either."""
    for outcome in (PENDING, SUCCEEDED, OOPS):
        caller = await begun(name=f"t-{outcome}")
        token = caller.token
        await caller.call(wait(START, seconds=50), client_token="last")
        await caller.end(outcome)
        for stale in (caller.token, token):
            with pytest.raises(StaleTokenError, match="Invalid checkpoint token"):
                await caller.call(step(START, "late"), token=stale, client_token="last")
        assert [operation.id for operation in await caller.recorded()] == ["a"]


async def test_nobody_has_a_turn_before_the_first_invocation():
    """No token is good then; nor is an empty one ever."""
    caller = Caller()
    await caller.service.create(caller.record)
    for token in ("", Token(caller.id, 0, 0).encode(), Token(caller.id, 1, 0).encode()):
        with pytest.raises(StaleTokenError):
            await caller.call(step(START), token=token)
    await caller.begin()
    with pytest.raises(StaleTokenError):
        await caller.call(step(START), token="")


async def test_a_token_is_stale_after_a_restart():
    """The process that had it is gone, for all that the next one knows."""
    caller = await begun()
    await caller.call(step(START))
    caller.restart()
    await refused(caller.call(step(SUCCEED)), "it has been used")
    await caller.begin()
    await caller.call(step(SUCCEED))


@pytest.mark.parametrize("token", ["", "x", "AAAA", "ä", Token("other", 1, 0).encode()])
async def test_what_was_never_a_token_of_this_execution(token: str):
    """Malformed or another's: nothing is written, and whoever has it is told to stop."""
    caller = await begun()
    with pytest.raises(StaleTokenError, match="Invalid checkpoint token"):
        await caller.call(step(START), token=token)
    assert await caller.recorded() == []


async def test_another_executions_token():
    """It writes neither to the one nor to the other."""
    store = FakeStore()
    one, two = Caller(store, name="one"), Caller(store, name="two")
    two.service = one.service
    await one.create()
    await two.create()
    await refused(one.call(step(START), token=two.token), "it is another execution's")
    await two.call(step(START))
    assert await one.recorded() == []


async def test_an_execution_that_does_not_exist():
    """A call about it fails for good, as the service has it; for the engine it is a name that nobody has."""
    caller = Caller()
    for attempt in (caller.call(step(START)), caller.service.get_state(caller.arn, "AAAA", "", 10)):
        with pytest.raises(ServiceError, match=r"^ResourceNotFoundException: there is no execution arn:") as raised:
            await attempt
        assert not raised.value.retryable
    with pytest.raises(ExecutionNotFoundError):
        await caller.service.record(caller.id)


async def test_an_arn_that_only_ends_alike():
    """The id is not enough."""
    caller = await begun()
    caller.arn = f"arn:somebody-elses/{caller.id}"
    await refused(caller.call(step(START)), "it is another execution's")
    caller.arn = caller.record.arn
    await caller.call(step(START))


@pytest.mark.parametrize("seed", range(20))
async def test_two_invocations_at_once(seed: int):
    """Only the newer one writes, in whatever order their calls come; its own record has no hole and no guest."""
    rng = random.Random(seed)
    caller = await begun()
    older = caller.token
    await caller.call(step(START, "before"))
    older_now = caller.token
    await caller.begin()
    written = ["before"]

    async def newer() -> None:
        for number in range(10):
            for _ in range(rng.randrange(3)):
                await anyio.lowlevel.checkpoint()
            await caller.call(step(START, f"new-{number}"))
            written.append(f"new-{number}")

    async def zombie() -> None:
        for number in range(10):
            for _ in range(rng.randrange(3)):
                await anyio.lowlevel.checkpoint()
            with pytest.raises(StaleTokenError):
                await caller.call(step(START, f"old-{number}"), token=rng.choice([older, older_now]))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(newer)
        tasks.start_soon(zombie)
    assert [operation.id for operation in await caller.recorded()] == written


# --- Calls ---------------------------------------------------------------------------------------------------


async def test_a_poll_tells_what_changed_since():
    """And commits nothing if nothing did."""
    store = FakeStore()
    caller = await begun(store=store)
    await caller.call(wait(START, "w", seconds=5), retry(3, "s"))
    commits = store.commits
    for seconds, expected in ((2, []), (1, ["s"]), (0, []), (2, ["w"]), (100, [])):
        caller.clock.move(seconds)
        answer = await caller.call()
        assert [operation.id for operation in answer.new_execution_state.operations] == expected
    assert store.commits == commits + 2


async def test_a_call_tells_what_it_changed_and_what_time_did():
    """Each operation whole."""
    caller = await begun()
    await caller.call(wait(START, "w", seconds=5))
    caller.clock.move(5)
    answer = await caller.call(step(START), step(SUCCEED, payload="1"))
    told = {operation.id: operation for operation in answer.new_execution_state.operations}
    assert set(told) == {"w", "a"}
    assert list(told.values()) == sorted(
        await caller.recorded(), key=lambda operation: list(told).index(operation.id)
    )


async def test_the_call_that_ends_the_execution_brings_no_token():
    """There is nothing more to write."""
    caller = await begun()
    answer = await caller.call(update(OperationType.EXECUTION, SUCCEED, "execution-result-1", payload="7"))
    assert answer.checkpoint_token is None
    assert (await caller.service.record(caller.id)).result == "7"
    assert await caller.end(InvocationOutput(status=InvocationStatus.SUCCEEDED, result=""))
    record = await caller.service.record(caller.id)
    assert (record.status, record.result) == (ExecutionStatus.SUCCEEDED, "7")


# --- Pages ---------------------------------------------------------------------------------------------------


async def pages(caller: Caller, marker: str | None, size: int, first: tuple[Operation, ...] = ()) -> list[str]:
    found = [operation.id for operation in first]
    while marker is not None:
        page = await caller.service.get_state(caller.arn, caller.token, marker, size)
        assert 1 <= len(page.operations) <= size
        found.extend(operation.id for operation in page.operations)
        marker = page.next_marker
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 1000])
async def test_pages_hold_each_operation_once_in_order(size: int):
    """The EXECUTION first; what a finished context hides is on none of them."""
    caller = await begun(page_size=size)
    await caller.call(context(START, "p"), *(step(START, f"p-{n}", parent_id="p") for n in range(3)))
    await caller.call(context(SUCCEED, "p"), *(step(START, f"s-{n}") for n in range(5)))
    expected = [caller.id, "p", *(f"s-{n}" for n in range(5))]
    assert await pages(caller, "", size) == expected
    state = (await caller.begin()).initial_execution_state
    assert len(state.operations) == min(size, len(expected))
    assert await pages(caller, state.next_marker, size, state.operations) == expected
    assert await pages(caller, state.next_marker, 2, state.operations) == expected


async def test_pages_are_read_with_the_new_token():
    """Which stays good; the one before does not."""
    caller = await begun()
    old = caller.token
    await caller.call(step(START))
    with pytest.raises(StaleTokenError):
        await caller.service.get_state(caller.arn, old, "", 10)
    for _ in range(3):
        await caller.service.get_state(caller.arn, caller.token, "", 10)
    await caller.call(step(SUCCEED))


@pytest.mark.parametrize("size", [0, 1001, -1])
async def test_a_page_of_an_impossible_size(size: int):
    """MaxItems is 1 to 1,000."""
    caller = await begun()
    with pytest.raises(RefusedUpdateError, match="MaxItems is 1 to 1000"):
        await caller.service.get_state(caller.arn, caller.token, "", size)
    await caller.call(step(START))


@pytest.mark.parametrize("marker", ["x", "-1", "1.5", " 1", "1\n", "٣", "9" * 5000, "\udcff"])
async def test_a_marker_that_is_none(marker: str):
    """Refused, and not taken for a place."""
    caller = await begun()
    with pytest.raises(RefusedUpdateError, match="the Marker is none of this service's"):
        await caller.service.get_state(caller.arn, caller.token, marker, 10)


async def test_a_marker_behind_the_end():
    """An empty page, and no further one."""
    caller = await begun()
    page = await caller.service.get_state(caller.arn, caller.token, "99", 10)
    assert (page.operations, page.next_marker) == ((), None)


# --- Invocations ---------------------------------------------------------------------------------------------


async def test_an_invocation_begins_with_the_input_and_what_changed():
    """Each one is counted; a wait that fell due meanwhile is among the updated ids."""
    caller = Caller()
    event = await caller.create()
    (execution,) = event.initial_execution_state.operations
    assert execution.execution_details is not None
    assert (execution.id, execution.execution_details.input_payload) == (event.execution_operation_id, "null")
    assert event.updated_operation_ids is None
    await caller.call(wait(START, "w", seconds=5), wait(START, "x", seconds=6))
    await caller.end()
    caller.clock.move(5)
    event = await caller.begin()
    assert event.updated_operation_ids == ("w",)
    statuses = {operation.id: operation.status for operation in event.initial_execution_state.operations}
    assert (statuses["w"], statuses["x"]) == (ENDED, OperationStatus.STARTED)
    assert (await caller.service.record(caller.id)).invocations == 2


@pytest.mark.parametrize(
    ("output", "status"),
    [
        (SUCCEEDED, ExecutionStatus.SUCCEEDED),
        (InvocationOutput(status=InvocationStatus.SUCCEEDED), ExecutionStatus.SUCCEEDED),
        (InvocationOutput(status=InvocationStatus.FAILED, error=OOPS), ExecutionStatus.FAILED),
        (InvocationOutput(status=InvocationStatus.FAILED), ExecutionStatus.FAILED),
    ],
)
async def test_an_answer_that_ends_the_execution(output: InvocationOutput, status: ExecutionStatus):
    """With its result or error, durable when the answer has been taken."""
    caller = await begun()
    caller.clock.move(1)
    assert await caller.end(output)
    kept = await caller.store.find("t-1")
    assert kept == await caller.service.record(caller.id)
    assert kept is not None
    assert (kept.status, kept.result, kept.error) == (status, output.result, output.error)
    assert kept.end_timestamp == caller.clock.now()


async def test_pending_is_fine_while_something_is_pending():
    """A timer or a retry; the execution waits for it."""
    for waiting in (wait(START, seconds=5), retry(5)):
        caller = await begun()
        await caller.call(waiting)
        assert await caller.end(accept_idle=False)
        assert await caller.service.next_due(caller.id) == caller.clock.now() + 5000


@pytest.mark.parametrize(
    "way",
    [
        [],
        [step(START)],
        [context(START)],
        [context(START), wait(START, "w", seconds=500, parent_id="a"), context(FAIL)],
    ],
    ids=["nothing", "a step that runs", "a context", "what is cut off"],
)
async def test_pending_is_nonsense_while_nothing_is_pending(way: list[Any]):
    """It is let pass as long as the engine says so, and then the execution fails."""
    caller = await begun()
    await caller.call(*way)
    assert not await caller.end()
    assert (await caller.service.record(caller.id)).status is ExecutionStatus.RUNNING
    await caller.begin()
    assert not await caller.end(accept_idle=False)
    record = await caller.service.record(caller.id)
    assert record.status is ExecutionStatus.FAILED
    assert record.error is not None
    assert record.error.error_message == "the function answered PENDING although nothing is pending"


async def test_what_falls_due_before_the_invocation_ends():
    """It made sense to wait for it, and the next invocation is due at once: nothing else would bring it."""
    caller = await begun()
    await caller.call(wait(START, seconds=1))
    caller.clock.move(2)
    assert await caller.end(accept_idle=False)
    due = await caller.service.next_due(caller.id)
    assert due is not None
    assert due <= caller.clock.now()
    event = await caller.begin()
    assert event.updated_operation_ids == ("a",)


async def test_what_fell_due_in_the_last_call():
    """The function may have stopped before it read the answer: it is invoked again, also if it waits for more."""
    for also in ([], [wait(START, "year", seconds=31_622_400)]):
        caller = await begun()
        await caller.call(wait(START, seconds=1), *also)
        caller.clock.move(1)
        await caller.call(step(START, "other"))
        assert await caller.end(accept_idle=False)
        assert await caller.service.next_due(caller.id) == caller.clock.now()
        await caller.begin()
        assert await caller.end() is bool(also)
        due = await caller.service.next_due(caller.id)
        assert due is None or due > caller.clock.now() + 10**9


async def test_an_invocation_that_raised():
    """Nothing ends; what it raised is in the history."""
    caller = await begun()
    began = caller.clock.now()
    caller.clock.move(2)
    assert not await caller.end(OOPS)
    assert (await caller.service.record(caller.id)).status is ExecutionStatus.RUNNING
    event = (await caller.service.history(caller.id))[-1]
    assert event.event_type is EventType.INVOCATION_COMPLETED
    assert event.invocation_completed_details is not None
    assert event.invocation_completed_details.start_timestamp == began
    assert event.invocation_completed_details.end_timestamp == caller.clock.now()
    assert event.invocation_completed_details.error is not None
    assert event.invocation_completed_details.error.payload == OOPS


async def test_history_is_numbered_from_one_without_gaps():
    """From whichever event it is asked for."""
    caller = await begun()
    await caller.call(step(START), retry(1))
    caller.clock.move(1)
    await caller.call(step(START), step(SUCCEED))
    await caller.end(SUCCEEDED)
    whole = list(await caller.service.history(caller.id))
    assert [event.event_id for event in whole] == list(range(1, 8))
    for after in range(9):
        assert list(await caller.service.history(caller.id, after)) == whole[after:]


# --- When the store fails, or whoever waits is cancelled -----------------------------------------------------


async def test_a_store_that_fails_leaves_everything_as_it_was():
    """The state is read again; the next invocation goes on as if the call had never been made."""
    store = FakeStore()
    caller = await begun(store=store)
    await caller.call(step(START, "a"))
    store.before = fail
    with pytest.raises(StoreError, match="no space left"):
        await caller.call(step(SUCCEED, "a"), step(START, "b"))
    with pytest.raises(StoreError, match="no space left"):
        await caller.service.begin_invocation(caller.id)
    store.before = nothing
    with pytest.raises(StaleTokenError):
        await caller.call(step(SUCCEED, "a"))
    await caller.begin()
    await caller.call(step(SUCCEED, "a"), step(START, "b"))
    assert [operation.status for operation in await caller.recorded()] == [ENDED, OperationStatus.STARTED]


async def test_a_store_that_fails_to_say_that_it_did_not_fail():
    """What was committed counts: the next invocation sees it."""
    store = FakeStore()
    caller = await begun(store=store)
    store.after = fail
    with pytest.raises(StoreError):
        await caller.call(step(START), step(SUCCEED, payload="1"))
    store.after = nothing
    event = await caller.begin()
    assert [operation.result for operation in event.initial_execution_state.operations[1:]] == ["1"]
    assert [event.event_id for event in await caller.service.history(caller.id)] == [1, 2, 3]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancellation_in_the_middle_of_a_commit(when: str):
    """Whether it was applied or not, the next invocation sees what the store has, and nobody waits for ever."""
    store = FakeStore()
    caller = await begun(store=store)
    setattr(store, when, anyio.sleep_forever)
    waited = []

    async def next_in_line() -> None:
        waited.append(await caller.service.record(caller.id))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:
                inner.start_soon(caller.call, step(START))
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(next_in_line)
                await anyio.wait_all_tasks_blocked()
                assert not waited
                scope.cancel()
    assert waited
    setattr(store, when, nothing)
    event = await caller.begin()
    applied = [operation.id for operation in event.initial_execution_state.operations[1:]]
    assert applied == (["a"] if when == "after" else [])
    await caller.call(step(START, "b"))
    numbers = [event.event_id for event in await caller.service.history(caller.id)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_whoever_waits_for_his_turn_may_be_cancelled():
    """The others go on."""
    store = FakeStore()
    caller = await begun(store=store)
    gate = anyio.Event()
    store.before = gate.wait
    done: list[str] = []

    async def ask(name: str) -> None:
        await caller.service.record(caller.id)
        done.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.call, step(START))
        await anyio.wait_all_tasks_blocked()
        scopes = []
        for number in range(3):
            scope = anyio.CancelScope()
            scopes.append(scope)
            tasks.start_soon(_under, scope, ask, f"{number}")
        await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        assert not done
        gate.set()
    assert sorted(done) == ["0", "2"]


async def _under(scope: anyio.CancelScope, function: Callable[[str], Coroutine[Any, Any, None]], name: str) -> None:
    with scope:
        await function(name)


async def test_calls_at_once_are_applied_one_after_another():
    """On one execution, with its one token: exactly one gets through, the others are told."""
    caller = await begun()
    outcomes: list[str] = []

    async def attempt(number: int) -> None:
        try:
            await caller.call(step(START, f"s-{number}"), token=token, client_token=f"c-{number}")
        except StaleTokenError:
            outcomes.append("stale")
        else:
            outcomes.append(f"s-{number}")

    token = caller.token
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(attempt, number)
    assert outcomes.count("stale") == 9
    assert [operation.id for operation in await caller.recorded()] == [name for name in outcomes if name != "stale"]


async def test_many_executions_do_not_wait_for_each_other():
    """A slow commit of one holds up nobody else."""
    store = FakeStore()
    slow, quick = Caller(store, name="slow"), Caller(store, name="quick")
    quick.service = slow.service
    await slow.create()
    await quick.create()
    gate = anyio.Event()
    store.before = gate.wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow.call, step(START))
        await anyio.wait_all_tasks_blocked()
        store.before = nothing
        for number in range(3):
            await quick.call(step(START, f"s-{number}"))
        assert len(await slow.recorded()) == 0
        gate.set()
    assert len(await slow.recorded()) == 1


# --- Memory --------------------------------------------------------------------------------------------------


async def test_what_is_forgotten_is_read_again():
    """As it was; nothing of it stays in memory meanwhile."""
    store = FakeStore()
    caller = await begun(store=store)
    await caller.call(step(START), wait(START, "w", seconds=5))
    await caller.end()
    loads = store.loads
    caller.service.forget(caller.id)
    assert caller.service._live == {}
    assert await caller.service.next_due(caller.id) == caller.clock.now() + 5000
    assert store.loads == loads + 1
    caller.clock.move(5)
    event = await caller.begin()
    assert event.updated_operation_ids == ("w",)


async def test_an_invocation_that_is_under_way_is_not_forgotten():
    """Its token stays good."""
    caller = await begun()
    caller.service.forget(caller.id)
    await caller.call(step(START))
    caller.service.forget("nobody")


async def test_an_invocation_that_is_just_beginning_is_not_forgotten():
    """Nor one whose answer is just being recorded."""
    store = FakeStore()
    caller = await begun(store=store)
    await caller.end()
    gate = anyio.Event()
    store.before = gate.wait
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.begin)
        await anyio.wait_all_tasks_blocked()
        caller.service.forget(caller.id)
        gate.set()
    await caller.call(step(START))


async def test_an_execution_is_read_once_by_all_who_ask_at_once():
    """Whoever comes later finds the state of whoever came first, not one of his own."""
    store = FakeStore()
    caller = await begun(store=store)
    await caller.end()
    caller.service.forget(caller.id)
    assert caller.service._live == {}
    gates = [anyio.Event() for _ in range(3)]
    numbers = itertools.count()

    async def slowly() -> None:
        await gates[next(numbers)].wait()

    store.before_load = slowly
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller.begin)
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            tasks.start_soon(caller.service.record, caller.id)
        await anyio.wait_all_tasks_blocked()
        for gate in gates:
            gate.set()
            await anyio.wait_all_tasks_blocked()
    await caller.call(step(START))


async def test_news():
    """Whoever waits is woken by what is committed, and by nothing else."""
    caller = await begun()
    news = caller.service.news(caller.id)
    assert caller.service.news(caller.id) is news
    await caller.call()
    await caller.service.record(caller.id)
    assert not news.is_set()
    await caller.call(step(START))
    assert news.is_set()
    assert caller.service.news(caller.id) is not news
