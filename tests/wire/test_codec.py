"""The service's shapes, both directions."""

from __future__ import annotations

import json

import msgspec
import pytest

from durable._wire import (
    ErrorObject,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
    calls,
    codec,
    events,
)
from durable._wire.events import EventType
from durable._wire.operations import StepDetails
from durable._wire.updates import ContextOptions, StepOptions, WaitOptions
from durable.exceptions import MalformedPayloadError

ARN = "arn:aws:lambda:eu-west-1:123456789012:function:trip:1/durable-execution/t-1/0f6c"

EVENT = {
    "DurableExecutionArn": ARN,
    "CheckpointToken": "dG9rZW4=",
    "InitialExecutionState": {
        "Operations": [
            {
                "Id": "0f6c",
                "Type": "EXECUTION",
                "StartTimestamp": 1764000000123,
                "Status": "STARTED",
                "ExecutionDetails": {"InputPayload": '{"a":1}'},
            },
            {
                "Id": "1ced",
                "Type": "STEP",
                "SubType": "Step",
                "Name": "s",
                "StartTimestamp": 1764000000456,
                "Status": "PENDING",
                "StepDetails": {
                    "Attempt": 1,
                    "NextAttemptTimestamp": 1764000005000,
                    "Error": {"ErrorType": "ValueError", "ErrorMessage": "no", "StackTrace": ["a", "b"]},
                },
            },
        ],
        "NextMarker": "",
    },
    "UpdatedOperationIds": ["1ced"],
}


def test_an_invocation_event_is_read_in_milliseconds():
    """Everything of it is there, and times are whole milliseconds."""
    event = codec.INVOCATION_INPUT.decode(json.dumps(EVENT))
    assert event.execution_operation_id == "0f6c"
    execution, step = event.initial_execution_state.operations
    assert execution.execution_details is not None
    assert execution.execution_details.input_payload == '{"a":1}'
    assert step.start_timestamp == 1764000000456
    assert step.step_details is not None
    assert step.step_details.next_attempt_timestamp == 1764000005000
    assert step.error == ErrorObject(error_type="ValueError", error_message="no", stack_trace=("a", "b"))
    assert codec.INVOCATION_INPUT.convert(EVENT) == event


def test_an_event_that_comes_back_out_is_the_same():
    """Encoding gives PascalCase and milliseconds again; what is absent is not sent."""
    event = codec.INVOCATION_INPUT.decode(json.dumps(EVENT))
    assert json.loads(codec.INVOCATION_INPUT.encode(event)) == EVENT


def test_the_api_counts_in_seconds():
    """The same instant is milliseconds in the event and fractional seconds in an API's answer."""
    answer = {
        "Operations": [{"Id": "a", "Type": "WAIT", "Status": "STARTED", "StartTimestamp": 1764000000.123}],
        "NextMarker": "m",
    }
    page = codec.STATE_RESPONSE.decode(json.dumps(answer))
    assert page.operations[0].start_timestamp == 1764000000123
    assert json.loads(codec.STATE_RESPONSE.encode(page)) == answer


def test_fields_that_are_not_known_are_ignored():
    """A newer service does not break an older library."""
    raw = {"Status": "SUCCEEDED", "Result": "1", "Tomorrow": {"a": 1}}
    assert codec.INVOCATION_OUTPUT.convert(raw) == InvocationOutput(status=InvocationStatus.SUCCEEDED, result="1")


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"Status": "SLEEPING"}, r"Invalid enum value 'SLEEPING' - at `\$\.Operations\[0\]\.Status`"),
        ({"Type": "DREAM"}, r"Invalid enum value 'DREAM' - at `\$\.Operations\[0\]\.Type`"),
        ({"Id": None}, r"Expected `str`, got `null` - at `\$\.Operations\[0\]\.Id`"),
        ({"StartTimestamp": "now"}, r"epoch seconds, got str - at `\$\.Operations\[0\]\.StartTimestamp`"),
        ({"StartTimestamp": True}, r"epoch seconds, got bool"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(change, detail):
    """Unknown enum values and wrong types are errors that say where."""
    operation = {"Id": "a", "Type": "WAIT", "Status": "STARTED", "StartTimestamp": 1, **change}
    with pytest.raises(MalformedPayloadError, match=f"malformed GetDurableExecutionStateResponse: .*{detail}"):
        codec.STATE_RESPONSE.convert({"Operations": [operation]})


@pytest.mark.parametrize("missing", ["Id", "Type", "Status", "StartTimestamp"])
def test_a_missing_required_field_is_named_with_its_path(missing):
    """So that a person finds it."""
    operation = {"Id": "a", "Type": "WAIT", "Status": "STARTED", "StartTimestamp": 1}
    del operation[missing]
    with pytest.raises(
        MalformedPayloadError, match=rf"missing required field `{missing}` - at `\$\.Operations\[0\]`"
    ):
        codec.STATE_RESPONSE.convert({"Operations": [operation]})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b'{"Operations": 3}'])
