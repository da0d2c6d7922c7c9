"""A frame: one namespace of positions, and the one task that may count in it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from .._kernel.errors import PACKAGE
from .._kernel.ids import drawn, operation_id, reserved_id
from ..exceptions import FrameMisuseError, UnawaitedOperationError
from .unawaited import Called, error_of, has_begun

if TYPE_CHECKING:
    from .._wire import Operation
    from .branch import Branch
    from .invocation import Invocation

    _Namespace: TypeAlias = tuple[str | None, int, int, int, tuple[int, int], Branch]
    """Where a frame counts while it counts in a block further in: prefix, position, ids reserved, blocks opened,
    chance drawn, branch. A plain tuple: a named one is slow to define."""

T = TypeVar("T")

SAGA: Final = "saga"
"""The kind of id that a saga reserves."""

_BLOCK: Final = "block"

_ENDED: Final = "nothing any more"
"""What is active in a frame whose code has ended."""

_DIRECTLY_NESTED: Final = 4
"""How many blocks may begin with a block, without an operation in between, and still be seen from outside."""

_ALTERNATIVES = "use ctx.child() for a subflow, and ctx.task_group(), ctx.parallel() or ctx.map() for concurrency"


class Frame:
    """Positions of the operations of one context, in the order of the calls.

    Attributes:
        invocation: What it belongs to.
        context_id: The recorded context whose operations these are; `None` at the root.
        prefix: What ids derive from; the context's id, but for attempts that have a namespace of their own.
        parent: The frame around it.
        branch: The branch that counts in it.
        finished: Its context, or one around it, has ended; it runs again only to rebuild what records leave out.
        active: The operation whose body is running, for people; nothing else may be called here meanwhile.
        registers: A saga outside of this frame was given a compensation by it (DESIGN section 4, rule 7).
        opens_block: The operation that is performed begins a block: what is recorded ahead is in there.
    """

    __slots__ = (
        "_around",
        "_base",
        "_blocks",
        "_called",
        "_drawn",
        "_end_is_recorded",
        "_is_slot",
        "_next_id",
        "_position",
        "_reserved",
        "_task",
        "active",
        "branch",
        "context_id",
        "finished",
        "invocation",
        "opens_block",
        "parent",
        "prefix",
        "registers",
    )

    def __init__(
        self,
        invocation: Invocation,
        *,
        context_id: str | None = None,
        prefix: str | None = None,
        parent: Frame | None = None,
        branch: Branch | None = None,
        base: tuple[int, ...] | None = None,
        finished: bool = False,
        is_slot: bool = False,
        ends: bool = False,
    ) -> None:
        self.invocation = invocation
        self.context_id = context_id
        self.prefix = context_id if prefix is None else prefix
        self.parent = parent
        self.finished: bool = finished or (parent is not None and parent.finished)
        # Whether its own code has come to its end: then that, too, is recorded ground.
        self._end_is_recorded = finished or ends
        # Whether it is there for one operation only, which has its id from elsewhere.
        self._is_slot = is_slot
        self.active: str | None = None
        self.registers = False
        self.opens_block = False
        self.branch: Branch = branch or (invocation.branch if parent is None else parent.branch)
        self._task = invocation.current_task()
        # The path of its context (see `path`).
        self._base: tuple[int, ...] = base or (() if parent is None else parent.path)
        self._position = 0
        # How many ids have been reserved that are not positions, and how many blocks have been opened.
        self._reserved = 0
        self._blocks = 0
        # At which position something was drawn last, and how many times there (see `draw`).
        self._drawn = (0, 0)
        # The namespaces around the block that is open, outermost first.
        self._around: list[_Namespace] = []
        # The id of the next position when somebody has asked for it already, else None.
        self._next_id: str | None = None
        # The operation that was called last, until it begins or is found not to have.
        self._called: Called | None = None

    @classmethod
    def of_branch(cls, owner: Frame, branch: Branch, path: tuple[int, ...], *, ends: bool) -> Frame:
        """The frame in which a branch performs its one operation, under its owner's context; for its own task."""
        return cls(
            owner.invocation,
            context_id=owner.context_id,
            parent=owner,
            branch=branch,
            base=path,
            is_slot=True,
            ends=ends,
        )

    def path_of_branch(self, at: int) -> tuple[int, ...]:
        """The path of a branch that is started now.

        Args:
            at: Its position here, or its number among the branches of one operation.
        """
        return (*self._base_of_block, at, 0)

    def peek(self) -> str:
        """The id that the next operation will have."""
        if self._next_id is None:
            self._next_id = operation_id(self.prefix, self._position + 1)
        return self._next_id

    def take(self) -> str:
        """The id of the next operation."""
        taken = self._next_id or operation_id(self.prefix, self._position + 1)
        if self.branch.by_hand or self._around:
            for _, _, branch in self._levels():
                branch.by_hand = 0  # what is recorded now shows that it was done
        self._next_id = None
        self._position += 1
        return taken

    def reserve(self, kind: str) -> str:
        """An id for what takes no position, as it is not recorded while all goes well: a saga, for example."""
        self._reserved += 1
        return reserved_id(self.prefix, kind, self._reserved)

    def draw(self, kind: str) -> bytes:
        """32 bytes that look random, and are the same on every replay; nothing is recorded, no position taken.

        They depend on where the code stands and on how much was drawn since the last operation: one more of them
        does not change those that are drawn after the next operation.
        """
        if self.invocation.rehearsal is not None:
            self.invocation.rehearsal.draws = True
        at, number = self._drawn
        self._drawn = (self._position, number + 1 if at == self._position else 1)
        return drawn(self.invocation.arn, kind, self.prefix, *self._drawn)

    def unasked(self) -> Operation | None:
        """What is recorded ahead in this namespace: nothing may be, where the code ends."""
        if self.invocation.is_first:
            return None  # nothing was recorded before, and the code is where it has come
        recorded = self.invocation.history.get(self.peek())
        return recorded or self._without_position(self.prefix, self._reserved, self._blocks)

    def _without_position(self, prefix: str | None, reserved: int, blocks: int) -> Operation | None:
        """What is recorded ahead without a position in the namespace: of its next saga, or in its next block."""
        history = self.invocation.history
        for _ in range(_DIRECTLY_NESTED):
            block = reserved_id(prefix, _BLOCK, blocks + 1)
            found = history.get(reserved_id(prefix, SAGA, reserved + 1)) or history.get(operation_id(block, 1))
            if found is not None:
                return found
            prefix, reserved, blocks = block, 0, 0
        return None

    @property
    def position(self) -> int:
        """How many positions have been taken."""
        return self._position

    @property
    def path(self) -> tuple[int, ...]:
        """Where the code stands, as positions from the root inwards: an order that no scheduling changes."""
        return (*self._base_of_block, self._position, self._reserved)

    @property
    def _base_of_block(self) -> tuple[int, ...]:
        around = [number for outer in self._around for number in outer[1:3]]
        return (*self._base, *around) if around else self._base

    def open_block(self, branch: Branch) -> None:
        """Count in a namespace of its own from now on, in another branch: a block of code that can be stopped.

        How far the block comes then has no influence on the positions after it.
        """
        self._reserved += 1
        self._blocks += 1
        self._around.append((self.prefix, self._position, self._reserved, self._blocks, self._drawn, self.branch))
        self.prefix = reserved_id(self.prefix, _BLOCK, self._blocks)
        self._position = self._reserved = self._blocks = 0
        self._drawn = (0, 0)
        self._next_id = None
        self.branch = branch

    def close_block(self) -> None:
        """Count again where the block was opened."""
        around = self._around.pop()
        self.prefix, self._position, self._reserved, self._blocks, self._drawn, self.branch = around
        self._next_id = None

    @property
    def has_recorded_ground(self) -> bool:
        """Whether the code of its branch, here or after this frame, comes to something recorded."""
        if self.opens_block or (not self._is_slot and self.unasked() is not None):
            return True
        return not self._around and self._goes_on_after()

    @property
    def has_ground_after_block(self) -> bool:
        """The same for the branch around the block that is open: whether its code has left the block before."""
        return self._has_ground_around(len(self._around) - 1)

    def leads_on_in(self, stopped: Branch) -> bool:
        """Whether its task goes on in a branch around it that was stopped, as is recorded or known."""
        for frame, level, branch in self._levels():
            is_innermost = level == len(frame._around)
            if branch.owed or (frame.has_recorded_ground if is_innermost else frame._has_ground_around(level)):
                return True
            if branch is stopped:
                break
        return False

    def _has_ground_around(self, level: int) -> bool:
        prefix, position, reserved, blocks, _, _ = self._around[level]
        block = self.branch if level + 1 == len(self._around) else self._around[level + 1][-1]
        if block.end_is_recorded:
            return True
        if operation_id(prefix, position + 1) in self.invocation.history:
            return True
        if self._without_position(prefix, reserved, blocks) is not None:
            return True
        return not level and self._goes_on_after()

    def _goes_on_after(self) -> bool:
        """Whether the code of its branch has come to its end, or to something recorded after that."""
        if self._end_is_recorded:
            return True
        parent = self.parent
        branch = self._around[0][-1] if self._around else self.branch
        return parent is not None and parent.branch is branch and parent.has_recorded_ground

    def cover(self) -> None:
        """Its task goes on: let the branch know whether there is recorded ground ahead."""
        if self.branch.owed or self.has_recorded_ground:
            self.branch.cover()

    def settle(self) -> None:
        """An operation is done: let the branch know when there is no more recorded ground ahead."""
        branch = self.branch
        if branch.covers and not branch.owed and not self.has_recorded_ground:
            if branch.until is None:
                branch.arrive()
            stopped = branch.stopped
            if stopped is not None and stopped.until is not None:
                stopped.arrive_soon()

    def arrive(self) -> None:
        """Its code is about to do something new: there is no more recorded ground ahead, whatever was thought."""
        stopped = self.branch.stopped
        has_arrived = False
        for _, _, branch in self._levels():
            if not has_arrived:
                branch.owed = 0
                branch.arrive()
                has_arrived = stopped is None or branch is stopped
            if stopped is None:
                branch.is_live = True
            elif has_arrived:
                break  # what is around it may have recorded ground after it

    def go_live(self) -> None:
        """Its code has come to something that has not happened yet."""
        for _, _, branch in self._levels():
            branch.is_live = True

    def passed(self) -> None:
        """Its code got past something that ended without it: a timer, or another branch.

        No record tells that it did. It is counted for each block that the code is in, so that one which is stopped
        can come on replay exactly as far.
        """
        for frame, level, branch in self._levels():
            branch.passed += 1
            if branch.owed:
                branch.owed -= 1
                if level == len(frame._around):
                    frame.settle()
                elif branch.covers and not branch.owed and not frame._has_ground_around(level):
                    branch.arrive()

    def goes_by_hand(self) -> bool:
        """Whether its code does something now that nothing records: register a compensation by hand, for example.

        In a branch that was stopped before it came to this, it does not. Like what it got past, it is counted.
        """
        stopped = self.branch.stopped
        while stopped is not None:
            if stopped.until is None and not self.leads_on_in(stopped):
                return False
            stopped = stopped.stopped_around
        self.passed()
        for _, _, branch in self._levels():
            branch.by_hand = branch.passed
        return True

    def passes(self) -> Sequence[tuple[Branch, int]]:
        """How often it has done so by now, for each block."""
        return [(branch, branch.passed) for _, _, branch in self._levels()]

    def forget_passes(self, passes: Sequence[tuple[Branch, int]]) -> None:
        """Count only those of before."""
        for branch, passed in passes:
            branch.passed = passed

    def _levels(self) -> Iterable[tuple[Frame, int, Branch]]:
        """The branches that its task is in, innermost first: blocks, and what they are in."""
        if self._around or self.branch.is_block:
            return self._levels_of_blocks()
        return ((self, 0, self.branch),)

    def _levels_of_blocks(self) -> Iterator[tuple[Frame, int, Branch]]:
        frame: Frame | None = self
        last: Branch | None = None
        while frame is not None:
            for level in range(len(frame._around), -1, -1):
                branch = frame.branch if level == len(frame._around) else frame._around[level][-1]
                if branch is not last:
                    yield frame, level, branch
                    if not branch.is_block:
                        return
                last = branch
            frame = frame.parent

    @property
    def is_replaying(self) -> bool:
        """Whether what comes next has been recorded: the code runs over ground it has covered before."""
        if self.finished or self.invocation.rehearsal is not None or self.unasked() is not None:
            return True
        history = self.invocation.history
        return any(operation_id(outer[0], outer[1] + 1) in history for outer in self._around)

    def called(self, what: object, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Note that an operation was called: its coroutine is to be awaited before anything else happens here.

        Args:
            what: The operation, for people.
            coroutine: What the user gets.

        Raises:
            UnawaitedOperationError: What was called before was not awaited.
        """
        if self._called is not None:
            error = self.unawaited(what)
            if error is not None:
                coroutine.close()
                raise error
        caller = sys._getframe(1)
        while caller.f_code.co_filename.startswith(PACKAGE) and caller.f_back is not None:
            caller = caller.f_back
        # Not the caller's frame itself: it would keep alive what the user's code has let go of.
        self._called = (coroutine, what, caller.f_code, caller.f_lasti)
        return coroutine

    def unawaited(self, then: object) -> UnawaitedOperationError | None:
        """The error to raise if what was called last has not begun; it is told once.

        Args:
            then: What comes now.
        """
        called, self._called = self._called, None
        if called is None or has_begun(called):
            return None
        error = error_of(called, then)
        with warnings.catch_warnings():
            # If nobody else holds its coroutine, Python says the same now, and names a function of ours.
            warnings.simplefilter("ignore", RuntimeWarning)
            del called
        return error

    def check(self, what: object) -> None:
        """Refuse an operation whose position would depend on scheduling.

        Raises:
            FrameMisuseError: Called from another task, or from inside an operation's body.
            UnawaitedOperationError: What was called before was not awaited.
        """
        if self._called is not None:
            if self._called[0].cr_running:  # as a rule: it is what begins now
                self._called = None
            elif (error := self.unawaited(what)) is not None:
                raise error
        self.check_place(what)

    def check_place(self, what: object) -> None:
        """Refuse what depends on where the code stands in its context, where that depends on scheduling.

        Raises:
            FrameMisuseError: Called from another task, or from inside an operation's body.
        """
        if self._task is self.invocation.current_task() and self.active is None:
            return
        if self.active is _ENDED:
            raise FrameMisuseError(
                f"{what} was called on a context that has ended, at {user_location()}. Use the context of the code "
                "that runs: the one that it is handed, or current_context()."
            )
        if self._task is not self.invocation.current_task():
            raise FrameMisuseError(
                f"{what} was called from another task than the one its context belongs to, at {user_location()}: "
                f"the order of operations would depend on scheduling. Instead, {_ALTERNATIVES}."
            )
        raise FrameMisuseError(
            f"{what} was called on a context while {self.active} is running on it, at {user_location()}. "
            "Inside a step nothing durable can run; inside a child or a compensation use its own context "
            f"(a child's first argument, or current_context()). Otherwise, {_ALTERNATIVES}."
        )

    def end(self) -> None:
        """The code of its context has ended: nothing more may be called here."""
        self.active = _ENDED


def user_location() -> str:
    """The innermost place in the user's code, as `file:line in function`."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
