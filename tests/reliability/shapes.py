"""The service's shapes, as the model has them, and the other way round."""

from __future__ import annotations

from typing import Any

from durable._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate
from durable._wire.events import DETAILS_FIELD, Event
from durable._wire.updates import (
    CallbackOptions,
    ChainedInvokeOptions,
    ContextOptions,
    StepOptions,
    WaitOptions,
)
from durable.abc import OperationExtra
from durable.exceptions import (
    CallbackCompletedError,
    CallbackNotFoundError,
    ExecutionExistsError,
    ExecutionNotFoundError,
    ServiceError,
    StaleTokenError,
    StoreError,
)
from tests.local.fakes import HandClock
from tests.reliability.model import Update

BEGIN = HandClock().now()
"""When the model's time begins."""


_KINDS: list[tuple[type[Exception], str]] = [
    (StaleTokenError, "token"),
    (ExecutionExistsError, "exists"),
    (ExecutionNotFoundError, "execution"),
    (CallbackNotFoundError, "no callback"),
    (CallbackCompletedError, "callback over"),
]
_CODES = {"ResourceNotFoundException": "resource", "InvalidParameterValueException": "rule"}


def kind_of(error: Exception) -> str:
    """Which kind of refusal an error is, as its users tell them apart."""
    if isinstance(error, StaleTokenError):
        assert str(error).startswith("InvalidParameterValueException: Invalid checkpoint token")
    elif isinstance(error, ServiceError):
        assert not error.retryable
        return _CODES[error.code or ""]
    if isinstance(error, StoreError):
        return f"store {error}"
    for kind, name in _KINDS:
        if isinstance(error, kind):
            return name
    raise error


def real_update(update: Update) -> OperationUpdate:
    """An update as a function sends it."""
    options: dict[str, Any] = {}
    if "delay" in update and update["type"] == "WAIT":
        options["wait_options"] = WaitOptions(wait_seconds=update["delay"])
    elif "delay" in update:
        options["step_options"] = StepOptions(next_attempt_delay_seconds=update["delay"])
    if "replay" in update:
        options["context_options"] = ContextOptions(replay_children=update["replay"])
    if "timeout" in update or "heartbeat" in update:
        options["callback_options"] = CallbackOptions(
            timeout_seconds=update.get("timeout"), heartbeat_timeout_seconds=update.get("heartbeat")
        )
    if update.get("function") is not None:
        options["chained_invoke_options"] = ChainedInvokeOptions(function_name=update["function"])
    return OperationUpdate(
        id=update["id"],
        type=OperationType(update["type"]),
        action=OperationAction(update["action"]),
        parent_id=update.get("parent"),
        name=update.get("name"),
        sub_type=update.get("sub_type"),
        payload=update.get("payload"),
        error=error_of(update.get("error")),
        **options,
    )


def error_of(text: str | None) -> ErrorObject | None:
    return None if text is None else ErrorObject(error_message=text)


def plain_error(error: ErrorObject | None) -> str | None:
    return None if error is None else error.error_type or error.error_message


def plain(operation: Operation) -> dict[str, Any]:
    """An operation, as far as the wire carries it."""
    step, wait, context = operation.step_details, operation.wait_details, operation.context_details
    due = step.next_attempt_timestamp if step is not None else None
    if wait is not None:
        due = wait.scheduled_end_timestamp
    return {
        "type": str(operation.type),
        "sub_type": operation.sub_type,
        "name": operation.name,
        "parent": operation.parent_id,
        "status": str(operation.status),
        "start": operation.start_timestamp - BEGIN,
        "end": None if operation.end_timestamp is None else operation.end_timestamp - BEGIN,
        "attempts": 0 if step is None else step.attempt,
        "due": None if due is None else due - BEGIN,
        "replay": None if context is None else context.replay_children,
        "result": operation.result,
        "error": plain_error(operation.error),
    }


def plain_extra(extra: OperationExtra | None) -> dict[str, Any]:
    """What else the store has of an operation."""
    times = (None, None) if extra is None else (extra.timeout_at, extra.heartbeat_at)
    limit, beat = (None if time is None else time - BEGIN for time in times)
    return {"limit": limit, "beat": beat, "beats": None if extra is None else extra.heartbeat}


def on_the_wire(operation: dict[str, Any]) -> dict[str, Any]:
    """The model's operation, as far as the wire carries it."""
    return {name: value for name, value in operation.items() if name not in {"limit", "beat", "beats"}}


def plain_event(event: Event, key: str) -> dict[str, Any]:
    """A history event, with what its details tell."""
    details = getattr(event, DETAILS_FIELD[event.event_type])
    told: dict[str, Any] = {}
    for name in ("result", "error"):
        found = getattr(details, name, None)
        payload = None if found is None else found.payload
        told[name] = plain_error(payload) if name == "error" else payload
    retry = getattr(details, "retry_details", None)
    if retry is not None:
        told.update(attempt=retry.current_attempt, delay=retry.next_attempt_delay_seconds)
    match str(event.event_type):
        case "WaitStarted":
            told["delay"] = details.duration
        case "CallbackStarted":
            told.update(timeout=details.timeout, heartbeat=details.heartbeat_timeout)
        case "ChainedInvokeStarted":
            told.update(function=details.function_name, payload=details.input.payload)
        case "InvocationCompleted":
            assert details.end_timestamp == event.event_timestamp
            told["start"] = details.start_timestamp - BEGIN
        case _:
            pass
    return {
        "type": str(event.event_type),
        "id": None if event.id == key else event.id,
        "at": event.event_timestamp - BEGIN,
        **{name: value for name, value in told.items() if value is not None},
    }
