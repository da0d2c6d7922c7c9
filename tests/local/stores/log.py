"""Changes of executions as a service makes them, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from durable._wire import ExecutionStatus, Operation, OperationStatus, OperationType, Timestamp
from durable._wire.events import EventType
from durable._wire.operations import StepDetails
from durable.abc import Change, EventRecord, ExecutionRecord
from durable.testing.clock import START
from tests.local.fakes import record_of


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
        self.events: list[EventRecord] = []

    def begin(self) -> Change:
        """The change that creates the execution."""
        return self.change(record=self.record)

    def change(
        self,
        *operations: Operation,
        events: Sequence[EventRecord] | None = None,
        record: ExecutionRecord | None = None,
    ) -> Change:
        """The next change; one event an operation, unless they are given."""
        if events is None:
            events = [
                EventRecord(EventType.STEP_SUCCEEDED, START, operation.id, self.changes) for operation in operations
            ]
            if record is not None:
                events.append(EventRecord(EventType.EXECUTION_STARTED, START))
        self.changes += 1
        change = Change(
            number=self.changes,
            execution=record,
            operations=operations,
            first_event=len(self.events) + 1,
            events=tuple(events),
        )
        for operation in operations:
            self.operations[operation.id] = operation
        self.events.extend(events)
        self.record = record or self.record
        return change

    def end(self, status: ExecutionStatus = ExecutionStatus.SUCCEEDED, **fields: Any) -> Change:
        """The execution's end."""
        ended = {"status": status, "end_timestamp": Timestamp(START + 9), **fields}
        return self.change(record=msgspec.structs.replace(self.record, **ended))
