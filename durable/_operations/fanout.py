"""CONTEXT: branches side by side, for `map`, `parallel` and `race` (PROTOCOL section 4).

What is recorded: the fan-out is a context; each branch is one inside it (nested), or only a namespace of ids for
what it records itself (flat). The fan-out's own record holds every outcome; when that is large, or compensations
have to be registered again, it holds a summary, and a replay runs the branches over their own records.

On replay it may be known before anything runs that the fan-out is complete: by its own summary, or by the branches
that have ended. Then what has begun comes exactly as far as it came before, and nothing new begins.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, Literal, TypeVar

import msgspec

from .._engine.conversion import AnyConverter, decode, encode
from .._engine.current import frame_var, saga_var
from .._engine.frame import Frame
from .._engine.group import BranchGroup
from .._engine.perform import note_fact, note_start, perform, refuse
from .._kernel.batch import is_large
from .._kernel.completion import (
    CODE,
    STATUS,
    BatchItem,
    BatchProgress,
    BatchRecord,
    BatchResult,
    Completion,
    CompletionReason,
    ItemRecord,
    ItemStatus,
    decode_batch,
    encode_batch,
)
from .._kernel.decide import Decision, Interrupt, Run, decide_context
from .._kernel.errors import decode_error, encode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.ids import branch_id, outcome_id
from .._kernel.names import check_name
from .._kernel.values import PLAIN, Converter
from .._wire import Operation, OperationAction, OperationStatus, OperationType, OperationUpdate
from .._wire.limits import REPLAY_CHILDREN_BYTES
from .._wire.updates import ContextOptions
from ..exceptions import MalformedPayloadError
from .body import BodyVerb
from .child import ChildVerb, check_end

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


class FanOutVerb(BodyVerb[BatchResult[T]]):
    """One fan-out."""

    __slots__ = (
        "_branch_sub_type",
        "_branches",
        "_budget",
        "_completion",
        "_limit",
        "_live",
        "_live_error",
        "_name",
        "_nesting",
    )

    def __init__(
        self,
        frame: Frame,
        branches: Branches[T],
        *,
        name: str,
        sub_type: str,
        branch_sub_type: str,
        completion: Completion,
        max_concurrency: int | None,
        nesting: Nesting,
    ) -> None:
        identity = Identity(OperationType.CONTEXT, sub_type, check_name(name, f"a {sub_type}"), frame.context_id)
        super().__init__(identity, PLAIN, f"{sub_type.lower()} {name!r}")
        self.loads = True
        if max_concurrency is not None and max_concurrency < 1:
            raise ValueError(f"{self.label}: max_concurrency is 1 or more, not {max_concurrency!r}")
        if nesting not in {"nested", "flat"}:
            raise ValueError(f"{self.label}: nesting is 'nested' or 'flat', not {nesting!r}")
        self._branches = branches
        self._branch_sub_type = branch_sub_type
        self._completion = completion
        self._limit = math.inf if max_concurrency is None else max_concurrency
        self._nesting: Nesting = nesting
        self._budget = frame.invocation.budget

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CONTEXT."""
        return decide_context(recorded)

    async def run(self, frame: Frame, operation_id: str, decision: Run | Interrupt) -> OperationUpdate:  # noqa: ARG002
        """Run the branches."""
        owner = Frame(frame.invocation, context_id=operation_id, parent=frame, is_slot=True)
        try:
            result = await self._run_in(frame, owner, None)
        except Exception as error:  # noqa: BLE001 - the completion policy's own
            if owner.registers:
                _, rebuilt = rebuild_live(error)
                raise rebuilt from rebuilt.__cause__  # it stays open, as a child does
            return self.failed(operation_id, error)
        inside = 0 if self._budget.limit is None else frame.invocation.history.inside(operation_id)
        payload = await self._encode(owner, result, inside, with_items=not owner.registers)
        rebuild = owner.registers or is_large(payload)
        if rebuild:
            payload = await self._encode(owner, result, inside, with_items=False)
        self._live = (payload, result)
        return self.update(
            operation_id,
            OperationAction.SUCCEED,
            payload=payload,
            context_options=ContextOptions(replay_children=rebuild),
        )

    async def replay(self, frame: Frame, operation_id: str) -> BatchResult[T]:
        """Run the branches over their own records."""
        if self._live is not None:
            return self._live[1]
        recorded = frame.invocation.history.get(operation_id)
        record = self._decode(recorded.result if recorded is not None else None)
        owner = Frame(frame.invocation, context_id=operation_id, parent=frame, finished=True, is_slot=True)
        return await self._run_in(frame, owner, record)

    async def load(self, frame: Frame, payload: str | None) -> BatchResult[T]:
        """The outcomes, each decoded by its function's return annotation."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        record = self._decode(payload)
        self._budget.used += record.operations  # the service does not give them any more
        items = [await self._item(frame, index, item) for index, item in enumerate(record.items or ())]
        return BatchResult(items=items, completion_reason=record.reason, is_successful=record.successful)

    async def _run_in(self, frame: Frame, owner: Frame, record: BatchRecord | None) -> BatchResult[T]:
        frame.active = self.label
        try:
            return await _FanOut(self, owner, record).run()
        finally:
            frame.active = None

    async def _item(self, frame: Frame, index: int, item: ItemRecord) -> BatchItem[T]:
        plan = self._branches[index]
        result: T | None = None
        if item.status == "succeeded":
            converter = self._branches.converter(index)
            encoded = bytes(item.result).decode()
            if not isinstance(converter, Converter):
                encoded = msgspec.json.decode(encoded, type=str)
            result = await decode(frame, converter, encoded, f"the recorded result of {plan.name!r}")
        error = decode_error(item.error) if item.status == "failed" else None
        return BatchItem(index=index, name=plan.name, status=item.status, result=result, error=error)

    async def _encode(self, owner: Frame, result: BatchResult[T], inside: int, *, with_items: bool) -> str:
        items: list[ItemRecord] | None = None
        if with_items:
            items = []
            size = 0
            for item in result.items:
                record = await self._record_of(owner, item)
                items.append(record)
                size += len(record.result)
                if record.error is not None:
                    size += len(record.error.error_message or "") + len(record.error.error_data or "")
                if size > REPLAY_CHILDREN_BYTES:
                    break  # too large already: whoever asked sees that, and asks for the summary
        return encode_batch(
            BatchRecord(
                reason=result.completion_reason,
                successful=result.is_successful,
                statuses="".join(CODE[item.status] for item in result.items),
                items=items,
                operations=inside,
            )
        )

    async def _record_of(self, owner: Frame, item: BatchItem[T]) -> ItemRecord:
        if item.status == "succeeded":
            converter = self._branches.converter(item.index)
            encoded = (await encode(owner, converter, item.result, f"the result of {item.name!r}")).encode()
            # JSON is embedded as it is; what a serde gives is any text.
            raw = encoded if isinstance(converter, Converter) else msgspec.json.encode(encoded.decode())
            return ItemRecord(item.status, msgspec.Raw(raw))
        return ItemRecord(item.status, error=None if item.error is None else encode_error(item.error))

    def _decode(self, payload: str | None) -> BatchRecord:
        try:
            return decode_batch(payload or "")
        except msgspec.DecodeError as error:
            raise MalformedPayloadError("BatchRecord", f"recorded for {self.identity}: {error}") from error


class _FanOut(Generic[T]):
    """One run over the branches."""

    def __init__(self, verb: FanOutVerb[T], owner: Frame, record: BatchRecord | None) -> None:
        self._verb = verb
        self._owner = owner
        self._branches = verb._branches
        self._flat = verb._nesting == "flat"
        self._id_of_all = owner.context_id or ""
        # Whether nothing of it can be recorded: then nobody needs to look.
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
        self._started: set[int] = set()

    async def run(self) -> BatchResult[T]:
        """Run what is to run, and wait for it."""
        async with self._group:
            if self._record is not None:
                self._complete(self._record.reason)
            else:
                self._look_at_records()
            while self._start_next():
                # One that ends at once, as on replay, has ended before the next one takes up room.
                await self._owner.invocation.give_way()
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

    # --- Starting --------------------------------------------------------------------------------------------

    def _start_next(self) -> bool:
        """Start one more branch, if there is one and room for it."""
        if self._running >= self._verb._limit:
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
                self._end(index, plan.name, error=error)
            except BaseException:
                goes_on = slot.branch.is_stopped  # by itself; otherwise whoever waits for all of them is cancelled
                raise
            else:
                self._end(index, plan.name, value=value)
            finally:
                self._running -= 1
                if goes_on and self._owner.invocation.ending is None:
                    self._start_next()

        self._group.start(
            run,
            at=index,
            covers=not self._is_new and (self._flat or self._record is not None or recorded is not None),
            name=f"durable branch {plan.name}",
            ends=ends,
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
            sub_type=self._verb._branch_sub_type,
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

    def _end(self, index: int, name: str, *, value: T | None = None, error: Exception | None = None) -> None:
        status: ItemStatus = "succeeded" if error is None else "failed"
        self._outcomes[index] = BatchItem(index=index, name=name, status=status, result=value, error=error)
        self._count(succeeded=error is None)
        if self._reason is None:
            recorded = self._recorded(index)
            self._has_open_ends = self._has_open_ends or recorded is None or not recorded.is_final
            self._decide()
            if self._reason is not None and self._error is None and self._running > 1 and self._has_open_ends:
                self._note_decision(self._reason)

    def _count(self, *, succeeded: bool) -> None:
        if succeeded:
            self._succeeded += 1
        else:
            self._failed += 1

    def _decide(self) -> None:
        try:
            reason = self._verb._completion.reason(self._progress())
        except Exception as error:  # noqa: BLE001 - the user's own policy
            error.add_note(f"raised by the completion policy of {self._verb.identity}")
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
        self._group.stop(None if self._record is not None else self._owner.invocation.clock.now())
        self._todo = iter(()) if self._is_new else filter(self._has_begun, self._todo)

    def _note_decision(self, reason: CompletionReason) -> None:
        """Record it at once, if the branches' records do not tell, and others may take their time to be stopped."""
        decision = BatchRecord(
            reason=reason,
            successful=self._verb._completion.is_met(reason, self._progress()),
            statuses="".join(CODE[self._outcome(index).status] for index in range(self._branches.count)),
        )
        name = f"{self._verb.identity.name} decided"
        note_fact(self._owner, outcome_id(self._id_of_all), name, encode_batch(decision))

    def _recorded_decision(self) -> BatchRecord | None:
        recorded = self._owner.invocation.history.get(outcome_id(self._id_of_all))
        return self._verb._decode(recorded.result) if recorded is not None and recorded.is_final else None

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
            else self._verb._completion.is_met(reason, self._progress())
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
