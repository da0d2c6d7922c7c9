"""The decision function: a recorded operation, or none, gives what to do now.

The set of decisions is closed. The engine's one loop (`_engine/perform.py`) carries them out; after each it
looks at history again, until the decision is `Return` or `Raise`.

  type            recorded                 decision
  --------------  -----------------------  -------------------------------------------------------------
  STEP            nothing                  Run, START first
                  READY                    Run, START first (the service counts attempts by STARTs)
                  STARTED, at least once   Run again, no START: it was interrupted
                  STARTED, at most once    Interrupt: nobody knows whether it took effect
                  PENDING                  Park until the next attempt is due
                  SUCCEEDED                Return
                  anything else            Raise
  WAIT            nothing                  Start
                  STARTED                  Park until its recorded end, not the whole time again
                  SUCCEEDED                Return
                  anything else            Raise
  CONTEXT         nothing                  Run, START first
                  STARTED                  Run, no second START
                  SUCCEEDED                Return; Replay when its result is rebuilt from its children
                  anything else            Raise
  CALLBACK,       nothing                  Start
  its creation    anything                 Return the callback's id: how it ended is its result's business
  CALLBACK,       SUCCEEDED                Return
  its result      otherwise final          Raise
                  anything else            Park until somebody outside completes it, or it times out
  CHAINED_INVOKE  nothing                  Start
                  SUCCEEDED                Return
                  otherwise final          Raise
                  anything else            Park until the callee has ended
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .._wire import ErrorObject, Operation, OperationStatus

Semantics = Literal["at-least-once", "at-most-once"]


class Return(msgspec.Struct, frozen=True):
    """It is done: hand out the recorded result (JSON text)."""

    payload: str | None


class Raise(msgspec.Struct, frozen=True):
    """It failed: raise the recorded error."""

    error: ErrorObject | None


class Start(msgspec.Struct, frozen=True):
    """Record its START, and wait for the answer."""


class Run(msgspec.Struct, frozen=True):
    """Run its body.

    Attributes:
        attempt: Which attempt this is, from 1.
        start: Whether a START goes first.
    """

    attempt: int
    start: bool


class Interrupt(msgspec.Struct, frozen=True):
    """An at-most-once attempt was interrupted; it must not run again."""

    attempt: int


class Replay(msgspec.Struct, frozen=True):
    """Run its body only to rebuild from its children what is not in its own record; write nothing."""


class Park(msgspec.Struct, frozen=True):
    """Wait for the world: until an instant (epoch milliseconds), or for something from outside (`None`)."""

    until: int | None


Decision: TypeAlias = Return | Raise | Start | Run | Interrupt | Replay | Park

_START = Start()
_FIRST_RUN = Run(attempt=1, start=True)
_REPLAY = Replay()
_PARK = Park(None)


def decide_step(recorded: Operation | None, semantics: Semantics) -> Decision:
    """What to do with a STEP."""
    if recorded is None:
        return _FIRST_RUN
    details = recorded.step_details
    status = recorded.status
    if status is OperationStatus.SUCCEEDED:
        return Return(details.result if details else None)
    attempt = (details.attempt or 0 if details else 0) + 1
    if status is OperationStatus.READY:
        return Run(attempt, start=True)
    if status is OperationStatus.STARTED:
        return Interrupt(attempt) if semantics == "at-most-once" else Run(attempt, start=False)
    if status is OperationStatus.PENDING:
        return Park(details.next_attempt_timestamp if details else None)
    return Raise(details.error if details else None)


def decide_wait(recorded: Operation | None) -> Decision:
    """What to do with a WAIT."""
    if recorded is None:
        return _START
    if recorded.status is OperationStatus.SUCCEEDED:
        return Return(None)
    if recorded.status is OperationStatus.STARTED:
        return Park(recorded.wait_details.scheduled_end_timestamp if recorded.wait_details else None)
    return Raise(None)


def decide_context(recorded: Operation | None) -> Decision:
    """What to do with a CONTEXT."""
    if recorded is None:
        return _FIRST_RUN
    details = recorded.context_details
    if recorded.status is OperationStatus.STARTED:
        return Run(attempt=1, start=False)
    if recorded.status is OperationStatus.SUCCEEDED:
        if details is not None and details.replay_children:
            return _REPLAY
        return Return(details.result if details else None)
    return Raise(details.error if details else None)


def decide_callback_creation(recorded: Operation | None) -> Decision:
    """What to do where a CALLBACK is created."""
    if recorded is None:
        return _START
    return Return(recorded.callback_details.callback_id if recorded.callback_details else None)


def decide_callback_result(recorded: Operation | None) -> Decision:
    """What to do where the result of a CALLBACK, which was created before, is awaited."""
    return _PARK if recorded is None else _outcome(recorded)


def decide_invoke(recorded: Operation | None) -> Decision:
    """What to do with a CHAINED_INVOKE."""
    if recorded is None:
        return _START
    return _outcome(recorded)


def _outcome(recorded: Operation) -> Decision:
    """What somebody else has made of it; waited for until it is final."""
    if recorded.status is OperationStatus.SUCCEEDED:
        return Return(recorded.result)
    return Raise(recorded.error) if recorded.is_final else _PARK
