"""Callbacks: an id for somebody outside, and what he sends."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import anyio
import pytest

from durable import (
    Callback,
    CallbackError,
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    DurableContext,
    FrameMisuseError,
    InvalidDurationError,
    InvalidNameError,
    RecordedError,
    Retry,
    SerializationError,
    ServiceError,
    current_context,
    current_step,
    durable_execution,
    saga,
)
from durable._kernel.ids import operation_id
from durable._wire import ErrorObject, InvocationStatus
from durable._wire import OperationStatus as S
from tests.harness import CrashError
from tests.scripted import ScriptedService

pytestmark = pytest.mark.anyio

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


@dataclass
class Approval:
    by: str
    limit: Decimal


class Rejected(Exception):
    reason: str = ""


async def submit(callback_id: str) -> None:
    SEEN.append(callback_id)


@durable_execution
async def approve(event: None, ctx: DurableContext) -> Approval:
    callback = await ctx.create_callback(
        Approval, name="approval", timeout=60.5, heartbeat_timeout=timedelta(minutes=2)
    )
    await ctx.step(submit, callback.id)
    return await callback.result()


# --- create_callback and result ------------------------------------------------------------------------------


async def test_a_callback_gives_its_id_and_waits_for_what_is_sent():
    """Its START is awaited, as the id comes back with it; the result records nothing."""
    service = ScriptedService(approve)
    await service.suspended()
    assert SEEN == ["cb-1"]
    assert service.calls == [["CALLBACK START approval"], ["STEP START submit", "STEP SUCCEED submit"]]
    service.end("approval", result='{"by":"Ann","limit":"9.50"}')
    assert await service.result() == Approval("Ann", Decimal("9.50"))
    assert len(service.calls) == 2
    assert SEEN == ["cb-1"]


async def test_the_time_limits_go_out_with_the_start():
    """In whole seconds, rounded up; 0 is none."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.create_callback(name="none")
        await ctx.create_callback(name="one", heartbeat_timeout=1)

    service = ScriptedService(approve)
    await service.suspended()
    options = service.updates[0][0].callback_options
    assert options is not None
    assert (options.timeout_seconds, options.heartbeat_timeout_seconds) == (61, 120)
    service = ScriptedService(work)
    assert await service.result() is None
    sent = [update.callback_options for call in service.updates for update in call]
    assert [(one.timeout_seconds, one.heartbeat_timeout_seconds) for one in sent if one] == [(0, 0), (0, 1)]


async def test_a_callback_takes_a_position_and_its_result_takes_none():
    """So that the result can be awaited wherever it is needed."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        callback = await ctx.create_callback()
        await callback.result()
        await callback.result()
        await ctx.step(submit, "x")

    service = ScriptedService(work)
    await service.suspended()
    first = service.operations[1]
    assert (first.id, first.type, first.sub_type, first.name) == (
        operation_id(None, 1),
        "CALLBACK",
        "Callback",
        None,
    )
    service._change(first.id, status=S.SUCCEEDED)
    await service.result()
    assert service.operation("submit").id == operation_id(None, 2)


@pytest.mark.parametrize("text", ["yes", "7", '{"a": 1}', "", None])
async def test_without_a_type_the_text_is_handed_out_as_it_came(text):
    """Whoever sends it need not know of JSON."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | None]:
        callback = await ctx.create_callback(name="c")
        return [await callback.result()]

    service = ScriptedService(work)
    await service.suspended()
    service.end("c", result=text)
    assert await service.result() == [text]


