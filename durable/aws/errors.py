"""What AWS answers, as errors of ours: mapped once, here, by code and HTTP status (PROTOCOL section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..exceptions import DurableError, ServiceError, StaleTokenError

KMS_ERRORS: Final = frozenset(
    {
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
    }
)
"""They come as 502, but no repeat helps: the key that the execution is encrypted with cannot be used."""

_THROTTLED: Final = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
"""Whatever their status: AWS answers some of them with 400."""

_OWN_CREDENTIALS: Final = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
"""The sandbox's trouble and not the execution's: a later invocation comes with credentials that are valid.

That the role is not allowed to make the call (`AccessDeniedException`) is none of them.
"""

_NO_CREDENTIALS: Final = frozenset(
    {"CredentialRetrievalError", "MetadataRetrievalError", "NoCredentialsError", "PartialCredentialsError"}
)
"""botocore's own errors, before there is anything to send."""

_ABOUT_CREDENTIALS: Final = (
    "this is about the credentials that the call is signed with; the execution stays as it is. "
    "Lambda gives them to a function that has an execution role; elsewhere look at AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, and at the machine's clock"
)

_STALE: Final = "Invalid checkpoint token"
_BAD_REQUEST: Final = 400
_REQUEST_TIMEOUT: Final = 408
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


class NotDurableInvocationError(DurableError, TypeError):
    """A Lambda function was invoked with something that is not a durable invocation.

    Args:
        event: What it was invoked with.
        name: What the durable function is called.
    """

    def __init__(self, event: object, name: str) -> None:
        super().__init__(
            f"{name} is a durable function, and was invoked with {_describe(event)} instead of a durable "
            "invocation. Either durable execution is not enabled: create the Lambda function with a DurableConfig "
            "(ExecutionTimeout, RetentionPeriodInDays; a function that exists without one must be created anew). "
            "Or something else than Lambda called it: in a program start it on an engine, "
            "inside of another durable function use ctx.invoke() or ctx.child()."
        )


def _describe(event: object) -> str:
    if not isinstance(event, dict):
        return f"a value of type {type(event).__name__}"
    if "DurableExecutionArn" in event:
        return "a dict that has a DurableExecutionArn but is not valid"
    return "a dict without DurableExecutionArn and CheckpointToken"


def answered_error(response: Mapping[str, Any]) -> ServiceError:
    """The error of an answer that is one.

    Args:
        response: As botocore has parsed it: its `Error`, and its `ResponseMetadata` with the HTTP status.
    """
    error: Mapping[str, Any] = response.get("Error") or {}
    metadata: Mapping[str, Any] = response.get("ResponseMetadata") or {}
    code = str(error.get("Code") or "")
    # Some errors of Lambda's have their text in `message`, others in `Message`.
    message = str(error.get("Message") or response.get("message") or response.get("Message") or "no message")
    status: int | None = metadata.get("HTTPStatusCode")
    if code == "InvalidParameterValueException" and message.startswith(_STALE):
        return StaleTokenError(message)
    if code in _OWN_CREDENTIALS:
        message = f"{message.rstrip('.')}: {_ABOUT_CREDENTIALS}"
    return ServiceError(message, code=code or f"HTTP {status}", retryable=_is_retryable(code, status))


def unanswered_error(error: Exception) -> ServiceError:
    """The error of a call without an answer: no credentials, the network, a timeout, an unreadable answer."""
    code = type(error).__name__
    if code in _NO_CREDENTIALS:
        text = f"the call was not sent: {str(error).rstrip('.')}: {_ABOUT_CREDENTIALS}"
    else:
        text = f"the service gave no usable answer: {error}"
    return ServiceError(text, code=code, retryable=True)


def refused_error(error: Exception) -> ServiceError:
    """The error of a call that was not sent, as it does not fit the service's model."""
    return ServiceError(f"the call was not sent: {error}", code=type(error).__name__, retryable=False)


def _is_retryable(code: str, status: int | None) -> bool:
    if code in KMS_ERRORS:
        return False
    if code in _THROTTLED or code in _OWN_CREDENTIALS:
        return True
    if status is None:
        return True
    return status >= _SERVER_ERROR or status in {_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT} or status < _BAD_REQUEST
