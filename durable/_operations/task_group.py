"""Structured concurrency as anyio has it, durable: each task is a child context, with a frame of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, TypeVarTuple

import msgspec

from .._engine.block import Block
from .._engine.branch import Branch
from .._engine.conversion import converter_of
from .._engine.current import batch_var, frame_var, saga_var
from .._engine.frame import Frame, user_location
from .._engine.group import BranchGroup
from .._engine.perform import diverge, note_fact, note_start, pass_by, perform
from .._kernel.ids import outcome_id
from .._kernel.signatures import signature_of
from .._wire import OperationStatus
from ..exceptions import FrameMisuseError, MalformedPayloadError
from .child import ChildVerb

if TYPE_CHECKING:
    from .._engine.current import EnclosingSaga

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
ContextT = TypeVar("ContextT")

_UNSET: Any = object()


class TaskHandle(Generic[T]):
    """A task of a durable task group.

    Attributes:
        name: What it is called in history.
    """

    def __init__(self, name: str, operation_id: str, group: BranchGroup) -> None:
        self.name = name
        self._operation_id = operation_id
        self._group = group
        self._branch: Branch | None = None
        self._value: T = _UNSET
        self._error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has a result or an error."""
        return self._error is not None or self._value is not _UNSET

    def result(self) -> T:
        """What the task returned. Records nothing.

        Raises:
            RuntimeError: It has not ended, or was cancelled.
            Exception: What the task raised.
        """
        if self._error is not None:
            raise self._error
        if self._value is _UNSET:
            running = self._branch is not None and self._group.is_running(self._branch)
            raise RuntimeError(
                f"task {self.name!r} has no result: it {'has not ended' if running else 'was cancelled'}"
            )
        return self._value

    def wait(self) -> Coroutine[Any, Any, T]:
        """Wait for the task's end. Records nothing; suspends when the task does.

        Raises:
            FrameMisuseError: The task waits for itself.
            Exception: What the task raised.
        """
        frame = frame_var.get()
        return frame.called(f"waiting for task {self.name!r}", self._wait(frame))

    async def _wait(self, frame: Frame) -> T:
        await frame.invocation.enter(frame, f"waiting for task {self.name!r}")
        ended = frame.invocation.history.get(self._operation_id)
        if ended is None or not ended.is_final:
            frame.go_live()
        if self._branch is not None and self._group.is_running(self._branch):
            if self._branch.waits_for(frame.branch):
                raise FrameMisuseError(
                    f"task {self.name!r} was waited for at {user_location()}, but it waits itself for who waits "
                    "there: neither would ever end"
                )
            await self._group.wait_for(self._branch, frame)
        if self._error is not None and not self._group.is_over and frame.branch.stopped is not None:
            # The group is stopped because of this: whoever waits inside of it is cancelled, and does not see why.
            frame.arrive()
            await frame.branch.halt()
        await pass_by(frame, frame.invocation.history.get(self._operation_id))
        return self.result()

    def __repr__(self) -> str:
        return f"<TaskHandle {self.name!r} {'done' if self.is_done else 'pending'}>"


