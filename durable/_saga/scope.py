"""`saga(ctx)`: a block whose steps carry their undo.

How the block is left, and what the scope then does:

  normally                         nothing; its compensations go to the enclosing saga, if there is one
  by an `Exception`                roll back, re-raise it
  by a request, or its deadline    roll back, raise `SagaCancelledError` or `SagaDeadlineError`
  by the user's own cancellation   roll back under a shield, then let the cancellation go on
  the invocation is ending         nothing at all: the execution goes on in another invocation
  by any other `BaseException`     nothing at all: the process is ending

In the first four cases the cleanups are run after that.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextvars import Token
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import anyio

from .._engine.current import saga_var
from .._engine.frame import SAGA, Frame
from .._kernel.durations import to_seconds, to_wait_seconds
from .._kernel.errors import decode_error, encode_error
from .._kernel.ledger import Ledger, OnError, Policy
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._wire import ErrorObject
from .._wire.limits import MAX_NAME_LENGTH
from ..exceptions import FrameMisuseError, SagaCancelledError, SagaRolledBackError
from .registration import Registration, Savepoint, _mark

# What only a saga that fails, or one with limits, needs is imported then.
if TYPE_CHECKING:
    from typing import Protocol

    from .._engine.branch import Branch
    from .._engine.current import EnclosingSaga
    from .._kernel.report import CompensationResult
    from .._kernel.undo_records import Plan, RollbackReport
    from .interruption import Interruptions
    from .rollback import Rollback

    class _HasFrame(Protocol):
        _frame: Frame


def saga(
    ctx: _HasFrame,
    name: str | None = None,
    *,
    on_error: OnError = "continue",
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    rollback_timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    cancellable: bool = False,
) -> SagaScope:
    """A block whose steps are undone, in reverse, if it fails.

    Use it as `async with saga(ctx) as s:`. While all goes well it records nothing of its own, unless it has a
    deadline or is cancellable. If the block is left by an exception, or by the user's own cancellation, the
    compensations that were registered are run, last first, each recorded; what left the block is raised again after
    that. A suspension of the execution inside the block does nothing.

    Args:
        ctx: The context of the durable function or of a child.
        name: What the saga is called in history.
        on_error: After a compensation has failed: `"continue"` with the others, `"stop"`, or `"park"`: wait for an
            operator, who has it tried again, skips it or abandons the rollback.
        retry: When a compensation that failed is tried again; by default its failure is final.
        timeout: How long one attempt of a compensation may take.
        rollback_timeout: How long the whole rollback may take; what is not undone by then is reported as failed.
        deadline: How long the block may take before it is rolled back. AWS's own execution timeout, and stopping an
            execution, undo nothing: a saga that must not outlive them needs a deadline well before.
        cancellable: Whether somebody outside may ask for it to be rolled back (`durable cancel NAME`, or the
            callback named `cancel` and the saga's name).

    Raises:
        InvalidNameError: Not 1 to 256 printable ASCII characters.
        InvalidDurationError: A negative or infinite timeout; a rollback timeout or a deadline that is not 1 second
            to 366 days.
        ValueError: An unknown `on_error`.
    """
    if on_error not in {"continue", "stop", "park"}:
        raise ValueError(f"saga(on_error={on_error!r}): 'continue', 'stop' or 'park'")
    policy = Policy(
        on_error=on_error,
        retry=retry,
        timeout=None if timeout is None else to_seconds(timeout, "the timeout of a saga's compensations"),
        rollback_timeout=(
            None if rollback_timeout is None else to_wait_seconds(rollback_timeout, "a saga's rollback timeout")
        ),
    )
    frame = ctx._frame
    shown = None if name is None else check_name(name, "a saga")
    interruptions: Interruptions | None = None
    if deadline is not None or cancellable:
        from .interruption import Interruptions

        interruptions = Interruptions(frame, shown, deadline=deadline, cancellable=cancellable)
    return SagaScope(frame, shown, policy, interruptions)


def current_saga() -> SagaScope:
    """The innermost saga around. Records nothing.

    Raises:
        LookupError: There is none.
    """
    scope = saga_var.get()
    if isinstance(scope, SagaScope):
        return scope
    raise LookupError("current_saga() is for the inside of a saga's block: there is none")


class SagaScope(Registration):
    """One saga, as its block sees it.

    Attributes:
        result: What the rollback came to; `None` while there was none.
    """

    def __init__(self, frame: Frame, name: str | None, policy: Policy, interruptions: Interruptions | None) -> None:
        super().__init__(frame)
        self._name = name
        self._policy = policy
        self._interruptions = interruptions
        self.result: CompensationResult | None = None
        # The next three are set on entry.
        self._token: Token[EnclosingSaga | None] | None = None
        self._outer: SagaScope | None = None
        # Where the block's own code runs.
        self._branch: Branch | None = None
        # The last exception that `refusal` gave.
        self._refused: Exception | None = None
        # Why the saga can only roll back, if a rollback was recorded before this invocation.
        self._doom: Plan | RollbackReport | None = None

    async def __aenter__(self) -> Self:
        """Reserve the saga's id and become the current saga."""
        if self._id:
            raise RuntimeError("a saga scope can be entered once: call saga(ctx) again")
        frame = self._frame
        await frame.invocation.enter(frame, f"saga {self._name!r}" if self._name else "a saga")
        self._id = frame.reserve(SAGA)
        if self._id in frame.invocation.history:
            self._doom = await self._make_rollback(self._id, self._name).recorded_decision()
        if self._interruptions is not None:
            await self._interruptions.enter()
        self._branch = frame.branch
        outer = saga_var.get()
        self._outer = outer if isinstance(outer, SagaScope) else None
        self._token = saga_var.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the block; see the table at the top of this file."""
        if self._token is not None:
            saga_var.reset(self._token)
        left_by = error
        interruption: Exception | None = None
        if error is None:
            error = self._frame.unawaited(f"the end of {self._shown}")
            kind = None if error is None else type(error)
        try:
            if self._interruptions is not None:
                interruption = await self._interruptions.leave(kind, error, traceback)
                error = interruption or error
        except (Exception, anyio.get_cancelled_exc_class()) as trouble:  # noqa: BLE001 - the block is left by it
            error = trouble
        try:
            if self._frame.invocation.ending is None:
                await self._settle_and_clean_up(error, interruption, left_by)
        finally:
            # Users' functions may refer to the scope itself.
            self._ledger.clear()
            self._cleanups.clear()
        if error is not None and error is not left_by:
            raise error

    def rollback(self, reason: str | Exception) -> Coroutine[Any, Any, CompensationResult]:
        """Undo now all that was registered. The block then goes on, but the saga does not.

        Records the rollback. May suspend, if a compensation does.

        Args:
            reason: Why, for the record.

        Raises:
            CompensationError: Something could not be undone; its `result` says what.
            SagaRolledBackError: It was rolled back before.
            FrameMisuseError: Called from another task, from inside a step or a child, while tasks run inside the
                saga, or inside of an inner saga.
        """
        return self._frame.called("rollback()", self._roll_back_now(reason))

    async def _roll_back_now(self, reason: str | Exception) -> CompensationResult:
        self._check_alone("rollback()")
        error = _as_error(reason)
        result = await self._roll_back(encode_error(error), cancelled=False)
        if not result.is_settled:
            raise result.failure(self._shown) from error
        return result

    def rollback_to(self, savepoint: Savepoint, reason: str | Exception) -> Coroutine[Any, Any, CompensationResult]:
        """Undo what was registered after a savepoint, and go on from there.

        Records the rollback, as one of its own. May suspend, if a compensation does.

        Args:
            savepoint: Made by this saga's `savepoint()`, with no pivot since, and not undone itself.
            reason: Why, for the record.

        Raises:
            ValueError: The savepoint is another saga's, or is gone.
            CompensationError: Something could not be undone; its `result` says what. What was tried and failed will
                not be tried again; what was not attempted is still registered.
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            FrameMisuseError: As for `rollback`.
        """
        return self._frame.called("rollback_to()", self._roll_back_to(savepoint, reason))

    async def _roll_back_to(self, savepoint: Savepoint, reason: str | Exception) -> CompensationResult:
        self._check_alone("rollback_to()")
        if savepoint.saga_id != self._id:
            raise ValueError("rollback_to() was given a savepoint of another saga")
        if savepoint not in self._savepoints:
            raise ValueError(
                "rollback_to() was given a savepoint that is gone: a pivot was passed, or it was undone"
            )
        # Those that were made after it are undone with all the rest.
        del self._savepoints[self._savepoints.index(savepoint) + 1 :]
        error = _as_error(reason)
        name = f"{self._name or 'saga'} to savepoint"[:MAX_NAME_LENGTH]
        rollback = self._make_rollback(self._frame.reserve(SAGA), name)
        await rollback.recorded_decision()  # checks what is recorded
        entries = self._ledger.in_order_of_undoing(savepoint.registered)
        result = await rollback.run(encode_error(error), entries)
        self._ledger.drop(rollback.attempted)
        if not result.is_settled:
            raise result.failure(self._shown) from error
        return result

    # --- For the engine --------------------------------------------------------------------------------------

    def operations_to_undo(self) -> int:
        """How many operations it may take to roll this saga and those around it back."""
        total = 0
        scope: SagaScope | None = self
        while scope is not None:
            total += scope._policy.operations_to_undo(scope._ledger) + 2 * len(scope._cleanups)
            scope = scope._outer
        return total

    def doomed(self) -> SagaScope | None:
        """The innermost saga, this one or one around it, whose rollback has begun."""
        scope: SagaScope | None = self
        # One that was rolled back by hand, and whose block goes on, refuses only its own steps.
        while scope is not None and (scope._doom is None or scope.result is not None):
            scope = scope._outer
        return scope

    def refusal(self) -> Exception:
        """What made it roll back."""
        self._refused = decode_error(None if self._doom is None else self._doom.reason)
        return self._refused

    def raises_in(self, branch: Branch) -> bool:
        """Whether the block's own code failed, here; not a branch inside of it, and not by being cancelled."""
        return branch is self._branch and self._doom is not None and not self._doom.cancelled

    # --- Leaving ---------------------------------------------------------------------------------------------

    async def _settle_and_clean_up(
        self, error: BaseException | None, interruption: Exception | None, left_by: BaseException | None
    ) -> None:
        try:
            await self._settle(error, interruption)
        except Exception as outcome:
            await self._clean_up(outcome)
            if outcome is not left_by:
                raise
        except anyio.get_cancelled_exc_class():
            await self._clean_up(SagaCancelledError())
            raise
        else:
            if error is None or _is_cancellation(error):
                await self._clean_up(None if error is None else SagaCancelledError())

    async def _settle(self, error: BaseException | None, interruption: Exception | None) -> None:
        """Do what follows from how the block was left; raises what is to come out of it, if not `error` itself."""
        if self.result is not None:  # rolled back by hand
            if isinstance(error, Exception):
                raise error
        elif error is None and self._doom is None:
            self._frame.goes_by_hand()  # nothing else tells that it was left, and undoes nothing any more
            outer = self._outer
            while outer is not None and outer.result is not None:
                outer = outer._outer  # one that was rolled back by hand is over, although its block goes on
            if outer is not None:
                outer._take_over(self._ledger, self._frame)
        elif error is None or isinstance(error, Exception):
            await self._fail(error, interruption)
        elif _is_cancellation(error):
            reason = SagaCancelledError()
            result = await self._roll_back(encode_error(reason), cancelled=True)
            if not result.is_settled:
                raise result.failure(self._shown) from reason

    async def _fail(self, error: Exception | None, interruption: Exception | None) -> None:
        """Roll back because of an exception, or because it is recorded that this saga did."""
        reason = self.refusal() if error is None else error
        result = await self._roll_back(encode_error(reason), cancelled=interruption is not None)
        if not result.is_settled:
            raise result.failure(self._shown) from reason
        if self._doom is not None and self._doom.cancelled and interruption is None:
            # It was what is around it that cancelled it. The way on is the one that the first run took.
            if self._frame.branch.stopped is not None:
                await self._frame.branch.halt()
            elif anyio.current_effective_deadline() < float("inf"):
                await anyio.sleep_forever()  # it was a time limit, which is running again around this block
        reason.add_note(result.note(self._shown))
        raise reason

    async def _roll_back(self, reason: ErrorObject, *, cancelled: bool) -> CompensationResult:
        rollback = self._make_rollback(self._id, self._name)
        self.result = await rollback.run(reason, self._ledger.in_order_of_undoing(), cancelled=cancelled)
        self._ledger.clear()
        return self.result

    def _make_rollback(self, rollback_id: str, name: str | None) -> Rollback:
        from .rollback import Rollback

        return Rollback(self._frame, rollback_id, name, self._policy)

    async def _clean_up(self, outcome: Exception | None) -> None:
        """Run the cleanups. What they raise is raised if all else went well, and noted on `outcome` otherwise."""
        if self._cleanups and self._frame.invocation.ending is None:
            from .cleanup import clean_up

            cleanups, self._cleanups = self._cleanups, []
            await clean_up(self._frame, cleanups, self._policy, self._shown, outcome)

    def _take_over(self, inner: Ledger, frame: Frame) -> None:
        if len(inner):
            inner.hand_over(self._ledger)
            _mark(frame, self._frame)

    # --- Checks ----------------------------------------------------------------------------------------------

    def _check_alone(self, what: str) -> None:
        """Refuse what is about all that the saga has done so far where it is not known what that is.

        Raises:
            SagaRolledBackError, FrameMisuseError, RuntimeError: See `rollback`.
        """
        self._check_goes_on()
        self._frame.check(what)
        inner = saga_var.get()
        if isinstance(inner, SagaScope) and inner is not self:
            raise FrameMisuseError(
                f"{what} of {self._shown} was called inside of {inner._shown}, which is inside of it and has not "
                "ended. Leave that one first."
            )
        if self._frame.branch.runs_others(self._branch):
            raise FrameMisuseError(
                f"{what} was called while tasks run inside {self._shown}: what they do could not be undone. "
                "Leave the task group first."
            )

    def _check_goes_on(self) -> None:
        if self not in _chain():
            raise RuntimeError(
                "a saga is used inside its block: async with saga(ctx) as s. A task belongs to the saga that is "
                "around its task group, and compensations to none."
            )
        if self.result is not None:
            raise SagaRolledBackError("it goes no further; use the context for what is to come after")

    def _was_refused(self, error: BaseException) -> bool:
        return any(error is scope._refused for scope in _chain())

    @property
    def _shown(self) -> str:
        return "the saga" if self._name is None else f"saga {self._name!r}"


def _chain() -> Iterator[SagaScope]:
    """The sagas around the code that runs, innermost first."""
    scope = saga_var.get()
    while isinstance(scope, SagaScope):
        yield scope
        scope = scope._outer


def _as_error(reason: str | Exception) -> Exception:
    return reason if isinstance(reason, Exception) else SagaRolledBackError(reason)


def _is_cancellation(error: BaseException) -> bool:
    """Whether a block was left by a cancellation, perhaps together with exceptions of tasks inside."""
    cancelled = anyio.get_cancelled_exc_class()
    if not isinstance(error, BaseExceptionGroup):
        return isinstance(error, cancelled)
    group = cast("BaseExceptionGroup[BaseException]", error)
    match, rest = group.split(cancelled)
    return match is not None and (rest is None or isinstance(rest, ExceptionGroup))
