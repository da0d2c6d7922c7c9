"""`@durable_execution`: an ordinary async function, or an object with a `handle`, becomes durable."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

import msgspec

from ._engine.conversion import AnyConverter, SerdeConverter, converter_of, decode, encode
from ._engine.current import frame_var
from ._engine.frame import Frame
from ._kernel.errors import PACKAGE, decode_error
from ._kernel.signatures import describe_callable, evaluate, signature_of
from ._kernel.values import PLAIN, Converter, converter_for
from ._wire import ErrorObject, InvocationInput, InvocationOutput
from .context import DurableContext
from .exceptions import NotDurableError, SerializationError

if TYPE_CHECKING:
    from logging import Logger
    from typing import Protocol

    from ._engine.invocation import Invocation
    from ._engine.rehearsal import Rehearsal
    from .abc import Clock, Serde, ServiceClient


T = TypeVar("T")
InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")
InputT_contra = TypeVar("InputT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)

Backend = Literal["asyncio", "trio"]
"""The event loop that a function runs on where it is the one who chooses: on AWS Lambda."""

OnError = Callable[[Exception], Exception | None]
"""Told what an execution is about to fail with; returns what it is to fail with instead, or `None`."""

# Protocols are slow to define, and these are for checkers only.
if TYPE_CHECKING:

    class _Handles(Protocol[InputT_contra, ResultT_co]):
        """What has a `handle`: that the types of input and result come from there takes a protocol."""

        def handle(self, event: InputT_contra, ctx: DurableContext, /) -> Awaitable[ResultT_co]: ...

    class _Decorator(Protocol):
        """`durable_execution` with options, waiting for the function."""

        @overload
        def __call__(
            self, function: Callable[[InputT, DurableContext], Awaitable[ResultT]], /
        ) -> DurableFunction[InputT, ResultT]: ...
        @overload
        def __call__(self, handler: type[_Handles[InputT, ResultT]], /) -> DurableFunction[InputT, ResultT]: ...
        @overload
        def __call__(self, handler: _Handles[InputT, ResultT], /) -> DurableFunction[InputT, ResultT]: ...


_PARAMETERS = 2


class DurableHandler(ABC):
    """A durable function as a class: for what needs something that is not recorded, a client or a configuration.

    `durable_execution(BookTrip(client))` makes an instance durable; as a decorator on the class it makes one
    without arguments and takes its place. All executions share the instance, also those that go on after a restart:
    what it holds must not depend on what one of them does.
    """

    @abstractmethod
    async def handle(self, event: Any, ctx: DurableContext) -> Any:
        """What the durable function does."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a durable function behaves (see `durable_execution`)."""

    name: str | None = None
    backend: Backend = "asyncio"
    serde: Serde | None = None
    logger: Logger | None = None
    on_error: OnError | None = None


