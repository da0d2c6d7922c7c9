"""CALLBACK: wait for somebody outside (PROTOCOL section 4).

A callback is created at a position of its own; its result may then be awaited more than once, and by whichever
branch. That makes two verbs over one operation. The one that creates it gives a handle, however the callback has
ended by now; the one that awaits it takes no position, as it records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec

from .._engine.current import frame_var
from .._engine.frame import Frame, user_location
from .._engine.perform import Verb, perform
from .._kernel.decide import Decision, decide_callback_creation, decide_callback_result
from .._kernel.durations import to_callback_seconds
from .._kernel.errors import decode_error, with_cause
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.retry import Retry
from .._kernel.signatures import signature_of
from .._kernel.values import PLAIN, Converter
from .._wire import (
    ErrorObject,
    Operation,
    OperationAction,
    OperationStatus,
    OperationType,
    OperationUpdate,
    SubType,
)
from .._wire.limits import MAX_NAME_LENGTH
from .._wire.updates import CallbackOptions
from ..exceptions import (
    CallbackError,
    CallbackFailedError,
    CallbackHeartbeatError,
    CallbackTimeoutError,
    FrameMisuseError,
    InvalidNameError,
    ServiceError,
)
from .child import ChildVerb
from .outside import reported, result_converter
from .step import StepVerb

T = TypeVar("T")

Duration = float | timedelta

HEARTBEAT: Final = "Callback.Heartbeat"
"""The error type that tells a missed heartbeat from a timeout."""

_CREATION: Final = "create callback id"
_SUBMITTER: Final = "submitter"
_LONGEST_NAME: Final = MAX_NAME_LENGTH - len(f" {_CREATION}")
"""How long a wait_for_callback's name may be: the names of what is inside are made of it."""


class Callback(Generic[T]):
    """A callback: its id is for the outside world, its result is awaited here.

    Attributes:
        id: What the outside world completes it by.
        name: What it is called in history.
    """

    __slots__ = ("_invocation", "_verb", "id", "name")

    def __init__(self, frame: Frame, verb: ResultVerb[T]) -> None:
        self._invocation = frame.invocation
        self._verb = verb
        self.id = verb.callback_id
        self.name = verb.name

    def result(self) -> Coroutine[Any, Any, T]:
        """Wait for what the outside world sends.

        Records nothing; takes no position. Suspends until the callback is completed. It may be awaited more than
        once, and in another branch than the one that created the callback.

        Raises:
            CallbackFailedError: The sender reported a failure; it is the `__cause__`.
            CallbackTimeoutError: Nobody completed it within its `timeout`.
            CallbackHeartbeatError: Nothing was heard of it for as long as its `heartbeat_timeout`.
            SerializationError: What was sent does not fit the callback's type.
            FrameMisuseError: Awaited from a task of the user's own, from inside a step, or elsewhere than in the
                invocation that created it.
        """
        frame = frame_var.get(None)
        if frame is None or frame.invocation is not self._invocation:
            raise FrameMisuseError(
                f"the result of {self._verb.label} was awaited outside of the invocation that it belongs to, at "
                f"{user_location()}: a handle cannot be kept, what is recorded gives a new one to each invocation."
            )
        coroutine = perform(frame, self._verb, self._verb.operation_id)
        return frame.called(f"the result of {self._verb.label}", coroutine)

    def __repr__(self) -> str:
        return f"<Callback {self.name!r} id={self.id!r}>"


class CreationVerb(Verb[str | None]):
    """The creation of one callback; gives its id."""

    __slots__ = ("_options",)

    def __init__(
        self,
        frame: Frame,
        *,
        name: str | None,
        timeout: Duration | None,
        heartbeat_timeout: Duration | None,
        sub_type: str = SubType.CALLBACK,
    ) -> None:
        where = "a callback" if name is None else f"callback {check_name(name, 'a callback')!r}"
        self.identity = Identity(OperationType.CALLBACK, sub_type, name, frame.context_id)
        self._options = CallbackOptions(
            timeout_seconds=to_callback_seconds(timeout, f"the timeout of {where}"),
            heartbeat_timeout_seconds=to_callback_seconds(heartbeat_timeout, f"the heartbeat timeout of {where}"),
        )

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CALLBACK, where it is created."""
        return decide_callback_creation(recorded)

    def start_update(self, operation_id: str) -> OperationUpdate:
        """START, with its time limits."""
        return msgspec.structs.replace(
            self.update(operation_id, OperationAction.START), callback_options=self._options
        )

    def value(self, payload: str | None) -> str | None:
        """The callback's id."""
        return payload

    def error(self, recorded: ErrorObject | None) -> Exception:
        """Not asked for: a creation does not fail by what became of the callback."""
        return decode_error(recorded)


