"""`batch`: a block inside of which successes are recorded later, many in one call.

Inside of it a step hands out its result and the code goes on, while its record is still in the journal's queue.
Order is kept, so that what is recorded is always a beginning of what has happened: a crash loses an end of it, and
what is lost runs again. What must not run again, or must not be done on the ground of something that may be lost,
waits for all that was queued before it: the START of what waits for the world or runs at most once, a failure, a
rollback, the end of the block, the end of the function.
"""

from __future__ import annotations

from contextvars import Token
from types import TracebackType

from .._engine.current import batch_var
from .._engine.frame import Frame


class Batch:
    """A batch. Made by `DurableContext.batch`."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        # From entry on.
        self._token: Token[bool] | None = None

    async def __aenter__(self) -> None:
        """Begin. Records nothing."""
        if self._token is not None:
            raise RuntimeError("a batch can be entered once: call ctx.batch() again")
        await self._frame.invocation.enter(self._frame, "a batch")
        self._token = batch_var.set(True)
        self._frame.invocation.journal.open_batch()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Return when everything is recorded, however the block is left; at once if the invocation is ending."""
        if self._token is not None:
            batch_var.reset(self._token)
        if self._frame.invocation.ending is None:
            await self._frame.invocation.journal.close_batch()
