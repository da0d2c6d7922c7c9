"""One compensation: a CONTEXT of its own, in which durable operations may be used."""

from __future__ import annotations

from typing import Any

from .._engine.current import frame_var
from .._engine.frame import Frame
from .._engine.perform import Verb, perform
from .._kernel.decide import Decision, Interrupt, Run, decide_context
from .._kernel.errors import decode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.ids import attempt_prefix
from .._kernel.ledger import Entry
from .._kernel.retry import Retry
from .._kernel.values import PLAIN, Converter
from .._operations.step import StepVerb
from .._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate, SubType


class CompensationVerb(Verb[None]):
    """The compensation of one ledger entry.

    Its START is recorded before its body runs: together with the rollback's beginning, or with the outcome of
    the compensation before. That is why its own outcome need not be waited for.
    """

    __slots__ = ("_entry", "_live_error", "_retry", "_timeout")

    awaits_start = True
    awaits_end = False

    def __init__(self, saga_id: str, entry: Entry, *, retry: Retry | None, timeout: float | None) -> None:
        self.identity = Identity(OperationType.CONTEXT, SubType.COMPENSATION, entry.name, saga_id)
        self._entry = entry
        self._retry = retry
        self._timeout = timeout
        self._live_error: tuple[ErrorObject, Exception] | None = None

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the body: directly, or attempt by attempt in a step that keeps count."""
        child = Frame(frame.invocation, context_id=operation_id, parent=frame)
        attempt = _Attempt(
            child,
            self._entry.undo,
            self._entry.args,
            name=self._entry.name,
            retry=self._retry,
            timeout=self._timeout,
        )
        frame.active = f"the compensation of {self._entry.name!r}"
        try:
            if self._retry is None:
                await attempt.run_in(child, operation_id, 1)
            else:
                await perform(child, attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the compensation's outcome
            recorded, rebuilt = rebuild_live(error)
            self._live_error = (recorded, rebuilt)
            return self.update(operation_id, OperationAction.FAIL, error=recorded)
        finally:
            frame.active = None
        return self.update(operation_id, OperationAction.SUCCEED)

    def value(self, payload: str | None) -> None:
        """A compensation's value is that it has happened."""

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What it raised, as its own type."""
        if self._live_error is not None and self._live_error[0] == recorded:
            return self._live_error[1]
        return decode_error(recorded)


class _Attempt(StepVerb[Any]):
    """An attempt at undoing. Unlike any other step's body it may use durable operations.

    They belong to the compensation's context; their positions are counted anew in each attempt.
    """

    __slots__ = ()

    def converter(self) -> Converter[Any]:
        """What it returns does not matter, so its annotation does not either."""
        return PLAIN

    async def _attempt(self, frame: Frame, operation_id: str, attempt: int) -> None:
        own = Frame(
            frame.invocation,
            context_id=frame.context_id,
            prefix=attempt_prefix(operation_id, attempt),
            parent=frame,
        )
        await self.run_in(own, operation_id, attempt)

    async def run_in(self, frame: Frame, operation_id: str, attempt: int) -> None:
        """Call the user's function with `frame` as the current one. What it returns does not matter."""
        token = frame_var.set(frame)
        try:
            await super()._attempt(frame, operation_id, attempt)
        finally:
            frame_var.reset(token)
