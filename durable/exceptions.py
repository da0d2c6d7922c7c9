"""Every public exception, grouped by who must act.

All derive from `DurableError` and from the nearest builtin, and build their own messages.

What a user's step raises keeps its own type: it is recorded, and comes out of history as the same type, message
and data (see `RecordedError` for when it cannot).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

_SHOWN = 60
"""Characters of a bad name that its error repeats."""

_SHOWN_ID = 200
"""Characters of an unknown callback's id that its error repeats: more than ours have."""


class DurableError(Exception):
    """Base of everything this library raises on its own account."""


# --- The workflow's code must change -------------------------------------------------------------------------


class NotDurableError(DurableError, TypeError):
    """Something that is not a durable function was given where one is needed."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what} is not a durable function: {why}. "
            "Decorate an `async def f(event, ctx)` with @durable_execution."
        )


class InvalidNameError(DurableError, ValueError):
    """A name that the service does not take."""

    def __init__(self, name: str, where: str, rule: str) -> None:
        shown = repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
        super().__init__(f"invalid name {shown} ({len(name)} characters) for {where}: {rule}")
        self.name = name


class InvalidDurationError(DurableError, ValueError):
    """A duration outside of what the service takes."""

    def __init__(self, seconds: float, where: str, rule: str) -> None:
        super().__init__(f"invalid duration of {seconds:g} s for {where}: {rule}")
        self.seconds = seconds


class FrameMisuseError(DurableError, RuntimeError):
    """A durable operation was called where its position would depend on scheduling."""


class UnawaitedOperationError(FrameMisuseError):
    """A durable operation was called without `await`. It has not run, and nothing of it was recorded.

    Raised by what the code does next in the same context, or where its code ends.

    Attributes:
        operation: What was called.
        where: The place in the user's code where it was called.
    """

    def __init__(self, operation: str, where: str, then: str) -> None:
        super().__init__(
            f"{operation} was called without `await` at {where}, and has not run when {then} came. Await it there. "
            "One context does one thing after another: for what may run at once there are ctx.parallel(), "
            "ctx.map() and ctx.task_group()."
        )
        self.operation = operation
        self.where = where


class SuspendedError(DurableError, RuntimeError):
    """A durable operation was called, under a shield, while the invocation is ending.

    Nothing was recorded. Code that cleans up when an invocation ends must not use durable operations: the
    execution is not over, it goes on in another invocation. Put what belongs to the logical end into a saga.
    """

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(
            f"{operation} was called under a shielded cancel scope while {why}. Nothing was recorded. "
            "A `finally` runs at every suspension: durable operations do not belong there "
            "(register a compensation with a saga, or do it after the block)."
        )


class NonDeterminismError(DurableError, RuntimeError):
    """The code asks for another operation than the one recorded at this position.

    Args:
        expected: What history has at this position.
        found: What the code asks for.
        where: The position, and the place in the user's code.
    """

    def __init__(self, expected: str, found: str, where: str) -> None:
        super().__init__(
            f"the code does not follow its own history: expected {expected} (recorded), found {found}, at {where}. "
            "Running executions must replay the operations they recorded, in the same order: "
            "put new operations after the old ones, or let running executions end on the code they began with."
        )
        self.expected = expected
        self.found = found
        self.where = where


class SerializationError(DurableError, ValueError):
    """A value cannot be encoded, or what was recorded does not fit its annotation."""


class PayloadTooLargeError(SerializationError):
    """A value is larger, encoded, than the service takes. Nothing was sent."""

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(
            f"{what} is {size:,} bytes encoded, the limit is {limit:,}: "
            "store it elsewhere and return a reference to it"
        )
        self.size = size
        self.limit = limit


# --- The workflow may handle these ---------------------------------------------------------------------------


class StepInterruptedError(DurableError):
    """An at-most-once step was started, and the process ended before its outcome was recorded.

    Whether its effect happened is unknown; it was not run again.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"step {name!r} (at most once) was interrupted: it was started and nobody knows whether it took effect"
        )


