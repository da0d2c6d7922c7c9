"""Rules for clients: what is sent arrives, and what is answered comes back."""

from __future__ import annotations

from typing import Any, Final

from ..._wire import ErrorObject, OperationAction, OperationStatus, OperationType, OperationUpdate
from ..._wire.limits import MAX_DELAY_SECONDS, MAX_EXECUTION_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES, MAX_UPDATES_PER_CALL
from ..._wire.updates import (
    CallbackOptions,
    ChainedInvokeOptions,
    ContextOptions,
    StepOptions,
    WaitOptions,
)
from .client_bench import Caller, ClientBench, ClientRules, step, update
from .rules import expect, expect_same
from .store_values import TEXTS

rule = ClientRules()

START, SUCCEED, FAIL, RETRY, CANCEL = OperationAction
STEP, WAIT, CONTEXT = OperationType.STEP, OperationType.WAIT, OperationType.CONTEXT
_CALLBACK, _INVOKE, _EXECUTION = OperationType.CALLBACK, OperationType.CHAINED_INVOKE, OperationType.EXECUTION

_ASCII: Final = "".join(map(chr, range(0x20, 0x7F)))
_ERROR: Final = ErrorObject(
    error_message="oops", error_type="my.Error", error_data='{"a": 1}', stack_trace=("one", "", "two")
)


def _retry(seconds: int) -> StepOptions:
    return StepOptions(next_attempt_delay_seconds=seconds)


_CALLS: Final[tuple[tuple[OperationUpdate, ...], ...]] = (
    (
        update(CONTEXT, START, "ctx", name=_ASCII),
        update(STEP, START, "inner", parent_id="ctx", name=None, sub_type=None),
        update(STEP, FAIL, "inner", parent_id="ctx", name=None, sub_type=None, error=_ERROR),
    ),
    (),
    (update(WAIT, START, "w" * 64, wait_options=WaitOptions(wait_seconds=MAX_DELAY_SECONDS)),),
    (update(WAIT, CANCEL, "w" * 64),),
    (
        update(
            _CALLBACK,
            START,
            "c-1",
            callback_options=CallbackOptions(timeout_seconds=99_999_999, heartbeat_timeout_seconds=5),
        ),
        update(_CALLBACK, START, "c_2", callback_options=CallbackOptions(timeout_seconds=0)),
        update(_CALLBACK, START, "c3"),
    ),
    (
        update(
            _INVOKE,
            START,
            "invoke",
            payload='{"to": 1}',
            chained_invoke_options=ChainedInvokeOptions(function_name="callee:1", tenant_id="tenant"),
        ),
        update(_INVOKE, START, "invoke-2", chained_invoke_options=ChainedInvokeOptions(function_name="callee")),
    ),
    (update(STEP, START, "retry"), update(STEP, RETRY, "retry", error=_ERROR, step_options=_retry(1))),
    (update(STEP, START, "poll"), update(STEP, RETRY, "poll", payload="{}", step_options=_retry(31_622_400))),
    (*step("z"), *step("a", None), *step("m", "")),
    (
        update(CONTEXT, START, "yes"),
        update(CONTEXT, SUCCEED, "yes", payload="1", context_options=ContextOptions(replay_children=True)),
        update(CONTEXT, START, "no"),
        update(CONTEXT, SUCCEED, "no", payload="2", context_options=ContextOptions(replay_children=False)),
        update(CONTEXT, START, "fails"),
        update(CONTEXT, FAIL, "fails", error=ErrorObject()),
    ),
    (update(CONTEXT, SUCCEED, "ctx", name=_ASCII),),
)
"""Every type and action, every option, and fields that are not set, empty, or as large as may be."""

_ENDS: Final = (
    update(_EXECUTION, SUCCEED, "execution-result-1", name=None, payload='"out"'),
    update(_EXECUTION, FAIL, "execution-result-2", name=None, error=_ERROR),
)


@rule
async def what_is_sent_arrives(bench: ClientBench) -> None:
    """Execution, tokens and updates arrive as they were given: every type, action and option, in their order."""
    async with bench.connected():
        for number, end in enumerate(_ENDS):
            caller = await bench.start(f"t-{number}")
            for count, updates in enumerate((*_CALLS, (end,))):
                sent = (caller.arn, caller.token, updates, f"client/token+{count}={_ASCII[1:40]}")
                del bench.door.calls[:]
                await caller.call(*updates, client_token=sent[3])
                expect(bench.door.calls, "a call that arrives", "none")
                arrived = bench.door.calls[-1]
                for what, one, other in zip(arrived._fields, arrived, sent, strict=True):
                    expect_same(f"{what} of call {count + 1}", one, other)


@rule
async def what_is_answered_comes_back(bench: ClientBench) -> None:
    """Operations come back as the service has answered them, in order, with all details, to the millisecond."""
    async with bench.connected():
        caller = await bench.start()
        for count, updates in enumerate(_CALLS):
            found = await caller.call(*updates)
            answer = bench.door.answers[-1]
            expected = list(answer.new_execution_state.operations)
            expect_same(f"the operations of answer {count + 1}", found, expected)
            expect_same(f"the token of answer {count + 1}", caller.token, answer.checkpoint_token or "")


