"""Under which conditions tests run, unless they say otherwise: what the pytest plugin and sweeps set."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from .probe import Crash, KitProbe


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every `durable_test` that is opened.

    Attributes:
        always_replay: Whether each new operation is preceded by a replay.
        crashes: Where the process dies, in order; counted over each test's own calls.
        on_probe: Told of the probe of each test.
        faults: The seed of what goes wrong between functions and the service; `None` if nothing does.
        target: Where executions run: `""` for the embedded engine, else `aws:FUNCTION`.
    """

    always_replay: bool = False
    crashes: Sequence[Crash] = ()
    on_probe: Callable[[KitProbe], None] | None = None
    faults: int | None = None
    target: str = ""


# Not a context variable: test runners start a test's task with a context of their own.
_current: list[Conditions] = [Conditions()]


def conditions() -> Conditions:
    """Those that hold now."""
    return _current[-1]


@contextmanager
def under(changed: Conditions) -> Generator[None]:
    """Let others hold, in the whole process, until the block is left."""
    _current.append(changed)
    try:
        yield
    finally:
        _current.pop()
