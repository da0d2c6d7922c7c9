"""One invocation of a durable function, from the event to the answer.

User code runs in one task under a shielded scope, the *root*; the journal's task runs beside it. The ways it ends:

  the function returns or raises    everything queued is recorded, then SUCCEEDED or FAILED is answered
  suspended                         no branch is active: the root is cancelled, PENDING is answered (see parking.py)
  revoked                           the service took the token back: the same, and nothing more is written
  failed                            a call failed, or the code left its history: the root is cancelled; the error is
                                    raised (the service invokes again), or FAILED is answered if it is for good
  abandoned                         whoever runs the invocation cancelled it: nothing is answered

All but the first reach user code as a cancellation: no `except Exception` sees them, and what user code makes of
the cancellation, a return value included, does not count. The way it ends is latched, and only ever replaced by
one further down this list.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import anyio

from .._kernel.errors import encode_error
from .._kernel.history import History, Identity
from .._wire import (
    InvocationInput,
    InvocationOutput,
    InvocationStatus,
    Operation,
    OperationAction,
    OperationType,
    OperationUpdate,
)
from .._wire.limits import MAX_ANSWER_BYTES, MAX_STATE_PAGE
from ..exceptions import MalformedPayloadError, ServiceError, SuspendedError
from .branch import Branch
from .budget import Budget
from .frame import Frame
from .journal import Journal
from .parking import Parking, Waiter
from .probe import probe_var
from .tasks import current_task_function

if TYPE_CHECKING:
    from logging import Logger

    from ..abc import Clock, Serde, ServiceClient
    from .rehearsal import Rehearsal


Body = Callable[["Invocation", str | None], Awaitable[str]]
"""The function's own part: takes the input (JSON text), returns the result (JSON text)."""

_ESCAPED_CHARACTER = 12
"""Bytes that a character is escaped to at most: two of `\\uXXXX`."""

_OPERATIONS_PER_YIELD = 100
"""After so many operations without any wait, others get their turn."""


class Ending(IntEnum):
    """Why an invocation ends before its function does; a higher one replaces a lower."""

    SUSPENDED = 1
    REVOKED = 2
    FAILED = 3
    ABANDONED = 4


_ENDING_TEXT = {
    Ending.SUSPENDED: "the execution is being suspended",
    Ending.REVOKED: "the service has taken the execution back",
    Ending.FAILED: "the invocation is ending after a failure of the service",
    Ending.ABANDONED: "the invocation is being abandoned",
}


class Settings(NamedTuple):
    """What a durable function wants for all of its operations.

    Attributes:
        serde: Encodes and decodes values; by default JSON by annotation.
        logger: Where `ctx.logger` sends messages to; by default the logger `durable.execution`.
        rehearsal: If nothing new is to be done: what is told of how far the code has come.
    """

    serde: Serde | None = None
    logger: Logger | None = None
    rehearsal: Rehearsal | None = None


