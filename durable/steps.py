"""`@step`: a step that is declared once, and called as the function that it is."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Literal, ParamSpec, Protocol, Self, TypeVar, overload

from ._engine.current import frame_var, saga_var
from ._kernel.decide import Semantics
from ._kernel.ledger import StepOutcome
from ._kernel.retry import Retry
from ._kernel.signatures import Wrapper, describe_callable, signature_of
from ._saga.scope import SagaScope
from .context import DurableContext

if TYPE_CHECKING:
    from .abc import Serde

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
OwnerT = TypeVar("OwnerT")


class DurableStep(Wrapper, Generic[P, T]):
    """A function that runs as a step where it is called. Made by `step`.

    Attributes:
        function: The function itself, to be called where nothing is durable: in tests, for example.
    """

    function: Callable[P, Any]

    def __init__(self, function: Callable[P, Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        # What `DurableContext.step` takes, and what only a saga's step does.
        self._undo = {name: options.pop(name) for name in list(options) if name.startswith("compensate")}
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """Run the function as a step of the current context, and register its undo with the saga around it.

        Records a STEP. Suspends while it waits for a retry.

        Raises:
            LookupError: Called outside of any durable function.
            Exception: As for `DurableContext.step`.
        """
        frame = frame_var.get(None)
        if frame is None:
            name = describe_callable(self.function)
            raise LookupError(
                f"{name} is a step, and was called outside of any durable function. Call it from inside one; the "
                f"plain function, which records nothing, is {name.rpartition('.')[2]}.function"
            )
        function: Callable[..., Any] = functools.partial(self.function, **kwargs) if kwargs else self.function
        scope = saga_var.get()
        run: Any = DurableContext(frame).step
        options = self._options
        if self._undo and isinstance(scope, SagaScope):
            run, options = scope.step, {**self._undo, **self._options}
        called: Coroutine[Any, Any, T] = run(function, *args, **options)
        return called

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(
        self: DurableStep[Concatenate[OwnerT, Q], T], instance: OwnerT, owner: type, /
    ) -> Callable[Q, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type, /) -> Any:
        """As a method of a class: bound to its instance."""
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<DurableStep {describe_callable(self.function)}>"


class _Declaration(Protocol):
    """`step` with options, waiting for the function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> DurableStep[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> DurableStep[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> DurableStep[P, T]: ...


class _DeclarationOf(Protocol[T]):
    """The same, where it is known by the compensation what the function returns."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> DurableStep[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> DurableStep[P, T]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, T]], /) -> DurableStep[P, T]: ...
@overload
def step(function: Callable[P, T], /) -> DurableStep[P, T]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    semantics: Semantics = "at-least-once",
    serde: Serde | None = None,
) -> _Declaration: ...
@overload
def step(
    *,
    compensate: Callable[[T], object],
    compensate_on: Literal["success"] = "success",
    compensate_retry: Retry | None = None,
    compensate_timeout: float | timedelta | None = None,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    semantics: Semantics = "at-least-once",
    serde: Serde | None = None,
) -> _DeclarationOf[T]: ...
@overload
def step(
    *,
    compensate: Callable[[StepOutcome[T]], object],
    compensate_on: Literal["start"],
    compensate_retry: Retry | None = None,
    compensate_timeout: float | timedelta | None = None,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    semantics: Semantics = "at-least-once",
    serde: Serde | None = None,
) -> _DeclarationOf[T]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    compensate: Callable[[Any], object] | None = None,
    compensate_on: Literal["success", "start"] = "success",
    compensate_retry: Retry | None = None,
    compensate_timeout: float | timedelta | None = None,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    semantics: Semantics = "at-least-once",
    serde: Serde | None = None,
) -> Any:
    """Declare a function as a step: where it is called, inside a durable function, it runs as one.

    A call has the function's own arguments and result, and is awaited, also that of a plain function. It runs on
    the current context. In the block of a saga its compensation is registered there; outside of one there is
    nothing to undo it. Called outside of any durable function it raises `LookupError`.

    Args:
        function: A coroutine function, or a plain one, which is run in a worker thread.
        compensate: Undoes it, as for `SagaScope.step`. It may be declared as a step itself.
        compensate_on: As for `SagaScope.step`.
        compensate_retry: As for `SagaScope.step`.
        compensate_timeout: As for `SagaScope.step`.
        name: What it is called in history; by default the function's name.
        retry: As for `DurableContext.step`.
        timeout: As for `DurableContext.step`.
        semantics: As for `DurableContext.step`.
        serde: As for `DurableContext.step`.

    Raises:
        TypeError: Not a function.
    """
    options: dict[str, Any] = {
        "name": name,
        "retry": retry,
        "timeout": timeout,
        "semantics": semantics,
        "serde": serde,
    }
    if compensate is not None:
        signature_of(compensate)  # a thing that cannot be called is refused here
        options |= {
            "compensate": compensate,
            "compensate_on": compensate_on,
            "compensate_retry": compensate_retry,
            "compensate_timeout": compensate_timeout,
        }

    def declare(function: Callable[..., Any]) -> DurableStep[..., Any]:
        signature_of(function)
        return DurableStep(function, dict(options))

    return declare if function is None else declare(function)
