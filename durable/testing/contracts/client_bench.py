"""What a rule for clients has at hand: a service, a door in front of it, and the client that comes through it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, TypeAlias

import anyio

from ..._wire import Operation, OperationAction, OperationType, OperationUpdate, Timestamp
from ..._wire.calls import CheckpointDurableExecutionResponse, GetDurableExecutionStateResponse
from ...abc import ServiceClient
from ...exceptions import ServiceError
from ...local.outside import Outside
from ...local.service import LocalService
from ...local.stores.memory import MemoryStore
from ..clock import START, SkippingClock
from .log import record_of
from .rules import BrokenRuleError, RuleBook

Connect: TypeAlias = Callable[[ServiceClient], AbstractAsyncContextManager[ServiceClient]]

PAGES = 1_000
"""Pages after which nobody believes any more that they end."""

_BEGIN = Timestamp(START + 337)
"""When it begins: not at a whole second."""


class Call(NamedTuple):
    """A call that records, as it came through the door."""

    arn: str
    token: str
    updates: tuple[OperationUpdate, ...]
    client_token: str


class Door(ServiceClient):
    """Stands before the service: writes down what comes through, and can be shut.

    Attributes:
        calls: The calls that record, as they came.
        answers: What each of them was answered, as far as it was.
        pages: How many operations each call for a page has asked for.
        trouble: Called before a call is passed on: what it raises is the answer.
        loss: Called after that: the call has been carried out, and what this raises is the answer.
    """

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self.calls: list[Call] = []
        self.answers: list[CheckpointDurableExecutionResponse] = []
        self.pages: list[int] = []
        self.trouble: Callable[[], None] = lambda: None
        self.loss: Callable[[], None] = lambda: None
        self._is_shut = False
        # Set when a call comes that is held; and when those are let go.
        self._held = anyio.Event()
        self._let_go = anyio.Event()

    def shut(self) -> None:
        """Hold all calls from now on."""
        self._is_shut = True
        self._held, self._let_go = anyio.Event(), anyio.Event()

    def hold_no_more(self) -> None:
        """Let those through that come from now on."""
        self._is_shut = False

    def open(self) -> None:
        """Let calls come through again. Those that are held are refused: nobody waits for them any more."""
        self._is_shut = False
        self._let_go.set()

    async def wait_until_held(self) -> None:
        """Return when a call stands before the door."""
        await self._held.wait()

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates (see `ServiceClient.checkpoint`)."""
        self.calls.append(Call(arn, token, tuple(updates), client_token))
        await self._pass()
        answer = await self._service.checkpoint(arn, token, updates, client_token)
        self.loss()
        self.answers.append(answer)
        return answer

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page (see `ServiceClient.get_state`)."""
        self.pages.append(max_items)
        await self._pass()
        page = await self._service.get_state(arn, token, marker, max_items)
        self.loss()
        return page

    async def _pass(self) -> None:
        if self._is_shut:
            let_go = self._let_go
            self._held.set()
            await let_go.wait()
            raise unavailable()
        self.trouble()


class Caller:
    """A function's side of one execution, each call by hand, through the client.

    Attributes:
        arn: The execution.
        token: The token of the last answer, or of the invocation.
    """

    def __init__(self, bench: ClientBench, name: str) -> None:
        self._bench = bench
        self._calls = 0
        self.record = record_of(name, input='"in"', start_timestamp=bench.clock.now())
        self.arn = self.record.arn
        self.token = ""

    async def begin(self) -> None:
        """Begin another invocation."""
        event = await self._bench.service.begin_invocation(self.record.id)
        self.token = event.checkpoint_token

    async def call(
        self, *updates: OperationUpdate, token: str | None = None, client_token: str | None = None
    ) -> list[Operation]:
        """Record updates; gives what changed, all pages of it. The next call goes on with the token of the answer.

        Args:
            updates: They.
            token: Another one than the current one.
            client_token: Another one than the next.
        """
        self._calls += 1
        client = self._bench.client
        token = self.token if token is None else token
        answer = await client.checkpoint(self.arn, token, updates, client_token or f"call-{self._calls}")
        self.token = answer.checkpoint_token or ""
        changed = answer.new_execution_state
        return [*changed.operations, *await self.pages(changed.next_marker)]

    async def pages(self, marker: str | None, max_items: int = 1000) -> list[Operation]:
        """The operations of all pages from a marker on."""
        found: list[Operation] = []
        for _ in range(PAGES):
            if not marker:
                return found
            page = await self._bench.client.get_state(self.arn, self.token, marker, max_items)
            found += page.operations
            marker = page.next_marker
        raise BrokenRuleError("an end of the pages", f"{PAGES} pages and another marker, {marker!r}")

    async def recorded(self) -> list[Operation]:
        """What the service has."""
        loaded = await self._bench.store.load(self.record.id)
        return [] if loaded is None else list(loaded.operations)

    async def events(self) -> list[str]:
        """What has happened to operations, and to which, as the service has it."""
        found = await self._bench.store.events(self.record.id)
        return [f"{event.type} {event.operation_id}" for _, event in found if event.operation_id is not None]


class ClientBench:
    """A service, and a client of it, for one rule.

    Attributes:
        clock: The service's; it goes on when somebody sleeps.
        store: The service's.
        service: It.
        outside: What changes executions from outside.
        door: What the client reaches.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: ServiceClient | None = None
        self.clock = SkippingClock(_BEGIN)
        self.store = MemoryStore()
        self.service = LocalService(self.store, self.clock)
        self.outside = Outside(self.service)
        self.door = Door(self.service)

    @property
    def client(self) -> ServiceClient:
        """The client under test; it must be connected."""
        if self._client is None:
            raise LookupError("there is a client inside of `connected()`")
        return self._client

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[None]:
        """Have the client."""
        async with self._connect(self.door) as self._client:
            try:
                yield
            finally:
                self.door.open()

    async def start(self, name: str = "t-1") -> Caller:
        """Start an execution, and its first invocation."""
        caller = Caller(self, name)
        await self.service.create(caller.record)
        await caller.begin()
        return caller


ClientRules: TypeAlias = RuleBook[ClientBench]


def unavailable() -> ServiceError:
    """What is worth a repeat."""
    return ServiceError("Service Unavailable", code="ServiceException", retryable=True)


def throttled() -> ServiceError:
    """What is worth a repeat, later."""
    return ServiceError("Rate exceeded", code="TooManyRequestsException", retryable=True)


def update(kind: OperationType, action: OperationAction, operation_id: str, **fields: Any) -> OperationUpdate:
    """An update with an ordinary name and subtype."""
    sub_types = {OperationType.CONTEXT: "RunInChildContext", OperationType.CHAINED_INVOKE: "ChainedInvoke"}
    sub_type = None if kind is OperationType.EXECUTION else sub_types.get(kind, kind.title())
    ordinary: dict[str, Any] = {"name": operation_id, "sub_type": sub_type}
    return OperationUpdate(id=operation_id, type=kind, action=action, **(ordinary | fields))


def step(operation_id: str, payload: str | None = "1", **fields: Any) -> tuple[OperationUpdate, OperationUpdate]:
    """A step that succeeds, as it is recorded in one call."""
    return (
        update(OperationType.STEP, OperationAction.START, operation_id, **fields),
        update(OperationType.STEP, OperationAction.SUCCEED, operation_id, payload=payload, **fields),
    )
