"""The embedded engine: starts executions, keeps them going, and resumes them after a restart."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast
from uuid import uuid4

import anyio
import anyio.to_thread

from .._engine.clock import SystemClock
from .._wire import ExecutionStatus
from .._wire.limits import EXECUTION_NAME_PATTERN, MAX_EXECUTION_PAYLOAD_BYTES, MAX_STATE_PAGE
from ..abc import Clock, ExecutionRecord, Store
from ..exceptions import (
    EngineClosedError,
    ExecutionExistsError,
    InvalidNameError,
    NotDurableError,
    PayloadTooLargeError,
    StoreError,
    TargetNotFoundError,
)
from ..function import DurableFunction
from .driver import Driver
from .reader import Reader
from .run import Run
from .service import LocalService
from .stores.memory import MemoryStore
from .targets import load_target, target_of

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

_SUFFIX = 8
"""Hex characters that tell apart executions started without a name."""


@asynccontextmanager
async def open_engine(
    path: str | os.PathLike[str] | None = None,
    *,
    store: Store | None = None,
    clock: Clock | None = None,
    page_size: int = MAX_STATE_PAGE,
) -> AsyncGenerator[Engine]:
    """Open an embedded engine.

    Use it as `async with open_engine(path) as engine:`. Leaving the block abandons what runs: unfinished
    executions stay as they are and can be resumed by the next engine. What the block raises comes out as it is,
    not in an exception group.

    Args:
        path: The store's file, created if it is not there. Without one everything is in memory.
        store: A store to use instead. Whoever opened it closes it.
        clock: The time to go by; tests skip it.
        page_size: How many operations an invocation is handed at once.

    Raises:
        StoreLockedError: Another engine has the file.
        StoreSchemaError: It is not a store, or of a version this library does not know.
        StoreError: It cannot be opened.
        ValueError: Both `path` and `store` are given.
    """
    if store is not None:
        if path is not None:
            raise ValueError("an engine has a path or a store, not both")
        async with _engine_over(store, clock or SystemClock(), page_size) as engine:
            yield engine
        return
    opened = MemoryStore() if path is None else await anyio.to_thread.run_sync(_open_file, os.fspath(path))
    try:
        async with _engine_over(opened, clock or SystemClock(), page_size) as engine:
            yield engine
    finally:
        with anyio.CancelScope(shield=True):
            await opened.aclose()


@asynccontextmanager
async def _engine_over(store: Store, clock: Clock, page_size: int) -> AsyncGenerator[Engine]:
    service = LocalService(store, clock, page_size=page_size)
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        driver = Driver(service, clock, tasks)
        engine = Engine(store, clock, service, driver)
        tasks.start_soon(driver.keep_time, name="durable timers")
        try:
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
    """Runs durable executions in this process. Made by `open_engine`."""

    def __init__(self, store: Store, clock: Clock, service: LocalService, driver: Driver) -> None:
        super().__init__(store)
        self._clock = clock
        self._service = service
        self._driver = driver
        # Functions by target: what resumes without being imported.
        self._functions: dict[str, DurableFunction[Any, Any]] = {}
        self._closed = False

    # --- Running ---------------------------------------------------------------------------------------------

    def register(self, function: DurableFunction[Any, Any]) -> None:
        """Know a function, so that executions of it resume with this very object and nothing is imported.

        Args:
            function: Made by `@durable_execution`.

        Raises:
            NotDurableError: It is something else.
        """
        self._functions[_checked_target(function)] = function

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
        target = _checked_target(function)
        if name is not None and EXECUTION_NAME_PATTERN.fullmatch(name) is None:
            raise InvalidNameError(name, "an execution", "1 to 64 characters of [a-zA-Z0-9_-]")
        payload = function.encode_input(event)
        size = len(payload.encode())
        if size > MAX_EXECUTION_PAYLOAD_BYTES:
            raise PayloadTooLargeError(f"the input of {function.name}", size, MAX_EXECUTION_PAYLOAD_BYTES)
        self._functions[target] = function
        record = None if name is None else await self._store.find(name)
        while record is None:
            record = self._new_record(function.name, target, payload, name)
            try:
                await self._service.create(record)
            except ExecutionExistsError:
                # Somebody else was faster; or, hardly, the name that was made up is taken.
                record = None if name is None else await self._store.find(name)
        if record.function != target:
            raise ExecutionExistsError(record.name, f"another function, {record.function}")
        if not function.is_same_input(payload, record.input):
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

    # --- Inside ----------------------------------------------------------------------------------------------

    def _run(self, record: ExecutionRecord, function: DurableFunction[Any, Any] | None) -> Run[Any]:
        self._check_open()
        run = self._driver.find(record.name)
        if run is not None:
            return run
        known = function or self._load(record.function)
        run = Run(record, known, self._service)
        if record.status is not ExecutionStatus.RUNNING:
            run.end(record)
        elif isinstance(known, Exception):
            run.end(known)
        else:
            self._driver.drive(run)
        return run

    def _load(self, target: str) -> DurableFunction[Any, Any] | Exception:
        try:
            return self._functions.get(target) or load_target(target)
        except (TargetNotFoundError, NotDurableError) as error:
            return error

    def _new_record(self, function: str, target: str, payload: str, name: str | None) -> ExecutionRecord:
        plain = re.sub(r"[^a-zA-Z0-9_-]", "-", function)
        execution_id = uuid4().hex
        name = name or f"{plain[: 63 - _SUFFIX]}-{execution_id[:_SUFFIX]}"
        return ExecutionRecord(
            id=execution_id,
            name=name,
            # As AWS makes them, of a region and an account that it does not have.
            arn=f"arn:aws:lambda:local:000000000000:function:{plain}:1/durable-execution/{name}/{execution_id}",
            function=target,
            status=ExecutionStatus.RUNNING,
            start_timestamp=self._clock.now(),
            input=payload,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError

    def close(self) -> None:
        """Start nothing more, and tell those who wait for executions that are not over."""
        self._closed = True
        self._driver.close()


def _checked_target(function: DurableFunction[Any, Any]) -> str:
    if not isinstance(function, DurableFunction):
        raise NotDurableError(repr(function), "it was not made by @durable_execution")
    return target_of(function)
