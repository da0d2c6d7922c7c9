"""Branches side by side: started as there is room for them, until it is decided what they come to.

On replay it may be known before anything runs that it was decided: by the fan-out's own record, by one of the
decision, or by those of the branches that have ended. Then what has begun comes exactly as far as it came before,
and nothing new begins. If not, what has begun is gone over first: branches that had ended end again, as no record
may tell that they had.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Generic, Literal, TypeVar

import msgspec

from .._engine.conversion import AnyConverter, decode, encode
from .._engine.current import frame_var, saga_var
from .._engine.frame import Frame
from .._engine.group import BranchGroup
from .._engine.perform import check_end, note_fact, note_start, perform, refuse
from .._kernel.completion import (
    CODE,
    STATUS,
    BatchItem,
    BatchProgress,
    BatchRecord,
    BatchResult,
    Completion,
    CompletionReason,
    ItemStatus,
    decode_batch,
    encode_batch,
)
from .._kernel.errors import rebuild_live
from .._kernel.history import Identity
from .._kernel.ids import branch_id, outcome_id
from .._kernel.names import check_name
from .._wire import Operation, OperationStatus
from ..exceptions import MalformedPayloadError
from .child import ChildVerb

T = TypeVar("T")

Nesting = Literal["nested", "flat"]


class BranchPlan(msgspec.Struct, Generic[T], frozen=True):
    """One branch, before it runs.

    Attributes:
        name: What it is called.
        body: What it runs, in a frame of its own.
    """

    name: str
    body: Callable[[Frame], Awaitable[T]]


class Branches(Generic[T]):
    """The branches of one fan-out, made when they are needed: what has not started costs nothing.

    Args:
        count: How many there are.
        plan: Makes one, by its index.
        converter: Converts what one returns, by its index.
    """

    __slots__ = ("_plan", "converter", "count")

    def __init__(
        self, count: int, plan: Callable[[int], BranchPlan[T]], converter: Callable[[int], AnyConverter]
    ) -> None:
        self.count = count
        self.converter = converter
        self._plan = plan

    def __getitem__(self, index: int) -> BranchPlan[T]:
        return self._plan(index)


class FanOutPolicy(msgspec.Struct, frozen=True):
    """How branches are run.

    Attributes:
        identity: The fan-out's.
        branch_sub_type: That of its branches.
        completion: When it is complete.
        limit: How many may run at once.
        nesting: Whether a branch is a context, or only a namespace.
    """

    identity: Identity
    branch_sub_type: str
    completion: Completion
    limit: float
    nesting: Nesting


class FanOut(Generic[T]):
    """One run over the branches.

    Args:
        owner: The frame of the fan-out.
        branches: What there is to run.
        policy: How.
        record: How the fan-out ended, if it has.
    """

    def __init__(
        self, owner: Frame, branches: Branches[T], policy: FanOutPolicy, record: BatchRecord | None
    ) -> None:
        self._owner = owner
        self._branches = branches
        self._policy = policy
        self._flat = policy.nesting == "flat"
        self._id_of_all = owner.context_id or ""
        # Whether nothing of it can be recorded: then nobody needs to look.
        if owner.invocation.rehearsal is not None:
            # Asked for only while its own record does not tell how it ended.
            owner.invocation.rehearsal.seen.add(outcome_id(self._id_of_all))
        self._is_new = record is None and self._id_of_all not in owner.invocation.history
        # How it ended, or how it was decided before it could end, if that is recorded.
        self._record = record or (None if self._is_new else self._recorded_decision())
        self._group = BranchGroup(owner)
        # Outcomes by index: a status with a result or an error. What is not there has not ended.
        self._outcomes: dict[int, BatchItem[T]] = {}
        self._succeeded = 0
        self._failed = 0
        # Whether the end of a branch that has ended is not recorded: it is flat, or has to stay open.
        self._has_open_ends = self._flat
        # Why it is complete; set once.
        self._reason: CompletionReason | None = None
        # What the user's own policy raised, or what gives names to items.
        self._error: Exception | None = None
        # The branches that are still to be started, how many run, and which have been started.
        self._todo: Iterator[int] = iter(range(self._branches.count))
        self._running = 0
        # Whether branches that had begun before this invocation have not come to where they were.
        self._is_behind = False
        # Meanwhile: whether those succeeded that ended in this invocation. They still take up room; only not for
        # those of which something is recorded, as these had room before.
        self._late: list[bool] = []
        self._starts_begun = False
        self._started: set[int] = set()

    def tally(self) -> dict[str, int]:
        """How far branches came, where no record of theirs tells."""
        return self._group.tally()

    async def run(self) -> BatchResult[T]:
        """Run what is to run, and wait for it."""
        async with self._group:
            if self._record is not None:
                self._complete(self._record.reason)
            else:
                self._look_at_records()
                if self._reason is None and not self._is_new:
                    await self._go_over_what_has_begun()
            await self._start_all()
        if self._error is not None:
            raise self._error
        return self._result()

    def _look_at_records(self) -> None:
        """Whether it was complete already when the invocation before this one ended."""
        if self._flat or self._is_new:
            return  # a flat branch has no record to tell; its own operations have, and are gone over
        for index in range(self._branches.count):
            recorded = self._recorded(index)
            if recorded is not None and recorded.is_final:
                self._count(succeeded=recorded.status is OperationStatus.SUCCEEDED)
        if self._succeeded or self._failed:
            self._decide()
        self._succeeded = self._failed = 0  # they are counted again when they end

    async def _go_over_what_has_begun(self) -> None:
        """Let branches come to where they were before anything is decided, or begins.

        Those that had ended, which no record tells, end again; in which order says nothing any more.
        """
        begun = [index for index in range(self._branches.count) if self._has_begun(index)]
        if not begun:
            return
        parking, around = self._owner.invocation.parking, self._owner.branch
        with parking.hold(around):
            self._is_behind = self._starts_begun = True
            try:
                self._todo = iter(begun)
                await self._start_all()
                await parking.replayed(around)
                self._starts_begun = False
                known = set(begun)
                rest = (index for index in range(self._branches.count) if index not in known)
                self._todo = chain(self._todo, rest)
                self._decide_if_any()
                if self._reason is None:
                    # Others may have begun before as well, and done nothing that is recorded.
                    await self._start_all()
                    await parking.replayed(around)
            finally:
                self._is_behind = False
            late, self._late = self._late, []
            for succeeded in late:
                self._count(succeeded=succeeded)
            self._decide_if_any()

    def _decide_if_any(self) -> None:
        if (self._succeeded or self._failed) and self._reason is None:
            self._decide()
            self._note_decision(others=self._running)

    # --- Starting --------------------------------------------------------------------------------------------

    async def _start_all(self) -> None:
        parking = self._owner.invocation.parking
        coming = int(min(self._branches.count, self._policy.limit)) if self._is_new else 0
        parking.coming += coming
        try:
            while self._start_next():
                if coming:
                    coming -= 1
                    parking.coming -= 1
                # One that ends at once, as on replay, has ended before the next one takes up room.
                await self._owner.invocation.give_way()
        finally:
            parking.coming -= coming

    def _start_next(self) -> bool:
        """Start one more branch, if there is one and room for it."""
        late = 0 if self._starts_begun else len(self._late)
        if self._running + late >= self._policy.limit:
            return False
        index = next(self._todo, None)
        if index is None:
            return False
        try:
            self._start(index)
        except Exception as error:  # noqa: BLE001 - the user's own names; they are to be known before the branch is
            self._fail(error)
            return False
        return True

    def _start(self, index: int) -> None:
        plan = self._branches[index]
        recorded = None if self._is_new else self._recorded(index)
        ends = self._has_ended(index)
        if self._flat:
            check_name(plan.name, "a branch")
            body = self._flat_branch(index, plan, ends=ends)
        else:
            body = self._nested_branch(index, plan, recorded)
        self._running += 1
        self._started.add(index)

        async def run(slot: Frame) -> None:
            goes_on = True
            try:
                value = await body(slot)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the branch's outcome
                self._end(index, plan.name, error=error, late=slot.branch.is_live)
            except BaseException:
                goes_on = slot.branch.is_stopped  # by itself; otherwise whoever waits for all of them is cancelled
                raise
            else:
                self._end(index, plan.name, value=value, late=slot.branch.is_live)
            finally:
                self._running -= 1
                slot.branch.decided()
                if goes_on and self._owner.invocation.ending is None:
                    self._start_next()

        self._group.start(
            run,
            operation_id=self._id(index),
            at=index,
            covers=not self._is_new and (self._flat or self._record is not None or recorded is not None),
            name=f"durable branch {plan.name}",
            ends=ends,
            decides=self._would_decide,
        )

    def _nested_branch(
        self, index: int, plan: BranchPlan[T], recorded: Operation | None
    ) -> Callable[[Frame], Awaitable[T]]:
        branch_id = self._id(index)
        verb: ChildVerb[T] = ChildVerb(
            self._owner,
            plan.body,
            self._branches.converter(index),
            name=plan.name,
            sub_type=self._policy.branch_sub_type,
            is_one_of_many=True,
        )
        if recorded is None and not self._group.is_stopped:
            note_start(self._owner, verb, branch_id, saga_var.get())
        return lambda slot: perform(slot, verb, branch_id)

    def _flat_branch(self, index: int, plan: BranchPlan[T], *, ends: bool) -> Callable[[Frame], Awaitable[T]]:
        converter = self._branches.converter(index)

        async def body(slot: Frame) -> T:
            frame = Frame(slot.invocation, context_id=self._owner.context_id, prefix=self._id(index), parent=slot)
            frame.settle()
            frame_var.set(frame)  # of this task
            what = f"the result of {plan.name!r}"
            try:
                value = await plan.body(frame)
                await check_end(frame, f"the end of {plan.name!r}")
                encoded = await encode(frame, converter, value, what)
                decoded: T = await decode(frame, converter, encoded, what)
            except Exception as error:  # noqa: BLE001 - raised as a replay will
                _, rebuilt = rebuild_live(error)
                if not ends:
                    await refuse(slot)  # one that was stopped has no outcome, whatever its code made of that
                raise rebuilt from rebuilt.__cause__
            finally:
                frame.end()
            if not ends:
                await refuse(slot)
            return decoded

        return body

    # --- Ending ----------------------------------------------------------------------------------------------

    def _end(
        self, index: int, name: str, *, value: T | None = None, error: Exception | None = None, late: bool
    ) -> None:
        status: ItemStatus = "succeeded" if error is None else "failed"
        self._outcomes[index] = BatchItem(index=index, name=name, status=status, result=value, error=error)
        if self._is_behind and late:
            self._late.append(error is None)
        else:
            self._count(succeeded=error is None)
        if not self._has_open_ends:
            recorded = self._recorded(index)
            self._has_open_ends = recorded is None or not recorded.is_final
        if self._reason is None and not self._is_behind:
            self._decide()
            self._note_decision(others=self._running - 1)

    def _count(self, *, succeeded: bool) -> None:
        if succeeded:
            self._succeeded += 1
        else:
            self._failed += 1

    def _would_decide(self, succeeded: bool) -> bool:  # noqa: FBT001 - see `Branch.decides`
        """Whether one more end decides what the fan-out comes to, and so what becomes of others that run."""
        if self._reason is not None or self._running == 1:
            return False
        ended = BatchProgress(self._branches.count, self._succeeded + succeeded, self._failed + (not succeeded))
        try:
            return self._policy.completion.reason(ended) is not None
        except Exception:  # noqa: BLE001 - the user's own policy; it is told when it is asked again
            return True

    def _decide(self) -> None:
        try:
            reason = self._policy.completion.reason(self._progress())
        except Exception as error:  # noqa: BLE001 - the user's own policy
            error.add_note(f"raised by the completion policy of {self._policy.identity}")
            self._fail(error)
        else:
            if reason is not None:
                self._complete(reason)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._complete("CUSTOM_COMPLETION_FAILED")

    def _complete(self, reason: CompletionReason) -> None:
        """Let nothing new begin, and what has begun come as far as it came before."""
        self._reason = reason
        if self._record is not None:
            self._group.stop(known=self._record.passed)
        else:
            self._group.stop(self._owner.invocation.clock.now())
        self._todo = iter(()) if self._is_new else filter(self._has_begun, self._todo)

    def _note_decision(self, *, others: int) -> None:
        """Record at once what was decided, where the branches' records do not tell.

        Args:
            others: How many branches run that are stopped because of it: they may take their time.
        """
        reason = self._reason
        if reason is None or self._error is not None or not others or not self._has_open_ends:
            return
        decision = BatchRecord(
            reason=reason,
            successful=self._policy.completion.is_met(reason, self._progress()),
            statuses="".join(CODE[self._outcome(index).status] for index in range(self._branches.count)),
            passed=self._group.tally(),
        )
        name = f"{self._policy.identity.name} decided"
        note_fact(self._owner, outcome_id(self._id_of_all), name, encode_batch(decision))

    def _recorded_decision(self) -> BatchRecord | None:
        recorded = self._owner.invocation.history.get(outcome_id(self._id_of_all))
        if recorded is None or not recorded.is_final:
            return None
        return decode_record(recorded.result, self._policy.identity)

    def _has_begun(self, index: int) -> bool:
        """Whether something is recorded of a branch: then it is gone over, as it may have registered something."""
        if self._record is not None:
            return self._recorded_status(index) != "not started"
        if not self._flat:
            return self._recorded(index) is not None
        return Frame(self._owner.invocation, prefix=self._id(index), parent=self._owner).unasked() is not None

    def _has_ended(self, index: int) -> bool:
        """Whether it is known that its code has come to its end."""
        return self._record is not None and self._recorded_status(index) in {"succeeded", "failed"}

    # --- The outcome -----------------------------------------------------------------------------------------

    def _progress(self) -> BatchProgress:
        return BatchProgress(self._branches.count, self._succeeded, self._failed)

    def _result(self) -> BatchResult[T]:
        reason = self._reason or "ALL_COMPLETED"
        successful = (
            self._record.successful
            if self._record is not None
            else self._policy.completion.is_met(reason, self._progress())
        )
        items = [self._outcome(index) for index in range(self._branches.count)]
        return BatchResult(items=items, completion_reason=reason, is_successful=successful)

    def _outcome(self, index: int) -> BatchItem[T]:
        outcome = self._outcomes.get(index)
        if outcome is not None:
            return outcome
        status: ItemStatus = "cancelled" if index in self._started else "not started"
        return BatchItem(index=index, name=self._branches[index].name, status=status)

    def _recorded_status(self, index: int) -> ItemStatus:
        statuses = self._record.statuses if self._record is not None else ""
        return STATUS[statuses[index]] if index < len(statuses) else "not started"

    def _recorded(self, index: int) -> Operation | None:
        return self._owner.invocation.history.get(self._id(index))

    def _id(self, index: int) -> str:
        return branch_id(self._id_of_all, index)


def decode_record(payload: str | None, identity: Identity) -> BatchRecord:
    """How a fan-out ended, or what was decided.

    Raises:
        MalformedPayloadError: What is recorded is something else.
    """
    try:
        return decode_batch(payload or "")
    except msgspec.DecodeError as error:
        raise MalformedPayloadError("BatchRecord", f"recorded for {identity}: {error}") from error
