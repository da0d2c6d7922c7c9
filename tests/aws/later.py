"""What botocore 1.44.8 says of executions, and the one that aiobotocore takes does not."""

from __future__ import annotations

from typing import Any


def structure(*required: str, **members: str) -> dict[str, Any]:
    """A structure: what its members are, and which of them must be there."""
    shapes = {name: {"shape": shape} for name, shape in members.items()}
    return {"type": "structure", **({"required": list(required)} if required else {}), "members": shapes}


def request(**members: str) -> dict[str, Any]:
    """What an operation on an execution takes."""
    found = structure("DurableExecutionArn", DurableExecutionArn="DurableExecutionArn", **members)
    found["members"]["DurableExecutionArn"] |= {"location": "uri", "locationName": "DurableExecutionArn"}
    if "ClientToken" in members:
        found["members"]["ClientToken"]["idempotencyToken"] = True
    return found


REASON = {"type": "string", "max": 1024, "min": 0, "sensitive": True}

SHAPES: dict[str, Any] = {
    "PauseReason": REASON,
    "ResumeReason": REASON,
    "ExecutionTimeoutPaused": {"type": "boolean", "box": True},
    "PauseDurableExecutionRequest": request(
        ClientToken="ClientToken", Reason="PauseReason", ExecutionTimeoutPaused="ExecutionTimeoutPaused"
    ),
    "PauseDurableExecutionResponse": structure(),
    "ResumeDurableExecutionRequest": request(ClientToken="ClientToken", Reason="ResumeReason"),
    "ResumeDurableExecutionResponse": structure(),
    "DeleteDurableExecutionRequest": request(),
    "DeleteDurableExecutionResponse": structure(
        "DeletionRequestTimestamp", DeletionRequestTimestamp="ExecutionTimestamp"
    ),
    "EventPauseReason": structure(Payload="PauseReason", Truncated="Truncated"),
    "EventResumeReason": structure(Payload="ResumeReason", Truncated="Truncated"),
    "ExecutionPausedDetails": structure(
        "PauseRequestTimestamp",
        "ExecutionTimeoutPaused",
        PauseRequestTimestamp="ExecutionTimestamp",
        Reason="EventPauseReason",
        ExecutionTimeoutPaused="ExecutionTimeoutPaused",
    ),
    "ExecutionResumedDetails": structure(
        "ResumeRequestTimestamp", ResumeRequestTimestamp="ExecutionTimestamp", Reason="EventResumeReason"
    ),
    "PauseDetails": structure(
        "PauseRequestTimestamp",
        "ExecutionTimeoutPaused",
        PauseRequestTimestamp="ExecutionTimestamp",
        Reason="PauseReason",
        ExecutionTimeoutPaused="ExecutionTimeoutPaused",
    ),
}

MEMBERS: dict[str, dict[str, str]] = {
    "GetDurableExecutionResponse": {
        "PauseDetails": "PauseDetails",
        "ExpectedExecutionTimeoutTimestamp": "ExecutionTimestamp",
    },
    "Event": {
        "ExecutionPausedDetails": "ExecutionPausedDetails",
        "ExecutionResumedDetails": "ExecutionResumedDetails",
    },
}
"""What structures have more."""

VALUES = {
    "EventType": ["ExecutionPaused", "ExecutionResumed"],
    "ExecutionStatus": ["DELETING", "PAUSING", "PAUSED"],
}
"""What enumerations have more."""

OPERATIONS: dict[str, tuple[str, str]] = {
    "PauseDurableExecution": ("POST", "/pause"),
    "ResumeDurableExecution": ("POST", "/resume"),
    "DeleteDurableExecution": ("DELETE", ""),
}
"""Method, and what comes after the execution's path; each answers 202."""


def with_later(model: dict[str, Any]) -> dict[str, Any]:
    """Lambda's model with all of that."""
    shapes = {**model["shapes"], **SHAPES}
    for name, members in MEMBERS.items():
        more = {member: {"shape": shape} for member, shape in members.items()}
        shapes[name] = {**shapes[name], "members": {**shapes[name]["members"], **more}}
    for name, values in VALUES.items():
        shapes[name] = {**shapes[name], "enum": list(dict.fromkeys([*shapes[name]["enum"], *values]))}
    operations = {
        name: {
            "name": name,
            "http": {
                "method": method,
                "requestUri": f"/2025-12-01/durable-executions/{{DurableExecutionArn}}{path}",
                "responseCode": 202,
            },
            "input": {"shape": f"{name}Request"},
            "output": {"shape": f"{name}Response"},
            "idempotent": True,
        }
        for name, (method, path) in OPERATIONS.items()
    }
    return {**model, "operations": {**model["operations"], **operations}, "shapes": shapes}
