"""A block: code that is a branch of its own without a task of its own, so that it can be stopped."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from .branch import Branch
from .frame import Frame

if TYPE_CHECKING:
    from .branch import Tally


class Block:
    """Part of what a frame's task does: between `enter` and `leave` it is a branch, with a namespace of its own."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._scope = anyio.CancelScope()
        # Itself while it is open.
        self._branch: Branch | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has been entered and not been left."""
        return self._branch is not None

    @property
    def is_stopped(self) -> bool:
        """Whether it is open, and has been stopped."""
        return self._branch is not None and self._branch.is_stopped

    @property
    def is_cancelled(self) -> bool:
        """Whether it has been cancelled, as it was stopped."""
        return self._scope.cancel_called

    def enter(self, *, was_left: bool = False) -> None:
        """Begin.

        Args:
            was_left: Whether it is recorded that the code has left the block before.
        """
        frame = self._frame
        around = frame.branch
        self._scope.__enter__()
        self._branch = Branch(frame.invocation.parking, around, self._scope, is_live=around.is_live, is_block=True)
        self._branch.was_left = self._branch.end_is_recorded = was_left
        frame.open_block(self._branch)
        if around.covers:
            frame.cover()
            if not (was_left or around.owed or around.until is not None or frame.has_ground_after_block):
                around.arrive()

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End. Returns whether what it was left by was its own cancellation, and nothing else."""
        if self._branch is not None:
            self._frame.close_block()
            self._frame.cover()  # before the block lets go: in between nobody may find that all has been covered
            self._branch.end()
            self._branch = None
        self._scope.__exit__(kind, error, traceback)
        return self._scope.cancelled_caught

    @property
    def passed(self) -> int:
        """How often it has got past something that ended without it (see `Branch`)."""
        return 0 if self._branch is None else self._branch.passed

    def tally(self) -> dict[str, int]:
        """How far branches inside of it came (see `Branch.tally`)."""
        return {} if self._branch is None else self._branch.tally()

    def stop(self, owed: int = 0, until: int | None = None, known: Tally | None = None) -> None:
        """Let it do nothing new (see `Branch.stop`)."""
        if self._branch is not None:
            self._branch.was_left = False
            self._branch.stop(owed, until, known)
