"""One compensation, or one cleanup: a CONTEXT of its own, in which durable operations may be used."""

from __future__ import annotations

from typing import Any, TypeVar

from .._engine.current import StepInfo, frame_var
from .._engine.frame import Frame
from .._engine.perform import Verb, perform, refuse
from .._kernel.decide import Decision, Interrupt, Raise, Return, Run, decide_context
from .._kernel.history import Identity
from .._kernel.ids import attempt_prefix
from .._kernel.ledger import Entry
from .._kernel.retry import Retry
from .._kernel.values import PLAIN, Converter
from .._operations.body import BodyVerb
from .._operations.step import StepVerb
from .._wire import Operation, OperationAction, OperationType, OperationUpdate

T = TypeVar("T")


async def perform_or_look_up(frame: Frame, verb: Verb[T], operation_id: str) -> T:
    """Take an operation to its outcome. One that has ended is looked up, also in a block that was stopped since.

    What has been undone counts as undone, however little time was left for what came after it.

    Args:
        frame: The rollback's.
        verb: The operation.
        operation_id: Its id.

    Raises:
        Exception: What the operation failed with.
    """
    recorded = frame.invocation.history.get(operation_id)
    if frame.invocation.rehearsal is not None:
        frame.invocation.rehearsal.seen.add(operation_id)
    if recorded is not None and recorded.is_final and verb.identity.matches(recorded):
        decision = verb.decide(recorded)
        if isinstance(decision, Return):
            return verb.value(decision.payload)
        if isinstance(decision, Raise):
            raise verb.error(decision.error)
    await refuse(frame)  # also what has begun: it may be nothing but a function of the user's, which runs again
    return await perform(frame, verb, operation_id)


class CompensationVerb(BodyVerb[None]):
    """The compensation of one ledger entry.

    Its START is recorded before its body runs: together with the rollback's beginning, or with the outcome of
    the compensation before. That is why its own outcome need not be waited for.

    Args:
        entry: What to call.
        parent_id: The context it belongs to.
        sub_type: `Compensation` or `Cleanup`.
        key_id: What its idempotency key is made of: the same when an operator has it tried again.
        retry: The saga's policy, where the entry has none of its own.
        timeout: The same, in seconds.
    """

    __slots__ = ("_entry", "_key_id", "_retry", "_timeout")

    awaits_start = True
    awaits_end = False

    def __init__(
        self,
        entry: Entry,
        *,
        parent_id: str | None,
        sub_type: str,
        key_id: str,
        retry: Retry | None,
        timeout: float | None,
    ) -> None:
        identity = Identity(OperationType.CONTEXT, sub_type, entry.name, parent_id)
        super().__init__(identity, PLAIN, f"the {sub_type.lower()} of {entry.name!r}")
        self._entry = entry
        self._key_id = key_id
        self._retry = entry.retry or retry
        self._timeout = timeout if entry.timeout is None else entry.timeout

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the body: directly, or attempt by attempt in a step that keeps count."""
        child = Frame(frame.invocation, context_id=operation_id, parent=frame)
        attempt = _Attempt(child, self._entry, key_id=self._key_id, retry=self._retry, timeout=self._timeout)
        frame.active = self.label
        try:
            if self._retry is None:
                await attempt.run_in(child, operation_id, 1)
            else:
                await perform(child, attempt)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the compensation's outcome
            return self.failed(operation_id, error)
        finally:
            frame.active = None
        return self.update(operation_id, OperationAction.SUCCEED)

    def value(self, payload: str | None) -> None:
        """A compensation's value is that it has happened."""


class _Attempt(StepVerb[Any]):
    """An attempt at undoing. Unlike any other step's body it may use durable operations.

    They belong to the compensation's context; their positions are counted anew in each attempt.
    """

    __slots__ = ("_forward_id", "_key_id", "awaits_end")

    def __init__(
        self, frame: Frame, entry: Entry, *, key_id: str, retry: Retry | None, timeout: float | None
    ) -> None:
        super().__init__(frame, entry.undo, entry.args, name=entry.name, retry=retry, timeout=timeout)
        self._key_id = key_id
        self._forward_id = None if entry.by_hand else entry.forward_id
        self.awaits_end = True

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:
        """Run one attempt. After the last one the compensation's own outcome follows, so nobody waits for it."""
        update = await super().run(frame, operation_id, decision)
        self.awaits_end = update.action is OperationAction.RETRY
        return update

    def converter(self, serde: object) -> Converter[Any]:  # noqa: ARG002
        """What it returns does not matter, so its annotation does not either."""
        return PLAIN

    def info(self, frame: Frame, operation_id: str, attempt: int, deadline: float | None) -> StepInfo:
        """What the function can know: its key is the same in every attempt, whoever asked for it."""
        return StepInfo(
            self.name,
            frame.invocation.arn,
            operation_id,
            attempt,
            deadline,
            key_id=self._key_id,
            forward_id=self._forward_id,
        )

    async def _attempt(self, frame: Frame, operation_id: str, attempt: int) -> None:
        own = Frame(
            frame.invocation,
            context_id=frame.context_id,
            prefix=attempt_prefix(operation_id, attempt),
            parent=frame,
        )
        await self.run_in(own, operation_id, attempt)

    async def run_in(self, frame: Frame, operation_id: str, attempt: int) -> None:
        """Call the user's function with `frame` as the current one. What it returns does not matter."""
        token = frame_var.set(frame)
        try:
            await super()._attempt(frame, operation_id, attempt)
            error = frame.unawaited(f"the end of the compensation of {self.name!r}")
            if error is not None:
                raise error
        finally:
            frame_var.reset(token)
            frame.end()
