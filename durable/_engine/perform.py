"""The engine's one loop: carries out decisions until an operation has an outcome.

An operation is a `Verb`: data and a body. What to do is the kernel's decision; waiting, recording, parking and the
checks that keep replay honest are here, once for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from .._kernel.decide import Decision, Interrupt, Park, Raise, Replay, Return, Run, Start
from .._kernel.history import Identity, describe
from .._wire import ErrorObject, Operation, OperationAction, OperationType, OperationUpdate, SubType
from .._wire.limits import MAX_NAME_LENGTH
from .._wire.updates import ContextOptions, StepOptions, WaitOptions
from ..exceptions import NonDeterminismError, OperationBudgetError
from .current import batch_var, saga_var
from .frame import Frame, user_location

if TYPE_CHECKING:
    from .branch import Branch
    from .current import EnclosingSaga

T = TypeVar("T")


class Verb(ABC, Generic[T]):
    """One durable operation, as data.

    Attributes:
        identity: Type, subtype, name and parent: what a replay must find again.
        awaits_start: Whether its START must be recorded before its body runs.
        awaits_end: Whether its outcome must be recorded before it is handed out. If not, whoever calls it
            must record something else before the outcome can have any effect.
        may_lag: Whether its success, inside of a batch, may be handed out before it is recorded.
        is_one_of_many: Whether it is a branch of a fan-out, which records what comes of it: its success may be
            handed out before it is recorded anywhere, unless it decides what becomes of other branches.
        loads: Whether it takes an `await` to have its result from its record.
        ended_by_others: Whether it waits for what ends without the code's doing.
        is_rehearsed: Whether its body is code of the workflow's own, which has no effects.
    """

    __slots__ = ("identity",)

    awaits_start = False
    awaits_end = True
    may_lag = False
    is_one_of_many = False
    loads = False
    ended_by_others = False
    is_rehearsed = False
    identity: Identity

    def called(self, frame: Frame) -> Coroutine[Any, Any, T]:
        """What whoever calls it is to await."""
        return frame.called(self.identity, perform(frame, self))

    @abstractmethod
    def decide(self, recorded: Operation | None) -> Decision:
        """What to do, by what is recorded."""

    def start_update(self, operation_id: str) -> OperationUpdate:
        """The update that starts it."""
        return self.update(operation_id, OperationAction.START)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:
        """Run the body; the update that tells its outcome."""
        raise NotImplementedError(f"{type(self).__name__} has no body")

    async def replay(self, frame: Frame, operation_id: str) -> T:
        """Run the body of a finished context over its children's records, for what its own record leaves out."""
        raise NotImplementedError(f"{type(self).__name__} has no body")

    def value(self, payload: str | None) -> T:
        """What it returns, from its recorded payload."""
        raise NotImplementedError(f"{type(self).__name__} has a result that is loaded")

    async def load(self, frame: Frame, payload: str | None) -> T:  # noqa: ARG002
        """The same, where that takes an `await`."""
        return self.value(payload)

    @abstractmethod
    def error(self, recorded: ErrorObject | None) -> Exception:
        """What it raises, from its recorded error."""

    def update(
        self,
        operation_id: str,
        action: OperationAction,
        *,
        payload: str | None = None,
        error: ErrorObject | None = None,
        step_options: StepOptions | None = None,
        wait_options: WaitOptions | None = None,
        context_options: ContextOptions | None = None,
    ) -> OperationUpdate:
        """An update of this operation."""
        identity = self.identity
        return OperationUpdate(
            id=operation_id,
            type=identity.type,
            action=action,
            parent_id=identity.parent_id,
            name=identity.name,
            sub_type=identity.sub_type,
            payload=payload,
            error=error,
            step_options=step_options,
            wait_options=wait_options,
            context_options=context_options,
        )


