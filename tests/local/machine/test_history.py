"""History events as the API gives them: the details of each type, and their form on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from durable._wire import ErrorObject, ExecutionStatus, Operation, Timestamp
from durable._wire.codec import HISTORY_RESPONSE, STORED_OPERATION
from durable._wire.events import Event, EventType, GetDurableExecutionHistoryResponse
from durable.abc import EventRecord
from durable.local.machine import execution as machine
from durable.local.machine.history import event_of
from tests.local.machine.bench import (
    BEGIN,
    CANCEL,
    FAIL,
    OOPS,
    RETRY,
    START,
    SUCCEED,
    Bench,
    context,
    execution,
    retry,
    step,
    wait,
)

SECONDS = BEGIN / 1000
ERROR = {"ErrorMessage": "oops", "ErrorType": "ValueError"}


def told(bench: Bench) -> list[Event]:
    """All events of a bench, whole."""
    state = bench.state
    return [event_of(number, kept, state.record, state.operations) for number, kept in enumerate(bench.events, 2)]


def on_the_wire(*events: Event) -> list[dict[str, Any]]:
    """Events as JSON has them; they come back from it as they were."""
    response = GetDurableExecutionHistoryResponse(events=events)
    encoded = HISTORY_RESPONSE.encode(response)
    assert HISTORY_RESPONSE.decode(encoded) == response
    found: list[dict[str, Any]] = msgspec.json.decode(encoded)["Events"]
    return found


def of(event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """An event's type, and the details that it alone may have."""
    kind = event["EventType"]
    details = {key: value for key, value in event.items() if key.endswith("Details")}
    assert list(details) == [f"{kind}Details"]
    return kind, details[f"{kind}Details"]


