"""A block of code beside an operation that stops it, and a record of which of the two was first.

The operation is one that ends by itself: a timer, or a callback. It is started where the block begins and not
waited for; when the service says that it has ended, the block is stopped. How the block ended is recorded, as a
STEP, before the code goes on. On replay that decides, and the block comes exactly as far as it came before.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

import anyio
import msgspec

from .._engine.block import Block
from .._engine.frame import Frame
from .._engine.parking import Watch
from .._engine.perform import Verb, diverge, perform
from .._kernel.decide import Decision, Interrupt, Run, decide_step
from .._kernel.errors import decode_error
from .._kernel.history import Identity
from .._kernel.ids import outcome_id
from .._wire import (
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
)
from .._wire.limits import MAX_NAME_LENGTH
from ..exceptions import MalformedPayloadError


class BlockEnd(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a block ended, as it is recorded.

    Attributes:
        stopped: Whether the operation was first.
        raised: Whether being stopped made the block's code raise something else than the cancellation, or whether
            the code came to its end all the same.
        passed: If it was stopped: how often its code had got past something that no record shows.
        inside: The same of the branches inside of it (see `Branch.tally`).
    """

    stopped: bool = False
    raised: bool = False
    passed: int = 0
    inside: dict[str, int] = {}


_SUFFIX: Final = " outcome"


class Limit:
    """A block that an operation may stop.

    Args:
        frame: Where the block is.
        trigger: Starts the operation; gives control back at once, however the operation stands.
        name: What the limit is called, for people and in history.
    """

    def __init__(self, frame: Frame, trigger: Verb[Any], *, name: str) -> None:
        self._frame = frame
        self._trigger = trigger
        self._name = name
        self._block = Block(frame)
        # The trigger's operation, from the beginning of `enter`.
        self._trigger_id: str | None = None
        self._watch: Watch | None = None
        # Whether it is recorded that the block's code was left by its cancellation, and by nothing else.
        self._was_cancelled = False

    async def enter(self) -> None:
        """Begin: records the operation."""
        if self._trigger_id is not None:
            raise RuntimeError(f"{self._name} can be entered once: ask for another one")
        frame = self._frame
        self._trigger_id = frame.peek()
        frame.opens_block = True
        try:
            await perform(frame, self._trigger)
        finally:
            frame.opens_block = False
        outcome = frame.invocation.history.get(outcome_id(self._trigger_id))
        is_over = outcome is not None and outcome.is_final
        # Before the block is entered: if it raises, nobody leaves that.
        end = _decode_end(outcome.result, self._name) if outcome is not None and is_over else BlockEnd()
        self._block.enter(was_left=outcome is not None)
        trigger = self.trigger
        if is_over:
            if end.stopped:
                self._was_cancelled = not end.raised
                self._block.stop(end.passed, known=end.inside)
        elif trigger is not None:
            self._changed(trigger)
            if not trigger.is_final:
                timer = trigger.wait_details
                until = timer.scheduled_end_timestamp if timer is not None else None
                self._watch = frame.invocation.parking.watch(self._trigger_id, until, self._changed)

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """End: records how, unless it is left by a cancellation of something around it.

        Returns:
            Whether the operation was first: then `error` is the cancellation that stopped the block.
        """
        frame = self._frame
        trigger_id = self._trigger_id
        if trigger_id is None or not self._block.is_open:
            return False
        if self._watch is not None:
            frame.invocation.parking.forget(self._watch)
        unasked = frame.unasked() if error is None else None
        if self._was_cancelled and unasked is None and (error is None or isinstance(error, Exception)):
            # The first time it did not come so far: it was cancelled where it waited for something else than an
            # operation.
            try:
                await frame.branch.halt()
            except anyio.get_cancelled_exc_class() as cancellation:
                kind, error, traceback = type(cancellation), cancellation, cancellation.__traceback__
        was_stopped, passed, inside = self._block.is_stopped, self._block.passed, self._block.tally()
        was_cancelled = self._block.is_cancelled
        stopped = self._block.leave(kind, error, traceback)
        if unasked is not None:
            await diverge(frame, unasked, f"the end of the block of {self._name}")
        if stopped or error is None or isinstance(error, Exception):
            end = BlockEnd()
            if stopped or (was_stopped and was_cancelled):  # otherwise it came to its end first
                end = BlockEnd(stopped=True, raised=not stopped, passed=passed, inside=inside)
            recorded = await perform(frame, _OutcomeVerb(frame, self._name, end), outcome_id(trigger_id))
            # Whether it noticed the cancellation before it came to its end, or turned it into something else, is
            # nobody's business: only whether it was left by it.
            if stopped != (recorded.stopped and not recorded.raised):
                found = f"{self._name} stopping its block" if stopped else f"the end of the block of {self._name}"
                await diverge(frame, frame.invocation.history.get(outcome_id(trigger_id)), found)
        return stopped

    @property
    def trigger(self) -> Operation | None:
        """The operation that may stop the block, as it stands."""
        return None if self._trigger_id is None else self._frame.invocation.history.get(self._trigger_id)

    def _changed(self, trigger: Operation) -> None:
        if trigger.status is OperationStatus.SUCCEEDED:
            self._block.stop(until=_end_of(trigger))


class _OutcomeVerb(Verb[BlockEnd]):
    """Which was first."""

    __slots__ = ("_end",)

    def __init__(self, frame: Frame, name: str, end: BlockEnd) -> None:
        name = name[: MAX_NAME_LENGTH - len(_SUFFIX)] + _SUFFIX
        self.identity = Identity(OperationType.STEP, SubType.STEP, name, frame.context_id)
        self._end = end

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a STEP that cannot fail."""
        return decide_step(recorded, "at-least-once")

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Say which."""
        return self.update(operation_id, OperationAction.SUCCEED, payload=msgspec.json.encode(self._end).decode())

    def value(self, payload: str | None) -> BlockEnd:
        """How the block ended."""
        return _decode_end(payload, str(self.identity))

    def error(self, recorded: ErrorObject | None) -> Exception:
        """Not one of ours."""
        return decode_error(recorded)


def _end_of(trigger: Operation) -> int | None:
    timer = trigger.wait_details
    return trigger.end_timestamp if timer is None else timer.scheduled_end_timestamp


def _decode_end(payload: str | None, name: str) -> BlockEnd:
    try:
        return msgspec.json.decode(payload or "", type=BlockEnd)
    except msgspec.DecodeError as error:
        raise MalformedPayloadError("BlockEnd", f"recorded for {name}: {error}") from error