@pytest.mark.parametrize(
    ("result_type", "text", "value"),
    [
        (str, '"yes"', "yes"),
        (int | None, None, None),
        (int | None, "7", 7),
        (list[Decimal], '["1.5"]', [Decimal("1.5")]),
        (Any, '{"a": 1}', {"a": 1}),
        (Annotated[int, ["not hashable"]], "7", 7),
        (Approval, '{"by":"Ann","limit":1}', Approval("Ann", Decimal(1))),
    ],
)
async def test_with_a_type_what_is_sent_is_json_and_decoded_by_it(result_type, text, value):
    """Whatever msgspec knows; nothing sent is null."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        callback = await ctx.create_callback(result_type, name="c")
        SEEN.append(await callback.result())

    service = ScriptedService(work)
    await service.suspended()
    service.end("c", result=text)
    await service.result()
    (sent,) = SEEN
    assert sent == value
    assert type(sent) is type(value)


@pytest.mark.parametrize("text", ["yes", "7", None, '{"by":"Ann"}'])
async def test_what_does_not_fit_the_type_is_an_error_of_the_result(text):
    """It names the callback and the type, each time it is asked for."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(Approval, name="approval")
        for _ in range(2):
            with pytest.raises(
                SerializationError, match="result of callback 'approval' does not fit its annotation Appr"
            ):
                await callback.result()
        return "went on"

    service = ScriptedService(work)
    await service.suspended()
    service.end("approval", result=text)
    assert await service.result() == "went on"


async def test_a_type_that_can_never_be_decoded_is_an_error_at_the_call():
    """Before the outside world is told of anything."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.create_callback(threading.Thread)

    service = ScriptedService(work)
    with pytest.raises(SerializationError, match="the result of a callback is annotated with Thread"):
        await service.result()
    assert service.calls == []


@pytest.mark.parametrize("limit", ["timeout", "heartbeat_timeout"])
@pytest.mark.parametrize("duration", [0, 0.5, -1, 100_000_000, float("inf")])
async def test_a_time_limit_the_service_would_refuse_is_an_error_at_the_call(limit, duration):
    """It says which limit of which callback, and what is allowed."""

    @durable_execution
    async def work(event: str, ctx: DurableContext) -> None:
        limits: dict[str, Any] = {limit: duration}
        if event == "plain":
            await ctx.create_callback(name="approval", **limits)
        await ctx.wait_for_callback(submit, name="approval", **limits)

    for event in ("plain", "whole"):
        service = ScriptedService(work, event)
        with pytest.raises(InvalidDurationError) as caught:
            await service.result()
        shown = "callback 'approval'" if event == "plain" else "wait_for_callback 'approval'"
        assert f"for the {limit.replace('_', ' ')} of {shown}: a " in str(caught.value)
        assert service.calls == []


ENDINGS: dict[str, tuple[S, ErrorObject | None, type[CallbackError], str]] = {
    "failed": (
        S.FAILED,
        ErrorObject(
            error_type=f"{__name__}.Rejected",
            error_message="too dear",
            error_data='{"args":["too dear"],"attributes":{"reason":"price"}}',
            stack_trace=("line 1", "line 2"),
        ),
        CallbackFailedError,
        f"callback 'approval' (id cb-1) failed: {__name__}.Rejected: too dear",
    ),
    "failed with a text": (
        S.FAILED,
        ErrorObject(error_message="no"),
        CallbackFailedError,
        "callback 'approval' (id cb-1) failed: Error: no",
    ),
    "failed without a word": (S.FAILED, None, CallbackFailedError, "callback 'approval' (id cb-1) failed"),
    "failed as if it had timed out": (
        S.FAILED,
        ErrorObject(error_type="Callback.Heartbeat"),
        CallbackFailedError,
        "callback 'approval' (id cb-1) failed: Callback.Heartbeat: ",
    ),
    "timed out": (
        S.TIMED_OUT,
        ErrorObject(error_type="Callback.Timeout", error_message="Callback timed out"),
        CallbackTimeoutError,
        "callback 'approval' (id cb-1) timed out: Callback.Timeout: Callback timed out",
    ),
    "timed out without a word": (
        S.TIMED_OUT,
        None,
        CallbackTimeoutError,
        "callback 'approval' (id cb-1) timed out",
    ),
    "missed a heartbeat": (
        S.TIMED_OUT,
        ErrorObject(error_type="Callback.Heartbeat", error_message="late"),
        CallbackHeartbeatError,
        "callback 'approval' (id cb-1) missed its heartbeat: Callback.Heartbeat: late",
    ),
    "cancelled": (S.CANCELLED, None, CallbackError, "callback 'approval' (id cb-1) ended without a result"),
}


def facts(error: BaseException | None) -> Any:
    """What there is to an exception, apart from where it was raised."""
    if error is None:
        return None
    own = {name: value for name, value in vars(error).items() if not name.startswith("__")}
    return type(error), str(error), error.args, own, facts(error.__cause__)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_how_a_callback_ended_is_told_by_its_result(ending):
    """Each way as its own type, with what the sender reported, equal each time it is asked for and on replay."""
    status, reported, kind, text = ENDINGS[ending]

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        callback = await ctx.create_callback(name="approval")
        for _ in range(2):
            try:
                await callback.result()
            except CallbackError as error:
                SEEN.append(error)
        await ctx.wait(1)

    service = ScriptedService(work)
    await service.suspended()
    service.end("approval", status, error=reported)
    await service.suspended()
    await service.suspended()
    assert len(SEEN) == 4
    for error in SEEN:
        assert type(error) is kind
        assert str(error) == text
        assert (error.name, error.callback_id) == ("approval", "cb-1")
        told = reported or ErrorObject()
        assert (error.error_type, error.message, error.data) == (
            told.error_type,
            told.error_message,
            told.error_data,
        )
        assert error.stack_trace == (told.stack_trace or ())
        assert isinstance(error, TimeoutError) is (status is S.TIMED_OUT)
        assert facts(error) == facts(SEEN[0])


async def test_the_senders_error_is_the_cause_as_its_own_type():
    """Where its class is known here; otherwise what was recorded of it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await (await ctx.create_callback(name="approval")).result()

    service = ScriptedService(work)
    await service.suspended()
    service.end("approval", S.FAILED, error=ENDINGS["failed"][1])
    with pytest.raises(CallbackFailedError) as caught:
        await service.result()
    cause = caught.value.__cause__
    assert isinstance(cause, Rejected)
    assert (str(cause), cause.reason) == ("too dear", "price")
    service.end("approval", S.FAILED, error=ErrorObject(error_type="their.Error", error_message="m"))
    with pytest.raises(CallbackFailedError) as caught:
        await service.result()
    assert isinstance(caught.value.__cause__, RecordedError)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("around", ["child", "saga", "callback"])