class StepTimeoutError(DurableError, TimeoutError):
    """An attempt of a step took longer than its `timeout`."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"step {name!r} took longer than its timeout of {seconds:g} s")


class RecordedError(DurableError):
    """An error from history whose class cannot be rebuilt here.

    Raised when the recorded class no longer exists, was local to a function, or is not an `Exception`.

    Attributes:
        error_type: The recorded class: builtins by bare name, others as `module.qualname`.
        message: The recorded message.
        data: The recorded data, JSON text as a rule.
        stack_trace: The recorded frames, outermost first.
    """

    # With defaults, as one that is recorded again may be too large to keep them all.
    error_type: str | None = None
    message: str | None = None
    data: str | None = None
    stack_trace: tuple[str, ...] = ()

    def __init__(
        self,
        error_type: str | None,
        message: str | None,
        data: str | None = None,
        stack_trace: Sequence[str] = (),
    ) -> None:
        self.error_type = error_type
        self.message = message
        self.data = data
        self.stack_trace = tuple(stack_trace)
        super().__init__(self._text())

    def _text(self) -> str:
        return f"{self.error_type or 'Error'}: {self.message or ''}"

    def _after(self, what: str) -> str:
        """What happened, and what was recorded of it, if anything."""
        return f"{what}: {RecordedError._text(self)}" if self.error_type or self.message else what


class CallbackError(RecordedError):
    """A callback ended without a result.

    What its sender reported is in the attributes that it shares with `RecordedError`, and is its `__cause__`, as
    its own type if that is an exception class known here.

    Attributes:
        name: What the callback is called, if it is.
        callback_id: What the outside world knows it by.
    """

    name: str | None = None
    callback_id: str = ""
    _ended: ClassVar[str] = "ended without a result"

    def __init__(
        self,
        name: str | None,
        callback_id: str,
        *,
        error_type: str | None = None,
        message: str | None = None,
        data: str | None = None,
        stack_trace: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.callback_id = callback_id
        super().__init__(error_type, message, data, stack_trace)

    def _text(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        return self._after(f"callback{name} (id {self.callback_id}) {self._ended}")


class CallbackFailedError(CallbackError):
    """The sender of a callback reported a failure."""

    _ended = "failed"


class CallbackTimeoutError(CallbackError, TimeoutError):
    """Nobody completed a callback within its `timeout`."""

    _ended = "timed out"


class CallbackHeartbeatError(CallbackError, TimeoutError):
    """Nothing was heard of a callback for as long as its `heartbeat_timeout`."""

    _ended = "missed its heartbeat"


class InvokeError(RecordedError):
    """A function that was invoked ended without a result.

    What it failed with is in the attributes that it shares with `RecordedError`, and is its `__cause__`, as its
    own type if that is an exception class known here.

    Attributes:
        function_name: The function, as it was given to `invoke`.
    """

    function_name: str = ""
    _ended: ClassVar[str] = "ended without a result"

    def __init__(
        self,
        function_name: str,
        *,
        error_type: str | None = None,
        message: str | None = None,
        data: str | None = None,
        stack_trace: Sequence[str] = (),
    ) -> None:
        self.function_name = function_name
        super().__init__(error_type, message, data, stack_trace)

    def _text(self) -> str:
        return self._after(f"function {self.function_name!r} {self._ended}")


class InvokeFailedError(InvokeError):
    """A function that was invoked failed."""

    _ended = "failed"


class InvokeTimedOutError(InvokeError, TimeoutError):
    """A function that was invoked took longer than it may."""

    _ended = "timed out"


class InvokeStoppedError(InvokeError):
    """Somebody stopped the execution of a function that was invoked."""

    _ended = "was stopped"


class ConditionNotMetError(DurableError):
    """A condition did not come true in as many checks as it was given.

    Attributes:
        name: What the condition is called.
        attempts: How often it was checked.
        state: The last state, as plain JSON data; `None` if it is over 256 KB.
    """

    name: str = ""
    attempts: int = 0
    state: Any = None

    def __init__(self, name: str, attempts: int, state: Any, limit: str = "as many as it may take") -> None:
        checks = "1 check" if attempts == 1 else f"{attempts:,} checks"
        super().__init__(f"condition {name!r} was not met after {checks}, {limit}")
        self.name = name
        self.attempts = attempts
        self.state = state


class ConditionTimeoutError(ConditionNotMetError, TimeoutError):
    """A condition did not come true within its `timeout`."""

    def __init__(self, name: str, attempts: int, state: Any, seconds: float) -> None:
        super().__init__(name, attempts, state, f"within its timeout of {seconds:g} s")


class BatchError(ExceptionGroup[Exception], DurableError):
    """A fan-out did not meet its completion policy; what its branches raised is inside, in input order."""

    def derive(self, excs: Sequence[Exception], /) -> BatchError:  # type: ignore[override]
        """A group of the same kind over other exceptions (for `split` and `except*`)."""
        return BatchError(self.message, excs)


class TimeLimitError(DurableError, TimeoutError):
    """A block under `ctx.fail_after()` took longer than its time limit."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name} took longer than its time limit of {seconds:g} s")


