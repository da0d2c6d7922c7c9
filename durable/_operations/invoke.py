"""CHAINED_INVOKE: call another function, durably (PROTOCOL section 4)."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from .._engine.conversion import read
from .._engine.frame import Frame
from .._engine.perform import Verb, perform
from .._kernel.batch import check_payload
from .._kernel.decide import Decision, decide_invoke
from .._kernel.errors import with_cause
from .._kernel.history import Identity
from .._kernel.names import check_name
from .._kernel.values import PLAIN
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
from .._wire.updates import ChainedInvokeOptions
from ..exceptions import (
    InvalidNameError,
    InvokeError,
    InvokeFailedError,
    InvokeStoppedError,
    InvokeTimedOutError,
    NotDurableError,
)
from .outside import reported, result_converter

T = TypeVar("T")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)

MAX_LENGTH: Final = MAX_NAME_LENGTH
"""Characters of a function's name, or ARN, and of a tenant's id."""

_FUNCTION: Final = re.compile(r"(?:.*:function:)?([^:]+)(?::[^:]*)?")
"""A function's name or ARN, maybe with a version or alias; the name itself is the group."""

_ERRORS: Final = {
    OperationStatus.FAILED: InvokeFailedError,
    OperationStatus.TIMED_OUT: InvokeTimedOutError,
    OperationStatus.STOPPED: InvokeStoppedError,
}


@runtime_checkable
class Invocable(Protocol[InputT_contra, ResultT_co]):
    """What `invoke` needs of a durable function: its name and its types."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def dump_input(self, value: InputT_contra) -> Coroutine[Any, Any, str]:
        """Text of an input, checked against its annotation."""
        ...

    def load_result(self, payload: str | None) -> Coroutine[Any, Any, ResultT_co]:
        """A result from its text, by its annotation."""
        ...


class InvokeVerb(Verb[T]):
    """One call of another function."""

    __slots__ = ("_converter", "_function", "_function_name", "_input", "_options", "_payload", "_status", "loads")
    ended_by_others = True

    def __init__(
        self,
        frame: Frame,
        function: str | Invocable[Any, T],
        payload: Any,
        *,
        result_type: Any,
        name: str | None,
        tenant_id: str | None,
    ) -> None:
        if not isinstance(function, (str, Invocable)):
            raise NotDurableError(repr(function), "invoke takes one, or the name of a function")
        self._function_name = function if isinstance(function, str) else function.name
        _check_length(self._function_name, "the function of an invoke")
        if tenant_id is not None:
            _check_length(tenant_id, "the tenant id of an invoke")
        named = check_name(_bare_name(self._function_name) if name is None else name, "an invoke")
        self.identity = Identity(OperationType.CHAINED_INVOKE, SubType.CHAINED_INVOKE, named, frame.context_id)
        self._options = ChainedInvokeOptions(function_name=self._function_name, tenant_id=tenant_id)
        # A durable function says itself how its input and result are encoded, unless the result is given a type.
        self._function = None if isinstance(function, str) else function
        self._input = payload
        self._payload = self._plain(payload) if isinstance(function, str) else None
        self.loads = self._function is not None and result_type is Any
        self._converter = PLAIN if result_type is Any else result_converter(result_type, "the result of an invoke")
        # How it has ended: its error object alone does not tell a failure from a timeout.
        self._status: OperationStatus | None = None

    def _plain(self, payload: Any) -> str:
        what = f"the payload for {self._function_name}"
        encoded = PLAIN.encode(payload, what)
        check_payload(encoded, what)
        return encoded

    async def encode_payload(self) -> None:
        """Have what the function is called with as text, before it is called."""
        if self._function is not None:
            self._payload = await self._function.dump_input(self._input)
            check_payload(self._payload, f"the payload for {self._function_name}")

    def decide(self, recorded: Operation | None) -> Decision:
        """By the rules of a CHAINED_INVOKE."""
        self._status = recorded.status if recorded is not None else None
        return decide_invoke(recorded)

    def start_update(self, operation_id: str) -> OperationUpdate:
        """START, with whom to call and what to hand over."""
        update = self.update(operation_id, OperationAction.START, payload=self._payload)
        return msgspec.structs.replace(update, chained_invoke_options=self._options)

    def value(self, payload: str | None) -> T:
        """What the callee returned, decoded."""
        value: T = self._converter.decode(payload, f"the result of {self._function_name}")
        return value

    async def load(self, frame: Frame, payload: str | None) -> T:
        """The same, as the callee says."""
        assert self._function is not None  # noqa: S101 - see `loads`
        value: T = await read(frame, self._function.load_result(payload), f"the result of {self._function_name}")
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What tells how the callee ended."""
        kind = InvokeError if self._status is None else _ERRORS.get(self._status, InvokeError)
        return with_cause(kind(self._function_name, **reported(recorded)))


async def invoke(frame: Frame, verb: InvokeVerb[T]) -> T:
    """Call a function, or find what is recorded of it (see `DurableContext.invoke`)."""
    await verb.encode_payload()  # also on replay: what cannot be encoded takes no position, this time neither
    return await perform(frame, verb)


def _check_length(text: str, where: str) -> None:
    if not 1 <= len(text) <= MAX_LENGTH:
        raise InvalidNameError(text, where, f"it has 1 to {MAX_LENGTH} characters")


def _bare_name(function_name: str) -> str:
    """The function's own name: an operation keeps its name when a version or an alias moves on."""
    match = _FUNCTION.fullmatch(function_name)
    return function_name if match is None else match[1]
