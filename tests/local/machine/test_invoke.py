"""CHAINED_INVOKE: the table, whom it calls, and the execution that a durable callee becomes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable._wire import (
    ErrorObject,
    ExecutionStatus,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from durable._wire.events import ChainedInvokeStartedDetails, EventType, FailureDetails, ResultDetails
from durable._wire.limits import MAX_PAYLOAD_BYTES
from durable._wire.patterns import EXECUTION_NAME_PATTERN
from durable._wire.updates import ChainedInvokeOptions
from durable.abc import Caller, OperationExtra
from durable.local.machine.history import event_of
from durable.local.machine.invoke import callee_record, names_of, outcome_of, plain_name
from durable.local.machine.state import Transition
from tests.local.machine.bench import BEGIN, FAIL, OOPS, START, SUCCEED, Bench, context, execution, update

INVOKE = OperationType.CHAINED_INVOKE
STARTED, SUCCEEDED, FAILED, TIMED_OUT, STOPPED = (
    OperationStatus.STARTED,
    OperationStatus.SUCCEEDED,
    OperationStatus.FAILED,
    OperationStatus.TIMED_OUT,
    OperationStatus.STOPPED,
)
ENDS = {
    SUCCEEDED: EventType.CHAINED_INVOKE_SUCCEEDED,
    FAILED: EventType.CHAINED_INVOKE_FAILED,
    TIMED_OUT: EventType.CHAINED_INVOKE_TIMED_OUT,
    STOPPED: EventType.CHAINED_INVOKE_STOPPED,
}


def invoke(
    operation_id: str = "a",
    function: str = "charge",
    *,
    tenant: str | None = None,
    action: OperationAction = START,
    **fields: Any,
) -> OperationUpdate:
    options = ChainedInvokeOptions(function_name=function, tenant_id=tenant)
    given = {"sub_type": "ChainedInvoke", "chained_invoke_options": options, **fields}
    return OperationUpdate(id=operation_id, type=INVOKE, action=action, **given)


def end(bench: Bench, status: OperationStatus, operation_id: str = "a", **outcome: Any) -> None:
    """The callee has ended."""
    forward = Transition()
    bench.state.end(bench[operation_id], status, bench.now, forward, **outcome)
    bench._take_over(forward)


# --- The table -----------------------------------------------------------------------------------------------


def test_it_is_started_and_waited_for():
    """Whom it calls and with what is kept beside it; no time changes it."""
    bench = Bench()
    forward = bench.call(invoke(payload='{"amount": 3}', tenant="acme", name="charging"))
    assert forward.invokes == ["a"]
    assert bench["a"].status is STARTED
    assert bench.state.extra_of("a") == OperationExtra(function="charge", payload='{"amount": 3}', tenant_id="acme")
    assert [(kept.type, kept.operation_id) for kept in bench.events] == [(EventType.CHAINED_INVOKE_STARTED, "a")]
    assert bench.state.is_waiting
    assert bench.state.next_due is None
    assert bench.state.invokes == ["a"]
    assert bench.call().invokes == []


@pytest.mark.parametrize("action", [action for action in OperationAction if action is not START])
@pytest.mark.parametrize("known", [False, True])
def test_a_function_can_only_start_it(action: OperationAction, known: bool):
    """It ends as its callee does."""
    bench = Bench()
    if known:
        bench.call(invoke())
    assert "a CHAINED_INVOKE has no such action" in bench.refuse(invoke(action=action))


@pytest.mark.parametrize("status", [STARTED, *ENDS])
def test_it_is_started_once(status: OperationStatus):
    """However it ended."""
    bench = Bench()
    bench.call(invoke())
    if status is not STARTED:
        end(bench, status)
    assert f"the CHAINED_INVOKE is {status}" in bench.refuse(invoke())


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"error": OOPS}, "has no Error"),
        ({"chained_invoke_options": None}, "needs ChainedInvokeOptions"),
        ({"function": ""}, "a function's name has 1 to 256 characters"),
        ({"function": "f" * 257}, "a function's name has 1 to 256 characters"),
        ({"tenant": ""}, "a tenant's id has 1 to 256 characters"),
        ({"tenant": "t" * 257}, "a tenant's id has 1 to 256 characters"),
        ({"payload": "x" * (MAX_PAYLOAD_BYTES + 1)}, "at most 1,048,576 bytes"),
    ],
)
def test_a_malformed_start_is_refused(fields: dict[str, Any], rule: str):
    """It says what is wrong."""
    assert rule in Bench().refuse(invoke(**fields))


@pytest.mark.parametrize("status", ENDS)
def test_it_ends_as_its_callee_does(status: OperationStatus):
    """With the callee's result or error, whole, and one event."""
    outcome = {"result": "3"} if status is SUCCEEDED else {"error": OOPS}
    bench = Bench()
    bench.call(invoke())
    end(bench, status, **outcome)
    operation = bench["a"]
    assert operation.status is status
    assert (operation.result, operation.error) == (outcome.get("result"), outcome.get("error"))
    assert operation.end_timestamp == bench.now
    assert [kept.type for kept in bench.events] == [EventType.CHAINED_INVOKE_STARTED, ENDS[status]]
    assert bench.state.invokes == []
    assert not bench.state.is_waiting


def test_nobody_waits_for_what_is_cut_off():
    """Under a finished context, and in a finished execution: it is not taken up again."""
    bench = Bench()
    bench.call(context(START, "c"), invoke("a", parent_id="c"), invoke("b"))
    assert bench.state.invokes == ["a", "b"]
    bench.call(context(SUCCEED, "c"))
    assert bench.state.invokes == ["b"]
    bench.call(update(OperationType.EXECUTION, FAIL, "x"))
    assert bench.state.invokes == []