class DurableFunction(Generic[InputT, ResultT]):
    """A durable function: what engines start and services invoke. Called, it is an AWS Lambda handler.

    Attributes:
        name: What it is called.
        function: The function itself, or the `handle` of its object.
        backend: The event loop that it runs on as a Lambda handler.
        made_in: The name of the module that made it durable, where it is to be found again after a restart.
    """

    def __init__(
        self,
        function: Callable[[InputT, DurableContext], Awaitable[ResultT]],
        *,
        name: str,
        backend: Backend = "asyncio",
        made_in: str | None = None,
        options: Options | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.made_in = made_in or function.__module__
        self.backend: Backend = backend
        functools.update_wrapper(self, function)
        self._options = options or Options()
        self._plain_input: Converter[Any] | None = None

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
            OSError: Something recorded could not be reached by a serde: the same.
        """
        from ._engine.invocation import Settings, run_invocation  # only here: not whoever imports one invokes it

        settings = Settings(serde=self._options.serde, logger=self._options.logger)
        return await run_invocation(event, client, clock, self._body, settings)

    async def rehearse(
        self, event: InvocationInput, client: ServiceClient, *, clock: Clock, rehearsal: Rehearsal
    ) -> InvocationOutput:
        """The same, but nothing new is done: how far the code has come is told to `rehearsal`.

        Args:
            event: What a service would hand to the function.
            client: What takes for granted what is told to it.
            clock: Wall-clock time.
            rehearsal: A new one.

        Raises:
            MalformedPayloadError: As for `invoke`.
            NonDeterminismError: The same.
            OSError: The same.
        """
        from ._engine.invocation import Settings, run_invocation  # only here, as above

        settings = Settings(serde=self._options.serde, logger=self._options.logger, rehearsal=rehearsal)
        return await run_invocation(event, client, clock, self._body, settings)

    # --- Inputs and results ----------------------------------------------------------------------------------

    async def dump_input(self, value: InputT) -> str:
        """An input as text, checked against the function's annotation.

        Raises:
            SerializationError: It cannot be encoded, or does not fit the annotation.
        """
        what = f"the input of {self.name}"
        converter = self._input_converter()
        payload = await _encode(converter, value, what)
        await _decode(converter, payload, what)
        return payload

    async def load_input(self, payload: str | None) -> InputT:
        """An input from its text, by the function's annotation.

        Raises:
            SerializationError: It does not fit the annotation.
        """
        value: InputT = await _decode(self._input_converter(), payload, f"the input of {self.name}")
        return value

    async def load_result(self, payload: str | None) -> ResultT:
        """A result from its text, by the function's return annotation.

        Raises:
            SerializationError: It does not fit the annotation.
        """
        result: ResultT = await _decode(self._result_converter(), payload, f"the result of {self.name}")
        return result

    def encode_input(self, value: InputT) -> str:
        """The same as `dump_input`, where no serde takes its time.

        Raises:
            SerializationError: The same; or the function has a serde that is asynchronous.
        """
        return self._at_once(self.dump_input(value), "dump_input")

    def decode_result(self, payload: str | None) -> ResultT:
        """The same as `load_result`, where no serde takes its time.

        Raises:
            SerializationError: The same; or the function has a serde that is asynchronous.
        """
        return self._at_once(self.load_result(payload), "load_result")

    async def is_same_input(self, one: str | None, other: str | None) -> bool:
        """Whether two inputs, as text, are equal by the function's annotation."""
        if one == other:
            return True
        converter = self._input_converter()
        what = f"the input of {self.name}"
        try:
            return bool(await _decode(converter, one, what) == await _decode(converter, other, what))
        except SerializationError:
            return False

    def decode_error(self, error: ErrorObject | None) -> Exception:
        """What an execution of this function failed with, as its own type where that is possible."""
        return decode_error(error)

    def _at_once(self, conversion: Coroutine[Any, Any, T], instead: str) -> T:
        try:
            conversion.send(None)
        except StopIteration as done:
            value: T = done.value
            return value
        conversion.close()
        raise SerializationError(
            f"{self.name} has a serde that is asynchronous ({self._options.serde!r}): await {instead}() instead"
        )

    # --- The function's part of an invocation ----------------------------------------------------------------

    async def _body(self, invocation: Invocation, payload: str | None) -> str:
        try:
            return await self._run(Frame(invocation), payload)
        except Exception as error:
            if self._options.on_error is None or invocation.ending is not None:
                raise
            instead = self._map_error(self._options.on_error, error)
            if instead is error:
                raise
            raise instead from error

    async def _run(self, frame: Frame, payload: str | None) -> str:
        from ._engine.perform import check_end

        value = await decode(frame, self._input_converter(), payload, f"the input of {self.name}")
        converter = self._result_converter()
        frame.cover()
        token = frame_var.set(frame)
        try:
            result = await self.function(value, DurableContext(frame))
            await check_end(frame, f"the end of {self.name}")
        finally:
            frame_var.reset(token)
        what = f"the result of {self.name}"
        encoded = await encode(frame, converter, result, what)
        await decode(frame, converter, encoded, what)
        return encoded

    def _map_error(self, on_error: OnError, error: Exception) -> Exception:
        """What the execution fails with, after the user's hook has seen what it was about to fail with."""
        try:
            instead: Any = on_error(error)
            if inspect.iscoroutine(instead):
                instead.close()
            if instead is not None and not isinstance(instead, Exception):
                raise TypeError(f"it gave {type(instead).__name__}, not an Exception or None")  # noqa: TRY301
        except Exception as trouble:  # noqa: BLE001 - the user's own; what it was called for is not to be lost
            trouble.add_note(f"raised by on_error of {self.name} for {error!r}")
            return trouble
        return instead or error

    def _input_converter(self) -> AnyConverter:
        if self._options.serde is None:
            return self.plain_input_converter()
        return SerdeConverter(self._options.serde, self._input_annotation(), f"the input of {self.name}")

    def _result_converter(self) -> AnyConverter:
        return converter_of(signature_of(self.function), self._options.serde)

    def plain_input_converter(self) -> Converter[Any]:
        """What makes an input of JSON, whatever serde the function has.

        Raises:
            SerializationError: The annotation cannot be resolved, or names a type that can never be decoded.
        """
        if self._plain_input is None:
            annotation = self._input_annotation()
            what = f"the input of {self.name}"
            self._plain_input = PLAIN if annotation is Any else converter_for(annotation, what)
        return self._plain_input

    def _input_annotation(self) -> Any:
        parameter = next(iter(inspect.signature(self.function).parameters.values()))
        annotation = parameter.annotation
        if annotation is inspect.Parameter.empty:
            return Any
        try:
            return evaluate(annotation, self.function) if isinstance(annotation, str) else annotation
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise SerializationError(
                f"the annotation {annotation!r} of the input of {self.name} cannot be resolved: {error}. "
                "Types used there must exist at run time: not under TYPE_CHECKING, not in a function"
            ) from error

    def __repr__(self) -> str:
        return f"<DurableFunction {describe_callable(self.function)}>"


@overload
def durable_execution(
    function: Callable[[InputT, DurableContext], Awaitable[ResultT]], /
) -> DurableFunction[InputT, ResultT]: ...
@overload
def durable_execution(handler: type[_Handles[InputT, ResultT]], /) -> DurableFunction[InputT, ResultT]: ...
@overload
def durable_execution(handler: _Handles[InputT, ResultT], /) -> DurableFunction[InputT, ResultT]: ...
@overload
def durable_execution(
    *,
    name: str | None = None,
    backend: Backend = "asyncio",
    serde: Serde | None = None,
    logger: Logger | None = None,
    on_error: OnError | None = None,
) -> _Decorator: ...
def durable_execution(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    backend: Backend = "asyncio",
    serde: Serde | None = None,
    logger: Logger | None = None,
    on_error: OnError | None = None,
) -> Any:
    """Make an `async def f(event, ctx)` durable.

    As a decorator, with or without options, or as a call. Its input and its result are typed by its annotations:
    anything msgspec knows (Struct, dataclass, attrs, TypedDict, datetime, Decimal, UUID, Enum, set, tuple, bytes),
    and pydantic models.

    Args:
        function: The coroutine function; or a `DurableHandler`, or a class of them.
        name: What it is called; by default its `__name__`, or that of the handler's class.
        backend: The event loop that it runs on as an AWS Lambda handler. Elsewhere it runs on whichever there is.
        serde: Encodes and decodes its input and result, and the results of its steps, children and branches; by
            default JSON by annotation.
        logger: Where `ctx.logger` sends its messages to; by default the logger `durable.execution`.
        on_error: Called with what the function has raised, before the execution fails with it; what it returns, if
            anything, is recorded instead. A plain function. It does not see suspensions.

    Raises:
        NotDurableError: Not a coroutine function, or not one of two parameters.
    """
    options = Options(name=name, backend=backend, serde=serde, logger=logger, on_error=on_error)
    if function is None:
        return functools.partial(_make_durable, options=options)
    return _make_durable(function, options)


def _make_durable(given: Any, options: Options) -> DurableFunction[Any, Any]:
    handler = _handler_of(given)
    function = given if handler is None else handler.handle
    if not inspect.iscoroutinefunction(function):
        raise NotDurableError(repr(given), "it is not a coroutine function (`async def`), and has none as `handle`")
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
    name = function.__name__ if handler is None else type(handler).__name__
    durable = DurableFunction(
        function, name=options.name or name, backend=options.backend, made_in=_calling_module(), options=options
    )
    if "AWS_LAMBDA_RUNTIME_API" in os.environ:
        _lambda_handlers().prepare(options.backend)
    return durable


def _lambda_handlers() -> Any:
    """What runs functions on AWS Lambda. By name, as it is above this layer."""
    return importlib.import_module("durable.aws.handler")


def _handler_of(given: Any) -> Any:
    """The object whose `handle` is the function; `None` for a function."""
    if isinstance(given, type):
        try:
            return given() if hasattr(given, "handle") else None
        except TypeError as error:
            raise NotDurableError(
                describe_callable(given), f"an instance of it cannot be made without arguments ({error}): pass one"
            ) from error
    return given if not inspect.isroutine(given) and hasattr(given, "handle") else None


def _calling_module() -> str:
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))


async def _encode(converter: AnyConverter, value: Any, what: str) -> str:
    encoded = converter.encode(value, what)
    return encoded if isinstance(encoded, str) else await encoded


async def _decode(converter: AnyConverter, payload: str | None, what: str) -> Any:
    if isinstance(converter, Converter):
        return converter.decode(payload, what)
    return await converter.decode(payload, what)
