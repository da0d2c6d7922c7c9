"""The Rust original's compensation tests, as they are here, and its defects, which are not (SEED sections 2, 3, 5).

Some of its defects have tests elsewhere in this directory, where they belong:

  started compensations started again (2)                    test_compensations, test_decision
  rollbacks cut short by failures of the service (6, 7)      every crash sweep; test_when
  no rollback when the code raises (9)                       test_when
  a suspension taken for an error (10, 16)                   test_when, test_compensations
  outcomes in doubt (11)                                     test_in_doubt
  what children and branches did, lost (12)                  test_nesting, test_concurrency, test_order
  no retry, no time limit, no durable operations (14, 15)    test_compensations, test_rollback_timeout
  one policy, no pivot, no nesting (18, 27)                  test_errors, test_operator, test_savepoints_and_pivot
  the decision not recorded, the report not kept (19, 20)    test_decision, test_deploys, test_reports
  no idempotency key (24)                                    test_idempotency
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from durable import (
    CompensationError,
    CompensationItem,
    DurableContext,
    NonDeterminismError,
    SagaScope,
    SerializationError,
    ServiceError,
    durable_execution,
    saga,
)
from durable._kernel.ids import compensation_id, operation_id
from durable._wire import InvocationInput, InvocationStatus, codec
from durable._wire.calls import CheckpointDurableExecutionResponse
from durable.exceptions import MissingCompensationError
from tests.harness import CrashError, Harness
from tests.saga.world import LOG, Full, book, cancel, cannot_cancel, note, refuse, run

pytestmark = pytest.mark.anyio


def trip(*, undo: Any = cancel, reports: list[Any] | None = None) -> Any:
    """Three steps, each with its undo, rolled back by hand, as the original's are."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            for what in "abc":
                await s.step(book, what, compensate=undo if what == "b" else cancel, name=what)
            try:
                result = await s.rollback("by hand")
            except CompensationError as error:
                result = error.result
            if reports is not None:
                reports.append(result)

    return work


# --- Its tests -----------------------------------------------------------------------------------------------


async def test_compensation_reverse_order():
    """a, b, c are registered; c, b, a run; three items, all succeeded."""
    reports: list[Any] = []
    ran = await run(trip(reports=reports))
    assert ran.log == ["book a", "book b", "book c", "cancel c", "cancel b", "cancel a"]
    assert [item.name for item in reports[0].items] == ["c", "b", "a"]
    assert reports[0].all_succeeded


async def test_compensation_failure_captured_per_item():
    """c succeeded, b failed with its error, a succeeded all the same; not all have."""
    reports: list[Any] = []
    ran = await run(trip(undo=cannot_cancel, reports=reports))
    assert ran.log[3:] == ["cancel c", "try to cancel b", "cancel a"]
    c, b, a = reports[0].items
    assert (c.status, b.status, a.status) == ("succeeded", "failed", "succeeded")
    assert repr(b.error) == "Full('b')"
    assert not reports[0].all_succeeded


async def test_compensation_not_registered_on_forward_error():
    """The step's error is kept; a rollback finds nothing to undo."""
    reports: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> str:
        async with saga(ctx) as s:
            try:
                await s.step(refuse, "a", compensate=cancel)
            except Full as error:
                reports.append(await s.rollback(error))
                return repr(error)
        return "?"

    ran = await run(work)
    assert ran.result() == "Full('a')"
    assert (reports[0].items, reports[0].all_succeeded) == ((), True)


async def test_compensation_empty_is_noop():
    """Nothing registered: an empty report, and no call."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> int:
        async with saga(ctx) as s:
            return len((await s.rollback("nothing")).items)

    ran = await run(work)
    assert ran.result() == 0
    assert ran.harness.calls == []


async def test_a_step_with_a_compensation_gives_its_result_or_its_error():
    """As any step; what may undo it makes no difference to that."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> list[str]:
        async with saga(ctx) as s:
            result = await s.step(book, "a", compensate=cancel)
            try:
                await s.step(refuse, "b", compensate=cancel)
            except Full as error:
                return [result, repr(error)]
        return []

    assert (await run(work)).result() == ["a", "Full('b')"]