def test_a_steps_events():
    """A retry is a failure that tells of the next attempt; each knows which attempt it was."""
    bench = Bench()
    bench.call(step(START, name="book"), retry(5, name="book"))
    bench.wait(5)
    bench.call(step(START, name="book"), step(SUCCEED, name="book", payload="1"))
    events = on_the_wire(*told(bench))
    assert [of(event) for event in events] == [
        ("StepStarted", {}),
        (
            "StepFailed",
            {"Error": {"Payload": ERROR}, "RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5}},
        ),
        ("StepStarted", {}),
        ("StepSucceeded", {"Result": {"Payload": "1"}, "RetryDetails": {"CurrentAttempt": 2}}),
    ]
    assert [event["EventId"] for event in events] == [2, 3, 4, 5]
    assert [event["EventTimestamp"] for event in events] == [SECONDS, SECONDS, SECONDS + 5, SECONDS + 5]
    assert {(event["Id"], event["Name"], event["SubType"]) for event in events} == {("a", "book", "Step")}


def test_a_step_that_fails_for_good():
    """Its last error is the operation's own, those before stay with their events."""
    bench = Bench()
    bench.call(step(START), retry(1, error=ErrorObject(error_message="first")))
    bench.wait(1)
    bench.call(step(START), step(FAIL))
    assert [of(event)[1].get("Error") for event in on_the_wire(*told(bench))] == [
        None,
        {"Payload": {"ErrorMessage": "first"}},
        None,
        {"Payload": ERROR},
    ]


def test_a_poll_that_is_repeated():
    """A retry without an error: the check has succeeded and the condition was not met; each keeps its own state."""
    bench = Bench()
    for state in ("1", "2"):
        bench.call(step(START), step(RETRY, payload=state, error=None))
        bench.wait(1)
    bench.call(step(START), step(SUCCEED, payload="3"))
    assert [of(event) for event in on_the_wire(*told(bench))[1::2]] == [
        (
            "StepSucceeded",
            {"Result": {"Payload": "1"}, "RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 1}},
        ),
        (
            "StepSucceeded",
            {"Result": {"Payload": "2"}, "RetryDetails": {"CurrentAttempt": 2, "NextAttemptDelaySeconds": 1}},
        ),
        ("StepSucceeded", {"Result": {"Payload": "3"}, "RetryDetails": {"CurrentAttempt": 3}}),
    ]


def test_a_waits_events():
    """What was asked for, and when it will be over."""
    bench = Bench()
    bench.call(wait(START, "a", seconds=5), wait(START, "b", seconds=60))
    bench.wait(5)
    bench.call(wait(CANCEL, "b"))
    assert [of(event) for event in on_the_wire(*told(bench))] == [
        ("WaitStarted", {"Duration": 5, "ScheduledEndTimestamp": SECONDS + 5}),
        ("WaitStarted", {"Duration": 60, "ScheduledEndTimestamp": SECONDS + 60}),
        ("WaitSucceeded", {"Duration": 5}),
        ("WaitCancelled", {}),
    ]


def test_a_contexts_events():
    """Its result or its error; and whose children they are."""
    bench = Bench()
    bench.call(context(START, "p"), context(START, "q", parent_id="p"))
    bench.call(context(SUCCEED, "q", parent_id="p", payload="[]"), context(FAIL, "p"))
    events = on_the_wire(*told(bench))
    assert [of(event) for event in events] == [
        ("ContextStarted", {}),
        ("ContextStarted", {}),
        ("ContextSucceeded", {"Result": {"Payload": "[]"}}),
        ("ContextFailed", {"Error": {"Payload": ERROR}}),
    ]
    assert [event.get("ParentId") for event in events] == [None, "p", "p", None]


@pytest.mark.parametrize(
    ("status", "details"),
    [
        (ExecutionStatus.SUCCEEDED, ("ExecutionSucceeded", {"Result": {"Payload": "2"}})),
        (ExecutionStatus.FAILED, ("ExecutionFailed", {"Error": {"Payload": ERROR}})),
        (ExecutionStatus.TIMED_OUT, ("ExecutionTimedOut", {"Error": {"Payload": ERROR}})),
        (ExecutionStatus.STOPPED, ("ExecutionStopped", {"Error": {"Payload": ERROR}})),
    ],
)
def test_an_executions_events(status: ExecutionStatus, details: tuple[str, dict[str, Any]]):
    """Its input, and how it ended; under the execution's own id and name."""
    succeeded = status is ExecutionStatus.SUCCEEDED
    record, end = machine.finish(
        execution(), BEGIN, status, result="2" if succeeded else None, error=None if succeeded else OOPS
    )
    events = on_the_wire(
        event_of(1, EventRecord(EventType.EXECUTION_STARTED, BEGIN), record, {}), event_of(2, end, record, {})
    )
    assert of(events[0]) == (
        "ExecutionStarted",
        {"Input": {"Payload": '"in"'}, "ExecutionTimeout": 366 * 24 * 60 * 60},
    )
    assert of(events[1]) == details
    assert {(event["Id"], event["Name"]) for event in events} == {("e-1", "t-1")}


@pytest.mark.parametrize("error", [None, OOPS])
def test_an_invocations_event(error: ErrorObject | None):
    """When it began and ended, and what it raised if it did."""
    kept = EventRecord(
        EventType.INVOCATION_COMPLETED, Timestamp(BEGIN + 1500), error=error, start=Timestamp(BEGIN + 1)
    )
    (event,) = on_the_wire(event_of(7, kept, execution(), {}))
    kind, details = of(event)
    assert kind == "InvocationCompleted"
    assert details == {
        "StartTimestamp": SECONDS + 0.001,
        "EndTimestamp": SECONDS + 1.5,
        "RequestId": "e-1-7",
        **({} if error is None else {"Error": {"Payload": ERROR}}),
    }


def test_what_every_operation_looks_like_in_a_store():
    """Whatever its type and status, it comes out as it went in, to the millisecond."""
    bench = Bench()
    bench.now = Timestamp(BEGIN + 1)
    bench.call(step(START, "s", name="n"), retry(1, "r"), wait(START, "w", seconds=31_622_400))
    bench.call(context(START, "c"), step(FAIL, "d", parent_id="c"), context(SUCCEED, "c", replay_children=True))
    operations: list[Operation] = [*bench.state.operations.values(), machine.operation_of(execution())]
    for operation in operations:
        assert STORED_OPERATION.decode(STORED_OPERATION.encode(operation)) == operation
