"""Operations from events that are not whole; whole histories are in `tests/properties/test_rebuild.py`."""

from __future__ import annotations

from typing import Any

from durable._kernel.rebuild import operations_of
from durable._wire import ErrorObject, OperationStatus, Timestamp
from durable._wire.codec import HISTORY_RESPONSE
from durable._wire.operations import StepDetails


def events(*shapes: dict[str, Any]) -> Any:
    """Events as the API gives them, one each second."""
    numbered = [{"EventId": n, "EventTimestamp": n, **shape} for n, shape in enumerate(shapes, 1)]
    return HISTORY_RESPONSE.convert({"Events": numbered}).events


def test_nothing_is_rebuilt_from_what_is_about_the_execution():
    """Its own events have the id of the EXECUTION, which is not among the operations."""
    assert operations_of(()) == []
    started = {"Input": {"Payload": "1"}, "ExecutionTimeout": 60}
    assert (
        operations_of(events({"EventType": "ExecutionStarted", "Id": "e", "ExecutionStartedDetails": started}))
        == []
    )


def test_without_their_data_operations_are_there_without_results():
    """As `IncludeExecutionData=false` has it, and what was truncated."""
    (operation,) = operations_of(
        events(
            {"EventType": "StepStarted", "Id": "a", "Name": "pack", "SubType": "Step", "StepStartedDetails": {}},
            {
                "EventType": "StepSucceeded",
                "Id": "a",
                "StepSucceededDetails": {"Result": {"Truncated": True}, "RetryDetails": {}},
            },
        )
    )
    assert (operation.name, operation.status, operation.result) == ("pack", OperationStatus.SUCCEEDED, None)
    assert operation.step_details is not None
    assert operation.step_details.attempt == 1


def test_a_history_without_its_beginning_gives_what_it_has():
    """What had begun before begins with its first event; details that are missing are no error."""
    ended, callback = operations_of(
        events(
            {"EventType": "StepFailed", "Id": "a", "ParentId": "p"},
            {"EventType": "CallbackSucceeded", "Id": "c", "CallbackSucceededDetails": {"Result": {"Payload": "7"}}},
        )
    )
    assert (ended.parent_id, ended.start_timestamp, ended.status) == ("p", Timestamp(1000), OperationStatus.FAILED)
    assert callback.callback_details is not None
    assert (callback.callback_details.callback_id, callback.result) == (None, "7")


def test_an_attempt_that_has_begun_has_what_the_one_before_came_to():
    """The state of a condition's check, and the error of a step; there is no next attempt to wait for any more."""
    again = {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5}
    checked, failed = operations_of(
        events(
            {
                "EventType": "StepSucceeded",
                "Id": "a",
                "StepSucceededDetails": {"Result": {"Payload": "7"}, "RetryDetails": again},
            },
            {
                "EventType": "StepFailed",
                "Id": "b",
                "StepFailedDetails": {"Error": {"Payload": {"ErrorMessage": "no"}}, "RetryDetails": again},
            },
            {"EventType": "StepStarted", "Id": "a", "StepStartedDetails": {}},
            {"EventType": "StepStarted", "Id": "b", "StepStartedDetails": {}},
        )
    )
    assert checked.step_details == StepDetails(attempt=1, result="7")
    assert failed.step_details == StepDetails(attempt=1, error=ErrorObject(error_message="no"))
    assert {checked.status, failed.status} == {OperationStatus.STARTED}
