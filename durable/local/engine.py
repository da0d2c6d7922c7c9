"""The embedded engine: starts executions, keeps them going, and resumes them after a restart."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast
from uuid import uuid4

import anyio
import anyio.to_thread

from .._engine.clock import SystemClock
from .._kernel.batch import check_payload
from .._kernel.errors import encode_error
from .._kernel.values import PLAIN
from .._wire import ErrorObject, ExecutionStatus
from .._wire.limits import (
    MAX_EXECUTION_PAYLOAD_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_STATE_PAGE,
)
from .._wire.patterns import EXECUTION_NAME_PATTERN
from ..abc import Clock, ExecutionRecord, Store
from ..exceptions import (
    EngineClosedError,
    ExecutionExistsError,
    InvalidNameError,
    PayloadTooLargeError,
    StoreError,
)
from ..function import DurableFunction
from .driver import Driver
from .functions import Functions
from .inbox import attend, look
from .invoker import Invoker
from .machine.execution import new_record
from .machine.rules import error_bytes
from .outside import Outside
from .reader import Reader
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

    Raises:
        StoreLockedError: Another engine has the file.
        StoreSchemaError: It is not a store, or of a version this library does not know.
        StoreError: It cannot be opened.
        ValueError: Both `path` and `store` are given.
    """
    clock = clock or SystemClock()
    if store is not None:
        if path is not None:
            raise ValueError("an engine has a path or a store, not both")
        service = LocalService(store, clock, page_size=page_size, max_operations=max_operations)
        async with _engine_over(store, clock, service) as engine:
            yield engine
        return
    opened = MemoryStore() if path is None else await anyio.to_thread.run_sync(_open_file, os.fspath(path))
    try:
        service = LocalService(opened, clock, page_size=page_size, max_operations=max_operations)
        async with _engine_over(opened, clock, service) as engine:
            yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await opened.aclose()


@asynccontextmanager
async def _engine_over(store: Store, clock: Clock, service: LocalService) -> AsyncGenerator[Engine]:
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        driver = Driver(service, clock, tasks)
        engine = Engine(store, clock, service, driver)
        tasks.start_soon(driver.keep_time, name="durable timers")
        try:
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


class Engine(Reader):
    """Runs durable executions in this process. Made by `open_engine`.

    Attributes:
        service: The service, for functions that are called elsewhere.
        functions: Those it knows.
    """

    def __init__(self, store: Store, clock: Clock, service: LocalService, driver: Driver) -> None:
        super().__init__(store)
        self._clock = clock
        self.service = service
        self._driver = driver
        self.functions = Functions()
        self._invoker = Invoker(store, service, clock, driver, self.functions)
        self._outside = Outside(service)
        self._closed = False
        service.resolve = self.functions.resolve
        service.on_invoke = self._invoker.begin
        service.on_change = driver.nudge
        service.on_stop = driver.cut

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
    ) -> Run[ResultT]:
        """Start an execution, or find it: a name stands for one execution forever.

        The execution is durable when this returns; it runs until it is over or the engine is closed. One of this
        name that exists already, with the same function and the same input, is returned as it stands; if it is
        not over and does not run, it is resumed.

        Args:
            function: Made by `@durable_execution`.
            event: Its input.
            name: 1 to 64 characters of `[a-zA-Z0-9_-]`; made up if not given.

        Raises:
            NotDurableError: `function` is something else.
            InvalidNameError: The name has other characters or another length.
            SerializationError: The input cannot be encoded, or does not fit the function's annotation.
            PayloadTooLargeError: The input is over 6 MB encoded.
            ExecutionExistsError: The name belongs to an execution of another function or with another input.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        target = self.functions.add(function)
        return await self._start(function, target, await function.dump_input(event), name)

    async def start_registered(self, function: str, payload: str, *, name: str | None = None) -> Run[Any]:
        """Start an execution of a durable function that is registered, by its name and with its input as it is.

        As `start` otherwise, which see.

        Args:
            function: What it is registered as; an ARN or a version around it makes no difference.
            payload: Its input, JSON text.
            name: 1 to 64 characters of `[a-zA-Z0-9_-]`; made up if not given.

        Raises:
            TargetNotFoundError: No function is registered by that name.
            NotDurableError: It is a plain function.
            DurableError: See `start`.
        """
        self._check_open()
        found = self.functions.durable(function)
        return await self._start(found, self.functions.add(found), payload, name)

    async def _start(
        self, function: DurableFunction[InputT, ResultT], target: str, payload: str, name: str | None
    ) -> Run[ResultT]:
        if name is not None and EXECUTION_NAME_PATTERN.fullmatch(name) is None:
            raise InvalidNameError(name, "an execution", "1 to 64 characters of [a-zA-Z0-9_-]")
        size = len(payload.encode())
        if size > MAX_EXECUTION_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"the input of {function.name}", size, MAX_EXECUTION_PAYLOAD_BYTES)
        record = None if name is None else await self._store.find(name)
        while record is None:
            record = new_record(uuid4().hex, function.name, target, payload, self._clock.now(), name=name)
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
        """Go on with what was not over when the process ended.

        Functions are imported again by their stored targets, unless they were started or registered here. One
        that cannot be loaded does not stop the others: its run raises why.

        Args:
            name: Only this execution; it may be over. By default all that are not over.

        Returns:
            Their runs, oldest first. One that runs already is among them.

        Raises:
            ExecutionNotFoundError: There is none of this name.
            EngineClosedError: The engine is closed.
        """
        self._check_open()
        if name is None:
            records = await self._store.executions(ExecutionStatus.RUNNING)
        else:
            records = [await self.execution(name)]
        return [self._run(record, None) for record in records]

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

    def _run(self, record: ExecutionRecord, function: DurableFunction[Any, Any] | None) -> Run[Any]:
        self._check_open()
        run = self._driver.find(record.name)
        return run or self._driver.run(record, function or self.functions.load(record.function))

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError

    def close(self) -> None:
        """Start nothing more, and tell those who wait for executions that are not over."""
        self._closed = True
        self._driver.close()


def _error_object(error: Exception | str | ErrorObject, what: str) -> ErrorObject:
    if isinstance(error, Exception):
        return encode_error(error)
    found = ErrorObject(error_message=error) if isinstance(error, str) else error
    size = error_bytes(found)
    if size > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(what, size, MAX_PAYLOAD_BYTES)
    return found
