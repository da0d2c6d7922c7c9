"""Operations that were called and not awaited: an error, not a silent loss.

A verb is a plain function that gives a coroutine. The frame notes the last one given, until it begins: whatever
happens in the frame before that tells that somebody has forgotten an `await`.
"""

from __future__ import annotations

import inspect
import itertools
from types import CodeType
from typing import Any, TypeAlias

from ..exceptions import UnawaitedOperationError

Called: TypeAlias = tuple[Any, object, CodeType, int]
"""What was called: the coroutine that begins it, the operation for people, whose code called it, and where in that.

The last is an index into the byte code: the line is looked up when somebody asks for it. (A plain tuple, as one is
made for every operation.)
"""


def has_begun(called: Called) -> bool:
    """Whether it was awaited, or closed."""
    return inspect.getcoroutinestate(called[0]) != inspect.CORO_CREATED


def error_of(called: Called, then: object) -> UnawaitedOperationError:
    """What to raise if it was not.

    Args:
        called: The operation.
        then: What comes instead.
    """
    _, what, code, offset = called
    line = next(itertools.islice(code.co_positions(), offset // 2, None))[0]
    return UnawaitedOperationError(str(what), f"{code.co_filename}:{line} in {code.co_name}", str(then))
