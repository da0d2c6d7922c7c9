"""What the verbs that run a user's function have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .._engine.conversion import AnyConverter, decode, encode
from .._engine.frame import Frame
from .._engine.perform import Verb
from .._kernel.errors import decode_error, rebuild_live
from .._kernel.history import Identity
from .._kernel.signatures import Signature
from .._kernel.values import Converter
from .._wire import ErrorObject, OperationAction, OperationUpdate

T = TypeVar("T")


class BodyVerb(Verb[T]):
    """A verb with a body: it hands out what its body gave as a replay will, without decoding it again.

    Attributes:
        label: The operation for people: `step 'reserve_hotel'`.
    """

    __slots__ = ("_converter", "_live", "_live_error", "label", "loads")

    may_lag = True

    def __init__(self, identity: Identity, converter: AnyConverter, label: str) -> None:
        self.identity = identity
        self.label = label
        self.loads = not isinstance(converter, Converter)
        self._converter = converter
        # What this very invocation's run gave: payload and value, or error object and exception.
        self._live: tuple[str, T] | None = None
        self._live_error: tuple[ErrorObject, Exception] | None = None

    def value(self, payload: str | None) -> T:
        """The result, decoded by the function's return annotation."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        assert isinstance(self._converter, Converter)  # noqa: S101 - otherwise it is loaded
        value: T = self._converter.decode(payload, self._recorded_result)
        return value

    async def load(self, frame: Frame, payload: str | None) -> T:
        """The result, decoded by a serde."""
        if self._live is not None and self._live[0] == payload:
            return self._live[1]
        value: T = await decode(frame, self._converter, payload, self._recorded_result)
        return value

    def error(self, recorded: ErrorObject | None) -> Exception:
        """What the body raised, as its own type."""
        if self._live_error is not None and self._live_error[0] == recorded:
            return self._live_error[1]
        return decode_error(recorded)

    async def encode(self, frame: Frame, result: Any, what: str) -> tuple[str, T]:
        """A value as it is recorded, and as a replay will see it.

        Raises:
            SerializationError: It cannot be encoded, or does not fit its annotation.
        """
        converter = self._converter
        if isinstance(converter, Converter):  # the hot path: nothing to wait for
            payload = converter.encode(result, what)
            return payload, converter.decode(payload, what)
        payload = await encode(frame, converter, result, what)
        return payload, await decode(frame, converter, payload, what)

    @property
    def _recorded_result(self) -> str:
        return f"the recorded result of {self.label}"

    def failed(self, operation_id: str, error: Exception) -> OperationUpdate:
        """The update that tells of a failure for good; what a replay will raise is kept."""
        self._live_error = rebuild_live(error)
        return self.update(operation_id, OperationAction.FAIL, error=self._live_error[0])


async def call_function(
    signature: Signature, function: Callable[..., Any], args: tuple[Any, ...], *, abandon: bool = False
) -> Any:
    """Call a user's function: a coroutine function here, anything else in a worker thread.

    Args:
        signature: The function's.
        function: The function.
        args: Its positional arguments.
        abandon: Whether a thread, which cannot be stopped, is left to itself on a cancellation. If not, it is
            waited for.
    """
    if signature.is_async:
        return await function(*args)
    from anyio.to_thread import run_sync  # only here: few need it

    # In a tuple: a plain function may give a coroutine, and trio takes that for a mistake.
    (result,) = await run_sync(lambda: (function(*args),), abandon_on_cancel=abandon)
    return await result if inspect.isawaitable(result) else result
