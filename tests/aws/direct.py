"""Executions that call the service by one client, directly or in botocore's own way, to be compared."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from durable import ServiceError
from durable.aws import open_client
from durable.aws.client import AwsClient
from durable.aws.session import PoolSession
from durable.aws.untyped import AioConfig
from tests.aws.flows import World, small_saga
from tests.aws.harness import READ_TIMEOUT, AwsHarness, arn_of
from tests.aws.http import Request

_PORT = re.compile(r"(?<=127\.0\.0\.1):[0-9]+")
OPERATION = "CheckpointDurableExecution"


class OtherSession(PoolSession):
    """Sends as ours does, but is not ours: calls go in botocore's own way."""


def by_botocore(**options: Any) -> Any:
    """A configuration under which no call goes directly."""
    return AioConfig(http_session_cls=OtherSession, read_timeout=READ_TIMEOUT, **options)


def directly(**options: Any) -> Any:
    """A configuration under which calls go directly."""
    return AioConfig(read_timeout=READ_TIMEOUT, **options)


class Execution:
    """One that makes a call after the other, each with the token that the one before has brought.

    Args:
        client: What it calls with.
        arn: Its ARN.
        token: Its first token.
    """

    def __init__(self, client: AwsClient, arn: str, token: str) -> None:
        self.client = client
        self.arn = arn
        self.token = token
        self.calls = 0

    async def call(self) -> None:
        """One call that records nothing."""
        answer = await self.client.checkpoint(self.arn, self.token, [], f"call-{self.calls + 1}")
        assert answer.checkpoint_token is not None
        self.token = answer.checkpoint_token
        self.calls += 1

    async def outcome(self) -> str:
        """What becomes of one call."""
        try:
            await self.call()
        except ServiceError as error:
            return f"{_PORT.sub('', str(error))} (invoke again: {error.retryable})"
        return "success"


class Calls:
    """A client, the endpoint that it calls, and executions that call it."""

    def __init__(self, harness: AwsHarness, client: AwsClient) -> None:
        self.harness = harness
        self.fake = harness.fake
        self.client = client
        self.events = client.lambda_client.meta.events
        # How many calls botocore has been asked to make.
        self.serialized = 0
        self.events.register("provide-client-params.lambda", self._count)

    def _count(self, **_: Any) -> None:
        self.serialized += 1

    async def execution(self, name: str = "t-1") -> Execution:
        """One that exists, and is being invoked."""
        record = msgspec.structs.replace(self.harness.record, id=f"id-of-{name}", name=name, arn=arn_of(name))
        await self.harness.service.create(record)
        event = await self.harness.service.begin_invocation(record.id)
        return Execution(self.client, record.arn, event.checkpoint_token)

    @property
    def requests(self) -> list[Request]:
        """Those that have come."""
        return self.fake.requests


@asynccontextmanager
async def calling(config: Any = None, **options: Any) -> AsyncGenerator[Calls]:
    """A client that calls directly, unless it is configured otherwise; what violates the model fails the test."""
    harness = AwsHarness(small_saga(World(), fails=False))
    async with (
        harness.fake.serve() as url,
        open_client(endpoint_url=url, config=config or directly(), **options) as client,
    ):
        yield Calls(harness, client)
    assert harness.fake.violations == []
