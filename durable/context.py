"""What a durable function holds in its hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from ._engine.current import frame_var
from ._engine.frame import Frame
from ._engine.perform import perform
from ._kernel.decide import Semantics
from ._kernel.durations import to_seconds
from ._kernel.retry import Retry
from ._kernel.signatures import signature_of
from ._operations.child import ChildVerb
from ._operations.step import StepVerb
from ._operations.wait import WaitVerb

if TYPE_CHECKING:
    from ._engine.log import ReplayAwareLogger

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DurableContext:
    """The durable operations of one execution, or of one child context in it.

    It belongs to one task and counts its operations in the order of the calls; a replay must call the same ones
    in the same order. All durations are `float` seconds or `timedelta`.
    """

    __slots__ = ("_frame", "_logger")

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._logger: ReplayAwareLogger | None = None

    @property
    def execution_arn(self) -> str:
        """The execution's ARN, on the embedded engine as on AWS."""
        return self._frame.invocation.arn

    @property
    def execution_name(self) -> str:
        """The execution's name."""
        return self.execution_arn.rsplit("/", 2)[-2]

    @property
    def is_replaying(self) -> bool:
        """Whether what comes next on this context has been recorded before."""
        return self._frame.is_replaying

    @property
    def logger(self) -> ReplayAwareLogger:
        """A standard logger adapter (`durable.execution`), silent while replaying."""
        if self._logger is None:
            from ._engine.log import ReplayAwareLogger  # only here: logging is slow to load

            self._logger = ReplayAwareLogger(self._frame, self.execution_name)
        return self._logger

    @overload
    async def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
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
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
    ) -> Any:
        """Run a function once and record what it returns.

        Records a STEP. Suspends while it waits for a retry. The value returned is the recorded one, decoded by
        the function's return annotation, on the first run as on every replay.

        Args:
            function: A coroutine function, or a plain one, which is run in a worker thread.
            args: Its positional arguments; `functools.partial` takes keywords.
            name: What it is called in history; by default the function's name.
            retry: When to try again; by default a failure is final.
            timeout: How long one attempt may take. A plain function's thread is left to itself then.
            semantics: An attempt that a crash interrupted is run again (`"at-least-once"`), or surfaces as
                `StepInterruptedError` (`"at-most-once"`).

        Raises:
            StepTimeoutError: An attempt took longer than `timeout`, and no further one follows.
            StepInterruptedError: An at-most-once attempt was interrupted, and no further one follows.
            SerializationError: What it returned cannot be encoded, or does not fit its annotation.
            PayloadTooLargeError: What it returned is over 1 MB encoded.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the function raised, as its own type.
        """
        verb: StepVerb[Any] = StepVerb(
            self._frame,
            function,
            args,
            name=name,
            retry=retry,
            timeout=None if timeout is None else to_seconds(timeout, "the timeout of a step"),
            semantics=semantics,
        )
        return await perform(self._frame, verb)

    async def wait(self, duration: float | timedelta, *, name: str | None = None) -> None:
        """Wait, durably: nothing runs meanwhile.

        Records a WAIT. Suspends.

        Args:
            duration: 1 second to 366 days; rounded up to whole seconds.
            name: What it is called in history.

        Raises:
            InvalidDurationError: Less than a second, or more than 366 days.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        await perform(self._frame, WaitVerb(self._frame, duration, name=name))

    async def child(
        self,
        function: Callable[[DurableContext, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> T:
        """Run a subflow in a child context, with its own namespace of operations.

        Records a CONTEXT. Suspends when its body does. Once it has ended, a replay takes its result from its
        record and does not run its body again; a result over 256 KB is rebuilt from the records of its children.

        Args:
            function: A coroutine function; its first argument is the child's context.
            args: Its other positional arguments.
            name: What it is called in history; by default the function's name.

        Raises:
            SerializationError: What it returned cannot be encoded, or does not fit its annotation.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the function raised, as its own type.
        """
        signature = signature_of(function)

        async def body(frame: Frame) -> T:
            return await function(DurableContext(frame), *args)

        verb: ChildVerb[T] = ChildVerb(
            self._frame, body, signature.result, name=signature.name if name is None else name
        )
        return await perform(self._frame, verb)

    def __repr__(self) -> str:
        return f"<DurableContext of {self.execution_name!r} at position {self._frame.position}>"


def current_context() -> DurableContext:
    """The context of the durable function, child or compensation that is running. Records nothing.

    Raises:
        LookupError: Not called from inside one.
    """
    try:
        return DurableContext(frame_var.get())
    except LookupError:
        raise LookupError("current_context() is for the inside of a durable function: none is running") from None
