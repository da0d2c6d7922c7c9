"""What goes into one call."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import PayloadTooLargeError
from durable._kernel.batch import check_payload, fitting, size_of
from durable._wire import ErrorObject, OperationAction, OperationType, OperationUpdate
from durable._wire.limits import MAX_BYTES_PER_CALL, MAX_PAYLOAD_BYTES
from durable._wire.updates import ChainedInvokeOptions


def update(payload: str | None = None, *, message: str | None = None, name: str = "n") -> OperationUpdate:
    return OperationUpdate(
        id="a" * 64,
        parent_id="b" * 64,
        type=OperationType.CONTEXT,
        sub_type="RunInChildContext",
        action=OperationAction.SUCCEED,
        name=name,
        payload=payload,
        error=ErrorObject(error_message=message, error_type="t", stack_trace=(message,)) if message else None,
    )


@given(st.text(), st.text(), st.text(min_size=1, max_size=256))
def test_the_estimate_is_never_below_the_real_size(payload: str, message: str, name: str):
    """Escapes and multi-byte characters included."""
    one = update(payload, message=message, name=name)
    assert size_of(one) >= len(msgspec.json.encode(one))


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256))
def test_the_estimate_of_an_invoke_has_whom_it_calls_in_it(function: str, tenant: str):
    """A function's name and a tenant's id may be as long as a name."""
    one = OperationUpdate(
        id="a" * 64,
        parent_id="b" * 64,
        type=OperationType.CHAINED_INVOKE,
        sub_type="ChainedInvoke",
        action=OperationAction.START,
        name="n" * 256,
        payload="{}",
        chained_invoke_options=ChainedInvokeOptions(function_name=function, tenant_id=tenant),
    )
    assert size_of(one) >= len(msgspec.json.encode(one))


def test_the_longest_names_count():
    """Also where a call has nothing else in it."""
    longest = ChainedInvokeOptions(function_name="ä" * 256, tenant_id="t" * 256)
    one = OperationUpdate(
        id="a", type=OperationType.CHAINED_INVOKE, action=OperationAction.START, chained_invoke_options=longest
    )
    assert size_of(one) >= len(msgspec.json.encode(one))


def test_at_most_250_updates_go_into_a_call():
    """The service's own bound."""
    assert fitting([update()] * 251) == 250
    assert fitting([update()] * 250) == 250
    assert fitting([update()] * 3) == 3


def test_a_call_stays_under_its_bytes():
    """The updates of one call stay under 750 KB together."""
    queue = [update("x" * 100_000)] * 20
    count = fitting(queue)
    assert count == 7
    assert sum(map(size_of, queue[:count])) <= MAX_BYTES_PER_CALL


def test_a_call_may_be_full_to_the_last_byte():
    """What makes up its bytes exactly still goes into it; one byte more does not."""
    half = MAX_BYTES_PER_CALL // 2
    rest = half - size_of(update("")) + 1
    exact = [update("x" * (rest - 1)), update("x" * (rest - 1))]
    assert sum(map(size_of, exact)) == MAX_BYTES_PER_CALL
    assert fitting(exact) == 2
    assert fitting([exact[0], update("x" * rest)]) == 1


def test_an_update_over_the_bound_travels_alone():
    """The queue always moves: a single update may exceed the bound of a call."""
    assert fitting([update("x" * 900_000), update()]) == 1
    assert fitting([update(), update("x" * 900_000)]) == 1
    assert fitting([update("x" * 900_000)]) == 1


def test_payloads_are_measured_in_bytes_of_utf8():
    """1 MB is the limit, of bytes and not of characters."""
    check_payload("x" * MAX_PAYLOAD_BYTES, "the result")
    with pytest.raises(
        PayloadTooLargeError, match=r"the result is 1,048,577 bytes encoded, the limit is 1,048,576"
    ):
        check_payload("x" * (MAX_PAYLOAD_BYTES + 1), "the result")
    with pytest.raises(PayloadTooLargeError):
        check_payload("ä" * (MAX_PAYLOAD_BYTES // 2 + 1), "the result")
