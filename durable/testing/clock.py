"""Time that tests need not wait for."""

from __future__ import annotations

import heapq
import itertools

import anyio
import anyio.lowlevel

from .._wire import Timestamp
from ..abc import Clock

START = Timestamp(1_764_000_000_000)
"""Where a test's time begins, unless it says otherwise."""


class SkippingClock(Clock):
    """A clock on which every sleep is over at once: time jumps to when the earliest sleeper wakes.

    With several sleepers time goes from one to the next in order, and each gets its turn before time goes on.
    It never goes backwards.
    """

    def __init__(self, start: Timestamp = START) -> None:
        self._now = start
        self._numbers = itertools.count()
        # When each sleeper wants to wake, earliest first; numbered, as sleepers of one instant wake in order.
        self._sleepers: list[tuple[int, int, anyio.Event]] = []

    def now(self) -> Timestamp:
        """Milliseconds since the epoch."""
        return self._now

    async def sleep_until(self, when: int) -> None:
        """Return when time has come to `when`, which it does by itself."""
        turn = anyio.Event()
        entry = (when, next(self._numbers), turn)
        heapq.heappush(self._sleepers, entry)
        try:
            # Others who are about to sleep until earlier have the chance to say so.
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            while self._sleepers[0] is not entry:
                await turn.wait()
            self._now = max(self._now, Timestamp(when))
        finally:
            self._sleepers.remove(entry)
            heapq.heapify(self._sleepers)
            if self._sleepers:
                self._sleepers[0][2].set()