def test_what_is_not_the_shape_at_all_is_the_same_error(data):
    """Broken JSON, broken UTF-8 and another shape."""
    with pytest.raises(MalformedPayloadError, match="malformed GetDurableExecutionStateResponse"):
        codec.STATE_RESPONSE.decode(data)


def test_a_request_is_sent_as_the_service_model_has_it():
    """Names, nesting, enum texts; nothing that was not set."""
    request = calls.CheckpointDurableExecutionRequest(
        checkpoint_token="t",
        client_token="c",
        updates=(
            OperationUpdate(
                id="a",
                type=OperationType.STEP,
                sub_type="Step",
                name="s",
                parent_id="p",
                action=OperationAction.RETRY,
                error=ErrorObject(error_type="E", error_message="m"),
                step_options=StepOptions(next_attempt_delay_seconds=5),
            ),
            OperationUpdate(
                id="b",
                type=OperationType.WAIT,
                action=OperationAction.START,
                wait_options=WaitOptions(wait_seconds=1),
            ),
            OperationUpdate(
                id="c",
                type=OperationType.CONTEXT,
                action=OperationAction.SUCCEED,
                payload="",
                context_options=ContextOptions(replay_children=True),
            ),
        ),
    )
    raw = json.loads(codec.CHECKPOINT_REQUEST.encode(request))
    assert raw == {
        "CheckpointToken": "t",
        "ClientToken": "c",
        "Updates": [
            {
                "Id": "a",
                "Type": "STEP",
                "SubType": "Step",
                "Name": "s",
                "ParentId": "p",
                "Action": "RETRY",
                "Error": {"ErrorType": "E", "ErrorMessage": "m"},
                "StepOptions": {"NextAttemptDelaySeconds": 5},
            },
            {"Id": "b", "Type": "WAIT", "Action": "START", "WaitOptions": {"WaitSeconds": 1}},
            {
                "Id": "c",
                "Type": "CONTEXT",
                "Action": "SUCCEED",
                "Payload": "",
                "ContextOptions": {"ReplayChildren": True},
            },
        ],
    }
    assert codec.CHECKPOINT_REQUEST.convert(raw) == request


def test_every_event_type_has_its_details():
    """Each kind of history event has one structure, and `details` finds it."""
    for kind in EventType:
        field = events.DETAILS_FIELD[kind]
        assert field in events.Event.__struct_fields__, kind
        event = events.Event(event_type=kind, event_id=1, event_timestamp=Timestamp(1))
        assert event.details is None


@pytest.mark.parametrize(
    "raw",
    [
        {
            "EventType": "StepFailed",
            "StepFailedDetails": {
                "Error": {"Payload": {"ErrorMessage": "m"}},
                "RetryDetails": {"CurrentAttempt": 1, "NextAttemptDelaySeconds": 5},
            },
        },
        {"EventType": "WaitStarted", "WaitStartedDetails": {"Duration": 5, "ScheduledEndTimestamp": 1764000000.5}},
        {
            "EventType": "ExecutionStarted",
            "ExecutionStartedDetails": {"Input": {"Payload": "1"}, "ExecutionTimeout": 60},
        },
        {"EventType": "ContextFailed", "SubType": "Saga", "ContextFailedDetails": {"Error": {"Truncated": True}}},
        {"EventType": "CallbackStarted", "CallbackStartedDetails": {"CallbackId": "c", "Timeout": 1}},
        {
            "EventType": "ChainedInvokeStarted",
            "ChainedInvokeStartedDetails": {"FunctionName": "f", "TenantId": "t"},
        },
        {
            "EventType": "InvocationCompleted",
            "InvocationCompletedDetails": {"StartTimestamp": 1.5, "EndTimestamp": 2.5, "RequestId": "r"},
        },
    ],
    ids=lambda raw: raw["EventType"],
)
def test_history_events_go_both_ways(raw):
    """What the service sends is what comes out again."""
    page = {"Events": [{"EventId": 3, "EventTimestamp": 1764000000.25, **raw}]}
    decoded = codec.HISTORY_RESPONSE.convert(page)
    assert decoded.events[0].details is not None
    assert json.loads(codec.HISTORY_RESPONSE.encode(decoded)) == page


def test_every_shape_knows_its_names_on_the_wire():
    """All of them are PascalCase, with the few acronyms as the model spells them."""
    shapes = [
        shape
        for module in (calls, events)
        for shape in vars(module).values()
        if isinstance(shape, type) and issubclass(shape, msgspec.Struct)
    ]
    assert len(shapes) > 20
    every: list[type[msgspec.Struct]] = [*shapes, Operation, OperationUpdate, InvocationInput, StepDetails]
    for shape in every:
        for field in msgspec.structs.fields(shape):
            assert field.encode_name[0].isupper()
            assert "_" not in field.encode_name


def test_operations_answer_for_result_and_error_whatever_their_type():
    """A reader need not know in which details they are."""
    step = Operation(
        id="a",
        type=OperationType.STEP,
        start_timestamp=Timestamp(1),
        status=OperationStatus.SUCCEEDED,
        step_details=StepDetails(result="7"),
    )
    assert step.result == "7"
    assert step.error is None
    assert step.is_final
