"""When to try again, and how much later."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, TypeAlias

import msgspec

from .._wire.limits import MAX_DELAY_SECONDS, MIN_DELAY_SECONDS
from .durations import to_seconds

Jitter = Literal["none", "half", "full"]
Worth: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


class _Delays(msgspec.Struct, frozen=True, kw_only=True):
    """Delays that grow: the arithmetic that is common to retries and polls."""

    initial_delay: float | timedelta = 5.0
    backoff_rate: float = 2.0
    max_delay: float | timedelta = 60.0
    jitter: Jitter = "full"

    def __post_init__(self) -> None:
        own = type(self).__name__
        if not 1 <= self.backoff_rate < math.inf:
            raise ValueError(f"{own}(backoff_rate={self.backoff_rate!r}): 1 or more")
        if self.jitter not in {"none", "half", "full"}:
            raise ValueError(f"{own}(jitter={self.jitter!r}): none, half or full")
        to_seconds(self.initial_delay, f"{own}(initial_delay)")
        to_seconds(self.max_delay, f"{own}(max_delay)")

    def delay_after(self, attempt: int, chance: float) -> int:
        """Whole seconds from an attempt to the next one.

        Args:
            attempt: Which attempt it was, from 1.
            chance: A random number in [0, 1), for the jitter.
        """
        longest = to_seconds(self.max_delay, "max_delay")
        try:
            delay = to_seconds(self.initial_delay, "initial_delay") * self.backoff_rate ** (attempt - 1)
        except OverflowError:
            delay = longest
        delay = min(delay, longest)
        if self.jitter == "full":
            delay *= chance
        elif self.jitter == "half":
            delay = delay / 2 + chance * delay / 2
        return to_delay_seconds(delay)


class Backoff(_Delays, frozen=True, kw_only=True):
    """How long to wait between two checks of a condition.

    The delay after check n is `min(initial_delay * backoff_rate ** (n - 1), max_delay)`, jittered, rounded up to
    whole seconds, at least one. Without arguments these are the numbers of AWS's own SDKs.

    Args:
        initial_delay: Seconds, or a `timedelta`, after the first check.
        backoff_rate: What the delay is multiplied with after every further check.
        max_delay: The longest delay.
        jitter: `"none"` takes the delay d as it is, `"half"` is between d/2 and d, `"full"` between 0 and d.

    Raises:
        InvalidDurationError: A negative or infinite delay.
        ValueError: A backoff rate below 1, an unknown jitter.
    """

    backoff_rate: float = 1.5
    max_delay: float | timedelta = 300.0


class Retry(_Delays, frozen=True, kw_only=True):
    """A retry policy. The delay is kept by the service: nothing runs, and nothing is paid, in between.

    The delay after attempt n is `min(initial_delay * backoff_rate ** (n - 1), max_delay)`, jittered, rounded up
    to whole seconds, at least one. Without arguments these are the numbers of AWS's own SDKs.

    Args:
        attempts: How often the body may run in all, the first time included.
        initial_delay: Seconds, or a `timedelta`, after the first failure.
        backoff_rate: What the delay is multiplied with after every further failure.
        max_delay: The longest delay.
        jitter: `"none"` takes the delay d as it is, `"half"` is between d/2 and d, `"full"` between 0 and d.
        retry_if: Which errors are worth another attempt: an exception class, several, or a predicate.

    Raises:
        InvalidDurationError: A negative or infinite delay.
        ValueError: Fewer than one attempt, a backoff rate below 1, an unknown jitter.
    """

    attempts: int = 6
    retry_if: Worth = Exception

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"Retry(attempts={self.attempts!r}): there is always one attempt")
        super().__post_init__()

    def next_delay(self, error: Exception, attempt: int, chance: float) -> int | None:
        """Whole seconds until the next attempt, or `None` when there is none.

        Args:
            error: What the attempt raised.
            attempt: Which attempt it was, from 1.
            chance: A random number in [0, 1), for the jitter.
        """
        if attempt >= self.attempts or not self._is_worth(error):
            return None
        return self.delay_after(attempt, chance)

    def _is_worth(self, error: Exception) -> bool:
        worth: Any = self.retry_if
        return isinstance(error, worth) if isinstance(worth, (type, tuple)) else bool(worth(error))


def to_delay_seconds(seconds: float) -> int:
    """A delay as the service takes it: whole seconds, rounded up, 1 second to 366 days."""
    return min(max(math.ceil(seconds), MIN_DELAY_SECONDS), MAX_DELAY_SECONDS)