async def test_the_error_of_a_callback_survives_what_it_passes_through(around, ending):
    """A child, a saga, a `wait_for_callback` record it; what comes out is equal, live and replayed."""
    status, reported, kind, _ = ENDINGS[ending]

    async def inside(ctx: DurableContext) -> None:
        await (await ctx.create_callback(name="approval")).result()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            if around == "child":
                await ctx.child(inside)
            elif around == "callback":
                await ctx.wait_for_callback(submit, name="approval")
            else:
                async with saga(ctx) as s:
                    await s.step(submit, "booked", compensate=undo)
                    await inside(ctx)
        except CallbackError as error:
            SEEN.append(error)
        await ctx.wait(1)

    async def undo(_: None) -> None: ...

    service = ScriptedService(work)
    await service.suspended()
    SEEN.clear()
    name = "approval create callback id" if around == "callback" else "approval"
    service.end(name, status, error=reported)
    await service.suspended()
    await service.suspended()
    live, replayed = (error for error in SEEN if isinstance(error, CallbackError))
    assert type(live) is kind
    assert live.name == "approval"
    assert facts(live) == facts(replayed)
    assert (live.error_type, live.message) == (
        (reported.error_type, reported.error_message) if reported else (None, None)
    )
    assert facts(live.__cause__) == facts(replayed.__cause__)
    assert live.__cause__ is not None or reported is None