async def test_compensation_checkpoint_sequence():
    """A context of subtype Compensation, with name and parent in every update; FAIL has the error."""
    for undo, end in ((cancel, "SUCCEED"), (cannot_cancel, "FAIL")):
        harness = Harness(trip(undo=undo))
        await harness.result()
        updates = [
            u for call in harness.client.calls for u in call if u.sub_type == "Compensation" and u.name == "b"
        ]
        assert [u.action for u in updates] == ["START", end]
        assert {u.parent_id for u in updates} == {harness.operation("trip").id}
        assert (updates[1].error is not None) == (end == "FAIL")
        if updates[1].error is not None:
            error = updates[1].error
            assert (error.error_type or "").endswith("Full")
            assert error.error_message == "b"
            assert error.stack_trace
            assert "test_seed.py" in error.stack_trace[-1] or "world.py" in error.stack_trace[-1]


async def test_compensation_partial_rollback_resume():
    """c and b are done; in the next invocation only a runs, in one call and a half."""
    harness = Harness(trip())
    harness.client.after = _crash_at(6)  # c's and b's ends are recorded, and a's start
    with pytest.raises(CrashError):
        await harness.invoke()
    harness.client.after = lambda _: None
    LOG.clear()
    await harness.result()
    assert LOG == ["cancel a"]
    assert harness.calls[6:] == [["CONTEXT SUCCEED a", "CONTEXT SUCCEED trip"]]


async def test_replay_skips_completed():
    """A rollback that is over makes no call and calls no function, however often it is replayed."""
    reports: list[Any] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx, "trip") as s:
            await s.step(book, "a", compensate=cancel, name="a")
            reports.append(await s.rollback("by hand"))
        await ctx.wait(60)
        await ctx.wait(60)

    ran = await run(work)
    assert ran.log == ["book a", "cancel a"]
    assert ran.harness.invocations == 3
    assert [report.items for report in reports] == [(CompensationItem("a", "succeeded"),)] * 3


# --- Its defects ---------------------------------------------------------------------------------------------


class RawHarness(Harness):
    """An execution whose function gets everything as the JSON that travels, changed as a test likes."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self.tamper: Callable[[dict[str, Any]], None] = lambda _: None
        begin, checkpoint = self.service.begin_invocation, self.client.checkpoint

        async def begin_invocation(execution_id: str) -> InvocationInput:
            event = json.loads(codec.INVOCATION_INPUT.encode(await begin(execution_id)))
            for operation in event["InitialExecutionState"]["Operations"]:
                self.tamper(operation)
            return codec.INVOCATION_INPUT.decode(json.dumps(event))

        async def raw_checkpoint(*args: Any) -> CheckpointDurableExecutionResponse:
            return codec.CHECKPOINT_RESPONSE.decode(codec.CHECKPOINT_RESPONSE.encode(await checkpoint(*args)))

        self.service.begin_invocation = begin_invocation  # type: ignore[method-assign]
        self.client.checkpoint = raw_checkpoint  # type: ignore[method-assign, assignment]


async def test_compensations_from_raw_payloads_are_skipped():
    """(1) Contexts, failures and their details are read from the event, as any other operation."""
    reports: list[Any] = []
    for call in range(4, 8):
        harness = RawHarness(trip(undo=cannot_cancel, reports=reports))
        LOG.clear()
        harness.client.after = _crash_at(call)
        with pytest.raises(CrashError):
            await harness.invoke()
        harness.client.after = lambda _: None
        before = list(LOG)
        await harness.result()
        ended = [o.name for o in harness.operations() if o.sub_type == "Compensation"]
        assert ended == ["c", "b", "a"]
        # The one that was running may run again, none that had ended.
        assert len(LOG) - len(before) == {4: 3, 5: 2, 6: 1, 7: 0}[call]
    assert len({repr(report) for report in reports}) == 1


@pytest.mark.parametrize("field", ["Type", "SubType", "Name", "ParentId"])
async def test_something_else_under_a_compensations_id_is_not_its_success(field: str):
    """(3) Type, subtype, name and parent are compared; if they differ, the code has left its history."""
    harness = RawHarness(trip())
    harness.client.after = _crash_at(5)  # c is undone, b has begun
    with pytest.raises(CrashError):
        await harness.invoke()
    harness.client.after = lambda _: None
    LOG.clear()
    c = next(o for o in harness.operations() if o.name == "c" and o.sub_type == "Compensation")

    def tamper(operation: dict[str, Any]) -> None:
        if operation["Id"] == c.id:
            operation[field] = {"Type": "STEP", "SubType": "Step", "Name": "x", "ParentId": "p"}[field]

    harness.tamper = tamper
    with pytest.raises(NonDeterminismError):
        await harness.invoke()
    assert LOG == []
    harness.tamper = lambda _: None
    await harness.result()
    assert LOG == ["cancel b", "cancel a"]


async def test_ids_do_not_depend_on_what_else_there_is_to_undo():
    """(4) A compensation's is made of the saga's and of its step's: neither the number nor the order matters."""

    @durable_execution
    async def work(event: list[str], ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "first", compensate=cancel, name="first")
            for what in event:
                await s.step(book, what, compensate=cancel, name=what)
            raise Full("x")

    ids = set()
    for names in ([], ["b"], ["b", "c", "d"]):
        ran = await run(work, names)
        first = next(o for o in ran.harness.operations() if o.name == "first" and o.sub_type == "Compensation")
        scope = next(o for o in ran.harness.operations() if o.sub_type == "Saga")
        assert first.id == compensation_id(scope.id, operation_id(None, 1))
        ids.add(first.id)
    assert len(ids) == 1


