"""What comes from outside of the execution: results to decode, and errors that others report."""

from __future__ import annotations

import functools
from typing import Any, TypedDict

from .._kernel.values import Converter, converter_for
from .._wire import ErrorObject


class Reported(TypedDict):
    """What is recorded of an error, as the exceptions that keep it take it."""

    error_type: str | None
    message: str | None
    data: str | None
    stack_trace: tuple[str, ...]


def reported(error: ErrorObject | None) -> Reported:
    """What is recorded of an error; nothing at all when there is none."""
    error = error or ErrorObject()
    return Reported(
        error_type=error.error_type,
        message=error.error_message,
        data=error.error_data,
        stack_trace=error.stack_trace or (),
    )


def result_converter(annotation: Any, what: str) -> Converter[Any]:
    """The converter of a type that is given at the call.

    Raises:
        SerializationError: Values of such a type can never be decoded.
    """
    try:
        hash(annotation)
    except TypeError:
        return converter_for(annotation, what)
    # Remembered, as looking into a type takes longer than all else that a replay does for an operation.
    return _known(annotation, what)


@functools.lru_cache(maxsize=256, typed=True)
def _known(annotation: Any, what: str) -> Converter[Any]:
    return converter_for(annotation, what)
