"""`uuid4` and `random`: derived, and not recorded, as where the code stands is the same on every replay."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from .._engine.frame import Frame

if TYPE_CHECKING:
    from random import Random


def uuid4(frame: Frame) -> UUID:
    """A random UUID, the same on every replay (see `DurableContext.uuid4`)."""
    frame.check_place("uuid4()")
    return UUID(bytes=frame.draw("uuid4")[:16], version=4)


def random(frame: Frame) -> Random:
    """A random number generator, the same on every replay (see `DurableContext.random`)."""
    from random import Random  # only here: it is slow to load

    frame.check_place("random()")
    return Random(int.from_bytes(frame.draw("random"), "big"))  # noqa: S311 - reproducible is what it is for
