"""The pure state machine on a bench: time by hand, and every call either taken over or seen to change nothing."""

from __future__ import annotations

from typing import Any

import pytest

from durable._wire import (
    ErrorObject,
    ExecutionStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from durable._wire.updates import ContextOptions, StepOptions, WaitOptions
from durable.abc import Change, EventRecord, ExecutionRecord, Loaded
from durable.local.machine import pausing
from durable.local.machine.rules import RefusedUpdateError
from durable.local.machine.state import ExecutionState, Transition
from durable.testing import clock

BEGIN = clock.START
START, SUCCEED, FAIL, RETRY, CANCEL = OperationAction
STEP, WAIT, CONTEXT = OperationType.STEP, OperationType.WAIT, OperationType.CONTEXT
SUB_TYPE = {STEP: "Step", WAIT: "Wait", CONTEXT: "RunInChildContext"}
PAUSE = "pause while an invocation is under way"
PAUSE_AND_GO_ON = "the same, and its time limit stays"
PAUSE_NOW = "pause while none is"
YIELD = "the invocation ends"
RESUME = "resume"
OOPS = ErrorObject(error_type="ValueError", error_message="oops")


def execution(**changes: Any) -> ExecutionRecord:
    """An execution that has just been started."""
    fields: dict[str, Any] = {
        "id": "e-1",
        "name": "t-1",
        "arn": "arn:aws:lambda:local:0:function:f:1/durable-execution/t-1/e-1",
        "function": "tests:f",
        "status": ExecutionStatus.RUNNING,
        "start_timestamp": BEGIN,
        "input": '"in"',
    }
    return ExecutionRecord(**{**fields, **changes})


def update(kind: OperationType, action: OperationAction, operation_id: str = "a", **fields: Any) -> OperationUpdate:
    """An update as the library sends it, apart from what `fields` say."""
    options: dict[str, Any] = {"sub_type": SUB_TYPE.get(kind)}
    if kind is WAIT and action is START:
        options["wait_options"] = WaitOptions(wait_seconds=1)
    if kind is STEP and action is RETRY:
        options["step_options"] = StepOptions(next_attempt_delay_seconds=1)
        options["error"] = OOPS
    if action is FAIL:
        options["error"] = OOPS
    return OperationUpdate(id=operation_id, type=kind, action=action, **{**options, **fields})


def step(action: OperationAction, operation_id: str = "a", **fields: Any) -> OperationUpdate:
    return update(STEP, action, operation_id, **fields)


def wait(
    action: OperationAction, operation_id: str = "a", seconds: int | None = 1, **fields: Any
) -> OperationUpdate:
    options = {"wait_options": WaitOptions(wait_seconds=seconds)} if action is START else {}
    return update(WAIT, action, operation_id, **{**options, **fields})


def context(
    action: OperationAction, operation_id: str = "a", *, replay_children: bool | None = None, **fields: Any
) -> OperationUpdate:
    options = None if replay_children is None else ContextOptions(replay_children=replay_children)
    return update(CONTEXT, action, operation_id, context_options=options, **fields)


def retry(seconds: int | None, operation_id: str = "a", **fields: Any) -> OperationUpdate:
    options = StepOptions(next_attempt_delay_seconds=seconds)
    return step(RETRY, operation_id, step_options=options, **fields)


class Bench:
    """One execution's state machine."""

    def __init__(self, *operations: Operation, timeout: int | None = None) -> None:
        self.now = BEGIN
        begun = execution(timeout=timeout)
        self.state = ExecutionState(Loaded(execution=begun, operations=operations, events=1, changes=1))
        self.changes: list[Change] = []

    @property
    def events(self) -> list[EventRecord]:
        """All that has happened since the start."""
        return [event for change in self.changes for event in change.events]

    def __getitem__(self, operation_id: str) -> Operation:
        return self.state.operations[operation_id]

    def call(self, *updates: OperationUpdate) -> Transition:
        """One call to the service."""
        forward = Transition()
        self.state.advance(self.now, forward)
        self.state.apply(updates, self.now, forward)
        self.state.give_way(self.now, forward)
        return self._take_over(forward)

    def wait(self, seconds: float = 0) -> Transition:
        """Let time pass."""
        self.now = Timestamp(self.now + round(seconds * 1000))
        forward = Transition()
        if not self.state.expire(self.now, forward):
            self.state.advance(self.now, forward)
        return self._take_over(forward)

    def pause(self, *, under_way: bool = False, **options: Any) -> Transition:
        """Have it paused, while an invocation is under way or while none is."""
        forward = Transition()
        paused = pausing.pause(self.state.record, self.now, **options)
        if under_way:
            forward.record = paused
        else:
            forward.record, event = pausing.take_effect(paused, self.now)
            forward.events.append(event)
        return self._take_over(forward)

    def give_way(self) -> bool:
        """The invocation that is under way ends."""
        forward = Transition()
        took_effect = self.state.give_way(self.now, forward)
        self._take_over(forward)
        return took_effect

    def resume(self, **options: Any) -> Transition:
        """Have it go on."""
        forward = Transition()
        forward.record, event = pausing.resume(self.state.record, self.now, **options)
        forward.events += [] if event is None else [event]
        return self._take_over(forward)

    def do(self, what: str) -> bool:
        """What somebody asks for, by name; whether that was possible. See `model.PAUSE` and the like."""
        status = self.state.record.status
        if what in {PAUSE, PAUSE_AND_GO_ON, PAUSE_NOW} and status is ExecutionStatus.RUNNING:
            self.pause(under_way=what != PAUSE_NOW, holds_timeout=what != PAUSE_AND_GO_ON)
        elif what == YIELD:
            self.give_way()
        elif what == RESUME and status.is_paused:
            self.resume()
        else:
            return False
        return True

    def refuse(self, *updates: OperationUpdate) -> str:
        """One call that must be refused as a whole. Returns why it was."""
        before = self._everything()
        with pytest.raises(RefusedUpdateError) as refused:
            self.call(*updates)
        assert self._everything() == before
        assert refused.value.code == "InvalidParameterValueException"
        assert not refused.value.retryable
        return str(refused.value)

    def bring_to(self, kind: OperationType, status: OperationStatus | None, operation_id: str = "a") -> None:
        """Have an operation of that status."""
        for part in WAY_TO[kind, status]:
            if isinstance(part, OperationAction):
                self.call(update(kind, part, operation_id))
            else:
                self.wait(part)
        known = self.state.operations.get(operation_id)
        assert (known.status if known is not None else None) is status

    def _take_over(self, forward: Transition) -> Transition:
        if forward:
            self.changes.append(self.state.change(forward))
            self.state.take_over(forward)
        return forward

    def _everything(self) -> tuple[Any, ...]:
        state = self.state
        return (
            state.record,
            dict(state.operations),
            state.next_due,
            state.is_waiting,
            state.change(Transition()),
            len(self.changes),
        )


WAY_TO: dict[tuple[OperationType, OperationStatus | None], list[OperationAction | int]] = {
    (STEP, None): [],
    (STEP, OperationStatus.STARTED): [START],
    (STEP, OperationStatus.PENDING): [START, RETRY],
    (STEP, OperationStatus.READY): [START, RETRY, 1],
    (STEP, OperationStatus.SUCCEEDED): [START, SUCCEED],
    (STEP, OperationStatus.FAILED): [START, FAIL],
    (WAIT, None): [],
    (WAIT, OperationStatus.STARTED): [START],
    (WAIT, OperationStatus.SUCCEEDED): [START, 1],
    (WAIT, OperationStatus.CANCELLED): [START, CANCEL],
    (CONTEXT, None): [],
    (CONTEXT, OperationStatus.STARTED): [START],
    (CONTEXT, OperationStatus.SUCCEEDED): [START, SUCCEED],
    (CONTEXT, OperationStatus.FAILED): [START, FAIL],
}
"""How to come to each status: actions, and seconds that pass."""