# --- The callee ----------------------------------------------------------------------------------------------


def test_a_callee_is_the_same_whenever_it_is_asked_for():
    """Id, name and ARN come from the caller alone; so a crash in between starts nothing twice."""
    extra = OperationExtra(function="charge", payload="3")
    one = callee_record(execution(), "a", extra, "shop:charge", BEGIN)
    other = callee_record(execution(), "a", extra, "shop:charge", BEGIN)
    assert one == other
    assert one.caller == Caller("e-1", "a")
    assert (one.function, one.input, one.status) == ("shop:charge", "3", ExecutionStatus.RUNNING)
    assert one.name.startswith("charge-")
    assert one.arn.endswith(f":function:charge:1/durable-execution/{one.name}/{one.id}")


def test_different_callers_have_different_callees():
    """By execution and by operation; no name is shared."""
    extra = OperationExtra(function="charge")
    records = [
        callee_record(execution(id=f"e-{parent}"), f"op-{number}", extra, "t:f", BEGIN)
        for parent in range(50)
        for number in range(50)
    ]
    assert len({record.id for record in records}) == len({record.name for record in records}) == 2_500


@given(st.text(min_size=1, max_size=256))
def test_any_function_name_makes_a_name_of_an_execution(function: str):
    """Whatever characters are in it."""
    record = callee_record(execution(), "a", OperationExtra(function=function), "t:f", BEGIN)
    assert EXECUTION_NAME_PATTERN.fullmatch(record.name)


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        ("charge", "charge"),
        ("charge:7", "charge"),
        ("charge:$LATEST", "charge"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:charge", "charge"),
        ("arn:aws:lambda:eu-central-1:123456789012:function:charge:prod", "charge"),
        ("arn:aws-cn:lambda:cn-north-1:123456789012:function:charge:$LATEST", "charge"),
    ],
)
def test_what_aws_puts_around_a_name_makes_no_difference(function: str, plain: str):
    """Account, region and version are not a part of what is registered here; the whole name comes first."""
    assert plain_name(function) == plain
    assert list(names_of(function)) == list(dict.fromkeys([function, plain]))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (ExecutionStatus.SUCCEEDED, SUCCEEDED),
        (ExecutionStatus.FAILED, FAILED),
        (ExecutionStatus.TIMED_OUT, TIMED_OUT),
        (ExecutionStatus.STOPPED, STOPPED),
    ],
)
def test_the_end_of_an_execution_is_the_end_of_its_invoke(status: ExecutionStatus, expected: OperationStatus):
    """Type, message, data and stack of its error are kept."""
    error = ErrorObject(error_type="T", error_message="m", error_data="d", stack_trace=("s",))
    if status is ExecutionStatus.SUCCEEDED:
        assert outcome_of(execution(status=status, result="3")) == (expected, "3", None)
    else:
        assert outcome_of(execution(status=status, error=error)) == (expected, None, error)


@pytest.mark.parametrize(("size", "fits"), [(MAX_PAYLOAD_BYTES, True), (MAX_PAYLOAD_BYTES + 1, False)])
def test_a_result_that_no_operation_can_hold_is_an_error(size: int, fits: bool):
    """An execution may return 6 MB, an operation takes 1: it says so, and what to do."""
    record = msgspec.structs.replace(execution(status=ExecutionStatus.SUCCEEDED), result="x" * size)
    status, result, error = outcome_of(record)
    if fits:
        assert (status, result, error) == (SUCCEEDED, record.result, None)
        return
    assert (status, result) == (FAILED, None)
    assert error is not None
    assert "1,048,577 bytes" in str(error.error_message)
    assert "return a reference" in str(error.error_message)


# --- History -------------------------------------------------------------------------------------------------


def test_history_tells_whom_it_called_and_how_that_ended():
    """With the payload, the tenant, and the callee's own execution if it has one."""
    bench = Bench()
    bench.call(invoke("a", payload="3", tenant="acme"), invoke("b"), invoke("c"))
    target = msgspec.structs.replace(bench.state.extra_of("a"), known=True, target="shop:charge")
    bench.state.extras["a"] = target
    end(bench, SUCCEEDED, "a", result="4")
    end(bench, FAILED, "b", error=OOPS)
    end(bench, STOPPED, "c")
    state = bench.state
    details = [
        event_of(number, kept, state.record, state.operations, state.extras).details
        for number, kept in enumerate(bench.events)
    ]
    first, second, _, succeeded, failed, stopped = details
    assert isinstance(first, ChainedInvokeStartedDetails)
    assert (first.function_name, first.tenant_id) == ("charge", "acme")
    assert first.input is not None
    assert first.input.payload == "3"
    assert first.durable_execution_arn == callee_record(state.record, "a", target, "shop:charge", BEGIN).arn
    assert first.executed_version == "1"
    assert f":function:charge:{first.executed_version}/" in first.durable_execution_arn
    assert isinstance(second, ChainedInvokeStartedDetails)
    assert second.durable_execution_arn is second.executed_version is None
    assert isinstance(succeeded, ResultDetails)
    assert succeeded.result.payload == "4"
    assert isinstance(failed, FailureDetails)
    assert failed.error is not None
    assert failed.error.payload == OOPS
    assert isinstance(stopped, FailureDetails)
