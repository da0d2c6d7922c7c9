"""History events as GetDurableExecutionHistory gives them (PROTOCOL section 8, shapes from the model)."""

from __future__ import annotations

from enum import StrEnum

from .shapes import ErrorObject, Shape
from .timestamps import Timestamp


class EventType(StrEnum):
    """The kinds of history event (PROTOCOL section 8)."""

    EXECUTION_STARTED = "ExecutionStarted"
    EXECUTION_SUCCEEDED = "ExecutionSucceeded"
    EXECUTION_FAILED = "ExecutionFailed"
    EXECUTION_TIMED_OUT = "ExecutionTimedOut"
    EXECUTION_STOPPED = "ExecutionStopped"
    EXECUTION_PAUSED = "ExecutionPaused"
    EXECUTION_RESUMED = "ExecutionResumed"
    CONTEXT_STARTED = "ContextStarted"
    CONTEXT_SUCCEEDED = "ContextSucceeded"
    CONTEXT_FAILED = "ContextFailed"
    WAIT_STARTED = "WaitStarted"
    WAIT_SUCCEEDED = "WaitSucceeded"
    WAIT_CANCELLED = "WaitCancelled"
    STEP_STARTED = "StepStarted"
    STEP_SUCCEEDED = "StepSucceeded"
    STEP_FAILED = "StepFailed"
    CHAINED_INVOKE_STARTED = "ChainedInvokeStarted"
    CHAINED_INVOKE_SUCCEEDED = "ChainedInvokeSucceeded"
    CHAINED_INVOKE_FAILED = "ChainedInvokeFailed"
    CHAINED_INVOKE_TIMED_OUT = "ChainedInvokeTimedOut"
    CHAINED_INVOKE_STOPPED = "ChainedInvokeStopped"
    CALLBACK_STARTED = "CallbackStarted"
    CALLBACK_SUCCEEDED = "CallbackSucceeded"
    CALLBACK_FAILED = "CallbackFailed"
    CALLBACK_TIMED_OUT = "CallbackTimedOut"
    INVOCATION_COMPLETED = "InvocationCompleted"


class EventInput(Shape, frozen=True, kw_only=True):
    """An input; `truncated` when the service left the payload out."""

    payload: str | None = None
    truncated: bool | None = None


class EventResult(Shape, frozen=True, kw_only=True):
    """A result; `truncated` when the service left the payload out."""

    payload: str | None = None
    truncated: bool | None = None


class EventError(Shape, frozen=True, kw_only=True):
    """An error; `truncated` when the service left it out."""

    payload: ErrorObject | None = None
    truncated: bool | None = None


class RetryDetails(Shape, frozen=True, kw_only=True):
    """Which attempt this was, and when the next one follows if one does."""

    current_attempt: int | None = None
    next_attempt_delay_seconds: int | None = None


class ExecutionStartedDetails(Shape, frozen=True, kw_only=True):
    """The execution began."""

    input: EventInput
    execution_timeout: int


class ResultDetails(Shape, frozen=True, kw_only=True):
    """Ended with a result: an execution, a context, a callback or a chained invoke."""

    result: EventResult


class FailureDetails(Shape, frozen=True, kw_only=True):
    """Ended with an error: failed, timed out, stopped or cancelled."""

    error: EventError | None = None


class EventReason(Shape, frozen=True, kw_only=True):
    """Why somebody paused or resumed an execution; `truncated` when the service left it out."""

    payload: str | None = None
    truncated: bool | None = None


class ExecutionPausedDetails(Shape, frozen=True, kw_only=True):
    """The execution was paused: when that was asked for, why, and whether its time limit is put off by it."""

    pause_request_timestamp: Timestamp
    execution_timeout_paused: bool
    reason: EventReason | None = None


class ExecutionResumedDetails(Shape, frozen=True, kw_only=True):
    """The execution was resumed: when that was asked for, and why."""

    resume_request_timestamp: Timestamp
    reason: EventReason | None = None


