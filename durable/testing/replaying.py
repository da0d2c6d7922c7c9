"""Replay of recorded histories: whether code still follows what executions of it have recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import anyio
import anyio.lowlevel
import msgspec

from .._engine.rehearsal import Rehearsal
from .._kernel.history import describe
from .._wire import (
    ErrorObject,
    ExecutionStatus,
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
    Timestamp,
)
from .._wire.calls import (
    CheckpointDurableExecutionResponse,
    CheckpointUpdatedExecutionState,
    GetDurableExecutionStateResponse,
)
from .._wire.invocation import InitialExecutionState
from .._wire.operations import ExecutionDetails
from ..abc import Clock, ServiceClient
from ..exceptions import NonDeterminismError, NotDurableError, SerializationError
from ..function import DurableFunction
from .history_files import HistorySource, RecordedHistory, read_history

_SHOWN: Final = 200
"""Characters of a value in an error."""

_COMPARED: Final = {ExecutionStatus.SUCCEEDED, ExecutionStatus.FAILED}
"""What code itself ends with; the others are somebody else's doing."""


_NOT_CALLED: Final = {SubType.COMPENSATION, SubType.CLEANUP}
"""Users' functions, in which durable operations may be: one that has not ended is not gone over."""


class ReplayResult(msgspec.Struct, frozen=True, kw_only=True):
    """What code came to that was run over a recorded history.

    Attributes:
        name: What the execution is called.
        status: How its history ends; RUNNING, or PAUSED, if it is in flight.
        replayed: How many recorded operations the code came to.
        ended: What the code ended with, if it came to its end: `SUCCEEDED` or `FAILED`.
        result: The result it ended with, JSON text.
        error: The error it ended with.
        goes_on_with: What it would do next that is new: one thing, or one a branch.
        waits_for: What it waits for that had not happened: the same.
        divergence: Where the code does not follow the history, with `expected`, `found` and `where`; `None` if it
            follows.
    """

    name: str
    status: ExecutionStatus
    replayed: int
    ended: InvocationStatus | None = None
    result: str | None = None
    error: Exception | None = None
    goes_on_with: Sequence[str] = ()
    waits_for: Sequence[str] = ()
    divergence: NonDeterminismError | None = None

    @property
    def compatible(self) -> bool:
        """Whether the code follows the history."""
        return self.divergence is None

    def check(self) -> Self:
        """Return the result itself if the code follows the history.

        Raises:
            NonDeterminismError: It does not.
        """
        if self.divergence is not None:
            raise self.divergence
        return self

    def __str__(self) -> str:
        if self.divergence is not None:
            found = self.divergence
            return f"does not follow: expected {found.expected}, found {found.found}, at {found.where}"
        count = f"{self.replayed} operation{'' if self.replayed == 1 else 's'}"
        return f"follows {count}, then {self.then}"

    @property
    def then(self) -> str:
        """What the code did after the history, for people."""
        if self.ended is InvocationStatus.SUCCEEDED:
            return f"succeeds with {_shortened(self.result or 'null')}"
        if self.error is not None:
            return f"fails with {_shortened(f'{type(self.error).__name__}: {self.error}')}"
        parts = [f"goes on with {what}" for what in self.goes_on_with]
        parts += [f"waits for {what}" for what in self.waits_for]
        return ", ".join(parts) or "waits"


