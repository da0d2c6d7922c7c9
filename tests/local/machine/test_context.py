"""CONTEXT: the table, and everything that is not in it."""

from __future__ import annotations

from typing import Any

import pytest

from durable._wire import OperationAction, OperationStatus
from durable._wire.events import EventType
from durable._wire.operations import ContextDetails
from tests.local.machine.bench import BEGIN, CONTEXT, FAIL, OOPS, START, SUCCEED, Bench, context

STARTED, SUCCEEDED, FAILED = OperationStatus.STARTED, OperationStatus.SUCCEEDED, OperationStatus.FAILED

TABLE = {
    (None, START): (STARTED, EventType.CONTEXT_STARTED),
    (None, SUCCEED): (SUCCEEDED, EventType.CONTEXT_SUCCEEDED),
    (None, FAIL): (FAILED, EventType.CONTEXT_FAILED),
    (STARTED, SUCCEED): (SUCCEEDED, EventType.CONTEXT_SUCCEEDED),
    (STARTED, FAIL): (FAILED, EventType.CONTEXT_FAILED),
}


@pytest.mark.parametrize("action", OperationAction)
@pytest.mark.parametrize("before", [None, STARTED, SUCCEEDED, FAILED])
def test_the_table(before: OperationStatus | None, action: OperationAction):
    """Each status takes what the table says and records one event; anything else is refused and changes nothing."""
    bench = Bench()
    bench.bring_to(CONTEXT, before)
    expected = TABLE.get((before, action))
    if expected is None:
        assert "CONTEXT" in bench.refuse(context(action))
        return
    already = len(bench.events)
    bench.wait(1)
    bench.call(context(action))
    status, event = expected
    assert bench["a"].status is status
    assert bench["a"].start_timestamp == (BEGIN if before is not None else bench.now)
    assert bench["a"].end_timestamp == (None if status is STARTED else bench.now)
    assert [(kept.type, kept.operation_id) for kept in bench.events[already:]] == [(event, "a")]


@pytest.mark.parametrize(
    ("action", "fields", "rule"),
    [
        (START, {"payload": "1"}, "START of a CONTEXT has no Payload"),
        (START, {"error": OOPS}, "START of a CONTEXT has no Error"),
        (SUCCEED, {"error": OOPS}, "SUCCEED of a CONTEXT has no Error"),
        (FAIL, {"payload": "1"}, "FAIL of a CONTEXT has no Payload"),
    ],
)
def test_what_does_not_belong_to_an_action(action: OperationAction, fields: dict[str, Any], rule: str):
    """A payload or an error in the wrong place is refused, and the rule is named."""
    assert rule in Bench().refuse(context(action, **fields))


@pytest.mark.parametrize("replay_children", [None, False, True])
@pytest.mark.parametrize("started_before", [True, False])
def test_what_a_context_ends_with(replay_children: bool | None, started_before: bool):
    """Its result, and whether its children are needed again."""
    bench = Bench()
    end = context(SUCCEED, payload="[1]", replay_children=replay_children)
    if started_before:
        bench.call(context(START))
        bench.call(end)
    else:
        bench.call(context(START), end)
    assert bench["a"].context_details == ContextDetails(result="[1]", replay_children=replay_children)
    bench = Bench()
    bench.call(context(FAIL))
    assert bench["a"].context_details == ContextDetails(error=OOPS)


def test_a_context_that_is_under_way_has_no_details():
    """There is nothing to tell of it yet."""
    bench = Bench()
    bench.call(context(START))
    assert bench["a"].context_details is None
    assert not bench.state.is_waiting
    assert bench.state.next_due is None
