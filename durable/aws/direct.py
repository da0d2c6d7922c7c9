"""The calls that are made all the time, as they mostly go: signed, sent, answered. All else is botocore's.

What a call costs on its way through botocore are its turns for other cases: other protocols, streams, checksums,
errors, retries. The calls of one execution need none of that as long as they are answered as they should be. So a
first attempt is made here, of what botocore has made of an earlier call to the same address, with another body. The
handlers that are registered for the client's events, its signer and credentials, its connection pool are the same.
Of any other outcome than a good answer botocore is told as if it had made that attempt itself: it reads errors,
counts attempts, waits, and makes the next ones.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from . import untyped
from .signing import register_signer

T = TypeVar("T")

_GOOD: Final = 200
_FIRST_ERROR: Final = 300

_OUTCOME: Final = "durable_outcome"
"""Where the context of a call has what became of its first attempt, for botocore."""

_outcome_var: ContextVar[tuple[Any, Any] | None] = ContextVar("durable_outcome", default=None)
"""What became of a first attempt that was made before botocore was asked, and by which names it went."""

_wanted_var: ContextVar[tuple[str, str] | None] = ContextVar("durable_wanted", default=None)
"""Which call botocore is preparing, if what it makes of it is to be kept."""

_MAX_PREPARED: Final = 64


class DirectCalls:
    """Makes the first attempt at each call of some operations of a client.

    Args:
        client: The client, open.
        operations: Their names. Answers to them are decoded by a handler of `before-parse`.
        send: Sends a request of botocore's, and reads its answer whole: what the client itself sends with.
    """

    def __init__(self, client: Any, operations: Iterable[str], send: Callable[[Any], Awaitable[Any]]) -> None:
        self._client = client
        self._events = client.meta.events
        self._send = send
        # What botocore has made of a call, as far as it is the same for all of that operation to one execution.
        self._prepared: dict[tuple[str, str], Mapping[str, Any]] = {}
        for operation in operations:
            self._events.register_first(f"before-call.lambda.{operation}", self._keep)
            self._events.register_first(f"before-send.lambda.{operation}", self._tell_outcome)
        self._operations = frozenset(operations)
        register_signer(client, self._operations)
        # After every other handler, as they may have something to say of the request.
        self._events.register_last("before-call", self._attempt)

    async def call(
        self, operation: str, arn: str, by_botocore: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The answer to a call that differs by its body alone from others to the same execution.

        Args:
            operation: What is called.
            arn: The execution's.
            by_botocore: Makes the call in botocore's way.
        """
        prepared = self._prepared.get((operation, arn))
        if prepared is None:
            return await _with(_wanted_var, (operation, arn), by_botocore)
        event = _copied(prepared)
        _, answer = await self._events.emit_until_response(f"before-call.lambda.{operation}", **event)
        context: dict[str, Any] = event["context"]
        if answer is None:
            return await _with(_outcome_var, (context[_OUTCOME], context["retries"]), by_botocore)
        response, parsed = answer
        await self._events.emit(
            f"after-call.lambda.{operation}",
            http_response=response,
            parsed=parsed,
            model=event["model"],
            context=context,
        )
        if response.status_code >= _FIRST_ERROR:  # not from the service: somebody else's handler has answered
            raise self._refused(operation, parsed, context)
        told: dict[str, Any] = parsed
        return told

    def _refused(self, operation: str, parsed: Mapping[str, Any], context: Mapping[str, Any]) -> Exception:
        code = context.get("error_code_override") or parsed.get("Error", {}).get("Code")
        error: Exception = self._client.exceptions.from_code(code)(parsed, operation)
        return error

    def _keep(self, *, event_name: str, **event: Any) -> None:
        """What botocore has made of a call, before anybody else has a say in it."""
        del event_name
        wanted = _wanted_var.get()
        if wanted is not None:
            if len(self._prepared) == _MAX_PREPARED:
                self._prepared.clear()
            self._prepared[wanted] = _copied(event)

    async def _attempt(self, *, model: Any, params: dict[str, Any], context: dict[str, Any], **_: Any) -> Any:
        """The answer, if it is a good one; otherwise `None`, and botocore goes on."""
        operation: str = model.name
        if operation not in self._operations:
            return None
        made = _outcome_var.get()
        if made is not None:
            context[_OUTCOME], context["retries"] = made
            return None
        context["retries"] = {"attempt": 1, "invocation-id": str(uuid.uuid4())}
        request = untyped.make_request(params)
        # This signs it.
        await self._events.emit(f"request-created.lambda.{operation}", request=request, operation_name=operation)
        try:
            answers = await self._events.emit(f"before-send.lambda.{operation}", request=request)
            response = untyped.first_answer(answers) or await self._send(request)
        except Exception as error:  # noqa: BLE001 - botocore knows which of them are worth a repeat
            context[_OUTCOME] = error
            return None
        if response.status_code != _GOOD:
            context[_OUTCOME] = response
            return None
        return response, await self._parse(model, response, context)

    async def _parse(self, model: Any, response: Any, context: dict[str, Any]) -> dict[str, Any]:
        operation = model.name
        body = await response.content
        told = {
            "headers": response.headers,
            "status_code": response.status_code,
            "context": {"operation_name": operation},
            "body": body,
        }
        parsed: dict[str, Any] = {"ResponseMetadata": _metadata(response)}
        await self._events.emit(
            f"before-parse.lambda.{operation}",
            operation_model=model,
            response_dict=told,
            customized_response_dict=parsed,
        )
        await self._events.emit(
            f"response-received.lambda.{operation}",
            response_dict={**told, "body": body},  # of which the decoder has left nothing
            parsed_response=parsed,
            context=context,
            exception=None,
        )
        return parsed

    @staticmethod
    def _tell_outcome(*, request: Any, **_: Any) -> Any:
        """Instead of sending what has been sent already."""
        outcome = request.context.pop(_OUTCOME, None)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def _with(variable: ContextVar[Any], value: Any, call: Callable[[], Awaitable[T]]) -> T:
    reset = variable.set(value)
    try:
        return await call()
    finally:
        variable.reset(reset)


def _copied(event: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an event before a call, of which handlers may change the request and the context."""
    context = dict(event["context"])
    params = {**event["params"], "headers": copy.copy(event["params"]["headers"]), "context": context}
    return {**event, "params": params, "context": context}


def _metadata(response: Any) -> dict[str, Any]:
    """What botocore's callers find beside an answer."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    metadata = {"HTTPStatusCode": response.status_code, "HTTPHeaders": headers, "RetryAttempts": 0}
    if "x-amzn-requestid" in headers:
        metadata["RequestId"] = headers["x-amzn-requestid"]
    return metadata
