"""The service, in process: executions, tokens, and what an invocation begins and ends with.

Whatever is answered has been committed to the store before. The state in memory goes forward only after the
commit; if that fails, or whoever waited for it was cancelled, the state is dropped and read again from the store.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import msgspec

from .._wire import (
    ErrorObject,
    ExecutionStatus,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationUpdate,
    Timestamp,
)
from .._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from .._wire.events import Event, EventType
from .._wire.invocation import InitialExecutionState
from .._wire.limits import MAX_STATE_PAGE
from ..abc import Change, Clock, EventRecord, ExecutionRecord, Loaded, ServiceClient, Store
from ..exceptions import ExecutionNotFoundError, ServiceError, StaleTokenError
from .machine import execution
from .machine.history import event_of
from .machine.rules import RefusedUpdateError
from .machine.state import ExecutionState, Transition
from .tokens import Token

_MARKER: Final = re.compile(r"[0-9]{1,9}")
"""Where a page begins: the number of its first operation."""


class _Live:
    """An execution that is in memory."""

    __slots__ = (
        "answer",
        "answered",
        "began",
        "call",
        "elapsed",
        "held",
        "last_token",
        "released",
        "state",
        "token",
    )

    def __init__(self, state: ExecutionState) -> None:
        self.state = state
        # Whether somebody has it to himself, and what to tell those who wait for it. One flag and not a lock: a
        # call to the service is mostly this.
        self.held = False
        self.released: anyio.Event | None = None
        # The only token that is good now, and the number of the call it is good for; no token when no invocation is
        # under way.
        self.token: str | None = None
        self.call = 0
        # The token before, for a repeat of the last call.
        self.last_token: str | None = None
        # The ClientToken of the last call, and what was answered.
        self.answered: str | None = None
        self.answer: CheckpointDurableExecutionResponse | None = None
        self.began = Timestamp(0)
        # Whether the last answer told of something that had fallen due.
        self.elapsed = False

    def release(self) -> None:
        """Let the next one have it."""
        self.held = False
        if self.released is not None:
            self.released.set()
            self.released = None


class LocalService(ServiceClient):
    """The durable execution service over a store.

    Args:
        store: Where executions are kept.
        clock: What time it is.
        page_size: How many operations go into an invocation's event, and into a page of the state.
    """

    def __init__(self, store: Store, clock: Clock, *, page_size: int = MAX_STATE_PAGE) -> None:
        self._store = store
        self._clock = clock
        self._page_size = page_size
        self._live: dict[str, _Live] = {}
        # Set and replaced whenever an execution has new events; one for all who follow it.
        self._news: dict[str, anyio.Event] = {}

    # --- What a function calls -------------------------------------------------------------------------------

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        """Record updates, all or none, in order (see `ServiceClient.checkpoint`)."""
        # The hot path: acquired and released by hand, as a context manager's own frames cost as much as a step.
        live = await self._acquire_by_arn(arn)
        try:
            return await self._checkpoint(live, token, updates, client_token)
        finally:
            live.release()

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        """One page of the execution's operations (see `ServiceClient.get_state`)."""
        live = await self._acquire_by_arn(arn)
        try:
            self._check_token(live, token)
            if not 1 <= max_items <= MAX_STATE_PAGE:
                raise RefusedUpdateError(f"MaxItems is 1 to {MAX_STATE_PAGE}")
            if marker and _MARKER.fullmatch(marker) is None:
                raise RefusedUpdateError("the Marker is none of this service's")
            page, next_marker = self._page(live.state, int(marker or "0"), max_items)
            return GetDurableExecutionStateResponse(operations=page, next_marker=next_marker)
        finally:
            live.release()

    # --- What the engine calls -------------------------------------------------------------------------------

    async def create(self, record: ExecutionRecord) -> None:
        """Start an execution: it exists when this returns.

        Raises:
            ExecutionExistsError: Its name is taken.
        """
        events = [EventRecord(EventType.EXECUTION_STARTED, record.start_timestamp)]
        await self._store.create(Change(execution=record, events=events))
        loaded = Loaded(execution=record, operations=(), events=len(events), changes=1)
        self._live[record.id] = _Live(ExecutionState(loaded))
        self.tell(record.id)

    async def record(self, execution_id: str) -> ExecutionRecord:
        """The execution as it stands.

        Raises:
            ExecutionNotFoundError: There is none.
        """
        async with self._held(execution_id) as live:
            return live.state.record

    async def begin_invocation(self, execution_id: str) -> InvocationInput:
        """The event of the next invocation. Every token given out before is stale from now on."""
        async with self._held(execution_id) as live:
            state = live.state
            now = self._clock.now()
            forward = Transition()
            state.advance(now, forward)
            record = state.record
            forward.record = msgspec.structs.replace(record, invocations=record.invocations + 1)
            await self._commit(live, forward)
            live.call = 0
            token = Token(execution_id, forward.record.invocations, 0).encode()
            live.token, live.last_token = token, None
            live.answered = live.answer = None
            live.elapsed = False
            live.began = now
            page, marker = self._page(state, 0, self._page_size)
            return InvocationInput(
                durable_execution_arn=record.arn,
                checkpoint_token=token,
                initial_execution_state=InitialExecutionState(operations=page, next_marker=marker),
                updated_operation_ids=tuple(forward.operations) or None,
            )

    async def end_invocation(
        self, execution_id: str, outcome: InvocationOutput | ErrorObject, *, accept_idle: bool = True
    ) -> bool:
        """Take an invocation's answer, or the error it raised instead.

        Args:
            execution_id: The execution.
            outcome: What it answered, or what it raised.
            accept_idle: Whether PENDING without anything pending is let pass, for another try.

        Returns:
            Whether the execution is over or waits for something that is recorded: the answer made sense.
        """
        async with self._held(execution_id) as live:
            state = live.state
            now = self._clock.now()
            raised = outcome if isinstance(outcome, ErrorObject) else None
            forward = Transition()
            forward.events.append(EventRecord(EventType.INVOCATION_COMPLETED, now, error=raised, start=live.began))
            # No time passes here: what the invocation waits for may have fallen due by now. The next one is told.
            makes_sense = raised is None
            if isinstance(outcome, InvocationOutput) and not state.is_over:
                makes_sense = outcome.status is not InvocationStatus.PENDING or state.is_waiting or live.elapsed
                self._finish(state, outcome, now, forward, let_pass=makes_sense or accept_idle)
            await self._commit(live, forward)
            live.token = live.last_token = None
            return makes_sense

    async def history(self, execution_id: str, after: int = 0) -> Sequence[Event]:
        """What has happened, after the event of that number."""
        kept = await self._store.events(execution_id, after)
        async with self._held(execution_id) as live:
            state = live.state
            return [event_of(number, event, state.record, state.operations) for number, event in kept]

    async def next_due(self, execution_id: str) -> Timestamp | None:
        """When there is a reason for the next invocation, if time alone brings one."""
        async with self._held(execution_id) as live:
            # What fell due while the last call was under way may have come too late for the invocation to see it.
            return self._clock.now() if live.elapsed else live.state.next_due

    def news(self, execution_id: str) -> anyio.Event:
        """Set when there are events after those that have been recorded by now."""
        return self._news.setdefault(execution_id, anyio.Event())

    def tell(self, execution_id: str) -> None:
        """Wake all who wait for news of an execution."""
        news = self._news.pop(execution_id, None)
        if news is not None:
            news.set()

    def forget(self, execution_id: str) -> None:
        """Let go of an execution's state in memory, unless an invocation needs it; it is read again on demand."""
        live = self._live.get(execution_id)
        if live is not None and not live.held and live.token is None:
            del self._live[execution_id]

    # --- Inside ----------------------------------------------------------------------------------------------

    async def _checkpoint(
        self, live: _Live, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        if live.answered == client_token and live.answer is not None and token == live.last_token:
            return live.answer
        self._check_token(live, token)
        state = live.state
        now = self._clock.now()
        forward = Transition()
        state.advance(now, forward)
        elapsed = bool(forward.operations)
        if updates:
            state.apply(updates, now, forward)
        if forward:
            await self._commit(live, forward)
        live.elapsed = elapsed
        live.call += 1
        live.last_token = token
        live.token = Token(state.record.id, state.record.invocations, live.call).encode()
        live.answered = client_token
        live.answer = CheckpointDurableExecutionResponse(
            checkpoint_token=None if state.is_over else live.token,
            new_execution_state=CheckpointUpdatedExecutionState(operations=tuple(forward.operations.values())),
        )
        return live.answer

    @asynccontextmanager
    async def _held(self, execution_id: str) -> AsyncGenerator[_Live]:
        """The execution, to oneself."""
        live = await self._acquire(execution_id)
        try:
            yield live
        finally:
            live.release()

    async def _acquire_by_arn(self, arn: str) -> _Live:
        """The execution that a function calls about, to oneself.

        Raises:
            ServiceError: There is none.
        """
        try:
            live = await self._acquire(arn.rpartition("/")[2])
        except ExecutionNotFoundError as error:
            raise ServiceError(
                f"there is no execution {arn}", code="ResourceNotFoundException", retryable=False
            ) from error
        if live.state.record.arn == arn:
            return live
        live.release()
        raise StaleTokenError("Invalid checkpoint token: it is another execution's")

    async def _acquire(self, execution_id: str) -> _Live:
        while True:
            live = self._live.get(execution_id) or await self._load(execution_id)
            if live.held:
                live.released = live.released or anyio.Event()
                await live.released.wait()
                continue
            live.held = True
            return live

    async def _load(self, execution_id: str) -> _Live:
        loaded = await self._store.load(execution_id)
        if loaded is None:
            raise ExecutionNotFoundError(execution_id)
        # Somebody else may have been faster.
        return self._live.setdefault(execution_id, _Live(ExecutionState(loaded)))

    async def _commit(self, live: _Live, forward: Transition) -> None:
        execution_id = live.state.record.id
        committed = False
        try:
            await self._store.commit(execution_id, live.state.change(forward))
            committed = True
        finally:
            if not committed:
                self._live.pop(execution_id, None)
            # Also then: if whoever waited was cancelled, it is committed all the same.
            self.tell(execution_id)
        live.state.take_over(forward)

    @staticmethod
    def _check_token(live: _Live, token: str) -> None:
        if token == live.token:
            return
        wanted = Token.decode(token)
        if wanted.execution_id != live.state.record.id:
            raise StaleTokenError("Invalid checkpoint token: it is another execution's")
        if wanted.invocation != live.state.record.invocations:
            raise StaleTokenError("Invalid checkpoint token: another invocation has begun")
        raise StaleTokenError("Invalid checkpoint token: it has been used")

    def _page(self, state: ExecutionState, begin: int, size: int) -> tuple[tuple[Operation, ...], str | None]:
        everything = [execution.operation_of(state.record), *state.visible()]
        end = begin + size
        return tuple(everything[begin:end]), str(end) if end < len(everything) else None

    @staticmethod
    def _finish(
        state: ExecutionState, outcome: InvocationOutput, now: Timestamp, forward: Transition, *, let_pass: bool
    ) -> None:
        if outcome.status is InvocationStatus.SUCCEEDED:
            end = execution.finish(state.record, now, ExecutionStatus.SUCCEEDED, result=outcome.result)
        elif outcome.status is InvocationStatus.FAILED:
            end = execution.finish(state.record, now, ExecutionStatus.FAILED, error=outcome.error)
        elif let_pass:
            return
        else:
            error = ErrorObject(
                error_type="InvalidPendingAnswer",
                error_message="the function answered PENDING although nothing is pending",
            )
            end = execution.finish(state.record, now, ExecutionStatus.FAILED, error=error)
        forward.record, event = end
        forward.events.append(event)
