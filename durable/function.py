"""`@durable_execution`: an ordinary async function becomes a durable one."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from ._engine.current import frame_var
from ._engine.frame import Frame
from ._kernel.errors import decode_error
from ._kernel.signatures import describe_callable, evaluate, signature_of
from ._kernel.values import PLAIN, Converter, converter_for
from ._operations.child import check_end
from ._wire import ErrorObject, InvocationInput, InvocationOutput
from .context import DurableContext
from .exceptions import NotDurableError, SerializationError

if TYPE_CHECKING:
    from ._engine.invocation import Invocation
    from .abc import Clock, ServiceClient


InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")

Backend = Literal["asyncio", "trio"]
"""The event loop that a function runs on where it is the one who chooses: on AWS Lambda."""

_PARAMETERS = 2


class DurableFunction(Generic[InputT, ResultT]):
    """A durable function: what engines start and services invoke. Called, it is an AWS Lambda handler.

    Attributes:
        name: What it is called.
        function: The function itself.
        backend: The event loop that it runs on as a Lambda handler.
    """

    def __init__(
        self,
        function: Callable[[InputT, DurableContext], Awaitable[ResultT]],
        *,
        name: str,
        backend: Backend = "asyncio",
    ) -> None:
        self.function = function
        self.name = name
        self.backend: Backend = backend
        functools.update_wrapper(self, function)
        self._input: Converter[Any] | None = None

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Answer one invocation by AWS Lambda: the durable function is the handler that Lambda is configured with.

        Args:
            event: What Lambda hands to the function, parsed.
            context: Lambda's context object.

        Raises:
            NotDurableInvocationError: Durable execution is not enabled for this invocation.
            ServiceError: Retryable: Lambda shall invoke again.
            NonDeterminismError: The code does not follow the execution's history; nothing was recorded.
        """
        answer: dict[str, Any] = _lambda_handlers().handle(self, event, context)
        return answer

    async def invoke(self, event: InvocationInput, client: ServiceClient, *, clock: Clock) -> InvocationOutput:
        """Answer one invocation: run the function over the execution's history, and on from there.

        Args:
            event: What the service hands to the function.
            client: The service.
            clock: Wall-clock time.

        Raises:
            MalformedPayloadError: The event does not hold the execution's own operation.
            NonDeterminismError: The code does not follow the execution's history; nothing was recorded.
            ServiceError: Retryable: the service shall invoke again.
        """
        from ._engine.invocation import run_invocation  # only here: not whoever imports a function invokes it

        return await run_invocation(event, client, clock, self._body)

    def encode_input(self, value: InputT) -> str:
        """An input as JSON text, checked against the function's annotation.

        Raises:
            SerializationError: It cannot be encoded, or does not fit the annotation.
        """
        what = f"the input of {self.name}"
        converter = self._input_converter()
        payload = converter.encode(value, what)
        converter.decode(payload, what)
        return payload

    def is_same_input(self, one: str | None, other: str | None) -> bool:
        """Whether two inputs, as JSON text, are equal by the function's annotation."""
        if one == other:
            return True
        converter = self._input_converter()
        what = f"the input of {self.name}"
        try:
            return bool(converter.decode(one, what) == converter.decode(other, what))
        except SerializationError:
            return False

    def decode_result(self, payload: str | None) -> ResultT:
        """A result from JSON text, by the function's return annotation.

        Raises:
            SerializationError: It does not fit the annotation.
        """
        result: ResultT = signature_of(self.function).result.decode(payload, f"the result of {self.name}")
        return result

    def decode_error(self, error: ErrorObject | None) -> Exception:
        """What an execution of this function failed with, as its own type where that is possible."""
        return decode_error(error)

    async def _body(self, invocation: Invocation, payload: str | None) -> str:
        what = f"the result of {self.name}"
        value = self._input_converter().decode(payload, f"the input of {self.name}")
        converter = signature_of(self.function).result
        frame = Frame(invocation)
        frame.cover()
        token = frame_var.set(frame)
        try:
            result = await self.function(value, DurableContext(frame))
            await check_end(frame, f"the end of {self.name}")
        finally:
            frame_var.reset(token)
        encoded = converter.encode(result, what)
        converter.decode(encoded, what)
        return encoded

    def _input_converter(self) -> Converter[Any]:
        if self._input is None:
            what = f"the input of {self.name}"
            parameter = next(iter(inspect.signature(self.function).parameters.values()))
            annotation = parameter.annotation
            try:
                if isinstance(annotation, str):
                    annotation = evaluate(annotation, self.function)
            except (NameError, TypeError, AttributeError, SyntaxError) as error:
                raise SerializationError(
                    f"the annotation {annotation!r} of {what} cannot be resolved: {error}. "
                    "Types used there must exist at run time: not under TYPE_CHECKING, not in a function"
                ) from error
            plain = annotation is inspect.Parameter.empty or annotation is Any
            self._input = PLAIN if plain else converter_for(annotation, what)
        return self._input

    def __repr__(self) -> str:
        return f"<DurableFunction {describe_callable(self.function)}>"


@overload
def durable_execution(
    function: Callable[[InputT, DurableContext], Awaitable[ResultT]], /
) -> DurableFunction[InputT, ResultT]: ...
@overload
def durable_execution(
    *, name: str | None = None, backend: Backend = "asyncio"
) -> Callable[[Callable[[InputT, DurableContext], Awaitable[ResultT]]], DurableFunction[InputT, ResultT]]: ...
def durable_execution(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    backend: Backend = "asyncio",
) -> Any:
    """Make an `async def f(event, ctx)` durable.

    Its input and its result are typed by its annotations: anything msgspec knows (Struct, dataclass, attrs,
    TypedDict, datetime, Decimal, UUID, Enum, set, tuple, bytes), and pydantic models.

    Args:
        function: The coroutine function.
        name: What it is called; by default its `__name__`.
        backend: The event loop that it runs on as an AWS Lambda handler. Elsewhere it runs on whichever there is.

    Raises:
        NotDurableError: Not a coroutine function, or not one of two parameters.
    """
    if function is None:
        return functools.partial(_make_durable, name=name, backend=backend)
    return _make_durable(function, name=name, backend=backend)


def _make_durable(function: Callable[..., Any], *, name: str | None, backend: Backend) -> DurableFunction[Any, Any]:
    if not inspect.iscoroutinefunction(function):
        raise NotDurableError(repr(function), "it is not a coroutine function (`async def`)")
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    if len(parameters) != _PARAMETERS:
        raise NotDurableError(
            describe_callable(function),
            f"it takes {len(parameters)} positional parameters, not (event, ctx)",
        )
    durable = DurableFunction(function, name=name or function.__name__, backend=backend)
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        _lambda_handlers().prepare(backend)
    return durable


def _lambda_handlers() -> Any:
    """What runs functions on AWS Lambda. By name, as it is above this layer."""
    return importlib.import_module("durable.aws.handler")
