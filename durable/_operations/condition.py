"""STEP of subtype WaitForCondition: look again and again, with nothing running in between (PROTOCOL section 4).

Each check is an attempt. One that does not meet the condition is recorded as a RETRY that carries the state; the
next one begins with it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

from .._engine.conversion import converter_of, decode
from .._engine.current import StepInfo, step_var
from .._engine.frame import Frame
from .._engine.probe import body_of
from .._kernel.batch import check_payload
from .._kernel.decide import Decision, Interrupt, Run, decide_step
from .._kernel.durations import to_seconds
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.retry import Backoff, to_delay_seconds
from .._kernel.signatures import signature_of
from .._kernel.values import PLAIN, Converter
from .._wire import Operation, OperationAction, OperationType, OperationUpdate, SubType, Timestamp
from .._wire.updates import StepOptions
from ..exceptions import ConditionNotMetError, ConditionTimeoutError
from .body import BodyVerb, call_function

T = TypeVar("T")

Delay: TypeAlias = float | timedelta | Backoff | Callable[[T, int], float | timedelta]
"""How long to wait between two checks: always as long, longer and longer, or by state and number of the check."""

DEFAULT_ATTEMPTS: Final = 60
"""As AWS's own SDKs have it (PROTOCOL section 7)."""

_SHOWN_STATE: Final = 256 * 1024
"""Bytes up to which an error that tells of a condition carries its last state."""


class ConditionVerb(BodyVerb[T]):
    """One condition: what looks, what it goes on from, and what it is to come to."""

    __slots__ = (
        "_check",
        "_delay",
        "_initial",
        "_max_attempts",
        "_name",
        "_recorded",
        "_signature",
        "_timeout",
        "_until",
    )

    def __init__(
        self,
        frame: Frame,
        check: Callable[[T], object],
        state: T,
        *,
        until: Callable[[T], bool],
        delay: Delay[T] | None,
        max_attempts: int,
        timeout: float | timedelta | None,
        name: str | None,
    ) -> None:
        self._signature = signature_of(check)
        self._name = check_name(self._signature.name if name is None else name, "a condition")
        identity = Identity(OperationType.STEP, SubType.WAIT_FOR_CONDITION, self._name, frame.context_id)
        converter = converter_of(self._signature, frame.invocation.serde)
        super().__init__(identity, converter, f"condition {self._name!r}")
        if signature_of(until).is_async:
            raise TypeError(
                f"`until` of {self.label} is a coroutine function: looking is the business of the check"
            )
        if max_attempts < 1:
            raise ValueError(f"{self.label} with max_attempts={max_attempts!r}: there is always one check")
        self._check = check
        self._until = until
        self._delay = _delay_function(Backoff() if delay is None else delay, f"the delay of {self.label}")
        self._max_attempts = max_attempts
        self._timeout = None if timeout is None else to_seconds(timeout, f"the timeout of {self.label}")
        # As a replay would find it, if the first check were not the first. A serde is asked when it begins.
        self._initial = state
        if isinstance(converter, Converter):
            what = f"the initial state of {self.label}"
            payload = converter.encode(state, what)
            check_payload(payload, what)
            self._initial = converter.decode(payload, what)
        # What this attempt goes on from; `None` if it is the first.
        self._recorded: Operation | None = None

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP."""
        self._recorded = recorded
        return decide_step(recorded, "at-least-once")

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:
        """Look once."""
        now = frame.invocation.clock.now
        began = now() if self._recorded is None else self._recorded.start_timestamp
        frame.active = self.label
        try:
            info = StepInfo(self._name, frame.invocation.arn, operation_id, decision.attempt, None)
            payload, state = await self._look(frame, info)
            if self._is_met(state):
                self._live = (payload, state)
                return self.update(operation_id, OperationAction.SUCCEED, payload=payload)
            delay = self._delay(state, decision.attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the condition's outcome
            return self.failed(operation_id, error)
        finally:
            frame.active = None
        if decision.attempt >= self._max_attempts:
            return self.failed(
                operation_id, ConditionNotMetError(self._name, decision.attempt, self._shown(payload))
            )
        if self._timeout is not None:
            left = self._timeout - _seconds(began, now())
            if left <= 0:
                too_late = ConditionTimeoutError(self._name, decision.attempt, self._shown(payload), self._timeout)
                return self.failed(operation_id, too_late)
            delay = min(delay, left)
        return self.update(
            operation_id,
            OperationAction.RETRY,
            payload=payload,
            step_options=StepOptions(next_attempt_delay_seconds=to_delay_seconds(delay)),
        )

    async def _look(self, frame: Frame, info: StepInfo) -> tuple[str, T]:
        """Call the check with the state as it is recorded; the state after it."""
        details = self._recorded.step_details if self._recorded is not None else None
        if details is not None and details.result is not None:
            state = await decode(frame, self._converter, details.result, f"the recorded state of {self.label}")
        elif self.loads:
            _, state = await self.encode(frame, self._initial, f"the initial state of {self.label}")
        else:
            state = self._initial
        signature, check = body_of(frame.invocation.probe, info, self._signature, self._check)
        token = step_var.set(info)
        try:
            result = await call_function(signature, check, (state,))
        finally:
            step_var.reset(token)
        what = f"the state of {self.label}"
        payload, value = await self.encode(frame, result, what)
        check_payload(payload, what)
        return payload, value

    def _shown(self, payload: str) -> Any:
        """The last state, for an error; what a serde has made of one is not for everybody to read."""
        return PLAIN.decode(payload, "a state") if not self.loads and len(payload) <= _SHOWN_STATE else None

    def _is_met(self, state: T) -> bool:
        met: Any = self._until(state)
        if inspect.isawaitable(met):
            if inspect.iscoroutine(met):
                met.close()
            raise TypeError(f"`until` of {self.label} gave an awaitable: looking is the business of the check")
        return bool(met)


def _delay_function(delay: Any, where: str) -> Callable[[Any, int], float]:
    """Seconds after a check, by state and number of the check."""
    if isinstance(delay, Backoff):
        import random  # only here: it is slow to load

        return lambda _, attempt: delay.delay_after(attempt, random.random())  # noqa: S311 - it is jitter
    if callable(delay):
        given: Callable[[Any, int], Any] = delay
        return lambda state, attempt: to_seconds(given(state, attempt), where)
    seconds = to_seconds(delay, where)
    return lambda _, __: seconds


def _seconds(begin: Timestamp, end: Timestamp) -> float:
    return (end - begin) / 1000
