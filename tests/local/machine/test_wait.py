"""WAIT: the table, and everything that is not in it."""

from __future__ import annotations

from typing import Any

import pytest

from durable._wire import OperationAction, OperationStatus
from durable._wire.events import EventType
from durable._wire.limits import MAX_DELAY_SECONDS
from tests.local.machine.bench import BEGIN, CANCEL, OOPS, START, WAIT, Bench, wait

STARTED, SUCCEEDED, CANCELLED = OperationStatus.STARTED, OperationStatus.SUCCEEDED, OperationStatus.CANCELLED

TABLE = {
    (None, START): (STARTED, EventType.WAIT_STARTED),
    (STARTED, CANCEL): (CANCELLED, EventType.WAIT_CANCELLED),
}


@pytest.mark.parametrize("action", OperationAction)
@pytest.mark.parametrize("before", [None, STARTED, SUCCEEDED, CANCELLED])
def test_the_table(before: OperationStatus | None, action: OperationAction):
    """Each status takes what the table says and records one event; anything else is refused and changes nothing."""
    bench = Bench()
    bench.bring_to(WAIT, before)
    expected = TABLE.get((before, action))
    if expected is None:
        assert "WAIT" in bench.refuse(wait(action, error=None))
        return
    already = len(bench.events)
    bench.call(wait(action))
    status, event = expected
    assert bench["a"].status is status
    assert bench["a"].start_timestamp == BEGIN
    assert bench["a"].end_timestamp == (None if status is STARTED else bench.now)
    assert [(kept.type, kept.operation_id) for kept in bench.events[already:]] == [(event, "a")]


@pytest.mark.parametrize("seconds", [1, MAX_DELAY_SECONDS])
def test_a_wait_ends_when_its_time_has_passed(seconds: int):
    """Not a millisecond before; with one event."""
    bench = Bench()
    bench.call(wait(START, seconds=seconds))
    assert bench["a"].wait_details is not None
    assert bench["a"].wait_details.scheduled_end_timestamp == bench.state.next_due == BEGIN + seconds * 1000
    assert bench.events[-1].delay == seconds
    assert not bench.wait(seconds - 0.001)
    assert bench.state.is_waiting
    forward = bench.wait(0.001)
    assert [event.type for event in forward.events] == [EventType.WAIT_SUCCEEDED]
    assert bench["a"].status is SUCCEEDED
    assert bench["a"].end_timestamp == bench.now
    assert bench.state.next_due is None
    assert not bench.state.is_waiting
    assert not bench.wait(MAX_DELAY_SECONDS)


@pytest.mark.parametrize("seconds", [None, -1, 0, MAX_DELAY_SECONDS + 1])
def test_a_time_outside_of_the_limits(seconds: int | None):
    """A wait takes 1 second to 366 days."""
    assert "a delay is 1 to 31,622,400 seconds" in Bench().refuse(wait(START, seconds=seconds))


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"wait_options": None}, "START of a WAIT needs WaitOptions"),
        ({"payload": "1"}, "a WAIT has neither Payload nor Error"),
        ({"error": OOPS}, "a WAIT has neither Payload nor Error"),
    ],
)
def test_what_does_not_belong_to_a_wait(fields: dict[str, Any], rule: str):
    """A wait has a time and nothing else."""
    assert rule in Bench().refuse(wait(START, **fields))


def test_a_cancelled_wait_never_ends_by_itself():
    """Its timer is void."""
    bench = Bench()
    bench.call(wait(START, seconds=5))
    bench.call(wait(CANCEL))
    assert bench.state.next_due is None
    assert not bench.state.is_waiting
    assert not bench.wait(10)
    assert bench["a"].status is CANCELLED


def test_a_wait_is_not_cancelled_once_its_time_has_come():
    """The call in which time has passed is told of it; a cancellation in that very call comes too late."""
    bench = Bench()
    bench.call(wait(START, seconds=5))
    bench.now = type(bench.now)(bench.now + 5000)
    assert "the WAIT is SUCCEEDED" in bench.refuse(wait(CANCEL))
    assert list(bench.call().operations) == ["a"]
