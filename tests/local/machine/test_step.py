"""STEP: the table, and everything that is not in it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from durable._wire import OperationAction, OperationStatus
from durable._wire.events import EventType
from durable._wire.limits import MAX_DELAY_SECONDS
from tests.local.machine.bench import BEGIN, FAIL, OOPS, RETRY, START, STEP, SUCCEED, Bench, retry, step

STARTED, PENDING, READY, SUCCEEDED, FAILED = (
    OperationStatus.STARTED,
    OperationStatus.PENDING,
    OperationStatus.READY,
    OperationStatus.SUCCEEDED,
    OperationStatus.FAILED,
)

# What is recorded and what comes: what is recorded then, and how many attempts have finished.
TABLE = {
    (None, START): (STARTED, 0),
    (None, SUCCEED): (SUCCEEDED, 1),
    (None, FAIL): (FAILED, 1),
    (None, RETRY): (PENDING, 1),
    (STARTED, SUCCEED): (SUCCEEDED, 1),
    (STARTED, FAIL): (FAILED, 1),
    (STARTED, RETRY): (PENDING, 1),
    (READY, START): (STARTED, 1),
    (READY, SUCCEED): (SUCCEEDED, 2),
    (READY, FAIL): (FAILED, 2),
    (READY, RETRY): (PENDING, 2),
}
EVENT = {
    START: EventType.STEP_STARTED,
    SUCCEED: EventType.STEP_SUCCEEDED,
    FAIL: EventType.STEP_FAILED,
    RETRY: EventType.STEP_FAILED,
}


@pytest.mark.parametrize("action", OperationAction)
@pytest.mark.parametrize("before", [None, STARTED, PENDING, READY, SUCCEEDED, FAILED])
def test_the_table(before: OperationStatus | None, action: OperationAction):
    """Each status takes what the table says and records one event; anything else is refused and changes nothing."""
    bench = Bench()
    bench.bring_to(STEP, before)
    expected = TABLE.get((before, action))
    if expected is None:
        assert "STEP" in bench.refuse(step(action))
        return
    already = len(bench.events)
    forward = bench.call(step(action))
    status, attempts = expected
    operation = bench["a"]
    assert forward.operations == {"a": operation}
    assert operation.step_details is not None
    assert (operation.status, operation.step_details.attempt) == expected
    assert operation.end_timestamp == (bench.now if status in {SUCCEEDED, FAILED} else None)
    assert operation.start_timestamp == BEGIN
    (event,) = bench.events[already:]
    assert (event.type, event.operation_id, event.timestamp) == (EVENT[action], "a", bench.now)
    assert event.attempt == (attempts + 1 if action is START else attempts)


@pytest.mark.parametrize(
    ("action", "fields", "rule"),
    [
        (START, {"payload": "1"}, "START has no Payload"),
        (START, {"error": OOPS}, "START has no Error"),
        (SUCCEED, {"error": OOPS}, "SUCCEED has no Error"),
        (SUCCEED, {"error": OOPS, "payload": "1"}, "SUCCEED has no Error"),
        (FAIL, {"payload": "1"}, "FAIL has no Payload"),
        (RETRY, {"payload": "1"}, "RETRY has an Error or a Payload, not both"),
        (RETRY, {"step_options": None}, "RETRY needs StepOptions"),
    ],
)
def test_what_does_not_belong_to_an_action(action: OperationAction, fields: dict[str, Any], rule: str):
    """A payload or an error in the wrong place is refused, and the rule is named."""
    bench = Bench()
    bench.bring_to(STEP, None if action is START else STARTED)
    assert rule in bench.refuse(step(action, **fields))


@pytest.mark.parametrize("seconds", [None, -1, 0, MAX_DELAY_SECONDS + 1])
def test_a_delay_outside_of_the_limits(seconds: int | None):
    """A retry comes after 1 second to 366 days."""
    bench = Bench()
    assert "a delay is 1 to 31,622,400 seconds" in bench.refuse(retry(seconds))


@pytest.mark.parametrize("seconds", [1, MAX_DELAY_SECONDS])
def test_a_delay_at_the_limits(seconds: int):
    """The step is READY when its delay has passed, and not a millisecond before; there is no event for that."""
    bench = Bench()
    bench.call(retry(seconds))
    details = bench["a"].step_details
    assert details is not None
    assert details.next_attempt_timestamp == bench.state.next_due == BEGIN + seconds * 1000
    assert bench.events[-1].delay == seconds
    assert not bench.wait(seconds - 0.001)
    forward = bench.wait(0.001)
    assert list(forward.operations) == ["a"]
    assert forward.events == []
    assert bench["a"].status is READY
    assert bench["a"].step_details is not None
    assert bench["a"].step_details.next_attempt_timestamp is None
    assert bench.state.next_due is None


@pytest.mark.parametrize(("field", "kept"), [("payload", '{"polls":1}'), ("error", OOPS)])
def test_what_a_retry_carries_is_there_for_the_next_attempt(field: str, kept: Any):
    """A condition's state and a failed attempt's error stay until the attempt after them ends."""
    bench = Bench()
    other = "error" if field == "payload" else "payload"
    bench.call(step(START), retry(1, **{other: None, field: kept}))
    for _ in range(2):
        operation = bench["a"]
        assert (operation.result if field == "payload" else operation.error) == kept
        bench.wait(1)
    bench.call(step(START))
    assert (bench["a"].result if field == "payload" else bench["a"].error) == kept
    bench.call(step(SUCCEED, payload="1"))
    assert (bench["a"].result, bench["a"].error) == ("1", None)


def test_attempts_are_counted_as_they_finish():
    """The service counts; the attempt under way is the count plus one."""
    bench = Bench()
    for attempt in range(1, 6):
        bench.call(step(START))
        assert bench["a"].step_details is not None
        assert bench["a"].step_details.attempt == attempt - 1
        bench.call(retry(60))
        bench.wait(60)
    bench.call(step(START), step(FAIL))
    assert bench["a"].step_details is not None
    assert bench["a"].step_details.attempt == 6
    attempts = [event.attempt for event in bench.events]
    assert attempts == list(itertools.chain.from_iterable((n, n) for n in range(1, 7)))


@pytest.mark.parametrize("end", [SUCCEED, FAIL, RETRY])
@pytest.mark.parametrize("before", [None, READY])
def test_a_start_and_its_end_in_one_call(before: OperationStatus | None, end: OperationAction):
    """A fast attempt costs one call; both events are told."""
    bench = Bench()
    bench.bring_to(STEP, before)
    already = len(bench.events)
    bench.call(step(START), step(end))
    assert [event.type for event in bench.events[already:]] == [EventType.STEP_STARTED, EVENT[end]]
    assert len({event.attempt for event in bench.events[already:]}) == 1


def test_a_delay_begins_when_it_is_recorded_even_if_the_clock_goes_back():
    """Time is the service's own; it may be set back in between."""
    bench = Bench()
    bench.call(step(START))
    bench.now = type(bench.now)(BEGIN - 60_000)
    bench.call(retry(5))
    assert bench.state.next_due == BEGIN - 55_000
    assert bench["a"].start_timestamp == BEGIN