class CompensationError(ExceptionGroup[Exception], DurableError):
    """A rollback in which compensations failed; what they raised is inside, in execution order.

    Its `__cause__` is what made the saga roll back, its `result` the whole report.
    """

    result: Any = None

    def derive(self, excs: Sequence[Exception], /) -> CompensationError:  # type: ignore[override]
        """A group of the same kind over other exceptions (for `split` and `except*`)."""
        group = CompensationError(self.message, excs)
        group.result = self.result
        return group


class MissingCompensationError(DurableError, LookupError):
    """A recorded rollback is to undo something that the code no longer says how to undo.

    The execution began on other code. Nothing is skipped in silence: under `on_error="park"` an operator can have
    it tried again once code is there that registers the compensation.
    """

    def __init__(self, name: str, found: str) -> None:
        super().__init__(
            f"the recorded rollback is to undo {name!r}, but the code {found}. Deploy code that registers the "
            "compensation under that name, for as long as executions that began with it are running."
        )
        self.name = name


class RollbackTimeoutError(DurableError, TimeoutError):
    """A rollback took longer than its `rollback_timeout`, and this compensation was not done by then.

    Args:
        name: The compensation.
        seconds: How long the rollback might take.
        before: What it had failed with, if it was an operator who had not decided by then.
    """

    def __init__(self, name: str, seconds: float, before: Exception | None = None) -> None:
        failed = "" if before is None else f". Before that it had failed: {type(before).__name__}: {before}"
        super().__init__(f"undoing {name!r} was cut off: the rollback took longer than {seconds:g} s{failed}")


class CleanupError(ExceptionGroup[Exception], DurableError):
    """A saga succeeded, and cleaning up after it failed; what the cleanups raised is inside, in execution order."""

    def derive(self, excs: Sequence[Exception], /) -> CleanupError:  # type: ignore[override]
        """A group of the same kind over other exceptions (for `split` and `except*`)."""
        return CleanupError(self.message, excs)


class OperationBudgetError(DurableError, RuntimeError):
    """A saga was not let go on: what a rollback of it would need would no longer fit into the execution.

    An execution has a limited number of operations (3,000 on AWS). The saga fails while it still can be undone.
    """

    def __init__(self, used: int, needed: int, limit: int) -> None:
        super().__init__(
            f"the execution has {used:,} of at most {limit:,} operations, and undoing its sagas may take "
            f"{needed:,} more: nothing new is begun inside them. Split the work into several executions."
        )
        self.used = used
        self.needed = needed
        self.limit = limit


class SagaRolledBackError(DurableError, RuntimeError):
    """A saga was rolled back by `rollback(reason)`, and then asked to go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the saga was rolled back: {reason}")
        self.reason = reason


class SagaCancelledError(SagaRolledBackError):
    """A saga was rolled back because its block was cancelled: by somebody's request, or by what is around it."""

    def __init__(self, reason: str = "its block was cancelled") -> None:
        super().__init__(reason)


class SagaDeadlineError(SagaCancelledError, TimeoutError):
    """A saga was rolled back because its block took longer than its `deadline`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it took longer than its deadline of {seconds:g} s")


# --- The service, or the way to it ---------------------------------------------------------------------------


class ServiceError(DurableError):
    """The durable execution service refused a call or did not answer.

    Users' code never sees it: it ends the invocation past every `except Exception`.

    Attributes:
        retryable: Whether invoking again may help; if not, the execution fails.
        code: The service's own name of the error, such as `InvalidParameterValueException`.
    """

    def __init__(self, message: str, *, code: str | None = None, retryable: bool) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.retryable = retryable


class StaleTokenError(ServiceError):
    """Somebody else holds the execution: this invocation must stop writing (PROTOCOL section 6)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="InvalidParameterValueException", retryable=True)


class MalformedPayloadError(DurableError, ValueError):
    """A message is not what it should be; `detail` names the path of what is wrong."""

    def __init__(self, shape: str, detail: str) -> None:
        super().__init__(f"malformed {shape}: {detail}")
        self.shape = shape
        self.detail = detail


