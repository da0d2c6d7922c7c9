"""Operation ids: the protocol's own vectors."""

from __future__ import annotations

from durable._kernel.ids import (
    attempt_prefix,
    compensation_id,
    idempotency_key,
    operation_id,
    rollback_id,
)

FIRST = "1ced8f5be2db23a6513eba4d819c73806424748a7bc6fa0d792cc1c7d1775a97"


def test_root_positions_have_the_protocols_ids():
    """The first and second operation of an execution have the ids other SDKs give them."""
    assert operation_id(None, 1) == FIRST
    assert operation_id(None, 2) == "c5faca15ac2f93578b39ef4b6bbb871bdedce4ddd584fd31f0bb66fade3947e6"


def test_positions_inside_a_context_derive_from_its_id():
    """A context's operations have the ids other SDKs give them."""
    assert operation_id(FIRST, 1) == "974bfc6321e227b0ff101342eaf19b336f002dc6cc99c18f0941a7755cc20fc4"
    assert operation_id(FIRST, 0) == "1712f93e2f51df042e2b933907d75accfe34a48fe4a42a24e0b08131bc72d591"


def test_a_sagas_own_ids_do_not_meet_positions():
    """The rollback, the compensations, and the attempts of one saga have ids of their own."""
    ids = [
        *(operation_id(FIRST, position) for position in range(100)),
        rollback_id(FIRST),
        compensation_id(FIRST, operation_id(None, 2)),
        compensation_id(FIRST, operation_id(None, 3)),
        operation_id(attempt_prefix(FIRST, 1), 1),
        operation_id(attempt_prefix(FIRST, 2), 1),
    ]
    assert len(set(ids)) == len(ids)


def test_idempotency_keys_are_stable_and_differ_by_execution_and_operation():
    """A key depends on the execution and the operation, and on nothing else."""
    key = idempotency_key("arn:a", FIRST)
    assert key == idempotency_key("arn:a", FIRST)
    assert len({key, idempotency_key("arn:b", FIRST), idempotency_key("arn:a", operation_id(None, 2))}) == 3
    assert len(key) == 32
    assert int(key, 16)
