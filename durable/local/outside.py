"""What the rest of the world does to executions: callbacks are completed, callees end, somebody stops one.

It makes no difference whether the execution is being invoked at that moment, waits, or is only in the store. A
cancellation of whoever asks waits until it is done: an invocation that is under way does not lose its state for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio

from .._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType, Timestamp
from ..abc import Caller, ExecutionRecord
from ..exceptions import (
    CallbackCompletedError,
    CallbackNotFoundError,
    ExecutionConflictError,
    ExecutionNotFoundError,
)
from .live import Live
from .machine import callback, execution, invoke, pausing
from .machine.state import Transition
from .service import LocalService


class Outside:
    """Changes executions of a service from outside of their functions."""

    def __init__(self, service: LocalService) -> None:
        self._service = service

    async def succeed_callback(self, callback_id: str, result: str | None) -> None:
        """Complete a callback with a result, text as the function will read it.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or nobody waits for it any more.
        """
        async with self._callback(callback_id) as (live, operation, now, forward):
            live.state.end(operation, OperationStatus.SUCCEEDED, now, forward, result=result)

    async def fail_callback(self, callback_id: str, error: ErrorObject) -> None:
        """Complete a callback with an error.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or nobody waits for it any more.
        """
        async with self._callback(callback_id) as (live, operation, now, forward):
            live.state.end(operation, OperationStatus.FAILED, now, forward, error=error)

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Begin the time between two signs of life of a callback anew.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or nobody waits for it any more.
        """
        async with self._callback(callback_id) as (live, operation, now, forward):
            extra = live.state.extra_of(operation.id)
            later = callback.beat(extra, now)
            if later != extra:
                forward.extras[operation.id] = later

    async def end_invoke(
        self,
        caller: Caller,
        status: OperationStatus,
        *,
        result: str | None = None,
        error: ErrorObject | None = None,
    ) -> None:
        """Tell a chained invoke how its callee ended, unless it knows or nobody waits for it any more."""
        try:
            async with self._changing(caller.execution_id) as (live, now, forward):
                operation = live.state.operations.get(caller.operation_id)
                if (
                    operation is not None
                    and operation.type is OperationType.CHAINED_INVOKE
                    and live.state.why_closed(operation) is None
                ):
                    live.state.end(operation, status, now, forward, result=result, error=error)
        except ExecutionNotFoundError:
            return

    async def tell_caller(self, ended: ExecutionRecord) -> None:
        """Tell the chained invoke that started an execution, if one did, how the execution has ended."""
        if ended.caller is not None:
            status, result, error = invoke.outcome_of(ended)
            await self.end_invoke(ended.caller, status, result=result, error=error)

    async def stop(self, execution_id: str, error: ErrorObject | None) -> ExecutionRecord:
        """End an execution as STOPPED, if it is not over. Its invocation can write nothing more.

        Returns:
            The execution as it ended.

        Raises:
            ExecutionNotFoundError: There is none.
        """
        async with self._changing(execution_id) as (live, now, forward):
            record = live.state.record
            if not live.state.is_over:
                record, event = execution.finish(record, now, ExecutionStatus.STOPPED, error=error)
                forward.record = record
                forward.events.append(event)
            elif record.status is ExecutionStatus.STOPPED:  # perhaps by a commit that had no answer
                self._service.on_stop(record.name)
        await self.tell_caller(record)
        return record

    async def pause(
        self, execution_id: str, *, reason: str | None = None, holds_timeout: bool = True, token: str | None = None
    ) -> ExecutionRecord:
        """Have an execution not invoked from now on; an invocation that is under way comes to its next call.

        Args:
            execution_id: The execution.
            reason: Why.
            holds_timeout: Whether its time limit is put off by the pause.
            token: Whoever asks; asking again with the same one changes nothing.

        Returns:
            The execution, PAUSING or PAUSED.

        Raises:
            ExecutionNotFoundError: There is none.
            ExecutionConflictError: It is over, or paused already.
        """
        async with self._changing(execution_id) as (live, now, forward):
            record = live.state.record
            if pausing.was_accepted(record, "pause", token, now):
                return record
            if record.status is not ExecutionStatus.RUNNING:
                raise ExecutionConflictError(record.name, record.status, "only one that is RUNNING can be paused")
            record = pausing.pause(record, now, reason=reason, holds_timeout=holds_timeout, token=token)
            if live.token is None:
                record, event = pausing.take_effect(record, now)
                forward.events.append(event)
            forward.record = record
        return record

    async def resume(
        self, execution_id: str, *, reason: str | None = None, token: str | None = None
    ) -> ExecutionRecord:
        """Have an execution that is paused go on.

        Args:
            execution_id: The execution.
            reason: Why.
            token: Whoever asks; asking again with the same one changes nothing.

        Raises:
            ExecutionNotFoundError: There is none.
            ExecutionConflictError: It is not paused.
        """
        async with self._changing(execution_id) as (live, now, forward):
            record = live.state.record
            if pausing.was_accepted(record, "resume", token, now):
                return record
            if not record.status.is_paused:
                raise ExecutionConflictError(record.name, record.status, "only one that is paused can be resumed")
            record, event = pausing.resume(record, now, reason=reason, token=token)
            forward.record = record
            if event is not None:
                forward.events.append(event)
        return record

    async def delete(self, execution_id: str) -> ExecutionRecord:
        """Remove an execution that is over, with all that is kept of it.

        Returns:
            The execution as it was.

        Raises:
            ExecutionNotFoundError: There is none.
            ExecutionConflictError: It is not over, or who has invoked it is not: that would invoke it anew.
        """
        service = self._service
        with anyio.CancelScope(shield=True):
            try:
                return await self._delete(execution_id)
            finally:
                service.forget_ended(execution_id)
        raise AssertionError("nobody cancels a shield")

    async def settle_pause(self, execution_id: str) -> None:
        """Have a pause take effect that waits for an invocation which did not live to see it."""
        async with self._changing(execution_id) as (live, now, forward):
            if live.token is None:
                live.state.give_way(now, forward)

    async def time_out(self, execution_id: str) -> Timestamp | None:
        """End an execution that has taken longer than it may.

        Returns:
            When to look again, if its time is not over yet.
        """
        try:
            async with self._changing(execution_id) as (live, _, _):
                return None if live.state.is_over else pausing.expires_at(live.state.record)
        except ExecutionNotFoundError:
            return None

    async def _delete(self, execution_id: str) -> ExecutionRecord:
        service = self._service
        record = await service.record(execution_id)
        caller: ExecutionRecord | None = None
        if record.caller is not None:
            with suppress(ExecutionNotFoundError):  # it was deleted before
                caller = await service.record(record.caller.execution_id)
                service.forget_ended(caller.id)
        if record.status.is_over and caller is not None and not caller.status.is_over:
            rule = f"it was invoked by {caller.name!r}, which is {caller.status} and may ask for it again"
            raise ExecutionConflictError(record.name, record.status, rule)
        await service.delete(execution_id)
        return record

    @asynccontextmanager
    async def _callback(self, callback_id: str) -> AsyncGenerator[tuple[Live, Operation, Timestamp, Transition]]:
        """A callback that can still be completed, to oneself."""
        named = callback.named_by(callback_id)
        if named is None:
            raise CallbackNotFoundError(callback_id)
        execution_id, operation_id = named
        try:
            async with self._changing(execution_id) as (live, now, forward):
                # It may just have timed out.
                operation = forward.operations.get(operation_id) or live.state.operations.get(operation_id)
                details = None if operation is None else operation.callback_details
                if operation is None or details is None or details.callback_id != callback_id:
                    raise CallbackNotFoundError(callback_id)
                closed = live.state.why_closed(operation)
                if closed is not None:
                    raise CallbackCompletedError(callback_id, operation.name, operation.status, closed)
                yield live, operation, now, forward
        except ExecutionNotFoundError as error:
            raise CallbackNotFoundError(callback_id) from error

    @asynccontextmanager
    async def _changing(self, execution_id: str) -> AsyncGenerator[tuple[Live, Timestamp, Transition]]:
        """An execution to oneself, up to date. What the block adds is recorded; and what time did, in any case."""
        service = self._service
        expired: ExecutionRecord | None = None
        with anyio.CancelScope(shield=True):
            try:
                async with service.held(execution_id) as live:
                    forward = Transition()
                    now = service.clock.now()
                    if await service.expire(live, now):
                        expired = live.state.record
                    if not live.state.is_over:
                        live.state.advance(now, forward)
                    try:
                        yield live, now, forward
                    finally:
                        if forward:
                            await service.commit_from_outside(live, forward)
            finally:
                # Senders may ask for callbacks of executions that ended long ago: they do not stay in memory.
                service.forget_ended(execution_id)
                if expired is not None:
                    await self.tell_caller(expired)
