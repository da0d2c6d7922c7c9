"""History events as what somebody who watches wants to know. Pure: nothing here prints or waits.

A `Story` is told one execution's events in order, and answers with moments. What is how a thing is recorded, and
not what happened, stays untold: the step that holds a rollback's plan, the one that counts its attempts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from .._kernel.ids import outcome_id, rollback_id
from .._wire import ErrorObject, SubType
from .._wire.events import (
    CallbackStartedDetails,
    Event,
    EventError,
    EventResult,
    EventType,
    ExecutionPausedDetails,
    ExecutionResumedDetails,
    FailureDetails,
    InvocationCompletedDetails,
    RetryDetails,
    StepFailedDetails,
    StepSucceededDetails,
    WaitStartedDetails,
)
from .awaited import Kind as AwaitedKind
from .awaited import name_within, saga_of
from .rollbacks import Rollback, is_attempt
from .texts import one_line

Role = Literal[
    "step",
    "wait",
    "callback",
    "invoke",
    "context",
    "saga",
    "undo",
    "cleanup",
    "operator",
    "cancellation",
    "plan",
    "attempt",
    "outcome",
]
"""What an operation is to a watcher; the last three are how something else is recorded.

An `operator` is asked about an undo that has failed. A `cancellation` is what a saga can be cancelled by: nobody
waits for it.
"""

Kind = Literal[
    "begun",
    "succeeded",
    "failed",
    "retry",
    "not yet",
    "interrupted",
    "rollback",
    "rolled back",
    "skipped",
    "invocation failed",
    "paused",
    "resumed",
]

_StepDetails = (StepSucceededDetails, StepFailedDetails)

_PARTS: Final = {
    kind: re.fullmatch(r"(Execution|Invocation|Context|Wait|Step|ChainedInvoke|Callback)([A-Z]\w+)", kind)
    for kind in EventType
}
_ROLE: Final[dict[str, Role]] = {
    "Context": "context",
    "Wait": "wait",
    "Step": "step",
    "ChainedInvoke": "invoke",
    "Callback": "callback",
}
_ROLE_BY_SUBTYPE: Final[dict[str, Role]] = {
    SubType.SAGA: "saga",
    SubType.COMPENSATION: "undo",
    SubType.CLEANUP: "cleanup",
    SubType.CANCELLATION: "cancellation",
}
_AWAITED: Final[dict[Role, AwaitedKind]] = {
    "callback": "answer",
    "operator": "decision",
    "cancellation": "cancellation",
}


PAUSES: Final = frozenset({"paused", "resumed"})
"""Moments of an execution that somebody has paused."""


class Thing:
    """An operation, as far as it has been told.

    Attributes:
        id: Its id.
        role: What it is to a watcher.
        name: What it is called; what it is, if it has no name. For an operator, what could not be undone.
        sub_type: As it is recorded.
        depth: How many operations enclose it.
        parent: The operation that encloses it.
        started: When it, or after a resumption what is left of it, began; milliseconds.
        attempt: Which attempt runs or has run, from 1.
        until: When it goes on by itself; milliseconds.
        callback: The id that somebody outside has to answer to, if it is a callback.
    """

    __slots__ = ("attempt", "callback", "depth", "id", "name", "parent", "role", "started", "sub_type", "until")

    def __init__(self, event: Event, role: Role, parent: Thing | None) -> None:
        self.id = event.id or ""
        self.role: Role = role
        self.name = event.name or event.sub_type or role
        self.sub_type = event.sub_type
        if parent is not None and parent.sub_type == SubType.WAIT_FOR_CALLBACK:
            self.name = name_within(parent.name, self.name)
        elif role == "cancellation":
            self.name = saga_of(event.name) or SubType.SAGA
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.started: int = event.event_timestamp
        self.attempt = 1
        self.until: int | None = None
        details = event.details
        self.callback = details.callback_id if isinstance(details, CallbackStartedDetails) else None

    @property
    def around(self) -> list[Thing]:
        """What encloses it, outermost first."""
        return [] if self.parent is None else [*self.parent.around, self.parent]

    @property
    def awaited(self) -> AwaitedKind | None:
        """What somebody outside can do about it, if it is that."""
        return _AWAITED.get(self.role)

    @property
    def path(self) -> str:
        """Its name, after those of the contexts it is in: `squares / map-item-2 / work`."""
        return " / ".join([*(thing.name for thing in self.around if thing.role == "context"), self.name])


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something worth telling.

    Attributes:
        kind: What happened.
        time: When; milliseconds.
        thing: To which operation; `None` for the execution.
        attempt: Which attempt of it.
        elapsed: Milliseconds it took.
        payload: What it ended with, JSON text; why it was paused or resumed, text.
        error: What it failed with, or why a rollback begins.
        until: When it goes on; milliseconds.
        names: What a rollback will undo, or has not attempted.
        past: Whether it happened before anybody watched.
    """

    kind: Kind
    time: int
    thing: Thing | None = None
    attempt: int = 1
    elapsed: int = 0
    payload: str | None = None
    error: ErrorObject | None = None
    until: int | None = None
    names: tuple[str, ...] = ()
    past: bool = False


