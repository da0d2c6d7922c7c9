"""What is current: the frame, the saga, the step. In context variables, as tasks and threads inherit them."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec

from .._kernel.ids import idempotency_key
from .frame import Frame

# A protocol is slow to define, and this one is for checkers only.
if TYPE_CHECKING:
    from typing import Protocol

    from .branch import Branch

    class EnclosingSaga(Protocol):
        """What the engine asks of the saga that encloses an operation."""

        def operations_to_undo(self) -> int:
            """How many operations it may take to roll it and those around it back; 0 if nothing is to be undone."""
            ...

        def doomed(self) -> EnclosingSaga | None:
            """The innermost saga, this one or one around it, whose rollback has begun: nothing new runs in it."""
            ...

        def refusal(self) -> Exception:
            """Of a doomed saga: what made it roll back, to be raised where the code gets past that."""
            ...

        def raises_in(self, branch: Branch) -> bool:
            """Of a doomed saga: whether its refusal is raised here at once; elsewhere the code was cancelled."""
            ...


class InvocationInfo(msgspec.Struct, frozen=True):
    """What the platform says of an invocation.

    Attributes:
        request_id: What its own logs call it.
        deadline: When it is cut off, in milliseconds since the epoch; `None` without a limit.
    """

    request_id: str | None = None
    deadline: int | None = None


_NOTHING = InvocationInfo()


class StepInfo:
    """What a running step, or a running compensation, can know of itself.

    Attributes:
        name: The operation's name.
        operation_id: Its id.
        attempt: Which attempt this is, from 1.
        deadline: When its `timeout` ends, on the event loop's clock (`anyio.current_time()`); `None` without.
        is_compensation: Whether this undoes something, or is a saga's cleanup.
    """

    __slots__ = ("_arn", "_forward_id", "_key_id", "attempt", "deadline", "is_compensation", "name", "operation_id")

    def __init__(
        self,
        name: str,
        arn: str,
        operation_id: str,
        attempt: int,
        deadline: float | None,
        *,
        key_id: str | None = None,
        forward_id: str | None = None,
    ) -> None:
        self.name = name
        self._arn = arn
        self.operation_id = operation_id
        self.attempt = attempt
        self.deadline = deadline
        self.is_compensation = key_id is not None
        # What the key is made of, where several operations stand for the same effect.
        self._key_id = key_id or operation_id
        self._forward_id = forward_id

    @property
    def idempotency_key(self) -> str:
        """32 hex characters, the same on every attempt and every replay of this operation, unique otherwise.

        Hand it to payment APIs and the like, so that a repeat after a crash has no second effect.
        """
        return idempotency_key(self._arn, self._key_id)

    @property
    def forward_idempotency_key(self) -> str | None:
        """Of a compensation: the key that the step had which it undoes; `None` elsewhere."""
        return None if self._forward_id is None else idempotency_key(self._arn, self._forward_id)

    @property
    def remaining_time(self) -> float | None:
        """Seconds until AWS Lambda cuts this invocation off; `None` where nothing does.

        A step that is cut off is run again by another invocation, as after a crash.
        """
        deadline = invocation_var.get().deadline
        return None if deadline is None else max(0.0, deadline / 1000 - time.time())

    @property
    def request_id(self) -> str | None:
        """What AWS Lambda calls this invocation in its logs; `None` elsewhere."""
        return invocation_var.get().request_id

    def __repr__(self) -> str:
        return f"<StepInfo {self.name!r} attempt={self.attempt}>"


frame_var: ContextVar[Frame] = ContextVar("durable_frame")
saga_var: ContextVar[EnclosingSaga | None] = ContextVar("durable_saga", default=None)
batch_var: ContextVar[bool] = ContextVar("durable_batch", default=False)
step_var: ContextVar[StepInfo] = ContextVar("durable_step")
invocation_var: ContextVar[InvocationInfo] = ContextVar("durable_invocation", default=_NOTHING)


def current_step() -> StepInfo:
    """The step, or the compensation, whose body is running. Records nothing.

    Raises:
        LookupError: Not called from inside one.
    """
    try:
        return step_var.get()
    except LookupError:
        raise LookupError(
            "current_step() is for the body of a step or of a compensation: none is running"
        ) from None


def is_replaying(frame: Frame) -> bool:
    """Whether the code that runs now, in this frame, runs over ground it has covered before."""
    saga = saga_var.get()
    # A saga whose rollback has begun is entered again only to come to where it failed.
    return frame.is_replaying or (saga is not None and saga.doomed() is not None)
