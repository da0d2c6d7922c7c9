"""How much one call carries: 250 updates, 750 KB (PROTOCOL section 1)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .._wire import ErrorObject, OperationUpdate
from .._wire.limits import MAX_BYTES_PER_CALL, MAX_PAYLOAD_BYTES, MAX_UPDATES_PER_CALL, REPLAY_CHILDREN_BYTES
from ..exceptions import PayloadTooLargeError

_encode = msgspec.json.Encoder().encode

ENVELOPE_BYTES = 420
"""What an update weighs beside its name, payload and error: ids, type, action, numbers, punctuation."""


def size_of(update: OperationUpdate) -> int:
    """An upper estimate of an update's bytes on the wire."""
    size = ENVELOPE_BYTES
    if update.name is not None:
        size += len(update.name)
    if update.payload is not None:
        size += _string_size(update.payload)
    if update.error is not None:
        size += _error_size(update.error)
    options = update.chained_invoke_options
    if options is not None:
        size += _string_size(options.function_name) + _string_size(options.tenant_id or "")
    return size


def fitting(queue: Sequence[OperationUpdate]) -> int:
    """How many updates from the head of the queue go into the next call.

    At least one: an update larger than the bound travels alone, so that the queue always moves.
    """
    if len(queue) == 1:
        return 1
    count = size = 0
    for update in queue:
        size += size_of(update)
        if count and (size > MAX_BYTES_PER_CALL or count == MAX_UPDATES_PER_CALL):
            return count
        count += 1
    return count


def check_payload(payload: str, what: str) -> None:
    """Refuse a payload that the service would refuse, before anything is sent.

    Raises:
        PayloadTooLargeError: More than 1 MB of UTF-8.
    """
    # A character is one to four bytes: only a payload near the limit is measured exactly.
    if len(payload) * 4 > MAX_PAYLOAD_BYTES:
        size = len(payload.encode())
        if size > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError(what, size, MAX_PAYLOAD_BYTES)


def is_large(payload: str) -> bool:
    """Whether a context's result is left out of its record, and rebuilt on replay from its children's."""
    return len(payload) * 4 > REPLAY_CHILDREN_BYTES and len(payload.encode()) > REPLAY_CHILDREN_BYTES


def _string_size(text: str) -> int:
    return len(_encode(text))


def _error_size(error: ErrorObject) -> int:
    parts = (error.error_message, error.error_type, error.error_data, *(error.stack_trace or ()))
    return 80 + sum(_string_size(part) + 1 for part in parts if part)
