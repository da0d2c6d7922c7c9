"""Where a test's executions run: the embedded engine in virtual time, or a function that is deployed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from .._wire import ErrorObject, Operation, OperationStatus, OperationUpdate
from .._wire.events import Event
from ..abc import ExecutionRecord
from ..exceptions import DurableError
from ..function import DurableFunction
from .history import History


class StuckError(DurableError, AssertionError):
    """Nothing goes on any more, and the execution is not over: it waits for what the test does not do."""

    def __init__(self, name: str, waits_for: Sequence[str]) -> None:
        what = "; ".join(waits_for) or "the outside"
        super().__init__(
            f"execution {name!r} is not over and nothing goes on: it waits for {what}. Complete a callback with "
            "`await (await run.callback(NAME)).succeed(...)` or t.on_callback(NAME, ...); a function that it "
            "invokes is known by t.register(...) or t.stub_invoke(NAME, ...)"
        )


class Started(ABC):
    """One execution, as a test has it.

    Attributes:
        name: Its name.
        arn: What its function knows it by.
        function: Its function.
    """

    name: str
    arn: str
    function: DurableFunction[Any, Any]

    @abstractmethod
    async def wait(self) -> ExecutionRecord:
        """The execution as it ended.

        Raises:
            StuckError: It does not go on by itself.
            DurableError: Nothing more is heard of it.
        """

    @abstractmethod
    async def record(self) -> ExecutionRecord:
        """The execution as it stands."""

    @abstractmethod
    async def operations(self) -> Sequence[Operation]:
        """What is recorded, in the order of the first record; without the EXECUTION itself."""

    @abstractmethod
    async def history(self) -> Sequence[Event]:
        """What has happened, in order."""

    @abstractmethod
    def changes(self) -> AsyncGenerator[None]:
        """Yields at once, and then whenever something may have changed, until the execution is over.

        Raises:
            StuckError: It does not go on by itself.
        """

    @property
    @abstractmethod
    def calls(self) -> Sequence[Sequence[OperationUpdate]]:
        """The calls by which it recorded something, as the updates that each carried.

        Raises:
            NotOnTargetError: It runs where nobody sees them.
        """


class Target(ABC):
    """Where executions run."""

    @abstractmethod
    async def start(
        self, function: DurableFunction[Any, Any], event: Any, name: str | None, history: History | None
    ) -> Started:
        """Start an execution.

        Args:
            function: Its function.
            event: Its input.
            name: Its name; made up if not given.
            history: What it has recorded already.
        """

    @abstractmethod
    async def succeed_callback(self, callback_id: str, result: str) -> None:
        """Complete a callback with text."""

    @abstractmethod
    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Fail a callback."""

    @abstractmethod
    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is alive."""


class NotOnTargetError(DurableError, RuntimeError):
    """A test wants something that the place where its executions run does not offer."""

    def __init__(self, what: str, target: str) -> None:
        super().__init__(
            f"{what} is not possible with executions that run on {target}: it needs the embedded engine. "
            "Leave the test out there, as with `@pytest.mark.skipif`, or run it without --durable-target"
        )


def open_ends(operations: Sequence[Operation]) -> list[str]:
    """What operations wait for that only the outside can bring about, for people."""
    kinds = {"CALLBACK": "callback", "CHAINED_INVOKE": "invoke"}
    return [
        f"{kinds[operation.type]} {operation.name!r}"
        for operation in operations
        if operation.type in kinds and operation.status is OperationStatus.STARTED
    ]
