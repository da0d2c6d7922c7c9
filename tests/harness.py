"""One execution on the in-memory service, in virtual time, invocation by invocation."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from durable import DurableFunction
from durable._wire import (
    ErrorObject,
    ExecutionStatus,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationUpdate,
)
from durable._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from durable.abc import ExecutionRecord, ServiceClient
from durable.local.service import LocalService
from durable.local.stores.memory import MemoryStore
from durable.testing import SkippingClock

between_var: ContextVar[Callable[[ServiceClient], ServiceClient]] = ContextVar("between")
"""What is between the engine and the service, if anything: given the service, the client that calls it."""


def crash_points(after: int = 0) -> Iterator[int]:
    """The calls at which a sweep crashes, one a run, until there is none: every one, in process.

    Over HTTP that would take too long, and show little more than with gaps that grow: 1, 3, 9, 27, ...
    """
    if between_var.get(None) is None:
        return itertools.count(after + 1)
    return (after + 3**power for power in itertools.count())


class CrashError(Exception):
    """The process is gone. Each is noted where DURABLE_CRASHES says: how many there are is counted."""

    def __init__(self) -> None:
        super().__init__()
        if path := os.environ.get("DURABLE_CRASHES"):
            with Path(path).open("a") as lines:
                lines.write(f"{os.environ.get('PYTEST_CURRENT_TEST', '').partition(' ')[0]}\n")


class RecordingClient(ServiceClient):
    """Passes calls on, remembers them, and lets a test come between."""

    def __init__(self, service: ServiceClient) -> None:
        self.service = service
        self.calls: list[Sequence[OperationUpdate]] = []
        # Called with the number of the call, from 1, before it is sent and after it was applied.
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        self.calls.append(tuple(updates))
        number = len(self.calls)
        self.before(number)
        answer = await self.service.checkpoint(arn, token, updates, client_token)
        self.after(number)
        return answer

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        return await self.service.get_state(arn, token, marker, max_items)


class SlowClient(ServiceClient):
    """Takes some turns of the event loop for each call, as a network does: others go on meanwhile."""

    def __init__(self, service: ServiceClient, turns: int) -> None:
        self._service = service
        self._turns = turns

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        for _ in range(self._turns):
            await anyio.lowlevel.checkpoint()
        return await self._service.checkpoint(arn, token, updates, client_token)

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        return await self._service.get_state(arn, token, marker, max_items)


class Harness:
    """Starts an execution of a function and drives it."""

    def __init__(
        self, function: DurableFunction[Any, Any], event: Any = None, *, name: str = "t-1", page_size: int = 1000
    ) -> None:
        self.function = function
        self.clock = SkippingClock()
        self.store = MemoryStore()
        self.service = LocalService(self.store, self.clock, page_size=page_size)
        between = between_var.get(None)
        self.client = RecordingClient(self.service if between is None else between(self.service))
        self.invocations = 0
        self.record = ExecutionRecord(
            id=f"id-of-{name}",
            name=name,
            arn=f"arn:aws:lambda:eu-west-1:123456789012:function:f:1/durable-execution/{name}/id-of-{name}",
            function="tests:f",
            status=ExecutionStatus.RUNNING,
            start_timestamp=self.clock.now(),
            input=function.encode_input(event) if function._options.serde is None else None,
        )
        self._event = event
        self._created = False
        self._scope = anyio.CancelScope()

    @property
    def calls(self) -> list[list[str]]:
        """Each call to the service, as the updates it carried: `STEP START name`."""
        return [[f"{update.type} {update.action} {update.name}" for update in call] for call in self.client.calls]

    async def crash_now(self) -> None:
        """From inside the function: the process dies here."""
        self._scope.cancel()
        await anyio.sleep_forever()

    async def invoke(self, function: DurableFunction[Any, Any] | None = None) -> InvocationOutput:
        """One invocation, and what the service makes of it."""
        if not self._created:
            self._created = True
            if self.function._options.serde is not None:
                self.record = msgspec.structs.replace(
                    self.record, input=await self.function.dump_input(self._event)
                )
            await self.service.create(self.record)
        self.invocations += 1
        event = await self.service.begin_invocation(self.record.id)
        with anyio.CancelScope() as self._scope:
            output = await (function or self.function).invoke(event, self.client, clock=self.clock)
            makes_sense = await self.service.end_invocation(self.record.id, output)
            assert makes_sense, "PENDING was answered although nothing is pending"
            return output
        raise CrashError

    async def outcome(self) -> InvocationOutput:
        """Invoke until the execution is over."""
        while True:
            output = await self.invoke()
            if output.status is not InvocationStatus.PENDING:
                return output
            due = await self.service.next_due(self.record.id)
            if due is not None:
                await self.clock.sleep_until(due)

    async def result(self) -> Any:
        """The result of the execution; what it failed with is raised."""
        output = await self.outcome()
        if output.status is InvocationStatus.FAILED:
            raise self.function.decode_error(output.error)
        return await self.function.load_result(output.result)

    async def error(self) -> Exception:
        """What the execution failed with."""
        output = await self.outcome()
        assert output.status is InvocationStatus.FAILED, output
        return self.function.decode_error(output.error or ErrorObject())

    async def ended(self) -> ExecutionRecord:
        """The execution as the service has it."""
        return await self.service.record(self.record.id)

    def operations(self) -> list[Operation]:
        """Everything that is recorded, in order."""
        return list(self.store._kept[self.record.id].operations.values())

    def operation(self, name: str) -> Operation:
        """The first operation of that name."""
        return next(operation for operation in self.operations() if operation.name == name)
