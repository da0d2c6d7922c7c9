"""Exceptions as error objects and back.

`ErrorType` names the class (builtins by bare name, others `module.qualname`), `ErrorMessage` is `str(error)`,
`ErrorData` is JSON of what the exception carries: its `args`, its attributes, and a group's members. An
exception is rebuilt without running its `__init__`, as its arguments need not be what `__init__` takes.

The exception that the workflow sees is rebuilt even on the first run, so that replay cannot differ from it.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os.path
import sys
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from .._wire import ErrorObject
from .._wire.limits import MAX_PAYLOAD_BYTES
from ..exceptions import CallbackFailedError, CompensationError, RecordedError
from .values import PLAIN

if TYPE_CHECKING:
    from weakref import WeakValueDictionary

# Not by pathlib, which is slow to load.
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120
"""Where this library's own files are."""

MAX_FRAMES = 20
"""The innermost frames of a stack trace that are recorded."""

MAX_MESSAGE = 100_000
"""Characters of a message that are recorded: escaped, and with all else, it stays under the 1 MB limit."""

MAX_DATA = MAX_PAYLOAD_BYTES // 2
"""Bytes of data that are recorded; an exception that carries more is recorded without what is large of it."""

MAX_ATTRIBUTE = MAX_DATA // 16
"""Bytes over which an attribute is large."""

_TRACE: Final = "__recorded_stack_trace__"
"""The attribute in which a rebuilt exception keeps where it was raised first, to be recorded again with it."""


class ErrorData(msgspec.Struct, omit_defaults=True):
    """What an exception carries, as JSON."""

    args: list[Any] = []
    attributes: dict[str, Any] = {}
    exceptions: list[ErrorObject] = []


_Find = Callable[[str], Any]
"""Finds what a name names; anything, or nothing."""

_encode_data = msgspec.json.Encoder().encode


@functools.cache
def _seen() -> WeakValueDictionary[str, type[BaseException]]:
    """Classes seen here, by name: one defined inside a function can be rebuilt as long as it lives."""
    import weakref  # only here: it is slow to load

    return weakref.WeakValueDictionary()


def type_name(kind: type) -> str:
    """A class as the service names it: builtins by bare name, others `module.qualname`."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def encode_error(error: BaseException) -> ErrorObject:
    """The error object of an exception; it never fails and never exceeds the service's limit."""
    if type(error) is RecordedError:
        # Passing on what another execution or an older version recorded: keep it as it came.
        return ErrorObject(
            error_type=error.error_type,
            error_message=error.message,
            error_data=error.data,
            stack_trace=error.stack_trace or None,
        )
    name = type_name(type(error))
    _seen()[name] = type(error)
    text = message = _shorten(_message(error))
    if isinstance(error, CallbackFailedError) and error.message:
        # The sender's own words, as AWS requires it; which callback it was is in the data, and in the rebuilt text.
        message = _shorten(error.message)
    return ErrorObject(
        error_type=name,
        error_message=message,
        error_data=_data(error, text),
        stack_trace=_frames(error) or None,
    )


def decode_error(error: ErrorObject | None) -> Exception:
    """The exception of an error object; a `RecordedError` when its class cannot be rebuilt."""
    if error is None:
        return RecordedError(None, "no error was recorded")
    return _decode(error, _find_class)


def _decode(error: ErrorObject, find: _Find) -> Exception:
    kind = find(error.error_type) if error.error_type else None
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return _rebuild(kind, error, find)
        except Exception:  # noqa: BLE001, S110 - a foreign class may raise anything; its record is told all the same
            pass
    return RecordedError(error.error_type, error.error_message, error.error_data, error.stack_trace or ())


def as_error_object(error: Exception | str | ErrorObject) -> ErrorObject:
    """An error as it is recorded, given as an exception, as what happened, or as that."""
    if isinstance(error, Exception):
        return encode_error(error)
    return ErrorObject(error_message=error) if isinstance(error, str) else error


def with_cause(error: RecordedError) -> RecordedError:
    """The error, caused by what somebody outside of this execution has reported, and its attributes tell.

    That names a class of his choice: one that is loaded is used, but no module is imported for it.
    """
    if error.error_type or error.message:
        recorded = ErrorObject(
            error_type=error.error_type,
            error_message=error.message,
            error_data=error.data,
            stack_trace=error.stack_trace or None,
        )
        error.__cause__ = _decode(recorded, _find_loaded_class)
    return error


def rebuild_live(error: Exception) -> tuple[ErrorObject, Exception]:
    """The error object of an exception, and the exception that a replay will raise.

    The latter keeps the traceback and the cause of the original, which a replay cannot have.
    """
    recorded = encode_error(error)
    return recorded, like_replay(recorded, error)


def like_replay(recorded: ErrorObject, original: Exception) -> Exception:
    """What a replay will raise for `original`, with its traceback and cause."""
    rebuilt = decode_error(recorded)
    rebuilt.__cause__ = original.__cause__
    rebuilt.__context__ = original.__context__
    rebuilt.__suppress_context__ = original.__suppress_context__
    return rebuilt.with_traceback(original.__traceback__)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as trouble:  # noqa: BLE001 - a foreign __str__ may raise anything
        return f"<{type(error).__name__} whose text cannot be had: {type(trouble).__name__}>"


def _shorten(message: str) -> str:
    message = _encodable(message)
    return message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}... ({len(message):,} characters)"


