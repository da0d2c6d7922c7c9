"""CHAINED_INVOKE: call another function, durably (PROTOCOL section 4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import msgspec

from .._engine.frame import Frame
from .._engine.perform import Verb
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

    def encode_input(self, value: InputT_contra) -> str:
        """An input as JSON text, checked against its annotation."""
        ...

    def decode_result(self, payload: str | None) -> ResultT_co:
        """A result from JSON text, by its annotation."""
        ...


class InvokeVerb(Verb[T]):
    """One call of another function."""

    __slots__ = ("_decode", "_function_name", "_options", "_payload", "_status")
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
        self._payload = self._encode(function, payload)
        self._decode = self._decoder(function, result_type)
        # How it has ended: its error object alone does not tell a failure from a timeout.
        self._status: OperationStatus | None = None

    def _encode(self, function: str | Invocable[Any, T], payload: Any) -> str:
        what = f"the payload for {self._function_name}"
        encoded = PLAIN.encode(payload, what) if isinstance(function, str) else function.encode_input(payload)
        check_payload(encoded, what)
        return encoded

    def _decoder(self, function: str | Invocable[Any, T], result_type: Any) -> Callable[[str | None], Any]:
        if result_type is Any and not isinstance(function, str):
            return function.decode_result
        converter = PLAIN if result_type is Any else result_converter(result_type, "the result of an invoke")
        what = f"the result of {self._function_name}"
        return lambda payload: converter.decode(payload, what)

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
        value: T = self._decode(payload)
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What tells how the callee ended."""
        kind = InvokeError if self._status is None else _ERRORS.get(self._status, InvokeError)
        return with_cause(kind(self._function_name, **reported(recorded)))


def _check_length(text: str, where: str) -> None:
    if not 1 <= len(text) <= MAX_LENGTH:
        raise InvalidNameError(text, where, f"it has 1 to {MAX_LENGTH} characters")


def _bare_name(function_name: str) -> str:
    """The function's own name: an operation keeps its name when a version or an alias moves on."""
    match = _FUNCTION.fullmatch(function_name)
    return function_name if match is None else match[1]