class Story:
    """One execution's story."""

    def __init__(self) -> None:
        # What has begun and not ended, and is worth showing, by id; in the order of its beginning.
        self.active: dict[str, Thing] = {}
        # By their ids, in the order of their beginning.
        self.rollbacks: dict[str, Rollback] = {}
        # The number of the last event that was told.
        self.last_event = 0
        self._things: dict[str, Thing] = {}
        # What may stop a block, by the id of what records how the block ended.
        self._limits: dict[str, Thing] = {}
        # What is being undone, or was last, by the rollback's id.
        self._undoing: dict[str, Thing] = {}

    def recall(self, events: Iterable[Event]) -> list[Moment]:
        """Take in what happened before anybody watched."""
        return [msgspec.structs.replace(moment, past=True) for event in events for moment in self.tell(event)]

    def resume(self, now: int) -> list[Moment]:
        """Go on after an interruption: what was running is run again; what is awaited still is."""
        moments: list[Moment] = []
        for thing in self.innermost():
            if thing.awaited is not None:
                moments.append(Moment(kind="begun", time=now, thing=thing))
            if thing.until is not None or thing.role not in {"step", "undo", "cleanup"}:
                continue
            thing.started = now
            moments.append(Moment(kind="interrupted", time=now, thing=thing, attempt=thing.attempt))
        return moments

    def awaited(self, now: int) -> list[Moment]:
        """What is awaited of somebody outside, for whoever begins to watch what runs on elsewhere."""
        return [
            Moment(kind="begun", time=now, thing=thing) for thing in self.innermost() if thing.awaited is not None
        ]

    def innermost(self) -> list[Thing]:
        """What is under way, without what only encloses something that is."""
        active = list(self.active.values())
        around = {thing.parent.id for thing in active if thing.parent is not None}
        return [thing for thing in active if thing.id not in around]

    def tell(self, event: Event) -> list[Moment]:
        """What an event means: nothing, or a moment."""
        self.last_event = event.event_id
        parts = _PARTS[event.event_type]
        subject, phase = parts.groups() if parts is not None else ("Execution", "")
        if subject == "Execution":
            return self._execution(event)
        if subject == "Invocation":
            return self._invocation(event)
        if phase == "Started":
            return self._begin(event, _ROLE[subject])
        thing = self._things.get(event.id or "") or self._new(event, _ROLE[subject])
        if thing.role == "plan":
            return self._plan(event, thing)
        details = event.details
        if isinstance(details, _StepDetails) and details.retry_details.next_attempt_delay_seconds is not None:
            return self._retry(event, thing, details.retry_details)
        return self._end(event, thing, succeeded=phase == "Succeeded")

    # --- Inside ----------------------------------------------------------------------------------------------

    @staticmethod
    def _execution(event: Event) -> list[Moment]:
        details = event.details
        if not isinstance(details, (ExecutionPausedDetails, ExecutionResumedDetails)):
            return []  # its beginning and its end are told with what surrounds the story
        kind: Kind = "paused" if isinstance(details, ExecutionPausedDetails) else "resumed"
        reason = None if details.reason is None else details.reason.payload
        return [Moment(kind=kind, time=event.event_timestamp, payload=reason)]

    @staticmethod
    def _invocation(event: Event) -> list[Moment]:
        details = event.details
        if not isinstance(details, InvocationCompletedDetails) or details.error is None:
            return []
        return [Moment(kind="invocation failed", time=event.event_timestamp, error=details.error.payload)]

    def _begin(self, event: Event, role: Role) -> list[Moment]:
        thing = self._things.get(event.id or "")
        if thing is None:
            thing = self._new(event, role)
        else:  # another attempt: it keeps its place
            thing.attempt += 1
        details = event.details
        thing.until = details.scheduled_end_timestamp if isinstance(details, WaitStartedDetails) else None
        if thing.role in {"plan", "outcome"}:
            return []
        if thing.role == "attempt":
            self._copy_to_parent(thing)
            return []
        if thing.role != "cancellation":
            self.active[thing.id] = thing
        if thing.role == "saga":
            return []  # told when it is known what it will undo
        return [
            Moment(kind="begun", time=event.event_timestamp, thing=thing, attempt=thing.attempt, until=thing.until)
        ]

    def _new(self, event: Event, role: Role) -> Thing:
        parent = self._things.get(event.parent_id or "")
        role = "outcome" if event.id in self._limits else _role(event, parent, role)
        thing = self._things[event.id or ""] = Thing(event, role, parent)
        if role in {"wait", "cancellation"}:
            self._limits[outcome_id(thing.id)] = thing
        elif role == "saga":
            self.rollbacks[thing.id] = Rollback(thing.id, thing.name)
        elif parent is not None and parent.id in self.rollbacks:
            if role == "undo":
                self.rollbacks[parent.id].forward_of(thing.id)
                self._undoing[parent.id] = thing
            elif role == "operator" and parent.id in self._undoing:
                thing.name = self._undoing[parent.id].name
        return thing

    def _plan(self, event: Event, thing: Thing) -> list[Moment]:
        saga = thing.parent
        if saga is None:
            return []
        rollback = self.rollbacks[saga.id]
        rollback.plan(result_of(event))
        return [
            Moment(
                kind="rollback",
                time=event.event_timestamp,
                thing=saga,
                error=rollback.reason,
                names=tuple(rollback.planned.values()),
            )
        ]

    def _retry(self, event: Event, thing: Thing, retries: RetryDetails) -> list[Moment]:
        delay = retries.next_attempt_delay_seconds or 0
        thing.until = event.event_timestamp + delay * 1000
        thing.attempt = retries.current_attempt or thing.attempt
        error = error_of(event)
        shown = self._copy_to_parent(thing)
        return [
            Moment(
                # A condition that is not met is looked at again: that is no failure.
                kind="retry" if error is not None else "not yet",
                time=event.event_timestamp,
                thing=shown,
                attempt=thing.attempt,
                error=error,
                until=thing.until,
            )
        ]

    def _end(self, event: Event, thing: Thing, *, succeeded: bool) -> list[Moment]:
        self.active.pop(thing.id, None)
        error = None if succeeded else error_of(event)
        if thing.role == "attempt":
            return []  # the compensation's own end follows
        if thing.role == "outcome":
            # The block has ended: whatever might have stopped it, it does not matter any more.
            self.active.pop(self._limits[thing.id].id, None)
            return []
        thing.until = None
        attempt = _attempt(event) or thing.attempt
        elapsed = event.event_timestamp - thing.started
        if thing.role == "saga":
            return self._rolled_back(event, thing, elapsed)
        if thing.role == "undo" and thing.parent is not None and thing.parent.id in self.rollbacks:
            self.rollbacks[thing.parent.id].note(thing.id, thing.name, succeeded=succeeded, error=error)
        return [
            Moment(
                kind="succeeded" if succeeded else "failed",
                time=event.event_timestamp,
                thing=thing,
                attempt=attempt,
                elapsed=elapsed,
                payload=result_of(event),
                error=error,
            )
        ]

    def _rolled_back(self, event: Event, saga: Thing, elapsed: int) -> list[Moment]:
        rollback = self.rollbacks[saga.id]
        error = error_of(event)
        rollback.settle(result_of(event) if error is None else error.error_data)
        moment = Moment(kind="rolled back", time=event.event_timestamp, thing=saga, elapsed=elapsed)
        names = tuple(rollback.not_attempted)
        if not names:
            return [moment]
        return [Moment(kind="skipped", time=event.event_timestamp, thing=saga, names=names), moment]

    def _copy_to_parent(self, thing: Thing) -> Thing:
        """What counts a compensation's attempts is shown as the compensation's own."""
        if thing.role != "attempt" or thing.parent is None:
            return thing
        thing.parent.attempt = thing.attempt
        thing.parent.until = thing.until
        return thing.parent


