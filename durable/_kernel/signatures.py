"""What a callable says about itself: its name, whether it is async, and the type it returns."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from _weakref import ref  # `weakref` itself is slow to load, for its dictionaries
from collections.abc import Callable
from typing import Any, Final, cast

from ..exceptions import SerializationError
from .values import PLAIN, Converter, converter_for


class Wrapper:
    """An object that is called in place of a function of the user's; its signature is the function's.

    Attributes:
        function: The function.
    """

    function: Callable[..., Any]


_UNKNOWN: Any = object()


class Signature:
    """What the engine needs to know of a user's callable.

    Attributes:
        name: Its `__name__`, the default name of its operation.
        is_async: Whether calling it gives a coroutine; otherwise it is run in a worker thread.
        code: Its code, if it is written in Python.
    """

    __slots__ = ("_annotation", "_function", "_result", "code", "is_async", "name")

    def __init__(self, function: Any) -> None:
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self.is_async = inspect.iscoroutinefunction(function)
        # Builtins that take no weak reference live for ever.
        self._function = ref(function) if isinstance(function, types.FunctionType) else lambda: function
        # What it was read from: `functools.wraps` copies attributes from one function to another.
        self.code = getattr(function, "__code__", None)
        # The next two are found out when they are first asked for.
        self._annotation: Any = _UNKNOWN
        self._result: Converter[Any] | None = None

    @property
    def annotation(self) -> Any:
        """What it is annotated to return; `Any` when it does not say.

        Raises:
            SerializationError: The annotation cannot be resolved.
        """
        if self._annotation is _UNKNOWN:
            self._annotation = _resolved_annotation(self._function())
        return self._annotation

    @property
    def result(self) -> Converter[Any]:
        """Converts what it returns, by its return annotation.

        Raises:
            SerializationError: The annotation cannot be resolved, or names a type that cannot be decoded.
        """
        if self._result is None:
            annotation = self.annotation
            what = f"the result of {describe_callable(cast('Any', self._function()))}"
            self._result = PLAIN if annotation is Any else converter_for(annotation, what)
        return self._result


_ATTRIBUTE: Final = "__durable_signature__"
"""Where a function keeps its signature, once it has been read: it lives as long as the function does."""

# Of those that take no attributes: builtins, and classes.
_others: dict[Any, Signature] = {}


def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function, method, `functools.partial` or callable object; read once each.

    Raises:
        TypeError: Not callable.
    """
    plain = _plain_function(function)
    if not isinstance(plain, types.FunctionType):
        if isinstance(plain, types.BuiltinFunctionType) and not isinstance(
            plain.__self__, (types.ModuleType, type)
        ):
            return Signature(plain)  # a method of some object, which is not to live for ever
        return _others.get(plain) or _others.setdefault(plain, Signature(plain))
    signature: Signature | None = getattr(plain, _ATTRIBUTE, None)
    if signature is None or signature.code is not plain.__code__:
        signature = Signature(plain)
        setattr(plain, _ATTRIBUTE, signature)
    return signature


def describe_callable(function: Callable[..., Any]) -> str:
    """A callable for people: `module.qualname`."""
    plain = _plain_function(function)
    return f"{getattr(plain, '__module__', '?')}.{getattr(plain, '__qualname__', repr(plain))}"


def _plain_function(function: Any) -> Any:
    while isinstance(function, (functools.partial, types.MethodType, Wrapper)):
        if isinstance(function, functools.partial):
            function = function.func
        else:
            function = function.__func__ if isinstance(function, types.MethodType) else function.function
    if isinstance(function, (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, type)):
        return function
    call = getattr(cast("Any", type(function)), "__call__", None)  # noqa: B004 - the method itself is wanted
    if not callable(function) or call is None:
        raise TypeError(f"expected a function, got {function!r}")
    return call


def return_annotation(function: Callable[..., Any]) -> Any:
    """What a function is annotated to return; `Any` when it does not say.

    Raises:
        NameError: The annotation names what is not there.
    """
    plain = _plain_function(function)
    annotation = getattr(plain, "__annotations__", {}).get("return", Any)
    if isinstance(plain, type):
        return plain
    if isinstance(annotation, str):
        annotation = evaluate(annotation, plain)
    # A plain function that hands on somebody's coroutine: `-> Awaitable[T]` means T here.
    if typing.get_origin(annotation) in {
        collections.abc.Awaitable,
        collections.abc.Coroutine,
        types.CoroutineType,
    }:
        annotation = typing.get_args(annotation)[-1]
    return annotation


def evaluate(annotation: str, function: Any) -> Any:
    """An annotation that is kept as text, in the names that the function itself sees.

    Raises:
        NameError: It names what is not there.
    """
    names: dict[str, Any] = {}
    for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            names[free] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    # Through get_type_hints and not eval: forward references inside the annotation are resolved as well.
    carrier = types.SimpleNamespace(__annotations__={"value": annotation})
    return typing.get_type_hints(carrier, function.__globals__, names, include_extras=True)["value"]


def _resolved_annotation(plain: Any) -> Any:
    try:
        return return_annotation(plain)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise SerializationError(
            f"the return annotation of {describe_callable(plain)} cannot be resolved: {error}. "
            "Types used there must be importable at run time: not under TYPE_CHECKING, not local to a function"
        ) from error