class Invocation:
    """The state of one invocation; frames, operations and sagas reach everything through it."""

    def __init__(
        self,
        event: InvocationInput,
        history: History,
        client: ServiceClient,
        clock: Clock,
        settings: Settings,
    ) -> None:
        # Bound here and not imported above: `import durable` is to load as little as `import anyio` does.
        from anyio import lowlevel

        self._lowlevel = lowlevel
        self.arn = event.durable_execution_arn
        self.history = history
        self.clock = clock
        self.serde = settings.serde
        self.logger = settings.logger
        self.rehearsal = settings.rehearsal
        self.current_task = current_task_function()
        self.probe = probe_var.get()
        # For a probe: whether something new has been done, and whether what would have been next was put off.
        self.has_advanced = False
        self._is_cut_short = False
        self.journal = Journal(self, client, clock, arn=self.arn, token=event.checkpoint_token, history=history)
        self.ending: Ending | None = None
        # What ended it, when the ending is FAILED.
        self.failure: BaseException | None = None
        self._root = anyio.CancelScope(shield=True)
        # What the user's cancellation does not end, but the invocation's end does: rollbacks, serdes.
        self._user_shields: set[anyio.CancelScope] = set()
        self.parking = Parking(
            clock,
            suspend=self._suspend,
            ask=self.journal.poll,
            flush=self.journal.flush,
            give_way=lowlevel.checkpoint,
        )
        # Whether nothing was recorded before: there is no operation but the execution's own.
        self.is_first = len(history) <= 1
        self.branch = Branch(self.parking, None, None, is_live=self.is_first)
        self.budget = Budget(client.max_operations, len(history))
        self._since_yield = 0

    # --- For operations --------------------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether nothing more can be recorded."""
        return self.ending is not None and self.ending is not Ending.SUSPENDED

    async def enter(self, frame: Frame, what: Identity | str) -> None:
        """What every operation does first: check its frame, and let cancellation and other tasks have their turn.

        Raises:
            FrameMisuseError: Called where its position would depend on scheduling.
        """
        frame.check(what)
        if self.ending is not None:
            await self.leave(str(what))
        self._since_yield += 1
        self.parking.turns += 1
        if self._since_yield < _OPERATIONS_PER_YIELD:
            await self._lowlevel.checkpoint_if_cancelled()
        else:
            self._since_yield = 0
            await self._lowlevel.checkpoint()

    async def give_way(self) -> None:
        """Let others have their turn."""
        await self._lowlevel.checkpoint()

    async def leave(self, what: str) -> NoReturn:
        """Leave user code the way a cancellation does, as the invocation is ending.

        Raises:
            SuspendedError: The user's own shield keeps the cancellation out; silence would be a hang.
        """
        self.refuse_shielded(what)
        while True:
            await anyio.sleep_forever()

    async def advance(self, frame: Frame, what: str) -> None:
        """Before something new, where a test wants a replay before each: leave, if this is not the first."""
        if self.has_advanced and self.probe is not None and self.probe.always_replays:
            self._is_cut_short = True
            while self.ending is None:  # a branch that is stopped is woken, and goes on if it is shielded
                await self.parking.wait(Waiter(frame))
            await self.leave(what)

    def refuse_shielded(self, what: str) -> None:
        """As the invocation is ending: return if the next `await` will be cancelled.

        Raises:
            SuspendedError: It will not be, as for `leave`.
        """
        if anyio.current_effective_deadline() != -math.inf:
            raise SuspendedError(what, _ENDING_TEXT[self.ending or Ending.ABANDONED])

    def user_shield(self) -> anyio.CancelScope:
        """A scope that keeps the user's cancellation out, and lets the invocation's end in."""
        shield = anyio.CancelScope(shield=self.ending is None)
        self._user_shields.add(shield)
        return shield

    def release_shield(self, shield: anyio.CancelScope) -> None:
        """Forget a shield that has been left."""
        self._user_shields.discard(shield)

    # --- For the journal -------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Latch what makes the invocation fail; the first error counts."""
        if self.failure is None:
            self.failure = error
        self._end(Ending.FAILED)

    def revoke(self) -> None:
        """The service gave no further token."""
        self._end(Ending.REVOKED)

    def abandon(self) -> None:
        """Whoever runs this invocation wants no more of it."""
        self._end(Ending.ABANDONED)
        self.journal.cut()

    def _suspend(self) -> None:
        self._end(Ending.SUSPENDED)

    def _end(self, ending: Ending) -> None:
        if self.ending is not None and self.ending >= ending:
            return
        self.ending = ending
        for shield in self._user_shields:
            shield.shield = False
        self._root.cancel()
        # Those that a shield keeps from hearing of the cancellation are told as well (see `leave`).
        self.parking.wake_all()

    # --- The whole -------------------------------------------------------------------------------------------

    async def run(self, body: Body, input_payload: str | None) -> InvocationOutput:
        """Run the function's part and conclude.

        Raises:
            Exception: What made the invocation fail, if invoking again may help.
        """
        outcome: list[InvocationOutput | BaseException] = []

        async def user_task() -> None:
            result: str | BaseException | None = None
            try:
                with self._root:
                    try:
                        result = await body(self, input_payload)
                    except Exception as error:  # noqa: BLE001 - it is the execution's outcome
                        result = error
                outcome.append(await self._conclude(result))
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group and its wrapping
                outcome.append(error)
            finally:
                self.journal.closed = self.ending is not Ending.ABANDONED
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            self.parking.open(tasks)
            tasks.start_soon(self.journal.run)
            tasks.start_soon(user_task)
        if not outcome:
            await self._lowlevel.checkpoint()
            raise ServiceError("the invocation was cancelled from outside of its own task group", retryable=True)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    async def _conclude(self, result: str | BaseException | None) -> InvocationOutput:
        await self.journal.drain()
        if self.ending is None:
            answer = await self._answer(result)
            # Looked at again: the last flush, or recording a large result, may have failed.
            if not self.has_failed:
                return answer
        if self.ending is Ending.ABANDONED:
            await anyio.sleep_forever()  # whoever abandoned it has cancelled this task as well
        if self.ending is Ending.FAILED and self.failure is not None:
            if isinstance(self.failure, ServiceError) and not self.failure.retryable:
                return InvocationOutput(status=InvocationStatus.FAILED, error=encode_error(self.failure))
            raise self.failure
        if self._is_cut_short and self.probe is not None:
            await self.probe.cut(self.arn)  # nothing is pending: there is nothing that could be answered
        return InvocationOutput(status=InvocationStatus.PENDING)

    async def _answer(self, result: str | BaseException | None) -> InvocationOutput:
        if isinstance(result, BaseException):
            # An error object is bounded far below what an answer takes.
            return InvocationOutput(status=InvocationStatus.FAILED, error=encode_error(result))
        if result is not None and _is_too_large(result):
            # Too large for an answer: recorded first, last in its call (PROTOCOL section 2).
            self.journal.note(
                OperationUpdate(
                    id=f"execution-result-{self.clock.now()}",
                    type=OperationType.EXECUTION,
                    action=OperationAction.SUCCEED,
                    payload=result,
                )
            )
            await self.journal.flush()
            result = ""
        return InvocationOutput(status=InvocationStatus.SUCCEEDED, result=result)


