"""Time that tests need not wait for."""

from __future__ import annotations

import heapq
import itertools
import sys
import weakref
from typing import Any

import anyio

from .._wire import Timestamp
from ..abc import Clock

START = Timestamp(1_764_000_000_000)
"""Where a test's time begins, unless it says otherwise."""


class _Sleeper:
    """One who sleeps.

    Attributes:
        when: Until when.
        is_over: Whether that time has come.
        signal: Set when there is a reason to look.
    """

    __slots__ = ("is_over", "number", "signal", "when")

    def __init__(self, when: int, number: int) -> None:
        self.when = when
        self.number = number
        self.is_over = False
        self.signal = anyio.Event()

    def __lt__(self, other: _Sleeper) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class SkippingClock(Clock):
    """A clock on which time passes only when nothing else can happen: it jumps to when the first sleeper wakes.

    "Nothing else" means that every task of the event loop is blocked. A task that waits for a worker thread is
    blocked too: what runs in threads takes no time on this clock, but does not hold it up either. Time never goes
    backwards.
    """

    def __init__(self, start: Timestamp = START) -> None:
        self._now = start
        self._numbers = itertools.count()
        # Those who sleep, earliest first; those of one instant in the order in which they came.
        self._sleepers: list[_Sleeper] = []
        # Whether one of them is looking for the moment at which nothing else can happen.
        self._has_lookout = False

    def now(self) -> Timestamp:
        """Milliseconds since the epoch."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        await self.sleep_until(self._now + round(seconds * 1000))

    async def sleep_until(self, when: int) -> None:
        """Return when time has come to `when`, which it does by itself."""
        sleeper = _Sleeper(when, next(self._numbers))
        heapq.heappush(self._sleepers, sleeper)
        try:
            while not sleeper.is_over:
                if self._has_lookout:
                    await sleeper.signal.wait()
                    sleeper.signal = anyio.Event()
                else:
                    await self._look_out()
        finally:
            if not sleeper.is_over:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)
                self._have_one_look_out()

    async def _look_out(self) -> None:
        self._has_lookout = True
        try:
            await _all_blocked()
            first = heapq.heappop(self._sleepers)
            self._now = max(self._now, Timestamp(first.when))
            first.is_over = True
            first.signal.set()
        finally:
            self._has_lookout = False
            self._have_one_look_out()

    def _have_one_look_out(self) -> None:
        """Somebody has to; whoever was told to may have been cancelled."""
        if self._sleepers and not self._has_lookout:
            self._sleepers[0].signal.set()


async def _all_blocked() -> None:
    """Return when every other task is blocked."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:  # trio is loaded, but it is not what runs here
            pass
        else:
            from trio.testing import wait_all_tasks_blocked

            await wait_all_tasks_blocked()
            return
    await _all_asyncio_tasks_blocked()


_QUIET_TURNS = 5
"""Turns of the event loop without a task that can run: what is about to wake one, a callback, has its turn too."""

# Tasks that are looking out themselves: they never block, and wait for nothing else than this.
_looking_out: weakref.WeakSet[Any] = weakref.WeakSet()


async def _all_asyncio_tasks_blocked() -> None:
    import asyncio

    current = asyncio.current_task()
    _looking_out.add(current)
    quiet = 0
    try:
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            blocked = all(task in _looking_out or _is_blocked(task) for task in asyncio.all_tasks())
            quiet = quiet + 1 if blocked else 0
    finally:
        _looking_out.discard(current)


def _is_blocked(task: Any) -> bool:
    waiter = task._fut_waiter
    return waiter is not None and not waiter.done()
