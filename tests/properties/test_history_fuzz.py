"""A history in which something is wrong: the right values, a clear error of ours, or new work; nothing else.

A value is wrong if it is not the one that is recorded of its operation: each says of which it is. An error is ours,
or one that is recorded: those are marked. What is recorded to have succeeded is not done again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, note
from msgspec.structs import replace

from durable import DurableContext, DurableError, DurableFunction, NonDeterminismError, durable_execution
from durable._kernel.history import Identity
from durable._wire import (
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
)
from durable._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from durable._wire.codec import INVOCATION_INPUT
from durable._wire.invocation import InitialExecutionState
from durable._wire.operations import CallbackDetails, ExecutionDetails, StepDetails
from durable.abc import ServiceClient
from durable.exceptions import HistoryError, MalformedPayloadError
from durable.testing import SkippingClock, replay, trio_schedule
from durable.testing.history_files import RecordedHistory
from tests.harness import Harness
from tests.properties.examples import EXAMPLES
from tests.properties.fuzzed import MARK, PROGRAMS, Seen, altered, documents, histories, places

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Believing(ServiceClient):
    """Believes what it is told, and gives the rest of the operations in pages."""

    def __init__(self, pages: Sequence[Sequence[Operation]] = ()) -> None:
        self._pages = pages

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        created = [
            Operation(
                id=update.id,
                type=update.type,
                start_timestamp=SkippingClock().now(),
                status=OperationStatus.STARTED,
                name=update.name,
                sub_type=update.sub_type,
                parent_id=update.parent_id,
                callback_details=CallbackDetails(callback_id=f"id of {update.name}"),
            )
            for update in updates
            if update.type is OperationType.CALLBACK and update.action is OperationAction.START
        ]
        state = CheckpointUpdatedExecutionState(operations=tuple(created))
        return CheckpointDurableExecutionResponse(checkpoint_token=token, new_execution_state=state)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        number = int(marker)
        following = str(number + 1) if number + 1 < len(self._pages) else None
        return GetDurableExecutionStateResponse(operations=tuple(self._pages[number]), next_marker=following)


def event_of(history: RecordedHistory, pages: Sequence[Sequence[Operation]]) -> InvocationInput:
    execution = Operation(
        id=history.execution_id,
        type=OperationType.EXECUTION,
        start_timestamp=history.started,
        status=OperationStatus.STARTED,
        execution_details=ExecutionDetails(input_payload=history.input),
    )
    first = InitialExecutionState(operations=(execution, *pages[0]), next_marker="1" if len(pages) > 1 else None)
    return InvocationInput(
        durable_execution_arn=f"arn:aws:lambda:us-east-1:0:function:f:1/durable-execution/t/{history.execution_id}",
        checkpoint_token="token",
        initial_execution_state=first,
    )


async def invoke(
    name: str, event: InvocationInput, pages: Sequence[Sequence[Operation]], history: RecordedHistory
) -> tuple[Seen, InvocationOutput | Exception]:
    """One invocation; what came of it."""
    seen = Seen("live")
    function = PROGRAMS[name](seen)
    with anyio.fail_after(20):  # or it hangs
        try:
            clock = SkippingClock(history.recorded)
            return seen, await function.invoke(event, Believing(pages), clock=clock)
        except Exception as error:
            return seen, error


def run(
    backend: str, name: str, history: RecordedHistory, pages: Sequence[Sequence[Operation]], seed: int
) -> tuple[Seen, InvocationOutput | Exception]:
    with trio_schedule(seed):
        return anyio.run(invoke, name, event_of(history, pages), pages, history, backend=backend)


def check_errors(seen: Seen, outcome: InvocationOutput | Exception) -> None:
    """Each is ours or was recorded, and says something."""
    if isinstance(outcome, Exception):
        assert isinstance(outcome, DurableError), repr(outcome)
        assert str(outcome)
    elif outcome.status is InvocationStatus.FAILED:
        assert outcome.error is not None
        check_error(outcome.error.error_type or "", outcome.error.error_message or "")
    for error in seen.raised.values():
        check_error(f"{type(error).__module__}.{type(error).__name__}", str(error), error)


def check_error(kind: str, message: str, error: Exception | None = None) -> None:
    ours = kind.startswith("durable.") or isinstance(error, DurableError)
    ours = ours or kind in {"", "WaitCancelled"}  # a RecordedError: of which no type was recorded, or of a wait
    assert ours or MARK in message or message.startswith("unhandled errors"), f"{kind}: {message}"
    assert message, kind


def check_values(seen: Seen, history: RecordedHistory, given: Sequence[Operation]) -> None:
    """Each is of its own record, and what succeeded was not done again."""
    now = {operation.id: operation for operation in given}
    names = [operation.name or "" for operation in history.operations]
    for before in history.operations:
        name, after = before.name or "", now.get(before.id)
        if names.count(name) > 1:
            continue  # it is not known which of them was meant
        is_same = after is not None and identity(after) == identity(before)
        if name in ITEMS:
            if all(now.get(one.id) == one for one in history.operations if before.id in {one.id, one.parent_id}):
                check_items(seen, name)
        elif before.sub_type == "Step" and name in ONE_BY_ONE:
            has_succeeded = after is not None and is_same and after.status is OperationStatus.SUCCEEDED
            check_value(seen, name, after if has_succeeded else None)


def check_value(seen: Seen, name: str, recorded: Operation | None) -> None:
    """That of one step; if it has succeeded, by its record."""
    if recorded is not None:
        assert name not in seen.called, f"{name} has succeeded, and was called again"
    if name not in seen.values:
        return
    value = seen.values[name]
    if recorded is None:
        assert value == f"live {name}", f"{name} gave {value!r}, of which nothing is recorded"
    else:
        details = recorded.step_details
        payload = msgspec.json.decode((details.result if details is not None else None) or "null")
        assert value == payload, f"{name} gave {value!r}, recorded is {payload!r}"


def check_items(seen: Seen, fan_out: str) -> None:
    """Those of a fan-out of which nothing was changed."""
    for index, number in enumerate(ITEMS[fan_out]):
        status, result = seen.values.get(f"{fan_out} {index}", ("", None))
        if status == "succeeded":
            assert result.rstrip("x") in {f"record item {number}", f"live item {number}"}, f"{fan_out} {index}"


ITEMS = {"all": [1, 2, 3], "some": [14, 5], "flat": [16, 2, 7], "large": [8, 9]}

ONE_BY_ONE = {"first", "once", "inside", "inside large", "in time", "last", "l", "r", "one", "two", "in the block"}
"""Steps that give a value, and have a name that no other operation has."""


def identity(operation: Operation) -> Identity:
    return Identity(operation.type, operation.sub_type or "", operation.name, operation.parent_id)


def in_pages(operations: Sequence[Operation], size: int) -> list[Sequence[Operation]]:
    count = max(1, math.ceil(len(operations) / size))
    return [operations[number * size : (number + 1) * size] for number in range(count)]


class Case:
    """A history in which something is wrong.

    Attributes:
        program: Of which program.
        history: As it was.
        operations: As they are handed to an invocation.
        size: How many of them a page has.
    """

    def __init__(self, program: str, history: RecordedHistory, operations: list[Operation], size: int) -> None:
        self.program = program
        self.history = history
        self.operations = operations
        self.size = size

    def __repr__(self) -> str:
        before, now = list(map(shown, self.history.operations)), list(map(shown, self.operations))
        gone, new = [one for one in before if one not in now], [one for one in now if one not in before]
        return f"{self.program}, {len(before)} operations, {len(now)} now; gone {gone}, new {new}"


def shown(operation: Operation) -> str:
    """What is told of an operation, without what it has not."""
    fields = {name: getattr(operation, name) for name in operation.__struct_fields__}
    return ", ".join(f"{name}={value!r:.200}" for name, value in fields.items() if value is not None)


@st.composite
def wrong(draw: Any) -> Case:
    """A program's history with up to three things wrong."""
    name = draw(st.sampled_from(sorted(PROGRAMS)))
    known = histories(name)
    history = known[draw(st.integers(1, len(known)) | st.just(len(known))) - 1]
    operations = list(history.operations)
    for _ in range(draw(st.integers(1, 3))):
        if operations:
            operations = draw(altered(operations))
    return Case(name, history, operations, draw(st.sampled_from([1000, 1000, 3])))


