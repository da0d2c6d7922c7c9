"""`saga(ctx)`: a block whose steps carry their undo.

How the block is left, and what the scope then does:

  normally                         nothing; its compensations go to the enclosing saga, if there is one
  by an `Exception`                roll back, re-raise it
  by the user's own cancellation   roll back under a shield, then let the cancellation go on
  the invocation is ending         nothing at all: the execution goes on in another invocation
  by any other `BaseException`     nothing at all: the process is ending
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Token
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, TypeVarTuple, overload

import anyio

from .._engine.branch import Branch
from .._engine.current import EnclosingSaga, frame_var, saga_var
from .._engine.frame import SAGA, Frame
from .._engine.perform import perform
from .._kernel.decide import Semantics
from .._kernel.durations import to_seconds
from .._kernel.errors import decode_error, encode_error
from .._kernel.ledger import Entry, Ledger, StepOutcome
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._kernel.signatures import signature_of
from .._operations.step import StepVerb
from .._wire import ErrorObject
from ..exceptions import SagaCancelledError, SagaRolledBackError, StepInterruptedError
from .report import CompensationResult, error_of, note_of, result_of
from .rollback import OnError, Rollback

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _HasFrame(Protocol):
    _frame: Frame


def saga(
    ctx: _HasFrame,
    name: str | None = None,
    *,
    on_error: OnError = "continue",
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
) -> SagaScope:
    """A block whose steps are undone, in reverse, if it fails.

    Use it as `async with saga(ctx) as s:`. While all goes well it records nothing of its own. If the block is
    left by an exception, or by the user's own cancellation, the compensations that were registered are run, last
    first, each recorded; what left the block is raised again after that. A suspension of the execution inside
    the block does nothing.

    Args:
        ctx: The context of the durable function or of a child.
        name: What the saga is called in history.
        on_error: After a compensation has failed: `"continue"` with the others, or `"stop"`.
        retry: When a compensation that failed is tried again; by default its failure is final.
        timeout: How long one attempt of a compensation may take.

    Raises:
        InvalidNameError: Not 1 to 256 printable ASCII characters.
        InvalidDurationError: A negative or infinite timeout.
        ValueError: An unknown `on_error`.
    """
    return SagaScope(ctx._frame, name, on_error=on_error, retry=retry, timeout=timeout)


def current_saga() -> SagaScope:
    """The innermost saga around. Records nothing.

    Raises:
        LookupError: There is none.
    """
    scope = saga_var.get()
    if isinstance(scope, SagaScope):
        return scope
    raise LookupError("current_saga() is for the inside of a saga's block: there is none")


class SagaScope:
    """One saga, as its block sees it.

    Attributes:
        result: What the rollback came to; `None` while there was none.
    """

    def __init__(
        self,
        frame: Frame,
        name: str | None,
        *,
        on_error: OnError,
        retry: Retry | None,
        timeout: float | timedelta | None,
    ) -> None:
        if on_error not in {"continue", "stop"}:
            raise ValueError(f"saga(on_error={on_error!r}): 'continue' or 'stop'")
        self._frame = frame
        self._name = None if name is None else check_name(name, "a saga")
        self._on_error: OnError = on_error
        self._retry = retry
        self._timeout = None if timeout is None else to_seconds(timeout, "the timeout of a saga's compensations")
        self._ledger = Ledger()
        self.result: CompensationResult | None = None
        # The next four are set on entry.
        self._branch: Branch | None = None
        self._rollback: Rollback | None = None
        self._token: Token[EnclosingSaga | None] | None = None
        self._outer: SagaScope | None = None
        # The last exception that `refusal` gave.
        self._refused: Exception | None = None
        # Why the saga can only roll back: a rollback was recorded before this invocation, or has run in it.
        self._doom: ErrorObject | None = None

    async def __aenter__(self) -> Self:
        """Reserve the saga's id and become the current saga. Records nothing."""
        if self._rollback is not None:
            raise RuntimeError("a saga scope can be entered once: call saga(ctx) again")
        frame = self._frame
        await frame.invocation.enter(frame, f"saga {self._name!r}" if self._name else "a saga")
        self._rollback = Rollback(
            frame,
            frame.reserve(SAGA),
            self._name,
            on_error=self._on_error,
            retry=self._retry,
            timeout=self._timeout,
        )
        self._branch = frame.branch
        self._doom = await self._rollback.recorded_reason()
        outer = saga_var.get()
        self._outer = outer if isinstance(outer, SagaScope) else None
        self._token = saga_var.set(self)
        return self

    @overload
    async def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        compensate: Callable[[T], object] | None = None,
        compensate_on: Literal["success"] = "success",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> T: ...
    @overload
    async def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        compensate: Callable[[StepOutcome[T]], object],
        compensate_on: Literal["start"],
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> T: ...
    @overload
    async def step(
        self,
        function: Callable[[*Ts], T],
        /,
        *args: *Ts,
        compensate: Callable[[T], object] | None = None,
        compensate_on: Literal["success"] = "success",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> T: ...
    @overload
    async def step(
        self,
        function: Callable[[*Ts], T],
        /,
        *args: *Ts,
        compensate: Callable[[StepOutcome[T]], object],
        compensate_on: Literal["start"],
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> T: ...
    async def step(  # type: ignore[misc]  # mypy does not follow *Ts into an implementation
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        compensate: Callable[[Any], object] | None = None,
        compensate_on: Literal["success", "start"] = "success",
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> Any:
        """Run a step (see `DurableContext.step`) and register how to undo it.

        Records a STEP on the current context. Suspends while it waits for a retry.

        Args:
            function: A coroutine function, or a plain one, which is run in a worker thread.
            args: Its positional arguments.
            compensate: Undoes the step; called with its result, decoded as recorded. It may use durable
                operations through `current_context()`.
            compensate_on: `"success"`: there is something to undo once the step has succeeded. `"start"`: as
                soon as it may have begun; `compensate` is then called with a `StepOutcome`.
            name: What step and compensation are called in history; by default the function's name.
            retry: When to try the step again.
            timeout: How long one attempt of the step may take.
            semantics: What becomes of an attempt that a crash interrupted.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            Exception: What the step raises; the same as `DurableContext.step`.
        """
        self._check_entered()
        frame = frame_var.get()
        verb: StepVerb[Any] = StepVerb(
            frame,
            function,
            args,
            name=name,
            retry=retry,
            timeout=None if timeout is None else to_seconds(timeout, "the timeout of a step"),
            semantics=semantics,
        )
        if compensate is None:
            return await perform(frame, verb)
        signature_of(compensate)  # a thing that cannot be called is refused before anything happens
        if compensate_on == "start":
            return await self._step_in_doubt(frame, verb, compensate)
        forward_id = frame.peek()
        value = await perform(frame, verb)
        self._register(frame, Entry(forward_id, verb.name, compensate, (value,)))
        return value

    def compensate(self, function: Callable[[*Ts], object], /, *args: *Ts, name: str | None = None) -> None:
        """Register by hand something to be done on rollback. Records nothing.

        Args:
            function: Called as any compensation.
            args: Its positional arguments. They are not recorded: they must be the same on every replay, as
                what was read from steps is.
            name: What the compensation is called in history; by default the function's name.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        self._check_entered()
        frame = frame_var.get()
        shown = check_name(signature_of(function).name if name is None else name, "a compensation")
        frame.check(f"compensate({shown!r})")
        self._register(frame, Entry(frame.reserve("undo"), shown, function, args))

    async def rollback(self, reason: str | Exception) -> CompensationResult:
        """Undo now all that was registered. The block then goes on, but the saga does not.

        Records the rollback. May suspend, if a compensation does.

        Args:
            reason: Why, for the record.

        Raises:
            CompensationError: Something could not be undone; its `result` says what.
            SagaRolledBackError: It was rolled back before.
        """
        self._check_entered()
        error = reason if isinstance(reason, Exception) else SagaRolledBackError(reason)
        self._frame.check("rollback()")
        result = await self._roll_back(encode_error(error))
        if not result.all_succeeded:
            raise error_of(self._shown, result) from error
        return result

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the block; see the table at the top of this file."""
        if self._token is not None:
            saga_var.reset(self._token)
        if self._frame.invocation.ending is not None or self.result is not None:
            return
        if error is None and self._doom is None:
            if self._outer is not None:
                self._outer._take_over(self._ledger, self._frame)
        elif error is None or isinstance(error, Exception):
            await self._fail(error)
        elif isinstance(error, anyio.get_cancelled_exc_class()):
            result = await self._roll_back(self._doom or encode_error(SagaCancelledError()))
            if not result.all_succeeded:
                raise error_of(self._shown, result) from error

    def refusal(self, inside: Branch | None = None) -> Exception | None:
        """Why nothing new may run in this block; `None` while the saga, and those around it, go forward."""
        if inside is not None and not self._is_inside(inside):
            return None
        # Rolled back by hand, and the block goes on: only the saga's own steps are refused.
        if self._doom is not None and self.result is None:
            self._refused = decode_error(self._doom)
            return self._refused
        return self._outer.refusal(inside) if self._outer is not None else None

    def _is_inside(self, branch: Branch) -> bool:
        current = self._branch
        while current is not None and current is not branch:
            current = current.parent
        return current is branch

    async def _fail(self, error: Exception | None) -> None:
        """Roll back because of an exception, or because it is recorded that this saga did."""
        result = await self._roll_back(self._doom or encode_error(error or SagaCancelledError()))
        reason = error if error is not None else decode_error(self._doom)
        if not result.all_succeeded:
            raise error_of(self._shown, result) from reason
        if isinstance(reason, SagaCancelledError):
            # The way on is the one that the first run took.
            if self._frame.branch.stopped is not None:
                await self._frame.branch.halt()
            elif anyio.current_effective_deadline() < float("inf"):
                await anyio.sleep_forever()  # it was a time limit, which is running again around this block
        reason.add_note(note_of(self._shown, result))
        if error is None:
            raise reason

    async def _roll_back(self, reason: ErrorObject) -> CompensationResult:
        if self.result is not None:
            raise SagaRolledBackError("it cannot be rolled back a second time")
        rollback = self._rollback
        assert rollback is not None  # noqa: S101 - set on entry, and checked by whoever comes from outside
        invocation = self._frame.invocation
        # Compensations are no part of the block: their steps register nowhere, and nothing refuses them.
        token = saga_var.set(None)
        shield = invocation.rollback_shield()
        try:
            with shield:
                self.result = result_of(await rollback.run(reason, self._ledger))
        finally:
            invocation.release_shield(shield)
            saga_var.reset(token)
        if self.result is None:
            await invocation.leave(f"the rollback of {self._shown}")
        return self.result

    async def _step_in_doubt(self, frame: Frame, verb: StepVerb[Any], compensate: Callable[[Any], object]) -> Any:
        entry = Entry(frame.peek(), verb.name, compensate, ())
        position = frame.position
        outcome: StepOutcome[Any] | None = None
        try:
            value = await perform(frame, verb)
            outcome = StepOutcome(status="succeeded", value=value)
        except Exception as error:
            if self._was_refused(error):
                # The rollback has begun before: there is something to undo if the step had begun by then.
                if entry.forward_id in frame.invocation.history:
                    outcome = StepOutcome(status="in doubt")
            elif frame.position > position:
                unknown = isinstance(error, StepInterruptedError)
                outcome = StepOutcome(status="in doubt" if unknown else "failed", error=error)
            raise
        except BaseException:
            if frame.position > position:
                outcome = StepOutcome(status="in doubt")
            raise
        finally:
            if outcome is not None:
                entry.args = (outcome,)
                self._register(frame, entry)
        return value

    def _was_refused(self, error: Exception) -> bool:
        return error is self._refused or (self._outer is not None and self._outer._was_refused(error))

    def _register(self, frame: Frame, entry: Entry) -> None:
        self._ledger.entries.append(entry)
        _mark(frame, self._frame)

    def _take_over(self, inner: Ledger, frame: Frame) -> None:
        if len(inner):
            inner.hand_over(self._ledger)
            _mark(frame, self._frame)

    def _check_entered(self) -> None:
        if self._rollback is None:
            raise RuntimeError("a saga is used inside its block: async with saga(ctx) as s")
        if self.result is not None:
            raise SagaRolledBackError("it goes no further; use the context for what is to come after")

    @property
    def _shown(self) -> str:
        return "the saga" if self._name is None else f"saga {self._name!r}"


def _mark(frame: Frame, end: Frame) -> None:
    """Mark the frames from the one that registered up to the saga's own, which is not one of them."""
    current: Frame | None = frame
    while current is not None and current is not end:
        current.registers = True
        current = current.parent
