"""Durations as users give them, and as the wire takes them."""

from __future__ import annotations

import math
from datetime import timedelta

from .._wire.limits import MAX_DELAY_SECONDS, MIN_DELAY_SECONDS
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
    seconds = to_seconds(duration, where)
    if not MIN_DELAY_SECONDS <= seconds <= MAX_DELAY_SECONDS:
        raise InvalidDurationError(seconds, where, "a durable timer takes 1 second to 366 days")
    return math.ceil(seconds)


def _checked(seconds: float, where: str) -> float:
    if not 0 <= seconds < math.inf:
        raise InvalidDurationError(seconds, where, "a duration is finite and not negative")
    return seconds
