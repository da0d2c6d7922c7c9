"""The state machine against a model of PROTOCOL section 5 that shares no code with it."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, note, settings

from durable._wire import Operation
from durable.local.machine import pausing
from durable.local.machine.rules import RefusedUpdateError
from tests.local.machine.bench import BEGIN, Bench
from tests.local.machine.model import Model, Script, limits, scripts


def plain(operation: Operation) -> dict[str, Any]:
    """An operation as the model has it."""
    step, wait, context = operation.step_details, operation.wait_details, operation.context_details
    due = None
    if operation.status == "PENDING" and step is not None and step.next_attempt_timestamp is not None:
        due = step.next_attempt_timestamp - BEGIN
    if operation.status == "STARTED" and wait is not None and wait.scheduled_end_timestamp is not None:
        due = wait.scheduled_end_timestamp - BEGIN
    return {
        "type": str(operation.type),
        "sub_type": operation.sub_type,
        "name": operation.name,
        "parent": operation.parent_id,
        "status": str(operation.status),
        "start": operation.start_timestamp - BEGIN,
        "end": None if operation.end_timestamp is None else operation.end_timestamp - BEGIN,
        "attempts": 0 if step is None else step.attempt,
        "due": due,
        "replay": None if context is None else context.replay_children,
        "result": operation.result,
        "error": operation.error,
    }


@settings(max_examples=600, deadline=None, print_blob=True)
@given(scripts(), limits)
def test_any_calls_at_any_time(script: Script, limit: int | None):
    """The same calls are refused, and the same is recorded, told and waited for after each of them."""
    _play(script, limit)


@settings(max_examples=600, deadline=None, print_blob=True)
@given(scripts(pauses=True), limits)
def test_any_calls_while_somebody_pauses_it(script: Script, limit: int | None):
    """The same with pauses, before, between and after calls; and with a time limit that they put off, or not."""
    _play(script, limit)


def _play(script: Script, limit: int | None) -> None:
    bench, model = Bench(timeout=None if limit is None else limit // 1000), Model(limit)
    for part in script:
        if isinstance(part, int):
            bench.wait(part / 1000)
            model.pass_time(part)
        elif isinstance(part, str):
            assert bench.do(part) == model.do(part)
        else:
            accepted = model.call(part)
            try:
                bench.call(*part)
            except RefusedUpdateError as refused:
                note(f"refused: {refused}")
                assert not accepted, refused
                event("refused")
            else:
                assert accepted, part
                event("accepted")
        state = bench.state
        assert {key: plain(operation) for key, operation in state.operations.items()} == model.operations
        assert list(state.operations) == list(model.operations)
        assert [
            (str(kept.type), kept.operation_id, kept.timestamp - BEGIN) for kept in bench.events
        ] == model.events
        assert (None if state.next_due is None else state.next_due - BEGIN) == model.next_due()
        assert [operation.id for operation in state.visible()] == model.visible()
        assert state.is_waiting == (model.next_due() is not None)
        assert state.record.status == model.status
        expires = None if state.is_over else pausing.expires_at(state.record)
        assert (None if expires is None else expires - BEGIN) == model.expires()