def _role(event: Event, parent: Thing | None, role: Role) -> Role:
    """What an operation is to a watcher, by what it is and where it is."""
    found = _ROLE_BY_SUBTYPE.get(event.sub_type or "")
    if found is not None or parent is None:
        return found or role
    if parent.role == "saga" and role == "callback":
        return "operator"
    if parent.role == "saga" and event.id == rollback_id(parent.id):
        return "plan"
    counts = parent.role in {"undo", "cleanup"} and is_attempt(event.id, event.name, parent.id, parent.name)
    return "attempt" if counts else role


def result_of(event: Event) -> str | None:
    """What an event says that something ended with, JSON text."""
    result = getattr(event.details, "result", None)
    return result.payload if isinstance(result, EventResult) else None


def error_of(event: Event) -> ErrorObject | None:
    """What an event says that something failed with."""
    details = event.details
    error = details.error if isinstance(details, (FailureDetails, StepFailedDetails)) else None
    return error.payload if isinstance(error, EventError) else None


def _attempt(event: Event) -> int | None:
    details = event.details
    retries: RetryDetails | None = details.retry_details if isinstance(details, _StepDetails) else None
    return None if retries is None else retries.current_attempt


def pause_text(moment: Moment) -> str:
    """A pause, or its end, in words."""
    said = "is paused, until somebody resumes it" if moment.kind == "paused" else "is resumed"
    return said if moment.payload is None else f"{said}: {one_line(moment.payload)}"
