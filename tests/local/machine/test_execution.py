"""EXECUTION: how the whole ends."""

from __future__ import annotations

import pytest

from durable._wire import ExecutionStatus, OperationAction, OperationStatus, OperationType
from durable._wire.events import EventType
from durable._wire.limits import MAX_EXECUTION_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES
from durable.local.machine import execution as machine
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
    step,
    update,
    wait,
)

EXECUTION = OperationType.EXECUTION


def test_the_operation_that_stands_for_the_whole():
    """It has the execution's id, its name and its input, and is STARTED as long as anybody sees it."""
    operation = machine.operation_of(execution())
    assert (operation.id, operation.name, operation.status) == ("e-1", "t-1", OperationStatus.STARTED)
    assert operation.type is EXECUTION
    assert operation.start_timestamp == BEGIN
    assert operation.execution_details is not None
    assert operation.execution_details.input_payload == '"in"'


@pytest.mark.parametrize(
    ("action", "status", "event"),
    [
        (SUCCEED, ExecutionStatus.SUCCEEDED, EventType.EXECUTION_SUCCEEDED),
        (FAIL, ExecutionStatus.FAILED, EventType.EXECUTION_FAILED),
    ],
)
def test_an_update_ends_it(action: OperationAction, status: ExecutionStatus, event: EventType):
    """With a result or an error, and one event; it is no operation among the others."""
    bench = Bench()
    bench.wait(1)
    payload, error = ("1", None) if action is SUCCEED else (None, OOPS)
    forward = bench.call(update(EXECUTION, action, "execution-result-1", payload=payload, error=error))
    record = bench.state.record
    assert (record.status, record.result, record.error) == (status, payload, error)
    assert record.end_timestamp == bench.now
    assert bench.state.is_over
    assert forward.operations == {}
    assert [(kept.type, kept.operation_id) for kept in forward.events] == [(event, None)]


@pytest.mark.parametrize("action", [START, RETRY, CANCEL])
def test_what_does_not_end_it_is_refused(action: OperationAction):
    """An EXECUTION has an end and nothing else."""
    assert "an EXECUTION ends with" in Bench().refuse(update(EXECUTION, action))


def test_what_does_not_belong_to_an_end():
    """SUCCEED has no error, FAIL no payload."""
    assert "an EXECUTION ends with" in Bench().refuse(update(EXECUTION, SUCCEED, error=OOPS))
    assert "an EXECUTION ends with" in Bench().refuse(update(EXECUTION, FAIL, payload="1"))


def test_nothing_comes_after_it():
    """Neither in the same call nor in a later one."""
    end = update(EXECUTION, SUCCEED, "end", payload="1")
    for other in (step(START), update(EXECUTION, SUCCEED, "end-2")):
        assert "an EXECUTION update is the last one of its call" in Bench().refuse(end, other)
    bench = Bench()
    bench.call(step(START), end)
    for late in (step(SUCCEED), wait(START, "b"), context(START, "b"), end):
        assert "the execution is SUCCEEDED" in bench.refuse(late)


def test_it_may_carry_more_than_an_operation():
    """A result that is too large for an answer is what the update is for; an error object is bounded as all are."""
    bench = Bench()
    bench.call(update(EXECUTION, SUCCEED, payload="x" * (MAX_EXECUTION_PAYLOAD_BYTES + 1)))
    assert bench.state.is_over
    large = type(OOPS)(error_message="x" * (MAX_PAYLOAD_BYTES + 1))
    assert "an error object has at most" in Bench().refuse(update(EXECUTION, FAIL, error=large))


@pytest.mark.parametrize(
    ("status", "event"),
    [
        (ExecutionStatus.SUCCEEDED, EventType.EXECUTION_SUCCEEDED),
        (ExecutionStatus.FAILED, EventType.EXECUTION_FAILED),
        (ExecutionStatus.TIMED_OUT, EventType.EXECUTION_TIMED_OUT),
        (ExecutionStatus.STOPPED, EventType.EXECUTION_STOPPED),
    ],
)
def test_every_end_has_its_event(status: ExecutionStatus, event: EventType):
    """What it was started with stays."""
    before = execution(invocations=3)
    ended, kept = machine.finish(before, BEGIN, status, error=OOPS)
    assert kept.type is event
    assert (ended.status, ended.error, ended.end_timestamp) == (status, OOPS, BEGIN)
    assert (ended.id, ended.input, ended.invocations) == (before.id, before.input, 3)
