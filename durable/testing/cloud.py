"""Executions of a test on a function that is deployed: on AWS Lambda, or on whatever speaks as it does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

from .._kernel.rebuild import operations_of
from .._wire import ErrorObject, Operation, OperationType, OperationUpdate
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..aws.control import ControlClient, open_control, record_of
from ..exceptions import NotDurableError
from ..function import DurableFunction
from ..local.machine.execution import name_of
from .history import History
from .target import NotOnTargetError, Started, StuckError, Target, open_ends

SCHEME: Final = "aws:"

POLL: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between looks at an execution in which nothing changes; the last one repeats."""

_GO_ON_BY_THEMSELVES: Final = {OperationType.WAIT, OperationType.STEP}


class CloudTarget(Target):
    """A deployed function.

    Args:
        control: What asks of the service.
        function: The function's name, with a version or an alias as AWS wants it.
        patience: Seconds that an execution may wait for the outside alone before it counts as stuck.
    """

    def __init__(self, control: ControlClient, function: str, patience: float) -> None:
        self.control = control
        self.function = function
        self.patience = patience

    def __str__(self) -> str:
        return f"{SCHEME}{self.function}"

    async def start(
        self, function: DurableFunction[Any, Any], event: Any, name: str | None, history: History | None
    ) -> Started:
        """Start an execution of the deployed function.

        Raises:
            NotOnTargetError: It is to begin with a history.
            NotDurableError: The function that is deployed is none that is durable.
            ServiceError: The service refuses the call.
        """
        if history is not None:
            raise NotOnTargetError("an execution that begins with a history", str(self))
        arn = await self.control.start(self.function, await function.dump_input(event), name=name)
        if arn is None:
            raise NotDurableError(self.function, "the function that is deployed was invoked as an ordinary one")
        return CloudStarted(self, arn, function)

    async def succeed_callback(self, callback_id: str, result: str) -> None:
        """Complete a callback with text."""
        await self.control.succeed_callback(callback_id, result)

    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Fail a callback."""
        await self.control.fail_callback(callback_id, error)

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is alive."""
        await self.control.heartbeat_callback(callback_id)


class CloudStarted(Started):
    """One execution of a deployed function."""

    def __init__(self, target: CloudTarget, arn: str, function: DurableFunction[Any, Any]) -> None:
        self._target = target
        self.arn = arn
        self.name = name_of(arn)
        self.function = function

    async def wait(self) -> ExecutionRecord:
        """The execution as it ended."""
        async for _ in self.changes():
            pass
        return await self.record()

    async def record(self) -> ExecutionRecord:
        """The execution as it stands."""
        return record_of(await self._target.control.execution(self.arn), self.function.name)

    async def operations(self) -> Sequence[Operation]:
        """What is recorded, as far as events tell it."""
        return operations_of(await self.history())

    async def history(self) -> Sequence[Event]:
        """What has happened."""
        return await self._target.control.history(self.arn)

    async def changes(self) -> AsyncGenerator[None]:
        """Whenever something may have changed."""
        events: list[Event] = []
        unchanged = 0
        since = anyio.current_time()
        while True:
            is_over = (await self.record()).status.is_over
            news = await self._target.control.history(self.arn, len(events))
            if news or is_over or not events:
                events.extend(news)
                unchanged = 0
                since = anyio.current_time()
                yield
            if is_over:
                return
            if anyio.current_time() - since > self._target.patience:
                self._check_goes_on(operations_of(events))
            await anyio.sleep(POLL[min(unchanged, len(POLL) - 1)])
            unchanged += 1

    def _check_goes_on(self, operations: Sequence[Operation]) -> None:
        """Raise if only the outside can bring something about."""
        ends = open_ends(operations)
        by_itself = any(
            operation.type in _GO_ON_BY_THEMSELVES and not operation.is_final for operation in operations
        )
        if ends and not by_itself:
            raise StuckError(self.name, ends)

    @property
    def calls(self) -> Sequence[Sequence[OperationUpdate]]:
        """Nobody sees them."""
        raise NotOnTargetError("looking at what was recorded call by call", str(self._target))


@asynccontextmanager
async def open_cloud(
    target: str, function: DurableFunction[Any, Any], patience: float
) -> AsyncGenerator[CloudTarget]:
    """Open a target that is named `aws:FUNCTION`.

    Credentials, region and endpoint are looked up as every AWS SDK does (`AWS_ENDPOINT_URL_LAMBDA`, `AWS_PROFILE`).

    Args:
        target: `{name}` in it stands for the name of the durable function.
        function: The durable function.
        patience: See `CloudTarget`.

    Raises:
        ValueError: It is named otherwise.
    """
    name = target.removeprefix(SCHEME).replace("{name}", function.name)
    if not target.startswith(SCHEME) or not name:
        raise ValueError(f"{target!r} is no target: it is aws:FUNCTION, as in --durable-target aws:book-trip:live")
    async with open_control() as control:
        yield CloudTarget(control, name, patience)
