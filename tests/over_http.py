"""The same executions, with AWS's own client and real HTTP between the engine and the service.

With `--over-http` a `Harness` calls its service through here: one endpoint and one client for each test, opened by
its first call. What the client sends, and what it is answered, is checked against botocore's model.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel

from durable._wire import OperationUpdate
from durable._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from durable.abc import ServiceClient
from durable.aws import open_client
from tests.aws.fake_lambda import FakeLambda


class Wire:
    """An endpoint and a client of it.

    Attributes:
        fake: The endpoint; the execution that a call names says which service is behind it.
    """

    def __init__(self) -> None:
        self._behind = _Behind()
        self.fake = FakeLambda(self._behind)
        self._client: ServiceClient | None = None
        self._opened = anyio.Event()
        # Calls that are on their way, and what is set when there is one again.
        self._calls = 0
        self._called = anyio.Event()

    def client_of(self, service: ServiceClient) -> ServiceClient:
        """A client of a service."""
        return _WiredClient(self, service)

    async def run(self) -> None:
        """Serve, and hold the time; until it is cancelled."""
        await self._called.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hold_time)
            async with self.fake.serve() as url, open_client(endpoint_url=url) as self._client:
                self._opened.set()
                await anyio.sleep_forever()

    async def _hold_time(self) -> None:
        """Whoever waits for a socket is blocked, but has not nothing to do: a skipping clock must not skip then."""
        while True:
            while self._calls:
                await anyio.lowlevel.checkpoint()
            self._called = anyio.Event()
            await self._called.wait()

    @contextmanager
    def _calling(self, arn: str, service: ServiceClient) -> Generator[None]:
        self._calls += 1
        self._called.set()
        try:
            with self._behind.used_for(arn, service):
                yield
        finally:
            self._calls -= 1

    async def opened(self) -> ServiceClient:
        """The client, once it is there."""
        await self._opened.wait()
        assert self._client is not None
        return self._client


class _WiredClient(ServiceClient):
    """Calls one service, the long way."""

    def __init__(self, wire: Wire, service: ServiceClient) -> None:
        self._wire = wire
        self._service = service

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        with self._wire._calling(arn, self._service):
            client = await self._wire.opened()
            return await client.checkpoint(arn, token, updates, client_token)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        with self._wire._calling(arn, self._service):
            client = await self._wire.opened()
            return await client.get_state(arn, token, marker, max_items)


class _Behind(ServiceClient):
    """The services behind an endpoint: each test's execution has one of its own."""

    def __init__(self) -> None:
        self._services: dict[str, ServiceClient] = {}
        self._calls: dict[str, int] = {}

    @contextmanager
    def used_for(self, arn: str, service: ServiceClient) -> Generator[None]:
        """Calls for this execution go to that service."""
        if self._calls.get(arn):
            assert self._services[arn] is service, f"two executions at once that are both called {arn}"
        self._services[arn] = service
        self._calls[arn] = self._calls.get(arn, 0) + 1
        try:
            yield
        finally:
            self._calls[arn] -= 1

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        return await self._services[arn].checkpoint(arn, token, updates, client_token)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        return await self._services[arn].get_state(arn, token, marker, max_items)


@asynccontextmanager
async def over_http() -> AsyncGenerator[Wire]:
    """Executions that are made in here are driven over HTTP; what violates the service's model fails the test."""
    wire = Wire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wire.run)
        yield wire
        tasks.cancel_scope.cancel()
    assert wire.fake.violations == []
