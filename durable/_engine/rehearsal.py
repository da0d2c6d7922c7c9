"""A rehearsal: an invocation that goes over what is recorded, and does nothing new.

Rules:

 1. Code that comes to something new stands still there, as if it waited for the world, while others go over what is
    recorded of them. When nobody moves any more, the invocation is suspended as any other: nothing unwinds as if it
    had failed.
 2. New is: an operation of which nothing is recorded; an attempt of a step; a compensation or a cleanup, also one
    that has begun, as it may be nothing but a function of the user's; the end of a context.
 3. What has no effect but to be recorded (the time, a decision, the plan of a rollback) is left out, or told to a
    service that takes it for granted.
 4. What the code itself has recorded must still fit. If it does not, the code has left its history, although an
    execution would see an ordinary error.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import msgspec

from .._kernel.decide import Decision, Interrupt, Park, Raise, Replay, Return, Run
from ..exceptions import MalformedPayloadError, SerializationError
from .parking import Waiter
from .perform import admit, diverge, pass_by, refuse

if TYPE_CHECKING:
    from .._wire import Operation
    from .frame import Frame
    from .invocation import Invocation
    from .perform import Verb

T = TypeVar("T")


class Halt(msgspec.Struct, frozen=True):
    """Where code stands at the end of a rehearsal.

    Attributes:
        operation_id: At which operation.
        what: The operation, or what comes of it, for people.
        kind: Whether it would do something new, or waits for what has not happened.
    """

    operation_id: str
    what: str
    kind: Literal["new", "waits"]


class Rehearsal:
    """What one rehearsal has come to.

    Attributes:
        seen: The recorded operations that the code has come to, by their ids.
        halts: Where its code stands: one place for each branch that has not ended.
        draws: Whether it drew something that depends on the execution's ARN.
    """

    __slots__ = ("draws", "halts", "seen")

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.halts: list[Halt] = []
        self.draws = False

    async def perform(self, frame: Frame, verb: Verb[T], operation_id: str, recorded: Operation | None) -> T:
        """Take an operation to its outcome, if that is recorded; the same as `perform` does it."""
        self.seen.add(operation_id)
        while True:
            decision = verb.decide(recorded)
            if isinstance(decision, (Return, Raise, Replay)):
                return await self._recall(frame, verb, operation_id, recorded, decision)
            await admit(frame, verb, recorded)
            if isinstance(decision, Park):
                await self._park(frame, operation_id, str(verb.identity), decision.until)
            elif isinstance(decision, Run) and not decision.start and verb.is_rehearsed:
                await self._go_into(frame, verb, operation_id, decision)
            else:
                await self._stand(frame, operation_id, _described(verb, decision))
            recorded = frame.invocation.history.get(operation_id)

    async def _recall(
        self, frame: Frame, verb: Verb[T], operation_id: str, recorded: Operation | None, decision: Decision
    ) -> T:
        """The recorded outcome; what the code itself has recorded must fit."""
        if isinstance(decision, Replay):
            try:
                value = await verb.replay(frame, operation_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, it did not happen the first time
                found = f"that it raises {type(error).__name__}, although it had succeeded: {error}"
                await diverge(frame, recorded, found)
            frame.settle()
            return value
        if verb.ended_by_others:
            await pass_by(frame, recorded)
        frame.settle()
        if not isinstance(decision, Return):
            raise verb.error(decision.error if isinstance(decision, Raise) else None)
        try:
            return await verb.load(frame, decision.payload) if verb.loads else verb.value(decision.payload)
        except (SerializationError, MalformedPayloadError) as error:
            if verb.ended_by_others:
                raise  # what others sent need not fit
            await diverge(frame, recorded, f"that its result does not fit any more: {error}")

    async def _go_into(self, frame: Frame, verb: Verb[Any], operation_id: str, decision: Run) -> None:
        """Go over what is recorded inside of a context that has not ended. Its end is new."""
        invocation = frame.invocation
        await verb.run(frame, operation_id, decision)
        if invocation.ending is not None:
            await invocation.leave(str(verb.identity))
        await invocation.parking.ends_held()
        await refuse(frame)
        await self._stand(frame, operation_id, f"the end of {verb.identity}")

    async def _stand(self, frame: Frame, operation_id: str, what: str) -> NoReturn:
        """Come no further: leave by whatever cancels this code, be it the end of the invocation."""
        invocation = frame.invocation
        with self._halting(invocation, Halt(operation_id, what, "new")):
            while True:
                await invocation.parking.wait(Waiter(frame))
                if invocation.ending is not None:
                    await invocation.leave(what)

    async def _park(self, frame: Frame, operation_id: str, what: str, until: int | None) -> None:
        """Park as ever, and remember where."""
        invocation = frame.invocation
        with self._halting(invocation, Halt(operation_id, what, "waits")):
            await invocation.parking.park(frame, operation_id, until)
            if invocation.ending is not None:
                await invocation.leave(what)

    @contextmanager
    def _halting(self, invocation: Invocation, halt: Halt) -> Generator[None]:
        self.halts.append(halt)
        try:
            yield
        finally:
            if invocation.ending is None:
                self.halts.remove(halt)  # it was cancelled, as its history has it


def _described(verb: Verb[Any], decision: Decision) -> str:
    """What is about to be done, for people."""
    if isinstance(decision, Interrupt):
        return f"{verb.identity}, which was interrupted (at most once)"
    if isinstance(decision, Run) and not decision.start:
        return f"{verb.identity} once more, as its end is not recorded"
    return str(verb.identity)
