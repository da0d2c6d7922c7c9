"""A frame: one namespace of positions, and the one task that may count in it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .._kernel.errors import PACKAGE
from .._kernel.ids import operation_id
from ..exceptions import FrameMisuseError

if TYPE_CHECKING:
    from .invocation import Invocation

_ALTERNATIVES = "use ctx.child() for a subflow, and ctx.task_group(), ctx.parallel() or ctx.map() for concurrency"


class Frame:
    """Positions of the operations of one context, in the order of the calls.

    Attributes:
        invocation: What it belongs to.
        context_id: The recorded context whose operations these are; `None` at the root.
        prefix: What ids derive from; the context's id, but for attempts that have a namespace of their own.
        parent: The frame around it.
        finished: Its context has ended; it is run again only to rebuild what its record leaves out.
        active: The operation whose body is running, for people; nothing else may be called here meanwhile.
        registers: A saga outside of this frame was given a compensation by it (DESIGN section 4, rule 7).
    """

    __slots__ = (
        "_next_id",
        "_position",
        "_task",
        "active",
        "context_id",
        "finished",
        "invocation",
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
        finished: bool = False,
    ) -> None:
        self.invocation = invocation
        self.context_id = context_id
        self.prefix = context_id if prefix is None else prefix
        self.parent = parent
        self.finished = finished
        self.active: str | None = None
        self.registers = False
        self._task = invocation.current_task()
        self._position = 0
        # The id of the next position when somebody has asked for it already, else None.
        self._next_id: str | None = None

    def peek(self) -> str:
        """The id that the next operation will have."""
        if self._next_id is None:
            self._next_id = operation_id(self.prefix, self._position + 1)
        return self._next_id

    def take(self) -> str:
        """The id of the next operation."""
        taken = self._next_id or operation_id(self.prefix, self._position + 1)
        self._next_id = None
        self._position += 1
        return taken

    @property
    def position(self) -> int:
        """How many positions have been taken."""
        return self._position

    @property
    def is_replaying(self) -> bool:
        """Whether what comes next has been recorded: the code runs over ground it has covered before."""
        return self.finished or self.peek() in self.invocation.history

    def check(self, what: object) -> None:
        """Refuse an operation whose position would depend on scheduling.

        Raises:
            FrameMisuseError: Called from another task, or from inside an operation's body.
        """
        if self._task is not self.invocation.current_task():
            raise FrameMisuseError(
                f"{what} was called from another task than the one its context belongs to, at {user_location()}: "
                f"the order of operations would depend on scheduling. Instead, {_ALTERNATIVES}."
            )
        if self.active is not None:
            raise FrameMisuseError(
                f"{what} was called on a context while {self.active} is running on it, at {user_location()}. "
                "Inside a step nothing durable can run; inside a child use the child's own context "
                f"(its first argument, or current_context()). Otherwise, {_ALTERNATIVES}."
            )


def user_location() -> str:
    """The innermost place in the user's code, as `file:line in function`."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
