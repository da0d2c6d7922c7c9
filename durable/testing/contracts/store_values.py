"""Rules for stores: values come back as they were."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..._wire import ErrorObject, ExecutionStatus, OperationStatus, OperationType, Timestamp
from ..._wire.events import EventType
from ..._wire.limits import MAX_EXECUTION_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES
from ..._wire.operations import (
    CallbackDetails,
    ChainedInvokeDetails,
    ContextDetails,
    ExecutionDetails,
    StepDetails,
    WaitDetails,
)
from ...abc import Caller, EventRecord, OperationExtra
from ..clock import START
from .log import OOPS, Log, step
from .store_bench import StoreBench, StoreRules

rule = StoreRules()

TEXTS: Final = (
    "",
    '"\\u0000"',
    "\x00",
    "a\x00b",
    '"ä€🚀\u2028\ufeff\uffff"',
    "e\u0301\u00e9",
    "'; DROP TABLE changes; --",
    "\r\n\t\x7f\x1b",
    " \n",
)
"""Empty, escaped NUL, NUL, planes of Unicode, composed and not, SQL, control characters, white space."""

_LATER: Final = Timestamp(START + 31_622_400_001)


@rule
async def texts_come_back_as_they_were(bench: StoreBench) -> None:
    """Payloads, inputs, results and errors are kept character by character, whatever is in them."""
    logs = [Log(f"t-{number}", input=text) for number, text in enumerate(TEXTS)]
    async with bench.opened() as store:
        for log, text in zip(logs, TEXTS, strict=True):
            error = ErrorObject(error_message=text, error_type=text, error_data=text, stack_trace=(text, ""))
            failed = step(
                "f", None, status=OperationStatus.FAILED, step_details=StepDetails(attempt=2, error=error)
            )
            kept = EventRecord(EventType.STEP_FAILED, START, "f", 1, 5, error, payload=text)
            extra = OperationExtra(function=text, payload=text, tenant_id=text)
            await store.create(log.begin())
            await store.commit(log.id, log.change(step("a", text), failed, events=[kept], extras={"f": extra}))
            await store.commit(log.id, log.end(result=text, error=error))
            await log.check(store)
    await bench.check_again(*logs)


@rule
async def the_largest_payloads(bench: StoreBench) -> None:
    """1 MB of an operation, of an error and of a chained invoke, and 6 MB of an execution, in and out."""
    one, six = "x" * MAX_PAYLOAD_BYTES, "é" * (MAX_EXECUTION_PAYLOAD_BYTES // 2)
    log = Log(input="x" * MAX_EXECUTION_PAYLOAD_BYTES)
    error = ErrorObject(error_message=one)
    failed = step("f", None, status=OperationStatus.FAILED, step_details=StepDetails(attempt=1, error=error))
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(step("a", one), failed, extras={"a": OperationExtra(payload=one)}))
        await store.commit(log.id, log.end(result=six))
        await log.check(store)
    await bench.check_again(log)


@rule
async def every_type_of_operation_comes_back_as_it_was(bench: StoreBench) -> None:
    """Operations are kept with all their details, to the millisecond."""
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(*_OPERATIONS, events=()))
        await log.check(store)
    await bench.check_again(log)


@rule
async def every_event_comes_back_as_it_was(bench: StoreBench) -> None:
    """Events of every type are kept, with every field that they have or have not."""
    events = [
        EventRecord(EventType.INVOCATION_COMPLETED, _LATER, None, None, None, OOPS, START),
        EventRecord(EventType.STEP_FAILED, START, "retry", 3, 31_622_400, OOPS),
        EventRecord(EventType.STEP_SUCCEEDED, START, "retry", 3, 31_622_400, payload='{"polls":1}'),
        EventRecord(EventType.STEP_SUCCEEDED, START, "retry", 0, 0, ErrorObject(), Timestamp(0), ""),
        *(EventRecord(kind, _LATER, "x") for kind in EventType),
    ]
    log = Log()
    async with bench.opened() as store:
        await store.create(log.begin())
        await store.commit(log.id, log.change(events=events))
        await log.check(store)
    await bench.check_again(log)


@rule
async def every_optional_field_comes_back_as_it_was(bench: StoreBench) -> None:
    """What is not set stays so, and what is set is kept: of executions, their callers, and extras."""
    bare = Log("bare", input=None)
    full = Log("full", caller=Caller("e", "o"), invocations=7, end_timestamp=_LATER, result="", error=ErrorObject())
    extras = {
        "a": OperationExtra(
            timeout=1,
            heartbeat=2,
            timeout_at=_LATER,
            heartbeat_at=START,
            function="f",
            payload="",
            tenant_id="t",
            known=True,
            target="m:f",
        ),
        "b": OperationExtra(),
    }
    async with bench.opened() as store:
        for log in (bare, full):
            await store.create(log.begin())
            await log.check(store)
        await store.commit(bare.id, bare.change(extras=extras))
        ends: dict[str, Any] = {"error": OOPS, "end_timestamp": START, "invocations": 2**31}
        for status in ExecutionStatus:
            record = msgspec.structs.replace(full.record, status=status, **ends)
            await store.commit(full.id, full.change(record=record))
            await full.check(store)
        await bare.check(store)
    await bench.check_again(bare, full)


_OPERATIONS: Final = (
    step("bare", step_details=None, name=None, sub_type=None, end_timestamp=None),
    step("retry", step_details=StepDetails(attempt=3, next_attempt_timestamp=_LATER, error=OOPS)),
    *(step(f"is-{status}", status=status) for status in OperationStatus),
    step(
        "wait",
        type=OperationType.WAIT,
        step_details=None,
        wait_details=WaitDetails(scheduled_end_timestamp=_LATER),
    ),
    step("failed", type=OperationType.CONTEXT, step_details=None, context_details=ContextDetails(error=OOPS)),
    step(
        "context",
        type=OperationType.CONTEXT,
        parent_id="failed",
        sub_type=None,
        step_details=None,
        context_details=ContextDetails(replay_children=True, result="[]"),
    ),
    step(
        "callback",
        type=OperationType.CALLBACK,
        step_details=None,
        callback_details=CallbackDetails(callback_id="c", result="1", error=OOPS),
    ),
    step(
        "invoke",
        type=OperationType.CHAINED_INVOKE,
        step_details=None,
        chained_invoke_details=ChainedInvokeDetails(result="1", error=OOPS),
    ),
    step(
        "execution",
        type=OperationType.EXECUTION,
        step_details=None,
        execution_details=ExecutionDetails(input_payload="1"),
    ),
)