@pytest.mark.parametrize("status", [S.FAILED, S.TIMED_OUT, S.CANCELLED])
async def test_a_creation_does_not_fail_by_what_became_of_the_callback(status):
    """Also on replay, and in an invocation that finds it ended: that is for `result()` to say."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(name="approval")
        await ctx.wait(1, name="before anybody looks")
        with pytest.raises(CallbackError):
            await callback.result()
        return callback.id

    service = ScriptedService(work)
    await service.suspended()
    service.end("approval", status)
    service._change(service.operation("before anybody looks").id, status=S.SUCCEEDED)
    assert await service.result() == "cb-1"


async def test_a_result_that_is_there_already_does_not_suspend():
    """The service told of it with the answer to another call."""

    async def sent(callback_id: str) -> None:
        service.end("approval", result='"fast"')

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(str, name="approval")
        await ctx.step(sent, callback.id)
        return await callback.result()

    service = ScriptedService(work)
    assert await service.result() == "fast"
    assert service.invocations == 1


async def test_a_result_can_be_awaited_in_a_child():
    """In another frame than the one that created the callback, before and after it has ended."""

    async def inside(ctx: DurableContext, callback: Callback[str]) -> str:
        first = await callback.result()
        await ctx.step(submit, first)
        return first + await callback.result()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(str, name="approval")
        return await ctx.child(inside, callback) + await callback.result()

    service = ScriptedService(work)
    await service.suspended()
    assert service.calls == [["CALLBACK START approval"], ["CONTEXT START inside"]]
    service.end("approval", result='"x"')
    assert await service.result() == "xxx"
    assert service.operation("submit").id == operation_id(service.operation("inside").id, 1)


async def test_a_result_can_be_awaited_in_several_branches_at_once():
    """Each is woken by the one answer that tells of it, and goes on in the same invocation."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        callback = await ctx.create_callback(str, name="approval")

        async def waits(branch: DurableContext) -> str:
            sent = await callback.result()
            await branch.step(submit, sent)
            return sent

        async def sends(branch: DurableContext) -> str:
            await branch.step(send)
            return ""

        return [*(await ctx.parallel([waits, waits, sends])).results(), await callback.result()]

    async def send() -> None:
        service.end("approval", result='"x"')

    service = ScriptedService(work)
    assert await service.result() == ["x", "x", "", "x"]
    assert service.invocations == 1
    assert SEEN == ["x", "x"]


async def test_a_branch_that_waits_for_a_callback_suspends_only_when_no_other_runs():
    """The sibling's steps are done first; the next invocation goes on with what was sent."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str | None]:
        callback = await ctx.create_callback(name="approval")

        async def waits(branch: DurableContext) -> str | None:
            return await callback.result()

        async def works(branch: DurableContext) -> None:
            for n in range(3):
                await branch.step(submit, str(n))

        async with ctx.task_group() as tg:
            waiting = tg.start_soon(waits)
            tg.start_soon(works)
        return [waiting.result()]

    service = ScriptedService(work)
    await service.suspended()
    assert SEEN == ["0", "1", "2"]
    service.end("approval", result="yes")
    assert await service.result() == ["yes"]
    assert SEEN == ["0", "1", "2"]


async def test_a_callback_that_comes_too_late_does_not_change_what_a_time_limit_decided():
    """The recorded outcome stands, on replay as the first time, whatever has been sent since."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        callback = await ctx.create_callback(str, name="approval")
        try:
            async with ctx.fail_after(10):
                SEEN.append(await callback.result())
        except TimeoutError:
            SEEN.append("too late")
        await ctx.wait(1, name="w")
        return await callback.result()

    service = ScriptedService(work)
    await service.suspended()
    limit = next(one for one in service.operations if one.type == "WAIT")
    service._change(limit.id, status=S.SUCCEEDED)
    await service.suspended()
    service.end("approval", result='"x"')
    service._change(service.operation("w").id, status=S.SUCCEEDED)
    assert await service.result() == "x"
    assert SEEN == ["too late"] * 2


