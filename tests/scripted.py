"""A service that believes what it is told, and in which the test plays the outside world.

It has no rules of its own, so that it can also be what a real service is not: one that does not repeat what it was
told, gives no callback id, or ends an operation in a status that is not expected of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable import DurableFunction
from durable._kernel.history import History
from durable._wire import (
    ErrorObject,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    Timestamp,
)
from durable._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from durable._wire.invocation import InitialExecutionState
from durable._wire.operations import CallbackDetails, ChainedInvokeDetails, ExecutionDetails, StepDetails
from durable.abc import ServiceClient
from durable.testing import SkippingClock

ARN = "arn:aws:lambda:local:0:function:f:1/durable-execution/t/root"


class ScriptedService(ServiceClient):
    """One execution of a function, and the outside world of it."""

    def __init__(self, function: DurableFunction[Any, Any], event: Any = None) -> None:
        self.function = function
        self.clock = SkippingClock()
        self.updates: list[Sequence[OperationUpdate]] = []
        self.invocations = 0
        # Whether a call's answer holds the operations it was about.
        self.repeats = True
        self.gives_ids = True
        # Called with the number of each call, from 1: before and after it is applied.
        self.before: Callable[[int], None] = lambda _: None
        self.after: Callable[[int], None] = lambda _: None
        self._operations = History(
            [
                Operation(
                    id="root",
                    type=OperationType.EXECUTION,
                    start_timestamp=self.clock.now(),
                    status=OperationStatus.STARTED,
                    execution_details=ExecutionDetails(input_payload=function.encode_input(event)),
                )
            ]
        )
        self._ids = ["root"]
        self._news: set[str] = set()

    # --- What the function calls -----------------------------------------------------------------------------

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        self.updates.append(tuple(updates))
        number = len(self.updates)
        self.before(number)
        for update in updates:
            self._apply(update)
        self.after(number)
        news, self._news = self._news, set()
        told = {update.id for update in updates}
        answered = [
            operation
            for operation in self.operations
            if operation.id in news or (operation.id in told and (self.repeats or operation.callback_details))
        ]
        return CheckpointDurableExecutionResponse(
            checkpoint_token="dG9rZW4=",
            new_execution_state=CheckpointUpdatedExecutionState(operations=tuple(answered)),
        )

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        raise AssertionError("there is only one page")

    def _apply(self, update: OperationUpdate) -> None:
        known = self._operations.get(update.id)
        kept = known.step_details.result if known is not None and known.step_details is not None else None
        self._operations.assume(update, self.clock.now())
        if known is None:
            self._ids.append(update.id)
        if update.type is OperationType.CALLBACK and self.gives_ids:
            self._change(update.id, callback_details=CallbackDetails(callback_id=f"cb-{len(self._ids) - 1}"))
        if update.type is OperationType.STEP and update.action is OperationAction.START and kept is not None:
            attempt = known.step_details.attempt if known is not None and known.step_details is not None else 0
            self._change(update.id, step_details=StepDetails(attempt=attempt, result=kept))

    def _change(self, operation_id: str, **changes: Any) -> None:
        operation = self._operations.get(operation_id)
        assert operation is not None
        self._operations.merge([msgspec.structs.replace(operation, **changes)])

    # --- What the test sees and does -------------------------------------------------------------------------

    @property
    def operations(self) -> list[Operation]:
        """Everything that is recorded, in order."""
        found = [self._operations.get(operation_id) for operation_id in self._ids]
        return [operation for operation in found if operation is not None]

    @property
    def calls(self) -> list[list[str]]:
        """Each call, as the updates it carried: `STEP START name`."""
        return [[f"{update.type} {update.action} {update.name}" for update in call] for call in self.updates]

    def operation(self, name: str) -> Operation:
        """The last operation of that name."""
        return [operation for operation in self.operations if operation.name == name][-1]

    def end(
        self,
        name: str,
        status: OperationStatus = OperationStatus.SUCCEEDED,
        *,
        result: str | None = None,
        error: ErrorObject | None = None,
    ) -> None:
        """End a callback or an invoke, as somebody outside does. The function is told with its next call."""
        operation = self.operation(name)
        if operation.type is OperationType.CALLBACK:
            details = operation.callback_details or CallbackDetails()
            ended = msgspec.structs.replace(details, result=result, error=error)
            self._change(operation.id, status=status, callback_details=ended)
        else:
            ended_invoke = ChainedInvokeDetails(result=result, error=error)
            self._change(operation.id, status=status, chained_invoke_details=ended_invoke)
        self._news.add(operation.id)

    async def invoke(self) -> InvocationOutput:
        """One invocation, over all that is recorded."""
        self.invocations += 1
        self._news.clear()
        for operation in self.operations:
            details = operation.step_details
            if operation.status is OperationStatus.PENDING and details is not None:
                due = details.next_attempt_timestamp
                assert due is not None
                if due <= self.clock.now():
                    self._change(operation.id, status=OperationStatus.READY)
        event = InvocationInput(
            durable_execution_arn=ARN,
            checkpoint_token="dG9rZW4=",
            initial_execution_state=InitialExecutionState(operations=tuple(self.operations)),
        )
        return await self.function.invoke(event, self, clock=self.clock)

    async def suspended(self) -> None:
        """One invocation that ends with something pending."""
        assert (await self.invoke()).status is InvocationStatus.PENDING

    async def retried(self) -> None:
        """Let the time of the next attempt come."""
        await self.clock.sleep_until(
            min(
                operation.step_details.next_attempt_timestamp or Timestamp(0)
                for operation in self.operations
                if operation.status is OperationStatus.PENDING and operation.step_details is not None
            )
        )

    async def result(self) -> Any:
        """One invocation that ends the execution: its result; what it failed with is raised."""
        output = await self.invoke()
        if output.status is InvocationStatus.FAILED:
            raise self.function.decode_error(output.error)
        assert output.status is InvocationStatus.SUCCEEDED, output
        return self.function.decode_result(output.result)