async def perform(frame: Frame, verb: Verb[T], operation_id: str | None = None) -> T:
    """Take an operation to its outcome, whatever is recorded of it.

    Args:
        frame: Where it is called.
        verb: The operation.
        operation_id: Its id, if it is not the frame's next position.

    Raises:
        FrameMisuseError: Called where its position would depend on scheduling.
        Exception: What the operation itself failed with.
    """
    invocation = frame.invocation
    await invocation.enter(frame, verb.identity)
    if operation_id is None:
        operation_id = await _take(frame)
    recorded = invocation.history.get(operation_id)
    if recorded is not None and not verb.identity.matches(recorded):
        await diverge(frame, recorded, str(verb.identity))
    if invocation.rehearsal is not None:
        return await invocation.rehearsal.perform(frame, verb, operation_id, recorded)
    while True:
        decision = verb.decide(recorded)
        if isinstance(decision, (Return, Raise)):
            if verb.ended_by_others:
                await pass_by(frame, recorded)
            frame.settle()
            if isinstance(decision, Raise):
                raise verb.error(decision.error)
            return await verb.load(frame, decision.payload) if verb.loads else verb.value(decision.payload)
        if isinstance(decision, Replay):
            value = await verb.replay(frame, operation_id)
            frame.settle()
            return value
        await admit(frame, verb, recorded)
        await _carry_out(frame, verb, operation_id, decision)
        invocation.has_advanced = True
        recorded = invocation.history.get(operation_id)


async def pass_by(frame: Frame, ended: Operation | None) -> None:
    """Get past something that has ended by itself; or, in a branch that was stopped before it saw that, do not.

    Only what is recorded after it, or a count of what it got past, shows that it was seen. If there is none, the
    branch stood here when it was stopped. Where not even that is known, time decides.

    Args:
        frame: Whose code.
        ended: What has ended, as it is recorded.
    """
    stopped = frame.branch.stopped
    if stopped is not None:
        frame.settle()
        while stopped is not None:
            if not _has_seen(frame, stopped, ended):
                frame.arrive()
                await frame.branch.halt()
                break
            stopped = stopped.stopped_around
    frame.passed()


def _has_seen(frame: Frame, stopped: Branch, ended: Operation | None) -> bool:
    """Whether code in a branch that was stopped has got past something."""
    if stopped.until is not None and ended is not None:
        timer = ended.wait_details
        at = timer.scheduled_end_timestamp if timer is not None else ended.end_timestamp
        if at is not None and at <= stopped.until:
            return True
    return frame.leads_on_in(stopped)


async def _take(frame: Frame) -> str:
    """The next position's id."""
    parking = frame.invocation.parking
    if (parking.is_held or frame.branch.stopped is not None) and frame.peek() not in frame.invocation.history:
        # Before it takes a position: what is not recorded has none.
        await _wait_for_decisions(frame)
        await frame.branch.halt()
    return frame.take()


async def _carry_out(
    frame: Frame, verb: Verb[T], operation_id: str, decision: Park | Start | Run | Interrupt
) -> None:
    """Do what there is to do; the outcome is in history, or another decision follows."""
    invocation = frame.invocation
    if isinstance(decision, Park):
        if batch_var.get():
            await invocation.journal.sync()
        await invocation.parking.park(frame, operation_id, decision.until)
        if invocation.ending is not None:
            await invocation.leave(str(verb.identity))
    elif isinstance(decision, Start):
        await invocation.journal.record(verb.start_update(operation_id))
    else:
        await _run(frame, verb, operation_id, decision)


async def _run(frame: Frame, verb: Verb[T], operation_id: str, decision: Run | Interrupt) -> None:
    """Run the body between its records."""
    invocation = frame.invocation
    journal = invocation.journal
    if isinstance(decision, Run) and decision.start:
        if verb.awaits_start:
            await journal.record(verb.start_update(operation_id))
        else:
            journal.note(verb.start_update(operation_id))
    passes = frame.passes() if verb.identity.type is OperationType.CONTEXT else ()
    update = await verb.run(frame, operation_id, decision)
    if invocation.ending is not None and verb.identity.type is OperationType.CONTEXT:
        # Whatever its code made of the cancellation that ends the invocation: that is not its outcome.
        await invocation.leave(str(verb.identity))
    if verb.identity.type is OperationType.CONTEXT:
        await invocation.parking.ends_held()
        await refuse(frame)
        frame.branch.begin_to_end(operation_id, succeeded=update.action is OperationAction.SUCCEED)
    if not verb.awaits_end:
        journal.assume(update)
    elif batch_var.get() and verb.may_lag and update.action is OperationAction.SUCCEED:
        await journal.lag(update)
    elif verb.is_one_of_many and update.action is OperationAction.SUCCEED and not frame.branch.is_deciding:
        # What is recorded is always the beginning of what was queued: what comes of this is recorded after it.
        await journal.lag_beside(update)
    else:
        await journal.record(update)
    if passes and not (update.context_options is not None and update.context_options.replay_children):
        frame.forget_passes(passes)  # no replay runs its code again


