"""The embedded engine: starts executions, keeps them going, and resumes them after a restart."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar, cast
from uuid import uuid4

import anyio
import anyio.to_thread

from .._engine.clock import SystemClock
from .._kernel.durations import to_execution_seconds
from .._wire import ExecutionStatus
from .._wire.limits import (
    MAX_EXECUTION_PAYLOAD_BYTES,
    MAX_STATE_PAGE,
)
from .._wire.patterns import EXECUTION_NAME_PATTERN
from ..abc import Clock, ExecutionRecord, Store
from ..exceptions import (
    ExecutionConflictError,
    ExecutionExistsError,
    InvalidNameError,
    PayloadTooLargeError,
    StoreError,
)
from ..function import DurableFunction
from .controls import Controls, check_reason
from .driver import Driver
from .functions import Functions
from .inbox import attend, look
from .invoker import Invoker
from .machine.execution import new_record
from .run import Run
from .service import LocalService
from .stores.memory import MemoryStore

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")


@asynccontextmanager
async def open_engine(
    path: str | os.PathLike[str] | None = None,
    *,
    store: Store | None = None,
    clock: Clock | None = None,
    page_size: int = MAX_STATE_PAGE,
    max_operations: int | None = None,
    execution_timeout: float | timedelta | None = None,
) -> AsyncGenerator[Engine]:
    """Open an embedded engine.

    Use it as `async with open_engine(path) as engine:`. Leaving the block abandons what runs: unfinished
    executions stay as they are and can be resumed by the next engine. What the block raises comes out as it is,
    not in an exception group.

    What other processes ask of the engine that has the file (`durable callback` and the like) is carried out about
    twice a second; what was left there before is, when this returns.

    Args:
        path: The store's file, created if it is not there. Without one everything is in memory.
        store: A store to use instead. Whoever opened it closes it.
        clock: The time to go by; tests skip it.
        page_size: How many operations an invocation is handed at once.
        max_operations: How many operations an execution may have; on AWS it is 3,000. By default there is no limit.
        execution_timeout: How long an execution that is started here may take, 1 second to 366 days, unless `start`
            says otherwise for it; as a function's `ExecutionTimeout` on AWS. By default there is no limit.

    Raises:
        StoreLockedError: Another engine has the file.
        StoreSchemaError: It is not a store, or of a version this library does not know.
        StoreError: It cannot be opened.
        ValueError: Both `path` and `store` are given.
        InvalidDurationError: The time limit is out of range.
    """
    clock = clock or SystemClock()
    timeout = to_execution_seconds(execution_timeout, "open_engine")
    if store is not None:
        if path is not None:
            raise ValueError("an engine has a path or a store, not both")
        service = LocalService(store, clock, page_size=page_size, max_operations=max_operations)
        async with _engine_over(store, clock, service, timeout) as engine:
            yield engine
        return
    opened = MemoryStore() if path is None else await anyio.to_thread.run_sync(_open_file, os.fspath(path))
    try:
        service = LocalService(opened, clock, page_size=page_size, max_operations=max_operations)
        async with _engine_over(opened, clock, service, timeout) as engine:
            yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await opened.aclose()


@asynccontextmanager
async def _engine_over(
    store: Store, clock: Clock, service: LocalService, timeout: int | None
) -> AsyncGenerator[Engine]:
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        driver = Driver(service, clock, tasks)
        engine = Engine(store, clock, service, driver, timeout=timeout)
        tasks.start_soon(driver.keep_time, name="durable timers")
        try:
            await engine.settle()
            if store.inbox is not None:
                await look(engine, store.inbox)
                tasks.start_soon(attend, engine, store.inbox, name="durable inbox")
            yield engine
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, where the task group does not wrap it
            failure = error
        finally:
            engine.close()
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _open_file(path: str) -> Store:
    try:
        from .stores.sqlite import open_store
    except ImportError as error:  # a Python that was built without it
        raise StoreError(f"{path} cannot be opened: this Python has no sqlite3") from error
    return open_store(path)


class Engine(Controls):
    """Runs durable executions in this process. Made by `open_engine`.

    Attributes:
        service: The service, for functions that are called elsewhere.
        functions: Those it knows.
    """

    def __init__(
        self, store: Store, clock: Clock, service: LocalService, driver: Driver, *, timeout: int | None = None
    ) -> None:
        super().__init__(store, service)
        self._clock = clock
        self._timeout = timeout
        self._driver = driver
        self.functions = Functions()
        self._invoker = Invoker(store, service, clock, driver, self.functions, timeout=timeout)
        service.resolve = self.functions.resolve
        service.on_invoke = self._invoker.begin
        service.on_change = driver.nudge
        service.on_stop = driver.cut
        service.on_limit = driver.limit
        service.on_delete = driver.drop

    # --- Running ---------------------------------------------------------------------------------------------

    def register(self, function: DurableFunction[Any, Any] | Callable[[Any], Any], name: str | None = None) -> None:
        """Know a function.

        Executions of a durable function then resume with this very object, and nothing is imported. And
        `ctx.invoke` finds the function by its name: a durable one becomes an execution of its own; a plain one,
        which takes the payload, is called as an ordinary Lambda function is, at least once. A version or an ARN
        around the name, as AWS wants it, makes no difference. Durable functions that the caller's own module has
        are found without being registered.

        Args:
            function: Made by `@durable_execution`; or, with a name, any function of one parameter. One that is
                not async is run in a worker thread.
            name: What it is invoked by; by default what the durable function is called.

        Raises:
            NotDurableError: It is a plain function without a name, or no function.
            InvalidNameError: The name is empty, or over 256 characters.
            FunctionExistsError: Another function has the name.
            SerializationError: A plain function's annotation cannot be resolved, or not be decoded.
        """
        self.functions.register(function, name)
        self._invoker.look_again()

    async def start(
        self,
        function: DurableFunction[InputT, ResultT],
        event: InputT,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Run[ResultT]:
        """Start an execution, or find it: a name stands for one execution forever.

        The execution is durable when this returns; it runs until it is over or the engine is closed. One of this
        name that exists already, with the same function and the same input, is returned as it stands; if it is
        not over and does not run, it is taken up again. One that is paused stays paused.

        Args:
            function: Made by `@durable_execution`.
            event: Its input.
            name: 1 to 64 characters of `[a-zA-Z0-9_-]`; made up if not given.
            timeout: How long it may take, 1 second to 366 days: after that it ends as TIMED_OUT, wherever it is,
                and nothing of it is undone. By default the engine's `execution_timeout`. One that exists already
                keeps its own.

        Raises:
            NotDurableError: `function` is something else.
            InvalidNameError: The name has other characters or another length.
            InvalidDurationError: The time limit is out of range.
            SerializationError: The input cannot be encoded, or does not fit the function's annotation.
            PayloadTooLargeError: The input is over 6 MB encoded.
            ExecutionExistsError: The name belongs to an execution of another function or with another input.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        target = self.functions.add(function)
        limit = to_execution_seconds(timeout, "Engine.start")
        return await self._start(function, target, await function.dump_input(event), name, limit)

    async def start_registered(
        self, function: str, payload: str, *, name: str | None = None, timeout: float | timedelta | None = None
    ) -> Run[Any]:
        """Start an execution of a durable function that is registered, by its name and with its input as it is.

        As `start` otherwise, which see.

        Args:
            function: What it is registered as; an ARN or a version around it makes no difference.
            payload: Its input, JSON text.
            name: 1 to 64 characters of `[a-zA-Z0-9_-]`; made up if not given.
            timeout: How long it may take, 1 second to 366 days; by default the engine's `execution_timeout`.

        Raises:
            TargetNotFoundError: No function is registered by that name.
            NotDurableError: It is a plain function.
            DurableError: See `start`.
        """
        self._check_open()
        found = self.functions.durable(function)
        limit = to_execution_seconds(timeout, "Engine.start_registered")
        return await self._start(found, self.functions.add(found), payload, name, limit)

    async def _start(
        self,
        function: DurableFunction[InputT, ResultT],
        target: str,
        payload: str,
        name: str | None,
        timeout: int | None,
    ) -> Run[ResultT]:
        if name is not None and EXECUTION_NAME_PATTERN.fullmatch(name) is None:
            raise InvalidNameError(name, "an execution", "1 to 64 characters of [a-zA-Z0-9_-]")
        size = len(payload.encode())
        if size > MAX_EXECUTION_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"the input of {function.name}", size, MAX_EXECUTION_PAYLOAD_BYTES)
        record = None if name is None else await self._store.find(name)
        while record is None:
            record = new_record(
                uuid4().hex,
                function.name,
                target,
                payload,
                self._clock.now(),
                name=name,
                timeout=self._timeout if timeout is None else timeout,
            )
            try:
                await self.service.create(record)
            except ExecutionExistsError:
                # Somebody else was faster; or, hardly, the name that was made up is taken.
                record = None if name is None else await self._store.find(name)
        if record.function != target:
            raise ExecutionExistsError(record.name, f"another function, {record.function}")
        if not await function.is_same_input(payload, record.input):
            raise ExecutionExistsError(record.name, "another input")
        return cast("Run[ResultT]", self._run(record, function))

    async def resume(self, name: str | None = None) -> list[Run[Any]]:
        """Go on with what was not over when the process ended, or with one execution that is paused.

        Functions are imported again by their stored targets, unless they were started or registered here. One
        that cannot be loaded does not stop the others: its run raises why.

        Args:
            name: Only this execution; it may be over. One that is paused is not any more. By default all that are
                not over: those that are paused stay paused, and only what time brings to them is recorded.

        Returns:
            Their runs, oldest first, without those that stay paused. One that runs already is among them.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        if name is not None:
            record = await self.execution(name)
            if record.status.is_paused:
                with suppress(ExecutionConflictError):  # somebody else was faster
                    return [await self.unpause(name)]
            return [self._run(record, None)]
        for record in await self._store.executions(ExecutionStatus.PAUSED):
            self._run(record, None)
        return [self._run(record, None) for record in await self._store.executions(ExecutionStatus.RUNNING)]

    async def unpause(self, name: str, reason: str | None = None, *, token: str | None = None) -> Run[Any]:
        """Go on with an execution that is paused; `resume` does so too, and with one that is not.

        Args:
            name: The execution.
            reason: Why, for its history; at most 1,024 characters.
            token: Asking once more with the same one, within 15 minutes, changes nothing and is no error.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            ExecutionConflictError: It is not paused.
            ValueError: The reason is too long.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        check_reason(reason)
        found = await self.execution(name)
        return self._run(await self._outside.resume(found.id, reason=reason, token=token), None)

    # --- For tests -------------------------------------------------------------------------------------------

    @property
    def is_going_on(self) -> bool:
        """Whether anything happens, or will when its time has come, without anybody's doing."""
        return self._driver.is_going_on or self._invoker.is_calling

    def cut_off(self, name: str | None = None) -> None:
        """Abandon the invocations that are under way, or that of one execution, as if their process had died.

        Nothing is told to their code but a cancellation. Each of the executions is invoked again.
        """
        self._driver.cut_off(name)

    # --- Inside ----------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Have pauses take effect that an engine before did not live to see take effect. For `open_engine`."""
        for record in await self._store.executions(ExecutionStatus.PAUSING):
            await self._outside.settle_pause(record.id)

    def _run(self, record: ExecutionRecord, function: DurableFunction[Any, Any] | None) -> Run[Any]:
        self._check_open()
        run = self._driver.find(record.name)
        return run or self._driver.run(record, function or self.functions.load(record.function))

    def close(self) -> None:
        """Start nothing more, and tell those who wait for executions that are not over."""
        self._closed = True
        self._driver.close()
