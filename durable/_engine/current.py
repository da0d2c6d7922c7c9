"""What is current: the frame, the saga, the step. In context variables, as tasks and threads inherit them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from .._kernel.ids import idempotency_key
from .branch import Branch
from .frame import Frame


class StepInfo:
    """What a running step, or a running compensation, can know of itself.

    Attributes:
        name: The operation's name.
        operation_id: Its id.
        attempt: Which attempt this is, from 1.
        deadline: When its `timeout` ends, on the event loop's clock (`anyio.current_time()`); `None` without.
    """

    __slots__ = ("_arn", "attempt", "deadline", "name", "operation_id")

    def __init__(self, name: str, arn: str, operation_id: str, attempt: int, deadline: float | None) -> None:
        self.name = name
        self._arn = arn
        self.operation_id = operation_id
        self.attempt = attempt
        self.deadline = deadline

    @property
    def idempotency_key(self) -> str:
        """32 hex characters, the same on every attempt and every replay of this operation, unique otherwise.

        Hand it to payment APIs and the like, so that a repeat after a crash has no second effect.
        """
        return idempotency_key(self._arn, self.operation_id)

    def __repr__(self) -> str:
        return f"<StepInfo {self.name!r} attempt={self.attempt}>"


class EnclosingSaga(Protocol):
    """What the engine asks of the saga that encloses an operation."""

    def refusal(self, inside: Branch | None = None) -> Exception | None:
        """Why nothing new may run in it, or in a saga around it; `None` while they go forward.

        Args:
            inside: Ask only sagas that are inside this branch.
        """


frame_var: ContextVar[Frame] = ContextVar("durable_frame")
saga_var: ContextVar[EnclosingSaga | None] = ContextVar("durable_saga", default=None)
step_var: ContextVar[StepInfo] = ContextVar("durable_step")


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
