"""A group of branches: each in a task and a frame of its own, and one who waits for them.

Rules:

 1. Positions are the owner's business and taken before a branch starts; nothing depends on whose turn comes when.
 2. A branch ends with an outcome, which is its own business too: what it raises, other than by cancellation, must
    not come out of it.
 3. Whoever leaves the group waits until every branch has ended, whatever happened: a branch that was cancelled may
    be rolling back, and may even suspend the execution doing so.
 4. A group that is stopped starts nothing more and stops each of its branches (see branch.py).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio

from ..exceptions import ServiceError
from .branch import Branch
from .frame import Frame
from .parking import Waiter

if TYPE_CHECKING:
    from .branch import Tally

_KEY: Final = 16
"""Characters of its operation's id by which a branch is found in a tally."""

BranchBody = Callable[[Frame], Awaitable[None]]
"""What a branch runs: it gets a frame of its own, and raises nothing but cancellation."""


class BranchGroup:
    """The branches that one task has started in a frame of its own, and waits for.

    Use it as `async with BranchGroup(frame) as group:`. What the block raises stops the branches and is raised
    again when all have ended.

    Attributes:
        is_stopped: Whether it has been stopped.
        is_over: Whether it has been left, and all its branches have ended.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._parking = frame.invocation.parking
        self._tasks = anyio.create_task_group()
        # Both as the owner has them where the group is entered: its context variables, for whoever starts a branch,
        # and the branch it is in. Later it may be in a block of that.
        self._context = copy_context()
        self._around = frame.branch
        self._running: set[Branch] = set()
        self.is_stopped = False
        self.is_over = False
        self._until: int | None = None
        self._known: Tally | None = None
        # How far branches came that have ended, where no record of theirs tells.
        self._left: dict[str, int] = {}
        # Whether the owner has nothing left to do but to wait.
        self._owner_rests = False
        # Those who wait for the end of one branch, until it has come.
        self._waiters: dict[Branch, list[Waiter]] = {}

    def start(
        self,
        body: BranchBody,
        *,
        operation_id: str,
        at: int,
        covers: bool,
        name: str,
        ends: bool = False,
        spared: bool = False,
        decides: Callable[[bool], bool] | None = None,
        context: Context | None = None,
    ) -> Branch:
        """Start a branch.

        Args:
            body: What it runs.
            operation_id: Its own, or of its namespace.
            at: Its position in the owner's frame, or its number among the branches of one operation.
            covers: Whether anything of it is recorded.
            name: For people who look at tasks.
            ends: Whether it is recorded that its code has come to its end.
            spared: Whether it is not stopped although the group is.
            decides: Given whether it succeeded: whether its end decides what becomes of others.
            context: Its context variables; by default the owner's.
        """
        scope = anyio.CancelScope()
        key = operation_id[:_KEY]
        branch = Branch(self._parking, self._around, scope, is_live=not covers, key=key)
        branch.decides = decides
        self._running.add(branch)
        if covers:
            branch.cover()
        branch.recall()
        if self.is_stopped and not spared:
            branch.stop(until=self._until, known=self._known)
        self._parking.turns += 1
        # Counted here and not when its task gets its turn: in between nobody else may find that none is active.
        self._parking.resume()
        # Not in those of whoever starts it: that may be a branch that has just ended.
        path = self._frame.path_of_branch(at)
        run = partial(self._run, body, branch, scope, operation_id, path, ends=ends)
        (context or self._context).run(partial(self._tasks.start_soon, run, name=name))
        return branch

    def stop(self, until: int | None = None, known: Tally | None = None) -> None:
        """Start nothing more, and let none of the branches do anything new.

        Args:
            until: When they are stopped (epoch milliseconds), unless it is recorded what they did until then.
            known: If it is recorded: how far they came.
        """
        self.is_stopped = True
        self._until = until
        self._known = known
        for branch in tuple(self._running):
            branch.stop(until=until, known=known)

    async def catch_up(self, frame: Frame) -> None:
        """Before all are stopped: let branches that had begun before come to where they were.

        Args:
            frame: Whose code is about to stop them.
        """
        if any(not branch.is_live and branch is not frame.branch for branch in self._running):
            # A few turns of the event loop, in which nothing new is begun.
            with anyio.CancelScope(shield=True), self._parking.hold(self._around):
                await self._parking.replayed(self._around)

    def tally(self) -> dict[str, int]:
        """How far the branches came (see `Branch.tally`)."""
        found = dict(self._left)
        for branch in self._running:
            found.update(branch.tally())
        return found

    def is_running(self, branch: Branch) -> bool:
        """Whether a branch has not ended."""
        return branch in self._running

    async def wait_for(self, branch: Branch, frame: Frame) -> None:
        """Wait until a branch has ended.

        Args:
            branch: One of this group.
            frame: On whose behalf; it must not be the branch itself.
        """
        while branch in self._running:
            waiter = Waiter(frame)
            self._waiters.setdefault(branch, []).append(waiter)
            frame.settle()  # what is waited for covers for itself
            frame.branch.awaited = branch
            try:
                await self._parking.wait(waiter)
            finally:
                frame.branch.awaited = None
            if frame.invocation.ending is not None:
                await frame.invocation.leave("waiting for a branch")

    async def __aenter__(self) -> Self:
        """Begin."""
        self._context = copy_context()
        self._around = self._frame.branch
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for every branch."""
        if isinstance(error, Exception):
            self.stop(self._frame.invocation.clock.now())
            # Raised again by whoever called: the task group is not to cancel, nor to wrap it.
            kind = error = traceback = None
        elif error is not None:
            self.is_stopped = True
        if self._running:
            self._owner_rests = True
            self._frame.settle()
            self._parking.rest()
        try:
            await self._tasks.__aexit__(kind, error, traceback)
        finally:
            self.is_over = True

    async def _run(
        self,
        body: BranchBody,
        branch: Branch,
        scope: anyio.CancelScope,
        operation_id: str,
        path: tuple[int, ...],
        *,
        ends: bool,
    ) -> None:
        try:
            with scope:
                await body(Frame.of_branch(self._frame, branch, path, ends=ends))
        except anyio.get_cancelled_exc_class():
            if anyio.current_effective_deadline() != -math.inf:
                # Only asyncio has this: somebody awaited what was cancelled by other means than a scope.
                text = "a branch was left by a cancellation, although nobody here has cancelled it"
                self._frame.invocation.fail(ServiceError(text, retryable=True))
            raise
        finally:
            self._end(branch, operation_id)

    def _end(self, branch: Branch, operation_id: str) -> None:
        recorded = self._frame.invocation.history.get(operation_id)
        self._running.discard(branch)
        branch.decided()
        # Others go on first: were this one to leave before, it might look as if nobody was left.
        for waiter in self._waiters.pop(branch, ()):
            waiter.frame.cover()
            self._parking.wake(waiter)
        if self._owner_rests and not self._running:
            self._frame.cover()
            self._parking.resume()
        self._left.update(branch.end(is_recorded=recorded is not None and recorded.is_final))
        self._parking.rest()