class ResultVerb(Verb[T]):
    """The result of one callback.

    Attributes:
        operation_id: The callback's operation.
        callback_id: What the outside world knows it by.
        name: What its user knows it by.
        label: The callback for people.
    """

    __slots__ = ("_converter", "_status", "callback_id", "label", "name", "operation_id")
    ended_by_others = True

    def __init__(
        self,
        identity: Identity,
        operation_id: str,
        callback_id: str,
        *,
        name: str | None,
        converter: Converter[Any] | None,
    ) -> None:
        self.identity = identity
        self.operation_id = operation_id
        self.callback_id = callback_id
        self.name = name
        self.label = "a callback" if name is None else f"callback {name!r}"
        self._converter = converter
        # How it has ended: its error object alone does not tell a failure from a timeout.
        self._status: OperationStatus | None = None

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CALLBACK, where its result is awaited."""
        self._status = recorded.status if recorded is not None else None
        return decide_callback_result(recorded)

    def value(self, payload: str | None) -> T:
        """What was sent: decoded by the callback's type, or without one the text as it came."""
        if self._converter is None:
            return payload  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
        value: T = self._converter.decode(payload, f"the result of {self.label}")
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What tells how the callback ended."""
        kind = CallbackError
        if self._status is OperationStatus.FAILED:
            kind = CallbackFailedError
        elif self._status is OperationStatus.TIMED_OUT:
            missed = recorded is not None and recorded.error_type == HEARTBEAT
            kind = CallbackHeartbeatError if missed else CallbackTimeoutError
        return with_cause(kind(self.name, self.callback_id, **reported(recorded)))


async def create_callback(
    frame: Frame,
    result_type: Any,
    *,
    name: str | None,
    timeout: Duration | None,
    heartbeat_timeout: Duration | None,
    known_as: str | None = None,
) -> Callback[Any]:
    """Create a callback, or find the recorded one (see `DurableContext.create_callback`).

    Args:
        frame: Where.
        result_type: What is sent is decoded by this; `None` hands out the text.
        name: What it is called in history.
        timeout: How long it may take.
        heartbeat_timeout: How long nothing may be heard of it.
        known_as: What its user knows it by, if not by `name`.
    """
    converter = None if result_type is None else result_converter(result_type, "the result of a callback")
    verb = CreationVerb(frame, name=name, timeout=timeout, heartbeat_timeout=heartbeat_timeout)
    operation_id = frame.peek()
    callback_id = await perform(frame, verb)
    if callback_id is None:
        what = str(verb.identity)
        frame.invocation.fail(
            ServiceError(f"the service has recorded {what} and gave no id for it", retryable=True)
        )
        await frame.invocation.leave(what)
    return Callback(
        frame,
        ResultVerb(verb.identity, operation_id, callback_id, name=known_as or name, converter=converter),
    )


async def wait_for_callback(
    frame: Frame,
    submitter: Callable[[str], object],
    result_type: Any,
    *,
    name: str | None,
    timeout: Duration | None,
    heartbeat_timeout: Duration | None,
    retry: Retry | None,
) -> Any:
    """Create a callback, submit its id, and wait for its result (see `DurableContext.wait_for_callback`)."""
    shown = check_name(signature_of(submitter).name if name is None else name, "a wait_for_callback")
    if len(shown) > _LONGEST_NAME:
        rule = f"it has at most {_LONGEST_NAME} characters, as what is inside is called '<name> {_CREATION}'"
        raise InvalidNameError(shown, "a wait_for_callback", rule)
    # Before anything is recorded, as all that can be known to be wrong.
    converter = PLAIN if result_type is None else result_converter(result_type, "the result of a callback")
    for limit, which in ((timeout, "timeout"), (heartbeat_timeout, "heartbeat timeout")):
        to_callback_seconds(limit, f"the {which} of wait_for_callback {shown!r}")

    async def body(child: Frame) -> Any:
        callback = await create_callback(
            child,
            result_type,
            name=f"{shown} {_CREATION}",
            timeout=timeout,
            heartbeat_timeout=heartbeat_timeout,
            known_as=shown,
        )
        name_of_step = f"{shown} {_SUBMITTER}"
        await perform(child, _SubmitterVerb(child, submitter, (callback.id,), name=name_of_step, retry=retry))
        return await callback.result()

    return await perform(frame, ChildVerb(frame, body, converter, name=shown, sub_type=SubType.WAIT_FOR_CALLBACK))


class _SubmitterVerb(StepVerb[None]):
    """The step that submits a callback's id. What it returns does not matter, so its annotation does not either."""

    __slots__ = ()

    def converter(self, serde: object) -> Converter[Any]:  # noqa: ARG002
        """Of nothing."""
        return PLAIN

    async def _attempt(self, frame: Frame, operation_id: str, attempt: int) -> None:
        await super()._attempt(frame, operation_id, attempt)