async def replay(
    function: DurableFunction[Any, Any], history: HistorySource | RecordedHistory, *, arn: str | None = None
) -> ReplayResult:
    """Run a durable function over a recorded history, and tell whether it follows it.

    The code between the operations runs. No step's body does, no compensation and no cleanup; nothing is recorded,
    nobody is called. The code is stopped before the first thing that is new: then it is known how it would go on. A
    history that has ended must end the same way: with the same result, compared as JSON, or with an error of the
    same type and message.

    The clock stands at the last event. Works on asyncio and trio.

    Args:
        function: What the execution is one of, as the code has it now.
        history: A file's path, or what is in it (text, bytes or parsed): what `durable history NAME --json` prints,
            what `aws lambda get-durable-execution-history --include-execution-data` prints, or what
            GetDurableExecutionHistory answers; one page, pages one after another, or a list of pages.
        arn: The execution's ARN, if the file does not tell it. Only `ctx.uuid4()` and `ctx.random()` depend on it.
            By default that which the embedded engine gives to an execution of this name.

    Raises:
        HistoryError: It cannot be read, is no history, is not whole, or was written without its data.
        NotDurableError: That is no durable function.
        OSError: Something recorded could not be reached by a serde.
    """
    given: object = function
    if not isinstance(given, DurableFunction):
        raise NotDurableError(repr(function), "replay() takes one")
    recorded = history if isinstance(history, RecordedHistory) else read_history(history)
    known = arn or recorded.arn
    guessed = known or _local_arn(function, recorded)
    # The last part of an ARN is what the EXECUTION operation is found by.
    whole = f"{guessed.rpartition('/')[0]}/{recorded.execution_id}"
    return await _Replay(function, recorded, whole, is_known=known is not None).run()


class _Replay:
    """One run of a function over one history."""

    def __init__(
        self, function: DurableFunction[Any, Any], history: RecordedHistory, arn: str, *, is_known: bool
    ) -> None:
        self._function = function
        self._history = history
        self._arn = arn
        self._arn_is_known = is_known
        self._rehearsal = Rehearsal()
        self._client = _Silent()

    async def run(self) -> ReplayResult:
        output: InvocationOutput | None = None
        divergence: NonDeterminismError | None = None
        try:
            await self._check_input()
            output = await self._function.rehearse(
                self._event(), self._client, clock=_Stopped(self._history.recorded), rehearsal=self._rehearsal
            )
            divergence = self._left_over() or self._difference(output)
        except NonDeterminismError as error:
            divergence = error
        if divergence is not None and self._rehearsal.draws and not self._arn_is_known:
            divergence.add_note(
                "The code draws from ctx.uuid4() or ctx.random(), which depend on the execution's ARN. The history "
                "does not tell it: that alone may be the difference. Give the ARN as well."
            )
        return self._result(output, divergence)

    async def _check_input(self) -> None:
        """Raise if the input does not fit any more, although it is recorded."""
        try:
            await self._function.load_input(self._history.input)
        except SerializationError as error:
            if not self._ends_with(error):
                found = f"that it does not fit any more: {error}"
                raise NonDeterminismError("its input", found, "the beginning of the execution") from None

    def _ends_with(self, error: Exception) -> bool:
        """Whether it is recorded that the execution failed with this."""
        recorded = self._history.error
        return recorded is not None and recorded.error_message == str(error)

    def _event(self) -> InvocationInput:
        history = self._history
        execution = Operation(
            id=history.execution_id,
            type=OperationType.EXECUTION,
            start_timestamp=history.started,
            status=OperationStatus.STARTED,
            execution_details=ExecutionDetails(input_payload=history.input),
        )
        return InvocationInput(
            durable_execution_arn=self._arn,
            checkpoint_token=_TOKEN,
            initial_execution_state=InitialExecutionState(operations=(execution, *history.operations)),
        )

    # --- What became of it ---------------------------------------------------------------------------------------

    def _left_over(self) -> NonDeterminismError | None:
        """Something recorded that the code has not come to."""
        history = self._history
        seen = self._rehearsal.seen
        closed: set[str] = set()
        for operation in history.operations:
            if operation.parent_id in closed:
                closed.add(operation.id)
                continue
            if operation.sub_type in _NOT_CALLED:
                closed.add(operation.id)
            if operation.id not in seen:
                where = f"event {history.numbers[operation.id]} of the history"
                return NonDeterminismError(_described(operation), f"that the code {self._then()} without it", where)
        return None

    def _difference(self, output: InvocationOutput) -> NonDeterminismError | None:
        """Where the end is not the one that is recorded."""
        history = self._history
        if history.status not in _COMPARED:
            return None
        expected, found = self._recorded_end(), self._end_of(output)
        if output.status.value == history.status.value:
            if output.status is InvocationStatus.SUCCEEDED:
                is_same = _is_same_json(history.result, self._result_of(output))
            else:
                is_same = _told(history.error) == _told(output.error)
            if is_same:
                return None
        return NonDeterminismError(expected, found, "the end of the execution")

    def _recorded_end(self) -> str:
        history = self._history
        if history.status is ExecutionStatus.SUCCEEDED:
            return f"that it succeeds with {_shortened(history.result or 'null')}"
        return f"that it fails with {_shortened(': '.join(_told(history.error)))}"

    def _end_of(self, output: InvocationOutput) -> str:
        if output.status is InvocationStatus.SUCCEEDED:
            return f"that it succeeds with {_shortened(self._result_of(output) or 'null')}"
        if output.status is InvocationStatus.FAILED:
            return f"that it fails with {_shortened(': '.join(_told(output.error)))}"
        return f"that it {self._then()}"

    def _result_of(self, output: InvocationOutput) -> str | None:
        """Its result; one that is too large for an answer is recorded before."""
        return output.result or self._client.result

    def _then(self) -> str:
        halts = self._rehearsal.halts
        parts = [f"{'goes on with' if halt.kind == 'new' else 'waits for'} {halt.what}" for halt in halts]
        return ", ".join(parts) or "ends"

    def _result(self, output: InvocationOutput | None, divergence: NonDeterminismError | None) -> ReplayResult:
        has_ended = output is not None and output.status is not InvocationStatus.PENDING
        failed = output is not None and output.status is InvocationStatus.FAILED
        halts = () if has_ended else self._rehearsal.halts
        known = {operation.id for operation in self._history.operations}
        return ReplayResult(
            name=self._history.name,
            status=self._history.status,
            replayed=len(self._rehearsal.seen & known),
            ended=output.status if output is not None and has_ended else None,
            result=self._result_of(output) if output is not None and has_ended and not failed else None,
            error=self._function.decode_error(output.error) if output is not None and failed else None,
            goes_on_with=tuple(halt.what for halt in halts if halt.kind == "new"),
            waits_for=tuple(halt.what for halt in halts if halt.kind == "waits"),
            divergence=divergence,
        )