def _encodable(text: str) -> str:
    """The text without half characters, which no JSON takes: a file name that is not UTF-8 has them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _data(error: BaseException, text: str) -> str | None:
    attributes = {
        name: _plain(value, _text)
        for name, value in vars(error).items()
        if name != _TRACE and (_is_plain(value) or name == "__notes__")
    }
    if isinstance(error, CompensationError) and error.result is not None:
        from .report import attribute_of  # only here: few errors are of this kind

        attributes["result"] = attribute_of(error)
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        members = [encode_error(member) for member in group.exceptions]
        data = ErrorData(args=[_encodable(group.message)], attributes=attributes, exceptions=members)
    else:
        data = ErrorData(args=[_plain(arg, _text) for arg in _arguments(error)], attributes=attributes)
    encoded = _encode_data(data)
    if len(encoded) > MAX_DATA:
        small = {name: value for name, value in attributes.items() if len(_encode_data(value)) <= MAX_ATTRIBUTE}
        data.attributes = small
        encoded = _encode_data(data)
    if len(encoded) > MAX_DATA and not data.exceptions:
        data.args = [text]
        encoded = _encode_data(data)
    return encoded.decode() if len(encoded) <= MAX_DATA else None


def _arguments(error: BaseException) -> tuple[Any, ...]:
    """What makes an equal exception: as `copy` and `pickle` have it (an OSError's filename is not in `args`)."""
    try:
        reduced = error.__reduce__()
    except Exception:  # noqa: BLE001 - a foreign __reduce__ may raise anything
        return error.args
    if isinstance(reduced, tuple) and reduced[0] is type(error) and isinstance(reduced[1], tuple):
        return reduced[1]  # pyright: ignore[reportUnknownVariableType]
    return error.args


def _is_plain(value: Any) -> bool:
    return _plain(value, _unknown) is not _UNKNOWN


_UNKNOWN = object()


def _unknown(_: Any) -> object:
    return _UNKNOWN


def _text(value: Any) -> str:
    return _encodable(value if isinstance(value, str) else repr(value))


def _plain(value: Any, otherwise: Callable[[Any], Any]) -> Any:
    """A value as plain JSON data, or something else in its place."""
    try:
        return PLAIN.decode(PLAIN.encode(value, ""), "")
    except ValueError:
        return otherwise(value)


def _frames(error: BaseException) -> tuple[str, ...]:
    import traceback  # only here: it is slow to load

    recorded: tuple[str, ...] | None = vars(error).get(_TRACE)
    if recorded is not None:
        return recorded
    frames: list[traceback.FrameSummary] = traceback.extract_tb(error.__traceback__)
    # The engine's own frames tell the user nothing, unless there is nothing else.
    frames = [frame for frame in frames if not frame.filename.startswith(PACKAGE)] or frames
    frames = frames[-MAX_FRAMES:]
    return tuple(_encodable(f'File "{frame.filename}", line {frame.lineno}, in {frame.name}') for frame in frames)


def _find_class(name: str) -> Any:
    return _find_loaded_class(name) or ("." in name and _import_class(name))


def _find_loaded_class(name: str) -> Any:
    return _seen().get(name) or getattr(builtins, name, None) or _locate(name, sys.modules.get)


@functools.cache
def _import_class(name: str) -> Any:
    return _locate(name, _import)


def _import(name: str) -> types.ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _locate(name: str, module: Callable[[str], types.ModuleType | None]) -> Any:
    """The object called `module.qualname`, where the module may have dots as well."""
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        found: Any = module(".".join(parts[:split]))
        if found is None:
            continue
        for part in parts[split:]:
            found = getattr(found, part, None)
        if found is not None:
            return found
    return None


def _rebuild(kind: Any, error: ErrorObject, find: _Find) -> Exception:
    data = (
        msgspec.json.decode(error.error_data, type=ErrorData)
        if error.error_data
        else ErrorData(args=[error.error_message])
    )
    rebuilt: Any
    if issubclass(kind, BaseExceptionGroup):
        members = [_decode(member, find) for member in data.exceptions]
        rebuilt = _new_group(kind, data.args[0], members)
    elif isinstance(kind.__init__, types.FunctionType):
        rebuilt = _new(kind, data.args)
        if issubclass(kind, OSError):
            OSError.__init__(rebuilt, *data.args)  # which keeps number, text and file name in C
        else:
            rebuilt.args = tuple(data.args)
    else:
        if kind is UnicodeDecodeError:
            import base64

            data.args[1] = base64.b64decode(data.args[1])  # the one builtin whose arguments hold bytes
        rebuilt = kind(*data.args)  # a builtin keeps its state in C, and is made from what made it
    hints = _attribute_types(rebuilt.__class__)
    for name, value in data.attributes.items():
        rebuilt.__dict__[name] = msgspec.convert(value, hints[name], strict=False) if name in hints else value
    if error.stack_trace:
        rebuilt.__dict__[_TRACE] = error.stack_trace
    if isinstance(rebuilt, RecordedError):
        with_cause(rebuilt)
    if isinstance(rebuilt, CompensationError) and rebuilt.result is not None:
        from .report import restore_result

        restore_result(rebuilt)
    str(rebuilt)  # a text that cannot be had is found here, not in somebody's handler
    return cast("Exception", rebuilt)


def _new(kind: Any, args: list[Any]) -> Any:
    new = kind.__new__
    if not isinstance(new, types.FunctionType):
        # Of several builtins among the bases only the one that lays out the object may make it.
        base = kind
        while "__new__" not in vars(base):
            base = base.__base__
        new = base.__new__
    return new(kind, *args)


def _new_group(kind: Any, message: str, members: list[Exception]) -> Any:
    return kind.__new__(kind, message, members)


def _attribute_types(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 - annotations of a foreign class; its values then stay plain JSON
        return {}
