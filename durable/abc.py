"""The ports: what the engine needs from the outside, and nothing of how it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

import msgspec

# What the ports speak of is theirs as well: whoever writes a store or a client imports it from here.
from ._wire import ErrorObject as ErrorObject
from ._wire import ExecutionStatus as ExecutionStatus
from ._wire import Operation as Operation
from ._wire import OperationUpdate as OperationUpdate
from ._wire import Timestamp as Timestamp
from ._wire.calls import CheckpointDurableExecutionResponse as CheckpointDurableExecutionResponse
from ._wire.calls import GetDurableExecutionStateResponse as GetDurableExecutionStateResponse
from ._wire.events import EventType as EventType


class ServiceClient(ABC):
    """The durable execution service as one invocation of a function sees it (PROTOCOL section 1).

    Nothing above this port knows which service answers: AWS, the embedded engine or a fake. Calls may be made at
    once, for one execution or several, and may be cancelled. `durable.testing.check_client` checks all this.

    Attributes:
        max_operations: How many operations an execution may have; `None` if there is no limit.
    """

    max_operations: int | None = None

    @abstractmethod
    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates, all or none, in order.

        Args:
            arn: The execution.
            token: From the invocation or from the last answer; good for one call.
            updates: At most 250. None at all is a poll for what changed.
            client_token: Repeating a call with the same one gets the first answer again.

        Returns:
            The next token, and the operations that changed.

        Raises:
            ServiceError: Not recorded, or nobody knows; `retryable` says whether repeating may help.
        """

    @abstractmethod
    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the execution's operations.

        Args:
            arn: The execution.
            token: The current checkpoint token; it stays good.
            marker: Where the page begins: `next_marker` of the page before.
            max_items: 1 to 1,000.

        Raises:
            ServiceError: `retryable` says whether repeating may help.
        """


class Serde(ABC):
    """How values become text in records, and text becomes values: in place of JSON by annotation.

    Either method may be a coroutine function. One that is not must not block: it is called on the event loop.

    What they raise becomes a `SerializationError` that says what was to be encoded or decoded. With one exception:
    an `OSError` while a record is decoded says that a storage cannot be reached. It is nothing that the workflow
    could decide upon, so it ends the invocation, which is repeated.

    `durable.serde.JsonSerde` is what is done without one, and a good part of another one. What is decoded is not
    always what was encoded here: a serde has to be able to read what its earlier versions have written.
    """

    @abstractmethod
    def encode(self, value: Any) -> str | Awaitable[str]:
        """Text of a value. It may be anything, but what tools show best is JSON.

        Args:
            value: What a step, a child or the function returned, or what it is called with.
        """

    @abstractmethod
    def decode(self, text: str, annotation: Any) -> Any:
        """The value of a text, or an awaitable of it.

        Args:
            text: What `encode` gave.
            annotation: The type that the function is annotated to return, or to take; `Any` without one.
        """

    def check(self, annotation: Any) -> None:  # noqa: B027 - not every serde can know
        """Raise if values of a type can never be decoded: asked before the function runs that is to return one."""


class Clock(ABC):
    """Wall-clock time, so that tests can skip it."""

    @abstractmethod
    def now(self) -> Timestamp:
        """Milliseconds since the epoch."""

    @abstractmethod
    async def sleep_until(self, when: int) -> None:
        """Return at or after `when`, in milliseconds since the epoch."""


class Caller(msgspec.Struct, frozen=True):
    """A chained invoke, as the execution that it started knows it.

    Attributes:
        execution_id: The execution that waits for the outcome.
        operation_id: The operation in it.
    """

    execution_id: str
    operation_id: str


class Pause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That somebody has paused an execution.

    Attributes:
        requested: When that was asked for.
        reason: Why.
        holds_timeout: Whether the execution's time limit is put off by the time that it is paused.
        since: When it took effect; `None` while an invocation is still under way.
    """

    requested: Timestamp
    reason: str | None = None
    holds_timeout: bool = True
    since: Timestamp | None = None


class ExecutionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One execution as a store keeps it.

    Attributes:
        id: Identifies it, and is the id of its EXECUTION operation.
        name: Chosen by whoever started it; unique in a store.
        arn: What the function knows it by.
        function: `MODULE_OR_FILE:FUNCTION`, to load the function again after a restart.
        status: Where it stands.
        start_timestamp: When it was started.
        input: JSON text.
        end_timestamp: When it ended.
        result: JSON text, if it succeeded.
        error: If it did not.
        invocations: How many invocations have begun.
        caller: The chained invoke that started it; `None` if it was started from outside.
        timeout: Seconds that it may take; `None` if there is no limit.
        put_off: By how many milliseconds pauses have put off that limit.
        pause: That it is paused, if it is.
        accepted: What was asked for, each with the asker's token, and when it was done: not again for a while.
    """

    id: str
    name: str
    arn: str
    function: str
    status: ExecutionStatus
    start_timestamp: Timestamp
    input: str | None = None
    end_timestamp: Timestamp | None = None
    result: str | None = None
    error: ErrorObject | None = None
    invocations: int = 0
    caller: Caller | None = None
    timeout: int | None = None
    put_off: int = 0
    pause: Pause | None = None
    accepted: Mapping[str, Timestamp] = {}


class EventRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One history event, without what its operation or its execution holds anyway.

    Attributes:
        type: What happened.
        timestamp: When.
        operation_id: To which operation; `None` for the execution itself.
        attempt: Which attempt of a step it was.
        delay: Seconds until the next attempt.
        error: Of an attempt that was tried again, or of an invocation that raised; final ones are in the operation.
        start: When the invocation that completed had begun; when a pause, or its end, was asked for.
        payload: The state of a check that is made again, what a step ends with is in the operation; why an
            execution was paused or resumed.
        holds_timeout: Of a pause: whether the execution's time limit is put off by it.
    """

    type: EventType
    timestamp: Timestamp
    operation_id: str | None = None
    attempt: int | None = None
    delay: int | None = None
    error: ErrorObject | None = None
    start: Timestamp | None = None
    payload: str | None = None
    holds_timeout: bool | None = None