async def test_a_result_awaited_inside_a_step_or_in_another_task_is_refused():
    """As any operation there: it would suspend what cannot be suspended."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        callback = await ctx.create_callback(str, name="approval")

        async def from_another_task() -> None:
            with pytest.raises(FrameMisuseError, match="Callback 'approval' was called from another task"):
                await callback.result()

        async def inside() -> None:
            await callback.result()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(from_another_task)
        with pytest.raises(
            FrameMisuseError, match="Callback 'approval' was called on a context while step 'inside'"
        ):
            await ctx.step(inside)

    service = ScriptedService(work)
    await service.result()


async def test_a_handle_that_was_kept_over_invocations_is_refused():
    """It belongs to the invocation that created it; replay gives a new one to the next."""
    kept: list[Callback[str | None]] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        kept.append(await ctx.create_callback(name="approval"))
        await kept[0].result()

    service = ScriptedService(work)
    await service.suspended()
    with pytest.raises(
        FrameMisuseError, match="the result of callback 'approval' was awaited outside of the invoc"
    ):
        await service.result()
    with pytest.raises(FrameMisuseError, match="outside of the invocation"):
        await kept[0].result()


async def test_a_service_that_gives_no_id_fails_the_invocation_and_not_the_function():
    """No handler of the user's sees it; the next invocation may find the id."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        try:
            callback = await ctx.create_callback(name="approval")
        except BaseException as error:
            SEEN.append(isinstance(error, Exception))
            raise
        return callback.id

    service = ScriptedService(work)
    service.gives_ids = False
    for _ in range(2):
        with pytest.raises(ServiceError, match="has recorded Callback 'approval' and gave no id") as caught:
            await service.invoke()
        assert caught.value.retryable
    assert SEEN == [False, False]
    assert len(service.calls) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_every_call(moment):
    """A callback has one id for ever; whoever was told it is heard."""
    for number in range(1, 4):
        SEEN.clear()
        service = ScriptedService(approve)

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        setattr(service, moment, crash)
        if number < 3:
            with pytest.raises(CrashError):
                await service.invoke()
        await service.suspended()
        assert set(SEEN) == {"cb-1"}
        assert len(SEEN) <= 2
        service.end("approval", result='{"by":"Ann","limit":"1"}')
        assert await service.result() == Approval("Ann", Decimal(1))
        assert [operation.type for operation in service.operations[1:]] == ["CALLBACK", "STEP"]


async def test_a_saga_is_rolled_back_by_a_callback_that_failed():
    """And not by one that has not come yet: waiting is no failure."""

    async def undo(value: None) -> None:
        SEEN.append("undone")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(submit, "booked", compensate=undo)
            await (await ctx.create_callback(name="approval")).result()

    service = ScriptedService(work)
    await service.suspended()
    await service.suspended()
    assert SEEN == ["booked"]
    service.end("approval", S.FAILED, error=ErrorObject(error_message="no"))
    with pytest.raises(CallbackFailedError):
        await service.result()
    assert SEEN == ["booked", "undone"]


async def test_a_callback_shows_its_name_and_id():
    """For people who print it."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        return repr(await ctx.create_callback(name="approval"))

    assert await ScriptedService(work).result() == "<Callback 'approval' id='cb-1'>"


# --- wait_for_callback ---------------------------------------------------------------------------------------


@durable_execution
async def ask(event: None, ctx: DurableContext) -> Approval:
    return await ctx.wait_for_callback(submit, Approval, name="approval", timeout=60)


async def test_wait_for_callback_records_what_the_protocol_says():
    """A context with the callback and the step that submits its id; what goes together goes together."""
    service = ScriptedService(ask)
    await service.suspended()
    assert SEEN == ["cb-2"]
    assert service.calls == [
        ["CONTEXT START approval", "CALLBACK START approval create callback id"],
        ["STEP START approval submitter", "STEP SUCCEED approval submitter"],
    ]
    service.end("approval create callback id", result='{"by":"Ann","limit":"9.50"}')
    assert await service.result() == Approval("Ann", Decimal("9.50"))
    assert service.calls[2:] == [["CONTEXT SUCCEED approval"]]
    assert SEEN == ["cb-2"]
    _, context, callback, step = service.operations
    assert (context.sub_type, context.parent_id) == ("WaitForCallback", None)
    assert (callback.id, callback.parent_id) == (operation_id(context.id, 1), context.id)
    assert (step.id, step.parent_id) == (operation_id(context.id, 2), context.id)
    assert context.context_details is not None
    assert context.context_details.result == '{"by":"Ann","limit":"9.50"}'


async def test_wait_for_callback_gives_the_same_live_and_replayed():
    """Typed, and as a text as it came without a type."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        first = await ctx.wait_for_callback(submit, list[Decimal], name="typed")
        second = await ctx.wait_for_callback(submit)
        SEEN.append((first, second))
        await ctx.wait(1)

    service = ScriptedService(work)
    await service.suspended()
    service.end("typed create callback id", result='["1.50"]')
    await service.suspended()
    service.end("submit create callback id", result='not "JSON"')
    await service.suspended()
    await service.suspended()
    assert SEEN[2:] == [([Decimal("1.50")], 'not "JSON"')] * 2


