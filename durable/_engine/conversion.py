"""Values as text in records and back: by annotation (`_kernel/values.py`), or by a serde of the user's.

A serde may take its time, and runs where a value must not get lost: between a body that has had its effect and the
record of that, or between a record and whoever registers how to undo it. So the user's own cancellation waits for
it, as it does for a record; the invocation's end does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from .._kernel.values import PLAIN, Converter
from ..exceptions import SerializationError

if TYPE_CHECKING:
    from .._kernel.signatures import Signature
    from ..abc import Serde
    from .frame import Frame

T = TypeVar("T")


class SerdeConverter:
    """A serde and an annotation: what a `Converter` is, but for being asynchronous.

    Args:
        serde: Encodes and decodes.
        annotation: What is to come out of it.
        what: What is annotated so, for people.

    Raises:
        SerializationError: Values of such a type can never be decoded.
    """

    __slots__ = ("_annotation", "_serde")

    def __init__(self, serde: Serde, annotation: Any, what: str) -> None:
        self._serde = serde
        self._annotation = annotation
        try:
            serde.check(annotation)
        except Exception as error:
            raise SerializationError(f"{what}: {error}") from error

    async def encode(self, value: Any, what: str) -> str:
        """Text of a value.

        Raises:
            SerializationError: It cannot be encoded.
        """
        try:
            encoded = self._serde.encode(value)
            text: Any = await encoded if inspect.isawaitable(encoded) else encoded
        except Exception as error:
            raise SerializationError(f"{what} cannot be encoded by {self._serde!r}: {error}") from error
        if not isinstance(text, str):
            raise SerializationError(f"{what}: {self._serde!r} gave {type(text).__name__}, a serde gives text")
        return text

    async def decode(self, payload: str | None, what: str) -> Any:
        """The value of a text; no text at all is JSON's `null`.

        Raises:
            SerializationError: It cannot be decoded.
            OSError: It cannot be reached.
        """
        if not payload:
            return PLAIN.decode(payload, what)
        try:
            decoded = self._serde.decode(payload, self._annotation)
            return await decoded if inspect.isawaitable(decoded) else decoded
        except OSError:
            raise
        except Exception as error:
            raise SerializationError(f"{what} cannot be decoded by {self._serde!r}: {error}") from error


AnyConverter: TypeAlias = Converter[Any] | SerdeConverter


def converter_of(signature: Signature, serde: Serde | None) -> AnyConverter:
    """What converts the results of a function.

    Raises:
        SerializationError: Its annotation cannot be resolved, or names a type that can never be decoded.
    """
    if serde is None:
        return signature.result
    return SerdeConverter(serde, signature.annotation, f"the result of {signature.name}")


async def encode(frame: Frame, converter: AnyConverter, value: Any, what: str) -> str:
    """Text of a value.

    Raises:
        SerializationError: It cannot be encoded.
    """
    if isinstance(converter, Converter):
        return converter.encode(value, what)
    return await _shielded(frame, converter.encode(value, what))


async def decode(frame: Frame, converter: AnyConverter, payload: str | None, what: str) -> Any:
    """The value of a text (see `read`).

    Raises:
        SerializationError: It cannot be decoded.
    """
    if isinstance(converter, Converter):
        return converter.decode(payload, what)
    return await read(frame, converter.decode(payload, what), what)


async def read(frame: Frame, conversion: Coroutine[Any, Any, T], what: str) -> T:
    """Decode something that is recorded. Ends the invocation if it cannot be reached."""
    try:
        return await _shielded(frame, conversion)
    except OSError as error:
        error.add_note(f"raised by a serde, for {what}")
        frame.invocation.fail(error)
        await frame.invocation.leave(what)


async def _shielded(frame: Frame, conversion: Coroutine[Any, Any, T]) -> T:
    shield = frame.invocation.user_shield()
    active, frame.active = frame.active, "a serde"
    try:
        with shield:
            return await conversion
    finally:
        frame.active = active
        frame.invocation.release_shield(shield)
    raise AssertionError  # nobody cancels the shield itself
