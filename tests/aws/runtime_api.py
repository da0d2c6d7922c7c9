"""A Lambda Runtime API: hands out invocations, and takes what a runtime answers."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio

from durable._wire import ErrorObject, InvocationInput, InvocationOutput
from durable._wire.codec import INVOCATION_INPUT, INVOCATION_OUTPUT

from .http import Reply, Request, serve

_ROOT = "/2018-06-01/runtime/"


class Answer(NamedTuple):
    """What a runtime says: to which invocation, or of its own start; and whether that is an error."""

    request_id: str | None
    body: Any
    is_error: bool


class FakeRuntimeApi:
    """The API, and the platform behind it."""

    def __init__(self, seconds: float = 30) -> None:
        self._seconds = seconds
        self._events_in, self._events = anyio.create_memory_object_stream[bytes](100)
        self._answers_in, self._answers = anyio.create_memory_object_stream[Answer](100)
        self._numbers = 0
        # How often a runtime has asked for an invocation: one that asks again is warm.
        self.asked = 0

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        """Serve; gives `AWS_LAMBDA_RUNTIME_API`."""
        with self._events_in, self._events, self._answers_in, self._answers:
            async with serve(self._answer) as address:
                yield address

    async def invoke(self, event: bytes) -> Answer:
        """Hand out an invocation, and return what the runtime says to it."""
        await self._events_in.send(event)
        return await self._answers.receive()

    async def invoke_durable(self, event: InvocationInput) -> InvocationOutput | ErrorObject:
        """The same for a durable invocation."""
        answer = await self.invoke(INVOCATION_INPUT.encode(event))
        if answer.is_error:
            return ErrorObject(error_type=answer.body["errorType"], error_message=answer.body["errorMessage"])
        return INVOCATION_OUTPUT.convert(answer.body)

    async def started(self) -> Answer:
        """What a runtime says of its own start, when that fails."""
        return await self._answers.receive()

    async def _answer(self, request: Request) -> Reply:
        path = request.target.removeprefix(_ROOT)
        if path == "invocation/next":
            return await self._next()
        parts = path.split("/")
        if path == "init/error" or (parts[0] == "invocation" and parts[-1] in {"response", "error"}):
            request_id = parts[1] if parts[0] == "invocation" else None
            await self._answers_in.send(Answer(request_id, json.loads(request.body), parts[-1] == "error"))
            return Reply(b'{"status":"OK"}', 202)
        return Reply(b'{"errorMessage":"no such path"}', 404)

    async def _next(self) -> Reply:
        self.asked += 1
        event = await self._events.receive()
        self._numbers += 1
        deadline = int((time.time() + self._seconds) * 1000)
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": f"request-{self._numbers}",
            "Lambda-Runtime-Deadline-Ms": str(deadline),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        }
        return Reply(event, 200, tuple(headers.items()))
