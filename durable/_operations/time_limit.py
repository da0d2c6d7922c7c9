"""Durable time limits: a block of code that a timer may stop (see limit.py)."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Generic, Self, TypeVar

from .._engine.frame import Frame
from .._kernel.decide import Decision, Return, decide_wait
from .._wire import Operation
from ..exceptions import TimeLimitError
from .limit import Limit
from .wait import WaitVerb

SwallowsT = TypeVar("SwallowsT", bool, None)
"""For checkers: whether what leaves the block may end there. After one that fails, what the block did was done."""


class TimeLimit(Generic[SwallowsT]):
    """A block under a durable time limit. Made by `DurableContext.move_on_after` and `fail_after`.

    Attributes:
        expired: Whether the time passed before the block ended; `False` while it runs.
    """

    def __init__(self, frame: Frame, duration: float | timedelta, *, name: str, fails: bool) -> None:
        self.expired = False
        self._name = name
        self._fails = fails
        self._timer = TimerVerb(frame, duration, name=name)
        self._limit = Limit(frame, self._timer, name=name)

    async def __aenter__(self) -> Self:
        """Begin: records the timer."""
        await self._limit.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> SwallowsT:
        """End: records how.

        Raises:
            TimeLimitError: The time passed first, and the limit is one that fails.
        """
        self.expired = await self._limit.leave(kind, error, traceback)
        if self.expired and self._fails:
            raise TimeLimitError(self._name, self._timer.seconds) from None
        return self.expired  # type: ignore[return-value]  # pyright: ignore[reportReturnType] - it was not, if it fails


class TimerVerb(WaitVerb):
    """The timer of a limit: started, and not waited for."""

    __slots__ = ()
    ended_by_others = False

    def decide(self, recorded: Operation | None) -> Decision:
        """Start it once; whether its time has passed is not asked here."""
        return decide_wait(None) if recorded is None else Return(None)
