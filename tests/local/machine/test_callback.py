"""CALLBACK: the table, its two time limits, its id, and everything that is refused."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._wire import ErrorObject, OperationAction, OperationStatus, OperationType, OperationUpdate, Timestamp
from durable._wire.events import CallbackStartedDetails, EventType, FailureDetails, ResultDetails
from durable._wire.limits import MAX_CALLBACK_TIMEOUT_SECONDS
from durable._wire.operations import CallbackDetails
from durable._wire.updates import CallbackOptions
from durable.abc import Loaded
from durable.local.machine import callback as machine
from durable.local.machine.history import event_of
from durable.local.machine.state import ExecutionState, Transition
from tests.local.machine.bench import BEGIN, FAIL, OOPS, START, SUCCEED, Bench, context, execution, update, wait

CALLBACK = OperationType.CALLBACK
STARTED, SUCCEEDED, FAILED, TIMED_OUT = (
    OperationStatus.STARTED,
    OperationStatus.SUCCEEDED,
    OperationStatus.FAILED,
    OperationStatus.TIMED_OUT,
)


def callback(
    operation_id: str = "a",
    *,
    timeout: int | None = None,
    heartbeat: int | None = None,
    action: OperationAction = START,
    **fields: Any,
) -> OperationUpdate:
    options = CallbackOptions(timeout_seconds=timeout, heartbeat_timeout_seconds=heartbeat)
    given = {"sub_type": "Callback", "callback_options": options, **fields}
    return OperationUpdate(id=operation_id, type=CALLBACK, action=action, **given)


def answer(bench: Bench, status: OperationStatus, operation_id: str = "a", **outcome: Any) -> None:
    """The outside completes a callback."""
    forward = Transition()
    bench.state.advance(bench.now, forward)
    bench.state.end(bench[operation_id], status, bench.now, forward, **outcome)
    bench._take_over(forward)


def beat(bench: Bench, operation_id: str = "a") -> None:
    """The outside gives a sign of life."""
    forward = Transition()
    forward.extras[operation_id] = machine.beat(bench.state.extra_of(operation_id), bench.now)
    bench._take_over(forward)


def reload(bench: Bench) -> None:
    """The process ends, and another one reads what is recorded."""
    state = bench.state
    loaded = Loaded(
        execution=state.record,
        operations=list(state.operations.values()),
        events=1 + len(bench.events),
        changes=1 + len(bench.changes),
        extras=state.extras,
    )
    bench.state = ExecutionState(loaded)


# --- What a function may do ----------------------------------------------------------------------------------


def test_a_callback_is_started_with_an_id_of_the_service():
    """It is STARTED, knows its id and nothing else yet, and one event tells of it."""
    bench = Bench()
    bench.call(callback(name="approval"))
    assert bench["a"].status is STARTED
    assert bench["a"].callback_details == CallbackDetails(callback_id=machine.callback_id("e-1", "a"))
    assert [(kept.type, kept.operation_id) for kept in bench.events] == [(EventType.CALLBACK_STARTED, "a")]


@pytest.mark.parametrize("action", [action for action in OperationAction if action is not START])
@pytest.mark.parametrize("known", [False, True])
def test_a_function_can_only_start_it(action: OperationAction, known: bool):
    """Whoever completes it is outside."""
    bench = Bench()
    if known:
        bench.call(callback())
    assert "a CALLBACK has no such action" in bench.refuse(callback(action=action))


@pytest.mark.parametrize("status", [STARTED, SUCCEEDED, FAILED, TIMED_OUT])
def test_it_is_started_once(status: OperationStatus):
    """However it ended."""
    bench = Bench()
    bench.call(callback(timeout=1))
    if status is TIMED_OUT:
        bench.wait(1)
    elif status is not STARTED:
        answer(bench, status)
    assert f"the CALLBACK is {status}" in bench.refuse(callback())


@pytest.mark.parametrize("field", [{"payload": "1"}, {"error": OOPS}])
def test_a_start_carries_neither_payload_nor_error(field: dict[str, Any]):
    """They come from outside."""
    assert "neither Payload nor Error" in Bench().refuse(callback(**field))


@pytest.mark.parametrize("limit", ["timeout", "heartbeat"])
@pytest.mark.parametrize("seconds", [-1, MAX_CALLBACK_TIMEOUT_SECONDS + 1])
def test_a_time_limit_out_of_range_is_refused(limit: str, seconds: Any):
    """It says what is allowed."""
    assert "0, which is none, to 99,999,999 seconds" in Bench().refuse(callback(**{limit: seconds}))


@pytest.mark.parametrize("seconds", [None, 0])
def test_without_limits_time_changes_nothing(seconds: int | None):
    """Absent or 0: no timer; the function may suspend all the same."""
    bench = Bench()
    bench.call(callback(timeout=seconds, heartbeat=seconds))
    assert bench.state.next_due is None
    assert bench.state.is_waiting
    bench.wait(MAX_CALLBACK_TIMEOUT_SECONDS)
    assert bench["a"].status is STARTED


def test_absent_options_are_no_limits():
    """A START without CallbackOptions is legal."""
    bench = Bench()
    bench.call(update(CALLBACK, START))
    assert bench["a"].status is STARTED
    assert bench.state.next_due is None


def test_two_starts_of_one_id_in_a_call_are_refused():
    """As of any operation but a STEP or CONTEXT and its end."""
    assert "an id is twice in a call" in Bench().refuse(callback(), callback())


# --- What the outside does -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "outcome", "event"),
    [
        (SUCCEEDED, {"result": '"yes"'}, EventType.CALLBACK_SUCCEEDED),
        (SUCCEEDED, {"result": None}, EventType.CALLBACK_SUCCEEDED),
        (FAILED, {"error": OOPS}, EventType.CALLBACK_FAILED),
    ],
)
def test_an_answer_ends_it(status: OperationStatus, outcome: dict[str, Any], event: EventType):
    """The answer is kept as it came, beside the id; one event tells of it, and nothing is due any more."""
    bench = Bench()
    bench.call(callback(timeout=10, heartbeat=5))
    bench.wait(2)
    answer(bench, status, **outcome)
    operation = bench["a"]
    assert operation.status is status
    assert (operation.result, operation.error) == (outcome.get("result"), outcome.get("error"))
    assert operation.callback_details is not None
    assert operation.callback_details.callback_id == machine.callback_id("e-1", "a")
    assert (operation.start_timestamp, operation.end_timestamp) == (BEGIN, bench.now)
    assert [kept.type for kept in bench.events] == [EventType.CALLBACK_STARTED, event]
    assert bench.state.next_due is None
    assert not bench.state.is_waiting
    assert bench.state.why_closed(operation) == f"it is {status}"


def test_what_is_under_a_finished_context_is_closed():
    """Nobody waits for it: no answer, no timeout, and it is no reason to answer PENDING."""
    bench = Bench()
    bench.call(context(START, "c"), callback(timeout=5, parent_id="c"))
    assert bench.state.why_closed(bench["a"]) is None
    bench.call(context(SUCCEED, "c", replay_children=True))
    assert "waited for it has ended" in str(bench.state.why_closed(bench["a"]))
    assert bench.state.next_due is None
    assert not bench.state.is_waiting
    bench.wait(10)
    assert bench["a"].status is STARTED


def test_what_is_in_a_finished_execution_is_closed():
    """Whatever ended it."""
    bench = Bench()
    bench.call(callback(), update(OperationType.EXECUTION, FAIL, "x"))
    assert bench.state.why_closed(bench["a"]) == "its execution 't-1' is FAILED"


# --- Time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "error"),
    [
        ({"timeout": 10}, 10, machine.TIMED_OUT),
        ({"heartbeat": 10}, 10, machine.MISSED_HEARTBEAT),
        ({"timeout": 10, "heartbeat": 9}, 9, machine.MISSED_HEARTBEAT),
        ({"timeout": 10, "heartbeat": 10}, 10, machine.TIMED_OUT),
        ({"timeout": 10, "heartbeat": 11}, 10, machine.TIMED_OUT),
        ({"timeout": MAX_CALLBACK_TIMEOUT_SECONDS}, MAX_CALLBACK_TIMEOUT_SECONDS, machine.TIMED_OUT),
    ],
)
def test_the_earlier_limit_ends_it_on_the_millisecond(limits: dict[str, Any], seconds: int, error: ErrorObject):
    """Not a millisecond before; and the error says which of the two it was, as on AWS."""
    bench = Bench()
    bench.call(callback(**limits))
    assert bench.state.next_due == BEGIN + seconds * 1000
    bench.wait(seconds - 0.001)
    assert bench["a"].status is STARTED
    bench.wait(0.001)
    assert bench["a"].status is TIMED_OUT
    assert bench["a"].error == error
    assert [kept.type for kept in bench.events] == [EventType.CALLBACK_STARTED, EventType.CALLBACK_TIMED_OUT]
    assert bench.state.next_due is None


def test_the_two_errors_are_those_of_aws():
    """By their types functions tell the limits apart."""
    assert (machine.TIMED_OUT.error_type, machine.TIMED_OUT.error_message) == (
        "Callback.Timeout",
        "Callback timed out",
    )
    assert (machine.MISSED_HEARTBEAT.error_type, machine.MISSED_HEARTBEAT.error_message) == (
        "Callback.Heartbeat",
        "Callback timed out on heartbeat",
    )


def test_which_limit_was_reached_first_counts_when_nobody_looked():
    """The engine was away while both passed."""
    bench = Bench()
    bench.call(callback(timeout=20, heartbeat=5))
    bench.wait(1000)
    assert bench["a"].error == machine.MISSED_HEARTBEAT
    assert bench["a"].end_timestamp == bench.now


@pytest.mark.parametrize("restart", [False, True])
def test_a_heartbeat_puts_its_limit_off(restart: bool):
    """By the whole time, from now on, and for as long as the other limit lets it; a restart makes no difference."""
    bench = Bench()
    bench.call(callback(timeout=20, heartbeat=5))
    for _ in range(4):
        bench.wait(4.9)
        beat(bench)
        if restart:
            reload(bench)
        assert bench["a"].status is STARTED
        assert bench.state.next_due == min(bench.now + 5_000, BEGIN + 20_000)
    bench.wait(0.4)
    assert bench["a"].error == machine.TIMED_OUT


def test_a_heartbeat_that_stops_is_missed():
    """The last one counts."""
    bench = Bench()
    bench.call(callback(heartbeat=5))
    bench.wait(3)
    beat(bench)
    bench.wait(4.999)
    assert bench["a"].status is STARTED
    bench.wait(0.001)
    assert bench["a"].error == machine.MISSED_HEARTBEAT


def test_a_limit_that_was_put_off_and_passed_is_seen_whatever_else_is_due():
    """The timer is still where it was before the heartbeat; events come in the order of what was due."""
    bench = Bench()
    bench.call(wait(START, "w", seconds=4), callback(heartbeat=5), wait(START, "v", seconds=6))
    bench.wait(2)
    beat(bench)
    bench.wait(100)
    assert bench["w"].status is SUCCEEDED
    assert bench["a"].error == machine.MISSED_HEARTBEAT
    assert [kept.operation_id for kept in bench.events[-3:]] == ["w", "v", "a"]


def test_a_heartbeat_without_a_limit_changes_nothing():
    """It is accepted, as the sender need not know."""
    bench = Bench()
    bench.call(callback(timeout=5))
    extra = bench.state.extra_of("a")
    assert machine.beat(extra, Timestamp(BEGIN + 4000)) == extra


def test_a_clock_that_was_set_back_takes_no_time_away():
    """The limit stays where the heartbeat before had put it."""
    bench = Bench()
    bench.call(callback(heartbeat=60))
    bench.now = Timestamp(bench.now - 3_600_000)
    beat(bench)
    assert bench.state.next_due == BEGIN + 60_000


def test_many_heartbeats_leave_one_timer():
    """Ten thousand of them cost no memory."""
    bench = Bench()
    bench.call(callback(heartbeat=5))
    for _ in range(10_000):
        bench.now = Timestamp(bench.now + 10)
        beat(bench)
        assert bench.state.next_due is not None
    assert len(bench.state._timers) == 1


@pytest.mark.parametrize("seed", range(10))
def test_any_order_of_beats_and_time(seed: int):
    """A model of a few lines agrees, whenever it is asked."""
    chance = random.Random(seed)
    for _ in range(30):
        timeout, heartbeat = (chance.choice([None, chance.randint(1, 30)]) for _ in range(2))
        bench = Bench()
        bench.call(callback(timeout=timeout, heartbeat=heartbeat))
        never = 10**18
        end = never if timeout is None else BEGIN + timeout * 1000
        next_beat = never if heartbeat is None else BEGIN + heartbeat * 1000
        while bench["a"].status is STARTED and bench.now < BEGIN + 60_000:
            assert bench.now < min(end, next_beat)
            assert bench.state.next_due == (None if min(end, next_beat) == never else min(end, next_beat))
            if chance.random() < 0.5 and heartbeat is not None:
                beat(bench)
                next_beat = bench.now + heartbeat * 1000
            if chance.random() < 0.2:
                reload(bench)
            bench.wait(chance.choice([0.001, 0.5, 1, 3, 7]))
        if bench["a"].status is TIMED_OUT:
            assert bench.now >= min(end, next_beat)
            missed = next_beat < end
            assert bench["a"].error == (machine.MISSED_HEARTBEAT if missed else machine.TIMED_OUT)


# --- Its id --------------------------------------------------------------------------------------------------

IDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=64)


@given(IDS, IDS)
def test_an_id_names_its_callback_and_fits_everywhere(execution_id: str, operation_id: str):
    """It is what the service's model allows, goes into an URL as it is, and leads back."""
    text = machine.callback_id(execution_id, operation_id)
    assert text.isalnum()
    assert text.isascii()
    assert len(text) <= 1024
    assert machine.named_by(text) == (execution_id, operation_id)


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9+/]{1,40}={0,2}", fullmatch=True))
def test_any_other_text_names_nothing_or_what_it_says(text: str):
    """Never an exception; two texts of one callback are told apart by the callback itself."""
    named = machine.named_by(text)
    if named is not None:
        assert machine.named_by(machine.callback_id(*named)) == named


