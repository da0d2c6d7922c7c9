"""A client of the application, as botocore's model makes requests and reads answers; without a socket."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, NamedTuple

import pytest
from botocore.awsrequest import prepare_request_dict  # type: ignore[import-untyped]
from botocore.parsers import create_parser  # type: ignore[import-untyped]
from botocore.serialize import create_serializer  # type: ignore[import-untyped]
from starlette.testclient import TestClient

from durable.abc import Clock
from durable.local import Engine, open_engine
from durable.server import make_app
from durable.testing import SkippingClock
from tests.aws.model import operation, violations
from tests.server.functions import DURABLE, double, fail


class ApiError(Exception):
    """An error that the server answered: its code, status and message."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.status = status
        self.message = message


class Answer(NamedTuple):
    """What was answered: parsed, and as it was."""

    parsed: dict[str, Any]
    raw: Any


class Api:
    """Calls operations of Lambda's API. What is answered must be what botocore's model says."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self._parser = create_parser("rest-json")
        self._serializer = create_serializer("rest-json")

    def answer(self, name: str, **parameters: Any) -> Answer:
        """Call an operation."""
        model = operation(name)
        request = self._serializer.serialize_to_request(parameters, model)
        prepare_request_dict(request, "http://127.0.0.1")
        raw = self.client.request(
            request["method"], request["url"], content=request["body"] or b"", headers=request["headers"]
        )
        streams = model.has_streaming_output and raw.status_code < 300
        body = io.BytesIO(raw.content) if streams else raw.content
        response = {"status_code": raw.status_code, "headers": raw.headers, "body": body}
        parsed = self._parser.parse(response, model.output_shape)
        if raw.status_code >= 400:
            raise ApiError(parsed["Error"]["Code"], raw.status_code, parsed["Error"]["Message"])
        if model.output_shape is not None and not streams and raw.content:
            assert list(violations(model.output_shape, json.loads(raw.content), name)) == []
        return Answer(parsed, raw)

    def __call__(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation; what it answers."""
        return self.answer(name, **parameters).parsed

    def invoke(self, function: str, payload: Any = None, **parameters: Any) -> Answer:
        """Invoke a function."""
        return self.answer("Invoke", FunctionName=function, Payload=json.dumps(payload).encode(), **parameters)

    def start(self, function: str, payload: Any = None, name: str | None = None) -> str:
        """Start an execution and wait for nothing; its ARN."""
        named = {} if name is None else {"DurableExecutionName": name}
        arn = self.invoke(function, payload, InvocationType="Event", **named).parsed["DurableExecutionArn"]
        assert isinstance(arn, str)
        return arn

    def run(self, function: str, payload: Any = None, name: str | None = None) -> str:
        """Start an execution and wait for its end; its ARN."""
        named = {} if name is None else {"DurableExecutionName": name}
        arn = self.invoke(function, payload, **named).parsed["DurableExecutionArn"]
        assert isinstance(arn, str)
        return arn


@asynccontextmanager
async def opened(clock: Clock | None = None, timeout: int | None = None) -> AsyncGenerator[Engine]:
    """An engine in memory that knows the functions; the executions may take so many seconds."""
    clock = clock or SkippingClock()
    async with open_engine(clock=clock, max_operations=50, execution_timeout=timeout) as engine:
        for function in DURABLE:
            engine.register(function)
        engine.register(double, "double")
        engine.register(fail, "fail")
        yield engine


@pytest.fixture(params=["asyncio", "trio"])
def client(request: pytest.FixtureRequest) -> Generator[TestClient]:
    """A client of the application, on each event loop."""
    with TestClient(make_app(opened), base_url="http://127.0.0.1", backend=request.param) as client:
        yield client


@contextmanager
def api_over(backend: Literal["asyncio", "trio"], **options: Any) -> Generator[Api]:
    """The operations of another application, over an engine with these options."""
    app = make_app(lambda: opened(**options))
    with TestClient(app, base_url="http://127.0.0.1", backend=backend) as client:
        yield Api(client)


@pytest.fixture
def api(client: TestClient) -> Api:
    """The operations of the application."""
    return Api(client)
