"""One execution on the fake endpoint: the engine above, AWS's client between, real HTTP below."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest

from durable import DurableFunction, ServiceError
from durable._kernel.errors import encode_error
from durable._wire import InvocationOutput
from durable.abc import ServiceClient
from durable.aws import open_client
from durable.aws.untyped import AioConfig
from tests.aws.fake_lambda import FakeLambda
from tests.aws.model import KEY_ID, REGION, SECRET
from tests.harness import Harness, RecordingClient

READ_TIMEOUT = 0.3
"""Seconds that a client waits in tests of what is too late."""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEY_ID,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
"""What Lambda sets in a sandbox, and that nothing of this machine's is looked at."""


def enter_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials and a region, and nothing of the machine that the tests run on."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def impatient(**options: Any) -> Any:
    """A configuration that leaves all repeats to the journal, whose clock skips."""
    return AioConfig(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=READ_TIMEOUT, **options)


def arn_of(name: str) -> str:
    """An execution's ARN, as AWS has them."""
    return f"arn:aws:lambda:{REGION}:123456789012:function:f:$LATEST/durable-execution/{name}/id-of-{name}"


class Link(NamedTuple):
    """An endpoint that is served, and a client of it."""

    fake: FakeLambda
    client: ServiceClient


@asynccontextmanager
async def linked(fake: FakeLambda, config: Any = None) -> AsyncGenerator[Link]:
    """Serve an endpoint, and open a client of it; what violates the service's model fails the test."""
    async with fake.serve() as url, open_client(endpoint_url=url, config=config or impatient()) as client:
        yield Link(fake, client)
    assert fake.violations == []


class AwsHarness(Harness):
    """Drives an execution of a function over HTTP, and repeats invocations that raise, as Lambda does."""

    def __init__(self, function: DurableFunction[Any, Any], event: Any = None, **options: Any) -> None:
        answer_page = options.pop("answer_page", None)
        super().__init__(function, event, **options)
        self.record = msgspec.structs.replace(self.record, arn=arn_of(self.record.name))
        self.fake = FakeLambda(self.service, answer_page=answer_page)
        self.raised: list[ServiceError] = []

    @classmethod
    async def create(cls, function: DurableFunction[Any, Any], event: Any) -> AwsHarness:
        """One for an execution that is driven from another thread."""
        return cls(function, event)

    @asynccontextmanager
    async def connected(self, config: Any = None) -> AsyncGenerator[AwsHarness]:
        """Over HTTP from here on; what violates the service's model fails the test."""
        async with linked(self.fake, config) as link:
            self.go_over(link)
            yield self

    def go_over(self, link: Link) -> None:
        """Use an endpoint and a client that are there already."""
        fault = self.fake.fault
        link.fake.begin(self.service)
        link.fake.fault = fault
        self.fake = link.fake
        self.client = RecordingClient(link.client)

    async def invoke(self, function: DurableFunction[Any, Any] | None = None) -> InvocationOutput:
        """One invocation, and those that follow as it raised."""
        while True:
            try:
                return await super().invoke(function)
            except ServiceError as error:
                assert error.retryable
                self.raised.append(error)
                await self.service.end_invocation(self.record.id, encode_error(error))

    async def recorded(self) -> list[tuple[str, str | None, int | None]]:
        """What happened to each operation: the event, the operation, the attempt."""
        return [
            (event.type, event.operation_id, event.attempt)
            for _, event in await self.store.events(self.record.id)
            if event.operation_id is not None
        ]
