"""What can be done to executions from outside of them, by whoever has the engine."""

from __future__ import annotations

from typing import Any

from .._kernel.batch import check_payload
from .._kernel.errors import as_error_object
from .._kernel.values import PLAIN
from .._wire import ErrorObject
from .._wire.limits import MAX_PAYLOAD_BYTES, MAX_REASON_LENGTH
from ..abc import ExecutionRecord, Store
from ..exceptions import EngineClosedError, PayloadTooLargeError
from .machine.rules import error_bytes
from .outside import Outside
from .reader import Reader
from .service import LocalService


class Controls(Reader):
    """The part of an engine that acts on executions, wherever they are: being invoked, waiting, or only stored.

    Attributes:
        service: The service, for functions that are called elsewhere.
    """

    def __init__(self, store: Store, service: LocalService) -> None:
        super().__init__(store)
        self.service = service
        self._outside = Outside(service)
        self._closed = False

    # --- Pausing, stopping, deleting -------------------------------------------------------------------------

    async def pause(
        self,
        name: str,
        reason: str | None = None,
        *,
        holds_timeout: bool = True,
        token: str | None = None,
    ) -> ExecutionRecord:
        """Have an execution not invoked until it is resumed. Nothing of it is undone, and nothing is lost.

        An invocation that is under way goes on until it records something next; until then the execution is
        PAUSING. Timers, callbacks and callees go on while it is paused; it learns of them when it is resumed. It
        stays paused when the engine is closed and opened again.

        Args:
            name: The execution.
            reason: Why, for its history; at most 1,024 characters.
            holds_timeout: Whether its time limit is put off by the time that it is paused.
            token: Asking once more with the same one, within 15 minutes, changes nothing and is no error.

        Returns:
            The execution, PAUSING or PAUSED.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            ExecutionConflictError: It is over, or paused already.
            ValueError: The reason is too long.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        check_reason(reason)
        found = await self.execution(name)
        return await self._outside.pause(found.id, reason=reason, holds_timeout=holds_timeout, token=token)

    async def stop(self, name: str, error: Exception | str | ErrorObject | None = None) -> ExecutionRecord:
        """End an execution as STOPPED, wherever it is. It is not called again: no saga of it rolls back.

        An invocation that is under way is cancelled, and can record nothing more. What it had invoked goes on. One
        that is over already stays as it is.

        Args:
            name: The execution.
            error: Why.

        Returns:
            The execution as it ended.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            PayloadTooLargeError: The error is over 1 MB.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        why = None if error is None else _error_object(error, f"the error that {name!r} is stopped with")
        return await self._outside.stop((await self.execution(name)).id, why)

    async def delete(self, name: str) -> ExecutionRecord:
        """Remove an execution that is over, with its operations and its history. Its name is free after this.

        What it has invoked stays. What was invoked by another execution stays for as long as that is not over.

        Args:
            name: The execution.

        Returns:
            The execution as it was.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            ExecutionConflictError: It is not over, or what has invoked it is not.
            StoreError: It was not removed.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        return await self._outside.delete((await self.execution(name)).id)

    # --- Callbacks -------------------------------------------------------------------------------------------

    async def complete_callback(self, callback_id: str, value: Any = None, *, text: str | None = None) -> None:
        """Complete a callback: whoever waits for it gets this value.

        It is durable when this returns. The execution need not run here, or at all, at this moment.

        Args:
            callback_id: The callback's `id`.
            value: The result; encoded as JSON.
            text: The result as text, instead of a value: it is passed on as it is.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or timed out, or nobody waits for it any more.
            SerializationError: The value cannot be encoded.
            PayloadTooLargeError: It is over 1 MB encoded.
            ValueError: Both `value` and `text` are given.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        if text is not None and value is not None:
            raise ValueError("a callback is completed with a value or with text, not both")
        what = "the result of a callback"
        result = PLAIN.encode(value, what) if text is None else text
        check_payload(result, what)
        await self._outside.succeed_callback(callback_id, result)

    async def fail_callback(self, callback_id: str, error: Exception | str | ErrorObject) -> None:
        """Fail a callback: whoever waits for it gets this error, as the cause of a `CallbackFailedError`.

        Args:
            callback_id: The callback's `id`.
            error: An exception, what happened, or an error object.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or timed out, or nobody waits for it any more.
            PayloadTooLargeError: The error is over 1 MB.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        await self._outside.fail_callback(callback_id, _error_object(error, "the error of a callback"))

    async def heartbeat_callback(self, callback_id: str) -> None:
        """Tell that whoever is to complete a callback is alive: its heartbeat timeout begins anew.

        Raises:
            CallbackNotFoundError: There is no such callback.
            CallbackCompletedError: It has ended, or timed out, or nobody waits for it any more.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        await self._outside.heartbeat_callback(callback_id)

    # --- Inside ----------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError


def check_reason(reason: str | None) -> None:
    """Refuse a reason that no history takes.

    Raises:
        ValueError: It is too long.
    """
    if reason is not None and len(reason) > MAX_REASON_LENGTH:
        raise ValueError(f"a reason has at most {MAX_REASON_LENGTH:,} characters, this one {len(reason):,}")


def _error_object(error: Exception | str | ErrorObject, what: str) -> ErrorObject:
    found = as_error_object(error)
    size = error_bytes(found)
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(what, size, MAX_PAYLOAD_BYTES)
    return found
