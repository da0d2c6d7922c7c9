"""One execution as a whole: what concerns more than one operation, and the passing of time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from durable._wire import OperationAction, OperationStatus, OperationType, OperationUpdate, Timestamp
from durable.abc import Loaded
from durable.local.machine.state import ExecutionState, Transition
from tests.local.machine.bench import (
    BEGIN,
    CANCEL,
    CONTEXT,
    FAIL,
    RETRY,
    START,
    STEP,
    SUCCEED,
    WAIT,
    Bench,
    context,
    execution,
    retry,
    step,
    update,
    wait,
)

SUCCEEDED = OperationStatus.SUCCEEDED
TraceFunction = Callable[[FrameType, str, Any], Any]


# --- A call --------------------------------------------------------------------------------------------------


def test_a_call_has_at_most_250_updates():
    """All of 250 are taken, none of 251."""
    updates = [step(START, f"s-{number}") for number in range(251)]
    bench = Bench()
    assert "a call has at most 250 updates, this one 251" in bench.refuse(*updates)
    bench.call(*updates[:250])
    assert list(bench.state.operations) == [f"s-{number}" for number in range(250)]


def test_a_call_is_applied_in_order():
    """Operations and events are in the order of the updates."""
    bench = Bench()
    bench.call(step(START, "b"), context(START, "a"), step(SUCCEED, "b"), wait(START, "c", parent_id="a"))
    assert list(bench.state.operations) == ["b", "a", "c"]
    assert [event.operation_id for event in bench.events] == ["b", "a", "b", "c"]
    (change,) = bench.changes
    assert (change.number, change.first_event) == (2, 2)
    assert [operation.id for operation in change.operations] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "last",
    [
        step(START, "b", parent_id="nobody"),
        step(START, "x y"),
        step(START, "known"),
        wait(START, "b", seconds=0),
        update(OperationType.EXECUTION, OperationAction.START, "b"),
    ],
    ids=["parent", "id", "again", "delay", "execution"],
)
def test_a_call_is_applied_as_a_whole_or_not_at_all(last: OperationUpdate):
    """One bad update at the end of many, and nothing of them happened."""
    bench = Bench()
    bench.call(step(START, "known"), wait(START, "w", seconds=5))
    bench.refuse(step(SUCCEED, "known"), context(START, "a"), step(START, "s", parent_id="a"), last)
    bench.call(step(SUCCEED, "known"), context(START, "a"), step(START, "s", parent_id="a"))


PAIRS_ALLOWED = {
    (STEP, START, SUCCEED),
    (STEP, START, FAIL),
    (STEP, START, RETRY),
    (CONTEXT, START, SUCCEED),
    (CONTEXT, START, FAIL),
}


@pytest.mark.parametrize("second", OperationAction)
@pytest.mark.parametrize("first", OperationAction)
@pytest.mark.parametrize("kind", [STEP, CONTEXT, WAIT])
def test_an_id_twice_in_a_call(kind: OperationType, first: OperationAction, second: OperationAction):
    """Only as START and the end of the same STEP or CONTEXT."""
    bench = Bench()
    updates = update(kind, first), update(kind, second)
    if (kind, first, second) in PAIRS_ALLOWED:
        bench.call(*updates)
    else:
        bench.refuse(*updates)


@pytest.mark.parametrize("kind", [STEP, CONTEXT])
def test_an_id_a_third_time_in_a_call(kind: OperationType):
    """Twice is the most."""
    bench = Bench()
    updates = [update(kind, action) for action in (START, SUCCEED, SUCCEED)]
    assert "an id is twice in a call only as" in bench.refuse(*updates)
    assert "an id is twice in a call only as" in bench.refuse(*updates[:2], update(kind, START))


def test_a_wait_does_not_start_and_end_in_one_call():
    """What was never waited for is not recorded at all."""
    assert "an id is twice in a call only as" in Bench().refuse(wait(START), wait(CANCEL))


# --- Parents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [STEP, WAIT, CONTEXT])
def test_a_parent_must_have_been_started(kind: OperationType):
    """Before, or earlier in the call; not later in it."""
    child = update(kind, START, "a", parent_id="p")
    bench = Bench()
    assert "the parent p is not a CONTEXT that has been started" in bench.refuse(child)
    assert "the parent p is not a CONTEXT" in bench.refuse(child, context(START, "p"))
    bench.call(context(START, "p"), child)
    bench.call(update(kind, START, "b", parent_id="p"))


@pytest.mark.parametrize("kind", [STEP, WAIT])
def test_a_parent_is_a_context(kind: OperationType):
    """Nothing happens under a step or a wait; nor is anything its own parent."""
    bench = Bench()
    bench.call(update(kind, START, "p"))
    assert "the parent p is not a CONTEXT" in bench.refuse(step(START, "a", parent_id="p"))
    assert "the parent a is not a CONTEXT" in bench.refuse(context(START, "a", parent_id="a"))
    assert "the parent e-1 is not a CONTEXT" in bench.refuse(step(START, "a", parent_id="e-1"))


@pytest.mark.parametrize("end", [SUCCEED, FAIL])
@pytest.mark.parametrize("ended", ["g", "p"])
@pytest.mark.parametrize("same_call", [True, False])
def test_nothing_is_accepted_under_a_finished_context(end: OperationAction, ended: str, *, same_call: bool):
    """Neither what begins there nor the end of what began; however deep, and also later in the very call."""
    bench = Bench()
    bench.call(
        context(START, "g"),
        context(START, "p", parent_id="g"),
        step(START, "s", parent_id="p"),
        wait(START, "w", parent_id="p"),
    )
    finish = context(end, ended, parent_id="g" if ended == "p" else None)
    late = [
        step(SUCCEED, "s", parent_id="p"),
        wait(CANCEL, "w", parent_id="p"),
        step(START, "new", parent_id="p"),
        context(START, "new", parent_id="p"),
    ]
    if ended == "g":
        late.append(context(SUCCEED, "p", parent_id="g"))
    if not same_call:
        bench.call(finish)
    for refused in late:
        message = bench.refuse(*([finish] if same_call else []), refused)
        assert f"the parent {ended} is {'SUCCEEDED' if end is SUCCEED else 'FAILED'}" in message


def test_a_context_ends_with_its_last_child_in_one_call():
    """In the order in which they end."""
    bench = Bench()
    bench.call(context(START, "p"), step(START, "s", parent_id="p"))
    bench.call(step(SUCCEED, "s", parent_id="p"), context(SUCCEED, "p"))
    assert all(operation.is_final for operation in bench.state.operations.values())


# --- Time ----------------------------------------------------------------------------------------------------


def test_timers_fall_due_in_their_order_however_they_were_set():
    """Waits and retries alike; each by its own time."""
    bench = Bench()
    seconds = {"a": 30, "b": 10, "c": 20, "d": 10}
    bench.call(*(wait(START, key, seconds=value) for key, value in seconds.items()), retry(15, "e"))
    fallen = []
    while (due := bench.state.next_due) is not None:
        fallen.append((*bench.wait((due - bench.now) / 1000).operations, due - BEGIN))
    assert fallen == [("b", "d", 10_000), ("e", 15_000), ("c", 20_000), ("a", 30_000)]


def test_what_falls_due_together_is_told_in_the_order_of_time():
    """An engine that was down for a year finds events in the order in which they would have come."""
    bench = Bench()
    for key, seconds in {"a": 30, "b": 10, "c": 20}.items():
        bench.call(wait(START, key, seconds=seconds))
    forward = bench.wait(60)
    assert [event.operation_id for event in forward.events] == ["b", "c", "a"]


def test_a_refused_call_takes_no_timer_away():
    """What fell due in a call that was refused falls due in the next one."""
    bench = Bench()
    bench.call(wait(START, "w", seconds=5), retry(5, "s"))
    bench.now = Timestamp(bench.now + 5000)
    bench.refuse(step(START, "x", parent_id="nobody"))
    assert bench.state.next_due == bench.now
    assert set(bench.call().operations) == {"s", "w"}


def test_time_that_is_worked_out_twice_is_the_same():
    """A transition that the store did not take is as good as none."""
    bench = Bench()
    bench.call(wait(START, "w", seconds=5))
    for _ in range(2):
        forward = Transition()
        bench.state.advance(Timestamp(bench.now + 5000), forward)
        assert forward.operations["w"].status is SUCCEEDED
        assert bench["w"].status is OperationStatus.STARTED


def test_a_step_that_has_become_ready_in_a_call_starts_in_it():
    """The function looked at the clock, and was right."""
    bench = Bench()
    bench.call(step(START), retry(5))
    bench.now = Timestamp(bench.now + 5000)
    bench.call(step(START), step(SUCCEED))
    assert bench["a"].status is SUCCEEDED


@pytest.mark.parametrize("end", [SUCCEED, FAIL])
def test_what_is_cut_off_never_falls_due(end: OperationAction):
    """Whatever is unfinished under a context that has ended, however deep, is waited for by nobody."""
    bench = Bench()
    bench.call(
        context(START, "g"),
        context(START, "p", parent_id="g"),
        wait(START, "w", parent_id="p"),
        retry(1, "s", parent_id="p"),
        wait(START, "own", seconds=50),
    )
    assert bench.state.next_due == BEGIN + 1000
    bench.call(context(end, "g"))
    assert bench.state.next_due == BEGIN + 50_000
    assert bench.state.is_waiting
    assert not bench.wait(10)
    assert set(bench.wait(40).operations) == {"own"}
    assert not bench.state.is_waiting
    assert bench.state.next_due is None


def test_void_timers_among_those_that_fall_due():
    """What was cancelled or cut off is passed over, wherever it stands in the order of time."""
    bench = Bench()
    bench.call(context(START, "p"), *(wait(START, f"{n}", seconds=n) for n in (1, 2, 3, 4)))
    bench.call(*(wait(START, f"p-{n}", seconds=n, parent_id="p") for n in (1, 2, 3, 4)), wait(CANCEL, "3"))
    bench.call(context(SUCCEED, "p"), wait(CANCEL, "1"))
    forward = bench.wait(3)
    assert list(forward.operations) == ["2"]
    assert [event.operation_id for event in forward.events] == ["2"]
    assert bench.state.next_due == BEGIN + 4000


def test_changes_and_events_are_numbered_without_gaps():
    """Whatever a call holds; what no event is told of is a change all the same."""
    bench = Bench()
    bench.call(step(START, "a"), retry(1, "a"), step(START, "b"))
    bench.wait(1)
    bench.call(step(START, "a"), step(SUCCEED, "a"))
    assert [(change.number, change.first_event, len(change.events)) for change in bench.changes] == [
        (2, 2, 3),
        (3, 5, 0),
        (4, 5, 2),
    ]


@pytest.mark.parametrize(
    ("way", "waiting"),
    [
        ((), False),
        ((step(START),), False),
        ((context(START),), False),
        ((step(START), retry(1)), True),
        ((wait(START),), True),
    ],
)
def test_what_can_be_waited_for(way: tuple[OperationUpdate, ...], *, waiting: bool):
    """A retry and a timer; not a step that runs, nor a context."""
    bench = Bench()
    if way:
        bench.call(*way)
    assert bench.state.is_waiting is waiting
    bench.wait(1)
    assert not bench.state.is_waiting


def test_a_state_that_is_loaded_goes_on_with_its_timers():
    """It is the same as one that was never away."""
    bench = Bench()
    bench.call(context(START, "p"), wait(START, "w", seconds=5, parent_id="p"), retry(9, "s"), context(START, "q"))
    bench.call(context(SUCCEED, "q"))
    loaded = Loaded(execution=execution(), operations=list(bench.state.operations.values()), events=7, changes=3)
    state = ExecutionState(loaded)
    assert state.next_due == bench.state.next_due == BEGIN + 5000
    forward = Transition()
    state.advance(Timestamp(BEGIN + 9000), forward)
    assert list(forward.operations) == ["w", "s"]
    change = state.change(forward)
    assert (change.number, change.first_event) == (4, 8)


# --- What a function gets ------------------------------------------------------------------------------------


def visible(bench: Bench) -> set[str]:
    return {operation.id for operation in bench.state.visible()}


@pytest.mark.parametrize("replay_children", [None, False, True])
def test_children_of_finished_contexts_are_left_out(replay_children: bool | None):
    """Unless the context is rebuilt from them."""
    bench = Bench()
    bench.call(context(START, "p"), step(SUCCEED, "s", parent_id="p"), step(SUCCEED, "t"))
    assert visible(bench) == {"p", "s", "t"}
    bench.call(context(SUCCEED, "p", replay_children=replay_children))
    assert visible(bench) == ({"p", "s", "t"} if replay_children else {"p", "t"})


def test_children_of_failed_contexts_are_left_out():
    """The error says it all."""
    bench = Bench()
    bench.call(context(START, "p"), step(SUCCEED, "s", parent_id="p"), context(FAIL, "p"))
    assert visible(bench) == {"p"}


@pytest.mark.parametrize("inner_replays", [True, False])
@pytest.mark.parametrize("outer_replays", [True, False])
def test_finished_contexts_in_finished_contexts(*, outer_replays: bool, inner_replays: bool):
    """What is left out takes all below it along, unfinished or to be replayed as it may be."""
    bench = Bench()
    bench.call(
        context(START, "outer"),
        context(START, "inner", parent_id="outer"),
        step(SUCCEED, "deep", parent_id="inner"),
        context(SUCCEED, "inner", parent_id="outer", replay_children=inner_replays),
        context(START, "open", parent_id="outer"),
        step(START, "running", parent_id="open"),
        context(SUCCEED, "outer", replay_children=outer_replays),
        step(START, "after"),
    )
    expected = {"outer", "after"}
    if outer_replays:
        expected |= {"inner", "open", "running"} | ({"deep"} if inner_replays else set())
    assert visible(bench) == expected


def test_what_a_function_gets_is_in_the_order_of_the_first_record():
    """Also after a later update, and after being loaded."""
    bench = Bench()
    for key in ("c", "a", "b"):
        bench.call(step(START, key))
    bench.call(step(SUCCEED, "a"))
    assert [operation.id for operation in bench.state.visible()] == ["c", "a", "b"]


# --- Size ----------------------------------------------------------------------------------------------------


def lines_of_a_call(operations: int) -> int:
    """How many lines of Python one call takes on a state of so many operations and timers."""
    bench = Bench()
    bench.call(context(START, "p"))
    for first in range(0, operations, 200):
        updates = [step(SUCCEED, f"s-{number}", parent_id="p") for number in range(first, first + 200)]
        bench.call(*updates, *(wait(START, f"w-{first}-{n}", seconds=1000 + n, parent_id="p") for n in range(50)))
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        bench.call(step(START, "probe", parent_id="p"), step(SUCCEED, "probe", parent_id="p"))
    finally:
        sys.settrace(before)
    return lines


def test_a_call_costs_the_same_whatever_was_recorded_before():
    """Not a pass over all operations or all timers: that would make a long execution quadratic."""
    assert lines_of_a_call(200) == lines_of_a_call(5000) > 50