@rule
async def the_answer_that_ends_an_execution_has_no_token(bench: ClientBench) -> None:
    """When there is no token in the service's answer, as the execution is over, there is none in the client's."""
    async with bench.connected():
        for number, end in enumerate(_ENDS):
            caller = await bench.start(f"t-{number}")
            answer = await bench.client.checkpoint(caller.arn, caller.token, [end], "end")
            expect_same("the token of the last answer", answer.checkpoint_token, None)
            record = await bench.service.record(caller.record.id)
            expect_same("the execution's end", (record.result, record.error), (end.payload, end.error))


@rule
async def each_token_is_good_for_one_call(bench: ClientBench) -> None:
    """Each answer has another token, with which the next call is made; asking for the state does not use it up."""
    async with bench.connected():
        caller = await bench.start()
        seen = [caller.token]
        for number in range(5):
            await caller.call(*step(f"s-{number}"))
            await bench.client.get_state(caller.arn, caller.token, "", 10)
            expect(caller.token and caller.token not in seen, "a token that is new", caller.token)
            seen.append(caller.token)
        arrived = dict.fromkeys(call.token for call in bench.door.calls)  # a client may repeat what it sends
        expect_same("the tokens that arrived", list(arrived), seen[:-1])


@rule
async def texts_come_through_as_they_are(bench: ClientBench) -> None:
    """Payloads, errors and what is answered come through character by character, whatever is in them."""
    async with bench.connected():
        caller = await bench.start()
        for number, text in enumerate(TEXTS):
            error = ErrorObject(error_message=text, error_type=text, error_data=text, stack_trace=(text, ""))
            updates = (
                *step(f"s-{number}", text),
                update(STEP, START, f"f-{number}"),
                update(STEP, FAIL, f"f-{number}", error=error),
            )
            await _records(caller, updates, text, error)


@rule
async def large_payloads_come_through(bench: ClientBench) -> None:
    """1 MB of an operation or of an error, and 6 MB of a result, come through as they are."""
    one = "é🚀" + "x" * (MAX_PAYLOAD_BYTES - 6)
    async with bench.connected():
        caller = await bench.start()
        error = ErrorObject(error_message=one)
        failed = (update(STEP, START, "f"), update(STEP, FAIL, "f", error=error))
        await _records(caller, step("s", one), one, None)
        await _records(caller, failed, None, error)
        state = await bench.client.get_state(caller.arn, caller.token, "", 1000)
        found = [*state.operations, *await caller.pages(state.next_marker)]
        expect_same("the state", [operation.result for operation in found], [None, one, None])
        six = "x" * MAX_EXECUTION_PAYLOAD_BYTES
        await caller.call(update(_EXECUTION, SUCCEED, "end", name=None, payload=six))
        expect_same("the execution's result", (await bench.service.record(caller.record.id)).result, six)


async def _records(caller: Caller, updates: Any, text: str | None, error: ErrorObject | None) -> None:
    """That a call records these, and that it is what comes back."""
    answered = {operation.id: operation for operation in await caller.call(*updates)}
    recorded = {operation.id: operation for operation in await caller.recorded()}
    first, last = updates[0].id, updates[-1].id
    for what, found in (("the answer", answered), ("the record", recorded)):
        expect(first in found and last in found, f"{first} and {last} in {what}", list(found))
        expect_same(f"the result in {what}", found[first].result, text)
        expect_same(f"the error in {what}", found[last].error, error)


@rule
async def an_answer_may_be_long(bench: ClientBench) -> None:
    """All of a call's 250 updates are recorded, and all operations come back, in order."""
    async with bench.connected():
        caller = await bench.start()
        for call in range(2):
            ids = [f"{call}-{number}" for number in range(MAX_UPDATES_PER_CALL)]
            found = await caller.call(*(update(STEP, START, operation_id) for operation_id in ids))
            expect_same("the ids of what comes back", [operation.id for operation in found], ids)
        expect_same("the number of operations", len(await caller.recorded()), 2 * MAX_UPDATES_PER_CALL)


@rule
async def a_poll_tells_what_has_changed(bench: ClientBench) -> None:
    """A call without updates reaches the service, and gives, once, what changed by time and from outside."""
    async with bench.connected():
        caller = await bench.start()
        started = await caller.call(
            update(_CALLBACK, START, "asked"),
            update(WAIT, START, "wait", wait_options=WaitOptions(wait_seconds=5)),
            update(STEP, START, "retry"),
            update(STEP, RETRY, "retry", error=_ERROR, step_options=_retry(5)),
        )
        expect_same("a poll before anything has changed", await caller.call(), [])
        details = started[0].callback_details
        callback_id = "" if details is None else details.callback_id or ""
        await bench.outside.succeed_callback(callback_id, '"yes 🚀"')
        found = [(operation.id, operation.status, operation.result) for operation in await caller.call()]
        expect_same("a poll after a callback", found, [("asked", OperationStatus.SUCCEEDED, '"yes 🚀"')])
        await bench.clock.sleep(5)
        changed = {(operation.id, operation.status) for operation in await caller.call()}
        expected = {("wait", OperationStatus.SUCCEEDED), ("retry", OperationStatus.READY)}
        expect_same("a poll after five seconds", changed, expected)
        expect_same("another poll", await caller.call(), [])
