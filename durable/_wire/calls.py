"""Requests and answers of the service's API (PROTOCOL section 1)."""

from __future__ import annotations

from .enums import ExecutionStatus
from .operations import Operation
from .shapes import ErrorObject, Shape
from .timestamps import Timestamp
from .updates import OperationUpdate


class CheckpointDurableExecutionRequest(Shape, frozen=True, kw_only=True):
    """Body of CheckpointDurableExecution; the execution's ARN is in the path."""

    checkpoint_token: str
    updates: tuple[OperationUpdate, ...] = ()
    client_token: str | None = None


class CheckpointUpdatedExecutionState(Shape, frozen=True, kw_only=True):
    """The operations that changed, each whole, and where the rest of them is."""

    operations: tuple[Operation, ...] = ()
    next_marker: str | None = None


class CheckpointDurableExecutionResponse(Shape, frozen=True, kw_only=True):
    """Answer of CheckpointDurableExecution. No token: the execution is over, or the token is revoked."""

    new_execution_state: CheckpointUpdatedExecutionState
    checkpoint_token: str | None = None


class GetDurableExecutionStateResponse(Shape, frozen=True, kw_only=True):
    """One page of an execution's operations."""

    operations: tuple[Operation, ...]
    next_marker: str | None = None


class PauseDetails(Shape, frozen=True, kw_only=True):
    """That an execution is paused, or is about to be."""

    pause_request_timestamp: Timestamp
    execution_timeout_paused: bool
    reason: str | None = None


class DurableConfig(Shape, frozen=True, kw_only=True):
    """What a function's executions are configured with; seconds."""

    execution_timeout: int | None = None


class GetDurableExecutionResponse(Shape, frozen=True, kw_only=True):
    """One execution as a whole."""

    durable_execution_arn: str
    durable_execution_name: str
    function_arn: str
    start_timestamp: Timestamp
    status: ExecutionStatus
    input_payload: str | None = None
    result: str | None = None
    error: ErrorObject | None = None
    end_timestamp: Timestamp | None = None
    version: str | None = None
    durable_config: DurableConfig | None = None
    pause_details: PauseDetails | None = None
    expected_execution_timeout_timestamp: Timestamp | None = None


class ExecutionSummary(Shape, frozen=True, kw_only=True):
    """One execution in a listing (the model's `Execution`)."""

    durable_execution_arn: str
    durable_execution_name: str
    function_arn: str
    status: ExecutionStatus
    start_timestamp: Timestamp
    end_timestamp: Timestamp | None = None


class ListDurableExecutionsByFunctionResponse(Shape, frozen=True, kw_only=True):
    """One page of a listing."""

    durable_executions: tuple[ExecutionSummary, ...]
    next_marker: str | None = None


class StopDurableExecutionResponse(Shape, frozen=True, kw_only=True):
    """Answer of StopDurableExecution."""

    stop_timestamp: Timestamp


class PauseDurableExecutionRequest(Shape, frozen=True, kw_only=True):
    """Body of PauseDurableExecution."""

    client_token: str | None = None
    reason: str | None = None
    execution_timeout_paused: bool = True


class ResumeDurableExecutionRequest(Shape, frozen=True, kw_only=True):
    """Body of ResumeDurableExecution."""

    client_token: str | None = None
    reason: str | None = None


class DeleteDurableExecutionResponse(Shape, frozen=True, kw_only=True):
    """Answer of DeleteDurableExecution."""

    deletion_request_timestamp: Timestamp
