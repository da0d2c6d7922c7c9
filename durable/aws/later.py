"""Operations on executions that a later botocore knows than the one which aiobotocore takes.

As botocore 1.44.8 has them; a botocore that knows them itself goes by its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_EXECUTION: Final = "/2025-12-01/durable-executions/{DurableExecutionArn}"
_ARN: Final = {"shape": "DurableExecutionArn", "location": "uri", "locationName": "DurableExecutionArn"}
_TOKEN: Final = {"shape": "ClientToken", "idempotencyToken": True}


def _operation(name: str, method: str, path: str) -> dict[str, Any]:
    return {
        "name": name,
        "http": {"method": method, "requestUri": f"{_EXECUTION}{path}", "responseCode": 202},
        "input": {"shape": f"{name}Request"},
        "output": {"shape": f"{name}Response"},
        "idempotent": True,
    }


def _request(**members: Any) -> dict[str, Any]:
    return {
        "type": "structure",
        "required": ["DurableExecutionArn"],
        "members": {"DurableExecutionArn": _ARN, **members},
    }


_REASON: Final = {"type": "string", "max": 1024, "min": 0, "sensitive": True}
_NOTHING: Final[dict[str, Any]] = {"type": "structure", "members": {}}

OPERATIONS: Final[dict[str, Any]] = {
    "PauseDurableExecution": _operation("PauseDurableExecution", "POST", "/pause"),
    "ResumeDurableExecution": _operation("ResumeDurableExecution", "POST", "/resume"),
    "DeleteDurableExecution": _operation("DeleteDurableExecution", "DELETE", ""),
}

SHAPES: Final[dict[str, Any]] = {
    "PauseReason": _REASON,
    "ResumeReason": _REASON,
    "ExecutionTimeoutPaused": {"type": "boolean", "box": True},
    "PauseDurableExecutionRequest": _request(
        ClientToken=_TOKEN,
        Reason={"shape": "PauseReason"},
        ExecutionTimeoutPaused={"shape": "ExecutionTimeoutPaused"},
    ),
    "PauseDurableExecutionResponse": _NOTHING,
    "ResumeDurableExecutionRequest": _request(ClientToken=_TOKEN, Reason={"shape": "ResumeReason"}),
    "ResumeDurableExecutionResponse": _NOTHING,
    "DeleteDurableExecutionRequest": _request(),
    "DeleteDurableExecutionResponse": {
        "type": "structure",
        "required": ["DeletionRequestTimestamp"],
        "members": {"DeletionRequestTimestamp": {"shape": "ExecutionTimestamp"}},
    },
}


def completed(model: Mapping[str, Any]) -> dict[str, Any]:
    """Lambda's model with these operations, as far as it does not have them."""
    return {
        **model,
        "operations": {**OPERATIONS, **model["operations"]},
        "shapes": {**SHAPES, **model["shapes"]},
    }
