"""`now`: the time, as a STEP that nobody waits for (PROTOCOL section 4).

It is recorded, as it cannot be derived. Its updates leave with the next call, so it costs none of its own; and as
nothing has to be waited for it is a plain method. That has a price where an operation would leave the user's code
by a cancellation: this one cannot. It then gives the time as it is and records nothing; the code comes no further
than to its next `await`, so what it makes of it cannot have a durable effect.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from .._engine.current import saga_var
from .._engine.frame import Frame
from .._engine.perform import Verb, fail_divergence
from .._kernel.decide import Decision, Park, Raise, Return, Run, decide_step
from .._kernel.errors import decode_error
from .._kernel.history import Identity
from .._kernel.values import Converter
from .._wire import ErrorObject, Operation, OperationAction, OperationType, SubType

NAME: Final = "now"
"""What the step is called."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CONVERTER: Final[Converter[datetime]] = Converter(datetime)


def now(frame: Frame) -> datetime:
    """The time, the same on every replay (see `DurableContext.now`)."""
    verb = NowVerb(frame)
    frame.check(verb.identity)
    invocation = frame.invocation
    time = _EPOCH + timedelta(milliseconds=invocation.clock.now())
    if invocation.ending is not None:
        invocation.refuse_shielded(str(verb.identity))
        return time
    recorded = invocation.history.get(frame.peek())
    decision = verb.decide(recorded)
    if recorded is not None and (isinstance(decision, Park) or not verb.identity.matches(recorded)):
        fail_divergence(frame, recorded, str(verb.identity))
        return time
    if recorded is not None and invocation.rehearsal is not None:
        invocation.rehearsal.seen.add(recorded.id)
    if isinstance(decision, Raise):
        frame.take()
        frame.settle()
        raise verb.error(decision.error)
    if isinstance(decision, Return):
        frame.take()
        frame.settle()
        return verb.value(decision.payload)
    if isinstance(decision, Run) and _is_admitted(frame, verb, recorded):
        operation_id = frame.take()
        if decision.start:  # if not, a crash has cut the end off from it
            invocation.journal.note(verb.start_update(operation_id))
        payload = _CONVERTER.encode(time, "the time")
        invocation.journal.assume(verb.update(operation_id, OperationAction.SUCCEED, payload=payload))
        frame.settle()
    return time


class NowVerb(Verb[datetime]):
    """The time, taken once."""

    __slots__ = ()

    def __init__(self, frame: Frame) -> None:
        self.identity = Identity(OperationType.STEP, SubType.STEP, NAME, frame.context_id)

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP."""
        return decide_step(recorded, "at-least-once")

    def value(self, payload: str | None) -> datetime:
        """When it was."""
        return _CONVERTER.decode(payload, f"the recorded result of {self.identity}")

    def error(self, recorded: ErrorObject | None) -> Exception:
        """Not one of ours."""
        return decode_error(recorded)


def _is_admitted(frame: Frame, verb: NowVerb, recorded: Operation | None) -> bool:
    """Whether something new may be recorded; if not, the code is being left, or the next operation says why.

    Raises:
        OperationBudgetError: The saga around it could not be rolled back any more.
        Exception: What made the saga around it roll back.
    """
    halts = frame.branch.halts()
    saga = saga_var.get()
    doomed = None if saga is None else saga.doomed()
    if doomed is not None and doomed.raises_in(frame.branch):
        raise doomed.refusal()
    if halts or (doomed is not None and frame.branch.stopped is None):
        return False
    if frame.finished:
        fail_divergence(frame, None, str(verb.identity))
        return False
    if recorded is None:
        frame.invocation.budget.take(saga)
    return True