async def test_in_batch_mode_nothing_is_undone_before_it_is_recorded_to_be_done():
    """(5) One queue: what compensates comes after what it undoes, whatever the crash."""

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with ctx.batch(), saga(ctx, "trip") as s:
            for what in "abc":
                await s.step(book, what, compensate=cancel, name=what)
            raise Full("d")

    whole = await run(work)
    assert whole.undone == ["cancel c", "cancel b", "cancel a"]
    assert len(whole.harness.calls) <= 4
    for number in range(1, len(whole.harness.calls) + 1):
        for when in ({"before": [number]}, {"after": [number]}):
            ran = await run(work, **when)  # type: ignore[arg-type]
            assert ran.undone == whole.undone
            done: set[str] = set()
            for call in ran.harness.client.calls:
                for update in call:
                    if update.sub_type == "Compensation":
                        assert update.name in done
                    elif update.action == "SUCCEED" and update.name:
                        done.add(update.name)


async def test_what_is_not_recorded_of_its_steps_is_not_done_again_by_a_rollback():
    """Finished compensations without their steps: the original ran the steps again. Ours refuses to go forward."""
    harness = RawHarness(trip())
    harness.client.after = _crash_at(5)
    with pytest.raises(CrashError):
        await harness.invoke()
    harness.client.after = lambda _: None
    LOG.clear()
    steps = {operation_id(None, position) for position in (1, 2, 3)}

    async def without_steps(execution_id: str) -> InvocationInput:
        event = await begin(execution_id)
        operations = [o for o in event.initial_execution_state.operations if o.id not in steps]
        state = msgspec.structs.replace(event.initial_execution_state, operations=operations)
        return msgspec.structs.replace(event, initial_execution_state=state)

    begin = harness.service.begin_invocation
    harness.service.begin_invocation = without_steps  # type: ignore[method-assign]
    error = await harness.error()
    assert LOG == []
    assert isinstance(error, CompensationError)
    assert {type(one) for one in error.exceptions} == {MissingCompensationError}
    assert [item.status for item in error.result.items] == ["succeeded", "failed", "failed"]


async def test_lost_answers_during_a_rollback():
    """(8) Each call is repeated with the token it had: nothing is applied twice, nothing is run twice."""
    harness = Harness(trip())
    lost: set[int] = set()

    def lose(number: int) -> None:
        if number not in lost:
            lost.update({number, number + 1})  # the repeat is the next call
            raise ServiceError("no answer", retryable=True)

    harness.client.after = lose
    await harness.result()
    assert LOG == ["book a", "book b", "book c", "cancel c", "cancel b", "cancel a"]
    assert harness.invocations == 1
    assert len(harness.calls) == 2 * 7
    assert harness.calls[::2] == harness.calls[1::2]


