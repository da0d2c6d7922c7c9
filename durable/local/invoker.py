"""What calls the functions that chained invokes name, and tells the invokes how they ended.

A durable callee is an execution of its own: it is created under an id made from its caller's, or found there, and
driven like any other. When it has ended, whoever notices tells its caller: the driver in the ordinary case, and
here if it had ended before its caller was taken up again.

A plain callee is called here, at least once: if the engine is closed in the meantime, the next one calls it again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._kernel.errors import encode_error
from .._wire import ErrorObject, OperationStatus
from .._wire.limits import MAX_PAYLOAD_BYTES
from ..abc import Caller, Clock, ExecutionRecord, Store
from ..exceptions import ExecutionExistsError
from ..function import DurableFunction
from .driver import FIRST_DELAY, LAST_DELAY, Driver
from .functions import Functions, PlainFunction
from .machine.invoke import callee_record, too_large
from .outside import Outside
from .service import LocalService
from .targets import target_of

T = TypeVar("T")

_log = logging.getLogger("durable.local")


class Invoker:
    """Calls functions for the chained invokes of one engine.

    Args:
        store: Where executions are kept.
        service: The service over it.
        clock: What time it is.
        driver: What drives durable callees.
        functions: Those that may be called.
        timeout: Seconds that a durable callee may take; `None` if there is no limit.
    """

    def __init__(
        self,
        store: Store,
        service: LocalService,
        clock: Clock,
        driver: Driver,
        functions: Functions,
        *,
        timeout: int | None,
    ) -> None:
        self._store = store
        self._service = service
        self._outside = Outside(service)
        self._clock = clock
        self._driver = driver
        self._functions = functions
        self._timeout = timeout
        # Those that are being called here: nobody is called twice at a time.
        self._busy: set[Caller] = set()
        # Those whose function was known when they began, and is not registered now nor can be loaded.
        self._missing: set[Caller] = set()

    def begin(self, execution_id: str, operation_id: str) -> None:
        """Call whom a chained invoke names, unless that is under way. For the service."""
        caller = Caller(execution_id, operation_id)
        if caller not in self._busy:
            self._busy.add(caller)
            self._driver.spawn(self._call, caller, name=f"durable invoke {operation_id}")

    @property
    def is_calling(self) -> bool:
        """Whether somebody is being called."""
        return bool(self._busy)

    def look_again(self) -> None:
        """A function was registered: call it for those who wait for it."""
        missing, self._missing = self._missing, set()
        for caller in missing:
            self.begin(caller.execution_id, caller.operation_id)

    async def _call(self, caller: Caller) -> None:
        try:
            called = await self._persistently(lambda: self._service.call(caller.execution_id, caller.operation_id))
            if called is None:
                return
            record, extra = called
            found = self._functions.find(extra.function, record.function)
            # By what it was when it was called first: it may not be registered with this engine.
            target = extra.target or (target_of(found) if isinstance(found, DurableFunction) else None)
            if not extra.known:
                await self._end(caller, self._unknown(extra.function))
            elif target is not None:
                now = self._clock.now()
                callee = callee_record(record, caller.operation_id, extra, target, now, timeout=self._timeout)
                await self._persistently(lambda: self._start(caller, callee))
            elif isinstance(found, PlainFunction):
                await self._end(caller, await _outcome(found, extra.payload))
            else:
                self._missing.add(caller)
                _log.error(
                    "execution %r waits for function %r, which is not registered with this engine: "
                    "it is called when it is",
                    record.name,
                    extra.function,
                )
        finally:
            self._busy.discard(caller)

    async def _start(self, caller: Caller, callee: ExecutionRecord) -> None:
        """Have a durable callee driven, or tell its caller how it ended."""
        try:
            await self._service.create(callee)
        except ExecutionExistsError as error:
            found = await self._store.find(callee.name)
            if found is None or found.caller != caller:
                await self._end(caller, encode_error(error))
                return
            callee = found
        if callee.status.is_over:
            await self._outside.tell_caller(callee)
            return
        function = self._functions.load(callee.function)
        if isinstance(function, Exception):
            self._missing.add(caller)
        self._driver.run(callee, function)

    async def _end(self, caller: Caller, outcome: str | ErrorObject) -> None:
        if isinstance(outcome, ErrorObject):
            await self._persistently(
                lambda: self._outside.end_invoke(caller, OperationStatus.FAILED, error=outcome)
            )
        else:
            await self._persistently(
                lambda: self._outside.end_invoke(caller, OperationStatus.SUCCEEDED, result=outcome)
            )

    def _unknown(self, function: str) -> ErrorObject:
        names = ", ".join(map(repr, self._functions.names)) or "none"
        return ErrorObject(
            error_type="ResourceNotFoundException",
            error_message=f"no function is registered as {function!r} with this engine (registered are: {names}), "
            "and the module of the function that invokes it has no durable one of that name: "
            "have it known by engine.register(function, name)",
        )

    async def _persistently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something until the store lets it; its disk may be full, for a while."""
        delay = FIRST_DELAY
        while True:
            try:
                return await work()
            except Exception:  # noqa: BLE001 - logged, and tried again for as long as the engine lives
                _log.exception("a chained invoke could not be recorded, it will be tried again")
                await self._clock.sleep_until(self._clock.now() + delay)
                delay = min(delay * 2, LAST_DELAY)


async def _outcome(function: PlainFunction, payload: str | None) -> str | ErrorObject:
    """What a plain function returns, JSON text, or raises."""
    try:
        result = await function.call(payload)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's outcome
        return encode_error(error)
    size = len(result.encode())
    return too_large(function.name, size) if size > MAX_PAYLOAD_BYTES else result
