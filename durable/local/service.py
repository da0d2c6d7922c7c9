"""The service, in process: executions, tokens, and what an invocation begins and ends with.

Whatever is answered has been committed to the store before. The state in memory goes forward only after the
commit; if that fails, or whoever waited for it was cancelled, the state is dropped and read again from the store.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn

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
from ..abc import Change, Clock, EventRecord, ExecutionRecord, Loaded, OperationExtra, ServiceClient, Store
from ..exceptions import (
    DurableError,
    ExecutionConflictError,
    ExecutionNotFoundError,
    ServiceError,
    StaleTokenError,
)
from .live import Live
from .machine import execution
from .machine.history import event_of
from .machine.pausing import expires_at
from .machine.rules import RefusedUpdateError
from .machine.state import ExecutionState, Transition
from .tokens import Token


class PausedError(DurableError, RuntimeError):
    """An execution is not invoked, as it is paused: until somebody resumes it."""


_MARKER: Final = re.compile(r"[0-9]{1,9}")
"""Where a page begins: the number of its first operation."""


class LocalService(ServiceClient):
    """The durable execution service over a store.

    Args:
        store: Where executions are kept.
        clock: What time it is.
        page_size: How many operations go into an invocation's event, and into a page of the state.
        max_operations: How many operations an execution may have, the EXECUTION itself among them; `None` if there
            is no limit.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        page_size: int = MAX_STATE_PAGE,
        max_operations: int | None = None,
    ) -> None:
        self.max_operations = max_operations
        self._store = store
        self.clock = clock
        self._page_size = page_size
        self._live: dict[str, Live] = {}
        # Set and replaced whenever an execution has new events; one for all who follow it.
        self._news: dict[str, anyio.Event] = {}
        # Executions that may have changes of which the invocation was not told, as their state was dropped.
        self._unsure: set[str] = set()
        # Whoever runs executions over this service sets these.
        # What a function is that a chained invoke names, by that name and the caller's target: the callee's target,
        # "" if it is not durable, `None` if there is none.
        self.resolve: Callable[[str, str], str | None] = lambda _name, _caller: None
        # A chained invoke of that execution waits for its callee: it has just been started, or is taken up again.
        self.on_invoke: Callable[[str, str], None] = lambda _execution, _operation: None
        # The execution of that name was changed from outside: if it waits, it is to be invoked.
        self.on_change: Callable[[str], None] = lambda _: None
        # The execution of that name was stopped: its invocation is to be cancelled.
        self.on_stop: Callable[[str], None] = lambda _: None
        # That execution was deleted: nothing more is to be done about it.
        self.on_delete: Callable[[ExecutionRecord], None] = lambda _: None
        # The execution of that name times out at that time, unless that changes again.
        self.on_limit: Callable[[str, Timestamp], None] = lambda _name, _when: None

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
        self._live[record.id] = Live(ExecutionState(loaded))
        self.tell(record.id)

    async def record(self, execution_id: str) -> ExecutionRecord:
        """The execution as it stands.

        Raises:
            ExecutionNotFoundError: There is none.
        """
        async with self.held(execution_id) as live:
            return live.state.record

    async def begin_invocation(self, execution_id: str) -> InvocationInput:
        """The event of the next invocation. Every token given out before is stale from now on.

        Raises:
            StaleTokenError: The execution is over; somebody may just have stopped it.
            PausedError: It is paused. What time has brought is recorded.
        """
        async with self.held(execution_id) as live:
            state = live.state
            now = self.clock.now()
            await self.expire(live, now)
            self._check_running(state)
            forward = Transition()
            state.advance(now, forward)
            record = state.record
            if record.status.is_paused:
                await self._stay_paused(live, now, forward)
            forward.record = msgspec.structs.replace(record, invocations=record.invocations + 1)
            await self._commit(live, forward)
            live.call = 0
            token = Token(execution_id, forward.record.invocations, 0).encode()
            live.token, live.last_token = token, None
            live.answered = live.answer = None
            live.began = now
            changed = tuple({**live.untold, **forward.operations})
            live.untold.clear()
            live.told = live.revoked = False
            self._unsure.discard(execution_id)
            page, marker = self._page(state, 0, self._page_size)
            return InvocationInput(
                durable_execution_arn=record.arn,
                checkpoint_token=token,
                initial_execution_state=InitialExecutionState(operations=page, next_marker=marker),
                updated_operation_ids=changed or None,
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
        async with self.held(execution_id) as live:
            state = live.state
            now = self.clock.now()
            raised = outcome if isinstance(outcome, ErrorObject) else None
            forward = Transition()
            forward.events.append(EventRecord(EventType.INVOCATION_COMPLETED, now, error=raised, start=live.began))
            # No time passes here: what the invocation waits for may have fallen due by now. The next one is told.
            makes_sense = raised is None
            if isinstance(outcome, InvocationOutput) and not state.is_over and not live.revoked:
                makes_sense = (
                    outcome.status is not InvocationStatus.PENDING or state.is_waiting or self._has_changed(live)
                )
                ended = execution.answered(state.record, outcome, now, let_pass=makes_sense or accept_idle)
                if ended is not None:
                    forward.record = ended[0]
                    forward.events.append(ended[1])
            state.give_way(now, forward)
            await self._commit(live, forward)
            live.token = live.last_token = None
            return makes_sense

    async def history(self, execution_id: str, after: int = 0) -> Sequence[Event]:
        """What has happened, after the event of that number."""
        kept = await self._store.events(execution_id, after)
        async with self.held(execution_id) as live:
            state = live.state
            return [event_of(number, event, state.record, state.operations, state.extras) for number, event in kept]

    async def next_due(self, execution_id: str) -> Timestamp | None:
        """When there is a reason for the next invocation; `None` if only the outside can bring one."""
        async with self.held(execution_id) as live:
            if live.state.record.status.is_paused:  # time goes on, and what it brings is to be recorded
                return live.state.next_due
            # What changed while the last call was under way may have come too late for the invocation to see it.
            return self.clock.now() if self._has_changed(live) else live.state.next_due

    async def take_up(self, execution_id: str) -> None:
        """Tell who is to be called, for each chained invoke whose callee has not ended as far as this knows."""
        async with self.held(execution_id) as live:
            for operation_id in live.state.invokes:
                self.on_invoke(execution_id, operation_id)

    async def call(self, execution_id: str, operation_id: str) -> tuple[ExecutionRecord, OperationExtra] | None:
        """Who makes a chained invoke, and whom it calls; `None` when nobody waits for it any more."""
        async with self.held(execution_id) as live:
            state = live.state
            operation = state.operations.get(operation_id)
            if operation is None or state.why_closed(operation) is not None:
                return None
            return state.record, state.extra_of(operation_id)

    async def delete(self, execution_id: str) -> None:
        """Remove an execution that is over, with all that is kept of it.

        Raises:
            ExecutionNotFoundError: There is none.
            ExecutionConflictError: It is not over.
        """
        async with self.held(execution_id) as live:
            record = live.state.record
            if not live.state.is_over:
                raise ExecutionConflictError(record.name, record.status, "stop it first, and then delete it")
            try:
                await self._store.delete(execution_id)
            finally:  # whatever has become of it, what is in memory does not count any more
                self._live.pop(execution_id, None)
                self._unsure.discard(execution_id)
            self.on_delete(record)
        self.tell(execution_id)

    def news(self, execution_id: str) -> anyio.Event:
        """Set when there are events after those that have been recorded by now."""
        return self._news.setdefault(execution_id, anyio.Event())

    def tell(self, execution_id: str) -> None:
        """Wake all who wait for news of an execution."""
        news = self._news.pop(execution_id, None)
        if news is not None:
            news.set()

    def forget(self, execution_id: str) -> None:
        """Let go of an execution's state in memory, unless it is needed soon; it is read again on demand."""
        live = self._live.get(execution_id)
        if live is None or live.held or live.token is not None:
            return
        # Callees answer soon, as a rule: nothing is read again for each of them. And what nobody has been told of
        # is known here alone.
        if live.state.is_over or not (live.state.invokes or self._has_changed(live)):
            del self._live[execution_id]
            self._unsure.discard(execution_id)

    def forget_ended(self, execution_id: str) -> None:
        """Let go of an execution's state in memory if it is over."""
        live = self._live.get(execution_id)
        if live is not None and live.state.is_over:
            self.forget(execution_id)

    # --- Inside ----------------------------------------------------------------------------------------------

    async def _checkpoint(
        self, live: Live, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        if live.answered == client_token and live.answer is not None and token == live.last_token:
            return live.answer
        now = self.clock.now()
        if live.state.record.timeout is not None:
            await self.expire(live, now)
        self._check_token(live, token)
        state = live.state
        forward = Transition()
        state.advance(now, forward)
        told = bool(forward.operations or live.untold)
        if updates:
            self._apply(state, updates, now, forward)
        revoked = state.record.status is ExecutionStatus.PAUSING and state.give_way(now, forward)
        if forward:
            await self._commit(live, forward)
        operations = tuple(forward.operations.values())
        if live.untold:
            untold = (state.operations[key] for key in live.untold if key not in forward.operations)
            operations = (*untold, *operations)
            live.untold.clear()
        live.told = told
        live.call += 1
        live.last_token = token
        live.token = Token(state.record.id, state.record.invocations, live.call).encode()
        if revoked:
            # It ends without having come as far as it can: it is to be invoked again as soon as it may.
            live.revoked = live.told = True
            live.token = None
        live.answered = client_token
        live.answer = CheckpointDurableExecutionResponse(
            checkpoint_token=None if state.is_over else live.token,
            new_execution_state=CheckpointUpdatedExecutionState(operations=operations),
        )
        if forward.extras:
            for operation_id in forward.invokes:
                self.on_invoke(state.record.id, operation_id)
        return live.answer

    def _apply(
        self, state: ExecutionState, updates: Sequence[OperationUpdate], now: Timestamp, forward: Transition
    ) -> None:
        state.apply(updates, now, forward)
        if self.max_operations is not None and state.count_with(forward) > self.max_operations:
            raise RefusedUpdateError(f"an execution has at most {self.max_operations:,} operations")
        if forward.extras:
            self._resolve(state.record.function, forward)

    def _resolve(self, caller: str, forward: Transition) -> None:
        """Find out whom the chained invokes of a call are for, so that it is recorded together with them."""
        for operation_id in forward.invokes:
            extra = forward.extras[operation_id]
            target = self.resolve(extra.function, caller)
            if target is not None:
                forward.extras[operation_id] = msgspec.structs.replace(extra, known=True, target=target or None)

    @asynccontextmanager
    async def held(self, execution_id: str) -> AsyncGenerator[Live]:
        """The execution, to oneself."""
        live = await self._acquire(execution_id)
        try:
            yield live
        finally:
            live.release()

    async def _acquire_by_arn(self, arn: str) -> Live:
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

    async def _acquire(self, execution_id: str) -> Live:
        while True:
            live = self._live.get(execution_id) or await self._load(execution_id)
            if live.held:
                live.released = live.released or anyio.Event()
                await live.released.wait()
                continue
            live.held = True
            return live

    async def _load(self, execution_id: str) -> Live:
        loaded = await self._store.load(execution_id)
        if loaded is None:
            raise ExecutionNotFoundError(execution_id)
        # Somebody else may have been faster.
        return self._live.setdefault(execution_id, Live(ExecutionState(loaded)))

    async def expire(self, live: Live, now: Timestamp) -> bool:
        """End an execution as TIMED_OUT if it has taken longer than it may. Returns whether that is so."""
        forward = Transition()
        if not live.state.expire(now, forward):
            return False
        await self.commit_from_outside(live, forward)
        return True

    async def _stay_paused(self, live: Live, now: Timestamp, forward: Transition) -> NoReturn:
        live.state.give_way(now, forward)
        if forward:
            await self._commit(live, forward)
            live.untold.update(dict.fromkeys(forward.operations))
        live.told = True
        name = live.state.record.name
        raise PausedError(f"execution {name!r} is paused")

    async def commit_from_outside(self, live: Live, forward: Transition) -> None:
        """Record what was not changed by the invocation, and see to it that one is told of it."""
        await self._commit(live, forward)
        live.untold.update(dict.fromkeys(forward.operations))
        if live.state.is_over:
            live.token = live.last_token = None
            self.on_stop(live.state.record.name)
            return
        record = live.state.record
        if forward.record is not None:
            when = expires_at(record)
            if when is not None:
                self.on_limit(record.name, when)
        if forward.operations or forward.record is not None:
            self.on_change(record.name)

    async def _commit(self, live: Live, forward: Transition) -> None:
        execution_id = live.state.record.id
        committed = False
        try:
            await self._store.commit(execution_id, live.state.change(forward))
            committed = True
        finally:
            if not committed:
                self._live.pop(execution_id, None)
                self._unsure.add(execution_id)
            # Also then: if whoever waited was cancelled, it is committed all the same.
            self.tell(execution_id)
        live.state.take_over(forward)

    def _has_changed(self, live: Live) -> bool:
        """Whether there may be a change that the last invocation has not seen."""
        return bool(live.untold) or live.told or live.state.is_over or live.state.record.id in self._unsure

    @staticmethod
    def _check_running(state: ExecutionState) -> None:
        if state.is_over:
            raise StaleTokenError(f"Invalid checkpoint token: the execution is {state.record.status}")

    def _check_token(self, live: Live, token: str) -> None:
        if token == live.token:
            return
        self._check_running(live.state)
        if live.revoked:
            raise StaleTokenError("Invalid checkpoint token: the execution was paused")
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