async def test_every_update_has_its_parent():
    """(22) Of what a compensation does in children of children, too."""

    async def deeper(ctx: DurableContext) -> None:
        await ctx.step(note, "deep")

    async def undo(_: str) -> None:
        from durable import current_context

        await current_context().child(deeper)

    harness = Harness(trip(undo=undo))
    await harness.result()
    known = {operation.id: operation for operation in harness.operations()}
    path = ["deeper", "b", "trip"]
    operation = next(o for o in harness.operations() if o.name == "note")
    for name in path:
        assert operation.parent_id is not None
        operation = known[operation.parent_id]
        assert operation.name == name
    assert operation.parent_id is None


VALUES: list[Any] = [math.nan, math.inf, 1.5, 2**70, -(2**63), "\ud800", "ä\u0000"]


async def give_float(index: int) -> float:
    return float(VALUES[index])


async def give_int(index: int) -> int:
    return int(VALUES[index])


async def give_text(index: int) -> str:
    return str(VALUES[index])


@pytest.mark.parametrize("index", range(len(VALUES)), ids=[repr(value) for value in VALUES])
async def test_what_a_compensation_gets_is_checked_when_its_step_ends(index: int):
    """(23) Either it is exactly what the step returned, or the step has failed: not the rollback, much later."""
    given: list[Any] = []
    value = VALUES[index]
    give: Any = {float: give_float, int: give_int, str: give_text}[type(value)]

    async def undo(got: Any) -> None:
        given.append(got)

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            await s.step(book, "first", compensate=cancel)
            await s.step(give, index, compensate=undo, name="give")
            raise Full("later")

    ran = await run(work)
    error = ran.error()
    if isinstance(error, SerializationError):
        assert given == []
        assert ran.harness.operation("give").status == "FAILED"
    else:
        assert isinstance(error, Full)
        assert given == [value]
        assert type(given[0]) is type(value)
    assert ran.undone == ["cancel first"]


class Panic(BaseException):
    """Not an error of the program's: the process is ending."""


async def test_what_is_no_exception_ends_the_invocation_and_not_the_rollback():
    """(17) It is nobody's outcome. An exception is the compensation's, and the others are run."""
    panicking = [True]

    async def undo(what: str) -> None:
        LOG.append(f"try {what}")
        if panicking:
            panicking.pop()
            raise Panic

    harness = Harness(trip(undo=undo))
    with pytest.raises((Panic, BaseExceptionGroup)):
        await harness.invoke()
    assert LOG[3:] == ["cancel c", "try b"]
    await harness.result()
    assert LOG[3:] == ["cancel c", "try b", "try b", "cancel a"]


async def test_the_second_rollback_does_not_say_that_all_is_well():
    """(6) The report is kept with the scope; another rollback of it is refused."""
    scopes: list[SagaScope] = []

    @durable_execution
    async def work(event: None, ctx: DurableContext) -> None:
        async with saga(ctx) as s:
            scopes.append(s)
            await s.step(book, "a", compensate=cannot_cancel)
            try:
                await s.rollback("first")
            except CompensationError:
                await s.rollback("second")

    ran = await run(work)
    assert "it goes no further" in str(ran.error())
    result = scopes[0].result
    assert result is not None
    assert not result.all_succeeded


async def test_a_service_that_is_down_in_the_middle_of_a_rollback_ends_nothing():
    """(7) The invocation raises, so that the service invokes again; the rollback goes on where it was."""
    for call in range(4, 8):
        harness = Harness(trip())
        LOG.clear()

        def fail(number: int, call: int = call) -> None:
            if number >= call:
                raise ServiceError("down", retryable=True)

        harness.client.before = fail
        with pytest.raises(ServiceError):
            await harness.invoke()
        harness.client.before = lambda _: None
        output = await harness.outcome()
        assert output.status is InvocationStatus.SUCCEEDED
        assert list(dict.fromkeys(LOG))[3:] == ["cancel c", "cancel b", "cancel a"]


def _crash_at(number: int) -> Any:
    def crash(call: int) -> None:
        if call == number:
            raise CrashError

    return crash
