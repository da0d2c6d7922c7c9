"""What the function tells the service about an operation."""

from __future__ import annotations

from .enums import OperationAction, OperationType
from .shapes import ErrorObject, Shape


class ContextOptions(Shape, frozen=True, kw_only=True):
    """With SUCCEED of a CONTEXT: whether replay rebuilds the result from the children."""

    replay_children: bool | None = None


class StepOptions(Shape, frozen=True, kw_only=True):
    """With RETRY of a STEP: how long to wait, 1 to 31,622,400 whole seconds."""

    next_attempt_delay_seconds: int | None = None


class WaitOptions(Shape, frozen=True, kw_only=True):
    """With START of a WAIT: how long, 1 to 31,622,400 whole seconds."""

    wait_seconds: int | None = None


class CallbackOptions(Shape, frozen=True, kw_only=True):
    """With START of a CALLBACK: its time limits in whole seconds, 0 for none."""

    timeout_seconds: int | None = None
    heartbeat_timeout_seconds: int | None = None


class ChainedInvokeOptions(Shape, frozen=True, kw_only=True):
    """With START of a CHAINED_INVOKE: whom to call."""

    function_name: str
    tenant_id: str | None = None


class OperationUpdate(Shape, frozen=True, kw_only=True):
    """One change of one operation."""

    id: str
    type: OperationType
    action: OperationAction
    parent_id: str | None = None
    name: str | None = None
    sub_type: str | None = None
    payload: str | None = None
    error: ErrorObject | None = None
    context_options: ContextOptions | None = None
    step_options: StepOptions | None = None
    wait_options: WaitOptions | None = None
    callback_options: CallbackOptions | None = None
    chained_invoke_options: ChainedInvokeOptions | None = None
