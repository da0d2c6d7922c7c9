"""Durations as users give them, and as the wire takes them."""

from __future__ import annotations

import math
from datetime import timedelta

from .._wire.limits import MAX_CALLBACK_TIMEOUT_SECONDS, MAX_DELAY_SECONDS, MIN_DELAY_SECONDS
from ..exceptions import InvalidDurationError


def to_seconds(duration: float | timedelta, where: str) -> float:
    """Seconds of a `float` or a `timedelta`.

    Raises:
        InvalidDurationError: Negative, not a number, or infinite.
        TypeError: Neither a number nor a `timedelta`.
    """
    if isinstance(duration, timedelta):
        return _checked(duration.total_seconds(), where)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise TypeError(f"{where}: a duration is a number of seconds or a timedelta, not {duration!r}")
    return _checked(float(duration), where)


def to_wait_seconds(duration: float | timedelta, where: str) -> int:
    """Whole seconds for the wire, rounded up.

    Raises:
        InvalidDurationError: Less than one second or more than 366 days.
        TypeError: Neither a number nor a `timedelta`.
    """
    return _whole_seconds(duration, where, MAX_DELAY_SECONDS, "a durable timer takes 1 second to 366 days")


def to_execution_seconds(duration: float | timedelta | None, where: str) -> int | None:
    """A time limit of an execution, in whole seconds, rounded up.

    Raises:
        InvalidDurationError: Less than one second or more than 366 days.
        TypeError: Neither a number nor a `timedelta`.
    """
    if duration is None:
        return None
    rule = "an execution's time limit is 1 second to 366 days, or None"
    return _whole_seconds(duration, where, MAX_DELAY_SECONDS, rule)


def to_callback_seconds(duration: float | timedelta | None, where: str) -> int:
    """A time limit of a callback for the wire, in whole seconds, rounded up; 0 is none.

    Raises:
        InvalidDurationError: Less than one second or more than 99,999,999.
        TypeError: Neither a number nor a `timedelta`.
    """
    if duration is None:
        return 0
    rule = f"a callback's time limit is 1 to {MAX_CALLBACK_TIMEOUT_SECONDS:,} seconds, or None"
    return _whole_seconds(duration, where, MAX_CALLBACK_TIMEOUT_SECONDS, rule)


def _whole_seconds(duration: float | timedelta, where: str, longest: int, rule: str) -> int:
    seconds = to_seconds(duration, where)
    if not MIN_DELAY_SECONDS <= seconds <= longest:
        raise InvalidDurationError(seconds, where, rule)
    return math.ceil(seconds)


def _checked(seconds: float, where: str) -> float:
    if not 0 <= seconds < math.inf:
        raise InvalidDurationError(seconds, where, "a duration is finite and not negative")
    return seconds
