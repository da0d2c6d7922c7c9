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
from ._operations.callback import Callback, create_callback, wait_for_callback
from ._operations.child import ChildVerb
from ._operations.condition import DEFAULT_ATTEMPTS, ConditionVerb, Delay
from ._operations.invoke import Invocable, InvokeVerb
from ._operations.step import StepVerb
from ._operations.wait import WaitVerb

if TYPE_CHECKING:
    from ._engine.log import ReplayAwareLogger

T = TypeVar("T")
InputT = TypeVar("InputT")
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

    @overload
    async def create_callback(
        self,
        result_type: None = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Callback[str | None]: ...
    @overload
    async def create_callback(
        self,
        result_type: type[T],
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Callback[T]: ...
    @overload
    async def create_callback(
        self,
        result_type: Any,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Callback[Any]: ...
    async def create_callback(
        self,
        result_type: Any = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Callback[Any]:
        """Create a callback: an id for somebody outside, who is waited for with `await callback.result()`.

        Records a CALLBACK, and returns when the service has given it an id. Does not suspend, and does not fail by
        what became of the callback: that is for its `result()` to say.

        Args:
            result_type: What is sent is JSON, and decoded by this type. Without one the text is handed out as it
                came.
            name: What it is called in history.
            timeout: How long it may take; rounded up to whole seconds, 1 to 99,999,999. By default for ever.
            heartbeat_timeout: After how long without a heartbeat it is given up; in the same bounds.

        Raises:
            InvalidDurationError: A time limit is outside of these bounds.
            SerializationError: Nothing can be decoded by this type.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        return await create_callback(
            self._frame, result_type, name=name, timeout=timeout, heartbeat_timeout=heartbeat_timeout
        )

    @overload
    async def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: None = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> str | None: ...
    @overload
    async def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: type[T],
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> T: ...
    @overload
    async def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: Any,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Any: ...
    async def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: Any = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Any:
        """Create a callback, hand its id to somebody outside, and wait for what he sends.

        Records a CONTEXT with a CALLBACK and a STEP in it. Suspends until the callback is completed, and while it
        waits for a retry of the step. The callback may be completed at any time, also while the step still runs.

        Args:
            submitter: Called with the callback's id as a step; what it returns does not matter. A coroutine
                function, or a plain one, which is run in a worker thread.
            result_type: As for `create_callback`.
            name: What it is called in history, at most 237 characters; by default the submitter's name.
            timeout: As for `create_callback`.
            heartbeat_timeout: As for `create_callback`.
            retry: When to call the submitter again; by default its failure is final.

        Raises:
            CallbackFailedError: The sender reported a failure; it is the `__cause__`.
            CallbackTimeoutError: Nobody completed it within `timeout`.
            CallbackHeartbeatError: Nothing was heard of it for as long as `heartbeat_timeout`.
            SerializationError: What was sent does not fit the type, or nothing can.
            InvalidDurationError: A time limit is outside of its bounds.
            InvalidNameError: Not 1 to 237 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the submitter raised, as its own type.
        """
        return await wait_for_callback(
            self._frame,
            submitter,
            result_type,
            name=name,
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            retry=retry,
        )

    @overload
    async def invoke(
        self,
        function: Invocable[InputT, T],
        payload: InputT,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> T: ...
    @overload
    async def invoke(
        self,
        function: str,
        payload: Any = None,
        *,
        result_type: type[T],
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> T: ...
    @overload
    async def invoke(
        self,
        function: str,
        payload: Any = None,
        *,
        result_type: Any = Any,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Any: ...
    async def invoke(
        self,
        function: str | Invocable[Any, Any],
        payload: Any = None,
        *,
        result_type: Any = Any,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Any:
        """Call another function, durably: once, and nothing runs here until it has ended.

        Records a CHAINED_INVOKE. Suspends until the callee has ended, which may itself be a durable function and
        take long.

        Args:
            function: Its name or ARN, or a durable function, which says by its annotations what it takes and gives.
            payload: What it is called with, as JSON.
            result_type: What its result is decoded by; by default plain JSON data.
            name: What the call is called in history; by default as the function, without version or alias.
            tenant_id: For a function that keeps tenants apart.

        Raises:
            InvokeFailedError: The callee failed; what it raised is the `__cause__`.
            InvokeTimedOutError: It took longer than it may.
            InvokeStoppedError: Somebody stopped it.
            SerializationError: The payload cannot be encoded or does not fit, or the result does not.
            PayloadTooLargeError: The payload is over 1 MB encoded; nothing was sent.
            NotDurableError: `function` is neither a name nor a durable function.
            InvalidNameError: A name, an ARN or a tenant id outside of 1 to 256 characters.
            FrameMisuseError: Called from another task, or from inside a step.
        """
        verb: InvokeVerb[Any] = InvokeVerb(
            self._frame, function, payload, result_type=result_type, name=name, tenant_id=tenant_id
        )
        return await perform(self._frame, verb)

    @overload
    async def wait_for_condition(
        self,
        check: Callable[[T], Awaitable[T]],
        state: T,
        *,
        until: Callable[[T], bool],
        delay: Delay[T] | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> T: ...
    @overload
    async def wait_for_condition(
        self,
        check: Callable[[T], T],
        state: T,
        *,
        until: Callable[[T], bool],
        delay: Delay[T] | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> T: ...
    async def wait_for_condition(
        self,
        check: Callable[[Any], Any],
        state: Any,
        *,
        until: Callable[[Any], bool],
        delay: Delay[Any] | None = None,
        max_attempts: int = DEFAULT_ATTEMPTS,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> Any:
        """Check something again and again until it is as it should be; nothing runs in between.

        Records a STEP. Suspends between two checks. The state goes from one check to the next, recorded: each gets
        what the one before returned, decoded by the check's return annotation.

        Args:
            check: Called with a state, it looks at the world and returns the next one. A coroutine function, or a
                plain one, which is run in a worker thread. `current_step()` tells it which attempt it is.
            state: What the first check is called with.
            until: Whether a state is what is waited for; a plain function.
            delay: Between two checks: seconds or a `timedelta`, a `Backoff`, or a function of the state and the
                number of the check. Whole seconds, rounded up, at least one. By default `Backoff()`.
            max_attempts: After so many checks it is given up.
            timeout: After so long it is given up, counted from the first check. There is a last check at the end
                of this time; one that is running is not interrupted.
            name: What it is called in history; by default the check's name.

        Returns:
            The first state of which `until` is true.

        Raises:
            ConditionNotMetError: `max_attempts` checks have not been enough.
            ConditionTimeoutError: `timeout` has not been long enough.
            InvalidDurationError: A negative or infinite delay or timeout.
            SerializationError: A state cannot be encoded, or does not fit its annotation.
            PayloadTooLargeError: A state is over 1 MB encoded.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the check, `until` or `delay` raised, as its own type; it is final.
        """
        verb: ConditionVerb[Any] = ConditionVerb(
            self._frame,
            check,
            state,
            until=until,
            delay=delay,
            max_attempts=max_attempts,
            timeout=timeout,
            name=name,
        )
        return await perform(self._frame, verb)

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
