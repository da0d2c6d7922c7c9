"""STEP: run once, record the result (PROTOCOL section 4)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import anyio

from .._engine.current import StepInfo, step_var
from .._engine.frame import Frame
from .._engine.perform import Verb
from .._kernel.batch import check_payload
from .._kernel.decide import Decision, Interrupt, Run, Semantics, decide_step
from .._kernel.errors import decode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._kernel.signatures import Signature, signature_of
from .._kernel.values import Converter
from .._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.updates import StepOptions
from ..exceptions import FrameMisuseError, SerializationError, StepInterruptedError, StepTimeoutError

T = TypeVar("T")

_HOPELESS = (FrameMisuseError, SerializationError)
"""Errors in the code itself: trying again gives them again."""


class StepVerb(Verb[T]):
    """One step: a user's function, its arguments and how to run it."""

    __slots__ = (
        "_args",
        "_function",
        "_live",
        "_live_error",
        "_result",
        "_retry",
        "_semantics",
        "_signature",
        "_timeout",
        "name",
    )

    def __init__(
        self,
        frame: Frame,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        semantics: Semantics = "at-least-once",
    ) -> None:
        self._signature: Signature = signature_of(function)
        self._result = self.converter()
        self.name = check_name(self._signature.name if name is None else name, "a step")
        self.identity = Identity(OperationType.STEP, SubType.STEP, self.name, frame.context_id)
        self._function = function
        self._args = args
        self._retry = retry
        self._timeout = timeout
        self._semantics: Semantics = semantics
        # What this very invocation's run gave, so that it need not be decoded a second time.
        self._live: tuple[str, T] | None = None
        self._live_error: tuple[ErrorObject, Exception] | None = None

    @property
    def awaits_start(self) -> bool:  # type: ignore[override]
        """At most once: it is known to have begun before it can have any effect."""
        return self._semantics == "at-most-once"

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP."""
        return decide_step(recorded, self._semantics)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:
        """Run one attempt."""
        if isinstance(decision, Interrupt):
            return self._failed(operation_id, StepInterruptedError(self.name), decision.attempt)
        frame.active = f"step {self.name!r}"
        try:
            result = await self._attempt(frame, operation_id, decision.attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the step's outcome
            return self._failed(operation_id, error, decision.attempt)
        finally:
            frame.active = None
        what = f"the result of step {self.name!r}"
        try:
            payload = self._result.encode(result, what)
            check_payload(payload, what)
            value = self._result.decode(payload, what)
        except SerializationError as error:
            return self._failed(operation_id, error, decision.attempt)
        self._live = (payload, value)
        return self.update(operation_id, OperationAction.SUCCEED, payload=payload)

    def value(self, payload: str | None) -> T:
        """The result, decoded by the function's return annotation."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        value: T = self._result.decode(payload, f"the recorded result of step {self.name!r}")
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What the function raised, as its own type."""
        if self._live_error is not None and self._live_error[0] == recorded:
            return self._live_error[1]
        return decode_error(recorded)

    def converter(self) -> Converter[Any]:
        """What encodes and decodes the result; resolved before anything runs."""
        return self._signature.result

    async def _attempt(self, frame: Frame, operation_id: str, attempt: int) -> Any:
        """Call the function once, with what is ambient set and the time limit running."""
        timeout = self._timeout
        deadline = None if timeout is None else anyio.current_time() + timeout
        info = StepInfo(self.name, frame.invocation.arn, operation_id, attempt, deadline)
        token = step_var.set(info)
        try:
            if timeout is None:
                return await self.call()
            with anyio.move_on_after(timeout) as scope:
                return await self.call()
            if scope.cancelled_caught:
                raise StepTimeoutError(self.name, timeout)
        finally:
            step_var.reset(token)

    async def call(self) -> Any:
        """Call the function: a coroutine here, anything else in a worker thread."""
        if self._signature.is_async:
            return await self._function(*self._args)
        from anyio.to_thread import run_sync  # only here: few need it

        # A thread cannot be stopped. With a time limit it is left to itself; without, it is waited for.
        result = await run_sync(self._function, *self._args, abandon_on_cancel=self._timeout is not None)
        return await result if inspect.isawaitable(result) else result

    def _failed(self, operation_id: str, error: Exception, attempt: int) -> OperationUpdate:
        delay = None
        if self._retry is not None and not isinstance(error, _HOPELESS):
            import random  # only here: it is slow to load

            try:
                delay = self._retry.next_delay(error, attempt, random.random())  # noqa: S311 - it is jitter
            except Exception as trouble:  # noqa: BLE001 - the user's own `retry_if`
                trouble.add_note(f"raised by retry_if of step {self.name!r} for {error!r}")
                trouble.__cause__ = error
                error = trouble
        recorded, rebuilt = rebuild_live(error)
        if delay is not None:
            return self.update(
                operation_id,
                OperationAction.RETRY,
                error=recorded,
                step_options=StepOptions(next_attempt_delay_seconds=delay),
            )
        self._live_error = (recorded, rebuilt)
        return self.update(operation_id, OperationAction.FAIL, error=recorded)
