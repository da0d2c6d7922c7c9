"""The decision function: every status of every type."""

from __future__ import annotations

import pytest

from durable._kernel.decide import (
    Interrupt,
    Park,
    Raise,
    Replay,
    Return,
    Run,
    Start,
    decide_callback_creation,
    decide_callback_result,
    decide_context,
    decide_invoke,
    decide_step,
    decide_wait,
)
from durable._kernel.history import History, Identity
from durable._wire import (
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from durable._wire.operations import (
    CallbackDetails,
    ChainedInvokeDetails,
    ContextDetails,
    StepDetails,
    WaitDetails,
)
from durable._wire.updates import StepOptions, WaitOptions

ERROR = ErrorObject(error_type="ValueError", error_message="no")
S = OperationStatus


def operation(kind: OperationType, status: OperationStatus, **details) -> Operation:
    return Operation(
        id="i", type=kind, start_timestamp=Timestamp(1), status=status, sub_type="Step", name="n", **details
    )


def step(status: OperationStatus, **details) -> Operation:
    return operation(OperationType.STEP, status, step_details=StepDetails(**details))


@pytest.mark.parametrize(
    ("recorded", "semantics", "decision"),
    [
        (None, "at-least-once", Run(1, start=True)),
        (None, "at-most-once", Run(1, start=True)),
        (step(S.READY, attempt=2), "at-least-once", Run(3, start=True)),
        (step(S.READY, attempt=2), "at-most-once", Run(3, start=True)),
        (step(S.STARTED, attempt=1), "at-least-once", Run(2, start=False)),
        (step(S.STARTED), "at-most-once", Interrupt(1)),
        (step(S.PENDING, attempt=1, next_attempt_timestamp=Timestamp(99)), "at-least-once", Park(99)),
        (step(S.SUCCEEDED, result="7"), "at-least-once", Return("7")),
        (step(S.FAILED, error=ERROR), "at-least-once", Raise(ERROR)),
        (step(S.CANCELLED), "at-least-once", Raise(None)),
        (operation(OperationType.STEP, S.SUCCEEDED), "at-least-once", Return(None)),
    ],
)
def test_a_step(recorded, semantics, decision):
    """READY starts again, STARTED is run again or was interrupted, PENDING parks."""
    assert decide_step(recorded, semantics) == decision


@pytest.mark.parametrize(
    ("recorded", "decision"),
    [
        (None, Start()),
        (
            operation(
                OperationType.WAIT, S.STARTED, wait_details=WaitDetails(scheduled_end_timestamp=Timestamp(50))
            ),
            Park(50),
        ),
        (operation(OperationType.WAIT, S.STARTED), Park(None)),
        (operation(OperationType.WAIT, S.SUCCEEDED), Return(None)),
        (operation(OperationType.WAIT, S.CANCELLED), Raise(None)),
    ],
)
def test_a_wait(recorded, decision):
    """A wait that has begun parks for the rest of its time."""
    assert decide_wait(recorded) == decision


@pytest.mark.parametrize(
    ("status", "details", "decision"),
    [
        (S.STARTED, None, Run(1, start=False)),
        (S.SUCCEEDED, ContextDetails(result="1"), Return("1")),
        (S.SUCCEEDED, ContextDetails(result="", replay_children=True), Replay()),
        (S.FAILED, ContextDetails(error=ERROR), Raise(ERROR)),
        (S.STOPPED, None, Raise(None)),
    ],
)
def test_a_context(status, details, decision):
    """A context that has begun is not started again; a finished one may have to be rebuilt."""
    assert decide_context(None) == Run(1, start=True)
    assert decide_context(operation(OperationType.CONTEXT, status, context_details=details)) == decision


@pytest.mark.parametrize("status", S)
def test_the_creation_of_a_callback(status):
    """However the callback has ended, its handle is there: the outcome is the business of whoever awaits it."""
    details = CallbackDetails(callback_id="cb-1", result="7", error=ERROR)
    assert decide_callback_creation(None) == Start()
    recorded = operation(OperationType.CALLBACK, status, callback_details=details)
    assert decide_callback_creation(recorded) == Return("cb-1")
    assert decide_callback_creation(operation(OperationType.CALLBACK, status)) == Return(None)


@pytest.mark.parametrize(
    ("status", "details", "decision"),
    [
        (S.STARTED, CallbackDetails(callback_id="cb-1"), Park(None)),
        (S.PENDING, CallbackDetails(callback_id="cb-1"), Park(None)),
        (S.SUCCEEDED, CallbackDetails(callback_id="cb-1", result="7"), Return("7")),
        (S.SUCCEEDED, CallbackDetails(callback_id="cb-1"), Return(None)),
        (S.SUCCEEDED, None, Return(None)),
        (S.FAILED, CallbackDetails(error=ERROR), Raise(ERROR)),
        (S.TIMED_OUT, CallbackDetails(error=ERROR), Raise(ERROR)),
        (S.CANCELLED, CallbackDetails(), Raise(None)),
    ],
)
def test_the_result_of_a_callback(status, details, decision):
    """It waits for the outside world, and is never started here."""
    assert decide_callback_result(None) == Park(None)
    assert decide_callback_result(operation(OperationType.CALLBACK, status, callback_details=details)) == decision


@pytest.mark.parametrize(
    ("status", "details", "decision"),
    [
        (S.STARTED, None, Park(None)),
        (S.PENDING, ChainedInvokeDetails(), Park(None)),
        (S.SUCCEEDED, ChainedInvokeDetails(result="7"), Return("7")),
        (S.SUCCEEDED, None, Return(None)),
        (S.FAILED, ChainedInvokeDetails(error=ERROR), Raise(ERROR)),
        (S.TIMED_OUT, ChainedInvokeDetails(error=ERROR), Raise(ERROR)),
        (S.STOPPED, None, Raise(None)),
        (S.CANCELLED, ChainedInvokeDetails(), Raise(None)),
    ],
)
def test_an_invoke(status, details, decision):
    """It is started once, and waited for until the callee has ended."""
    assert decide_invoke(None) == Start()
    recorded = operation(OperationType.CHAINED_INVOKE, status, chained_invoke_details=details)
    assert decide_invoke(recorded) == decision


def test_an_operation_is_known_by_type_subtype_name_and_parent():
    """A difference in any of the four is another operation."""
    recorded = operation(OperationType.STEP, S.STARTED)
    same = Identity(OperationType.STEP, "Step", "n", None)
    assert same.matches(recorded)
    for other in (
        Identity(OperationType.WAIT, "Step", "n", None),
        Identity(OperationType.STEP, "WaitForCondition", "n", None),
        Identity(OperationType.STEP, "Step", "m", None),
        Identity(OperationType.STEP, "Step", None, None),
        Identity(OperationType.STEP, "Step", "n", "p"),
    ):
        assert not other.matches(recorded)


def test_an_acknowledged_update_counts_although_the_answer_did_not_repeat_it():
    """What was recorded decides, even from a service that answers with nothing."""
    history = History()

    def send(action: OperationAction, kind: OperationType = OperationType.STEP, **more) -> None:
        history.assume(OperationUpdate(id="i", type=kind, action=action, **more), 1_000)

    send(OperationAction.START)
    assert decide_step(history.get("i"), "at-least-once") == Run(1, start=False)
    send(OperationAction.RETRY, error=ERROR, step_options=StepOptions(next_attempt_delay_seconds=2))
    assert decide_step(history.get("i"), "at-least-once") == Park(3_000)
    send(OperationAction.SUCCEED, payload="7")
    assert decide_step(history.get("i"), "at-least-once") == Return("7")
    history.assume(
        OperationUpdate(
            id="w", type=OperationType.WAIT, action=OperationAction.START, wait_options=WaitOptions(wait_seconds=5)
        ),
        1_000,
    )
    assert decide_wait(history.get("w")) == Park(6_000)
