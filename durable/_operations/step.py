"""STEP: run once, record the result (PROTOCOL section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from .._engine.conversion import AnyConverter, converter_of
from .._engine.current import StepInfo, step_var
from .._engine.frame import Frame
from .._engine.probe import body_of
from .._kernel.batch import check_payload
from .._kernel.decide import Decision, Interrupt, Run, Semantics, decide_step
from .._kernel.errors import encode_error
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._kernel.signatures import Signature, signature_of
from .._wire import Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.updates import StepOptions
from ..exceptions import FrameMisuseError, SerializationError, StepInterruptedError, StepTimeoutError
from .body import BodyVerb, call_function

if TYPE_CHECKING:
    from ..abc import Serde

T = TypeVar("T")

_HOPELESS = (FrameMisuseError, SerializationError)
"""Errors in the code itself: trying again gives them again."""


class StepVerb(BodyVerb[T]):
    """One step: a user's function, its arguments and how to run it."""

    __slots__ = ("_args", "_function", "_retry", "_semantics", "_signature", "_timeout", "name")

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
        serde: Serde | None = None,
    ) -> None:
        self._signature: Signature = signature_of(function)
        self.name = check_name(self._signature.name if name is None else name, "a step")
        identity = Identity(OperationType.STEP, SubType.STEP, self.name, frame.context_id)
        super().__init__(identity, self.converter(serde or frame.invocation.serde), f"step {self.name!r}")
        self._function = function
        self._args = args
        self._retry = retry
        self._timeout = timeout
        self._semantics: Semantics = semantics

    @property
    def awaits_start(self) -> bool:  # type: ignore[override]
        """At most once: it is known to have begun before it can have any effect."""
        return self._semantics == "at-most-once"

    @property
    def may_lag(self) -> bool:  # type: ignore[override]
        """At most once: it is known to have ended before anything else happens."""
        return not self.awaits_start

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP."""
        return decide_step(recorded, self._semantics)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:
        """Run one attempt."""
        if isinstance(decision, Interrupt):
            return self._unsuccessful(operation_id, StepInterruptedError(self.name), decision.attempt)
        frame.active = self.label
        try:
            result = await self._attempt(frame, operation_id, decision.attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the step's outcome
            return self._unsuccessful(operation_id, error, decision.attempt)
        finally:
            frame.active = None
        what = f"the result of {self.label}"
        try:
            payload, value = await self.encode(frame, result, what)
            check_payload(payload, what)
        except SerializationError as error:
            return self._unsuccessful(operation_id, error, decision.attempt)
        self._live = (payload, value)
        return self.update(operation_id, OperationAction.SUCCEED, payload=payload)

    def converter(self, serde: Serde | None) -> AnyConverter:
        """What encodes and decodes the result; resolved before anything runs."""
        return converter_of(self._signature, serde)

    def info(self, frame: Frame, operation_id: str, attempt: int, deadline: float | None) -> StepInfo:
        """What the function can know of its step."""
        return StepInfo(self.name, frame.invocation.arn, operation_id, attempt, deadline)

    async def _attempt(self, frame: Frame, operation_id: str, attempt: int) -> Any:
        """Call the function once, with what is ambient set and the time limit running."""
        timeout = self._timeout
        deadline = None if timeout is None else anyio.current_time() + timeout
        info = self.info(frame, operation_id, attempt, deadline)
        signature, body = body_of(frame.invocation.probe, info, self._signature, self._function)
        token = step_var.set(info)
        try:
            if timeout is None:
                return await call_function(signature, body, self._args)
            with anyio.move_on_after(timeout) as scope:
                # A thread cannot be stopped. With a time limit it is left to itself; without, it is waited for.
                return await call_function(signature, body, self._args, abandon=True)
            if scope.cancelled_caught:
                raise StepTimeoutError(self.name, timeout)
        finally:
            step_var.reset(token)

    def _unsuccessful(self, operation_id: str, error: Exception, attempt: int) -> OperationUpdate:
        """What comes of an attempt that failed: another one, or the step's failure."""
        delay = None
        if self._retry is not None and not isinstance(error, _HOPELESS):
            import random  # only here: it is slow to load

            try:
                delay = self._retry.next_delay(error, attempt, random.random())  # noqa: S311 - it is jitter
            except Exception as trouble:  # noqa: BLE001 - the user's own `retry_if`
                trouble.add_note(f"raised by retry_if of step {self.name!r} for {error!r}")
                trouble.__cause__ = error
                error = trouble
        if delay is None:
            return self.failed(operation_id, error)
        return self.update(
            operation_id,
            OperationAction.RETRY,
            error=encode_error(error),
            step_options=StepOptions(next_attempt_delay_seconds=delay),
        )