async def diverge(frame: Frame, recorded: Operation | None, found: str) -> NoReturn:
    """End the invocation, as the code does not follow its history. Does not return.

    Not an error for the workflow to handle: no `except Exception` sees it, nothing is recorded, no saga rolls
    back. The execution stays as it was, for code that does follow its history.
    """
    fail_divergence(frame, recorded, found)
    await frame.invocation.leave(found)


def fail_divergence(frame: Frame, recorded: Operation | None, found: str) -> None:
    """The same, for what cannot wait: the next `await` is cancelled."""
    expected = "nothing more in this finished context or block"
    if recorded is not None:
        expected = describe(recorded.sub_type or recorded.type, recorded.name)
    where = f"operation {frame.position} of {'the execution' if frame.context_id is None else 'its context'}"
    error = NonDeterminismError(expected, found, f"{where}, {user_location()}")
    frame.invocation.fail(error)


async def check_end(frame: Frame, found: str) -> None:
    """At the end of a frame's code: everything that was called has begun, and what was recorded was asked for.

    Ends the invocation with a NonDeterminismError if something was not.

    Raises:
        UnawaitedOperationError: What was called last was not awaited.
    """
    error = frame.unawaited(found)
    if error is not None:
        raise error
    recorded = frame.unasked()
    if recorded is not None:
        await diverge(frame, recorded, found)


def note_start(frame: Frame, verb: Verb[Any], operation_id: str, saga: EnclosingSaga | None) -> None:
    """Record that a branch is started which performs this, unless it has to be refused: it finds that out itself.

    Where it is started, and not when it gets its turn: nothing that comes after may be recorded before. So what is
    recorded has no gaps, whatever the scheduling, and a replay sees from what is next whether there is more.
    """
    invocation = frame.invocation
    if invocation.ending or frame.finished or frame.branch.stopped or (saga is not None and saga.doomed()):
        return
    if invocation.rehearsal is not None:
        return
    try:
        invocation.budget.take(saga)
    except OperationBudgetError:
        return
    invocation.journal.assume(verb.start_update(operation_id))


def note_fact(frame: Frame, operation_id: str, name: str, fact: str) -> None:
    """Record, with what is recorded next, something that a replay has to know from the beginning.

    Args:
        frame: In whose context.
        operation_id: What it is found by.
        name: What it is called in history.
        fact: What is to be known, as JSON.
    """
    invocation = frame.invocation
    if invocation.ending is None and not frame.finished and invocation.rehearsal is None:
        invocation.budget.take(None)
        identity = Identity(OperationType.STEP, SubType.STEP, name[:MAX_NAME_LENGTH], frame.context_id)
        for action, payload in ((OperationAction.START, None), (OperationAction.SUCCEED, fact)):
            invocation.journal.note(
                OperationUpdate(
                    id=operation_id,
                    type=identity.type,
                    action=action,
                    parent_id=identity.parent_id,
                    name=identity.name,
                    sub_type=identity.sub_type,
                    payload=payload,
                )
            )


async def admit(frame: Frame, verb: Verb[T], recorded: Operation | None) -> None:
    """Before anything new happens: is there still room for it here?"""
    if recorded is not None and verb.identity.type is OperationType.CONTEXT:
        return  # it has begun and is entered: what is new inside it is refused there
    await _wait_for_decisions(frame)
    await refuse(frame)
    if frame.finished or frame.branch.was_left:
        await diverge(frame, None, str(verb.identity))
    if recorded is None:
        if frame.invocation.probe is not None:
            await frame.invocation.advance(frame, str(verb.identity))
        frame.invocation.budget.take(saga_var.get())


async def _wait_for_decisions(frame: Frame) -> None:
    """Before something new: let whoever is finding out where branches were decide what that means."""
    parking = frame.invocation.parking
    if parking.is_held:
        frame.arrive()
        await parking.held()
        if frame.invocation.ending is not None:
            await frame.invocation.leave("what comes next")


async def refuse(frame: Frame) -> None:
    """Nothing new is done or recorded in a branch that was stopped, nor in a saga whose rollback has begun.

    The code is here because it was here the first time. If the saga's own code failed here, it does so again. A
    branch inside of it was cancelled here, as another one failed: whatever stops it is about to do so again.
    """
    branch = frame.branch
    frame.arrive()
    saga = saga_var.get()
    doomed = None if saga is None else saga.doomed()
    if doomed is not None and doomed.raises_in(branch):
        raise doomed.refusal()
    if branch.stopped is not None:
        await branch.halt()
    elif doomed is not None:
        await frame.invocation.parking.wait_for_others(frame)
        raise doomed.refusal()  # nobody else has failed: it was here
