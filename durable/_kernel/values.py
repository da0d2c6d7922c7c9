"""Users' values as JSON text and back, by annotation.

What a step returns on its first run is what replay returns: encoded, decoded, and the decoded value handed
out, both times. Without an annotation a value comes back as plain JSON has it (a tuple as a list).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from ..exceptions import SerializationError

T = TypeVar("T")


class Converter(Generic[T]):
    """Encodes and decodes the values of one annotation."""

    __slots__ = ("_decode", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._decode: Callable[[str], T] = msgspec.json.Decoder(annotation, dec_hook=_decode_foreign).decode

    def encode(self, value: T, what: str) -> str:
        """JSON text of a value.

        Raises:
            SerializationError: The value cannot be encoded.
        """
        try:
            return _encode(value).decode()
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerializationError(
                f"{what} cannot be encoded: {error}. It is of type {_type_name(type(value))}; return plain data, "
                "a msgspec Struct, a dataclass, or a pydantic model"
            ) from error

    def decode(self, payload: str | None, what: str) -> T:
        """The value in JSON text; no text at all is `null`.

        Raises:
            SerializationError: The text is not JSON, or does not fit the annotation.
        """
        try:
            return self._decode(payload or "null")
        except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"{what} does not fit its annotation {_type_name(self.annotation)}: {error}"
            ) from error


def converter_for(annotation: Any, what: str) -> Converter[Any]:
    """The converter of an annotation.

    Raises:
        SerializationError: Values of such a type can never be decoded.
    """
    try:
        _check_decodable(annotation)
        return Converter(annotation)
    except (TypeError, ValueError, NameError) as error:
        raise SerializationError(
            f"{what} is annotated with {_type_name(annotation)}, which cannot be decoded: {error}"
        ) from error


def _check_decodable(annotation: Any) -> None:
    """Refuse what only fails when something is decoded: msgspec takes any class, in the hope of a hook."""
    import msgspec.inspect

    pending: list[Any] = [msgspec.inspect.type_info(annotation)]
    seen: set[int] = set()
    while pending:
        info = pending.pop()
        if isinstance(info, (tuple, list)):
            pending.extend(cast("list[Any]", info))
        elif isinstance(info, msgspec.Struct) and id(info) not in seen:
            seen.add(id(info))
            if isinstance(info, msgspec.inspect.CustomType) and not _is_pydantic(info.cls):
                raise TypeError(f"nothing is known of {_type_name(info.cls)}")
            pending.extend(getattr(info, field) for field in info.__struct_fields__ if field != "default")


def _is_pydantic(kind: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _encode_foreign(value: Any) -> Any:
    """What msgspec does not know: pydantic models, where pydantic is in use."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")
    raise TypeError(f"encoding objects of type {_type_name(type(value))} is not supported")


def _decode_foreign(kind: Any, value: Any) -> Any:
    if _is_pydantic(kind):
        return kind.model_validate(value)
    raise TypeError(f"decoding objects of type {_type_name(kind)} is not supported")


def _type_name(kind: Any) -> str:
    return kind.__qualname__ if isinstance(kind, type) else str(kind)


_encode = msgspec.json.Encoder(enc_hook=_encode_foreign).encode

PLAIN: Converter[Any] = Converter(Any)
"""For values without an annotation."""
