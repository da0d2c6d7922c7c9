"""WAIT: a durable timer (PROTOCOL section 4)."""

from __future__ import annotations

from datetime import timedelta

from .._engine.frame import Frame
from .._engine.perform import Verb
from .._kernel.decide import Decision, decide_wait
from .._kernel.durations import to_wait_seconds
from .._kernel.errors import decode_error
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.updates import WaitOptions


class WaitVerb(Verb[None]):
    """One durable timer."""

    __slots__ = ("seconds",)
    ended_by_others = True

    def __init__(self, frame: Frame, duration: float | timedelta, *, name: str | None = None) -> None:
        where = "a wait" if name is None else f"wait {check_name(name, 'a wait')!r}"
        self.seconds = to_wait_seconds(duration, where)
        self.identity = Identity(OperationType.WAIT, SubType.WAIT, name, frame.context_id)

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a WAIT."""
        return decide_wait(recorded)

    def start_update(self, operation_id: str) -> OperationUpdate:
        """START, with how long."""
        return self.update(operation_id, OperationAction.START, wait_options=WaitOptions(wait_seconds=self.seconds))

    def value(self, payload: str | None) -> None:
        """Nothing: the time has passed."""

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What a wait that did not end by itself raises."""
        return decode_error(
            recorded or ErrorObject(error_type="WaitCancelled", error_message="the wait was cancelled")
        )
