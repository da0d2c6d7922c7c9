"""What a saga's block registers: steps with their undo, undoing by hand, cleaning up.

Registering records nothing. What is registered is there again on replay, as the code comes the same way again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, overload

import msgspec

from .._engine.current import frame_var
from .._engine.frame import Frame
from .._engine.perform import perform
from .._kernel.decide import Semantics
from .._kernel.durations import to_seconds
from .._kernel.ledger import Entry, Ledger, StepOutcome
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._kernel.signatures import signature_of
from .._operations.step import StepVerb
from ..exceptions import StepInterruptedError

if TYPE_CHECKING:
    from ..abc import Serde

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Savepoint(msgspec.Struct, frozen=True):
    """A place in a saga to roll back to. Made by `SagaScope.savepoint`.

    Attributes:
        saga_id: The saga that it is a place in.
        number: Which of its savepoints it is, from 1.
        registered: How many compensations were registered.
    """

    saga_id: str
    number: int
    registered: int


class Registration:
    """The forward side of a saga."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._ledger = Ledger()
        # In the order in which they were registered.
        self._cleanups: list[Entry] = []
        # Those that can be rolled back to, oldest first, and how many there have ever been.
        self._savepoints: list[Savepoint] = []
        self._made = 0
        # The saga's id, from entry on.
        self._id = ""

    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        compensate: Callable[[T], object] | None = None,
        compensate_on: Literal["success"] = "success",
        compensate_retry: Retry | None = None,
        compensate_timeout: float | timedelta | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        compensate: Callable[[StepOutcome[T]], object],
        compensate_on: Literal["start"],
        compensate_retry: Retry | None = None,
        compensate_timeout: float | timedelta | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        /,
        *args: *Ts,
        compensate: Callable[[T], object] | None = None,
        compensate_on: Literal["success"] = "success",
        compensate_retry: Retry | None = None,
        compensate_timeout: float | timedelta | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        /,
        *args: *Ts,
        compensate: Callable[[StepOutcome[T]], object],
        compensate_on: Literal["start"],
        compensate_retry: Retry | None = None,
        compensate_timeout: float | timedelta | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    def step(  # type: ignore[misc]  # mypy does not follow *Ts into an implementation
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        compensate: Callable[[Any], object] | None = None,
        compensate_on: Literal["success", "start"] = "success",
        compensate_retry: Retry | None = None,
        compensate_timeout: float | timedelta | None = None,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run a step (see `DurableContext.step`) and register how to undo it.

        Records a STEP on the current context. Suspends while it waits for a retry.

        Args:
            function: A coroutine function, or a plain one, which is run in a worker thread.
            args: Its positional arguments.
            compensate: Undoes the step; called with its result, decoded as recorded. It may use durable
                operations through `current_context()`.
            compensate_on: `"success"`: there is something to undo once the step has succeeded. `"start"`: as
                soon as it may have begun; `compensate` is then called with a `StepOutcome`.
            compensate_retry: When the compensation is tried again; by default as the saga says.
            compensate_timeout: How long one attempt of the compensation may take; by default as the saga says.
            name: What step and compensation are called in history; by default the function's name.
            retry: When to try the step again.
            timeout: How long one attempt of the step may take.
            semantics: What becomes of an attempt that a crash interrupted.
            serde: Encodes and decodes the result, as for `DurableContext.step`; `compensate` gets it decoded.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            Exception: What the step raises; the same as `DurableContext.step`.
        """
        self._check_goes_on()
        frame = frame_var.get()
        make: type[StepVerb[Any]] = _InDoubtStep if compensate_on == "start" else StepVerb
        verb: StepVerb[Any] = make(
            frame,
            function,
            args,
            name=name,
            retry=retry,
            timeout=None if timeout is None else to_seconds(timeout, "the timeout of a step"),
            semantics=semantics,
            serde=serde,
        )
        if compensate is None:
            return frame.called(verb.identity, perform(frame, verb))
        signature_of(compensate)  # a thing that cannot be called is refused before anything happens
        entry = Entry(
            forward_id="",  # known when it begins
            name=verb.name,
            undo=compensate,
            retry=compensate_retry,
            timeout=_seconds(compensate_timeout),
        )
        run = self._step_in_doubt if compensate_on == "start" else self._step
        return frame.called(verb.identity, run(frame, verb, entry))

    def compensate(
        self,
        function: Callable[[*Ts], object],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        """Register by hand something to be done on rollback. Records nothing.

        Args:
            function: Called as any compensation.
            args: Its positional arguments. They are not recorded: they must be the same on every replay, as
                what was read from steps is.
            name: What the compensation is called in history; by default the function's name.
            retry: When it is tried again; by default as the saga says.
            timeout: How long one attempt may take; by default as the saga says.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        self._check_goes_on()
        frame, shown = self._registering(function, name, "compensate", "a compensation")
        entry = Entry(
            forward_id=frame.reserve("undo"),
            name=shown,
            undo=function,
            by_hand=True,
            retry=retry,
            timeout=_seconds(timeout),
        )
        if frame.goes_by_hand():
            self._register(frame, entry, *args)

    def cleanup(
        self,
        function: Callable[[*Ts], object],
        /,
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
    ) -> None:
        """Register something to be done once, at the logical end of the block, however it ends. Records nothing.

        Cleanups are run last registered first, after any compensations, and never because of a suspension. Each is
        recorded, as a CONTEXT, when it runs; it may use durable operations through `current_context()`.

        Args:
            function: What to call.
            args: Its positional arguments; the same on every replay.
            name: What the cleanup is called in history; by default the function's name.
            retry: When it is tried again; by default as the saga says.
            timeout: How long one attempt may take; by default as the saga says.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        self._check_goes_on()
        frame, shown = self._registering(function, name, "cleanup", "a cleanup")
        entry = Entry(
            forward_id=frame.reserve("cleanup"),
            name=shown,
            undo=function,
            args=args,
            path=frame.path,
            by_hand=True,
            retry=retry,
            timeout=_seconds(timeout),
        )
        if frame.goes_by_hand():
            self._cleanups.append(entry)
            _mark(frame, self._frame)

    def savepoint(self) -> Savepoint:
        """A place to roll back to, with `rollback_to`. Records nothing.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            FrameMisuseError: As for `rollback_to`.
        """
        self._check_alone("savepoint()")
        self._made += 1
        made = Savepoint(self._id, self._made, len(self._ledger))
        self._savepoints.append(made)
        return made

    def pivot(self) -> None:
        """The point of no return: nothing that this saga has done so far will be undone. Records nothing.

        What is registered after it is undone as ever. What comes after a pivot is expected to succeed in the end:
        give it a retry policy.

        Raises:
            SagaRolledBackError: The saga was rolled back by `rollback()` before.
            FrameMisuseError: As for `rollback`.
        """
        self._check_alone("pivot()")
        if self._frame.goes_by_hand():
            self._ledger.clear()
            self._savepoints.clear()

    async def _step(self, frame: Frame, verb: StepVerb[Any], entry: Entry) -> Any:
        """A step whose compensation is registered when it has succeeded."""
        forward_id = frame.peek()
        value = await perform(frame, verb)
        self._register(frame, msgspec.structs.replace(entry, forward_id=forward_id), value)
        return value

    async def _step_in_doubt(self, frame: Frame, verb: StepVerb[Any], entry: Entry) -> Any:
        """A step whose compensation is registered as soon as it is recorded that it has begun."""
        entry = msgspec.structs.replace(entry, forward_id=frame.peek())
        outcome: StepOutcome[Any] | None = None
        position = frame.position
        try:
            value = await perform(frame, verb)
            outcome = StepOutcome(status="succeeded", value=value)
        except BaseException as error:
            began = frame.position > position and entry.forward_id in frame.invocation.history
            if began:
                failed = isinstance(error, Exception) and not isinstance(error, StepInterruptedError)
                if failed and not self._was_refused(error):
                    outcome = StepOutcome(status="failed", error=error)  # type: ignore[arg-type]
                else:
                    outcome = StepOutcome(
                        status="in doubt", error=error if isinstance(error, StepInterruptedError) else None
                    )
            raise
        finally:
            if outcome is not None:
                self._register(frame, entry, outcome)
        return value

    def _registering(
        self, function: Callable[..., Any], name: str | None, verb: str, what: str
    ) -> tuple[Frame, str]:
        frame = frame_var.get()
        shown = check_name(signature_of(function).name if name is None else name, what)
        frame.check(f"{verb}({shown!r})")
        return frame, shown

    def _register(self, frame: Frame, entry: Entry, *args: Any) -> None:
        self._ledger.add(msgspec.structs.replace(entry, args=args, path=frame.path))
        _mark(frame, self._frame)

    def _check_goes_on(self) -> None:
        raise NotImplementedError

    def _check_alone(self, what: str) -> None:
        raise NotImplementedError

    def _was_refused(self, error: BaseException) -> bool:
        raise NotImplementedError


class _InDoubtStep(StepVerb[Any]):
    """A step that is recorded to have begun before it can have any effect."""

    __slots__ = ()

    @property
    def awaits_start(self) -> bool:  # type: ignore[override]
        """Always."""
        return True


def _seconds(timeout: float | timedelta | None) -> float | None:
    return None if timeout is None else to_seconds(timeout, "the timeout of a compensation")


def _mark(frame: Frame, end: Frame) -> None:
    """Mark the frames from the one that registered up to the saga's own, which is not one of them."""
    current: Frame | None = frame
    while current is not None and current is not end:
        current.registers = True
        current = current.parent