@pytest.mark.parametrize(
    "text", ["", "=", "YQ", "!!!", "YS9i=", "YQ==", "a" * 1025, "ä", "YS9iL2M", "Lw", "YS8", "L2E"]
)
def test_malformed_ids_name_nothing(text: str):
    """Not base64, too long, or not two ids."""
    assert machine.named_by(text) is None


# --- History -------------------------------------------------------------------------------------------------


def test_history_tells_the_limits_and_the_outcome():
    """The start has the id and the limits, the end what came of it."""
    bench = Bench()
    bench.call(callback("a", timeout=60, heartbeat=5), callback("b"), callback("c", timeout=1), callback("d"))
    answer(bench, SUCCEEDED, "b", result='"yes"')
    answer(bench, FAILED, "d", error=OOPS)
    bench.wait(1)
    state = bench.state
    told = [
        event_of(number, kept, execution(), state.operations, state.extras)
        for number, kept in enumerate(bench.events)
    ]
    first, second = told[0].details, told[1].details
    assert first == CallbackStartedDetails(
        callback_id=machine.callback_id("e-1", "a"), heartbeat_timeout=5, timeout=60
    )
    assert second == CallbackStartedDetails(callback_id=machine.callback_id("e-1", "b"))
    succeeded, failed, timed_out = (event.details for event in told[4:])
    assert isinstance(succeeded, ResultDetails)
    assert succeeded.result.payload == '"yes"'
    assert isinstance(failed, FailureDetails)
    assert failed.error is not None
    assert failed.error.payload == OOPS
    assert isinstance(timed_out, FailureDetails)
    assert timed_out.error is not None
    assert timed_out.error.payload == machine.TIMED_OUT
