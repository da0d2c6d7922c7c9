"""Encoding and decoding, prebuilt, one place for both time units.

The invocation event has timestamps in milliseconds, the API in fractional seconds; a codec of each kind
exists for every top-level shape. Decoding checks types, enum values and required fields, and an error names
the path of what is wrong.
"""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

import msgspec

from ..exceptions import MalformedPayloadError
from .calls import (
    CheckpointDurableExecutionRequest,
    CheckpointDurableExecutionResponse,
    DeleteDurableExecutionResponse,
    GetDurableExecutionResponse,
    GetDurableExecutionStateResponse,
    ListDurableExecutionsByFunctionResponse,
    PauseDurableExecutionRequest,
    ResumeDurableExecutionRequest,
    StopDurableExecutionResponse,
)
from .events import GetDurableExecutionHistoryResponse
from .invocation import InvocationInput, InvocationOutput
from .operations import Operation
from .shapes import ErrorObject
from .timestamps import Timestamp

T = TypeVar("T")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _from_milliseconds(kind: type, value: Any) -> Any:
    if kind is Timestamp and _is_number(value):
        return Timestamp(value)
    raise TypeError(f"expected a timestamp in epoch milliseconds, got {type(value).__name__}")


def _from_seconds(kind: type, value: Any) -> Any:
    if kind is Timestamp and _is_number(value):
        return Timestamp(round(value * 1000))
    raise TypeError(f"expected a timestamp in epoch seconds, got {type(value).__name__}")


def _to_milliseconds(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return int(value)
    raise TypeError(f"{type(value).__name__} is not part of the wire")


def _to_seconds(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.seconds
    raise TypeError(f"{type(value).__name__} is not part of the wire")


_DECODE_HOOK = {"event": _from_milliseconds, "api": _from_seconds}
_ENCODER = {
    "event": msgspec.json.Encoder(enc_hook=_to_milliseconds),
    "api": msgspec.json.Encoder(enc_hook=_to_seconds),
}


class Codec(Generic[T]):
    """Encoder and decoder of one top-level shape, in one time unit."""

    __slots__ = ("_decoder", "_encoder", "_hook", "_shape")

    def __init__(self, shape: type[T], unit: Literal["event", "api"]) -> None:
        self._shape = shape
        self._hook = _DECODE_HOOK[unit]
        self._encoder = _ENCODER[unit]
        self._decoder = msgspec.json.Decoder(shape, dec_hook=self._hook)

    def encode(self, value: T) -> bytes:
        """The JSON of a shape."""
        return self._encoder.encode(value)

    def decode(self, data: bytes | str) -> T:
        """A shape from JSON.

        Raises:
            MalformedPayloadError: Not JSON, or not this shape; the message names the path.
        """
        try:
            return self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MalformedPayloadError(self._shape.__name__, str(error)) from error

    def convert(self, data: Any) -> T:
        """A shape from JSON that somebody else has already parsed into dicts and lists.

        Raises:
            MalformedPayloadError: Not this shape; the message names the path.
        """
        try:
            return msgspec.convert(data, self._shape, dec_hook=self._hook)
        except msgspec.ValidationError as error:
            raise MalformedPayloadError(self._shape.__name__, str(error)) from error


INVOCATION_INPUT = Codec(InvocationInput, "event")
INVOCATION_OUTPUT = Codec(InvocationOutput, "event")

CHECKPOINT_REQUEST = Codec(CheckpointDurableExecutionRequest, "api")
CHECKPOINT_RESPONSE = Codec(CheckpointDurableExecutionResponse, "api")
STATE_RESPONSE = Codec(GetDurableExecutionStateResponse, "api")
EXECUTION_RESPONSE = Codec(GetDurableExecutionResponse, "api")
HISTORY_RESPONSE = Codec(GetDurableExecutionHistoryResponse, "api")
LIST_RESPONSE = Codec(ListDurableExecutionsByFunctionResponse, "api")
STOP_RESPONSE = Codec(StopDurableExecutionResponse, "api")
DELETE_RESPONSE = Codec(DeleteDurableExecutionResponse, "api")
PAUSE_REQUEST = Codec(PauseDurableExecutionRequest, "api")
RESUME_REQUEST = Codec(ResumeDurableExecutionRequest, "api")
ERROR_REQUEST = Codec(ErrorObject, "api")
"""The body of StopDurableExecution and of SendDurableExecutionCallbackFailure: the error itself."""

STORED_OPERATION = Codec(Operation, "event")
"""One operation as a store keeps it: milliseconds, exact."""
