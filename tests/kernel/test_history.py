"""What is known of an execution: looked up, taken over, and assumed where the service says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from durable._kernel.history import History, Identity, describe
from durable._wire import Operation, OperationAction, OperationStatus, OperationUpdate, Timestamp
from durable._wire.updates import ContextOptions
from durable.local.machine.rules import RefusedUpdateError
from tests.local.machine.bench import CONTEXT, FAIL, RETRY, START, STEP, SUCCEED, WAIT, WAY_TO, Bench, update
from tests.local.machine.bench import retry as retried

UPDATES = {
    "start a step": update(STEP, START),
    "succeed a step": update(STEP, SUCCEED, payload='"done"'),
    "fail a step": update(STEP, FAIL),
    "retry a step": update(STEP, RETRY),
    "check again": retried(7, payload='"state"', error=None),
    "start a wait": update(WAIT, START),
    "cancel a wait": update(WAIT, OperationAction.CANCEL),
    "start a context": update(CONTEXT, START),
    "succeed a context": update(
        CONTEXT, SUCCEED, payload="1", context_options=ContextOptions(replay_children=True)
    ),
    "succeed a plain context": update(CONTEXT, SUCCEED, payload="1"),
    "fail a context": update(CONTEXT, FAIL),
}


def essence(operation: Operation, action: OperationAction) -> dict[str, Any]:
    """What the next decision goes by."""
    step, context, wait = operation.step_details, operation.context_details, operation.wait_details
    outcome = None if action is START else (operation.result, operation.error)
    return {
        "status": operation.status,
        "start": operation.start_timestamp,
        "identity": (operation.id, operation.type, operation.sub_type, operation.name, operation.parent_id),
        "attempt": step and step.attempt,
        "next": step and step.next_attempt_timestamp,
        "ends": wait and action is START and wait.scheduled_end_timestamp,
        "replay": context and context.replay_children,
        "outcome": outcome,
    }


@pytest.mark.parametrize("what", UPDATES)
def test_what_is_assumed_is_what_the_service_records(what: str):
    """Of every update, from every status in which a service takes it."""
    change = UPDATES[what]
    compared = 0
    for kind, status in WAY_TO:
        if kind is not change.type:
            continue
        bench = Bench()
        bench.bring_to(kind, status)
        history = History(bench.state.operations.values())
        bench.wait(0.5)
        try:
            bench.call(change)
        except RefusedUpdateError:
            continue  # nothing to assume
        history.assume(change, bench.now)
        assumed = history.get("a")
        assert assumed is not None
        assert essence(assumed, change.action) == essence(bench["a"], change.action)
        assert len(history) == 1
        compared += 1
    assert compared


def test_an_update_without_its_options_is_assumed_all_the_same():
    """No delay is known then."""
    history = History()
    for kind in (STEP, WAIT, CONTEXT):
        history.assume(OperationUpdate(id=kind, type=kind, action=START), 5)
    step, wait, context = (history.get(kind) for kind in (STEP, WAIT, CONTEXT))
    assert step is not None
    assert step.step_details is not None
    assert step.step_details.next_attempt_timestamp is None
    assert wait is not None
    assert wait.wait_details is not None
    assert wait.wait_details.scheduled_end_timestamp is None
    assert context is not None
    assert context.context_details is not None
    assert context.context_details.replay_children is None
    assert [found.start_timestamp for found in (step, wait, context)] == [5, 5, 5]


def operation(key: str, parent: str | None = None, **fields: Any) -> Operation:
    return Operation(
        id=key,
        type=CONTEXT,
        start_timestamp=Timestamp(1),
        status=OperationStatus.STARTED,
        parent_id=parent,
        **fields,
    )


def test_what_a_context_has_inside_is_counted_at_any_depth():
    """Not the context itself, nor what is beside it."""
    history = History(
        [operation("a"), operation("b", "a"), operation("x"), operation("c", "b"), operation("y", "x")]
    )
    assert [history.inside(key) for key in ("a", "b", "c", "x", "nobody")] == [2, 1, 0, 1, 0]


def test_the_last_word_counts():
    """What the service says takes the place of what was known."""
    history = History([operation("a", name="old"), operation("b")])
    history.merge([operation("a", name="new"), operation("c")])
    assert [key in history for key in "abcd"] == [True, True, True, False]
    assert len(history) == 3
    found = history.get("a")
    assert found is not None
    assert found.name == "new"


def test_an_operation_is_the_same_by_all_four():
    """Type, subtype, name and parent."""
    one = Identity(CONTEXT, "Own", "n", "p")
    same = operation("a", "p", name="n", sub_type="Own")
    assert one.matches(same)
    others = [
        Identity(STEP, "Own", "n", "p"),
        Identity(CONTEXT, "Other", "n", "p"),
        Identity(CONTEXT, "Own", None, "p"),
        Identity(CONTEXT, "Own", "n", None),
    ]
    assert not any(other.matches(same) for other in others)


def test_an_operation_is_described_by_what_is_known_of_it():
    """Subtype and name, or either."""
    assert str(Identity(STEP, "Step", "n", None)) == "Step 'n'"
    assert str(Identity(STEP, "Step", None, None)) == "Step"
    assert describe(None, "n") == "operation 'n'"
    assert describe(None, None) == "operation"
