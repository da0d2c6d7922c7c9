"""The real time."""

from __future__ import annotations

import time
from typing import Final

import anyio

from .._wire import Timestamp
from ..abc import Clock

_SLICE: Final = 60.0
"""Seconds after which a long sleep looks at the wall clock again: it may have been set, or the machine asleep."""


class SystemClock(Clock):
    """The machine's wall clock."""

    def now(self) -> Timestamp:
        """Milliseconds since the epoch."""
        return Timestamp(time.time_ns() // 1_000_000)

    async def sleep_until(self, when: int) -> None:
        """Return at or after `when`, in milliseconds since the epoch."""
        while True:
            remaining = (when - time.time_ns() // 1_000_000) / 1000
            if remaining <= 0:
                return
            await anyio.sleep(min(remaining, _SLICE))
