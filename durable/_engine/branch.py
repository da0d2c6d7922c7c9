"""A branch: user code that runs concurrently with other user code, and how it is stopped.

A branch is stopped when what it is part of has been decided without it: a sibling failed, a race was won, a time
limit passed. Live, that is a cancellation. On replay it is a recorded fact, and the branch must come exactly as far
as it came before: what is recorded is gone over again, as a saga around it needs the compensations that were
registered on the way, and nothing new is done.

So each branch knows whether it *covers*: whether there may be recorded ground ahead of it. A branch that is stopped
is cancelled as soon as neither it nor any branch inside it covers; a branch that was live all along, at once.

  covering   the next position of its innermost frame, or of one around that, is recorded; or it is known that it
             got past things that it has not got past yet (no record of its own tells that it saw a timer's end)
  arrived    it stands before something new, or waits for branches of its own (which cover for themselves)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from .parking import Parking, Waiter

    Tally: TypeAlias = Mapping[str, int]
    """How far branches came, by their keys (see `Branch.tally`)."""


class Branch:
    """One branch, in the tree of all branches of an invocation.

    Attributes:
        parent: The branch around it; `None` for the function itself.
        waiter: What its task is parked on; `None` while it runs.
        awaited: The branch whose end its task waits for, if it does.
        is_block: Whether it is part of what a task does, inside the branch that the task is in.
        passed: How often its code has got past something that ended without it, a timer or another branch, or has
            done something by hand.
        by_hand: How often it had when it did something by hand last, if nothing of it is recorded after that; or 0.
        owed: How often it has to, on replay, before it is where it was stopped.
        until: When it was stopped (epoch milliseconds), if that is all that is known, as it has not come again to
            where it was before the execution was suspended. It gets past what ended before, and nothing else.
        end_is_recorded: Whether it is recorded that its code has left it, stopped or not.
        was_left: Whether it is recorded that its code came to its end by itself: nothing new may happen in it.
        is_live: Whether its code has come, in this invocation, to something that has not happened yet.
        is_stopped: Whether this very branch was stopped; see `stopped` for those around it.
        decides: Given whether it succeeded: whether its end decides what becomes of others.
        known: If it was stopped before, and that is recorded: how far the branches inside of it came (see `tally`).
    """

    __slots__ = (
        "_cancelled",
        "_covering",
        "_covers",
        "_inside",
        "_is_awaited",
        "_is_deciding",
        "_key",
        "_left",
        "_parking",
        "_scope",
        "awaited",
        "by_hand",
        "decides",
        "end_is_recorded",
        "is_block",
        "is_live",
        "is_stopped",
        "known",
        "owed",
        "parent",
        "passed",
        "until",
        "waiter",
        "was_left",
    )

    def __init__(
        self,
        parking: Parking,
        parent: Branch | None,
        scope: anyio.CancelScope | None,
        *,
        is_live: bool,
        is_block: bool = False,
        key: str = "",
    ) -> None:
        self.parent = parent
        self.waiter: Waiter | None = None
        self.awaited: Branch | None = None
        self.is_live = is_live
        self.is_block = is_block
        self.passed = 0
        self.by_hand = 0
        self.owed: int = 0
        self.until: int | None = None
        self.was_left = False
        self.end_is_recorded = False
        self.is_stopped = False
        self.decides: Callable[[bool], bool] | None = None
        self.known: Tally | None = None
        # What tells it from all others, for a tally; a block has none, it is counted with what it is part of.
        self._key = key
        # How far branches inside came that have ended, where no record of theirs tells.
        self._left: dict[str, int] = {}
        self._parking = parking
        # What cancels it; `None` for the function itself, which only ends.
        self._scope = scope
        # Whether somebody waits for it to come no further, as nobody knows where it was stopped.
        self._is_awaited = False
        # Whether its end is being recorded, and decides what becomes of others.
        self._is_deciding = False
        # Whether its own task covers, and how many tasks do, its own and those of branches inside.
        self._covers = False
        self._covering = 0
        # The branches that are inside now, each until `end`.
        self._inside: set[Branch] = set()
        # Set with the cancellation; made by the first who waits for it.
        self._cancelled: anyio.Event | None = None
        if parent is not None:
            parent._inside.add(self)

    def is_inside(self, around: Branch) -> bool:
        """Whether it is `around`, or inside of it."""
        branch: Branch | None = self
        while branch is not None and branch is not around:
            branch = branch.parent
        return branch is not None

    def runs_others(self, around: Branch | None) -> bool:
        """Whether branches other than this one, and than those that it is in, run inside `around`."""
        inner: Branch | None = None
        branch: Branch | None = self
        while branch is not None:
            if any(other is not inner for other in branch._inside):
                return True
            if branch is around:
                return False
            inner, branch = branch, branch.parent
        return False

    def waits_for(self, branch: Branch) -> bool:
        """Whether it cannot end before `branch` has ended, or one that `branch` is in."""
        enclosing: set[Branch] = set()
        outer: Branch | None = branch
        while outer is not None:
            enclosing.add(outer)
            outer = outer.parent
        seen: set[Branch] = set()
        pending: list[Branch] = [self]
        while pending:
            current = pending.pop()
            if current in enclosing:
                return True
            if current not in seen:
                seen.add(current)
                pending.extend(current._inside)
                if current.awaited is not None:
                    pending.append(current.awaited)
        return False

    # --- How far it came -------------------------------------------------------------------------------------

    def tally(self) -> dict[str, int]:
        """How far it came, and the branches inside of it, where that matters and no record of theirs tells.

        By the key of each that did something by hand after all that is recorded of it: how often it had got past
        something by then.
        """
        found = dict(self._left)
        for branch in self._inside:
            found.update(branch.tally())
        if self._key and self.by_hand:
            found[self._key] = self.by_hand
        return found

    def recall(self) -> None:
        """As it begins: if something around it was stopped before, it comes as far as it came then."""
        around = self.parent
        while around is not None and not (around.is_stopped and around.known is not None):
            around = around.parent
        if around is not None and around.known is not None:
            self._recall(around.known)

    def _recall(self, known: Tally) -> None:
        self.known = known
        passed = known.get(self._key, 0) if self._key else 0
        if passed > self.passed:
            self.owed = passed - self.passed
            self.cover()

    # --- Deciding --------------------------------------------------------------------------------------------

    def begin_to_end(self, operation_id: str, *, succeeded: bool) -> None:
        """The end of a context is about to be recorded.

        Args:
            operation_id: The context: it may be the branch's own, or one that its code has made.
            succeeded: Whether it ends well.
        """
        if self.decides is not None and operation_id.startswith(self._key) and self.decides(succeeded):
            self._is_deciding = True
            self._parking.begin_to_decide()

    @property
    def is_deciding(self) -> bool:
        """Whether its end is about to be recorded, and decides what becomes of others."""
        return self._is_deciding

    def decided(self) -> None:
        """What its end means for others has been decided."""
        if self._is_deciding:
            self._is_deciding = False
            self._parking.decided()

    # --- Covering --------------------------------------------------------------------------------------------

    @property
    def covers(self) -> bool:
        """Whether its own task may have recorded ground ahead."""
        return self._covers

    def cover(self) -> None:
        """There may be recorded ground ahead of its task."""
        if not self._covers:
            self._covers = True
            self._add(1)

    def arrive(self) -> None:
        """There is none, or others cover it."""
        if self._covers:
            self._covers = False
            self._add(-1)

    def _add(self, change: int) -> None:
        branch: Branch | None = self
        while branch is not None:
            branch._covering += change
            if branch.is_stopped and not branch._covering:
                branch._cancel()
            branch = branch.parent

    # --- Stopping --------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> Branch | None:
        """The innermost branch around it, or itself, that was stopped."""
        branch: Branch | None = self
        while branch is not None and not branch.is_stopped:
            branch = branch.parent
        return branch

    @property
    def stopped_around(self) -> Branch | None:
        """The next one that was stopped, around this one."""
        return None if self.parent is None else self.parent.stopped

    def stop(self, owed: int = 0, until: int | None = None, known: Tally | None = None) -> None:
        """Let it do nothing new: cancel it, once it has gone over what is recorded.

        Args:
            owed: How often it got past something that ended without it, if that is known.
            until: If that is not known: when it is stopped (epoch milliseconds).
            known: If that is recorded: how far branches came, this one or those inside of it.
        """
        if self.is_stopped:
            return
        if known is not None:
            self._recall(known)
        if self.known is not None and self._key:
            owed, until = self.owed, None
        if owed or (until is not None and not self.is_live):
            self.owed, self.until = owed, until
            if not self._covers:
                self.cover()
                if not owed:
                    self.arrive_soon()
        self.is_stopped = True
        if not self._covering:
            self._cancel()

    def arrive_soon(self) -> None:
        """It has gone over what is recorded, but who knows where it was stopped: when nothing moves, it was there.

        Whatever it waits for among what has ended already needs a few turns; a plain `await` of its own has no end.
        """
        if not self._is_awaited:
            self._is_awaited = True
            self._parking.call_when_still(self.arrive)

    async def halt(self) -> None:
        """Before something new: leave by cancellation if this branch, or one around it, was stopped.

        It returns if neither was, or if the user's own shield keeps the cancellation out: then what is shielded
        goes on, as it did the first time.
        """
        stopped = self.stopped
        self.arrive()
        if stopped is not None:
            await stopped._cancellation()
            await self._parking.give_way()

    def halts(self) -> bool:
        """Whether `halt` would leave, at once or when the cancellation comes; for what cannot wait for that."""
        self.arrive()
        stopped = self.stopped
        if stopped is None:
            return False
        if stopped._scope is None or not stopped._scope.cancel_called:
            return True
        return anyio.current_effective_deadline() == -math.inf

    def end(self, *, is_recorded: bool = False) -> dict[str, int]:
        """Its task has ended, or its block has been left.

        Args:
            is_recorded: Whether its outcome is: then nobody needs to know how far it came.

        Returns:
            How far it came (see `tally`), otherwise.
        """
        self.arrive()
        left = {} if is_recorded else self.tally()
        if self.parent is not None:
            self.parent._inside.discard(self)
            self.parent._left.update(left)
        return left

    def _cancel(self) -> None:
        if self._scope is not None and not self._scope.cancel_called:
            self._scope.cancel()
            self._wake()
        if self._cancelled is not None:
            self._cancelled.set()

    def _wake(self) -> None:
        """Count those who are parked inside as running: the cancellation is about to reach them.

        One that it does not reach, as it is shielded, finds nothing changed and parks again.
        """
        if self.waiter is not None:
            self._parking.wake(self.waiter)
        for branch in self._inside:
            branch._wake()

    async def _cancellation(self) -> None:
        if self._scope is not None and self._scope.cancel_called:
            return
        if self._cancelled is None:
            self._cancelled = anyio.Event()
        await self._cancelled.wait()