@BACKENDS
def test_what_is_wrong_in_a_history_is_told_or_does_no_harm(backend: str) -> None:
    """Never a wrong value, an exception of our own code's making, or a hang."""

    @EXAMPLES
    @given(case=wrong(), seed=st.integers(0, 2**32))
    def check_one(case: Case, seed: int) -> None:
        note(f"{backend}, seed {seed}")
        seen, outcome = run(backend, case.program, case.history, in_pages(case.operations, case.size), seed)
        note(f"{outcome!r:.1000}")
        check_errors(seen, outcome)
        check_values(seen, case.history, case.operations)

    for name in PROGRAMS:
        histories(name)  # not while an example is drawn
    check_one()


@BACKENDS
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_nothing_is_wrong_in_a_history_that_was_not_changed(backend: str, name: str) -> None:
    """Or the check above would say nothing."""
    seen, outcome = Seen(""), None
    for history in histories(name):
        for size in (1000, 2):
            seen, outcome = run(backend, name, history, in_pages(history.operations, size), 0)
            assert isinstance(outcome, InvocationOutput)
            check_errors(seen, outcome)
            check_values(seen, history, history.operations)
    assert isinstance(outcome, InvocationOutput)
    assert (outcome.status, outcome.result) == (InvocationStatus.SUCCEEDED, '"done"')
    assert seen.called == []
    assert all(str(value).startswith("record") for key, value in seen.values.items() if key in {"first", "child"})


# --- Found so ----------------------------------------------------------------------------------------------------