class OperationExtra(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the service must know of an operation and the wire does not carry.

    Attributes:
        timeout: Of a callback: seconds it may take, if there is a limit.
        heartbeat: Of a callback: seconds between two signs of life, if there is a limit.
        timeout_at: When the first limit is reached.
        heartbeat_at: When the second is, unless a sign of life comes before.
        function: Of a chained invoke: whom it calls, as the caller named it.
        payload: With what, JSON text.
        tenant_id: On whose behalf.
        known: Whether a function of that name was registered when it was called.
        target: The function's target, if it is a durable one.
    """

    timeout: int | None = None
    heartbeat: int | None = None
    timeout_at: Timestamp | None = None
    heartbeat_at: Timestamp | None = None
    function: str = ""
    payload: str | None = None
    tenant_id: str | None = None
    known: bool = False
    target: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes different, all at once or not at all.

    Attributes:
        number: Which change of the execution it is, from 1 without gaps.
        execution: The execution, if it changed itself.
        operations: Each changed operation, whole.
        first_event: The number of the first of `events`, from 1 without gaps.
        events: What happened, in order.
        extras: What the wire does not carry of an operation, where that changed; whole, by the operation's id.
    """

    number: int = 1
    execution: ExecutionRecord | None = None
    operations: Sequence[Operation] = ()
    first_event: int = 1
    events: Sequence[EventRecord] = ()
    extras: Mapping[str, OperationExtra] = {}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as it was committed.

    Attributes:
        execution: The execution.
        operations: Its operations, in the order of their first record.
        events: How many events it has.
        changes: How many changes it has had.
        extras: What the wire does not carry of its operations, by their ids.
    """

    execution: ExecutionRecord
    operations: Sequence[Operation]
    events: int
    changes: int
    extras: Mapping[str, OperationExtra] = {}


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions of a function somebody wants to see.

    Attributes:
        function: The function's target, `MODULE_OR_FILE:FUNCTION`.
        statuses: Only of these statuses; all, if there are none.
        name: Only the one of this name.
        started_after: Only those that were started after this.
        started_before: Only those that were started before this.
        oldest_first: In which order.
        position: Where the page before ended (see `Page`); 0 for the first one.
        limit: How many at most.
    """

    function: str
    statuses: Sequence[ExecutionStatus] = ()
    name: str | None = None
    started_after: Timestamp | None = None
    started_before: Timestamp | None = None
    oldest_first: bool = False
    position: int = 0
    limit: int = 100

    def fits(self, record: ExecutionRecord) -> bool:
        """Whether an execution is among those, wherever the page begins."""
        return (
            record.function == self.function
            and (not self.statuses or record.status in self.statuses)
            and (self.name is None or record.name == self.name)
            and (self.started_after is None or record.start_timestamp > self.started_after)
            and (self.started_before is None or record.start_timestamp < self.started_before)
        )


class Page(msgspec.Struct, frozen=True):
    """A page of a listing.

    Attributes:
        records: The executions, without their inputs.
        position: Where it ended, for the next one; `None` if there is none.
    """

    records: Sequence[ExecutionRecord]
    position: int | None


class Inbox(ABC):
    """Where others leave requests for the engine that has a store."""

    @abstractmethod
    async def requests(self) -> Sequence[tuple[int, str]]:
        """Those that have no reply yet, with their numbers, oldest first. Cheap where there are none.

        Raises:
            StoreError: They could not be read.
        """

    @abstractmethod
    async def reply(self, number: int, text: str) -> None:
        """Reply to a request; it is not among `requests` any more.

        Raises:
            StoreError: It could not be written.
        """


class Store(ABC):
    """Where the embedded engine keeps executions. What a method has returned from is durable.

    Of a change whose call is cancelled all is applied or nothing, and nothing of it after a later call. Whoever
    commits to an execution has created or loaded it before. `durable.testing.check_store` checks all this.

    Attributes:
        inbox: Where others leave requests for the engine; `None` if the store can have none.
    """

    inbox: Inbox | None = None

    @abstractmethod
    async def create(self, change: Change) -> None:
        """Add an execution.

        Raises:
            ExecutionExistsError: Its name is taken.
            StoreError: It could not be kept.
        """

    @abstractmethod
    async def commit(self, execution_id: str, change: Change) -> None:
        """Apply a change, all of it or nothing. Changes of one execution are applied in the order of the calls.

        Raises:
            StoreError: It was not applied: there is no such execution, or it could not be kept.
        """

    @abstractmethod
    async def find(self, name: str) -> ExecutionRecord | None:
        """The execution of this name; sees every change committed before."""

    @abstractmethod
    async def executions(self, status: ExecutionStatus | None = None) -> Sequence[ExecutionRecord]:
        """All executions, or those of one status; oldest first."""

    @abstractmethod
    async def listing(self, wanted: Listing) -> Page:
        """A page of the executions of one function, in the order in which they were started."""

    @abstractmethod
    async def load(self, execution_id: str) -> Loaded | None:
        """An execution with its operations, in the order of their first record."""

    @abstractmethod
    async def events(self, execution_id: str, after: int = 0) -> Sequence[tuple[int, EventRecord]]:
        """An execution's history with its numbers, from the one after `after`.

        Raises:
            ExecutionNotFoundError: There is no such execution.
        """

    @abstractmethod
    async def delete(self, execution_id: str) -> None:
        """Remove an execution and all that is kept of it; its name is free then. One that is not there is no error.

        Raises:
            StoreError: It was not removed.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Finish what is under way and let go of everything. A store that is closed may be closed again."""