_TOKEN: Final = "replay"  # noqa: S105 - it is given to nobody


class _Silent(ServiceClient):
    """A service that takes for granted what it is told, records nothing, and has nothing to tell."""

    def __init__(self) -> None:
        # The result that was too large for an answer.
        self.result: str | None = None

    async def checkpoint(
        self, arn: str, token: str, updates: Sequence[OperationUpdate], client_token: str
    ) -> CheckpointDurableExecutionResponse:
        del arn, client_token
        await anyio.lowlevel.checkpoint()
        for update in updates:
            if update.type is OperationType.EXECUTION:
                self.result = update.payload
        return CheckpointDurableExecutionResponse(
            checkpoint_token=token, new_execution_state=CheckpointUpdatedExecutionState()
        )

    async def get_state(
        self, arn: str, token: str, marker: str, max_items: int
    ) -> GetDurableExecutionStateResponse:
        del arn, token, marker, max_items  # all there is has been told from the beginning
        await anyio.lowlevel.checkpoint()
        return GetDurableExecutionStateResponse(operations=())


class _Stopped(Clock):
    """A clock that stands still."""

    def __init__(self, now: Timestamp) -> None:
        self._now = now

    def now(self) -> Timestamp:
        return self._now

    async def sleep_until(self, when: int) -> None:
        if when > self._now:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()


def _local_arn(function: DurableFunction[Any, Any], history: RecordedHistory) -> str:
    from ..local.machine.execution import new_record  # only here: it loads the engine

    record = new_record(
        history.execution_id,
        function=function.name,
        target="",
        payload=history.input or "null",
        now=history.started,
        name=history.name,
    )
    return record.arn


def _described(operation: Operation) -> str:
    return describe(operation.sub_type or operation.type, operation.name)


def _told(error: ErrorObject | None) -> tuple[str, str]:
    return ("Error", "") if error is None else (error.error_type or "Error", error.error_message or "")


def _is_same_json(one: str | None, other: str | None) -> bool:
    if one == other:
        return True
    try:
        return bool(msgspec.json.decode(one or "null") == msgspec.json.decode(other or "null"))
    except msgspec.DecodeError:
        return False  # what a serde gives is any text


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
