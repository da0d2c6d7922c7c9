"""Lambda's durable execution API over real HTTP, on the embedded service's rules and botocore's own model.

Whatever a client sends that the model does not allow is refused, and kept in `violations`. Faults happen to the
calls for which a test says so.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import msgspec

from durable._wire.calls import CheckpointUpdatedExecutionState, GetDurableExecutionStateResponse
from durable._wire.codec import CHECKPOINT_REQUEST, CHECKPOINT_RESPONSE, STATE_RESPONSE
from durable.abc import ServiceClient
from durable.exceptions import ServiceError, StaleTokenError

from .http import ConnectionLostError, Reply, Request, serve
from .model import is_signed, operation, violations

_PREFIX = "/2025-12-01/durable-executions/"
_OPERATIONS = {
    ("POST", "checkpoint"): "CheckpointDurableExecution",
    ("GET", "state"): "GetDurableExecutionState",
}


class Fault(Enum):
    """What can happen to a call."""

    THROTTLED = auto()
    FAILED = auto()
    UNAVAILABLE = auto()
    HANG = auto()
    RESET = auto()
    TWICE = auto()
    LOST = auto()
    LATE = auto()
    GARBLED = auto()
    CLOSED = auto()


class FakeLambda:
    """The endpoint.

    Args:
        service: The service behind it.
        answer_page: How many operations are in the answer of a checkpoint; the others are to be asked for.
    """

    def __init__(self, service: ServiceClient, *, answer_page: int | None = None) -> None:
        self._answer_page = answer_page
        self.violations: list[str] = []
        self.connections = 0
        # How late an answer is that is late; longer than the client waits.
        self.delay = 1.0
        self.scheme = "http"
        self.begin(service)

    def begin(self, service: ServiceClient) -> None:
        """Begin anew, with another service."""
        self._service = service
        # What did not fit into an answer, by its marker.
        self._rest: dict[str, Any] = {}
        self.requests: list[Request] = []
        # Called with the number of each request, from 1: what happens to it.
        self.fault: Callable[[int], Fault | Reply | None] = lambda _: None

    @asynccontextmanager
    async def serve(self, tls: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
        """Serve; gives the endpoint's URL."""
        self.scheme = "http" if tls is None else "https"

        def connected() -> None:
            self.connections += 1

        async with serve(self.answer, tls, connected) as address:
            yield f"{self.scheme}://{address}"

    async def answer(self, request: Request) -> Reply:
        """Answer one request, or not."""
        self.requests.append(request)
        fault = self.fault(len(self.requests))
        if isinstance(fault, Reply):
            return fault
        if fault in _REFUSALS:
            return _REFUSALS[fault]
        if fault is Fault.HANG:
            await anyio.sleep_forever()
        if fault is Fault.RESET:
            raise ConnectionLostError
        reply = await self._served(request)
        if fault is Fault.LOST:
            raise ConnectionLostError
        if fault is Fault.LATE:
            await anyio.sleep(self.delay)
        return _spoilt(reply, fault)

    async def _served(self, request: Request) -> Reply:
        found = list(self._violations(request))
        if found:
            self.violations += found
            return error(400, "InvalidParameterValueException", f"{len(found)} validation errors: {found}")
        name, arn, parameters = _parse(request)
        try:
            if name == "CheckpointDurableExecution":
                body = await self._checkpoint(arn, request.body)
            else:
                body = await self._state(arn, parameters)
        except ServiceError as refused:
            text = str(refused).removeprefix(f"{refused.code}: ")
            return error(_status_of(refused), refused.code or "InvalidParameterValueException", text)
        self.violations += violations(operation(name).output_shape, json.loads(body), f"answer of {name}")
        return Reply(body)

    async def _checkpoint(self, arn: str, body: bytes) -> bytes:
        asked = CHECKPOINT_REQUEST.decode(body)
        assert asked.client_token is not None
        answer = await self._service.checkpoint(arn, asked.checkpoint_token, asked.updates, asked.client_token)
        operations = answer.new_execution_state.operations
        if self._answer_page is not None and len(operations) > self._answer_page:
            marker = f"rest-{len(self._rest)}"
            self._rest[marker] = operations[self._answer_page :]
            state = CheckpointUpdatedExecutionState(operations=operations[: self._answer_page], next_marker=marker)
            answer = msgspec.structs.replace(answer, new_execution_state=state)
        return CHECKPOINT_RESPONSE.encode(answer)

    async def _state(self, arn: str, parameters: dict[str, Any]) -> bytes:
        marker = parameters.get("Marker", "")
        if marker in self._rest:
            operations = self._rest[marker]
            return STATE_RESPONSE.encode(GetDurableExecutionStateResponse(operations=operations))
        page = await self._service.get_state(
            arn, parameters["CheckpointToken"], marker, parameters.get("MaxItems", 100)
        )
        return STATE_RESPONSE.encode(page)

    def _violations(self, request: Request) -> Iterator[str]:
        """What is wrong with a request, before the service looks at it."""
        if not request.target.startswith(_PREFIX):
            yield f"{request.target} is not in origin form, or none of the paths"
            return
        if not is_signed(
            request.method,
            f"{self.scheme}://{request.headers['host']}{request.target}",
            request.headers,
            request.body,
        ):
            yield "the signature is not of this request"
        arn = urlsplit(request.target).path.removeprefix(_PREFIX).rpartition("/")[0]
        if set(arn) & set("/:$"):
            yield f"the ARN is not percent-encoded: {arn}"
        name, decoded, parameters = _parse(request)
        sent = {"DurableExecutionArn": decoded, **parameters}
        if request.method == "POST":
            sent |= json.loads(request.body)
        elif request.body:
            yield "a GET has a body"
        yield from violations(operation(name).input_shape, sent, name)


def _parse(request: Request) -> tuple[str, str, dict[str, Any]]:
    """The operation, the execution, and what the query says."""
    parts = urlsplit(request.target)
    arn, _, verb = parts.path.removeprefix(_PREFIX).rpartition("/")
    parameters: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "MaxItems" in parameters:
        parameters["MaxItems"] = int(parameters["MaxItems"])
    return _OPERATIONS[request.method, verb], unquote(arn), parameters


def error(status: int, code: str, message: str, **more: str) -> Reply:
    """An error as Lambda answers it."""
    body = json.dumps({"Type": "User", "message": message, **more}).encode()
    return Reply(body, status, (("Content-Type", "application/json"), ("X-Amzn-Errortype", code)))


def _status_of(refused: ServiceError) -> int:
    """As AWS answers it: what is worth a repeat is 429 or 500, but for a stale token."""
    if not refused.retryable or isinstance(refused, StaleTokenError):
        return 502 if (refused.code or "").startswith("KMS") else 400
    return 429 if refused.code == "TooManyRequestsException" else 500


_REFUSALS: dict[Fault | None, Reply] = {
    Fault.THROTTLED: error(429, "TooManyRequestsException", "Rate exceeded", Reason="CallerRateLimitExceeded"),
    Fault.FAILED: error(500, "ServiceException", "An error occurred"),
    Fault.UNAVAILABLE: Reply(b"<html><body>503</body></html>", 503, (("Content-Type", "text/html"),)),
}


def _spoilt(reply: Reply, fault: Fault | None) -> Reply:
    """An answer, as it is sent."""
    if fault is Fault.GARBLED:
        return reply._replace(body=reply.body[:-3])
    if fault is Fault.CLOSED:
        return reply._replace(headers=(*reply.headers, ("Connection", "close")))
    return reply._replace(times=2) if fault is Fault.TWICE else reply
