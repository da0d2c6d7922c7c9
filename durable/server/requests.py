"""What requests say: paths, queries and bodies, checked."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from .._wire import Timestamp
from .._wire.patterns import EXECUTION_NAME_PATTERN
from .errors import RefusedError

if TYPE_CHECKING:
    from starlette.requests import Request

    from .._wire.codec import Codec
    from ..local import Engine

T = TypeVar("T")

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100

_NUMBER: Final = re.compile(r"[0-9]{1,15}")


def engine_of(request: Request) -> Engine:
    """The engine that is served."""
    engine: Engine = request.app.state.engine
    return engine


def page_size(request: Request) -> int:
    """How many items an answer is to have: MaxItems, where 0 is the default of 100.

    Raises:
        RefusedError: It is no number from 0 to 1,000.
    """
    text = request.query_params.get("MaxItems", "0")
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_PAGE:
        raise RefusedError(f"MaxItems is 0 to {MAX_PAGE}, not {text!r}")
    return int(text) or DEFAULT_PAGE


def marker(request: Request) -> int:
    """Where a page begins, 0 if there is no Marker.

    Raises:
        RefusedError: It is none of ours.
    """
    text = request.query_params.get("Marker") or "0"
    if _NUMBER.fullmatch(text) is None:
        raise RefusedError("the Marker is none of this service's")
    return int(text)


def flag(request: Request, name: str, *, default: bool) -> bool:
    """A parameter that is true or false.

    Raises:
        RefusedError: It is something else.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.lower() not in {"true", "false"}:
        raise RefusedError(f"{name} is true or false, not {text!r}")
    return text.lower() == "true"


def instant(request: Request, name: str) -> Timestamp | None:
    """A parameter that is a time: ISO 8601, or seconds since the epoch.

    Raises:
        RefusedError: It is something else.
    """
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise RefusedError(f"{name} is a time as ISO 8601 has it, not {text!r}") from None
        seconds = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    try:
        return Timestamp(round(seconds * 1000))
    except (OverflowError, ValueError):
        raise RefusedError(f"{name} is not a time: {text!r}") from None


def execution_name(text: str | None) -> str | None:
    """The name of an execution, as somebody asks for it.

    Raises:
        RefusedError: It cannot be one.
    """
    if text is not None and EXECUTION_NAME_PATTERN.fullmatch(text) is None:
        raise RefusedError(f"an execution's name has 1 to 64 characters of [a-zA-Z0-9_-], not {text!r}")
    return text


async def body_of(request: Request, codec: Codec[T]) -> T:
    """The body, decoded.

    Raises:
        MalformedPayloadError: It is not what the operation takes.
    """
    return codec.decode(await request.body() or b"{}")