class EmptyDetails(Shape, frozen=True, kw_only=True):
    """Nothing to add (the model has a structure without members)."""


class WaitStartedDetails(Shape, frozen=True, kw_only=True):
    """A timer was set; the duration is in seconds."""

    duration: int
    scheduled_end_timestamp: Timestamp


class WaitSucceededDetails(Shape, frozen=True, kw_only=True):
    """A timer fell due."""

    duration: int | None = None


class StepSucceededDetails(Shape, frozen=True, kw_only=True):
    """A step's attempt succeeded; with a next delay it is a check of a condition that will be made again."""

    result: EventResult
    retry_details: RetryDetails


class StepFailedDetails(Shape, frozen=True, kw_only=True):
    """A step's attempt failed; with a next delay it will be tried again."""

    error: EventError
    retry_details: RetryDetails


class CallbackStartedDetails(Shape, frozen=True, kw_only=True):
    """A callback was created; time limits in seconds."""

    callback_id: str
    heartbeat_timeout: int | None = None
    timeout: int | None = None


class ChainedInvokeStartedDetails(Shape, frozen=True, kw_only=True):
    """Another function was called."""

    function_name: str
    tenant_id: str | None = None
    input: EventInput | None = None
    executed_version: str | None = None
    durable_execution_arn: str | None = None


class InvocationCompletedDetails(Shape, frozen=True, kw_only=True):
    """One invocation of the function ended, with an error if it raised."""

    start_timestamp: Timestamp
    end_timestamp: Timestamp
    request_id: str
    error: EventError | None = None


class Event(Shape, frozen=True, kw_only=True):
    """One line of an execution's history. Exactly the details of its own type are set."""

    event_type: EventType
    event_id: int
    event_timestamp: Timestamp
    id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    execution_started_details: ExecutionStartedDetails | None = None
    execution_succeeded_details: ResultDetails | None = None
    execution_failed_details: FailureDetails | None = None
    execution_timed_out_details: FailureDetails | None = None
    execution_stopped_details: FailureDetails | None = None
    execution_paused_details: ExecutionPausedDetails | None = None
    execution_resumed_details: ExecutionResumedDetails | None = None
    context_started_details: EmptyDetails | None = None
    context_succeeded_details: ResultDetails | None = None
    context_failed_details: FailureDetails | None = None
    wait_started_details: WaitStartedDetails | None = None
    wait_succeeded_details: WaitSucceededDetails | None = None
    wait_cancelled_details: FailureDetails | None = None
    step_started_details: EmptyDetails | None = None
    step_succeeded_details: StepSucceededDetails | None = None
    step_failed_details: StepFailedDetails | None = None
    chained_invoke_started_details: ChainedInvokeStartedDetails | None = None
    chained_invoke_succeeded_details: ResultDetails | None = None
    chained_invoke_failed_details: FailureDetails | None = None
    chained_invoke_timed_out_details: FailureDetails | None = None
    chained_invoke_stopped_details: FailureDetails | None = None
    callback_started_details: CallbackStartedDetails | None = None
    callback_succeeded_details: ResultDetails | None = None
    callback_failed_details: FailureDetails | None = None
    callback_timed_out_details: FailureDetails | None = None
    invocation_completed_details: InvocationCompletedDetails | None = None

    @property
    def details(self) -> Shape | None:
        """The one details structure that belongs to this event's type."""
        found: Shape | None = getattr(self, DETAILS_FIELD[self.event_type])
        return found


class GetDurableExecutionHistoryResponse(Shape, frozen=True, kw_only=True):
    """One page of an execution's history."""

    events: tuple[Event, ...]
    next_marker: str | None = None


DETAILS_FIELD: dict[EventType, str] = {kind: f"{kind.name.lower()}_details" for kind in EventType}
"""Which field of `Event` carries the details of each type."""
