"""What is refused whatever the type: ids, names, sizes, and changes of what never changes."""

from __future__ import annotations

from typing import Any

import pytest

from durable._wire import ErrorObject, OperationAction, OperationType, OperationUpdate
from durable._wire.limits import MAX_PAYLOAD_BYTES
from durable.local.machine.rules import RefusedUpdateError, check_shape
from tests.local.machine.bench import CONTEXT, FAIL, START, STEP, SUCCEED, WAIT, Bench, context, retry, step, wait

ID_RULE = "an operation's id has 1 to 64 characters of [a-zA-Z0-9-_]"
PARENT_RULE = "a parent's id has 1 to 64 characters of [a-zA-Z0-9-_]"
NAME_RULE = "a name has 1 to 256 printable ASCII characters"
SUB_TYPE_RULE = "a subtype has 1 to 32 characters of [a-zA-Z0-9-_]"

BAD = ["", "a b", "a/b", "ä", "a\n", "\n", "a\x00", "\udcff"]


@pytest.mark.parametrize(
    ("field", "rule", "bad"),
    [
        *(("id", ID_RULE, bad) for bad in [*BAD, "a" * 65]),
        *(("parent_id", PARENT_RULE, bad) for bad in [*BAD, "a" * 65]),
        *(("sub_type", SUB_TYPE_RULE, bad) for bad in [*BAD, "a" * 33]),
        *(("name", NAME_RULE, bad) for bad in ["", "ä", "a\n", "\x1f", "\x7f", "\udcff", "a" * 257]),
    ],
)
def test_a_malformed_field(field: str, rule: str, bad: str):
    """It is refused, and the error says which operation it was and what would do."""
    fields: dict[str, Any] = {"id": "a", "sub_type": "Step", field: bad}
    message = Bench().refuse(OperationUpdate(type=STEP, action=START, **fields))
    assert rule in message
    assert f"START of STEP{f' {bad!r}' if field == 'name' else ''}, id {fields['id']}" in message


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "a" * 64},
        {"id": "-_09azAZ"},
        {"name": "a" * 256},
        {"name": " "},
        {"name": "~ {}\"'\\"},
        {"name": None},
        {"sub_type": "a" * 32},
        {"sub_type": "SomebodyElse_s-own"},
        {"sub_type": None},
    ],
)
def test_a_field_at_its_limit(fields: dict[str, Any]):
    """A name is free text, a subtype may be anybody's own."""
    bench = Bench()
    operation_id = fields.pop("id", "a")
    bench.call(step(START, operation_id, **fields))
    assert operation_id in bench.state.operations


CARRIERS = [
    pytest.param(lambda payload: step(SUCCEED, payload=payload), id="step"),
    pytest.param(lambda payload: retry(1, payload=payload, error=None), id="retry"),
    pytest.param(lambda payload: context(SUCCEED, payload=payload), id="context"),
]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("character", ["x", "é", "€", "🚀"])
def test_a_payload_is_measured_in_bytes(carrier: Any, character: str):
    """1 MB exactly is taken, one byte more is refused; whatever the characters."""
    width = len(character.encode())
    most = character * (MAX_PAYLOAD_BYTES // width) + "x" * (MAX_PAYLOAD_BYTES % width)
    assert len(most.encode()) == MAX_PAYLOAD_BYTES
    Bench().call(carrier(most))
    assert "a payload has at most 1,048,576 bytes" in Bench().refuse(carrier(f"{most}x"))


@pytest.mark.parametrize("field", ["error_message", "error_type", "error_data", "stack_trace"])
def test_an_error_object_is_measured_as_a_whole(field: str):
    """All its fields together have 1 MB."""
    rest = {
        "error_message": "é" * 100,
        "error_type": "x" * 100,
        "error_data": "x" * 100,
        "stack_trace": ("x" * 50,) * 2,
    }
    del rest[field]
    room = MAX_PAYLOAD_BYTES - (300 if field == "error_message" else 400)

    def failure(size: int) -> OperationUpdate:
        text = "x" * size
        value = (text[:10], text[10:]) if field == "stack_trace" else text
        return step(FAIL, error=ErrorObject(**rest, **{field: value}))  # type: ignore[arg-type]

    Bench().call(failure(room))
    assert "an error object has at most 1,048,576 bytes" in Bench().refuse(failure(room + 1))


@pytest.mark.parametrize("kind", [STEP, WAIT, CONTEXT])
@pytest.mark.parametrize(
    "changed", [{"sub_type": "Other"}, {"sub_type": None}, {"name": "other"}, {"name": None}, {"parent_id": "q"}]
)
def test_what_an_operation_is_never_changes(kind: OperationType, changed: dict[str, Any]):
    """Another subtype, name or parent under a known id is another operation."""
    make: Any = {STEP: step, WAIT: wait, CONTEXT: context}[kind]
    end = OperationAction.CANCEL if kind is WAIT else SUCCEED
    bench = Bench()
    bench.call(context(START, "p"), context(START, "q"))
    same = {"name": "n", "parent_id": "p"}
    bench.call(make(START, **same))
    assert "type, subtype, name and parent of an operation cannot change" in bench.refuse(
        make(end, **{**same, **changed})
    )
    bench.call(make(end, **same))


def test_a_type_never_changes():
    """Not even when all else is the same."""
    bench = Bench()
    bench.call(step(START, sub_type=None))
    for other in (wait(START, sub_type=None), context(SUCCEED, sub_type=None)):
        assert "type, subtype, name and parent of an operation cannot change" in bench.refuse(other)


def test_a_refusal_is_for_good():
    """It is no use to send the same again."""
    with pytest.raises(RefusedUpdateError) as refused:
        check_shape(step(START, ""))
    assert refused.value.code == "InvalidParameterValueException"
    assert not refused.value.retryable
