"""What the service knows of an operation."""

from __future__ import annotations

from .enums import FINAL_STATUSES, OperationStatus, OperationType
from .shapes import ErrorObject, Shape
from .timestamps import Timestamp


class ExecutionDetails(Shape, frozen=True, kw_only=True):
    """Of the EXECUTION operation: the input, JSON text."""

    input_payload: str | None = None


class ContextDetails(Shape, frozen=True, kw_only=True):
    """Of a CONTEXT. With `replay_children` the result is rebuilt from the children's records."""

    replay_children: bool | None = None
    result: str | None = None
    error: ErrorObject | None = None


class StepDetails(Shape, frozen=True, kw_only=True):
    """Of a STEP. `attempt` counts the attempts that have finished."""

    attempt: int | None = None
    next_attempt_timestamp: Timestamp | None = None
    result: str | None = None
    error: ErrorObject | None = None


class WaitDetails(Shape, frozen=True, kw_only=True):
    """Of a WAIT: when it ends."""

    scheduled_end_timestamp: Timestamp | None = None


class CallbackDetails(Shape, frozen=True, kw_only=True):
    """Of a CALLBACK: the id that the outside world answers to, then its answer."""

    callback_id: str | None = None
    result: str | None = None
    error: ErrorObject | None = None


class ChainedInvokeDetails(Shape, frozen=True, kw_only=True):
    """Of a CHAINED_INVOKE: the callee's answer."""

    result: str | None = None
    error: ErrorObject | None = None


class Operation(Shape, frozen=True, kw_only=True):
    """One recorded operation, as it stands now. Details other than its own type's are `None`."""

    id: str
    type: OperationType
    start_timestamp: Timestamp
    status: OperationStatus
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    end_timestamp: Timestamp | None = None
    execution_details: ExecutionDetails | None = None
    context_details: ContextDetails | None = None
    step_details: StepDetails | None = None
    wait_details: WaitDetails | None = None
    callback_details: CallbackDetails | None = None
    chained_invoke_details: ChainedInvokeDetails | None = None

    @property
    def is_final(self) -> bool:
        """Whether the operation will never change again."""
        return self.status in FINAL_STATUSES

    @property
    def result(self) -> str | None:
        """The payload it ended with, whatever its type."""
        details = self.step_details or self.context_details or self.callback_details or self.chained_invoke_details
        return None if details is None else details.result

    @property
    def error(self) -> ErrorObject | None:
        """The error it ended with, or its last attempt's, whatever its type."""
        details = self.step_details or self.context_details or self.callback_details or self.chained_invoke_details
        return None if details is None else details.error
