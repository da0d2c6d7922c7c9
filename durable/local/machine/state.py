"""One execution: its operations, its timers, and what a call does to them.

A call is worked out beside the state, as a `Transition`, and taken over only when the store has it: all or
nothing, and never ahead of what is durable.

What is checked here, as it concerns more than one operation (PROTOCOL section 5):

 1. At most 250 updates a call, and one EXECUTION update, last.
 2. One id twice in a call only as START and then the end of the same STEP or CONTEXT.
 3. A parent is a CONTEXT that exists, or was started earlier in the call.
 4. Type, subtype, name and parent of an id never change.
 5. Nothing is accepted under a finished context, or for a finished execution; what was left unfinished there is
    cut off: it never falls due, and is not waited for.
 6. Nothing is accepted for an execution that is paused, once that has taken effect.

What ends an operation from outside (a callback's sender, a callee's end) comes through `end`, by the same rules.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from ..._wire import (
    ErrorObject,
    ExecutionStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from ..._wire.limits import MAX_UPDATES_PER_CALL
from ...abc import Change, EventRecord, ExecutionRecord, Loaded, OperationExtra
from . import callback, context, execution, invoke, pausing, step, wait
from .rules import RefusedUpdateError, check_same, check_shape

_APPLY = {OperationType.STEP: step.apply, OperationType.WAIT: wait.apply, OperationType.CONTEXT: context.apply}
_TWICE = (OperationType.STEP, OperationType.CONTEXT)
_PENDING = {
    OperationType.STEP: OperationStatus.PENDING,
    OperationType.WAIT: OperationStatus.STARTED,
    OperationType.CALLBACK: OperationStatus.STARTED,
    OperationType.CHAINED_INVOKE: OperationStatus.STARTED,
}
_NOTHING = OperationExtra()


class Transition:
    """What one call, the passing of time or the outside would change; nothing has changed yet."""

    __slots__ = ("events", "extras", "operations", "record")

    def __init__(self) -> None:
        self.record: ExecutionRecord | None = None
        self.operations: dict[str, Operation] = {}
        self.events: list[EventRecord] = []
        self.extras: dict[str, OperationExtra] = {}

    def __bool__(self) -> bool:
        return bool(self.operations or self.events or self.record or self.extras)

    @property
    def invokes(self) -> list[str]:
        """The chained invokes that it starts."""
        return [
            operation.id
            for operation in map(self.operations.get, self.extras)
            if operation is not None and operation.type is OperationType.CHAINED_INVOKE
        ]


class ExecutionState:
    """The state of one execution, as it is durable."""

    __slots__ = ("_changes", "_events", "_timers", "extras", "operations", "record")

    def __init__(self, loaded: Loaded) -> None:
        self.record = loaded.execution
        # In the order of their first record, which is the order in which a function gets them.
        self.operations = {operation.id: operation for operation in loaded.operations}
        # What the wire does not carry of them: of every callback and chained invoke, and of nothing else.
        self.extras = dict(loaded.extras)
        # How many events and changes have been recorded: the numbers of the last ones.
        self._events = loaded.events
        self._changes = loaded.changes
        # When time changes which operation. An entry may be out of date: the operation itself knows better. Every
        # operation that time will change has an entry no later than that.
        self._timers: list[tuple[Timestamp, str]] = []
        self._set_timers(self.operations.values())

    @property
    def is_over(self) -> bool:
        """Whether the execution has ended."""
        return self.record.status.is_over

    @property
    def is_waiting(self) -> bool:
        """Whether PENDING is a legal answer: something is pending (PROTOCOL section 2)."""
        return any(
            operation.status is _PENDING.get(operation.type) and not self._is_cut_off(operation)
            for operation in self.operations.values()
        )

    @property
    def invokes(self) -> list[str]:
        """The chained invokes whose callees have not ended, as far as anybody waits for them."""
        return [
            operation_id
            for operation_id in self.extras
            if self.operations[operation_id].type is OperationType.CHAINED_INVOKE
            and self.why_closed(self.operations[operation_id]) is None
        ]

    def extra_of(self, operation_id: str) -> OperationExtra:
        """What else there is to know of an operation."""
        return self.extras.get(operation_id, _NOTHING)

    @property
    def next_due(self) -> Timestamp | None:
        """When time changes something next; `None` if it does not."""
        while self._timers:
            when, operation_id = self._timers[0]
            due = self._due(operation_id)
            if due == when:
                return when
            heapq.heappop(self._timers)
            if due is not None and due > when:  # a heartbeat has put it off
                heapq.heappush(self._timers, (due, operation_id))
        return None

    def advance(self, now: Timestamp, forward: Transition) -> None:
        """Let time pass: what falls due by now changes."""
        when = self.next_due
        if when is None or when > now:
            return
        # The timers stay until all this is taken over: a call that is refused takes nothing away.
        for _, operation_id in sorted(self._fallen_due(now)):
            operation = self.operations[operation_id]
            if operation.type is OperationType.STEP:
                forward.operations[operation_id] = step.elapse(operation)
                continue
            if operation.type is OperationType.WAIT:
                forward.operations[operation_id], event = wait.elapse(operation, now)
            else:
                extra = self.extra_of(operation_id)
                forward.operations[operation_id], event = callback.elapse(operation, extra, now)
            forward.events.append(event)

    def apply(self, updates: Sequence[OperationUpdate], now: Timestamp, forward: Transition) -> None:
        """Work out what a call changes.

        Raises:
            RefusedUpdateError: A rule is broken; nothing of the call may be applied.
        """
        if len(updates) > MAX_UPDATES_PER_CALL:
            raise RefusedUpdateError(f"a call has at most {MAX_UPDATES_PER_CALL} updates, this one {len(updates)}")
        if self.is_over or self.record.status is ExecutionStatus.PAUSED:
            raise RefusedUpdateError(f"the execution is {self.record.status}")
        changed = forward.operations
        in_call: dict[str, OperationAction | None] = {}
        for update in updates:
            check_shape(update)
            if forward.record is not None:
                raise RefusedUpdateError("an EXECUTION update is the last one of its call", update)
            if update.type is OperationType.EXECUTION:
                forward.record, event = execution.apply(self.record, update, now)
                forward.events.append(event)
                continue
            self._check_twice(update, in_call)
            self._check_parents(update, changed)
            known = changed.get(update.id) or self.operations.get(update.id)
            if known is not None:
                check_same(known, update)
            apply = _APPLY.get(update.type)
            if apply is not None:
                changed[update.id], event = apply(known, update, now)
            elif update.type is OperationType.CALLBACK:
                started = callback.apply(known, update, now, self.record.id)
                changed[update.id], event, forward.extras[update.id] = started
            else:
                changed[update.id], event, forward.extras[update.id] = invoke.apply(known, update, now)
            forward.events.append(event)

    def give_way(self, now: Timestamp, forward: Transition) -> bool:
        """Have a pause that was asked for take effect, as the invocation under way has come to a call, or its end.

        Returns:
            Whether it does; an execution that ends at this moment is not paused any more.
        """
        if self.record.status is not ExecutionStatus.PAUSING or forward.record is not None:
            return False
        forward.record, event = pausing.take_effect(self.record, now)
        forward.events.append(event)
        return True

    def expire(self, now: Timestamp, forward: Transition) -> bool:
        """End the execution if it has taken longer than it may. Returns whether it has."""
        when = pausing.expires_at(self.record)
        if when is None or not pausing.has_expired(self.record, now):
            return False
        self.advance(when, forward)
        error = pausing.timeout_error(self.record)
        forward.record, event = execution.finish(self.record, now, ExecutionStatus.TIMED_OUT, error=error)
        forward.events.append(event)
        return True

    def count_with(self, forward: Transition) -> int:
        """How many operations there would be, the EXECUTION itself among them."""
        return 1 + len(self.operations) + sum(key not in self.operations for key in forward.operations)

    def why_closed(self, operation: Operation) -> str | None:
        """Why an operation does not end from outside any more; `None` if it may."""
        if operation.status is not OperationStatus.STARTED:
            return f"it is {operation.status}"
        if self.is_over:
            return f"its execution {self.record.name!r} is {self.record.status}"
        if self._is_cut_off(operation):
            return f"the part of its execution {self.record.name!r} that waited for it has ended"
        return None

    def end(
        self,
        operation: Operation,
        status: OperationStatus,
        now: Timestamp,
        forward: Transition,
        *,
        result: str | None = None,
        error: ErrorObject | None = None,
    ) -> None:
        """End a callback or a chained invoke from outside; it must not be closed."""
        end = callback.end if operation.type is OperationType.CALLBACK else invoke.end
        ended, event = end(operation, status, now, result=result, error=error)
        forward.operations[operation.id] = ended
        forward.events.append(event)

    def change(self, forward: Transition) -> Change:
        """What the store has to keep of it."""
        return Change(
            number=self._changes + 1,
            execution=forward.record,
            operations=tuple(forward.operations.values()),
            first_event=self._events + 1,
            events=forward.events,
            extras=forward.extras,
        )

    def take_over(self, forward: Transition) -> None:
        """Go forward: the store has it."""
        self.operations.update(forward.operations)
        if forward.extras:
            self.extras.update(forward.extras)
        self._events += len(forward.events)
        self._changes += 1
        if forward.record is not None:
            self.record = forward.record
        self._set_timers(forward.operations.values())

    def visible(self) -> Iterator[Operation]:
        """What a function gets: all but the children of contexts that have ended without ReplayChildren."""
        hidden: set[str] = set()
        for operation in self.operations.values():
            if operation.parent_id in hidden:
                hidden.add(operation.id)
                continue
            if operation.type is OperationType.CONTEXT and operation.is_final:
                details = operation.context_details
                if details is None or not details.replay_children:
                    hidden.add(operation.id)
            yield operation

    @staticmethod
    def _check_twice(update: OperationUpdate, in_call: dict[str, OperationAction | None]) -> None:
        before = in_call.get(update.id)
        if before is None:
            in_call[update.id] = update.action
        elif (
            before is OperationAction.START and update.action is not OperationAction.START and update.type in _TWICE
        ):
            in_call[update.id] = OperationAction.CANCEL  # a third time is one too many
        else:
            raise RefusedUpdateError("an id is twice in a call only as START and end of a STEP or CONTEXT", update)

    def _check_parents(self, update: OperationUpdate, changed: dict[str, Operation]) -> None:
        parent_id = update.parent_id
        while parent_id is not None:
            parent = changed.get(parent_id) or self.operations.get(parent_id)
            if parent is None or parent.type is not OperationType.CONTEXT:
                raise RefusedUpdateError(f"the parent {parent_id} is not a CONTEXT that has been started", update)
            if parent.is_final:
                raise RefusedUpdateError(f"the parent {parent_id} is {parent.status}", update)
            parent_id = parent.parent_id

    def _is_cut_off(self, operation: Operation) -> bool:
        """Whether a context above it has ended: whatever comes of it, nobody waits for it any more."""
        parent_id = operation.parent_id
        while parent_id is not None:
            parent = self.operations[parent_id]
            if parent.is_final:
                return True
            parent_id = parent.parent_id
        return False

    def _set_timers(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            when = self._due_of(operation)
            if when is not None:
                heapq.heappush(self._timers, (when, operation.id))

    def _fallen_due(self, now: Timestamp) -> set[tuple[Timestamp, str]]:
        # By what the operations know: entries may be earlier.
        found = set[tuple[Timestamp, str]]()
        for when, operation_id in self._timers:
            due = self._due(operation_id) if when <= now else None
            if due is not None and due <= now:
                found.add((due, operation_id))
        return found

    def _due(self, operation_id: str) -> Timestamp | None:
        operation = self.operations[operation_id]
        return None if self._is_cut_off(operation) else self._due_of(operation)

    def _due_of(self, operation: Operation) -> Timestamp | None:
        if operation.type is OperationType.STEP:
            return step.due(operation)
        if operation.type is OperationType.WAIT:
            return wait.due(operation)
        if operation.type is OperationType.CALLBACK:
            return callback.due(operation, self.extra_of(operation.id))
        return None