class GroupStop(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How a task group was stopped, as it is recorded: so that on replay all in it come as far as they came.

    Attributes:
        by: The number of the task that failed, or that cancelled the group, from 1; 0 if it was none of them.
        block: How often the block had got past something that no record shows; `None` if it had been left.
        inside: The same of the tasks, and of branches further in (see `Branch.tally`).
    """

    by: int = 0
    block: int | None = None
    inside: dict[str, int] = {}


def _decode_stop(payload: str | None) -> GroupStop:
    try:
        return msgspec.json.decode(payload or "", type=GroupStop)
    except msgspec.DecodeError as error:
        raise MalformedPayloadError("GroupStop", f"recorded for a task group: {error}") from error


class TaskGroup(Generic[ContextT]):
    """A durable task group. Made by `DurableContext.task_group`."""

    def __init__(self, frame: Frame, make_context: Callable[[Frame], ContextT]) -> None:
        self._frame = frame
        # Contexts are not known here.
        self._make_context = make_context
        self._group = BranchGroup(frame)
        # The block itself, as long as it runs: it is stopped like any of the tasks.
        self._block = Block(frame)
        # How many tasks have been started, and what they raised, by their number.
        self._started = 0
        self._errors: dict[int, Exception] = {}
        self._entered = False
        # Their operations, by number.
        self._operations: dict[int, str] = {}
        self._numbers: dict[Branch, int] = {}
        # How the group was stopped, if it was: in this invocation, or, if that is recorded, before.
        self._stop: GroupStop | None = None
        self._stop_id = ""
        self._stop_is_recorded = False
        # How far branches came that were started inside of the block and belong to others.
        self._in_block: dict[str, int] = {}
        # Whether others than the one that failed were running when it was.
        self._stops_others = False
        # The saga around the group: its tasks belong to that, not to one that is begun in the block and may end
        # before they do.
        self._saga: EnclosingSaga | None = None
        # Whether there is a batch around the group: the same holds for that.
        self._batches = False

    def start_soon(
        self,
        function: Callable[[ContextT, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> TaskHandle[T]:
        """Start a task: a child context, which runs beside the block and the other tasks.

        Records a CONTEXT. Its position is taken here, so that nothing depends on scheduling.

        Args:
            function: A coroutine function; its first argument is the task's own context.
            args: Its other positional arguments.
            name: What it is called in history; by default the function's name.

        Returns:
            A handle, which has the result once the task has ended.

        Raises:
            SerializationError: The function's return annotation cannot be decoded.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            RuntimeError: Not inside the group's block.
        """
        signature = signature_of(function)

        async def body(own: Frame) -> T:
            return await function(self._make_context(own), *args)

        verb: ChildVerb[T] = ChildVerb(
            self._frame,
            body,
            converter_of(signature, self._frame.invocation.serde),
            name=signature.name if name is None else name,
        )
        return self._start(verb)

    def _start(self, verb: ChildVerb[T]) -> TaskHandle[T]:
        if not self._block.is_open:
            raise RuntimeError("a task group is used inside its block: async with ctx.task_group() as tg")
        frame = self._frame
        frame.check(verb.identity)
        operation_id = frame.take()
        recorded = frame.invocation.history.get(operation_id)
        self._started += 1
        number = self._started
        stop = self._stop
        if recorded is None and stop is None:
            note_start(frame, verb, operation_id, self._saga)
        name = verb.identity.name or ""
        handle: TaskHandle[T] = TaskHandle(name, operation_id, self._group)

        async def run(slot: Frame) -> None:
            try:
                handle._value = await perform(slot, verb, operation_id)
            except Exception as error:  # noqa: BLE001 - raised where the group is left
                handle._error = self._errors[number] = error
                if self._stop is None:
                    await self._group.catch_up(slot)
                self._stop_because_of(number)
            finally:
                slot.branch.decided()

        context = copy_context()
        context.run(saga_var.set, self._saga)
        context.run(batch_var.set, self._batches)
        self._operations[number] = operation_id
        branch = handle._branch = self._group.start(
            run,
            operation_id=operation_id,
            at=frame.position,
            covers=recorded is not None,
            name=f"durable task {name}",
            spared=stop is not None and stop.by == number,
            decides=lambda succeeded: not succeeded and self._stop is None,
            context=context,
        )
        self._numbers[branch] = number
        frame.settle()  # now that the task covers for itself what it has recorded
        if recorded is not None and recorded.is_final and recorded.status is not OperationStatus.SUCCEEDED:
            # It is going to fail: what was cancelled because of that must not go further than it did.
            self._stop_because_of(number, recorded.end_timestamp)
        return handle

    def cancel(self) -> None:
        """Cancel all tasks, and the block. Records that, with what is recorded next."""
        frame = frame_var.get(None)
        branch = None if frame is None else frame.branch
        while branch is not None and branch not in self._numbers:
            branch = branch.parent
        self._stop_because_of(0 if branch is None else self._numbers[branch])

    def _stop_because_of(self, number: int, until: int | None = None) -> None:
        """Stop everything that runs.

        Args:
            number: The task that failed, or that cancelled the group; 0 if it was none of them.
            until: When (epoch milliseconds); by default now.
        """
        if self._stop is not None:
            if self._stop_is_recorded and number == self._stop.by:
                # It as well, now that it has come to this again.
                self._group.stop(known=self._stop.inside)
            return
        self._stop = GroupStop(by=number)
        self._stops_others = self._others_run()
        if not self._block.is_open:
            self._note_stop()
        if until is None:
            self._group.stop(known=self._group.tally())
            self._block.stop(until=self._frame.invocation.clock.now())
        else:
            self._group.stop(until)
            self._block.stop(until=until)

    def _others_run(self) -> bool:
        """Whether any task has not ended, as far as is recorded, other than the one that failed."""
        history = self._frame.invocation.history
        operations = (
            history.get(key)
            for number, key in self._operations.items()
            if self._stop is None or number != self._stop.by
        )
        return any(operation is None or not operation.is_final for operation in operations)

    def _note_stop(self, block: int | None = None) -> None:
        """Let a replay know, from the beginning, that the group was stopped, and how far its block came then.

        Args:
            block: How often it got past something that ended without it; `None` if it was left before.
        """
        if self._stop is not None and (block is not None or self._stops_others or self._others_run()):
            inside = {**self._group.tally(), **self._in_block}
            fact = msgspec.json.encode(msgspec.structs.replace(self._stop, block=block, inside=inside)).decode()
            note_fact(self._frame, self._stop_id, "task group stopped", fact)

    async def __aenter__(self) -> Self:
        """Begin. Records nothing."""
        if self._entered:
            raise RuntimeError("a task group can be entered once: call ctx.task_group() again")
        self._entered = True
        await self._frame.invocation.enter(self._frame, "a task group")
        self._saga = saga_var.get()
        self._batches = batch_var.get()
        await self._group.__aenter__()
        self._block.enter()
        self._stop_id = outcome_id(self._frame.prefix or "")
        recorded = self._frame.invocation.history.get(self._stop_id)
        if recorded is not None and recorded.is_final:
            if self._frame.invocation.rehearsal is not None:
                self._frame.invocation.rehearsal.seen.add(recorded.id)
            try:
                self._stop = _decode_stop(recorded.result)
            except MalformedPayloadError as error:
                # It has been entered by now, and nobody else leaves it.
                self._block.leave(type(error), error, error.__traceback__)
                await self._group.__aexit__(None, None, None)
                raise
            self._stop_is_recorded = True
            self._group.stop(known=self._stop.inside)
            if self._stop.block is not None:
                self._block.stop(self._stop.block, known=self._stop.inside)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Wait for all tasks.

        Raises:
            ExceptionGroup: What tasks, or the block, raised.
        """
        unasked = self._frame.unasked() if error is None else None
        own = error if isinstance(error, Exception) else None
        if own is not None and self._stop is None:
            await self._group.catch_up(self._frame)
        was_stopped, passed = self._block.is_stopped, self._block.passed
        self._in_block = self._block.tally()
        caught = self._block.leave(kind, error, traceback)
        if was_stopped and not self._stop_is_recorded:
            await self._group.catch_up(self._frame)
            self._note_stop(passed if caught or own is not None else None)
        if own is not None:
            self._stop_because_of(0)
        if error is None or caught or own is not None:
            await self._group.__aexit__(None, None, None)
        else:
            await self._group.__aexit__(kind, error, traceback)
            return False
        if unasked is not None:
            await diverge(self._frame, unasked, "the end of a task group's block")
        errors = [self._errors[number] for number in sorted(self._errors)]
        if own is not None:
            errors.append(own)
        if errors:
            raise ExceptionGroup("unhandled errors in a durable task group", errors) from None
        return True
