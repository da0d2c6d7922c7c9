"""What may interrupt a saga's block from outside: its deadline, and a request to cancel it.

Each is an operation that ends by itself, or by somebody's doing, and stops the block (see `_operations/limit.py`):
a timer, and a callback. So both work on AWS, where stopping an execution, or its time limit, undoes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Final

import msgspec

from .._engine.frame import Frame
from .._operations.callback import CreationVerb
from .._operations.limit import Limit
from .._operations.time_limit import TimerVerb
from .._wire import SubType
from .._wire.limits import MAX_NAME_LENGTH
from ..exceptions import SagaCancelledError, SagaDeadlineError

CANCEL: Final = "cancel"
DEADLINE: Final = "deadline"
"""What the operations are called, followed by the saga's name."""


class Interruptions:
    """The deadline of one saga, and its openness to requests; either may be absent."""

    def __init__(
        self, frame: Frame, name: str | None, *, deadline: float | timedelta | None, cancellable: bool
    ) -> None:
        self._frame = frame
        self._deadline: Limit | None = None
        self._request: Limit | None = None
        self._seconds = 0
        if deadline is not None:
            shown = _name(DEADLINE, name)
            timer = TimerVerb(frame, deadline, name=shown)
            self._seconds = timer.seconds
            self._deadline = Limit(frame, timer, name=shown)
        if cancellable:
            shown = _name(CANCEL, name)
            # Of a subtype of its own: nobody takes a user's callback, whatever that is called, for this one.
            callback = CreationVerb(
                frame, name=shown, timeout=None, heartbeat_timeout=None, sub_type=SubType.CANCELLATION
            )
            self._request = Limit(frame, callback, name=shown)

    async def enter(self) -> None:
        """Begin: records the timer and the callback."""
        if self._deadline is not None:
            await self._deadline.enter()
        if self._request is not None:
            try:
                await self._request.enter()
            except BaseException as error:
                if await self._leave_deadline(type(error), error, error.__traceback__):
                    raise SagaDeadlineError(self._seconds) from None
                raise

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Exception | None:
        """End: records how. Returns what interrupted the block, if something did."""
        requested = False
        try:
            if self._request is not None and await self._request.leave(kind, error, traceback):
                requested = True
                kind = error = traceback = None
        except BaseException as trouble:
            # It may be the deadline that has come meanwhile; and in any case its block ends as well.
            if await self._leave_deadline(type(trouble), trouble, trouble.__traceback__):
                return SagaDeadlineError(self._seconds)
            raise
        if await self._leave_deadline(kind, error, traceback):
            return SagaDeadlineError(self._seconds)
        return SagaCancelledError(self._reason()) if requested else None

    async def _leave_deadline(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self._deadline is not None and await self._deadline.leave(kind, error, traceback)

    def _reason(self) -> str:
        trigger = self._request.trigger if self._request is not None else None
        sent = trigger.result if trigger is not None else None
        try:
            reason = msgspec.json.decode(sent or "", type=str | None)
        except msgspec.DecodeError:
            reason = sent  # not JSON: taken as it came
        return f"its cancellation was requested{f': {reason}' if reason else ''}"


def _name(what: str, saga: str | None) -> str:
    return what if saga is None else f"{what} {saga}"[:MAX_NAME_LENGTH]