def with_result(history: RecordedHistory, name: str, payload: str) -> list[Operation]:
    """A history's operations, where what one step has recorded is something else."""
    return [
        replace(one, step_details=StepDetails(attempt=1, result=payload)) if one.name == name else one
        for one in history.operations
    ]


@BACKENDS
@pytest.mark.parametrize(
    ("program", "name"), [("side by side", "task group stopped"), ("one after another", "limit outcome")]
)
def test_a_block_whose_record_cannot_be_read_is_left_in_order(backend: str, program: str, name: str) -> None:
    """It had been entered by then: its scope, or its task group, is not left open."""
    history = histories(program)[-1]
    seen, outcome = run(backend, program, history, [with_result(history, name, "null")], 0)
    assert isinstance(outcome, InvocationOutput)
    assert outcome.error is not None
    assert outcome.error.error_type == "durable.exceptions.MalformedPayloadError"
    check_values(seen, history, history.operations)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 300_000], ids=["by its record", "from its branches"])
async def test_a_fan_out_of_fewer_branches_than_it_had_does_not_follow(size: int) -> None:
    """It is told by how many; of more branches those that were not there are not asked for."""

    async def item(ctx: DurableContext, number: int) -> str:
        await ctx.wait(1)
        return str(number) * size

    def function(*items: int) -> DurableFunction[Any, Any]:
        @durable_execution(name="function")
        async def mapping(event: None, ctx: DurableContext) -> int:
            found = (await ctx.map(item, list(items), name="numbers")).results()
            await ctx.wait(1)
            return len(found)

        return mapping

    harness = Harness(function(1, 2, 3))
    for _ in range(2):
        await harness.invoke()
        await harness.clock.sleep_until(harness.clock.now() + 1000)
    with pytest.raises(NonDeterminismError, match=r"expected Map 'numbers'.* with 2 branches, not 3"):
        await harness.invoke(function(1, 2))


# --- The wire, and files -----------------------------------------------------------------------------------------

_JUNK: list[Any] = [None, True, 0, -1, 7, 1e300, "", "zz", "STARTED", "STEP", [], {}, [[]], {"A": 1}, "s" * 300]


def _altered_json(draw: Any, document: Any) -> Any:
    """A JSON document with something else, or nothing, somewhere."""
    paths = places(document)[1:]
    if not paths:
        return document
    path = draw(st.sampled_from(paths))
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    match draw(st.sampled_from(["replace", "drop", "add", "twice"])):
        case "replace":
            inside[path[-1]] = draw(st.sampled_from(_JUNK))
        case "drop":
            del inside[path[-1]]
        case "add" if isinstance(inside, dict):
            inside["NobodyKnowsThis"] = draw(st.sampled_from(_JUNK))
        case _ if isinstance(inside, list):
            inside.append(inside[path[-1]])
        case _:
            pass
    return document


@BACKENDS
def test_an_event_on_the_wire_with_anything_anywhere(backend: str) -> None:
    """It is refused with the path of what is wrong, or it is as above."""

    @EXAMPLES
    @given(name=st.sampled_from(sorted(PROGRAMS)), data=st.data(), seed=st.integers(0, 2**32))
    def check_one(name: str, data: st.DataObject, seed: int) -> None:
        known = histories(name)
        history = known[data.draw(st.integers(1, len(known))) - 1]
        document = msgspec.json.decode(INVOCATION_INPUT.encode(event_of(history, [history.operations])))
        for _ in range(data.draw(st.integers(1, 3))):
            document = _altered_json(data.draw, document)
        note(f"{backend}, seed {seed}")
        try:
            event = INVOCATION_INPUT.decode(msgspec.json.encode(document))
        except MalformedPayloadError as error:
            assert "InvocationInput" in str(error)
            return
        with trio_schedule(seed):
            seen, outcome = anyio.run(invoke, name, event, [], history, backend=backend)
        check_errors(seen, outcome)
        check_values(seen, history, event.initial_execution_state.operations)

    for name in PROGRAMS:
        histories(name)
    check_one()


@BACKENDS
def test_a_history_file_with_anything_anywhere(backend: str) -> None:
    """It is refused, or replayed: with what came of it as a result, and nothing called."""

    @EXAMPLES
    @given(name=st.sampled_from(sorted(PROGRAMS)), data=st.data(), seed=st.integers(0, 2**32))
    def check_one(name: str, data: st.DataObject, seed: int) -> None:
        events = documents(name)
        document = {"Events": msgspec.json.decode(events)[: data.draw(st.integers(1, 200))]}
        for _ in range(data.draw(st.integers(1, 3))):
            document = _altered_json(data.draw, document)
        note(f"{backend}, seed {seed}")
        seen = Seen("live")
        with trio_schedule(seed):
            try:
                result = anyio.run(partial(replay, PROGRAMS[name](seen), document), backend=backend)
            except HistoryError as error:
                assert str(error).startswith("the history cannot be replayed: ")
            else:
                assert str(result)
        assert seen.called == []

    for name in PROGRAMS:
        documents(name)
    check_one()
