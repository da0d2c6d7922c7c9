"""What is given on the command line as text: an execution's input, a callback's result."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from ..exceptions import DurableError
from ..function import DurableFunction


class InputError(DurableError, ValueError):
    """What is given as JSON cannot be read, or is not JSON."""


def read_input(text: str, option: str = "--input") -> str:
    """The JSON text that `--input`, or another option, means.

    Args:
        text: JSON; or `@` and a file that holds it; or `-`, standard input.
        option: What it was given as.

    Raises:
        InputError: There is no such file, or it is not JSON.
    """
    source, payload = option, text
    if text == "-":
        source, payload = "standard input", _decoded(sys.stdin.buffer.read(), "standard input")
    elif text.startswith("@"):
        source = text[1:]
        try:
            payload = _decoded(Path(source).read_bytes(), source)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(f"the input {source!r} cannot be read: {reason}") from error
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        # Not by pathlib, for which JSON may be too long a path to ask about.
        is_file = source == option and os.path.isfile(text)  # noqa: PTH113
        hint = f" (a file is given as {option} @FILE)" if is_file else ""
        raise InputError(f"{source} is not JSON: {error}{hint}") from error
    return payload


def input_of(function: DurableFunction[Any, Any], payload: str) -> Any:
    """An input as the function's annotation has it.

    Raises:
        SerializationError: It does not fit the annotation.
    """
    return function.plain_input_converter().decode(payload, f"the input of {function.name}")


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text: {error.reason} at byte {error.start}") from error
