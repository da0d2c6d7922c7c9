"""One invocation: what Lambda hands to the function and what it gets back (PROTOCOL section 2)."""

from __future__ import annotations

from .enums import InvocationStatus
from .operations import Operation
from .shapes import ErrorObject, Shape


class InitialExecutionState(Shape, frozen=True, kw_only=True):
    """The first page of the execution's operations; it may be empty or partial."""

    operations: tuple[Operation, ...] = ()
    next_marker: str | None = None


class InvocationInput(Shape, frozen=True, kw_only=True):
    """The event of a durable invocation."""

    durable_execution_arn: str
    checkpoint_token: str
    initial_execution_state: InitialExecutionState = InitialExecutionState()
    updated_operation_ids: tuple[str, ...] | None = None

    @property
    def execution_operation_id(self) -> str:
        """The id of the EXECUTION operation: the ARN's last segment."""
        return self.durable_execution_arn.rpartition("/")[2]


class InvocationOutput(Shape, frozen=True, kw_only=True):
    """The answer of a durable invocation. `result` is JSON text."""

    status: InvocationStatus
    result: str | None = None
    error: ErrorObject | None = None
