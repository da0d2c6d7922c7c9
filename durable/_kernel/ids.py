"""Operation ids: position, not time or chance (PROTOCOL section 3)."""

from __future__ import annotations

try:
    # `hashlib` has the very same function, and loads OpenSSL on the way: half of what `import durable` may cost.
    from _blake2 import blake2b
except ImportError:  # another implementation of Python
    from hashlib import blake2b

ID_LENGTH = 64


def operation_id(prefix: str | None, position: int) -> str:
    """The id of the operation at a position of a frame.

    Args:
        prefix: The id of the frame's context; `None` at the root.
        position: 1 for the frame's first operation.
    """
    return _digest(str(position) if prefix is None else f"{prefix}-{position}")


def reserved_id(prefix: str | None, kind: str, number: int) -> str:
    """The id of something that takes no position: what is recorded of it, if ever, shifts nothing else.

    Args:
        prefix: As for a position.
        kind: What it is for; keeps it apart from positions.
        number: 1 for the frame's first one.
    """
    return _digest(f"{kind}-{number}" if prefix is None else f"{prefix}-{kind}-{number}")


def branch_id(context_id: str, index: int) -> str:
    """The id of a branch of a map or parallel operation, from 0."""
    return _digest(f"{context_id}-{index}")


def compensation_id(saga_id: str, forward_id: str, again: int = 0) -> str:
    """The id of the compensation of one forward operation: the same in whatever order things are undone.

    Args:
        saga_id: The rollback's context.
        forward_id: What is undone.
        again: How many times an operator has asked for it to be tried again.
    """
    return _digest(f"{saga_id}-{forward_id}-again-{again}" if again else f"{saga_id}-{forward_id}")


def operator_id(compensation_id: str, number: int) -> str:
    """The id of the callback by which an operator decides on a compensation that failed."""
    return _digest(f"{compensation_id}-operator-{number}")


def rollback_id(saga_id: str) -> str:
    """The id of the step that records that a saga's rollback has begun."""
    return _digest(f"{saga_id}-rollback")


def outcome_id(trigger_id: str) -> str:
    """The id of the step that records how a block ended that an operation may stop."""
    return _digest(f"{trigger_id}-outcome")


def attempt_prefix(step_id: str, attempt: int) -> str:
    """The namespace of what one attempt of a step records inside itself (compensations with retries do)."""
    return _digest(f"{step_id}-attempt-{attempt}")


def drawn(arn: str, kind: str, prefix: str | None, position: int, number: int) -> bytes:
    """32 bytes that look random, and are the same on every replay.

    Args:
        arn: The execution's.
        kind: What they are for; keeps what is drawn for different things apart.
        prefix: As for a position.
        position: How many positions of the frame have been taken.
        number: 1 for the first that is drawn at this position.
    """
    return blake2b(f"{arn}/{prefix or ''}/{position}/{kind}/{number}".encode(), digest_size=32).digest()


def digest_of(data: bytes) -> str:
    """What data is called by that is kept under its hash: 64 hex characters."""
    return blake2b(data, digest_size=32).hexdigest()


def idempotency_key(arn: str, operation: str) -> str:
    """A key for payment APIs and the like: the same on every attempt and replay, unique otherwise."""
    return blake2b(f"{arn}/{operation}".encode(), digest_size=16).hexdigest()


def _digest(text: str) -> str:
    # The 64-byte digest cut to 64 hex characters; a 32-byte digest would be another hash.
    return blake2b(text.encode()).hexdigest()[:ID_LENGTH]