def _is_too_large(result: str) -> bool:
    """Whether a result, as a string inside of the answer's JSON, is larger than an answer may be.

    It is JSON text itself, so that its quotes are escaped; and the runtimes of older Pythons escape all but ASCII.
    """
    if len(result) * _ESCAPED_CHARACTER <= MAX_ANSWER_BYTES:
        return False
    import json  # only here: as the runtimes have it

    return len(json.dumps(result)) > MAX_ANSWER_BYTES


async def run_invocation(
    event: InvocationInput, client: ServiceClient, clock: Clock, body: Body, settings: Settings | None = None
) -> InvocationOutput:
    """Answer one invocation.

    Args:
        event: What the service handed to the function.
        client: The service.
        clock: Wall-clock time.
        body: The function's part.
        settings: What holds for all of its operations.

    Raises:
        MalformedPayloadError: The event does not hold the execution's own operation.
        ServiceError: Retryable: the service shall invoke again.
        NonDeterminismError: The code does not follow the execution's history.
    """
    probe = probe_var.get()
    if probe is not None:
        client = probe.between(client)
    try:
        operations = await _load(event, client)
    except ServiceError as error:
        if error.retryable:
            raise
        return InvocationOutput(status=InvocationStatus.FAILED, error=encode_error(error))
    history = History(operations)
    execution = history.get(event.execution_operation_id)
    if execution is None or execution.type is not OperationType.EXECUTION:
        raise MalformedPayloadError(
            "InvocationInput", f"no EXECUTION operation {event.execution_operation_id!r} among its operations"
        )
    details = execution.execution_details
    invocation = Invocation(event, history, client, clock, settings or Settings())
    return await invocation.run(body, details.input_payload if details else None)


async def _load(event: InvocationInput, client: ServiceClient) -> list[Operation]:
    """All operations of the execution, before any user code runs (PROTOCOL section 2)."""
    operations = list(event.initial_execution_state.operations)
    marker = event.initial_execution_state.next_marker
    while marker:
        page = await client.get_state(event.durable_execution_arn, event.checkpoint_token, marker, MAX_STATE_PAGE)
        operations.extend(page.operations)
        marker = page.next_marker
    return operations
