"""Durable time limits: a timer beside a block of code, and a record of which of the two was first.

The limit is a WAIT at the position where the block begins. When the service says that its time has passed, the
block is stopped. How it ended is recorded, as a STEP, before the code goes on: on replay that decides, and the
block comes exactly as far as it came before.
"""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Self

from .._engine.block import Block
from .._engine.frame import Frame
from .._engine.parking import Watch
from .._engine.perform import Verb, diverge, perform
from .._kernel.decide import Decision, Interrupt, Return, Run, decide_step, decide_wait
from .._kernel.errors import decode_error
from .._kernel.history import Identity
from .._kernel.ids import time_limit_id
from .._wire import (
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
)
from ..exceptions import TimeLimitError
from .wait import WaitVerb

_EXPIRED = "true"
_IN_TIME = "false"


class TimeLimit:
    """A block under a durable time limit. Made by `DurableContext.move_on_after` and `fail_after`.

    Attributes:
        expired: Whether the time passed before the block ended; `False` while it runs.
    """

    def __init__(self, frame: Frame, duration: float | timedelta, *, name: str, fails: bool) -> None:
        self.expired = False
        self._frame = frame
        self._fails = fails
        self._timer = _TimerVerb(frame, duration, name=name)
        self._name = name
        self._block = Block(frame)
        # Set on entry.
        self._timer_id = ""
        self._watch: Watch | None = None

    async def __aenter__(self) -> Self:
        """Begin: records the timer."""
        if self._timer_id:
            raise RuntimeError("a time limit can be entered once: ask the context for another one")
        frame = self._frame
        history = frame.invocation.history
        self._timer_id = frame.peek()
        await perform(frame, self._timer)
        self._block.enter()
        outcome = history.get(time_limit_id(self._timer_id))
        timer = history.get(self._timer_id)
        if outcome is not None and outcome.is_final:
            if outcome.result == _EXPIRED:
                self._block.stop()
        elif timer is not None and timer.status is OperationStatus.SUCCEEDED:
            self._block.stop()
        elif timer is not None:
            until = timer.wait_details.scheduled_end_timestamp if timer.wait_details is not None else None
            self._watch = frame.invocation.parking.watch(self._timer_id, until, self._timer_changed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End: records how.

        Raises:
            TimeLimitError: The time passed first, and the limit is one that fails.
        """
        frame = self._frame
        if self._watch is not None:
            frame.invocation.parking.forget(self._watch)
        unasked = frame.unasked() if error is None else None
        self.expired = self._block.leave(kind, error, traceback)
        if unasked is not None:
            await diverge(frame, unasked, f"the end of {self._name}")
        if error is not None and not self.expired and not isinstance(error, Exception):
            return False
        verb = _OutcomeVerb(frame, self._name, expired=self.expired)
        recorded = await perform(frame, verb, time_limit_id(self._timer_id))
        if recorded != self.expired:
            found = "the end of its block" if recorded else "its time limit"
            await diverge(frame, frame.invocation.history.get(time_limit_id(self._timer_id)), found)
        if self.expired and self._fails:
            raise TimeLimitError(self._name, self._timer.seconds) from None
        return self.expired

    def _timer_changed(self, timer: Operation) -> None:
        if timer.status is OperationStatus.SUCCEEDED:
            self._block.stop()


class _TimerVerb(WaitVerb):
    """The timer of a time limit: started, and not waited for."""

    __slots__ = ()

    def decide(self, recorded: Operation | None) -> Decision:
        """Start it once; whether its time has passed is not asked here."""
        return decide_wait(None) if recorded is None else Return(None)


class _OutcomeVerb(Verb[bool]):
    """Which was first."""

    __slots__ = ("_expired",)

    def __init__(self, frame: Frame, name: str, *, expired: bool) -> None:
        self.identity = Identity(OperationType.STEP, SubType.STEP, f"{name} outcome"[:256], frame.context_id)
        self._expired = expired

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP that cannot fail."""
        return decide_step(recorded, "at-least-once")

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Say which."""
        return self.update(operation_id, OperationAction.SUCCEED, payload=_EXPIRED if self._expired else _IN_TIME)

    def value(self, payload: str | None) -> bool:
        """Whether the time was first."""
        return payload == _EXPIRED

    def error(self, recorded: ErrorObject | None) -> Exception:
        """Not one of ours."""
        return decode_error(recorded)
