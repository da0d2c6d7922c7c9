"""What is refused, as Lambda refuses it: a code, a status and a message (codes from botocore's model)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from ..exceptions import (
    CallbackCompletedError,
    CallbackNotFoundError,
    DurableError,
    EngineClosedError,
    ExecutionConflictError,
    ExecutionExistsError,
    ExecutionNotFoundError,
    NotDurableError,
    ServiceError,
    StoreError,
    TargetNotFoundError,
)

JSON: Final = "application/json"


class RefusedError(DurableError):
    """A request is refused.

    Attributes:
        code: The error's code, as Lambda names it.
        status: The HTTP status.
    """

    def __init__(self, message: str, *, code: str = "InvalidParameterValueException", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


_CODES: Final[tuple[tuple[type[DurableError], str, int], ...]] = (
    (ExecutionNotFoundError, "ResourceNotFoundException", 404),
    (TargetNotFoundError, "ResourceNotFoundException", 404),
    (CallbackNotFoundError, "ResourceNotFoundException", 404),
    (CallbackCompletedError, "CallbackTimeoutException", 400),
    (ExecutionExistsError, "DurableExecutionAlreadyStartedException", 409),
    (ExecutionConflictError, "ResourceConflictException", 409),
    (NotDurableError, "InvalidParameterValueException", 400),
    (StoreError, "ServiceException", 500),
    (EngineClosedError, "ServiceException", 500),
    # All others are about what was sent: names, sizes, what cannot be decoded.
    (DurableError, "InvalidParameterValueException", 400),
)

_STATUS: Final = {"ResourceNotFoundException": 404, "ServiceException": 500}


def answer_of(error: Exception) -> Response:
    """The answer that an error is."""
    if isinstance(error, RefusedError):
        return refusal(error.code, str(error), error.status)
    if isinstance(error, ServiceError):
        code = error.code or "ServiceException"
        return refusal(code, str(error).removeprefix(f"{code}: "), _STATUS.get(code, HTTPStatus.BAD_REQUEST))
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return refusal(code, str(error), status)
    return refusal("ServiceException", f"{type(error).__name__}: {error}", HTTPStatus.INTERNAL_SERVER_ERROR)


def refusal(code: str, message: str, status: int) -> Response:
    """An error as Lambda answers it."""
    kind = "User" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Service"
    # Some of Lambda's errors have it as `message`, others as `Message`; clients look for the one of their model.
    body = msgspec.json.encode({"Type": kind, "message": message, "Message": message})
    return Response(body, status, {"X-Amzn-ErrorType": code}, JSON)