@pytest.mark.parametrize("size", [300_000, 1_000_000])
async def test_a_large_result_is_rebuilt_from_the_callbacks_own_record(size):
    """The context's record leaves it out; the submitter is still not called again."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        text = await ctx.wait_for_callback(submit, name="large")
        await ctx.wait(1, name="w")
        return len(text or "")

    service = ScriptedService(work)
    await service.suspended()
    service.end("large create callback id", result='"' * size)
    await service.suspended()
    details = service.operation("large").context_details
    assert details is not None
    assert (details.replay_children, details.result) == (True, "")
    service._change(service.operation("w").id, status=S.SUCCEEDED)
    assert await service.result() == size
    assert len(SEEN) == 1


async def test_a_plain_submitter_runs_in_a_worker_thread():
    """With `current_step()` there."""

    def blocking(callback_id: str) -> None:
        SEEN.append((callback_id, threading.current_thread() is threading.main_thread(), current_step().name))

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_callback(blocking)

    await ScriptedService(work).suspended()
    assert SEEN == [("cb-2", False, "blocking submitter")]


async def test_what_a_submitter_returns_does_not_matter():
    """Not even whether it can be recorded: a client's response, as a rule."""

    async def post(callback_id: str) -> threading.Thread:
        return threading.current_thread()

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_callback(post)

    service = ScriptedService(work)
    await service.suspended()
    assert service.updates[1][1].payload == "null"


async def test_a_submitter_that_fails_is_called_again_by_the_policy():
    """With the same id; the callback is created once."""

    async def flaky(callback_id: str) -> None:
        SEEN.append((callback_id, current_step().attempt))
        if len(SEEN) < 3:
            raise OSError("busy")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str | None:
        return await ctx.wait_for_callback(flaky, name="c", retry=Retry(attempts=3))

    service = ScriptedService(work)
    await service.suspended()
    for _ in range(2):
        await service.retried()
        await service.suspended()
    assert SEEN == [("cb-2", 1), ("cb-2", 2), ("cb-2", 3)]
    service.end("c create callback id", result="done")
    assert await service.result() == "done"


async def test_a_callback_may_be_completed_between_two_attempts_of_its_submitter():
    """Nothing of it is lost, and the submitter still has its turn."""

    async def flaky(callback_id: str) -> None:
        SEEN.append(callback_id)
        if len(SEEN) == 1:
            raise OSError("the answer was lost")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str | None:
        return await ctx.wait_for_callback(flaky, name="c", retry=Retry(attempts=2))

    service = ScriptedService(work)
    await service.suspended()
    service.end("c create callback id", result="early")
    await service.suspended()
    assert SEEN == ["cb-2"]
    await service.retried()
    assert await service.result() == "early"
    assert SEEN == ["cb-2"] * 2


