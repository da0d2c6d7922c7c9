"""Changes of executions as a service makes them, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..._wire import ErrorObject, ExecutionStatus, Operation, OperationStatus, OperationType, Timestamp
from ..._wire.events import EventType
from ..._wire.operations import StepDetails
from ...abc import Change, EventRecord, ExecutionRecord, OperationExtra, Store
from ..clock import START
from .rules import BrokenRuleError, expect_same

OOPS: Final = ErrorObject(error_type="ValueError", error_message="oops")


def record_of(name: str = "t-1", **changes: Any) -> ExecutionRecord:
    """An execution that begins."""
    fields: dict[str, Any] = {
        "id": f"id-of-{name}",
        "name": name,
        "arn": f"arn:aws:lambda:us-east-1:123456789012:function:f:1/durable-execution/{name}/id-of-{name}",
        "function": "tests:f",
        "status": ExecutionStatus.RUNNING,
        "start_timestamp": START,
        "input": "null",
    }
    return ExecutionRecord(**{**fields, **changes})


def step(operation_id: str, result: str | None = "1", **changes: Any) -> Operation:
    """A step that has succeeded."""
    fields: dict[str, Any] = {
        "id": operation_id,
        "type": OperationType.STEP,
        "start_timestamp": START,
        "status": OperationStatus.SUCCEEDED,
        "name": operation_id,
        "sub_type": "Step",
        "end_timestamp": Timestamp(START + 1),
        "step_details": StepDetails(attempt=1, result=result),
    }
    return Operation(**{**fields, **changes})


class Log:
    """One execution's changes: numbers them, and knows what a store must give back."""

    def __init__(self, name: str = "t-1", **fields: Any) -> None:
        self.record = record_of(name, **fields)
        self.id = self.record.id
        self.changes = 0
        self.operations: dict[str, Operation] = {}
        self.extras: dict[str, OperationExtra] = {}
        self.events: list[EventRecord] = []
        # As it was before the last change.
        self._before: dict[str, Any] = {}

    def begin(self) -> Change:
        """The change that creates the execution."""
        return self.change(record=self.record)

    def change(
        self,
        *operations: Operation,
        events: Sequence[EventRecord] | None = None,
        record: ExecutionRecord | None = None,
        extras: Mapping[str, OperationExtra] | None = None,
    ) -> Change:
        """The next change; one event an operation, unless they are given."""
        if events is None:
            events = [
                EventRecord(EventType.STEP_SUCCEEDED, START, operation.id, self.changes) for operation in operations
            ]
            if record is not None:
                events.append(EventRecord(EventType.EXECUTION_STARTED, START))
        self._before = {
            "changes": self.changes,
            "operations": dict(self.operations),
            "extras": dict(self.extras),
            "events": list(self.events),
            "record": self.record,
        }
        self.changes += 1
        change = Change(
            number=self.changes,
            execution=record,
            operations=operations,
            first_event=len(self.events) + 1,
            events=tuple(events),
            extras=extras or {},
        )
        for operation in operations:
            self.operations[operation.id] = operation
        self.extras.update(extras or {})
        self.events.extend(events)
        self.record = record or self.record
        return change

    def end(self, status: ExecutionStatus = ExecutionStatus.SUCCEEDED, **fields: Any) -> Change:
        """The execution's end."""
        ended = {"status": status, "end_timestamp": Timestamp(START + 9), **fields}
        return self.change(record=msgspec.structs.replace(self.record, **ended))

    def take_back(self) -> None:
        """Forget the last change: it was not applied."""
        vars(self).update(self._before)

    async def check(self, store: Store) -> None:
        """That a store has exactly what was committed.

        Raises:
            BrokenRuleError: It has something else.
        """
        loaded = await store.load(self.id)
        if loaded is None:
            raise BrokenRuleError(f"load({self.id!r}) gives the execution", "None")
        expect_same("loaded.execution", loaded.execution, self.record)
        expect_same("loaded.changes", loaded.changes, self.changes)
        expect_same("loaded.operations", list(loaded.operations), list(self.operations.values()))
        expect_same("loaded.events", loaded.events, len(self.events))
        expect_same("loaded.extras", dict(loaded.extras), self.extras)
        expect_same("events()", list(await store.events(self.id)), list(enumerate(self.events, 1)))
        expect_same("find()", await store.find(self.record.name), self.record)
