"""What is refused, whatever the type of operation (PROTOCOL sections 1 and 5)."""

from __future__ import annotations

from collections.abc import Callable

from ..._wire import ErrorObject, Operation, OperationType, OperationUpdate
from ..._wire.limits import (
    MAX_DELAY_SECONDS,
    MAX_PAYLOAD_BYTES,
    MIN_DELAY_SECONDS,
)
from ..._wire.patterns import ID_PATTERN, NAME_PATTERN, SUB_TYPE_PATTERN
from ...exceptions import ServiceError

_is_id = ID_PATTERN.fullmatch
_is_name = NAME_PATTERN.fullmatch
_is_sub_type = SUB_TYPE_PATTERN.fullmatch


class RefusedUpdateError(ServiceError):
    """An update breaks a rule of the service; nothing of its call was applied."""

    def __init__(self, rule: str, update: OperationUpdate | None = None) -> None:
        which = ""
        if update is not None:
            name = "" if update.name is None else f" {update.name!r}"
            which = f" ({update.action} of {update.type}{name}, id {update.id})"
        super().__init__(f"{rule}{which}", code="InvalidParameterValueException", retryable=False)


def check_shape(update: OperationUpdate) -> None:
    """Ids, names and sizes.

    Raises:
        RefusedUpdateError: One of them is not what the service takes.
    """
    if _is_id(update.id) is None:
        raise RefusedUpdateError("an operation's id has 1 to 64 characters of [a-zA-Z0-9-_]", update)
    if update.parent_id is not None and _is_id(update.parent_id) is None:
        raise RefusedUpdateError("a parent's id has 1 to 64 characters of [a-zA-Z0-9-_]", update)
    if update.name is not None and _is_name(update.name) is None:
        raise RefusedUpdateError("a name has 1 to 256 printable ASCII characters", update)
    if update.sub_type is not None and _is_sub_type(update.sub_type) is None:
        raise RefusedUpdateError("a subtype has 1 to 32 characters of [a-zA-Z0-9-_]", update)
    if update.payload is not None and update.type is not OperationType.EXECUTION:
        _check_size(update, len(update.payload), lambda: len((update.payload or "").encode()), "a payload")
    if update.error is not None:
        error = update.error
        _check_size(update, _error_length(error), lambda: error_bytes(error), "an error object")


def check_same(known: Operation, update: OperationUpdate) -> None:
    """Type, subtype, name and parent of an operation never change.

    Raises:
        RefusedUpdateError: One of them did.
    """
    if (
        known.type is not update.type
        or known.name != update.name
        or known.sub_type != update.sub_type
        or known.parent_id != update.parent_id
    ):
        raise RefusedUpdateError("type, subtype, name and parent of an operation cannot change", update)


def check_delay(seconds: int | None, update: OperationUpdate) -> int:
    """A delay in whole seconds, from 1 to 366 days.

    Raises:
        RefusedUpdateError: None, or outside of it.
    """
    if seconds is None or not MIN_DELAY_SECONDS <= seconds <= MAX_DELAY_SECONDS:
        raise RefusedUpdateError(f"a delay is {MIN_DELAY_SECONDS} to {MAX_DELAY_SECONDS:,} seconds", update)
    return seconds


def _check_size(update: OperationUpdate, characters: int, exact: Callable[[], int], what: str) -> None:
    # A character is one to four bytes: only what is near the limit is measured exactly.
    if characters * 4 > MAX_PAYLOAD_BYTES and exact() > MAX_PAYLOAD_BYTES:
        raise RefusedUpdateError(f"{what} has at most {MAX_PAYLOAD_BYTES:,} bytes", update)


def _error_parts(error: ErrorObject) -> list[str]:
    return [
        part
        for part in (error.error_message, error.error_type, error.error_data, *(error.stack_trace or ()))
        if part is not None
    ]


def _error_length(error: ErrorObject) -> int:
    return sum(map(len, _error_parts(error)))


def error_bytes(error: ErrorObject) -> int:
    """What all fields of an error object are together, in UTF-8."""
    return sum(len(part.encode()) for part in _error_parts(error))
