"""The functions that an engine knows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from .._kernel.signatures import _plain_function, evaluate, signature_of
from .._kernel.values import PLAIN, Converter, converter_for
from .._operations.body import call_function
from .._wire.limits import MAX_FUNCTION_NAME_LENGTH
from ..exceptions import (
    FunctionExistsError,
    InvalidNameError,
    NotDurableError,
    SerializationError,
    TargetNotFoundError,
)
from ..function import DurableFunction
from .machine.invoke import names_of
from .targets import durable_functions, load_target, target_of


class PlainFunction:
    """A function that is not durable, to be invoked by name as an ordinary Lambda function is.

    Its payload is decoded by its parameter's annotation, its result encoded.

    Attributes:
        function: The callable; if it is not async it is run in a worker thread.
        name: What it is invoked by.
    """

    def __init__(self, function: Callable[[Any], Any], name: str) -> None:
        self.function = function
        self.name = name
        self._signature = signature_of(function)
        self._input = _input_converter(function, name)

    async def call(self, payload: str | None) -> str:
        """Call it once: JSON text in, JSON text out.

        Raises:
            SerializationError: The payload does not fit its annotation, or the result cannot be encoded.
            Exception: Whatever it raises.
        """
        value = self._input.decode(payload, f"the payload of {self.name}")
        # A thread cannot be stopped: when the engine is closed it is left to itself, and runs again with the next.
        result = await call_function(self._signature, self.function, (value,), abandon=True)
        return PLAIN.encode(result, f"the result of {self.name}")


class Functions:
    """Functions by target, for executions of them; and by name, for whoever invokes them."""

    def __init__(self) -> None:
        # What resumes without being imported.
        self._by_target: dict[str, DurableFunction[Any, Any]] = {}
        self._by_name: dict[str, DurableFunction[Any, Any] | PlainFunction] = {}

    def add(self, function: DurableFunction[Any, Any]) -> str:
        """Know a durable function. Returns its target.

        Raises:
            NotDurableError: It is something else.
        """
        if not isinstance(function, DurableFunction):
            raise NotDurableError(repr(function), "it was not made by @durable_execution")
        target = target_of(function)
        self._by_target[target] = function
        return target

    def register(self, function: DurableFunction[Any, Any] | Callable[[Any], Any], name: str | None) -> str:
        """Know a function by name. Returns the name.

        Raises:
            NotDurableError: It has no name and is not a durable function.
            InvalidNameError: The name is too long, or empty.
            FunctionExistsError: Another function has the name.
            SerializationError: A plain function's annotation cannot be resolved or decoded.
        """
        added: DurableFunction[Any, Any] | PlainFunction
        if isinstance(function, DurableFunction):
            self.add(function)  # pyright: ignore[reportUnknownArgumentType]
            added = function  # pyright: ignore[reportUnknownVariableType]
            name = function.name if name is None else name
        elif name is None or not callable(function):
            raise NotDurableError(repr(function), "it was not made by @durable_execution, and is given no name")
        else:
            added = PlainFunction(function, name)
        if not 1 <= len(name) <= MAX_FUNCTION_NAME_LENGTH:
            raise InvalidNameError(name, "a function", f"1 to {MAX_FUNCTION_NAME_LENGTH} characters")
        known = self._by_name.get(name)
        if known is not None and known.function != added.function:
            raise FunctionExistsError(name, repr(known.function))
        self._by_name[name] = added
        return name

    def find(self, name: str, caller: str) -> DurableFunction[Any, Any] | PlainFunction | None:
        """The function that somebody invokes as `name`, which may be an ARN or have a version as on AWS.

        One that is registered comes first; then a durable one that the caller's own module has.

        Args:
            name: What it is called.
            caller: The target of the function that invokes it.
        """
        names = list(names_of(name))
        found = next((self._by_name[known] for known in names if known in self._by_name), None)
        known_caller = self._by_target.get(caller)
        if found is not None or known_caller is None:
            return found
        there = durable_functions(sys.modules.get(known_caller.function.__module__))
        return next((function for known in names for function in there if function.name == known), None)

    def named(self, name: str) -> DurableFunction[Any, Any] | PlainFunction:
        """The function that is registered as `name`, which may be an ARN or have a version as on AWS.

        Raises:
            TargetNotFoundError: There is none.
        """
        found = self.find(name, "")
        if found is None:
            names = ", ".join(map(repr, self.names)) or "none"
            raise TargetNotFoundError(name, f"no function is registered by that name; registered are: {names}")
        return found

    def durable(self, name: str) -> DurableFunction[Any, Any]:
        """The same, of a durable one.

        Raises:
            TargetNotFoundError: There is none.
            NotDurableError: It is a plain function.
        """
        found = self.named(name)
        if isinstance(found, PlainFunction):
            raise NotDurableError(name, "it is a plain function")
        return found

    def resolve(self, name: str, caller: str) -> str | None:
        """The target of what somebody invokes as `name`; "" if it is not durable, `None` if there is nothing."""
        found = self.find(name, caller)
        if isinstance(found, DurableFunction):
            return self.add(found)
        return None if found is None else ""

    def load(self, target: str) -> DurableFunction[Any, Any] | Exception:
        """The durable function of that target, or why it cannot be loaded."""
        known = self._by_target.get(target)
        if known is not None:
            return known
        try:
            loaded = load_target(target)
        except (TargetNotFoundError, NotDurableError) as error:
            return error
        self._by_target[target] = loaded
        return loaded

    @property
    def names(self) -> list[str]:
        """What functions are registered as."""
        return sorted(self._by_name)


def _input_converter(function: Callable[..., Any], name: str) -> Converter[Any]:
    what = f"the payload of {name}"
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # something in C that does not say
        return PLAIN
    annotation = parameters[0].annotation if parameters else Any
    if isinstance(annotation, str):
        try:
            annotation = evaluate(annotation, _plain_function(function))
        except (NameError, TypeError, AttributeError, SyntaxError) as error:
            raise SerializationError(
                f"the annotation {annotation!r} of {what} cannot be resolved: {error}. "
                "Types used there must exist at run time: not under TYPE_CHECKING, not in a function"
            ) from error
    plain = annotation is inspect.Parameter.empty or annotation is Any
    return PLAIN if plain else converter_for(annotation, what)