# --- Who runs the embedded engine ----------------------------------------------------------------------------


class EngineClosedError(DurableError, RuntimeError):
    """The engine was closed. Executions that were not over stay as they are, and can be resumed by another one."""

    def __init__(self) -> None:
        super().__init__("the engine is closed: executions that were not over can be resumed by another engine")


class StoreError(DurableError):
    """A store cannot be used."""


class StoreLockedError(StoreError):
    """Another engine holds the store.

    Attributes:
        holder: Which one, for people: its process, and since when.
    """

    def __init__(self, path: str, holder: str) -> None:
        super().__init__(
            f"{path} is in use by another engine ({holder}). One store has one engine at a time: "
            "stop the other one, or give this one another store."
        )
        self.holder = holder


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no store at {path}: nothing was ever started there")


class StoreSchemaError(StoreError):
    """The file is not a store, or one of a version that this library does not know."""

    def __init__(self, path: str, found: str, expected: str) -> None:
        super().__init__(f"{path} has {found}, this library reads {expected}. Nothing in it was changed.")


class ExecutionExistsError(DurableError):
    """The name belongs to an execution of another function or with another input."""

    def __init__(self, name: str, difference: str) -> None:
        super().__init__(
            f"an execution named {name!r} exists with {difference}. A name stands for one execution forever: "
            "choose another name, or start it with what it was started with."
        )


class ExecutionNotFoundError(DurableError, LookupError):
    """No execution has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no execution is named {name!r}")


class ExecutionConflictError(DurableError, RuntimeError):
    """An execution is not in a state in which that can be done. Nothing was changed.

    Attributes:
        name: The execution's name.
        status: Where it stands.
    """

    def __init__(self, name: str, status: str, rule: str) -> None:
        super().__init__(f"execution {name!r} is {status}: {rule}")
        self.name = name
        self.status = status


class FunctionExistsError(DurableError, ValueError):
    """Another function is registered under this name."""

    def __init__(self, name: str, known: str) -> None:
        super().__init__(
            f"{known} is registered as {name!r}. Executions that are under way may invoke it by this name: "
            "register the other function under another one."
        )
        self.name = name


class CallbackNotFoundError(DurableError, LookupError):
    """No callback has this id."""

    def __init__(self, callback_id: str) -> None:
        shown = repr(callback_id if len(callback_id) <= _SHOWN_ID else f"{callback_id[:_SHOWN_ID]}...")
        super().__init__(f"there is no callback {shown} in this store: pass on `callback.id` as it is")
        self.callback_id = callback_id


class CallbackCompletedError(DurableError, RuntimeError):
    """A callback has ended, or nobody waits for it any more. Nothing was changed.

    Attributes:
        callback_id: What the outside world knows it by.
        status: Where it stands: `TIMED_OUT` if it was too late, `STARTED` if what waited for it is over.
    """

    def __init__(self, callback_id: str, name: str | None, status: str, why: str) -> None:
        shown = "" if name is None else f" {name!r}"
        super().__init__(f"callback{shown} (id {callback_id}) takes nothing any more: {why}")
        self.callback_id = callback_id
        self.status = status


class ExecutionFailedError(DurableError):
    """An execution ended without a result.

    Its `__cause__` is the error it ended with, rebuilt as its own type where that is possible.

    Attributes:
        name: The execution's name.
        status: FAILED, TIMED_OUT or STOPPED.
    """

    def __init__(self, name: str, status: str, error_type: str | None, message: str | None) -> None:
        why = f": {error_type or 'Error'}: {message or ''}" if error_type or message else ""
        super().__init__(f"execution {name!r} ended {status}{why}")
        self.name = name
        self.status = status


class TargetNotFoundError(DurableError, LookupError):
    """MODULE_OR_FILE:FUNCTION names nothing that can be imported."""

    def __init__(self, target: str, why: str) -> None:
        super().__init__(f"cannot load {target!r}: {why}")


# --- Who tests code against what it has recorded -----------------------------------------------------------------


class HistoryError(DurableError, ValueError):
    """A recorded history cannot be replayed: it is no history, is not whole, or was written without its data.

    Attributes:
        source: The file, or what else it came from.
        why: What is wrong with it.
    """

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source} cannot be replayed: {why}")
        self.source = source
        self.why = why
