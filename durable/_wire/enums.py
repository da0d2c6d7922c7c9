"""The closed sets of names on the wire (PROTOCOL section 4, the service model)."""

from __future__ import annotations

from enum import StrEnum


class OperationType(StrEnum):
    """What kind of thing an operation is."""

    EXECUTION = "EXECUTION"
    CONTEXT = "CONTEXT"
    STEP = "STEP"
    WAIT = "WAIT"
    CALLBACK = "CALLBACK"
    CHAINED_INVOKE = "CHAINED_INVOKE"


class OperationAction(StrEnum):
    """What an update does to its operation."""

    START = "START"
    SUCCEED = "SUCCEED"
    FAIL = "FAIL"
    RETRY = "RETRY"
    CANCEL = "CANCEL"


class OperationStatus(StrEnum):
    """Where an operation stands; the last five are final."""

    STARTED = "STARTED"
    PENDING = "PENDING"
    READY = "READY"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"


FINAL_STATUSES = frozenset(
    {
        OperationStatus.SUCCEEDED,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
        OperationStatus.TIMED_OUT,
        OperationStatus.STOPPED,
    }
)


class ExecutionStatus(StrEnum):
    """Where a whole execution stands."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    STOPPED = "STOPPED"
    DELETING = "DELETING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"

    @property
    def is_over(self) -> bool:
        """Whether the execution has ended."""
        return self in _OVER

    @property
    def is_paused(self) -> bool:
        """Whether somebody has paused it: an invocation may still be under way."""
        return self is ExecutionStatus.PAUSED or self is ExecutionStatus.PAUSING


_OVER = frozenset(
    {
        ExecutionStatus.SUCCEEDED,
        ExecutionStatus.FAILED,
        ExecutionStatus.TIMED_OUT,
        ExecutionStatus.STOPPED,
        ExecutionStatus.DELETING,
    }
)


class InvocationStatus(StrEnum):
    """What one invocation of the function answers."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    PENDING = "PENDING"


class SubType:
    """Subtypes used by us. On the wire a subtype is free text: others' are kept as they come."""

    STEP = "Step"
    WAIT_FOR_CONDITION = "WaitForCondition"
    WAIT = "Wait"
    CALLBACK = "Callback"
    CHAINED_INVOKE = "ChainedInvoke"
    RUN_IN_CHILD_CONTEXT = "RunInChildContext"
    MAP = "Map"
    MAP_ITERATION = "MapIteration"
    PARALLEL = "Parallel"
    PARALLEL_BRANCH = "ParallelBranch"
    WAIT_FOR_CALLBACK = "WaitForCallback"
    SAGA = "Saga"
    COMPENSATION = "Compensation"
    CLEANUP = "Cleanup"
    CANCELLATION = "Cancellation"
