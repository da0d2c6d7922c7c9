"""What a durable function holds in its hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from ._engine.conversion import converter_of
from ._engine.current import frame_var, is_replaying
from ._engine.frame import Frame
from ._kernel.durations import to_seconds
from ._kernel.signatures import signature_of
from ._wire import SubType

# Verbs are imported where they are called, and with them what performs them: whoever imports a function need not
# run it.
if TYPE_CHECKING:
    from datetime import datetime
    from random import Random
    from uuid import UUID

    from ._engine.log import ReplayAwareLogger
    from ._kernel.completion import BatchResult, Completion, Winner
    from ._kernel.decide import Semantics
    from ._kernel.retry import Retry
    from ._operations.batch import Batch
    from ._operations.callback import Callback
    from ._operations.condition import Delay
    from ._operations.fanout import Nesting
    from ._operations.invoke import Invocable
    from ._operations.task_group import TaskGroup
    from ._operations.time_limit import TimeLimit
    from .abc import Serde

T = TypeVar("T")
InputT = TypeVar("InputT")
ItemT = TypeVar("ItemT")
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
        return is_replaying(self._frame)

    @property
    def logger(self) -> ReplayAwareLogger:
        """A standard `logging.LoggerAdapter`, silent while replaying; for the logger `durable.execution`.

        Its records carry `execution`, `execution_arn`, `context_id`, and inside of a step or a compensation
        `operation`, `operation_id` and `attempt`, as attributes. What was said after the last operation that was
        recorded may be said again after a crash.
        """
        if self._logger is None:
            from ._engine.log import ReplayAwareLogger  # only here: logging is slow to load

            self._logger = ReplayAwareLogger(self._frame, self.execution_name, self._frame.invocation.logger)
        return self._logger

    def log(self, message: str, /, *args: object, level: int = 20, **fields: object) -> None:
        """Say something, unless replaying: `ctx.log("booked %s", hotel, price=80)`. Records nothing.

        Args:
            message: As for the standard library's loggers, with `args`.
            args: What is put into it.
            level: A level of the standard library's; by default `logging.INFO`.
            fields: Attributes of the record.
        """
        self.logger.log(level, message, *args, extra=fields, stacklevel=2)

    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
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
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        semantics: Semantics = "at-least-once",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, Any]:
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
            serde: Encodes and decodes the result; by default the durable function's own, or JSON by annotation.

        Raises:
            StepTimeoutError: An attempt took longer than `timeout`, and no further one follows.
            StepInterruptedError: An at-most-once attempt was interrupted, and no further one follows.
            SerializationError: What it returned cannot be encoded, or does not fit its annotation.
            PayloadTooLargeError: What it returned is over 1 MB encoded.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the function raised, as its own type.
        """
        from ._operations.step import StepVerb

        verb: StepVerb[Any] = StepVerb(
            self._frame,
            function,
            args,
            name=name,
            retry=retry,
            timeout=None if timeout is None else to_seconds(timeout, "the timeout of a step"),
            semantics=semantics,
            serde=serde,
        )
        return verb.called(self._frame)

    def wait(self, duration: float | timedelta, *, name: str | None = None) -> Coroutine[Any, Any, None]:
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
        from ._operations.wait import WaitVerb

        verb = WaitVerb(self._frame, duration, name=name)
        return verb.called(self._frame)

    def batch(self) -> Batch:
        """A block inside of which successes are recorded later, many in one call: `async with ctx.batch():`.

        Records nothing of its own, so it can be put around code whose executions are under way. Inside of it, and
        in children and branches begun there, steps, conditions, children and fan-outs that succeed do not wait for
        their record. Order is kept. These wait for all that came before them: the end of the block; whatever
        waits for the world (`wait`, callbacks, `invoke`, a retry); an at-most-once step, before and after it runs;
        a failure; a saga's rollback; the end of the function.

        After a crash, what was not recorded runs again: steps that ended within about the last half second or 250
        updates, whichever is less. They may then return something else, and the code may go another way; what they
        did outside the first time stays done. So a batch is for steps that may be repeated without harm (idempotent
        ones: `current_step().idempotency_key` is the same again), many and small. Nothing is undone before it is
        recorded that it was done.

        Raises:
            FrameMisuseError: Where it is entered: from another task, or from inside a step.
        """
        from ._operations.batch import Batch

        return Batch(self._frame)

    def now(self) -> datetime:
        """The time (UTC), the same on every replay. A plain method: it is not awaited.

        Records a STEP, which leaves with what is recorded next: it costs no call to the service of its own. A crash
        before that lets the clock be asked again, later. What is to be certain to happen with this very time must
        come after an operation that was awaited; a step that begins right after it may run, be interrupted by a
        crash, and run again with a later time.

        Where the code is being left because the execution suspends, the clock is asked and nothing is recorded.

        Raises:
            OperationBudgetError: There is no room left for it in an execution whose saga must be undone.
            FrameMisuseError: Called from another task, or from inside a step (`datetime.now(UTC)` is for there).
        """
        from ._operations.moment import now

        return now(self._frame)

    def uuid4(self) -> UUID:
        """A random UUID, the same on every replay. A plain method: it is not awaited.

        Records nothing. It is derived from the execution's ARN, from where the code stands, and from how many were
        taken since the last operation. So code that takes one more, or one less, changes those that follow up to
        the next operation, and none of those after it.

        It is unpredictable only to those who do not know the ARN: it is an identity, not a secret.

        Raises:
            FrameMisuseError: Called from another task, or from inside a step (`uuid.uuid4()` is for there).
        """
        from ._operations.chance import uuid4

        return uuid4(self._frame)

    def random(self) -> Random:
        """A random number generator whose numbers are the same on every replay. A plain method: it is not awaited.

        Records nothing. Each call gives a generator of its own, whose seed is derived as `uuid4` derives its
        values, and which is to be used here: not in another branch. Python promises that `random()` gives the same
        numbers in every version; what `choice`, `shuffle` and others make of them may change with a new version.

        Raises:
            FrameMisuseError: Called from another task, or from inside a step (`random` itself is for there).
        """
        from ._operations.chance import random

        return random(self._frame)

    @overload
    def create_callback(
        self,
        result_type: None = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, Callback[str | None]]: ...
    @overload
    def create_callback(
        self,
        result_type: type[T],
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, Callback[T]]: ...
    @overload
    def create_callback(
        self,
        result_type: Any,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, Callback[Any]]: ...
    def create_callback(
        self,
        result_type: Any = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
    ) -> Coroutine[Any, Any, Callback[Any]]:
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
        from ._kernel.history import describe
        from ._operations.callback import create_callback

        coroutine = create_callback(
            self._frame, result_type, name=name, timeout=timeout, heartbeat_timeout=heartbeat_timeout
        )
        return self._frame.called(describe(SubType.CALLBACK, name), coroutine)

    @overload
    def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: None = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, str | None]: ...
    @overload
    def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: type[T],
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: Any,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def wait_for_callback(
        self,
        submitter: Callable[[str], object],
        result_type: Any = None,
        *,
        name: str | None = None,
        timeout: float | timedelta | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        retry: Retry | None = None,
    ) -> Coroutine[Any, Any, Any]:
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
        from ._kernel.history import describe
        from ._operations.callback import wait_for_callback

        shown = signature_of(submitter).name if name is None else name
        coroutine = wait_for_callback(
            self._frame,
            submitter,
            result_type,
            name=name,
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            retry=retry,
        )
        return self._frame.called(describe(SubType.WAIT_FOR_CALLBACK, shown), coroutine)

    @overload
    def invoke(
        self,
        function: Invocable[InputT, T],
        payload: InputT,
        *,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def invoke(
        self,
        function: str,
        payload: Any = None,
        *,
        result_type: type[T],
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def invoke(
        self,
        function: str,
        payload: Any = None,
        *,
        result_type: Any = Any,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def invoke(
        self,
        function: str | Invocable[Any, Any],
        payload: Any = None,
        *,
        result_type: Any = Any,
        name: str | None = None,
        tenant_id: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
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
        from ._operations.invoke import InvokeVerb, invoke

        verb: InvokeVerb[Any] = InvokeVerb(
            self._frame, function, payload, result_type=result_type, name=name, tenant_id=tenant_id
        )
        return self._frame.called(verb.identity, invoke(self._frame, verb))

    @overload
    def wait_for_condition(
        self,
        check: Callable[[T], Awaitable[T]],
        state: T,
        *,
        until: Callable[[T], bool],
        delay: Delay[T] | None = None,
        max_attempts: int = 60,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for_condition(
        self,
        check: Callable[[T], T],
        state: T,
        *,
        until: Callable[[T], bool],
        delay: Delay[T] | None = None,
        max_attempts: int = 60,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, T]: ...
    def wait_for_condition(
        self,
        check: Callable[[Any], Any],
        state: Any,
        *,
        until: Callable[[Any], bool],
        delay: Delay[Any] | None = None,
        max_attempts: int = 60,
        timeout: float | timedelta | None = None,
        name: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
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
        from ._operations.condition import ConditionVerb

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
        return verb.called(self._frame)

    def child(
        self,
        function: Callable[[DurableContext, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        name: str | None = None,
    ) -> Coroutine[Any, Any, T]:
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
        from ._operations.child import ChildVerb

        signature = signature_of(function)

        async def body(frame: Frame) -> T:
            return await function(DurableContext(frame), *args)

        verb: ChildVerb[T] = ChildVerb(
            self._frame,
            body,
            converter_of(signature, self._frame.invocation.serde),
            name=signature.name if name is None else name,
        )
        return verb.called(self._frame)

    def task_group(self) -> TaskGroup[DurableContext]:
        """A task group whose tasks are child contexts: `async with ctx.task_group() as tg`.

        Records nothing of its own. Its shape is anyio's: leaving the block waits for all tasks; what one of them,
        or the block, raises cancels the others and comes out in an `ExceptionGroup`. While the block runs it may
        use the context too. Suspends when nothing in it can go on.
        """
        from ._operations.task_group import TaskGroup

        return TaskGroup(self._frame, DurableContext)

    def parallel(
        self,
        branches: Sequence[Callable[[DurableContext], Awaitable[T]]]
        | Mapping[str, Callable[[DurableContext], Awaitable[T]]],
        /,
        *,
        name: str = "parallel",
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, BatchResult[T]]:
        """Run branches side by side, and tell what became of each.

        Records a CONTEXT, and one a branch if nested. Suspends when no branch can go on. A branch that fails does
        not make this fail: look at the result, or call its `results()`.

        Args:
            branches: Coroutine functions that take the branch's own context; a mapping gives them names, otherwise
                they are called `parallel-branch-0` and so on.
            name: What it is called in history.
            max_concurrency: How many may run at once; by default all.
            completion: When it is complete before all have ended; by default each runs to its end.
            nesting: `"nested"` records a context a branch; `"flat"` records only what the branches themselves
                record: about half as much, and on replay before the end each branch is run again over that.
            serde: Encodes and decodes the whole `BatchResult` as it is recorded, in place of the library's own
                form. What is too large for a record is rebuilt from the branches' own, and not decoded by it.

        Returns:
            One item a branch, in the order given.

        Raises:
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            ValueError: `max_concurrency` below 1.
        """
        from ._operations.fan_outs import parallel_verb

        verb = parallel_verb(
            self._frame,
            DurableContext,
            branches,
            name=name,
            max_concurrency=max_concurrency,
            completion=completion,
            nesting=nesting,
            serde=serde,
        )
        return verb.called(self._frame)

    def race(
        self,
        *branches: Callable[[DurableContext], Awaitable[T]],
        name: str = "race",
    ) -> Coroutine[Any, Any, Winner[T]]:
        """Run branches side by side until the first has ended, and cancel the others.

        Records a CONTEXT, and one a branch. Suspends when no branch can go on. Which one was first is recorded.

        Args:
            branches: Coroutine functions that take the branch's own context.
            name: What it is called in history.

        Returns:
            The first to end: its number in the order given, and what it returned.

        Raises:
            ValueError: No branch.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            Exception: What the first to end raised.
        """
        from ._operations.fan_outs import race_verb, winner

        verb = race_verb(self._frame, DurableContext, branches, name=name)
        return self._frame.called(verb.identity, winner(self._frame, verb))

    def map(
        self,
        function: Callable[[DurableContext, ItemT], Awaitable[T]],
        items: Iterable[ItemT],
        /,
        *,
        name: str | None = None,
        item_name: Callable[[int, ItemT], str] | None = None,
        max_concurrency: int | None = None,
        completion: Completion | None = None,
        nesting: Nesting = "nested",
        serde: Serde | None = None,
    ) -> Coroutine[Any, Any, BatchResult[T]]:
        """Run a function over items, side by side, and tell what became of each.

        Records a CONTEXT, and one an item if nested. Suspends when no item can go on. An item that fails does not
        make this fail: look at the result, or call its `results()`.

        Args:
            function: A coroutine function that takes the item's own context and the item.
            items: On every replay the same, in the same order.
            name: What it is called in history; by default the function's name.
            item_name: Gives an item's name, by its index and itself; by default `map-item-0` and so on.
            max_concurrency: How many may run at once; by default all.
            completion: When it is complete before all have ended; by default each runs to its end.
            nesting: See `parallel`.
            serde: The same.

        Returns:
            One item an input, in input order.

        Raises:
            SerializationError: The function's return annotation cannot be decoded.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            FrameMisuseError: Called from another task, or from inside a step.
            ValueError: `max_concurrency` below 1.
        """
        from ._operations.fan_outs import map_verb

        verb = map_verb(
            self._frame,
            DurableContext,
            function,
            items,
            name=name,
            item_name=item_name,
            max_concurrency=max_concurrency,
            completion=completion,
            nesting=nesting,
            serde=serde,
        )
        return verb.called(self._frame)

    def move_on_after(self, duration: float | timedelta, *, name: str = "move_on_after") -> TimeLimit[bool]:
        """A durable time limit: `async with ctx.move_on_after(60) as limit`. Afterwards `limit.expired` tells.

        Records a WAIT at the beginning and a STEP at the end. If the time passes first, the block is cancelled, as
        by anyio's `move_on_after`, and the code goes on after it. On replay it ends as it ended the first time.

        Args:
            duration: 1 second to 366 days; rounded up to whole seconds.
            name: What the timer is called in history.

        Raises:
            InvalidDurationError: Less than a second, or more than 366 days.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
        """
        from ._operations.time_limit import TimeLimit

        return TimeLimit(self._frame, duration, name=name, fails=False)

    def fail_after(self, duration: float | timedelta, *, name: str = "fail_after") -> TimeLimit[None]:
        """A durable time limit that raises: `async with ctx.fail_after(60)`.

        Records a WAIT at the beginning and a STEP at the end. If the time passes first, the block is cancelled and
        `TimeLimitError` is raised after it. On replay it ends as it ended the first time.

        Args:
            duration: 1 second to 366 days; rounded up to whole seconds.
            name: What the timer is called in history.

        Raises:
            InvalidDurationError: Less than a second, or more than 366 days.
            InvalidNameError: Not 1 to 256 printable ASCII characters.
            TimeLimitError: Where the block is left: the time passed first.
        """
        from ._operations.time_limit import TimeLimit

        return TimeLimit(self._frame, duration, name=name, fails=True)

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