async def test_a_callback_may_be_completed_while_its_submitter_still_runs():
    """The answer to the submitter's record tells of it: no suspension."""

    async def fast(callback_id: str) -> None:
        service.end("fast create callback id", result="at once")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str | None:
        return await ctx.wait_for_callback(fast)

    service = ScriptedService(work)
    assert await service.result() == "at once"
    assert service.invocations == 1


async def test_a_submitter_that_fails_for_good_fails_the_wait():
    """With its own error, live and on replay; nobody waits for a callback that nobody knows of."""

    async def refuse(callback_id: str) -> None:
        raise Rejected("not now")

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        try:
            await ctx.wait_for_callback(refuse)
        except Rejected as error:
            SEEN.append(str(error))
        await ctx.wait(1)

    service = ScriptedService(work)
    await service.suspended()
    await service.suspended()
    assert SEEN == ["not now"] * 2
    assert service.operation("refuse").status is S.FAILED
    assert service.operation("refuse create callback id").status is S.STARTED


async def test_the_workflows_own_context_is_refused_inside_a_submitter():
    """It is the body of a step."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async def outer(callback_id: str) -> None:
            await ctx.wait(1)

        async def inner(callback_id: str) -> None:
            await current_context().wait(1)

        with pytest.raises(FrameMisuseError, match="while WaitForCallback 'outer' is running on it"):
            await ctx.wait_for_callback(outer)
        with pytest.raises(FrameMisuseError, match="while step 'inner submitter' is running on it"):
            await ctx.wait_for_callback(inner)

    await ScriptedService(work).result()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x" * 238, "it has at most 237 characters, as what is inside is called '<name> create callback id'"),
        ("", "a name has 1 to 256 characters"),
        ("hôtel", "printable ASCII"),
        ("x" * 300, "a name has 1 to 256 characters"),
    ],
)
async def test_a_name_that_leaves_no_room_for_those_inside_is_an_error_at_the_call(name, text):
    """Nothing is recorded."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_callback(submit, name=name)

    service = ScriptedService(work)
    with pytest.raises(InvalidNameError) as caught:
        await service.result()
    assert text in str(caught.value)
    assert "for a wait_for_callback" in str(caught.value)
    assert service.calls == []


async def test_a_name_of_237_characters_leaves_just_enough_room():
    """The service takes 256."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_callback(submit, name="x" * 237)

    service = ScriptedService(work)
    await service.suspended()
    assert max(len(operation.name or "") for operation in service.operations) == 256


@pytest.mark.parametrize(
    ("submitter", "result_type", "error"),
    [(7, None, TypeError), (submit, threading.Thread, SerializationError)],
)
async def test_what_can_be_known_to_be_wrong_is_said_before_anything_is_recorded(submitter, result_type, error):
    """Not after the callback was created."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        await ctx.wait_for_callback(submitter, result_type)

    service = ScriptedService(work)
    with pytest.raises(error):
        await service.result()
    assert service.calls == []


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_at_every_call_of_a_wait_for_callback(moment, monkeypatch):
    """One callback, the submitter at most once more, the result as sent."""
    monkeypatch.setattr("durable._engine.journal.LINGER", 3600.0)  # no START leaves alone: the calls are known
    for number in range(1, 5):
        SEEN.clear()
        service = ScriptedService(ask)

        def crash(call: int, number: int = number) -> None:
            if call == number:
                raise CrashError

        setattr(service, moment, crash)
        crashed = 0
        output = None
        while output is None or output.status is InvocationStatus.PENDING:
            try:
                output = await service.invoke()
            except CrashError:
                crashed += 1
                service.before = service.after = lambda _: None
                continue
            if output.status is InvocationStatus.PENDING:
                service.end("approval create callback id", result='{"by":"Ann","limit":"1"}')
        assert service.function.decode_result(output.result) == Approval("Ann", Decimal(1))
        assert crashed == (number < 4)
        assert set(SEEN) == {"cb-2"}
        assert len(SEEN) <= 2
        assert [operation.type for operation in service.operations[1:]] == ["CONTEXT", "CALLBACK", "STEP"]
